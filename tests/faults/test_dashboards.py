# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""dashboard_probe in a cluster where site.yml has run: what blanks panels elsewhere is done here, and the probe must name dashboard, panel and cause.

KUBECONFIG names the cluster, MODEL_MONITORING_NAMESPACE the namespace if it is not the default, PROMETHEUS_SERVICE the Prometheus that the
dashboards read (namespace/name:port).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube, _link
from kubernetes import client, config

MODULE = "ansible_collections.private_ai.model_monitoring.plugins.modules.dashboard_probe"
NAMESPACE = os.environ.get("MODEL_MONITORING_NAMESPACE", "private-ai-demo")
PROMETHEUS = os.environ.get("PROMETHEUS_SERVICE", "monitoring/prometheus-operated:9090")
ENDPOINT = f"http://grafana-service.{NAMESPACE}.svc:3000"
SECRET = {"name": "grafana-admin-credentials", "namespace": NAMESPACE}
DASHBOARDS = ["ai-ml-performance", "model-quality", "tempo-trace-explorer", "stack-health"]
FILES = Path(__file__).parents[2] / "roles" / "grafana" / "files" / "dashboards"


@pytest.fixture(scope="module", autouse=True)
def cluster() -> None:
    if not os.environ.get("KUBECONFIG"):
        pytest.fail("KUBECONFIG is not set: start the lab (make lab-up), run site.yml, and name its kubeconfig", pytrace=False)
    config.load_kube_config()


