# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Why a Subscription has not come: a table of what OLM shows and what is said about it."""

from __future__ import annotations

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _olm, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError

CSV = "tempo-operator.v0.21.0"
WANTED = _olm.Wanted("tempo", "demo")
API = "/apis/operators.coreos.com"


def subscription(approval="Automatic", conditions=(), generation=1, known=(), **status):
    status["conditions"] = [{"type": kind, "status": "True", **more} for kind, more in conditions]
    status["catalogHealth"] = [{"catalogSourceRef": {"namespace": ns, "name": name}, "healthy": True} for ns, name in known]
    return {
        "metadata": {"name": "tempo", "namespace": "demo", "generation": generation},
        "spec": {
            "name": "tempo-operator",
            "channel": "stable",
            "source": "lab-catalog",
            "sourceNamespace": "olm",
            "installPlanApproval": approval,
        },
        "status": status,
    }


def installing(**more):
    return subscription(currentCSV=CSV, installPlanRef={"name": "install-abc"}, **more)


def failing(kind, reason, message, **more):
    return subscription(conditions=[(kind, {"reason": reason, "message": message})], **more)


def catalog(state="READY", address=None, **status):
    connection = {"connectionState": {"lastObservedState": state}} if state is not None else {}
    spec = {"sourceType": "grpc", **({"address": address} if address else {})}
    return {"metadata": {"name": "lab-catalog", "namespace": "olm"}, "spec": spec, "status": {**connection, **status}}


def csv(phase, reason="", message="", requirements=(), history=()):
    return {
        "metadata": {"name": CSV, "namespace": "demo"},
        "status": {
            "phase": phase,
            "reason": reason,
            "message": message,
            "requirementStatus": list(requirements),
            "conditions": [{"phase": p, "reason": r, "message": m} for p, r, m in history],
        },
    }


def plan(phase, names=(CSV,), approved=True, **status):
    return {
        "metadata": {"name": "install-abc", "namespace": "demo", "resourceVersion": "7"},
        "spec": {"clusterServiceVersionNames": list(names), "approved": approved},
        "status": {"phase": phase, **status},
    }


def pod(reason=None, message=""):
    waiting = {"waiting": {"reason": reason, "message": message}} if reason else {"running": {}}
    return {
        "metadata": {"name": "lab-catalog-x"},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "registry", "ready": False, "state": waiting}]},
    }


GROUP = {"metadata": {"name": "global"}}
OTHER_GROUP = {"metadata": {"name": "another"}}
READY, WAITING, FAILING = _wait.READY, _wait.WAITING, _wait.FAILING
UNSATISFIABLE = "constraints not satisfiable: no operators found in {}, subscription tempo exists"
REQUIREMENTS = [
    {"kind": "CustomResourceDefinition", "name": "tempostacks.tempo.grafana.com", "status": "Present", "message": "CRD is present"},
    {
        "kind": "CustomResourceDefinition",
        "name": "widgets.example.com",
        "status": "NotPresent",
        "message": "CRD is not present",
    },
    {
        "kind": "ServiceAccount",
        "name": "tempo-operator-controller",
        "status": "PresentNotSatisfied",
        "message": "Policy rule not satisfied for service account",
        "dependents": [
            {"kind": "PolicyRule", "status": "Satisfied", "message": "fine"},
            {"kind": "PolicyRule", "status": "NotSatisfied", "message": 'cluster rule:{"verbs":["create"]}'},
        ],
    },
]


def scene(sub=None, groups=(GROUP,), source=None, **more):
    return _olm.Scene(sub or subscription(), groups, source if source is not None else catalog(), **more)


NO_CATALOG = _olm.Scene(subscription(known=[("olm", "other-catalog")]), (GROUP,), None)

