# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What crd_wait returns."""

from __future__ import annotations

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _crd, _wait
from ansible_collections.private_ai.model_monitoring.plugins.modules import crd_wait

A, B = _crd.Wanted("a.example.com", "v1"), _crd.Wanted("b.example.com")


def test_result():
    states = [
        _wait.State(B.target, _wait.WAITING, "is not established yet", facts={"version": "v2"}),
        _wait.State(A.target, _wait.READY, "is established and served", facts={"version": "v1"}),
    ]
    assert crd_wait.result([A, B], states, 1.23456, {A.target: 0.98765}) == {
        "waited": 1.235,
        "crds": [
            {"name": "a.example.com", "version": "v1", "ready": True, "waited": 0.988, "state": "is established and served"},
            {"name": "b.example.com", "version": "v2", "ready": False, "waited": None, "state": "is not established yet"},
        ],
        "missing": ["b.example.com"],
    }


def test_result_when_nothing_is_known():
    result = crd_wait.result([A, B], [], 0.0, {})
    assert [crd["version"] for crd in result["crds"]] == ["v1", None]
    assert result["missing"] == ["a.example.com", "b.example.com"]
