# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What inference_service_info returns."""

from __future__ import annotations

import yaml
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._inference_service import Info, Query
from ansible_collections.private_ai.model_monitoring.plugins.modules import inference_service_info

NAMED, NONE = Query("demo", "gone"), Query("demo", labels="a=b")
INFO = Info("mistral", "demo", deployment_mode="RawDeployment", url="http://m.demo.svc.cluster.local", port=80, auth_required=False)
SERVES = _wait.State("InferenceService demo/mistral", _wait.READY, "is ready", facts={"info": INFO})


def test_result():
    states = [
        _wait.State(NAMED.target, _wait.WAITING, "does not exist"),
        SERVES,
        _wait.State(NONE.target, _wait.WAITING, "there is none"),
    ]
    result = inference_service_info.result([NAMED, Query("demo"), NONE], states, 1.0004, {SERVES.target: 0.5})
    gone, mistral = result["inference_services"]
    assert (gone["name"], gone["namespace"], gone["ready"], gone["waited"], gone["state"]) == ("gone", "demo", False, None, "does not exist")
    assert gone["url"] is None and gone["auth_required"] is None
    assert (mistral["url"], mistral["ready"], mistral["waited"], mistral["state"]) == ("http://m.demo.svc.cluster.local", True, 0.5, "is ready")
    assert result["missing"] == ["InferenceService demo/gone", "InferenceServices in namespace demo with a=b"]
    assert result["waited"] == 1.0


def test_the_documentation_names_what_is_returned():
    returned = yaml.safe_load(inference_service_info.RETURN)
    result = inference_service_info.result([], [SERVES], 0.0, {})
    assert returned.keys() == result.keys()
    assert returned["inference_services"]["contains"].keys() == result["inference_services"][0].keys()
