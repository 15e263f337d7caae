# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""When an object is ready: a table of pure predicates, one per kind.

A predicate takes the object (None when it does not exist) and the objects it is judged together with, and returns a
:class:`Verdict`. It asks nobody and knows no time. Related objects are needed where the object's own status does not tell the
truth: a TempoStack without a single pod calls itself Ready, and neither it nor an OpenTelemetryCollector says for which
generation its status holds; the rollout of the workloads does.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import Kube, KubeError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._resources import NotServed, Resources

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Object = Mapping[str, t.Any]
    Predicate = Callable[["Object | None", "Sequence[Object]"], "Verdict"]

#: Seconds that a refused pod (quota, admission) must last before it is a failure: admission webhooks come up late.
REFUSED_PODS_SECONDS = 60.0
#: Seconds that an operator must keep saying that the configuration is wrong: it may not have seen a Secret just created.
CONFIGURATION_SECONDS = 20.0
#: Seconds that a Grafana must keep refusing an object: it takes it once a folder, or Grafana's database, is there. Then it is tried again.
GRAFANA_REFUSES_SECONDS = 60.0
#: Seconds that a router must keep refusing a Route: another one with its host may just be on its way out.
ROUTE_REFUSED_SECONDS = 10.0


@dataclass(frozen=True)
class Verdict:
    """How far an object is; the fields are those of :class:`_wait.State`."""

    phase: str
    text: str
    cure: str = ""
    cause: str = ""
    grace: float = 0.0


@dataclass(frozen=True)
class Related:
    """Objects in the same namespace that a kind is judged together with: of a collection, and with that label or owned.

    ``{name}`` in ``labels`` stands for the object's name. Without labels they are those whose owner the object is.
    """

    kind: str
    collection: str
    labels: str = ""

    def of(self, item: Object, view: _wait.Viewer) -> list[Object]:
        """Those of one object. A list's items do not say their kind (a watch's do), so it is added; raises KubeError."""
        meta = item["metadata"]
        prefix, _slash, plural = self.collection.rpartition("/")
        path = f"{prefix}/namespaces/{meta.get('namespace', '')}/{plural}"
        found = view.items(_wait.Selection(path, labels=self.labels.format(name=meta["name"])))
        return [{**other, "kind": self.kind} for other in found if self.labels or _owns(item, other)]


@dataclass(frozen=True)
class Kind:
    """A row of the table: the predicate and what it is judged with."""

    predicate: Predicate
    related: tuple[Related, ...] = ()


def _ready(text: str = "is ready") -> Verdict:
    return Verdict(_wait.READY, text)


def _waiting(text: str, cure: str = "") -> Verdict:
    return Verdict(_wait.WAITING, text, cure)


MISSING = _waiting("does not exist", "Check its name and namespace, and whether what creates it has run")


def exists(item: Object | None, related: Sequence[Object]) -> Verdict:
    """Ready as soon as it is there (Secret, ConfigMap, ServiceAccount, Role, ...)."""
    return MISSING if item is None else _ready("exists")


def namespace(item: Object | None, related: Sequence[Object]) -> Verdict:
    """A Namespace that is not on its way out."""
    phase = _status(item).get("phase")
    if item is None:
        return MISSING
    return _ready() if phase == "Active" else _waiting(f"is {phase}", "Wait for its deletion to end, then create it again")


def deployment(item: Object | None, related: Sequence[Object]) -> Verdict:
    """Deployment, rolled out: every replica is of the present template and available, no old one is left."""
    if item is None:
        return MISSING
    status, wanted = _status(item), _replicas(item)
    refused = _condition(item, "ReplicaFailure")
    if refused.get("status") == "True":
        return _refused(refused)
    stalled = _condition(item, "Progressing")
    note = f" ({stalled.get('message')})" if stalled.get("reason") == "ProgressDeadlineExceeded" else ""
    counts = {name: status.get(name) or 0 for name in ("replicas", "updatedReplicas", "availableReplicas")}
    if not _observed(item) or counts != dict.fromkeys(counts, wanted):
        return _waiting(
            f"{counts['availableReplicas']} of {wanted} replicas are available, {counts['updatedReplicas']} are up to"
            f" date, {counts['replicas']} exist{note}",
            "Look at its pods",
        )
    return _ready(f"{wanted} of {wanted} replicas are available")


