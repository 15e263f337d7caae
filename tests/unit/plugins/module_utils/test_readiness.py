# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""When an object is ready: tables of objects, and the judge that collects what belongs together."""

from __future__ import annotations

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _readiness, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError

READY, WAITING, FAILING = _wait.READY, _wait.WAITING, _wait.FAILING


def thing(status=None, generation=1, name="x", kind=None, spec=None, **metadata):
    item = {"metadata": {"name": name, "namespace": "demo", "generation": generation, "uid": f"uid-{name}", **metadata}, "spec": spec or {}}
    if status is not None:
        item["status"] = status
    if kind:
        item["kind"] = kind
    return item


def conditions(*pairs, **status):
    listed = [{"type": kind, "status": value, **(more[0] if more else {})} for kind, value, *more in pairs]
    return {"conditions": listed, **status}


def deployment(wanted=2, exist=2, updated=2, available=2, observed=1, generation=1, **more):
    status = {"replicas": exist, "updatedReplicas": updated, "availableReplicas": available, "observedGeneration": observed, **more}
    return thing(status, generation, spec={"replicas": wanted}, kind="Deployment")


def stateful_set(wanted=2, exist=2, ready=2, updated=2, current="r1", update="r1", partition=0, observed=1):
    status = {
        "replicas": exist,
        "readyReplicas": ready,
        "updatedReplicas": updated,
        "currentRevision": current,
        "updateRevision": update,
        "observedGeneration": observed,
    }
    strategy = {"rollingUpdate": {"partition": partition}} if partition else {}
    return thing(status, spec={"replicas": wanted, "updateStrategy": strategy, "serviceName": "x"}, kind="StatefulSet")


def daemon_set(wanted=1, available=1, updated=1, observed=1):
    return thing(
        {"desiredNumberScheduled": wanted, "numberAvailable": available, "updatedNumberScheduled": updated, "observedGeneration": observed},
        kind="DaemonSet",
    )


def endpoints(*ready):
    return {"endpoints": [{"conditions": {} if value is None else {"ready": value}} for value in ready]}


COMPONENTS = {name: {"Ready": [f"tempo-{name}-0"]} for name in ("compactor", "distributor", "ingester", "querier", "queryFrontend")}
REFUSED = {"reason": "FailedCreate", "message": 'pods "x" is forbidden: exceeded quota'}


def stack(*pairs, components=COMPONENTS, **more):
    return thing(conditions(*pairs, components=components), **more)


def container(state=None, last=None, ready=False, restarts=0):
    return {"name": "c", "ready": ready, "state": state or {}, "lastState": last or {}, "restartCount": restarts}


def pod(*containers, phase="Running", ready="False", **more):
    return thing(conditions(("Ready", ready, {"reason": "ContainersNotReady"}), phase=phase, containerStatuses=list(containers), **more))


def template(annotation):
    return {"template": {"metadata": {"annotations": {"admin": annotation}}}}


def grafana(stage="complete", result="success", message="", annotated=None):
    spec = {"deployment": {"spec": template(annotated)}} if annotated else {}
    return thing({"stage": stage, "stageStatus": result, "lastMessage": message, "version": "10.0.0"}, kind="Grafana", spec=spec)


def annotated(annotation):
    """A Deployment that is rolled out, with an annotation for its pods, and another of the operator's."""
    item = deployment()
    item["spec"] |= template(annotation)
    item["spec"]["template"]["metadata"]["annotations"]["other"] = "x"
    return item


APPLIED = {"reason": "ApplySuccessful", "message": "Folder was successfully applied to 1 instances", "observedGeneration": 2}
REFUSES = {"reason": "ApplyFailed", "message": "Folder failed to be applied for 1 out of 1 instances. Errors:\n- demo/grafana: [401]"}
CRASHED = {"terminated": {"exitCode": 1, "reason": "Error", "message": "bucket does not exist\n"}}

