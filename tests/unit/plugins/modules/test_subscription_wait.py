# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What subscription_wait returns."""

from __future__ import annotations

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _olm, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError
from ansible_collections.private_ai.model_monitoring.plugins.modules import subscription_wait

A, B = _olm.Wanted("a", "demo"), _olm.Wanted("b", "demo")


def test_result():
    states = [
        _wait.State(A.target, _wait.READY, "has succeeded", facts={"csv": "a.v1", "phase": "Succeeded"}),
        _wait.State(B.target, _wait.FAILING, "does not exist", facts={"csv": None, "phase": None}),
    ]
    assert subscription_wait.result([A, B], states, 3.14159, {A.target: 2.71828}) == {
        "waited": 3.142,
        "subscriptions": [
            {"name": "a", "namespace": "demo", "csv": "a.v1", "phase": "Succeeded", "waited": 2.718, "state": "has succeeded"},
            {"name": "b", "namespace": "demo", "csv": None, "phase": None, "waited": None, "state": "does not exist"},
        ],
        "missing": ["demo/b"],
    }


def test_result_when_nothing_is_known():
    assert subscription_wait.result([A, B], [], 0.0, {})["missing"] == ["demo/a", "demo/b"]


def test_a_missing_olm_is_no_failure_at_a_look_but_other_errors_are():
    def judge(status):
        def raising(_view):
            raise KubeError("no", status=status)

        return raising

    assert subscription_wait.look(judge(404), None) == []
    with pytest.raises(KubeError):
        subscription_wait.look(judge(403), None)