def probe(**arguments) -> dict:
    """A run of the module; None takes an argument away."""
    arguments = {"grafana_endpoint": ENDPOINT, "grafana_secret": SECRET, "dashboards": DASHBOARDS, "timeout": 0, **arguments}
    process = subprocess.run(
        [sys.executable, "-c", f"import runpy; runpy.run_module('{MODULE}', run_name='__main__')"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {name: value for name, value in arguments.items() if value is not None}}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "Traceback" not in process.stdout + process.stderr, process.stdout + process.stderr
    return json.loads(process.stdout)


def problems(**arguments) -> list[str]:
    """What is wrong; each on one line, and in the message that the user sees."""
    result = probe(**arguments)
    assert "problems" in result, result
    assert all("\n" not in problem and problem in result["msg"] for problem in result["problems"])
    return result["problems"]


def until(condition, what: str, seconds: float = 180):
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(1)


@pytest.fixture(scope="module")
def password() -> str:
    data = client.CoreV1Api().read_namespaced_secret(SECRET["name"], NAMESPACE).data
    return base64.b64decode(data["GF_SECURITY_ADMIN_PASSWORD"]).decode()


@pytest.fixture(scope="module")
def grafana(password):
    """Grafana's API for its administrator: ``grafana(method, path, body)``."""
    target = _link.Target(ENDPOINT, "grafana", "auto", lambda: _kube.connect({}))
    headers = {"Authorization": "Basic " + base64.b64encode(f"admin:{password}".encode()).decode(), "Content-Type": "application/json"}
    with _link.http_link(target) as link:

        def call(method: str, path: str, body: dict | None = None, expected: tuple[int, ...] = (200,)) -> dict:
            data = json.dumps(body).encode() if body is not None else None
            answer = link.use(lambda http: http.request(method, path, timeout=30, headers=headers, body=data))
            assert answer.status in expected, answer
            return json.loads(answer.body)

        yield call


@pytest.fixture(autouse=True)
def all_is_well():
    """Each test begins and ends with dashboards that show data."""
    assert problems(timeout=180) == []
    yield
    assert problems(timeout=300) == []


def test_all_dashboards_show_data() -> None:
    result = probe()
    assert [board["uid"] for board in result["dashboards"]] == DASHBOARDS
    for board in result["dashboards"]:
        assert board["panels"] >= 9 and board["with_data"] > board["panels"] / 2, board
    assert all(panel["optional"] for panel in result["panels"] if panel["state"] != "data")


# A metric that has another name


@contextlib.contextmanager
def renamed(old: str, new: str):
    """What the models' servers call ``old`` arrives in Prometheus as ``new``."""
    api = client.CustomObjectsApi()
    monitor = ("monitoring.coreos.com", "v1", NAMESPACE, "podmonitors", "model-monitoring-models")
    endpoints = api.get_namespaced_custom_object(*monitor)["spec"]["podMetricsEndpoints"]
    rule = {"sourceLabels": ["__name__"], "regex": old, "targetLabel": "__name__", "replacement": new, "action": "replace"}
    changed = [{**one, "metricRelabelings": [*one.get("metricRelabelings", []), rule]} for one in endpoints]
    try:
        api.patch_namespaced_custom_object(*monitor, {"spec": {"podMetricsEndpoints": changed}})
        yield
    finally:
        api.patch_namespaced_custom_object(*monitor, {"spec": {"podMetricsEndpoints": endpoints}})


def test_a_metric_is_renamed() -> None:
    with renamed("vllm:kv_cache_usage_perc", "vllm:kv_cache_utilisation"):
        found = until(lambda: problems(dashboards=["ai-ml-performance"]), "a panel without data")
        assert found == ["AI/ML performance / KV cache in use: no data: there is no series vllm_kv_cache_usage_ratio now"]


# A token that Prometheus does not accept


@pytest.fixture
def guarded_prometheus(grafana):
    """A data source that reads Prometheus through the API server's proxy, which wants a token: ``guarded_prometheus(token)`` returns its UID."""
    core, rbac = client.CoreV1Api(), client.RbacAuthorizationV1Api()
    name = f"reader-{secrets.token_hex(4)}"
    namespace, _slash, service = PROMETHEUS.partition("/")
    core.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": name}})
    rule = {"apiGroups": [""], "resources": ["services/proxy"], "resourceNames": [f"http:{service}", service], "verbs": ["get", "create"]}
    rbac.create_namespaced_role(namespace, {"metadata": {"name": name}, "rules": [rule]})
    rbac.create_namespaced_role_binding(
        namespace,
        {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
        },
    )
    token = core.create_namespaced_service_account_token(name, NAMESPACE, {"spec": {"expirationSeconds": 3600}}).status.token
    authority = Path(client.Configuration.get_default_copy().ssl_ca_cert).read_text()
    source = {
        "uid": name,
        "name": name,
        "type": "prometheus",
        "access": "proxy",
        "url": f"https://kubernetes.default.svc/api/v1/namespaces/{namespace}/services/http:{service}/proxy",
        "jsonData": {"httpMethod": "POST", "httpHeaderName1": "Authorization", "tlsAuthWithCACert": True, "timeInterval": "15s"},
    }

    def with_token(value: str) -> str:
        body = {**source, "secureJsonData": {"httpHeaderValue1": f"Bearer {value}", "tlsCACert": authority}}
        grafana("PUT", f"/api/datasources/uid/{name}", body)
        return name

    grafana("POST", "/api/datasources", source)
    try:
        yield with_token, token
    finally:
        grafana("DELETE", f"/api/datasources/uid/{name}")
        rbac.delete_namespaced_role_binding(name, namespace)
        rbac.delete_namespaced_role(name, namespace)
        core.delete_namespaced_service_account(name, NAMESPACE)


def test_the_data_sources_token_is_changed(guarded_prometheus) -> None:
    with_token, token = guarded_prometheus
    uid = with_token(token)
    until(lambda: not problems(dashboards=["stack-health"], variables={"prometheus": uid}), "the token is taken", 60)
    with_token("not-a-token")
    found = until(lambda: problems(dashboards=["stack-health"], variables={"prometheus": uid}), "a refused token")
    assert all(problem.startswith("Stack health / ") and ": error: " in problem for problem in found)
    assert all("401" in problem or "Unauthorized" in problem for problem in found), found
    assert not any("not-a-token" in problem or token in problem for problem in found)
    with_token(token)
    until(lambda: not problems(dashboards=["stack-health"], variables={"prometheus": uid}), "the token is taken", 60)


# A part that is away


@contextlib.contextmanager
def without_service(name: str):
    """The operator leaves its objects alone, and a Service is gone; both are as before afterwards."""
    api, core = client.CustomObjectsApi(), client.CoreV1Api()
    stack = ("tempo.grafana.com", "v1alpha1", NAMESPACE, "tempostacks", "tempo")
    api.patch_namespaced_custom_object(*stack, {"spec": {"managementState": "Unmanaged"}})
    try:
        core.delete_namespaced_service(name, NAMESPACE)
        yield
    finally:
        api.patch_namespaced_custom_object(*stack, {"spec": {"managementState": "Managed"}})
        until(lambda: name in {one.metadata.name for one in core.list_namespaced_service(NAMESPACE).items}, f"Service {name} again")


def test_tempos_service_is_removed() -> None:
    service = "tempo-tempo-query-frontend"
    searches = {"Recent traces", "Slow traces", "Failed traces", "Tokens of requests", "RAG requests"}
    with without_service(service):
        found = until(lambda: problems(dashboards=["tempo-trace-explorer", "ai-ml-performance"]), "an error")
        assert {problem.split(" / ")[0] for problem in found} == {"Tempo trace explorer"}
        assert {problem.split(" / ")[1].split(":")[0] for problem in found} == searches
        assert all(": error: " in problem for problem in found), found


# Labels that nobody sets


def test_a_value_that_no_model_has() -> None:
    found = problems(dashboards=["ai-ml-performance"], variables={"model": "full"})
    waiting = [problem for problem in found if problem.startswith("AI/ML performance / Waiting now: ")]
    assert len(waiting) == 1 and len(found) > 10
    assert 'no data: no series vllm_requests_waiting has model_name=~"full", its values are mistral-24b, mistral-24b-quantized' in waiting[0]


def test_a_label_that_nobody_sets(grafana) -> None:
    """The commonest cause of blank dashboards: they filter by labels of the author's own cluster."""
    board = json.loads((FILES / "ai-ml-performance.json").read_text().replace('model_name=~\\"$model\\"', 'flavour=\\"full\\"'))
    uid = f"copy-{secrets.token_hex(4)}"
    grafana("POST", "/api/dashboards/db", {"dashboard": {**board, "uid": uid, "title": "Copy of another's", "id": None}})
    try:
        found = problems(dashboards=[uid])
        (one,) = [problem for problem in found if problem.startswith("Copy of another's / Waiting now: ")]
        assert one.endswith('no data: no series vllm_requests_waiting has flavour="full", nothing sets this label')
    finally:
        grafana("DELETE", f"/api/dashboards/uid/{uid}")


# What is wrong with the request


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dashboards": ["nowhere"]}, "Grafana has no dashboard with the UID 'nowhere'"),
        ({"dashboards": [], "folder": "Nowhere"}, "Grafana has no folder 'Nowhere'"),
        ({"grafana_secret": {**SECRET, "name": "nowhere"}}, "there is no Secret nowhere in namespace"),
        ({"grafana_secret": {**SECRET, "password_key": "no"}}, "has no key no"),
        ({"grafana_secret": None, "grafana_username": "admin", "grafana_password": "wr0ng-p4ss"}, "does not accept the credentials"),
        ({"grafana_secret": None, "grafana_token": "wr0ng-p4ss"}, "does not accept the credentials"),
        ({"grafana_secret": None}, "wants a log-in"),
        ({"grafana_endpoint": f"http://nothing.{NAMESPACE}.svc:3000"}, "does not exist"),
        ({"grafana_endpoint": f"http://otel-collector-collector-monitoring.{NAMESPACE}.svc:8888"}, "404"),
    ],
)
def test_bad_input(arguments, words, password) -> None:
    result = probe(**arguments)
    assert result["failed"] and words in result["msg"], result
    text = json.dumps(result)
    assert password not in text and "wr0ng-p4ss" not in result["msg"]