def stateful_set(item: Object | None, related: Sequence[Object]) -> Verdict:
    """StatefulSet, rolled out (pods below a rolling update's partition stay as they are)."""
    if item is None:
        return MISSING
    status, wanted = _status(item), _replicas(item)
    rolling = (item["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    to_update = max(0, wanted - (rolling.get("partition") or 0))
    updated = status.get("updatedReplicas") or 0
    if status.get("updateRevision") and status.get("updateRevision") == status.get("currentRevision"):
        updated = wanted
    ready, existing = status.get("readyReplicas") or 0, status.get("replicas") or 0
    if not _observed(item) or ready != wanted or existing != wanted or updated < to_update:
        return _waiting(f"{ready} of {wanted} replicas are ready, {updated} are up to date", "Look at its pods")
    return _ready(f"{wanted} of {wanted} replicas are ready")


def daemon_set(item: Object | None, related: Sequence[Object]) -> Verdict:
    """DaemonSet, rolled out on every node that it is scheduled on."""
    if item is None:
        return MISSING
    status = _status(item)
    wanted = status.get("desiredNumberScheduled") or 0
    available, updated = status.get("numberAvailable") or 0, status.get("updatedNumberScheduled") or 0
    if not _observed(item) or available != wanted or updated != wanted:
        return _waiting(f"{available} of {wanted} pods are available, {updated} are up to date", "Look at its pods")
    return _ready(f"{wanted} of {wanted} pods are available")


def job(item: Object | None, related: Sequence[Object]) -> Verdict:
    """Job, complete; a failed one never heals."""
    if item is None:
        return MISSING
    failed = _condition(item, "Failed")
    if failed.get("status") == "True":
        return Verdict(_wait.FAILING, _said(failed, "has failed"), "Look at the log of its pod", cause="failed")
    if _condition(item, "Complete").get("status") == "True":
        return _ready("is complete")
    return _waiting(f"{_status(item).get('active') or 0} pods are active", "Look at its pods")


def pod(item: Object | None, related: Sequence[Object]) -> Verdict:
    """Pod, ready or run to its end."""
    if item is None:
        return MISSING
    phase = _status(item).get("phase")
    if phase == "Succeeded":
        return _ready("has succeeded")
    if phase == "Failed":
        return Verdict(_wait.FAILING, f"has failed: {why_not_running(item)}", "Look at its log", cause="failed")
    if _condition(item, "Ready").get("status") == "True" and not item["metadata"].get("deletionTimestamp"):
        return _ready()
    return _waiting(why_not_running(item) or f"is {phase or 'not scheduled yet'}", "Look at its events and its log")


def service(item: Object | None, related: Sequence[Object]) -> Verdict:
    """Service with at least one ready endpoint."""
    if item is None:
        return MISSING
    endpoints = [endpoint for endpoint_slice in related for endpoint in endpoint_slice.get("endpoints") or []]
    ready = sum((endpoint.get("conditions") or {}).get("ready") is not False for endpoint in endpoints)
    if item["spec"].get("type") == "ExternalName" or ready:
        return _ready(f"has {ready} ready endpoints" if ready else "is an ExternalName")
    if not item["spec"].get("selector") and not endpoints:
        return _waiting("has no selector and no endpoints", "Create its EndpointSlice")
    return _waiting("has no ready endpoint", "Look at the pods that its selector names")


def volume_claim(item: Object | None, related: Sequence[Object]) -> Verdict:
    """PersistentVolumeClaim, bound."""
    if item is None:
        return MISSING
    phase = _status(item).get("phase")
    if phase == "Bound":
        return _ready("is bound")
    storage_class = item["spec"].get("storageClassName") or "the default class"
    return _waiting(f"is {phase or 'not seen yet'}", f"Check that {storage_class} exists and has room; see its events")


def route(item: Object | None, related: Sequence[Object]) -> Verdict:
    """OpenShift Route, admitted by a router."""
    if item is None:
        return MISSING
    admitted = [
        condition
        for ingress in _status(item).get("ingress") or []
        for condition in ingress.get("conditions") or []
        if condition.get("type") == "Admitted"
    ]
    if any(condition.get("status") == "True" for condition in admitted):
        return _ready("is admitted")
    if admitted and admitted[0].get("reason") in ("HostAlreadyClaimed", "ExtendedValidationFailed"):
        return Verdict(
            _wait.FAILING,
            _said(admitted[0], "is refused by the router"),
            "Choose another host, or remove the Route that has it; correct the certificate where the message is about one",
            cause="refused",
            grace=ROUTE_REFUSED_SECONDS,
        )
    return _waiting(_said(admitted[0] if admitted else {}, "is not admitted by a router"), "Check its host")


def conditions(item: Object | None, related: Sequence[Object]) -> Verdict:
    """Any other kind: its condition Ready (or Available, or Established), for this generation where it says so.

    A kind that has no such condition is ready when it exists; one that has an empty status is not.
    """
    if item is None:
        return MISSING
    if "status" not in item:
        return exists(item, related)
    for name in ("Ready", "Available", "Established"):
        condition = _condition(item, name)
        if condition:
            if condition.get("status") == "True" and _observed(item, condition):
                return _ready(_said(condition, "is ready"))
            return _waiting(_said(condition, "is not ready"), "Look at the operator's log")
    return _waiting("has no condition Ready yet", "Look at the operator's log") if not _status(item) else exists(item, related)


def tempo(components: Sequence[str]) -> Predicate:
    """TempoStack or TempoMonolithic with these status components: condition Ready, pods that exist, workloads rolled out."""

    def predicate(item: Object | None, related: Sequence[Object]) -> Verdict:
        if item is None:
            return MISSING
        wrong = _condition(item, "ConfigurationError")
        if wrong.get("status") == "True":
            return Verdict(
                _wait.FAILING,
                _said(wrong, "has a configuration error"),
                "Correct the spec or the storage Secret (exactly bucket, endpoint, access_key_id, access_key_secret)",
                cause="configuration",
                grace=CONFIGURATION_SECONDS,
            )
        for name in ("Failed", "Pending"):
            condition = _condition(item, name)
            if condition.get("status") == "True":
                return _waiting(_said(condition, f"is {name.lower()}") + _components(item), "Look at its pods")
        ready = _condition(item, "Ready")
        if ready.get("status") != "True" or not _observed(item, ready):
            return _waiting("its operator has not reported on it yet", "Look at the tempo-operator's log")
        lacking = [name for name in components if not (_status(item).get("components") or {}).get(name)]
        if lacking:
            return _waiting(f"has no pod yet for {', '.join(lacking)}", "Look at its pods")
        return _rolled_out(related, "tempo-operator")

    return predicate


def collector(item: Object | None, related: Sequence[Object]) -> Verdict:
    """OpenTelemetryCollector: its workload rolled out (a sidecar has none)."""
    if item is None:
        return MISSING
    if item["spec"].get("mode") == "sidecar":
        return _ready("is a sidecar")
    if not _status(item).get("version"):
        return _waiting("its operator has not reported on it yet", "Look at the opentelemetry-operator's log")
    return _rolled_out(related, "opentelemetry-operator")


def grafana(item: Object | None, related: Sequence[Object]) -> Verdict:
    """Grafana: its operator has gone through all stages, and the server that it made is rolled out (one elsewhere has none)."""
    if item is None:
        return MISSING
    status = _status(item)
    stage, result = status.get("stage"), status.get("stageStatus")
    if not stage:
        return _waiting("its operator has not reported on it yet", "Look at the grafana-operator's log")
    if not item["spec"].get("external"):
        # Its status does not say which generation it is of; the annotations that its pods are to have do.
        wanted = _annotations(((item["spec"].get("deployment") or {}).get("spec") or {}).get("template"))
        if not all(wanted.items() <= _annotations(workload["spec"].get("template")).items() for workload in related):
            return _waiting("its operator has not changed its Deployment yet", "Look at the grafana-operator's log")
        verdict = _rolled_out(related, "grafana-operator")
        if verdict.phase != _wait.READY:
            return verdict
    if (stage, result) != ("complete", "success"):
        said = _short(status.get("lastMessage") or "")
        return _waiting(f"its operator is at stage {stage}{f': {said}' if said else ''}", "Look at the grafana-operator's log")
    return _ready(f"Grafana {status.get('version') or ''} answers its operator".replace("  ", " "))


def grafana_content(synchronized: str) -> Predicate:
    """What Grafana is given (data source, folder, dashboard), by the type of the condition that tells of it: all instances have taken it."""

    def predicate(item: Object | None, related: Sequence[Object]) -> Verdict:
        if item is None:
            return MISSING
        for name, cure, grace in (
            ("InvalidSpec", "Correct what the message names in its spec, or the Secret or ConfigMap that it refers to", CONFIGURATION_SECONDS),
            ("NoMatchingFolder", "Create the GrafanaFolder, or correct folderRef", CONFIGURATION_SECONDS),
        ):
            wrong = _condition(item, name)
            if wrong.get("status") == "True" and _observed(item, wrong):
                return Verdict(_wait.FAILING, _said(wrong, f"has the condition {name}"), cure, cause=name, grace=grace)
        nowhere = _condition(item, "NoMatchingInstance")
        if nowhere.get("status") == "True":
            return _waiting(_said(nowhere, "no Grafana takes it"), "Wait for the Grafana, or correct spec.instanceSelector")
        condition = _condition(item, synchronized)
        if not condition or not _observed(item, condition):
            return _waiting("its operator has not reported on it yet", "Look at the grafana-operator's log")
        if condition.get("status") != "True":
            return Verdict(
                _wait.FAILING,
                _said(condition, "Grafana has not taken it"),
                "Correct what Grafana says; a 401 means that the admin password in its Secret is not Grafana's",
                cause="refused",
                grace=GRAFANA_REFUSES_SECONDS,
            )
        return _ready("Grafana has it")

    return predicate


def _annotations(item: Object | None) -> Mapping[str, str]:
    return ((item or {}).get("metadata") or {}).get("annotations") or {}


def _rolled_out(workloads: Sequence[Object], operator: str) -> Verdict:
    """All workloads of an operand are rolled out, and there is at least one."""
    if not workloads:
        return _waiting("has no Deployment or StatefulSet yet", f"Look at the {operator}'s log")
    for workload in sorted(workloads, key=lambda item: item["metadata"]["name"]):
        verdict = _WORKLOADS[workload["kind"]](workload, ())
        if verdict.phase != _wait.READY:
            text = f"{workload['kind']} {workload['metadata']['name']}: {verdict.text}"
            return Verdict(verdict.phase, text, verdict.cure, verdict.cause, verdict.grace)
    return _ready("all components are rolled out")


_WORKLOADS: dict[str, Predicate] = {"Deployment": deployment, "StatefulSet": stateful_set, "DaemonSet": daemon_set}
_DEPLOYMENTS = Related("Deployment", "/apis/apps/v1/deployments")
_STATEFUL_SETS = Related("StatefulSet", "/apis/apps/v1/statefulsets")
_DAEMON_SETS = Related("DaemonSet", "/apis/apps/v1/daemonsets")
_ENDPOINT_SLICES = Related("EndpointSlice", "/apis/discovery.k8s.io/v1/endpointslices", "kubernetes.io/service-name={name}")

#: (API group, kind) -> row. Any other kind is judged by :func:`conditions`.
TABLE: dict[tuple[str, str], Kind] = {
    ("", "ConfigMap"): Kind(exists),
    ("", "Namespace"): Kind(namespace),
    ("", "PersistentVolumeClaim"): Kind(volume_claim),
    ("", "Pod"): Kind(pod),
    ("", "Secret"): Kind(exists),
    ("", "Service"): Kind(service, (_ENDPOINT_SLICES,)),
    ("", "ServiceAccount"): Kind(exists),
    ("apps", "DaemonSet"): Kind(daemon_set),
    ("apps", "Deployment"): Kind(deployment),
    ("apps", "StatefulSet"): Kind(stateful_set),
    ("batch", "Job"): Kind(job),
    ("grafana.integreatly.org", "Grafana"): Kind(grafana, (_DEPLOYMENTS,)),
    ("grafana.integreatly.org", "GrafanaDashboard"): Kind(grafana_content("DashboardSynchronized")),
    ("grafana.integreatly.org", "GrafanaDatasource"): Kind(grafana_content("DatasourceSynchronized")),
    ("grafana.integreatly.org", "GrafanaFolder"): Kind(grafana_content("FolderSynchronized")),
    ("opentelemetry.io", "OpenTelemetryCollector"): Kind(collector, (_DEPLOYMENTS, _STATEFUL_SETS, _DAEMON_SETS)),
    ("route.openshift.io", "Route"): Kind(route),
    ("tempo.grafana.com", "TempoMonolithic"): Kind(tempo(["tempo"]), (_STATEFUL_SETS,)),
    ("tempo.grafana.com", "TempoStack"): Kind(tempo(["distributor", "ingester", "querier", "queryFrontend"]), (_DEPLOYMENTS, _STATEFUL_SETS)),
}


@dataclass(frozen=True)
class Wanted:
    """A resource to wait for. ``namespace`` is empty for what has none."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""

    @property
    def group(self) -> str:
        """The API group, empty for the core one."""
        return self.api_version.rpartition("/")[0]

    @property
    def row(self) -> Kind:
        """Its row of the table."""
        return TABLE.get((self.group, self.kind), Kind(conditions))

    @property
    def target(self) -> str:
        """The name in messages and results."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Judge:
    """The judge for :func:`_wait.wait_for` over any mixture of kinds."""

    def __init__(self, kube: Kube, wanted: Sequence[Wanted]) -> None:
        self._kube = kube
        self._wanted = wanted
        self._resources = Resources(kube)

    def __call__(self, view: _wait.Viewer) -> list[_wait.State]:
        """All targets' states; raises ModelMonitoringError."""
        return [self._state(view, item) for item in self._wanted]

    def glance(self, view: _wait.Viewer) -> list[_wait.State]:
        """All targets' states where an API that is not served is no error but a reason to wait (check mode)."""
        states = []
        for item in self._wanted:
            try:
                states.append(self._state(view, item))
            except NotServed:
                states.append(_wait.State(item.target, _wait.WAITING, f"{item.api_version} {item.kind} is not served yet"))
        return states

    def diagnose(self, view: _wait.Viewer, states: Sequence[_wait.State]) -> list[_wait.State]:
        """The states with what the pods say, for what is late. Not being allowed to read pods is no error."""
        targets = {item.target: item for item in self._wanted}
        return [state if state.phase == _wait.READY else _wait.with_text(state, self._pods_say(view, targets[state.target])) for state in states]

    def _state(self, view: _wait.Viewer, item: Wanted) -> _wait.State:
        found, related = self._objects(view, item)
        verdict = item.row.predicate(found, related)
        return _wait.State(item.target, verdict.phase, verdict.text, verdict.cure, verdict.cause, verdict.grace)

    def _objects(self, view: _wait.Viewer, item: Wanted) -> tuple[Object | None, list[Object]]:
        """The object and those it is judged with; raises ModelMonitoringError."""
        path = self._resources.collection(item.api_version, item.kind, item.namespace, item.target)
        found = _wait.first(view.items(_wait.Selection.named(path, item.name)))
        return found, [other for part in item.row.related for other in part.of(found, view)] if found else []

    def _pods_say(self, view: _wait.Viewer, item: Wanted) -> str:
        """Why the pods of a late target do not run, empty when that cannot be told."""
        try:
            found, related = self._objects(view, item)
            pods = [] if found is None else [pod for other in (found, *related) for pod in self._pods(item.namespace, other)]
        except KubeError:
            return ""
        return pods_say(pods)

    def _pods(self, namespace: str, item: Object) -> list[Object]:
        """The pods that an object selects; none for kinds that select none. Raises KubeError."""
        selector = (item.get("spec") or {}).get("selector")
        labels = selector.get("matchLabels", selector) if isinstance(selector, dict) else {}
        if not labels or not all(isinstance(value, str) for value in labels.values()):
            return []
        query = ",".join(f"{name}={value}" for name, value in labels.items())
        return self._kube.get(f"/api/v1/namespaces/{namespace}/pods", "list pods", labelSelector=query).get("items") or []


def pods_say(pods: Iterable[Object]) -> str:
    """Why pods do not run, one clause per pod that does not; at most three."""
    said = [f"pod {item['metadata']['name']}: {reason}" for item in pods if (reason := why_not_running(item))]
    return "; ".join(said[:3]) + (f"; and {len(said) - 3} more" if len(said) > 3 else "")


def why_not_running(item: Object) -> str:
    """Why a pod is not ready, in the words of the kubelet or the scheduler; empty when it is."""
    status = _status(item)
    ready = _condition(item, "Ready")
    if ready.get("status") == "True" or status.get("phase") == "Succeeded":
        return ""
    for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        waiting = (container.get("state") or {}).get("waiting") or {}
        ended = (container.get("state") or {}).get("terminated") or {}
        before = (container.get("lastState") or {}).get("terminated") or {}
        name = f"container {container['name']}"
        if waiting.get("reason") == "CrashLoopBackOff" or (before and not ended and not container.get("ready")):
            code, reason = before.get("exitCode"), before.get("reason") or "Error"
            message = f": {_short(before['message'])}" if before.get("message") else ""
            return f"{name} crashes ({container.get('restartCount') or 0} restarts, last exit code {code} {reason}{message}); see its previous log"
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{name} waits, {_said(waiting, '')}"
        if ended and ended.get("exitCode"):
            return f"{name} has ended with exit code {ended['exitCode']} {ended.get('reason', '')}".rstrip()
    scheduled = _condition(item, "PodScheduled")
    if scheduled.get("status") == "False":
        return _said(scheduled, "is not scheduled")
    return _said(status if status.get("reason") else ready, "is not ready")


def is_stuck(item: Object) -> bool:
    """Whether a container of a pod waits for something that seldom comes by itself: an image, its configuration, its program."""
    containers = (_status(item).get("initContainerStatuses") or []) + (_status(item).get("containerStatuses") or [])
    waiting = [((container.get("state") or {}).get("waiting") or {}).get("reason") for container in containers]
    return any(reason not in (None, "ContainerCreating", "PodInitializing") for reason in waiting)


def _owns(item: Object, other: Object) -> bool:
    """Whether ``other`` names ``item`` as an owner."""
    owners = other["metadata"].get("ownerReferences") or []
    return any(owner.get("uid") == item["metadata"].get("uid") for owner in owners)


def _status(item: Object | None) -> Mapping[str, t.Any]:
    return (item or {}).get("status") or {}


def _condition(item: Object | None, name: str) -> Mapping[str, t.Any]:
    """The condition of that type, empty when there is none."""
    found = (condition for condition in _status(item).get("conditions") or [] if condition.get("type") == name)
    return next(found, {})


def _observed(item: Object, condition: Mapping[str, t.Any] | None = None) -> bool:
    """Whether the status is about the present generation. Silence counts as yes: many kinds do not say it."""
    generation = item["metadata"].get("generation")
    seen = (condition or {}).get("observedGeneration") or _status(item).get("observedGeneration")
    return generation is None or seen is None or seen >= generation


def _replicas(item: Object) -> int:
    """The wanted replicas; not given means one."""
    replicas = item["spec"].get("replicas")
    return 1 if replicas is None else replicas


def _refused(condition: Mapping[str, t.Any]) -> Verdict:
    return Verdict(
        _wait.FAILING,
        _said(condition, "its pods are refused"),
        "Correct what the message names (quota, security policy, service account, admission webhook)",
        cause="refused",
        grace=REFUSED_PODS_SECONDS,
    )


def _components(item: Object) -> str:
    """Which components of a Tempo stack have pods that are not ready."""
    components = _status(item).get("components") or {}
    late = [
        f"{name} {phase.lower()}"
        for name, phases in sorted(components.items())
        for phase, pods in sorted((phases or {}).items())
        if pods and phase != "Ready"
    ]
    return f": {', '.join(late)}" if late else ""


def _said(condition: Mapping[str, t.Any], otherwise: str) -> str:
    """``Reason: message`` of a condition, or other words when it has neither."""
    parts = [str(condition[key]) for key in ("reason", "message") if condition.get(key)]
    return _short(": ".join(parts)) or otherwise


def _short(text: str, most: int = 400) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
