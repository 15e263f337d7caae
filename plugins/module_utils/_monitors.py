# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What a ServiceMonitor or PodMonitor selects, and the labels of the scrape targets that Prometheus makes of it.

The rules are the prometheus-operator's: every selected Service or Pod that has an endpoint's port, and that the endpoint's relabelings do
not drop, becomes a target with the labels ``namespace``, ``service`` or ``pod``, ``endpoint`` and, unless ``jobLabel`` says otherwise, ``job``.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import Kube, KubeError

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Object = dict[str, t.Any]

API = "/apis/monitoring.coreos.com/v1"
MOST_TOLD = 8
"""Of so many objects a message tells the labels."""

PLURALS = {"ServiceMonitor": "servicemonitors", "PodMonitor": "podmonitors"}


@dataclass(frozen=True)
class Monitor:
    """A monitor to look for. ``required``: whether it has to select something."""

    kind: str
    name: str
    namespace: str
    required: bool = True

    def __str__(self) -> str:
        return f"{self.kind} {self.name} in namespace {self.namespace}"

    @property
    def selects(self) -> str:
        """The kind of what it selects."""
        return "Service" if self.kind == "ServiceMonitor" else "Pod"


@dataclass(frozen=True)
class Selected:
    """What a monitor selects now.

    ``wanted``: for each target that there must be, its labels in Prometheus. ``trouble``: why there is none, in words, empty when there is.
    """

    wanted: Sequence[Mapping[str, str]] = ()
    trouble: str = ""


