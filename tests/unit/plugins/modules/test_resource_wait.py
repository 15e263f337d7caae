# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What resource_wait returns."""

from __future__ import annotations

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _readiness, _wait
from ansible_collections.private_ai.model_monitoring.plugins.modules import resource_wait

SECRET, NAMESPACE = _readiness.Wanted("v1", "Secret", "s", "demo"), _readiness.Wanted("v1", "Namespace", "demo")


def test_result():
    states = [_wait.State(SECRET.target, _wait.WAITING, "does not exist"), _wait.State(NAMESPACE.target, _wait.READY, "is ready")]
    common = {"api_version": "v1"}
    assert resource_wait.result([SECRET, NAMESPACE], states, 1.0, {NAMESPACE.target: 0.5}) == {
        "waited": 1.0,
        "resources": [
            {**common, "kind": "Secret", "name": "s", "namespace": "demo", "ready": False, "waited": None, "state": "does not exist"},
            {**common, "kind": "Namespace", "name": "demo", "namespace": None, "ready": True, "waited": 0.5, "state": "is ready"},
        ],
        "missing": ["Secret demo/s"],
    }


def test_result_when_nothing_is_known():
    assert resource_wait.result([SECRET], [], 0.0, {})["missing"] == ["Secret demo/s"]
