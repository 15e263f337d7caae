# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What is said of packages, catalogs and channels. The fixture was recorded from OLM 0.38."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _olm, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._packages import API, Wanted, explain, judge, offered

RECORDED = json.loads((Path(__file__).parent / "fixtures" / "packages.json").read_text())
CATALOG, PACKAGES = RECORDED["catalog"], RECORDED["packages"]
TEMPO = Wanted("tempo-operator", "stable", "lab-catalog", "olm")


def test_what_is_offered():
    state = explain(TEMPO, CATALOG, (), PACKAGES)
    assert (state.phase, state.text) == (_wait.READY, "is offered by CatalogSource olm/lab-catalog")
    assert state.facts == {"csv": "tempo-operator.v0.21.0"}
    wanted = replace(TEMPO, starting_csv="tempo-operator.v0.21.0")
    assert explain(wanted, CATALOG, (), PACKAGES).phase == _wait.READY


@pytest.mark.parametrize(
    ("change", "text", "cure"),
    [
        ({"package": "tempo-operater"}, "CatalogSource olm/lab-catalog has no package tempo-operater", "Correct package; there is tempo-operator, "),
        ({"channel": "alpha"}, "package tempo-operator of CatalogSource olm/lab-catalog has no channel alpha", "Correct channel; there is stable"),
        (
            {"starting_csv": "tempo-operator.v0.9.0"},
            "channel stable of package tempo-operator has no tempo-operator.v0.9.0",
            "Correct starting_csv; there is tempo-operator.v0.21.0",
        ),
    ],
)
def test_what_is_not_offered_is_looked_for_again_for_a_while(change, text, cure):
    state = explain(replace(TEMPO, **change), CATALOG, (), PACKAGES)
    assert (state.phase, state.text) == (_wait.FAILING, text)
    assert state.cure.startswith(cure)
    assert (state.grace, state.again) == (_olm.SETTLE_SECONDS, 0.5)


def test_many_names_are_cut_short():
    packages = [{**PACKAGES[0], "metadata": {"name": f"package-{number}"}} for number in range(9)]
    cure = explain(TEMPO, CATALOG, (), packages).cure
    assert cure.endswith(" and 4 more")


def test_no_catalog():
    state = explain(TEMPO, None, (), ())
    assert (state.phase, state.text) == (_wait.FAILING, "CatalogSource olm/lab-catalog does not exist")


def test_catalog_that_is_not_ready():
    catalog = copy.deepcopy(CATALOG)
    catalog["status"]["connectionState"]["lastObservedState"] = "CONNECTING"
    state = explain(TEMPO, catalog, (), ())
    assert state.phase == _wait.WAITING
    assert "is not ready (connection state CONNECTING)" in state.text


def test_package_server_that_knows_nothing_yet():
    state = explain(TEMPO, CATALOG, (), ())
    assert (state.phase, state.again) == (_wait.WAITING, 0.5)


class Kube:
    """Answers by field selector; None is a missing API."""

    def __init__(self, found, every=(), status=None):
        self.found, self.every, self.status, self.asked = found, every, status, []

    def get(self, path, what, **query):
        assert path == f"{API}/namespaces/olm/packagemanifests"
        self.asked.append(query)
        if self.status:
            raise KubeError(what, status=self.status)
        return {"items": list(self.found if "fieldSelector" in query else self.every)}


def test_only_the_wanted_package_is_read():
    kube = Kube(PACKAGES[:1])
    assert offered(kube, TEMPO) == PACKAGES[:1]
    assert kube.asked == [{"labelSelector": "catalog=lab-catalog,catalog-namespace=olm", "fieldSelector": "metadata.name=tempo-operator"}]
    kube = Kube([], PACKAGES)
    assert offered(kube, TEMPO) == PACKAGES
    assert len(kube.asked) == 2


@pytest.mark.parametrize("status", [404, 503])
def test_package_server_that_is_just_starting(status):
    assert offered(Kube([], status=status), TEMPO) == []


def test_package_server_that_refuses():
    with pytest.raises(KubeError, match="list the packages of CatalogSource olm/lab-catalog"):
        offered(Kube([], status=403), TEMPO)


def test_judge_asks_the_package_server_only_when_the_catalog_is_ready():
    class View:
        def __init__(self, catalog):
            self.catalog = catalog

        def items(self, selection):
            return [self.catalog] if selection.path.endswith("catalogsources") else []

    kube = Kube(PACKAGES)
    assert [state.phase for state in judge(kube, [TEMPO])(View(CATALOG))] == [_wait.READY]
    waiting = copy.deepcopy(CATALOG)
    waiting["status"] = {}
    asked = len(kube.asked)
    assert [state.phase for state in judge(kube, [TEMPO])(View(waiting))] == [_wait.WAITING]
    assert len(kube.asked) == asked
