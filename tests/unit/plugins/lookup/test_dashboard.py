# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
from ansible.errors import AnsibleLookupError
from ansible_collections.private_ai.model_monitoring.plugins.lookup.dashboard import LookupModule


def run(*paths):
    plugin = LookupModule()
    plugin.set_options = lambda **kwargs: None
    return plugin.run([str(path) for path in paths])


def test_files(tmp_path):
    (tmp_path / "a.json").write_text('{"uid": "a", "title": "A", "panels": []}')
    (found,) = run(tmp_path / "a.json")
    assert (found["uid"], found["title"]) == ("a", "A")


def test_what_cannot_be_read(tmp_path):
    (tmp_path / "b.json").write_bytes(b"\xff\xfe")
    (tmp_path / "c.json").write_text("[]")
    for name, words in (
        ("no.json", "cannot be read: No such file or directory. Correct its path."),
        ("b.json", "not a text"),
        ("c.json", "not a dashboard"),
    ):
        with pytest.raises(AnsibleLookupError, match=f"{name}.*{words}"):
            run(tmp_path / name)
