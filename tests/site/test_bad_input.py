# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Bad input: one message that names variable or object and cure, and nothing is touched."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
from pathlib import Path

import kubernetes
import pytest

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = str(ROOT / "molecule" / "grafana" / "files" / "probe.json")

#: What is in the way of this process' runs; another process may test at the same time.
IN_THE_WAY = f"site-test-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"

OPERATOR = {"name": "tempo", "package": "tempo-operator", "namespace": "tempo-operator"}


def variables(**values) -> tuple[str, str]:
    return "--extra-vars", json.dumps(values)


ROWS = {
    "no credentials": ((), {"MINIO_ACCESS_KEY": None}, "MINIO_ACCESS_KEY is neither in the environment nor in .*: export MINIO_ACCESS_KEY, or write"),
    "wrong secret key": ((), {"MINIO_SECRET_KEY": "wrong"}, "secret_key.*http://minio.model-storage.svc:9000"),
    "endpoint without scheme": (variables(tempo_storage_endpoint="minio.model-storage.svc:9000"), {}, "endpoint.*http"),
    "unknown channel": (
        variables(operators_channel="nope"),
        {},
        "package tempo-operator of CatalogSource olm/lab-catalog has no channel nope. Correct channel; there is stable",
    ),
    "unknown package": (
        variables(operators_list=[{**OPERATOR, "package": "tempo-operater"}]),
        {},
        "CatalogSource olm/lab-catalog has no package tempo-operater. Correct package; there is tempo-operator",
    ),
    "no such catalog": (variables(operators_source="nope"), {}, "CatalogSource olm/nope does not exist. Correct source"),
    "mistyped variable": (
        variables(tempo_storage_bukcet="a"),
        {},
        "Role tempo_storage has no variable tempo_storage_bukcet: did you mean tempo_storage_bucket?",
    ),
    "mistyped variable, one role only": (
        ("--tags=tempo_storage", *variables(tempo_storage_bukcet="a")),
        {},
        "Role tempo_storage has no variable tempo_storage_bukcet: did you mean tempo_storage_bucket?",
    ),
    "mistyped key": (variables(operators_list=[{**OPERATOR, "chanel": "stable"}]), {}, "chanel"),
    "bucket name": (variables(tempo_storage_bucket="Tempo_Bucket"), {}, "Tempo_Bucket.*lower-case"),
    "retention": (variables(tempo_storage_retention="2 days"), {}, "tempo_storage_retention: '2 days' is no duration. Give hours"),
    "no limit": (variables(otel_collector_resources={}), {}, "otel_collector_resources has no limits.memory. Give one"),
    "no pod": (
        ("--tags=otel_collector", *variables(otel_collector_replicas=0)),
        {},
        "otel_collector_replicas: 0 pods take no traces. Give 1 or more.",
    ),
    "token in the open": (
        (
            "--tags=otel_collector",
            *variables(
                otel_collector_exporters={"otlphttp/a": {"endpoint": "https://a.example.com", "headers": {"Authorization": "Bearer t0ken"}}},
                otel_collector_traces_exporters=["otlphttp/a"],
            ),
        ),
        {},
        "have Authorization in the clear.*Put the value into the Secret",
    ),
    "Secret that is not there": (
        ("--tags=otel_collector", *variables(otel_collector_secret="nope")),
        {},
        "Secret private-ai-demo/nope does not exist. Add what",
    ),
    "no duration": (
        ("--tags=metrics", *variables(metrics_alert_for="5 minutes")),
        {},
        "metrics_alert_for: '5 minutes' is no duration of Prometheus. Give it without spaces, as 5m",
    ),
    "no window": (("--tags=metrics", *variables(metrics_rate_window="0s")), {}, "metrics_rate_window: '0s' is no duration"),
    "more than all requests": (
        ("--tags=metrics", *variables(metrics_error_ratio=5)),
        {},
        "metrics_error_ratio: 5 is no share of requests. Give a number between 0 and 1",
    ),
    "no namespace of models": (
        ("--tags=metrics", *variables(metrics_model_namespaces=["nowhere"])),
        {},
        "Namespace nowhere does not exist. Correct metrics_model_namespaces",
    ),
    "mistyped variable of metrics": (
        ("--tags=metrics", *variables(metrics_tftt_objective=1)),
        {},
        "Role metrics has no variable metrics_tftt_objective: did you mean metrics_ttft_objective?",
    ),
    "no Service of that Prometheus": (
        ("--tags=verify", *variables(verify_prometheus_endpoint="http://prometheus.nowhere.svc:9090")),
        {},
        "Service prometheus in namespace nowhere does not exist: correct the host in the URL",
    ),
    "no Prometheus there": (
        ("--tags=verify", *variables(verify_prometheus_endpoint="http://127.0.0.1:1")),
        {},
        "Prometheus is not reachable at http://127.0.0.1:1: .*refused.*prometheus_endpoint names its Service and port",
    ),
    "something else than Prometheus": (
        ("--tags=verify", *variables(verify_prometheus_endpoint="http://minio.model-storage.svc:9000")),
        {},
        "Prometheus.*prometheus_endpoint",
    ),
    "a model that does not exist": (
        ("--tags=verify", *variables(verify_models=[{"name": "mistral-25b", "namespace": "private-ai-demo"}])),
        {},
        "InferenceService private-ai-demo/mistral-25b",
    ),
    "Prometheus that is not there": (
        ("--tags=grafana", *variables(grafana_prometheus_url="http://prometheus.nowhere.svc:9090", grafana_prometheus_token=False)),
        {},
        "Prometheus is not reachable at http://prometheus.nowhere.svc:9090.*Service prometheus in namespace nowhere",
    ),
    "no Prometheus": (
        ("--tags=grafana", *variables(grafana_prometheus_url="http://minio.model-storage.svc:9000", grafana_prometheus_token=False)),
        {},
        "Prometheus.*prometheus_endpoint",
    ),
    "authorities that Prometheus' certificate is not of": (
        ("--tags=grafana", *variables(grafana_ca_configmap=IN_THE_WAY, grafana_ca_key="ca.crt")),
        {},
        "certificate verify failed",
    ),
    "no authorities": (
        ("--tags=grafana", *variables(grafana_ca_configmap="nowhere")),
        {},
        "grafana_ca_configmap: there is no ConfigMap nowhere with certificates under ca.crt",
    ),
    "no dashboard": (
        ("--tags=grafana", *variables(grafana_dashboards=[{"file": __file__}])),
        {},
        "test_bad_input.py is not JSON .*: correct it, or leave the file out",
    ),
    "unknown folder": (
        ("--tags=grafana", *variables(grafana_dashboards=[{"file": DASHBOARD, "folder": "nope"}])),
        {},
        "grafana_dashboards: there is no folder nope. Add it to grafana_folders, or choose one of model-monitoring.",
    ),
    "a dashboard twice": (
        ("--tags=grafana", *variables(grafana_dashboards=[{"file": DASHBOARD}] * 2)),
        {},
        "Two dashboards have the same uid, of ",
    ),
    "a host that another Route has": (
        ("--tags=grafana", *variables(grafana_expose="route", grafana_host=f"{IN_THE_WAY}.example.com")),
        {},
        f"grafana_host: {IN_THE_WAY}.example.com is taken by Route default/{IN_THE_WAY}. Choose another host, or remove that Route.",
    ),
    "no KUBECONFIG": ((), {"KUBECONFIG": None}, "KUBECONFIG is not set, .* Set KUBECONFIG or"),
    "crd that never comes": (
        (
            "--tags=operators",
            *variables(operators_timeout=3, operators_list=[{"name": "own", "install": False, "crds": [{"name": "as.example.com"}]}]),
        ),
        {},
        r"CustomResourceDefinition as.example.com: does not exist.*look at its Subscription",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def in_the_way(api):
    """A Route with a host, and authorities that have signed nothing that is asked."""
    client = kubernetes.dynamic.DynamicClient(api)
    route = {
        "apiVersion": "route.openshift.io/v1", "kind": "Route", "metadata": {"name": IN_THE_WAY, "namespace": "default"},
        "spec": {"host": f"{IN_THE_WAY}.example.com", "to": {"kind": "Service", "name": "x", "weight": 100}},
    }  # fmt: skip
    # The API server's own for something else.
    other = kubernetes.client.CoreV1Api(api).read_namespaced_config_map("extension-apiserver-authentication", "kube-system")
    authorities = {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": IN_THE_WAY, "namespace": "default"},
        "data": {"ca.crt": other.data["requestheader-client-ca-file"]},
    }  # fmt: skip
    made = [(client.resources.get(api_version=item["apiVersion"], kind=item["kind"]), item) for item in (route, authorities)]
    try:
        for resource, item in made:
            resource.create(item)
        yield
    finally:
        for resource, item in made:
            resource.delete(item["metadata"]["name"], "default")


@pytest.mark.parametrize(
    ("words", "environment", "message"),
    [pytest.param(*row, id=name) for name, row in ROWS.items()],
)
def test_one_message_and_nothing_touched(play, objects, words, environment, message):
    before = objects()
    run = play(*words, **environment)
    refused(run, message)
    assert objects() == before


def refused(run, message):
    """One task has failed, and what it says in one line matches."""
    assert run.status == 2, run.output
    (said,) = run.errors
    assert "\n" not in said.removeprefix("Validation of arguments failed:\n")  # Ansible's own
    assert re.search(message, said), said


def kubeconfig(folder, api, server=None, token="none"):
    """A kubeconfig for the API server of the tests, with another address or user."""
    with open(api.configuration.ssl_ca_cert, "rb") as file:
        authority = base64.b64encode(file.read()).decode()
    path = folder / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "a", "cluster": {"server": server or api.configuration.host, "certificate-authority-data": authority}}],
                "users": [{"name": "a", "user": {"token": token}}],
                "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                "current-context": "a",
            }
        )
    )
    return str(path)


def test_unreachable_api_server(play, objects, api, tmp_path):
    before = objects()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        server = f"https://127.0.0.1:{nobody.getsockname()[1]}"
        run = play(KUBECONFIG=kubeconfig(tmp_path, api, server))
    refused(run, re.escape(server.removeprefix("https://")))
    assert objects() == before


@pytest.fixture
def nobodys_token(api):
    """The token of a service account without any rights."""
    core = kubernetes.client.CoreV1Api(api)
    core.create_namespaced_service_account("default", {"metadata": {"name": "model-monitoring-nobody"}})
    try:
        request = {"spec": {"expirationSeconds": 600}}
        yield core.create_namespaced_service_account_token("model-monitoring-nobody", "default", request).status.token
    finally:
        core.delete_namespaced_service_account("model-monitoring-nobody", "default")


def test_user_without_rights(play, objects, api, tmp_path, nobodys_token):
    before = objects()
    run = play(KUBECONFIG=kubeconfig(tmp_path, api, token=nobodys_token))
    refused(run, "catalogsources.*(forbidden|may not|Grant)")
    assert objects() == before
    assert nobodys_token not in run.output
