# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""subscription_wait against a real API server with OLM's CRDs.

What OLM writes into the objects is written by the tests, so OLM must not run here (profile control-plane); tests/faults has the real one.
"""

from __future__ import annotations

import re
import time

import pytest
from kubernetes.dynamic.exceptions import NotFoundError

API = "/apis/operators.coreos.com/v1alpha1/namespaces"
GROUPS = "/apis/operators.coreos.com/v1/namespaces"
CSV = "tempo-operator.v0.21.0"
OLM = "operators.coreos.com"
READ = [
    {
        "apiGroups": [OLM],
        "resources": ["subscriptions", "installplans", "clusterserviceversions", "operatorgroups", "catalogsources"],
        "verbs": ["list", "watch"],
    }
]
APPROVE = [{"apiGroups": [OLM], "resources": ["installplans"], "verbs": ["patch"]}]
NOW = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module", autouse=True)
def no_olm(cluster):
    try:
        cluster.get("/apis/apps/v1/namespaces/olm/deployments/catalog-operator")
    except NotFoundError:
        return
    pytest.fail("OLM runs here and would answer these objects itself: use the lab's profile control-plane", pytrace=False)


class Scene:
    """The objects of one Subscription in a namespace of the test's own; the test plays OLM."""

    def __init__(self, cluster, namespace):
        self.cluster, self.namespace = cluster, namespace

    def create(self, plural, name, spec, status=None, api=API, kind=None):
        kind = kind or {"subscriptions": "Subscription", "catalogsources": "CatalogSource", "installplans": "InstallPlan"}[plural]
        version = "operators.coreos.com/v1" if api is GROUPS else "operators.coreos.com/v1alpha1"
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": self.namespace}, "spec": spec}
        self.cluster.create(f"{api}/{self.namespace}/{plural}", body)
        if status:
            self.status(plural, name, status)

    def status(self, plural, name, status):
        self.cluster.merge(f"{API}/{self.namespace}/{plural}/{name}/status", {"status": status})

    def subscription(self, name="tempo", approval="Automatic", **status):
        spec = {"name": "tempo-operator", "channel": "stable", "source": "lab", "sourceNamespace": self.namespace, "installPlanApproval": approval}
        self.create("subscriptions", name, spec, {"lastUpdated": NOW, **status} if status else None)

    def group(self, name="group"):
        self.create("operatorgroups", name, {}, api=GROUPS, kind="OperatorGroup")

    def no_group(self):
        self.cluster.delete(f"{GROUPS}/{self.namespace}/operatorgroups/group")

    def catalog(self, state="READY"):
        status = {"connectionState": {"lastObservedState": state}}
        self.create("catalogsources", "lab", {"sourceType": "grpc", "image": "example.com/catalog:1"}, status)

    def plan(self, phase, approved=True, name="install-a", csvs=(CSV,)):
        spec = {"clusterServiceVersionNames": list(csvs), "approval": "Automatic" if approved else "Manual", "approved": approved}
        self.create("installplans", name, spec, {"phase": phase, "catalogSources": ["lab"]})

    def manual(self):
        """An InstallPlan that waits for approval."""
        self.subscription(approval="Manual", **INSTALLING)
        self.catalog()
        self.plan("RequiresApproval", approved=False)

    def csv(self, phase, name=CSV, **status):
        spec = {"displayName": name, "install": {"strategy": "deployment", "spec": {"deployments": []}}}
        self.create("clusterserviceversions", name, spec, kind="ClusterServiceVersion")
        self.csv_status(phase, name, **status)

    def csv_status(self, phase, name=CSV, **status):
        self.status("clusterserviceversions", name, {"phase": phase, **status})


@pytest.fixture
def olm(cluster, namespace):
    scene = Scene(cluster, namespace)
    scene.group()
    return scene


@pytest.fixture
def wanted(namespace):
    def make(**more):
        return [{"name": "tempo", "namespace": namespace, **more}]

    return make


INSTALLING = {"currentCSV": CSV, "installPlanRef": {"name": "install-a"}, "state": "UpgradePending"}
INSTALLED = {**INSTALLING, "installedCSV": CSV, "state": "AtLatestKnown"}