TABLE = {
    "missing Subscription": (
        _olm.Scene(None),
        FAILING,
        10,
        ["does not exist", "Create it"],
    ),
    "just created": (scene(), WAITING, 0, ["has not resolved it yet"]),
    "succeeded": (scene(installing(), csv=csv("Succeeded")), READY, 0, [f"{CSV} has succeeded"]),
    "succeeded, whatever has happened to its catalog since": (
        _olm.Scene(installing(), csv=csv("Succeeded")),
        READY,
        0,
        [],
    ),
    # OperatorGroups
    "no OperatorGroup": (scene(groups=()), FAILING, 10, ["namespace demo has no OperatorGroup", "Create one"]),
    "two OperatorGroups": (
        scene(groups=(GROUP, OTHER_GROUP)),
        FAILING,
        10,
        ["has 2 OperatorGroups (another, global)", "Delete all but one"],
    ),
    # catalog
    "catalog missing": (
        NO_CATALOG,
        FAILING,
        10,
        ["CatalogSource olm/lab-catalog does not exist; OLM knows olm/other-catalog", "Correct source"],
    ),
    "catalog starting": (scene(source=catalog("CONNECTING")), WAITING, 0, ["olm/lab-catalog is not ready (connection state CONNECTING)"]),
    "catalog not looked at yet": (scene(source=catalog(None)), WAITING, 0, ["not known yet"]),
    "catalog does not answer yet": (scene(source=catalog("TRANSIENT_FAILURE")), WAITING, 0, ["TRANSIENT_FAILURE"]),
    "catalog being pulled": (
        scene(source=catalog("TRANSIENT_FAILURE"), pods=[pod("ContainerCreating")]),
        WAITING,
        0,
        ["TRANSIENT_FAILURE"],
    ),
    "catalog image cannot be pulled": (
        scene(source=catalog("TRANSIENT_FAILURE"), pods=[pod("ImagePullBackOff", 'Back-off pulling image "quay.io/no/such"')]),
        FAILING,
        60,
        ["pod lab-catalog-x: container registry waits", "ImagePullBackOff", "quay.io/no/such", "Correct its image"],
    ),
    "catalog pod crashes": (
        scene(source=catalog("TRANSIENT_FAILURE"), pods=[pod("CrashLoopBackOff")]),
        FAILING,
        60,
        ["container registry crashes"],
    ),
    "catalog elsewhere does not answer": (
        scene(source=catalog("TRANSIENT_FAILURE", address="catalog.example.com:50051")),
        FAILING,
        60,
        ["nothing answers at catalog.example.com:50051", "Correct spec.address"],
    ),
    "catalog with a broken spec": (
        scene(source=catalog(None, reason="SpecInvalidError", message="image and address unset: at least one must be set")),
        FAILING,
        10,
        ["cannot be served (SpecInvalidError: image and address unset", "Correct the CatalogSource"],
    ),
    "catalog whose pod is refused": (
        scene(source=catalog(None, reason="RegistryServerError", message="pods is forbidden: exceeded quota")),
        FAILING,
        60,
        ["RegistryServerError: pods is forbidden"],
    ),
    # resolution
    "unknown package": (
        scene(
            failing(
                "ResolutionFailed", "ConstraintsNotSatisfiable", UNSATISFIABLE.format("package temp in the catalog referenced by subscription tempo")
            )
        ),
        FAILING,
        10,
        ["no operators found in package temp", "Correct the package name", "Subscription tempo", "CatalogSource olm/lab-catalog"],
    ),
    "unknown channel": (
        scene(failing("ResolutionFailed", "ConstraintsNotSatisfiable", UNSATISFIABLE.format("channel beta of package tempo-operator"))),
        FAILING,
        10,
        ["no operators found in channel beta", "Correct the channel", "kubectl get packagemanifest tempo-operator"],
    ),
    "unknown starting CSV": (
        scene(
            failing(
                "ResolutionFailed",
                "ConstraintsNotSatisfiable",
                "constraints not satisfiable: no operators found with name tempo-operator.v9 in channel stable of package"
                " tempo-operator in the catalog referenced by subscription tempo, subscription tempo exists",
            )
        ),
        FAILING,
        10,
        ["with name tempo-operator.v9", "Correct the starting CSV"],
    ),
    "another Subscription of the namespace is wrong": (
        scene(
            failing(
                "ResolutionFailed",
                "ConstraintsNotSatisfiable",
                "constraints not satisfiable: no operators found in package x in the catalog referenced by subscription other,"
                " subscription other exists",
            )
        ),
        FAILING,
        10,
        ["Correct the package name or the source of Subscription other"],
    ),
    "unresolvable otherwise": (
        scene(failing("ResolutionFailed", "ConstraintsNotSatisfiable", "constraints not satisfiable: a and b provide C (v1)")),
        FAILING,
        10,
        ["a and b provide C", "Correct what the message names"],
    ),
    "resolution prevented by another catalog": (
        scene(
            failing(
                "ResolutionFailed",
                "ErrorPreventedResolution",
                "failed to populate resolver cache from source other/olm: failed to list bundles: rpc error: code = Unavailable",
            )
        ),
        FAILING,
        120,
        ["from source other/olm", "Repair or delete the CatalogSource"],
    ),
    "failed resolution means nothing while the catalog starts": (
        scene(
            failing("ResolutionFailed", "ConstraintsNotSatisfiable", UNSATISFIABLE.format("package tempo-operator")),
            source=catalog("CONNECTING"),
        ),
        WAITING,
        0,
        ["is not ready"],
    ),
    "a condition that is over": (
        scene({**subscription(), "status": {"conditions": [{"type": "ResolutionFailed", "status": "False"}]}}),
        WAITING,
        0,
        ["has not resolved it yet"],
    ),
    # unpacking
    "unpacking": (scene(subscription(conditions=[("BundleUnpacking", {})])), WAITING, 0, ["is being unpacked"]),
    "bundle image cannot be pulled": (
        scene(subscription(conditions=[("BundleUnpacking", {})]), pods=[pod("ErrImagePull", "not found")]),
        FAILING,
        60,
        ["cannot be unpacked: pod lab-catalog-x", "ErrImagePull: not found", "pull secret"],
    ),
    "unpacking has failed": (
        scene(
            failing(
                "BundleUnpackFailed",
                "BundleUnpackFailed",
                "bundle unpacking failed. Reason: DeadlineExceeded, and Message: Job was active longer than specified deadline",
            )
        ),
        FAILING,
        10,
        ["cannot be unpacked: bundle unpacking failed. Reason: DeadlineExceeded", "delete the failed Job"],
    ),
    # InstallPlan
    "plan is installing": (scene(installing(), plan=plan("Installing")), WAITING, 0, [f"InstallPlan demo/install-abc ({CSV}) is Installing"]),
    "plan is retrying": (
        scene(installing(), plan=plan("Installing", message="retrying execution due to error: exceeded quota")),
        WAITING,
        0,
        ["is Installing (retrying execution due to error: exceeded quota)"],
    ),
    "plan without a service account": (
        scene(
            installing(),
            plan=plan(
                "Installing",
                conditions=[{"type": "Installed", "status": "False", "reason": "InstallCheckFailed", "message": "no service account"}],
            ),
        ),
        WAITING,
        0,
        ["(InstallCheckFailed: no service account)"],
    ),
    "plan has failed": (
        scene(
            installing(),
            plan=plan(
                "Failed",
                conditions=[
                    {
                        "type": "Installed",
                        "status": "False",
                        "reason": "InstallComponentFailed",
                        "message": "risk of data loss updating tempostacks.tempo.grafana.com",
                    }
                ],
            ),
        ),
        FAILING,
        10,
        [f"InstallPlan demo/install-abc ({CSV}) has failed: InstallComponentFailed: risk of data loss", "delete this InstallPlan"],
    ),
    "plan needs approval": (
        scene(installing(approval="Manual"), plan=plan("RequiresApproval", approved=False)),
        FAILING,
        10,
        [
            f"InstallPlan demo/install-abc ({CSV}) requires approval",
            "Set approve to true",
            """kubectl -n demo patch installplan install-abc --type merge -p '{"spec":{"approved":true}}'""",
        ],
    ),
    "plan approved by somebody, not yet seen by OLM": (
        scene(installing(), plan=plan("RequiresApproval", approved=True)),
        WAITING,
        0,
        ["is RequiresApproval"],
    ),
    "plan complete, CSV not seen yet": (scene(installing(), plan=plan("Complete")), WAITING, 0, ["has not resolved it yet"]),
    "plan deleted": (scene(subscription(conditions=[("InstallPlanMissing", {})])), WAITING, 0, ["InstallPlan has been deleted"]),
    # ClusterServiceVersion
    "CSV not processed yet": (scene(installing(), csv=csv("")), WAITING, 0, [f"ClusterServiceVersion {CSV} is not processed yet"]),
    "CSV installing": (
        scene(installing(), csv=csv("Installing", "InstallWaiting", "installing: waiting for deployment tempo to become ready")),
        WAITING,
        0,
        [f"{CSV} is Installing (InstallWaiting: installing: waiting for deployment tempo"],
    ),
    "CSV with unmet requirements": (
        scene(
            installing(),
            csv=csv("Pending", "RequirementsNotMet", "one or more requirements couldn't be found", REQUIREMENTS),
        ),
        WAITING,
        0,
        [
            "is Pending (RequirementsNotMet",
            "not met: CustomResourceDefinition widgets.example.com (NotPresent: CRD is not present), ServiceAccount"
            ' tempo-operator-controller (PresentNotSatisfied: cluster rule:{"verbs":["create"]})',
        ],
    ),
    "CSV pending again after a failure": (
        scene(
            installing(),
            csv=csv("Pending", "NeedsReinstall", "", history=[("Failed", "InstallComponentFailed", "webhook refused"), ("Pending", "", "")]),
        ),
        WAITING,
        0,
        ["it has failed before with InstallComponentFailed: webhook refused"],
    ),
    "CSV failed for the moment": (
        scene(installing(), csv=csv("Failed", "InstallComponentFailed", "install strategy failed: webhook refused")),
        FAILING,
        60,
        [f"{CSV} is Failed (InstallComponentFailed: install strategy failed: webhook refused)", "Look at the operator's Deployment"],
    ),
    "CSV failed for good": (
        scene(
            installing(),
            csv=csv("Failed", "UnsupportedOperatorGroup", "AllNamespaces InstallModeType not supported"),
        ),
        FAILING,
        10,
        ["AllNamespaces InstallModeType not supported", "targetNamespaces"],
    ),
    "CSV timed out, by OLM's own patience": (
        scene(installing(), csv=csv("Failed", "InstallCheckFailed", "install timeout")),
        FAILING,
        0,
        ["InstallCheckFailed: install timeout", "Look at the operator's Deployment"],
    ),
    "CSV before its plan": (
        scene(installing(), plan=plan("Installing"), csv=csv("Installing")),
        WAITING,
        0,
        ["ClusterServiceVersion"],
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_explain(name):
    what, phase, grace, parts = TABLE[name]
    state = _olm.explain(WANTED, what)
    said = f"{state.text}. {state.cure}."
    assert [part for part in parts if part not in said] == [], said
    assert (state.phase, state.grace, state.target) == (phase, grace, "Subscription demo/tempo")
    assert "\n" not in said
    assert phase == READY or state.cure, "nothing is said about what to do"
    assert phase != FAILING or state.cause


def test_causes_are_told_apart_but_not_the_words():
    def cause(**more):
        return _olm.explain(WANTED, scene(failing("ResolutionFailed", "ConstraintsNotSatisfiable", **more))).cause

    assert cause(message="a, b") == cause(message="b, a")
    assert cause(message="a", generation=1) != cause(message="a", generation=2)


@pytest.mark.parametrize("name", [name for name in TABLE if name not in ("missing Subscription", "no OperatorGroup", "two OperatorGroups")])
def test_what_has_succeeded_stays_ready_whatever_else_is_wrong(name):
    what = TABLE[name][0]
    with_csv = _olm.Scene(what.subscription, (), None, what.plan, csv("Succeeded"), what.pods)
    assert _olm.explain(WANTED, with_csv).phase == READY


@pytest.mark.parametrize("name", TABLE)
def test_objects_without_status(name):
    what = TABLE[name][0]

    def bare(item):
        return item and {key: value for key, value in item.items() if key != "status"}

    stripped = _olm.Scene(bare(what.subscription), what.operator_groups, bare(what.catalog), bare(what.plan), bare(what.csv), what.pods)
    assert _olm.explain(WANTED, stripped).phase in (WAITING, FAILING)


@pytest.mark.parametrize(
    ("starting", "approval", "current", "installed", "expected"),
    [
        ("", "Automatic", "", "", ""),
        ("", "Automatic", "t.v2", "", "t.v2"),
        ("", "Automatic", "t.v2", "t.v1", "t.v2"),
        ("", "Manual", "t.v2", "", "t.v2"),
        ("", "Manual", "t.v2", "t.v1", "t.v1"),
        ("t.v1", "Automatic", "", "", "t.v1"),
        ("t.v1", "Automatic", "t.v2", "t.v1", "t.v2"),
        ("t.v2", "Manual", "", "", "t.v2"),
        ("t.v2", "Manual", "t.v2", "t.v1", "t.v2"),
        ("t.v2", "Manual", "t.v3", "t.v2", "t.v2"),
        ("t.v2", "Manual", "t.v3", "t.v3", "t.v3"),
        ("t.v0.9.0", "Manual", "t.v0.10.0", "t.v0.10.0", "t.v0.10.0"),
        ("t.v0.10.0", "Manual", "t.v0.10.0", "t.v0.9.0", "t.v0.10.0"),
        ("t.v2", "Manual", "u.v3", "u.v3", "t.v2"),
        ("t.latest", "Manual", "t.v3", "t.v3", "t.latest"),
        ("t.v2", "Manual", "t.latest", "t.latest", "t.v2"),
    ],
)
def test_wanted_csv(starting, approval, current, installed, expected):
    wanted = _olm.Wanted("tempo", "demo", starting)
    status = {key: value for key, value in (("currentCSV", current), ("installedCSV", installed)) if value}
    assert _olm.wanted_csv(wanted, subscription(approval=approval, **status)) == expected


class View:
    """A cluster's objects by collection; knows which selections were asked for."""

    def __init__(self, **collections):
        self.collections, self.asked = collections, []

    def items(self, selection):
        self.asked.append(selection)
        plural = selection.path.rpartition("/")[2]
        found = self.collections.get(plural, [])
        if isinstance(found, Exception):
            raise found
        name = selection.fields.removeprefix("metadata.name=")
        namespace = selection.path.split("/")[-2]
        return [
            item for item in found if item["metadata"].get("namespace", namespace) == namespace and (not name or item["metadata"]["name"] == name)
        ]


class Patches:
    """Takes patches, or refuses them."""

    def __init__(self, error=None):
        self.error, self.made = error, []

    def merge_patch(self, path, body, what, **query):
        if self.error:
            raise self.error
        self.made.append((path, body))


def manual(names=(CSV,)):
    return {
        "subscriptions": [installing(approval="Manual")],
        "operatorgroups": [GROUP],
        "catalogsources": [catalog()],
        "installplans": [plan("RequiresApproval", names, approved=False)],
    }


def judged(view, *wanted, kube=None, dry=False):
    approved, kube = [], kube or Patches()
    states = _olm.Judge(kube, wanted, approved, dry=dry)(view)
    return states, approved, kube.made


class TestApproval:
    def test_only_when_told_to(self):
        states, approved, made = judged(View(**manual()), WANTED)
        assert (states[0].phase, approved, made) == (FAILING, [], [])

    def test_the_plan_of_the_wanted_csv_as_it_was_seen(self):
        states, approved, made = judged(View(**manual()), _olm.Wanted("tempo", "demo", CSV, approve=True))
        assert made == [
            (
                f"{API}/v1alpha1/namespaces/demo/installplans/install-abc",
                {"metadata": {"resourceVersion": "7"}, "spec": {"approved": True}},
            )
        ]
        assert approved == ["demo/install-abc"]
        assert (states[0].phase, "is being approved" in states[0].text) == (WAITING, True)

    def test_without_a_starting_csv_what_olm_offers_first(self):
        assert judged(View(**manual()), _olm.Wanted("tempo", "demo", approve=True))[1] == ["demo/install-abc"]

    def test_not_a_plan_of_something_else(self):
        wanted = _olm.Wanted("tempo", "demo", "tempo-operator.v0.20.0", approve=True)
        states, approved, made = judged(View(**manual()), wanted)
        assert (states[0].phase, approved, made) == (FAILING, [], [])
        assert f"offers {CSV}, not tempo-operator.v0.20.0" in states[0].text

    def test_not_an_upgrade_that_nobody_asked_for(self):
        objects = manual()
        objects["subscriptions"] = [installing(approval="Manual", installedCSV="tempo-operator.v0.20.0")]
        objects["clusterserviceversions"] = [{**csv("Succeeded"), "metadata": {"name": "tempo-operator.v0.20.0"}}]
        states, approved, _made = judged(View(**objects), _olm.Wanted("tempo", "demo", approve=True))
        assert (states[0].phase, approved) == (READY, [])

    def test_once(self):
        kube, approved = Patches(), []
        judge = _olm.Judge(kube, [_olm.Wanted("tempo", "demo", approve=True)], approved)
        view = View(**manual())
        judge(view)
        judge(view)
        assert (len(kube.made), len(approved)) == (1, 1)

    def test_one_plan_for_two_subscriptions(self):
        objects = manual([CSV, "other.v1"])
        other = installing(approval="Manual")
        other = {**other, "metadata": {**other["metadata"], "name": "other"}, "status": {**other["status"], "currentCSV": "other.v1"}}
        objects["subscriptions"].append(other)
        states, approved, made = judged(View(**objects), _olm.Wanted("tempo", "demo", CSV, approve=True), _olm.Wanted("other", "demo"))
        assert ([state.phase for state in states], len(approved), len(made)) == ([WAITING, WAITING], 1, 1)

    def test_not_for_the_subscription_of_another_namespace(self):
        objects = manual()
        for items in objects.values():
            items += [{**item, "metadata": {**item["metadata"], "namespace": "elsewhere"}} for item in items if item is not GROUP]
        states, approved, _made = judged(View(**objects), WANTED, _olm.Wanted("tempo", "elsewhere", CSV, approve=True))
        assert approved == ["elsewhere/install-abc"]
        assert (states[0].phase, "requires approval" in states[0].text) == (FAILING, True)

    def test_dry_names_it_and_leaves_it(self):
        _states, approved, made = judged(View(**manual()), _olm.Wanted("tempo", "demo", approve=True), dry=True)
        assert (approved, made) == (["demo/install-abc"], [])

    def test_a_refused_approval_is_an_error_and_not_recorded(self):
        approved = []
        judge = _olm.Judge(Patches(KubeError("forbidden", status=403)), [_olm.Wanted("tempo", "demo", approve=True)], approved)
        with pytest.raises(KubeError, match="forbidden"):
            judge(View(**manual()))
        assert approved == []


class TestLook:
    def test_from_reference_to_reference(self):
        view = View(**{**manual(), "pods": [pod()]})
        found = _olm.look(view, WANTED)
        assert found.subscription and found.catalog and found.plan and found.csv is None
        assert found.operator_groups == [GROUP]
        assert [(item.path, item.fields) for item in view.asked] == [
            (f"{API}/v1alpha1/namespaces/demo/subscriptions", "metadata.name=tempo"),
            (f"{API}/v1alpha1/namespaces/demo/clusterserviceversions", f"metadata.name={CSV}"),
            (f"{API}/v1alpha1/namespaces/olm/catalogsources", "metadata.name=lab-catalog"),
            (f"{API}/v1/namespaces/demo/operatorgroups", ""),
            (f"{API}/v1alpha1/namespaces/demo/installplans", "metadata.name=install-abc"),
        ]

    def test_what_has_succeeded_is_looked_at_no_further(self):
        view = View(subscriptions=[installing()], clusterserviceversions=[csv("Succeeded")])
        assert _olm.explain(WANTED, _olm.look(view, WANTED)).phase == READY
        assert len(view.asked) == 2

    def test_a_missing_subscription_is_looked_at_no_further(self):
        view = View()
        assert _olm.look(view, WANTED) == _olm.Scene(None)
        assert len(view.asked) == 1

    @pytest.mark.parametrize(
        ("state", "labels"), [("CONNECTING", "olm.catalogSource=lab-catalog"), ("READY", "operatorframework.io/bundle-unpack-ref")]
    )
    def test_pods_that_explain_are_optional(self, state, labels):
        view = View(subscriptions=[subscription()], catalogsources=[catalog(state)], operatorgroups=[GROUP], pods=[pod()])
        assert _olm.look(view, WANTED).pods == [pod()]
        asked = next(item for item in view.asked if item.path.endswith("/pods"))
        assert (asked.path, asked.labels, asked.optional) == ("/api/v1/namespaces/olm/pods", labels, True)

    def test_without_olm(self):
        view = View()
        _olm.look(view, WANTED)
        assert "not installed" in view.asked[0].absent