def label_selector(selector: Mapping[str, t.Any]) -> str:
    """A LabelSelector as the query parameter ``labelSelector``."""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for one in selector.get("matchExpressions") or []:
        key, values = one["key"], ",".join(one.get("values") or [])
        parts.append({"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key, "DoesNotExist": f"!{key}"}[one["operator"]])
    return ",".join(parts)


def namespaces(monitor: Monitor, spec: Mapping[str, t.Any]) -> list[str]:
    """The namespaces that it selects in; empty for all."""
    selector = spec.get("namespaceSelector") or {}
    return [] if selector.get("any") else list(selector.get("matchNames") or [monitor.namespace])


def wanted(monitor: Monitor, spec: Mapping[str, t.Any], objects: Sequence[Object]) -> list[dict[str, str]]:
    """The labels of the targets that a monitor makes of the objects it selects.

    :param spec: of the monitor.
    :param objects: Services of a ServiceMonitor, Pods of a PodMonitor. Pods that have ended are passed over, as Prometheus does.
    """
    found: list[dict[str, str]] = []
    for one in objects:
        if (one.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            continue
        for port in ports(one):
            for end in endpoints(monitor, spec):
                if not (_is_of(end, port) and _kept(end.get("relabelings") or [], _discovered(monitor, one, port))):
                    continue
                labels = {"namespace": one["metadata"]["namespace"], monitor.selects.lower(): one["metadata"]["name"]}
                if end.get("port") or end.get("targetPort"):
                    labels["endpoint"] = str(end.get("port") or end["targetPort"])
                if not spec.get("jobLabel"):
                    labels["job"] = one["metadata"]["name"] if monitor.kind == "ServiceMonitor" else f"{monitor.namespace}/{monitor.name}"
                if labels not in found:
                    found.append(labels)
    return found


def endpoints(monitor: Monitor, spec: Mapping[str, t.Any]) -> Sequence[Mapping[str, t.Any]]:
    """The endpoints that a monitor names."""
    return spec.get("endpoints" if monitor.kind == "ServiceMonitor" else "podMetricsEndpoints") or []


class Port(t.NamedTuple):
    """A port of a Service, or of a container of a Pod (which has a name then)."""

    name: str
    number: str
    container: str = ""

    def __str__(self) -> str:
        return f"{self.name or 'unnamed'} {self.number}"


def ports(item: Object) -> list[Port]:
    """The ports of a Service or Pod."""
    spec = item.get("spec") or {}
    if "containers" not in spec:
        return [Port(one.get("name") or "", str(one["port"])) for one in spec.get("ports") or []]
    sidecars = [one for one in spec.get("initContainers") or [] if one.get("restartPolicy") == "Always"]
    return [
        Port(one.get("name") or "", str(one["containerPort"]), container["name"])
        for container in [*spec["containers"], *sidecars]
        for one in container.get("ports") or []
    ]


def _is_of(end: Mapping[str, t.Any], port: Port) -> bool:
    """Whether a port is the endpoint's. What a Service's targetPort is in its pods is not known here."""
    if end.get("port"):
        return end["port"] == port.name
    if end.get("portNumber"):
        return str(end["portNumber"]) == port.number
    return True


def _discovered(monitor: Monitor, item: Object, port: Port) -> dict[str, str]:
    """Those labels of Prometheus' discovery by which monitors keep or drop targets."""
    what = f"__meta_kubernetes_{monitor.selects.lower()}"
    meta = item["metadata"]
    own = {f"{what}_label_{re.sub(r'[^a-zA-Z0-9_]', '_', key)}": value for key, value in (meta.get("labels") or {}).items()}
    container = {f"{what}_container_name": port.container, f"{what}_container_port_name": port.name, f"{what}_container_port_number": port.number}
    return {**own, "__meta_kubernetes_namespace": meta["namespace"], f"{what}_name": meta["name"], **(container if port.container else {})}


def _kept(relabelings: Sequence[Mapping[str, t.Any]], discovered: Mapping[str, str]) -> bool:
    """Whether a target survives those relabelings that keep or drop by labels which are known here."""
    for rule in relabelings:
        action, sources = (rule.get("action") or "").lower(), rule.get("sourceLabels") or []
        if action in ("keep", "drop") and all(one in discovered for one in sources):
            value = (rule.get("separator") or ";").join(discovered[one] for one in sources)
            if bool(re.fullmatch(rule.get("regex") or "(.*)", value)) != (action == "keep"):
                return False
    return True


def existing_labels(objects: Sequence[Object]) -> str:
    """The labels of objects, in words: ``a: app=x, tier=y; b: none``."""
    told = [
        f"{one['metadata']['name']}: {', '.join(f'{key}={value}' for key, value in sorted((one['metadata'].get('labels') or {}).items())) or 'none'}"
        for one in objects[:MOST_TOLD]
    ]
    return "; ".join([*told, *([f"and {len(objects) - MOST_TOLD} more"] if len(objects) > MOST_TOLD else [])])


class Monitors:
    """Reads monitors and what they select.

    Verbs that it needs: ``get`` on servicemonitors and podmonitors (monitoring.coreos.com), ``list`` on services and pods in the namespaces
    that they select in, ``get`` on namespaces (only for a better message).
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    def spec(self, monitor: Monitor) -> Mapping[str, t.Any] | None:
        """The monitor's spec, None when there is no such monitor. Raises KubeError."""
        try:
            return self._kube.get(f"{API}/namespaces/{monitor.namespace}/{PLURALS[monitor.kind]}/{monitor.name}", f"get {monitor}").get("spec") or {}
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    def selected(self, monitor: Monitor, spec: Mapping[str, t.Any]) -> Selected:
        """What it selects now. Raises KubeError."""
        plural = f"{monitor.selects.lower()}s"
        within = namespaces(monitor, spec)
        selector = label_selector(spec.get("selector") or {})
        objects = [one for place in within or [""] for one in self._list(plural, place, selector)]
        labels = wanted(monitor, spec, objects)
        if labels:
            return Selected(labels)
        if objects:
            named = ", ".join(str(end.get("port") or end.get("portNumber") or end.get("targetPort")) for end in endpoints(monitor, spec)) or "none"
            there = "; ".join(f"{one['metadata']['name']}: {', '.join(map(str, ports(one))) or 'none'}" for one in objects[:MOST_TOLD])
            return Selected(
                trouble=f"the {monitor.selects}s that it selects have no port that it names ({named}), or have ended; their ports are {there}"
            )
        where = f"namespace {', '.join(within)}" if within else "any namespace"
        there = existing_labels([one for place in within for one in self._list(plural, place, "")])
        trouble = f"its selector {selector or '(everything)'} selects no {monitor.selects} in {where}"
        return Selected(trouble=f"{trouble}; labels there: {there}" if there else f"{trouble}, which has none" if within else trouble)

    def left_out(self, namespace: str) -> bool:
        """Whether OpenShift's user workload monitoring passes a namespace over. False also when that cannot be read."""
        try:
            found = self._kube.get(f"/api/v1/namespaces/{namespace}", f"get namespace {namespace}")
        except KubeError:  # it only makes a message better
            return False
        return (found["metadata"].get("labels") or {}).get("openshift.io/user-monitoring") == "false"

    def _list(self, plural: str, namespace: str, selector: str) -> list[Object]:
        path = f"/api/v1/namespaces/{namespace}/{plural}" if namespace else f"/api/v1/{plural}"
        query = {"labelSelector": selector} if selector else {}
        return self._kube.get(path, f"list {plural} {f'in namespace {namespace}' if namespace else 'in all namespaces'}", **query).get("items") or []
