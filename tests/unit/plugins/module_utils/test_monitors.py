# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What monitors select, and the targets that Prometheus makes of it."""

from __future__ import annotations

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _monitors as mon
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError

SERVICES = mon.Monitor("ServiceMonitor", "collector", "demo")
PODS = mon.Monitor("PodMonitor", "models", "demo")


def service(name: str, *ports: tuple[str, int], **labels: str) -> dict:
    spec = {"ports": [{"name": port, "port": number} for port, number in ports]}
    return {"metadata": {"name": name, "namespace": "demo", "labels": labels}, "spec": spec}


def pod(name: str, phase: str = "Running", **containers: int) -> dict:
    spec = {"containers": [{"name": container, "ports": [{"containerPort": number}]} for container, number in containers.items()]}
    return {"metadata": {"name": name, "namespace": "demo"}, "spec": spec, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({}, ""),
        ({"matchLabels": {"b": "2", "a": "1"}}, "a=1,b=2"),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "DoesNotExist"}]}, "a,!b"),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["x", "y"]}]}, "a in (x,y)"),
        ({"matchLabels": {"z": "1"}, "matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["x"]}]}, "z=1,a notin (x)"),
    ],
)
def test_a_selector_is_as_the_api_server_reads_it(selector, text) -> None:
    assert mon.label_selector(selector) == text


def test_each_service_with_the_port_is_a_target() -> None:
    spec = {"endpoints": [{"port": "prometheus"}, {"port": "monitoring"}]}
    found = mon.wanted(
        SERVICES, spec, [service("c", ("otlp", 4317), ("prometheus", 8889)), service("m", ("monitoring", 8888)), service("x", ("web", 80))]
    )
    assert found == [
        {"namespace": "demo", "service": "c", "endpoint": "prometheus", "job": "c"},
        {"namespace": "demo", "service": "m", "endpoint": "monitoring", "job": "m"},
    ]


def test_a_job_label_makes_the_job_unknown() -> None:
    (found,) = mon.wanted(SERVICES, {"endpoints": [{"port": "web"}], "jobLabel": "app"}, [service("c", ("web", 80))])
    assert "job" not in found


def test_a_target_port_may_be_any_of_a_services_ports() -> None:
    (found,) = mon.wanted(SERVICES, {"endpoints": [{"targetPort": 8889}]}, [service("c", ("a", 80), ("b", 81))])
    assert found == {"namespace": "demo", "service": "c", "endpoint": "8889", "job": "c"}


def test_each_pod_that_runs_and_declares_the_port_is_a_target() -> None:
    spec = {"podMetricsEndpoints": [{"portNumber": 8080}, {"portNumber": 8000}]}
    found = mon.wanted(PODS, spec, [pod("a", vllm=8000), pod("b", vllm=8080), pod("done", "Succeeded", vllm=8000), pod("other", web=80)])
    assert found == [{"namespace": "demo", "pod": name, "job": "demo/models"} for name in ("a", "b")]


def test_relabelings_that_keep_or_drop_by_name_are_followed() -> None:
    """As the monitors of Tempo (other Services have the same labels) and of models (their proxies have the same ports) do."""
    keep = {"action": "keep", "sourceLabels": ["__meta_kubernetes_service_name"], "regex": "tempo-a"}
    spec = {"endpoints": [{"port": "http", "relabelings": [{"targetLabel": "x", "replacement": "y"}, keep]}]}
    found = mon.wanted(SERVICES, spec, [service("tempo-a", ("http", 3200)), service("tempo-a-discovery", ("http", 3200))])
    assert [one["service"] for one in found] == ["tempo-a"]
    drop = {"action": "drop", "sourceLabels": ["__meta_kubernetes_pod_container_name"], "regex": "queue-proxy|istio-proxy"}
    spec = {"podMetricsEndpoints": [{"portNumber": 8000, "relabelings": [drop]}]}
    assert [one["pod"] for one in mon.wanted(PODS, spec, [pod("a", vllm=8000), pod("b", **{"queue-proxy": 8000})])] == ["a"]