# kind -> rows of (what it is about, object, related objects, phase, words)
TABLES = {
    ("", "Secret"): [
        ("exists", thing(), [], READY, "exists"),
    ],
    ("", "Namespace"): [
        ("active", thing({"phase": "Active"}), [], READY, "is ready"),
        ("going", thing({"phase": "Terminating"}), [], WAITING, "is Terminating"),
    ],
    ("apps", "Deployment"): [
        ("rolled out", deployment(), [], READY, "2 of 2 replicas are available"),
        ("no replicas given is one", thing(deployment(exist=1, updated=1, available=1)["status"]), [], READY, "1 of 1"),
        ("none wanted", deployment(0, 0, 0, 0), [], READY, "0 of 0"),
        ("counts left out are zero", thing({"observedGeneration": 1}, spec={"replicas": 0}), [], READY, "0 of 0"),
        ("not available", deployment(available=1), [], WAITING, "1 of 2 replicas are available, 2 are up to date, 2 exist"),
        ("not updated", deployment(updated=1), [], WAITING, "1 are up to date"),
        ("old ones left", deployment(exist=3), [], WAITING, "3 exist"),
        ("status of an older spec", deployment(generation=2, observed=1), [], WAITING, "2 of 2"),
        ("no status yet", thing(spec={"replicas": 1}), [], WAITING, "0 of 1"),
        (
            "stalled",
            deployment(
                available=0,
                **conditions(("Progressing", "False", {"reason": "ProgressDeadlineExceeded", "message": "has timed out progressing"})),
            ),
            [],
            WAITING,
            "(has timed out progressing)",
        ),
        (
            "pods refused",
            deployment(available=0, **conditions(("ReplicaFailure", "True", REFUSED))),
            [],
            FAILING,
            'FailedCreate: pods "x" is forbidden: exceeded quota',
        ),
        ("pods refused once", deployment(**conditions(("ReplicaFailure", "False", REFUSED))), [], READY, "2 of 2"),
    ],
    ("apps", "StatefulSet"): [
        ("rolled out", stateful_set(), [], READY, "2 of 2 replicas are ready"),
        ("not ready", stateful_set(ready=1), [], WAITING, "1 of 2 replicas are ready"),
        ("not scaled", stateful_set(exist=1), [], WAITING, "2 of 2 replicas are ready"),
        ("being updated", stateful_set(updated=1, update="r2"), [], WAITING, "1 are up to date"),
        ("updated, not yet promoted", stateful_set(updated=2, update="r2"), [], READY, "2 of 2"),
        ("updated down to its partition", stateful_set(updated=1, update="r2", partition=1), [], READY, "2 of 2"),
        ("one revision, count not kept", stateful_set(updated=0), [], READY, "2 of 2"),
        ("status of an older spec", stateful_set(observed=0), [], WAITING, "2 of 2"),
    ],
    ("apps", "DaemonSet"): [
        ("rolled out", daemon_set(), [], READY, "1 of 1 pods are available"),
        ("not available", daemon_set(available=0), [], WAITING, "0 of 1 pods are available"),
        ("not updated", daemon_set(updated=0), [], WAITING, "0 are up to date"),
        ("status of an older spec", daemon_set(observed=0), [], WAITING, "1 of 1"),
    ],
    ("batch", "Job"): [
        ("complete", thing(conditions(("Complete", "True"))), [], READY, "is complete"),
        ("running", thing(conditions(active=1)), [], WAITING, "1 pods are active"),
        (
            "failed",
            thing(conditions(("Failed", "True", {"reason": "BackoffLimitExceeded", "message": "Job has reached the limit"}))),
            [],
            FAILING,
            "BackoffLimitExceeded: Job has reached the limit",
        ),
    ],
    ("", "Pod"): [
        ("ready", pod(container(ready=True), ready="True"), [], READY, "is ready"),
        ("on its way out", {**pod(ready="True"), "metadata": {"name": "x", "deletionTimestamp": "now"}}, [], WAITING, "is Running"),
        ("run to its end", pod(phase="Succeeded"), [], READY, "has succeeded"),
        ("failed", pod(container({"terminated": {"exitCode": 3, "reason": "Error"}}), phase="Failed"), [], FAILING, "exit code 3 Error"),
        ("starting", pod(container({"waiting": {"reason": "ContainerCreating"}}), phase="Pending"), [], WAITING, "ContainersNotReady"),
        ("crashing", pod(container({"waiting": {"reason": "CrashLoopBackOff"}}, CRASHED, restarts=4)), [], WAITING, "crashes (4 restarts"),
    ],
    ("", "Service"): [
        ("one ready endpoint", thing(spec={"selector": {"a": "b"}}), [endpoints(True, False)], READY, "has 1 ready endpoints"),
        ("unknown counts as ready", thing(spec={"selector": {"a": "b"}}), [endpoints(None)], READY, "has 1 ready endpoints"),
        ("in another slice", thing(spec={"selector": {"a": "b"}}), [endpoints(), endpoints(True)], READY, "has 1"),
        ("none ready", thing(spec={"selector": {"a": "b"}}), [endpoints(False)], WAITING, "has no ready endpoint"),
        ("no slice yet", thing(spec={"selector": {"a": "b"}}), [], WAITING, "has no ready endpoint"),
        ("a slice of nothing", thing(spec={"selector": {"a": "b"}}), [{"endpoints": None}], WAITING, "has no ready endpoint"),
        ("no selector", thing(), [], WAITING, "has no selector and no endpoints"),
        ("no selector, endpoints given", thing(), [endpoints(False)], WAITING, "has no ready endpoint"),
        ("an external name", thing(spec={"type": "ExternalName"}), [], READY, "is an ExternalName"),
    ],
    ("", "PersistentVolumeClaim"): [
        ("bound", thing({"phase": "Bound"}), [], READY, "is bound"),
        ("pending", thing({"phase": "Pending"}, spec={"storageClassName": "fast"}), [], WAITING, "is Pending"),
        ("new", thing(), [], WAITING, "is not seen yet"),
    ],
    ("route.openshift.io", "Route"): [
        ("admitted", thing({"ingress": [conditions(("Admitted", "True"))]}), [], READY, "is admitted"),
        ("admitted by one of two", thing({"ingress": [conditions(("Admitted", "False")), conditions(("Admitted", "True"))]}), [], READY, ""),
        (
            "refused",
            thing({"ingress": [conditions(("Admitted", "False", {"reason": "HostAlreadyClaimed", "message": "taken"}))]}),
            [],
            FAILING,
            "HostAlreadyClaimed: taken",
        ),
        (
            "refused for another reason, which may pass",
            thing({"ingress": [conditions(("Admitted", "False", {"reason": "RouteNotAdmitted", "message": "paused"}))]}),
            [],
            WAITING,
            "RouteNotAdmitted: paused",
        ),
        ("not seen", thing({}), [], WAITING, "is not admitted by a router"),
    ],
    ("tempo.grafana.com", "TempoStack"): [
        ("rolled out", stack(("Ready", "True")), [deployment(), stateful_set()], READY, "all components are rolled out"),
        ("says Ready without a pod", stack(("Ready", "True"), components={}), [deployment()], WAITING, "has no pod yet for distributor, ingester"),
        (
            "says Ready with a component missing",
            stack(("Ready", "True"), components={**COMPONENTS, "ingester": {}}),
            [deployment()],
            WAITING,
            "has no pod yet for ingester",
        ),
        ("says Ready without a workload", stack(("Ready", "True")), [], WAITING, "has no Deployment or StatefulSet yet"),
        (
            "says Ready while a workload is being updated",
            stack(("Ready", "True")),
            [deployment(), stateful_set(updated=1, update="r2")],
            WAITING,
            "StatefulSet x: 2 of 2 replicas are ready, 1 are up to date",
        ),
        (
            "a workload's pods are refused",
            stack(("Ready", "True")),
            [deployment(**conditions(("ReplicaFailure", "True", REFUSED)))],
            FAILING,
            "Deployment x: FailedCreate",
        ),
        (
            "Ready of an older spec, by an operator that says so",
            stack(("Ready", "True", {"observedGeneration": 1}), generation=2),
            [deployment()],
            WAITING,
            "has not reported",
        ),
        ("no status yet", thing(), [], WAITING, "has not reported"),
        (
            "pending",
            stack(
                ("Ready", "False"),
                ("Pending", "True", {"reason": "PendingComponents", "message": "Some Tempo components are pending"}),
                components={**COMPONENTS, "ingester": {"Pending": ["a"], "Failed": []}},
            ),
            [],
            WAITING,
            "PendingComponents: Some Tempo components are pending: ingester pending",
        ),
        (
            "failed",
            stack(("Failed", "True", {"reason": "FailedReconciliation", "message": "webhook refused"})),
            [],
            WAITING,
            "FailedReconciliation: webhook refused",
        ),
        (
            "misconfigured",
            stack(
                ("Ready", "False"),
                ("ConfigurationError", "True", {"reason": "InvalidStorageConfig", "message": "storage secret should contain endpoint"}),
            ),
            [],
            FAILING,
            "InvalidStorageConfig: storage secret should contain endpoint",
        ),
        ("no longer misconfigured", stack(("ConfigurationError", "False"), ("Ready", "True")), [deployment()], READY, "rolled out"),
    ],
    ("tempo.grafana.com", "TempoMonolithic"): [
        ("rolled out", stack(("Ready", "True"), components={"tempo": {"Ready": ["a"]}}), [stateful_set()], READY, "rolled out"),
        ("no pod", stack(("Ready", "True"), components={}), [stateful_set()], WAITING, "has no pod yet for tempo"),
    ],
    ("opentelemetry.io", "OpenTelemetryCollector"): [
        ("rolled out", thing({"version": "0.140.0"}, spec={"mode": "deployment"}), [deployment()], READY, "rolled out"),
        ("daemonset", thing({"version": "0.140.0"}, spec={"mode": "daemonset"}), [daemon_set()], READY, "rolled out"),
        ("being updated", thing({"version": "0.140.0"}), [deployment(updated=1)], WAITING, "Deployment x: 2 of 2"),
        ("no workload", thing({"version": "0.140.0"}), [], WAITING, "has no Deployment"),
        ("not seen by its operator", thing({}), [deployment()], WAITING, "has not reported"),
        ("a sidecar has none", thing({}, spec={"mode": "sidecar"}), [], READY, "is a sidecar"),
    ],
    ("grafana.integreatly.org", "Grafana"): [
        ("up", grafana(), [deployment()], READY, "Grafana 10.0.0 answers its operator"),
        ("not seen by its operator", thing({}), [], WAITING, "has not reported"),
        ("no workload", grafana(stage="service"), [], WAITING, "has no Deployment"),
        ("its Deployment is of an older spec", grafana(annotated="2"), [annotated("1")], WAITING, "has not changed its Deployment yet"),
        ("its Deployment is of this spec", grafana(annotated="2"), [annotated("2")], READY, "Grafana 10.0.0"),
        ("not rolled out", grafana(stage="complete", result="failed"), [deployment(available=0)], WAITING, "Deployment x: 0 of 2"),
        ("says that it is complete while its pods are replaced", grafana(), [deployment(updated=1)], WAITING, "Deployment x: 2 of 2"),
        (
            "its operator is refused by it",
            grafana(stage="complete", result="failed", message="failed fetching version from instance: empty version received from server"),
            [deployment()],
            WAITING,
            "its operator is at stage complete: failed fetching version",
        ),
        (
            "waits for an ingress",
            grafana(stage="ingress", result="in progress", message="ingress is not ready yet"),
            [deployment()],
            WAITING,
            "ingress",
        ),
        ("elsewhere", thing({"stage": "complete", "stageStatus": "success"}, spec={"external": {"url": "https://g"}}), [], READY, "Grafana answers"),
    ],
    **{
        ("grafana.integreatly.org", kind): [
            ("taken", thing(conditions((name, "True", APPLIED)), generation=2), [], READY, "Grafana has it"),
            ("taken, but an older one", thing(conditions((name, "True", APPLIED)), generation=3), [], WAITING, "has not reported"),
            ("refused", thing(conditions((name, "False", REFUSES))), [], FAILING, "ApplyFailed: Folder failed to be applied for 1 out of 1"),
            ("not seen by its operator", thing({}), [], WAITING, "has not reported"),
            ("new", thing(), [], WAITING, "has not reported"),
            (
                "no Grafana yet",
                thing(conditions(("NoMatchingInstance", "True", {"reason": "EmptyAPIReply", "message": "None of the available"}))),
                [],
                WAITING,
                "EmptyAPIReply: None of the available",
            ),
            (
                "invalid",
                thing(conditions(("InvalidSpec", "True", {"reason": "InvalidModel", "message": "could not build"}), (name, "True", APPLIED))),
                [],
                FAILING,
                "InvalidModel: could not build",
            ),
            (
                "an older one was invalid",
                thing(
                    conditions(("InvalidSpec", "True", {"reason": "InvalidModel", "observedGeneration": 1}), (name, "True", APPLIED)), generation=2
                ),
                [],
                READY,
                "Grafana has it",
            ),
            (
                "folder that is not there",
                thing(conditions(("NoMatchingFolder", "True", {"reason": "NotFound", "message": "Folder with name x not found"}))),
                [],
                FAILING,
                "NotFound: Folder with name x not found",
            ),
        ]
        for kind, name in (
            ("GrafanaDashboard", "DashboardSynchronized"),
            ("GrafanaDatasource", "DatasourceSynchronized"),
            ("GrafanaFolder", "FolderSynchronized"),
        )
    },
    ("serving.kserve.io", "InferenceService"): [
        ("ready", thing(conditions(("Ready", "True"))), [], READY, "is ready"),
        ("not ready", thing(conditions(("Ready", "False", {"reason": "NoPod", "message": "m"}))), [], WAITING, "NoPod: m"),
        ("ready for an older spec", thing(conditions(("Ready", "True"), observedGeneration=1), generation=2), [], WAITING, "is not ready"),
        ("ready for an older spec, said in the condition", thing(conditions(("Ready", "True", {"observedGeneration": 1})), 2), [], WAITING, ""),
        ("Ready comes before Available", thing(conditions(("Available", "True"), ("Ready", "False"))), [], WAITING, "is not ready"),
        ("Available", thing(conditions(("Available", "True"))), [], READY, "is ready"),
        ("Established", thing(conditions(("Established", "True"))), [], READY, "is ready"),
        ("no conditions yet", thing({}), [], WAITING, "has no condition Ready yet"),
        ("a kind with a status but without such conditions", thing({"count": 1}), [], READY, "exists"),
        ("a kind without status", thing(), [], READY, "exists"),
    ],
}
ROWS = [pytest.param(key, *row[1:], id=f"{key[1]} {row[0]}") for key, rows in TABLES.items() for row in rows]