def test_already_there(run, olm, wanted):
    olm.subscription(**INSTALLED)
    olm.csv("Succeeded")
    result = run("subscription_wait", subscriptions=wanted())
    assert not result["changed"]
    assert result["subscriptions"][0]["csv"] == CSV
    assert result["subscriptions"][0]["phase"] == "Succeeded"
    assert (result["missing"], result["approved"]) == ([], [])


def test_from_nothing_to_succeeded(olm, wanted, start):
    """All that OLM does for one Subscription, step by step; each object is found by its reference when it comes."""
    olm.subscription()
    olm.catalog("CONNECTING")
    running = start("subscription_wait", subscriptions=wanted(), timeout=60, watching="subscriptions")
    olm.status("catalogsources", "lab", {"connectionState": {"lastObservedState": "READY"}})
    olm.plan("Installing")
    olm.status("subscriptions", "tempo", {"lastUpdated": NOW, **INSTALLING})
    olm.csv("Pending", reason="RequirementsNotMet")
    for phase in ("InstallReady", "Installing"):
        olm.csv_status(phase)
    assert not running.ended()
    olm.csv_status("Succeeded")
    result = running.result()
    assert result["subscriptions"][0]["phase"] == "Succeeded"
    assert 0 < result["subscriptions"][0]["waited"] <= result["waited"]


def test_approves_the_wanted_plan_only_when_told(cluster, olm, wanted, start, run, user):
    olm.manual()
    path = f"{API}/{olm.namespace}/installplans/install-a"

    checked = run("subscription_wait", subscriptions=wanted(starting_csv=CSV, approve=True), check=True)
    assert (checked["changed"], checked["approved"]) == (True, [f"{olm.namespace}/install-a"])
    assert not cluster.get(path)["spec"]["approved"]

    allowed = user(READ + APPROVE)
    running = start("subscription_wait", subscriptions=wanted(starting_csv=CSV, approve=True), timeout=60, watching="installplans", **allowed)
    deadline = time.monotonic() + 20
    while not cluster.get(path)["spec"]["approved"]:
        assert time.monotonic() < deadline
    olm.csv("Succeeded")
    result = running.result()
    assert (result["changed"], result["approved"]) == (True, [f"{olm.namespace}/install-a"])


def test_approval_without_the_right(olm, wanted, run, user):
    olm.manual()
    result = run("subscription_wait", subscriptions=wanted(approve=True), timeout=60, **user(READ))
    assert result["failed"]
    assert f"Cannot approve InstallPlan {olm.namespace}/install-a: not allowed" in result["msg"]
    assert 'cannot patch resource "installplans"' in result["msg"]
    assert (result["changed"], result["approved"]) == (False, [])


def failing(reason, message, kind="ResolutionFailed"):
    return {"conditions": [{"type": kind, "status": "True", "reason": reason, "message": message}]}


UNKNOWN = "constraints not satisfiable: no operators found in channel beta of package tempo-operator in the catalog referenced by subscription tempo"


#: What can be wrong -> how it is made, what the Subscription is waited for with, and what is said about it.
WRONG = {
    "no subscription": (lambda olm: None, {}, ["does not exist", "Create it"]),
    "no group": (lambda olm: (olm.subscription(), olm.catalog(), olm.no_group()), {}, ["has no OperatorGroup", "Create one OperatorGroup"]),
    "two groups": (
        lambda olm: (olm.subscription(), olm.group("second"), olm.catalog()),
        {},
        ["has 2 OperatorGroups (group, second)", "Delete all but one"],
    ),
    "no catalog": (lambda olm: olm.subscription(), {}, ["/lab does not exist", "Correct source"]),
    "channel": (
        lambda olm: (olm.subscription(**failing("ConstraintsNotSatisfiable", UNKNOWN)), olm.catalog()),
        {},
        [UNKNOWN, "Correct the channel"],
    ),
    "unpack": (
        lambda olm: (olm.subscription(**failing("BundleUnpackFailed", "DeadlineExceeded", "BundleUnpackFailed")), olm.catalog()),
        {},
        ["its bundle cannot be unpacked: DeadlineExceeded"],
    ),
    "plan": (
        lambda olm: (olm.subscription(**INSTALLING), olm.catalog(), olm.plan("Failed")),
        {},
        ["has failed", "delete this InstallPlan"],
    ),
    "csv": (
        lambda olm: (
            olm.subscription(**INSTALLING),
            olm.catalog(),
            olm.csv("Failed", reason="UnsupportedOperatorGroup", message="AllNamespaces InstallModeType not supported"),
        ),
        {},
        ["is Failed (UnsupportedOperatorGroup: AllNamespaces InstallModeType not supported)", "targetNamespaces"],
    ),
    "approval": (
        lambda olm: olm.manual(),
        {},
        [f"install-a ({CSV}) requires approval", "Set approve to true"],
    ),
    "another plan": (
        lambda olm: olm.manual(),
        {"starting_csv": "tempo-operator.v0.20.0", "approve": True},
        [f"offers {CSV}, not tempo-operator.v0.20.0", "Correct starting_csv"],
    ),
}