def test_a_relabeling_by_what_is_not_known_here_keeps() -> None:
    drop = {"action": "drop", "sourceLabels": ["__meta_kubernetes_pod_node_name"], "regex": ".*"}
    assert mon.wanted(PODS, {"podMetricsEndpoints": [{"portNumber": 1, "relabelings": [drop]}]}, [pod("a", c=1)])


class Kube:
    """An API server: lists by path and selector, objects by path."""

    def __init__(self, **found) -> None:
        self.lists = found.get("lists", {})
        self.objects = found.get("objects", {})

    def get(self, path, what, **query):
        if path in self.objects:
            return self.objects[path]
        if path in self.lists:
            return {"items": self.lists[path].get(query.get("labelSelector", ""), [])}
        raise KubeError(f"Cannot {what}: not found", status=404)


PLACE = "/api/v1/namespaces/demo/services"
SPEC = {"selector": {"matchLabels": {"app": "c"}}, "endpoints": [{"port": "web"}]}


def selected(lists: dict, spec: dict = SPEC) -> mon.Selected:
    return mon.Monitors(Kube(lists=lists)).selected(SERVICES, spec)


def test_what_is_selected_has_no_trouble() -> None:
    found = selected({PLACE: {"app=c": [service("c", ("web", 80))]}})
    assert found.trouble == "" and len(found.wanted) == 1


def test_a_selector_that_selects_nothing_is_told_with_the_labels_that_exist() -> None:
    there = [service("c", ("web", 80), app="collector", tier="x"), service("d", ("web", 80))]
    found = selected({PLACE: {"": there}})
    assert found.wanted == ()
    assert found.trouble == "its selector app=c selects no Service in namespace demo; labels there: c: app=collector, tier=x; d: none"


def test_an_empty_namespace_is_told() -> None:
    assert "selects no Service in namespace demo, which has none" in selected({PLACE: {}}).trouble


def test_many_labels_are_cut() -> None:
    assert selected({PLACE: {"": [service(f"s{n}", app="x") for n in range(20)]}}).trouble.endswith("s7: app=x; and 12 more")


def test_a_port_that_does_not_exist_is_told_with_those_that_do() -> None:
    trouble = selected({PLACE: {"app=c": [service("c", ("http", 80), ("", 81))]}}).trouble
    assert "no port that it names (web)" in trouble and "c: http 80, unnamed 81" in trouble


def test_namespaces_of_the_monitor_are_looked_into() -> None:
    other = {**service("c", ("web", 80)), "metadata": {"name": "c", "namespace": "other"}}
    spec = {**SPEC, "namespaceSelector": {"matchNames": ["other"]}}
    assert [one["namespace"] for one in selected({"/api/v1/namespaces/other/services": {"app=c": [other]}}, spec).wanted] == ["other"]
    spec = {**SPEC, "namespaceSelector": {"any": True}}
    assert [one["namespace"] for one in selected({"/api/v1/services": {"app=c": [other]}}, spec).wanted] == ["other"]


def test_a_monitor_that_does_not_exist_is_none_and_a_refusal_is_an_error() -> None:
    assert mon.Monitors(Kube()).spec(SERVICES) is None
    path = "/apis/monitoring.coreos.com/v1/namespaces/demo/podmonitors/models"
    assert mon.Monitors(Kube(objects={path: {"spec": SPEC}})).spec(PODS) == SPEC

    class Refusing:
        def get(self, path, what, **query):
            raise KubeError("not allowed", status=403)

    with pytest.raises(KubeError):
        mon.Monitors(Refusing()).spec(SERVICES)
    assert mon.Monitors(Refusing()).left_out("demo") is False


def test_a_namespace_that_user_workload_monitoring_leaves_out_is_known() -> None:
    def left_out(labels) -> bool:
        return mon.Monitors(Kube(objects={"/api/v1/namespaces/demo": {"metadata": {"labels": labels}}})).left_out("demo")

    assert left_out({"openshift.io/user-monitoring": "false"})
    assert not left_out({"openshift.io/user-monitoring": "true"}) and not left_out(None)