def row(group, kind):
    return _readiness.Wanted(f"{group}/v1" if group else "v1", kind, "x", "demo").row


@pytest.mark.parametrize(("key", "item", "related", "phase", "words"), ROWS)
def test_predicates(key, item, related, phase, words):
    verdict = row(*key).predicate(item, related)
    assert words in verdict.text
    assert verdict.phase == phase
    assert phase == READY or verdict.cure, "nothing is said about what to do"
    assert phase != FAILING or verdict.cause


@pytest.mark.parametrize("key", [*_readiness.TABLE, ("example.com", "Anything")])
def test_every_predicate_accepts_none(key):
    verdict = row(*key).predicate(None, [])
    assert (verdict.phase, verdict.text) == (WAITING, "does not exist")


def test_every_row_of_the_table_is_tested():
    assert {key for key in _readiness.TABLE if key not in TABLES} == {("", "ConfigMap"), ("", "ServiceAccount")}
    assert all(_readiness.TABLE["", kind].predicate is _readiness.exists for kind in ("ConfigMap", "ServiceAccount"))


def test_what_passes_by_itself_has_a_grace():
    refused = _readiness.deployment(deployment(**conditions(("ReplicaFailure", "True", REFUSED))), [])
    wrong = row("tempo.grafana.com", "TempoStack").predicate(stack(("ConfigurationError", "True")), [])
    failed = _readiness.job(thing(conditions(("Failed", "True"))), [])
    assert (refused.grace, wrong.grace, failed.grace) == (60.0, 20.0, 0.0)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (pod(container(ready=True), ready="True"), ""),
        (pod(phase="Succeeded"), ""),
        (
            pod(container({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}, CRASHED, restarts=4)),
            "container c crashes (4 restarts, last exit code 1 Error: bucket does not exist); see its previous log",
        ),
        (
            pod(container({"running": {}}, {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, restarts=1)),
            "container c crashes (1 restarts, last exit code 137 OOMKilled); see its previous log",
        ),
        (pod(container({"running": {}}, CRASHED, ready=True, restarts=1)), "ContainersNotReady"),
        (
            pod(container({"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'}})),
            'container c waits, ImagePullBackOff: Back-off pulling image "x"',
        ),
        (pod(container({"waiting": {"reason": "ContainerCreating"}})), "ContainersNotReady"),
        (pod(container({"terminated": {"exitCode": 2, "reason": "Error"}})), "container c has ended with exit code 2 Error"),
        (pod(container({"terminated": {"exitCode": 0, "reason": "Completed"}})), "ContainersNotReady"),
        (pod(initContainerStatuses=[container({"waiting": {"reason": "ErrImagePull"}})]), "container c waits, ErrImagePull"),
        (
            thing(conditions(("PodScheduled", "False", {"reason": "Unschedulable", "message": "0/1 nodes are available"}))),
            "Unschedulable: 0/1 nodes are available",
        ),
        (thing({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"}), "Evicted: The node was low on memory"),
        (thing({}), "is not ready"),
    ],
)
def test_why_a_pod_does_not_run(item, said):
    assert _readiness.why_not_running(item) == said


def test_many_pods_are_not_all_told():
    pods = [pod(container({"waiting": {"reason": "ErrImagePull"}})) for _pod in range(5)]
    assert _readiness.pods_say(pods).endswith("; and 2 more")
    assert _readiness.pods_say([pod(ready="True"), *pods[:1]]) == "pod x: container c waits, ErrImagePull"
    assert _readiness.pods_say([]) == ""


@pytest.mark.parametrize(
    ("reason", "stuck"),
    [(None, False), ("ContainerCreating", False), ("PodInitializing", False), ("ImagePullBackOff", True), ("CrashLoopBackOff", True)],
)
def test_stuck(reason, stuck):
    state = {"waiting": {"reason": reason}} if reason else {"running": {}}
    assert _readiness.is_stuck(pod(container(state))) is stuck
    assert _readiness.is_stuck(pod(initContainerStatuses=[container(state)])) is stuck


class Kube:
    """Discovery and pods; counts the questions."""

    RESOURCES = {
        "/apis/apps/v1": [("deployments", "Deployment", True), ("deployments/scale", "Scale", True)],
        "/api/v1": [("secrets", "Secret", True), ("namespaces", "Namespace", False), ("services", "Service", True)],
        "/apis/tempo.grafana.com/v1alpha1": [("tempostacks/status", "TempoStack", True), ("tempostacks", "TempoStack", True)],
    }

    def __init__(self, pods=(), error=None):
        self.pods, self.error, self.asked = list(pods), error, []

    def get(self, path, what, **query):
        self.asked.append((path, query.get("labelSelector", "")))
        if path.endswith("/pods"):
            if self.error:
                raise self.error
            return {"items": self.pods}
        if path not in self.RESOURCES:
            raise KubeError("not found", status=404)
        return {"resources": [{"name": name, "kind": kind, "namespaced": scoped} for name, kind, scoped in self.RESOURCES[path]]}


class View:
    """Objects by the collection's path."""

    def __init__(self, **objects):
        self.objects, self.asked = objects, []

    def items(self, selection):
        self.asked.append(f"{selection.path} {selection.fields.removeprefix('metadata.name=')}{selection.labels}")
        return self.objects.get(selection.path.rpartition("/")[2], [])


def judged(view, *wanted, kube=None):
    return _readiness.Judge(kube or Kube(), wanted)(view)


STACK = _readiness.Wanted("tempo.grafana.com/v1alpha1", "TempoStack", "tempo", "demo")
SECRET = _readiness.Wanted("v1", "Secret", "s", "demo")


class TestJudge:
    def test_paths_come_from_discovery_once_per_version(self):
        kube, view = Kube(), View(secrets=[thing()])
        judge = _readiness.Judge(
            kube, [SECRET, _readiness.Wanted("v1", "Namespace", "demo"), _readiness.Wanted("apps/v1", "Deployment", "d", "demo")]
        )
        judge(view)
        judge(view)
        assert [path for path, _labels in kube.asked] == ["/api/v1", "/apis/apps/v1"]
        assert view.asked[:3] == ["/api/v1/namespaces/demo/secrets s", "/api/v1/namespaces demo", "/apis/apps/v1/namespaces/demo/deployments d"]

    def test_targets_are_named(self):
        states = judged(View(), SECRET, _readiness.Wanted("v1", "Namespace", "demo"))
        assert [state.target for state in states] == ["Secret demo/s", "Namespace demo"]

    def test_judged_with_what_it_owns(self):
        owned = {"ownerReferences": [{"uid": "uid-tempo"}]}
        good, bad = deployment(), deployment(available=0)
        mine = {**good, "metadata": {**good["metadata"], **owned}}
        others = {**bad, "metadata": {**bad["metadata"], "ownerReferences": [{"uid": "uid-another"}]}}
        del mine["kind"], others["kind"]  # as in a list
        tempo = stack(("Ready", "True"), name="tempo")
        assert judged(View(tempostacks=[tempo], deployments=[others, mine]), STACK)[0].phase == READY
        mine["status"] = bad["status"]
        assert judged(View(tempostacks=[tempo], deployments=[others, mine]), STACK)[0].text.startswith("Deployment x: 0 of 2")

    def test_nothing_else_is_asked_for_what_does_not_exist(self):
        view = View()
        assert judged(view, STACK)[0].text == "does not exist"
        assert view.asked == ["/apis/tempo.grafana.com/v1alpha1/namespaces/demo/tempostacks tempo"]

    def test_endpoints_are_selected_by_the_name_of_the_service(self):
        view = View(services=[thing(name="x", spec={"selector": {"a": "b"}})], endpointslices=[endpoints(True)])
        assert judged(view, _readiness.Wanted("v1", "Service", "x", "demo"))[0].phase == READY
        assert view.asked[-1] == "/apis/discovery.k8s.io/v1/namespaces/demo/endpointslices kubernetes.io/service-name=x"

    @pytest.mark.parametrize(
        ("wanted", "said"),
        [
            (_readiness.Wanted("v1", "Secret", "s"), "is namespaced; give its namespace"),
            (_readiness.Wanted("v1", "Sekret", "s", "demo"), "v1 has no kind Sekret"),
            (_readiness.Wanted("apps/v1", "Scale", "s", "demo"), "apps/v1 has no kind Scale"),
            (_readiness.Wanted("nope.example.com/v1", "Nope", "s", "demo"), "does not serve nope.example.com/v1"),
        ],
    )
    def test_what_cannot_be_asked_for(self, wanted, said):
        with pytest.raises(ModelMonitoringError, match=said):
            judged(View(), wanted)

    def test_at_a_glance_a_missing_api_is_only_a_reason_to_wait(self):
        judge = _readiness.Judge(Kube(), [_readiness.Wanted("nope.example.com/v1", "Nope", "n", "demo"), SECRET])
        states = judge.glance(View(secrets=[thing()]))
        assert [(state.phase, state.text) for state in states] == [(WAITING, "nope.example.com/v1 Nope is not served yet"), (READY, "exists")]


class TestDiagnosis:
    CRASHING = pod(container({"waiting": {"reason": "CrashLoopBackOff"}}, CRASHED, restarts=4))

    def diagnose(self, kube, wanted=STACK):
        workload = deployment(available=0)
        workload["metadata"]["ownerReferences"] = [{"uid": "uid-tempo"}]
        workload["spec"]["selector"] = {"matchLabels": {"app": "tempo", "tier": "x"}}
        view = View(tempostacks=[stack(("Ready", "True"), name="tempo")], deployments=[workload], secrets=[])
        judge = _readiness.Judge(kube, [wanted])
        return judge.diagnose(view, judge(view))[0]

    def test_pods_are_those_of_the_workloads(self):
        kube = Kube([self.CRASHING])
        state = self.diagnose(kube)
        assert kube.asked[-1] == ("/api/v1/namespaces/demo/pods", "app=tempo,tier=x")
        assert "0 of 2 replicas are available" in state.text
        assert "; pod x: container c crashes (4 restarts, last exit code 1 Error: bucket does not exist)" in state.text

    def test_pods_that_may_not_be_read_spoil_nothing(self):
        assert "pod" not in self.diagnose(Kube(error=KubeError("forbidden", status=403))).text

    def test_what_selects_no_pods_asks_for_none(self):
        kube = Kube([self.CRASHING])
        assert self.diagnose(kube, SECRET).text == "does not exist"
        assert not [path for path, _labels in kube.asked if path.endswith("/pods")]

    @pytest.mark.parametrize("spec", [{}, {"selector": {}}, {"selector": {"matchExpressions": [{"key": "a"}]}}, {"selector": "a=b"}])
    def test_no_selector_is_not_all_pods(self, spec):
        kube, view = Kube([self.CRASHING]), View(deployments=[thing(spec=spec)])
        judge = _readiness.Judge(kube, [_readiness.Wanted("apps/v1", "Deployment", "x", "demo")])
        assert "pod" not in judge.diagnose(view, judge(view))[0].text

    def test_what_is_ready_is_not_diagnosed(self):
        kube, view = Kube([self.CRASHING]), View(secrets=[thing(spec={"selector": {"a": "b"}})])
        judge = _readiness.Judge(kube, [SECRET])
        assert judge.diagnose(view, judge(view))[0].text == "exists"
