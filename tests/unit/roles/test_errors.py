# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong in a variable of the site is an error, and nothing that is left out in silence.

Since ansible-core 2.19 an error inside ``{% set _ = found.append(...) %}`` is assigned to ``_``, which nobody reads, if it is the whole argument, and
inside ``found.update(...)`` wherever it is. So a list of pairs is built, and ``dict`` made of it.
"""

from __future__ import annotations

import re

import pytest
from ansible.errors import AnsibleError

from roles import ROOT, Role

WRONG = "{{ there_is_no_such_variable }}"


@pytest.mark.parametrize(
    ("role", "variable", "site"),
    [
        ("operators", "__operators_wanted", {"operators_channel": WRONG}),
        ("operators", "__operators_wanted", {"operators_list": [{"name": "a", "package": "a", "namespace": "a", "channel": WRONG}]}),
        ("grafana", "__grafana_wanted_content", {"grafana_folders": [{"title": "A"}], "__grafana_read_dashboards": []}),
        ("grafana", "__grafana_wanted_content", {"grafana_folders": [], "__grafana_read_dashboards": [{"title": "A"}]}),
        ("otel_collector", "__otel_collector_extra", {"otel_collector_exporters": {"otlp/a": {"endpoint": WRONG}}}),
        ("otel_collector", "__otel_collector_extra", {"otel_collector_exporters": {"awss3": "no mapping"}}),
        ("otel_collector", "__otel_collector_redact_each", {"otel_collector_redact_attributes": [WRONG]}),
        ("tempo_storage", "__tempo_storage_secret_data", {"__tempo_storage_secret": {"resources": [{"data": {"bucket": WRONG}}]}}),
    ],
)
def test_an_error_is_an_error(role, variable, site):
    with pytest.raises(AnsibleError):
        Role(role).value(variable, **site)


def test_nothing_is_swallowed_in_a_call():
    """Only a literal, a text that is put together, or a name that was just looped over may be the argument of a call whose result nobody reads."""
    calls = [
        (path.name, *found)
        for pattern in ("*/vars/*.yml", "*/tasks/*.yml", "*/templates/*.j2")
        for path in (ROOT / "roles").glob(pattern)
        for found in re.findall(r"set _ = .*?\.(\w+)\((.*?)(?:\) -%\}|\) %\}|$)", path.read_text(), re.MULTILINE)
    ]
    assert calls
    for name, method, argument in calls:
        assert method == "append" or argument == "{where: []}", (name, method, argument)
        assert re.match(r"[\[{']|[\w.]+$|[\w.]+ ~ |\(item", argument), (name, argument)