def test_stops_early_and_says_why(cluster, namespaces, run):
    """All that can be wrong at once, each in a namespace of its own: one call, one sentence about each."""
    scenes = {case: Scene(cluster, namespaces()) for case in WRONG}
    for case, scene in scenes.items():
        scene.group()
        WRONG[case][0](scene)
    started = time.monotonic()
    wanted = [{"name": "tempo", "namespace": scene.namespace, **WRONG[case][1]} for case, scene in scenes.items()]
    result = run("subscription_wait", subscriptions=wanted, timeout=100)
    assert 10 <= time.monotonic() - started < 40
    assert result["failed"] and "\n" not in result["msg"]
    about = dict(re.findall(r"Subscription (waits-\w+)/tempo: (.*?)(?= Subscription waits-\w+/tempo: |$)", result["msg"]))
    for case, scene in scenes.items():
        assert [part for part in WRONG[case][2] if part not in about[scene.namespace]] == [], case
    assert (result["changed"], result["approved"]) == (False, [])


def test_a_corrected_subscription_is_not_blamed_for_the_past(olm, wanted, start):
    """A failure that is there at the first look may be about a spec that has just been corrected."""
    olm.subscription(**failing("ConstraintsNotSatisfiable", UNKNOWN))
    olm.catalog()
    running = start("subscription_wait", subscriptions=wanted(), timeout=60, watching="subscriptions")
    time.sleep(5)
    olm.status("subscriptions", "tempo", {"lastUpdated": NOW, "conditions": [], **INSTALLED})
    olm.csv("Succeeded")
    assert running.result()["missing"] == []


def test_time_out_tells_the_last_state(olm, wanted, run):
    olm.subscription(**INSTALLING)
    olm.catalog()
    requirement = {"group": "apiextensions.k8s.io", "version": "v1", "kind": "CustomResourceDefinition", "name": "widgets.example.com"}
    requirement |= {"status": "NotPresent", "message": "CRD is not present"}
    olm.csv("Pending", reason="RequirementsNotMet", message="one or more requirements couldn't be found", requirementStatus=[requirement])
    result = run("subscription_wait", subscriptions=wanted(), timeout=1)
    assert result["failed"]
    assert result["msg"].startswith("Not ready after 1 s: ")
    assert "not met: CustomResourceDefinition widgets.example.com (NotPresent: CRD is not present)" in result["msg"]
    assert result["subscriptions"][0]["phase"] == "Pending"


def test_check_mode_of_what_does_not_exist_yet(run, namespace, wanted):
    result = run("subscription_wait", subscriptions=wanted(), check=True)
    assert not result.get("failed")
    assert (result["changed"], result["missing"]) == (False, [f"{namespace}/tempo"])


def test_the_verbs_of_the_documentation_are_enough(olm, wanted, run, user):
    olm.subscription(**INSTALLING)
    olm.catalog("CONNECTING")
    result = run("subscription_wait", subscriptions=wanted(), timeout=1, **user(READ))
    assert "CatalogSource" not in result["msg"] or "is not ready" in result["msg"]
    assert "not allowed" not in result["msg"]


@pytest.mark.parametrize("missing", READ[0]["resources"])
def test_each_of_these_verbs_is_needed(olm, wanted, run, user, missing):
    olm.subscription(**INSTALLING)
    olm.catalog()
    olm.plan("Installing")
    rules = [{**READ[0], "resources": [resource for resource in READ[0]["resources"] if resource != missing]}]
    result = run("subscription_wait", subscriptions=wanted(), timeout=5, **user(rules))
    assert result["failed"]
    assert f'cannot list resource "{missing}"' in result["msg"]
