# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""trace_probe in a cluster where site.yml has run: parts of the chain are taken away, and the probe must name the hop.

KUBECONFIG names the cluster, MODEL_MONITORING_NAMESPACE the namespace if it is not the default. The operators are told to leave their
objects alone while a part is away (``managementState``), else they would bring it back at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time

import pytest
from kubernetes import client, config

MODULE = "ansible_collections.private_ai.model_monitoring.plugins.modules.trace_probe"
NAMESPACE = os.environ.get("MODEL_MONITORING_NAMESPACE", "private-ai-demo")
COLLECTOR = "otel-collector"
TEMPO = "tempo"
ENDPOINTS = {
    "otlp_grpc_endpoint": f"http://{COLLECTOR}-collector.{NAMESPACE}.svc:4317",
    "otlp_http_endpoint": f"http://{COLLECTOR}-collector.{NAMESPACE}.svc:4318",
    "collector_metrics_endpoint": f"http://{COLLECTOR}-collector-monitoring.{NAMESPACE}.svc:8888",
    "tempo_endpoint": f"http://tempo-{TEMPO}-query-frontend.{NAMESPACE}.svc:3200",
}
QUICK = {"send_timeout": 5, "timeout": 8, "search_timeout": 5}
STACK = ("tempo.grafana.com", "v1alpha1", "tempostacks", TEMPO)
OTEL = ("opentelemetry.io", "v1beta1", "opentelemetrycollectors", COLLECTOR)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> None:
    if not os.environ.get("KUBECONFIG"):
        pytest.fail("KUBECONFIG is not set: start the lab (make lab-up), run site.yml, and name its kubeconfig", pytrace=False)
    config.load_kube_config()


def probe(**arguments) -> dict:
    process = subprocess.run(
        [sys.executable, "-c", f"import runpy; runpy.run_module('{MODULE}', run_name='__main__')"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**ENDPOINTS, **arguments}}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "Traceback" not in process.stdout + process.stderr, process.stdout + process.stderr
    return json.loads(process.stdout)


def lost(hop: str, *words: str, **arguments) -> dict:
    """Run the probe and check that every trace was lost at this hop, and that the message has these words."""
    result = probe(**{**QUICK, **arguments})
    assert {proof["hop"] for proof in result["proofs"]} == {hop}, result
    for word in words:
        assert word in result["msg"], result["msg"]
    return result


def proven() -> None:
    result = probe()
    assert not result.get("failed"), result


@contextlib.contextmanager
def unmanaged(group: str, version: str, plural: str, name: str):
    """The operator leaves what it made for this object alone."""
    api = client.CustomObjectsApi()
    # TempoStack writes the states with a capital, OpenTelemetryCollector without.
    away, back = ("Unmanaged", "Managed") if plural == "tempostacks" else ("unmanaged", "managed")
    api.patch_namespaced_custom_object(group, version, NAMESPACE, plural, name, {"spec": {"managementState": away}})
    try:
        yield
    finally:
        api.patch_namespaced_custom_object(group, version, NAMESPACE, plural, name, {"spec": {"managementState": back}})


def until(condition, what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)


@contextlib.contextmanager
def scaled_away(owner: tuple, name: str, kind: str = "deployment"):
    """Without the pods of a Deployment or StatefulSet; they are Ready again afterwards."""
    apps, core = client.AppsV1Api(), client.CoreV1Api()
    read, scale = (getattr(apps, f"{verb}_namespaced_{kind}{more}") for verb, more in (("read", ""), ("patch", "_scale")))
    before = read(name, NAMESPACE)
    selector = ",".join(f"{key}={value}" for key, value in before.spec.selector.match_labels.items())
    assert before.spec.replicas > 0
    with unmanaged(*owner):
        try:
            scale(name, NAMESPACE, {"spec": {"replicas": 0}})
            until(lambda: not core.list_namespaced_pod(NAMESPACE, label_selector=selector).items, f"{name} scaled to 0")
            yield
        finally:
            scale(name, NAMESPACE, {"spec": {"replicas": before.spec.replicas}})
            until(lambda: read(name, NAMESPACE).status.ready_replicas == before.spec.replicas, f"{name} Ready again")


def test_all_is_well() -> None:
    proven()


def test_no_collector() -> None:
    with scaled_away(OTEL, f"{COLLECTOR}-collector"):
        lost("collector_unreachable", f"Service {COLLECTOR}-collector in namespace {NAMESPACE} has no pod behind it")
    proven()


def test_no_distributor() -> None:
    with scaled_away(STACK, f"tempo-{TEMPO}-distributor"):
        lost("collector_export", "exporter otlp", "Exporting failed")
    proven()


def test_no_ingester() -> None:
    """The distributor takes nothing that it cannot hand on, so it is the collector that cannot export."""
    with scaled_away(STACK, f"tempo-{TEMPO}-ingester", "stateful_set"):
        lost("collector_export", "exporter otlp")
    proven()


def test_no_query_frontend() -> None:
    with scaled_away(STACK, f"tempo-{TEMPO}-query-frontend"):
        lost("tempo_query", f"Service tempo-{TEMPO}-query-frontend in namespace {NAMESPACE}")
    proven()


def test_a_service_that_does_not_exist_or_has_no_such_port() -> None:
    lost("collector_unreachable", "does not exist", otlp_grpc_endpoint=f"http://nothing.{NAMESPACE}.svc:4317", protocols=["grpc"])
    lost("collector_unreachable", "no TCP port 4399", otlp_grpc_endpoint=ENDPOINTS["otlp_grpc_endpoint"].replace("4317", "4399"), protocols=["grpc"])


def test_a_query_frontend_that_is_replaced_meanwhile() -> None:
    """The port-forward is bound to a pod; the probe must find the next one."""
    core = client.CoreV1Api()
    selector = f"app.kubernetes.io/instance={TEMPO},app.kubernetes.io/component=query-frontend"
    pods = core.list_namespaced_pod(NAMESPACE, label_selector=selector).items
    assert pods
    running = subprocess.Popen(
        [sys.executable, "-c", f"import runpy; runpy.run_module('{MODULE}', run_name='__main__')"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdin
    running.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": {**ENDPOINTS, "timeout": 90, "search_timeout": 120}}))
    running.stdin.close()
    time.sleep(2)  # it has connected, and waits for the search
    for pod in pods:
        core.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=0)
    assert running.stdout
    result = json.loads(running.stdout.read())
    assert running.wait() == 0, result
    proven()
