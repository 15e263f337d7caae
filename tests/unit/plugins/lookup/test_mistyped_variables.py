# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import yaml
from ansible import constants as C
from ansible.errors import AnsibleLookupError
from ansible_collections.private_ai.model_monitoring.plugins.lookup import mistyped_variables
from ansible_collections.private_ai.model_monitoring.plugins.lookup.mistyped_variables import mistyped

NAME = "private_ai.model_monitoring.mistyped_variables"


def test_sentences():
    known = ["web_port", "web_host"]
    assert mistyped("web", known, ["web_port", "other", "webport", "web"]) == []
    assert mistyped("web", known, ["web_prot"]) == ["Role web has no variable web_prot: did you mean web_port?"]
    assert mistyped("web", known, ["web_zzzzzzzz"]) == ["Role web has no variable web_zzzzzzzz: it has web_host, web_port."]


@pytest.fixture
def lookup(tmp_path):
    C.config.initialize_plugin_configuration_definitions("lookup", NAME, yaml.safe_load(mistyped_variables.DOCUMENTATION)["options"])

    def run(role, variables):
        plugin = mistyped_variables.LookupModule()
        plugin._load_name = NAME
        return plugin.run([str(tmp_path / role)], variables)

    return run


def test_role(lookup, tmp_path):
    (tmp_path / "web" / "meta").mkdir(parents=True)
    (tmp_path / "web" / "meta" / "argument_specs.yml").write_text("argument_specs: {main: {options: {web_port: {type: int}}}}")
    assert lookup("web", {"web_port": 1, "role_path": "x"}) == []
    assert lookup("web", {"web_prot": 1}) == ["Role web has no variable web_prot: did you mean web_port?"]


def test_folder_that_is_no_role(lookup):
    with pytest.raises(AnsibleLookupError, match=r"cannot read .*argument_specs.yml: No such file"):
        lookup("nowhere", {})
