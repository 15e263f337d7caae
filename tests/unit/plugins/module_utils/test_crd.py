# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""When a CustomResourceDefinition can be used."""

from __future__ import annotations

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _crd, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError

NAME = "widgets.example.com"


def crd(established="True", accepted="True", versions=("v1alpha1", "v1"), deleting=False):
    metadata = {"name": NAME, "resourceVersion": "1"}
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = []
    if accepted:
        conditions.append({"type": "NamesAccepted", "status": accepted, "reason": "PluralConflict", "message": '"widgets" is already in use'})
    if established:
        conditions.append({"type": "Established", "status": established, "reason": "Installing", "message": "being installed"})
    served = [{"name": name.lstrip("-"), "served": name[0] != "-", "storage": name == versions[-1]} for name in versions]
    return {"metadata": metadata, "spec": {"versions": served}, "status": {"conditions": conditions}}


@pytest.mark.parametrize(
    ("wanted", "found", "phase", "text", "version"),
    [
        (None, None, _wait.WAITING, "does not exist", None),
        (None, crd(), _wait.READY, "is established", "v1"),
        ("v1alpha1", crd(), _wait.READY, "is established", "v1alpha1"),
        (None, crd(versions=("v1beta1", "-v1")), _wait.READY, "is established", "v1beta1"),
        ("v2", crd(), _wait.WAITING, "does not serve version v2, only v1alpha1, v1", "v2"),
        ("v1", crd(versions=("v1beta1", "-v1")), _wait.WAITING, "does not serve version v1, only v1beta1", "v1"),
        (None, crd(established="False"), _wait.WAITING, "is not established yet (Installing: being installed)", "v1"),
        (None, crd(established=""), _wait.WAITING, "is not established yet", "v1"),
        (None, {**crd(), "status": None}, _wait.WAITING, "is not established yet", "v1"),
        (
            None,
            crd(accepted="False", established="False"),
            _wait.FAILING,
            'its names are not accepted (PluralConflict: "widgets" is already in use)',
            "v1",
        ),
        (None, crd(deleting=True), _wait.WAITING, "is being deleted", "v1"),
    ],
)
def test_state(wanted, found, phase, text, version):
    state = _crd.state(_crd.Wanted(NAME, wanted), found)
    assert (state.phase, state.text, state.facts.get("version")) == (phase, text, version)
    assert state.phase == _wait.READY or state.cure


@pytest.mark.parametrize("name", ["tempostacks", "", ".", "tempostacks.", ".example.com"[:1]])
def test_a_name_that_no_crd_can_have(name):
    with pytest.raises(ModelMonitoringError, match=r"<plural>\.<group>"):
        _crd.Wanted.parse(name, None)


def test_an_empty_version_is_none():
    assert _crd.Wanted.parse(NAME, "") == _crd.Wanted(NAME, None)


class Discovery:
    """Answers the discovery of example.com from a list, one answer per question."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def get(self, path, what, **query):
        self.asked.append(path)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {"resources": [{"name": name} for name in answer]}


class View:
    """One CRD, always the same."""

    def __init__(self, found):
        self.found = found

    def items(self, selection):
        assert selection.fields == f"metadata.name={NAME}"
        return [self.found] if self.found else []


class TestJudge:
    def test_established_is_not_enough(self):
        kube = Discovery(KubeError("not found", status=404), ["others"], KubeError("starting", status=503), ["widgets"])
        judge = _crd.judge(kube, [_crd.Wanted(NAME, "v1")])
        states = [judge(View(crd()))[0] for _look in range(4)]
        assert [state.phase for state in states] == [_wait.WAITING] * 3 + [_wait.READY]
        assert [state.again for state in states[:3]] == [_crd.QUICK] * 3
        assert kube.asked == ["/apis/example.com/v1"] * 4
        assert states[-1].text == "is established and served"

    def test_discovery_is_not_asked_before(self):
        judge = _crd.judge(Discovery(), [_crd.Wanted(NAME)])
        assert judge(View(None))[0].phase == judge(View(crd(established="False")))[0].phase == _wait.WAITING

    def test_discovery_is_asked_for_the_version_that_is_reported(self):
        kube = Discovery(["widgets"])
        state = _crd.judge(kube, [_crd.Wanted(NAME)])(View(crd(versions=("v1", "v2"))))[0]
        assert (kube.asked, state.facts["version"]) == (["/apis/example.com/v2"], "v2")

    def test_a_subresource_is_not_the_resource(self):
        judge = _crd.judge(Discovery(["widgets/status"]), [_crd.Wanted(NAME)])
        assert judge(View(crd()))[0].phase == _wait.WAITING

    def test_asks_less_often_when_it_takes_long(self):
        looks = _crd.QUICK_LOOKS + 1
        judge = _crd.judge(Discovery(*[[]] * looks), [_crd.Wanted(NAME)])
        pauses = [judge(View(crd()))[0].again for _look in range(looks)]
        assert (pauses[0], pauses[-1]) == (_crd.QUICK, _crd.SLOW)

    def test_an_error_of_the_api_server_is_not_hidden(self):
        judge = _crd.judge(Discovery(KubeError("forbidden", status=403)), [_crd.Wanted(NAME)])
        with pytest.raises(KubeError, match="forbidden"):
            judge(View(crd()))
