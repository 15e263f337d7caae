# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""prometheus_probe with monitors in a real API server and a real Prometheus, which PROMETHEUS_BINARY names.

What the prometheus-operator makes of monitors is written here as the configuration of Prometheus: the labels of its targets.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading

import pytest
import servers
from servers import PrometheusServer, free_port

Run = functools.partial(servers.Run, "prometheus_probe", cluster=True)


@pytest.fixture
def start(tmp_path):
    """``start(scrapes, labels=...)``: a Prometheus for one test."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(PrometheusServer(tmp_path / f"server-{free_port()}", *args, **kwargs))


@pytest.fixture(scope="session")
def page():
    """URL of a page with figures of two models."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(b'running{model_name="a"} 1\nrunning{model_name="b"} 0\nlatency{model_name="a"} 0.5\nlatency{model_name="b"} NaN\n')

        def log_message(self, *_args) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


WEB = {"selector": {"matchLabels": {"app": "a"}}, "endpoints": [{"port": "web"}]}
PODS = {"selector": {"matchExpressions": [{"key": "model", "operator": "Exists"}]}, "podMetricsEndpoints": [{"portNumber": 8000}]}


def test_what_monitors_select_is_up(place, start, page) -> None:
    place.service("one", app="a")
    place.pod("model-1", 8000, model="x")
    wanted = [place.monitor("ServiceMonitor", "web", WEB), place.monitor("PodMonitor", "models", PODS)]
    labels = {
        "one": {"namespace": place.name, "service": "one", "endpoint": "web"},
        f"{place.name}/models": {"namespace": place.name, "pod": "model-1"},
    }
    prometheus = start(dict.fromkeys(labels, page), labels)
    done = Run({"prometheus_endpoint": prometheus.url, "monitors": wanted, "timeout": 30})
    assert not done.result.get("failed"), done.result
    assert [(one["state"], one["targets"], one["message"]) for one in done.result["monitors"]] == [("up", 1, None)] * 2
    assert done.seconds < 25


def test_targets_that_are_absent_or_down_are_told(place, start) -> None:
    place.service("one", app="a")
    place.service("two", app="b")
    wanted = [
        place.monitor("ServiceMonitor", "web", WEB),
        place.monitor("ServiceMonitor", "other", {**WEB, "selector": {"matchLabels": {"app": "b"}}}),
        {"kind": "PodMonitor", "name": "nothing", "namespace": place.name},
    ]
    dead = f"http://127.0.0.1:{free_port()}"
    prometheus = start({"one": dead}, {"one": {"namespace": place.name, "service": "one", "endpoint": "web"}}).scraping()
    done = Run({"prometheus_endpoint": prometheus.url, "monitors": wanted, "timeout": 4})
    done.failed(
        "ServiceMonitor web", f"{dead}/metrics (", "connection refused", "ServiceMonitor other", "no target for", 'service="two"', "does not exist"
    )
    assert [one["state"] for one in done.result["monitors"]] == ["down", "absent", "missing"]


def test_a_namespace_that_is_left_out_of_user_workload_monitoring_is_told(place, start) -> None:
    place.service("one", app="a")
    place.label(**{"openshift.io/user-monitoring": "false"})
    done = Run({"prometheus_endpoint": start({}).url, "monitors": [place.monitor("ServiceMonitor", "web", WEB)], "timeout": 1})
    done.failed("no target for", "take the label openshift.io/user-monitoring=false")


def test_a_selector_that_selects_nothing_is_told_with_the_labels_that_exist(place, start) -> None:
    place.service("one", app="collector", tier="x")
    wanted = place.monitor("ServiceMonitor", "web", WEB)
    prometheus = start({})
    done = Run({"prometheus_endpoint": prometheus.url, "monitors": [wanted], "timeout": 60})
    done.failed("its selector app=a selects no Service", "labels there: one: app=collector, tier=x")
    assert done.seconds < 50, "that is not waited for"
    allowed = Run({"prometheus_endpoint": prometheus.url, "monitors": [{**wanted, "required": False}]})
    assert not allowed.result.get("failed")
    (warning,) = allowed.result["warnings"]
    assert "ServiceMonitor web" in str(warning) and "app=collector, tier=x" in str(warning)


def test_a_port_that_does_not_exist_is_told_with_those_that_do(place, start) -> None:
    place.service("one", port="http", app="a")
    place.pod("model-1", 9999, model="x")
    wanted = [place.monitor("ServiceMonitor", "web", WEB), place.monitor("PodMonitor", "models", PODS)]
    Run({"prometheus_endpoint": start({}).url, "monitors": wanted, "timeout": 1}).failed(
        "no port that it names (web)", "one: http 80", "no port that it names (8000)", "model-1: unnamed 9999"
    )


MODELS = [{"model_name": "a"}, {"model_name": "b"}]


def test_queries_have_data_for_each_model_or_a_reason_why_not(start, page) -> None:
    rules = [{"record": "vllm_running", "expr": "running"}, {"record": "broken", "expr": "running + on () running"}]
    prometheus = start({"models": page}, rules=rules)
    queries = [
        {"name": "recorded", "query": "vllm_running", "expected": MODELS},
        {"name": "idle", "query": "latency", "expected": MODELS, "idle": "running == 0"},
    ]
    done = Run({"prometheus_endpoint": prometheus.url, "queries": queries, "timeout": 30})
    assert not done.result.get("failed"), done.result
    recorded, idle = done.result["queries"]
    assert recorded["series"] == [{"labels": labels, "state": "data", "value": value} for labels, value in zip(MODELS, (1, 0), strict=True)]
    assert [one["state"] for one in idle["series"]] == ["data", "idle"]

    queries = [
        {"name": "not recorded", "query": "vllm_walking"},
        {"name": "broken rule", "query": "broken", "expected": MODELS},
        {"name": "no number", "query": "latency", "expected": MODELS},
        {"name": "third model", "query": "vllm_running", "expected": [{"model_name": "c"}]},
    ]
    done = Run({"prometheus_endpoint": prometheus.url, "queries": queries, "timeout": 4})
    done.failed(
        "not recorded: no data for {}; no recording rule of that name is loaded",
        "broken rule: no data for", "many-to-many",
        'no number: no data for {model_name="b"}',
        'third model: no data for {model_name="c"}; its recording rule is loaded and without error',
    )  # fmt: skip


def test_a_wrong_query_is_named_at_once(start) -> None:
    done = Run({"prometheus_endpoint": start({}).url, "queries": [{"name": "mine", "query": "sum("}], "timeout": 60})
    done.failed("query mine", "400", "parse error")
    assert done.seconds < 25


def test_a_prometheus_that_is_not_there(namespace) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    done = Run({"prometheus_endpoint": dead, "timeout": 2})
    done.failed("not reachable", dead, "Connection refused", "prometheus_endpoint")
    service = f"http://prometheus.{namespace}.svc:9090"
    Run({"prometheus_endpoint": service, "timeout": 2}).failed(f"Service prometheus in namespace {namespace} does not exist")


def test_no_prometheus_is_known_on_a_cluster_that_is_no_openshift(cluster) -> None:
    Run({}).failed("prometheus_endpoint: missing", "no Service thanos-querier", "http://prometheus-operated.monitoring.svc:9090")


def test_a_user_without_rights_is_told_which(place, start, user) -> None:
    wanted = [place.monitor("ServiceMonitor", "web", WEB)]
    given = {"prometheus_endpoint": start({}).url, "monitors": wanted, "timeout": 1}
    Run({**given, **user([])}).failed("servicemonitors", "Grant")
    few = [{"apiGroups": ["monitoring.coreos.com"], "resources": ["servicemonitors"], "verbs": ["get"]}]
    Run({**given, **user(few)}).failed("list services", "Grant")
    enough = [*few, {"apiGroups": [""], "resources": ["services"], "verbs": ["list"]}]
    Run({**given, **user(enough)}).failed("selects no Service")


def test_a_token_is_made_for_a_service_account(cluster, namespace, start, user) -> None:
    cluster.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "reader"}})
    given = {"prometheus_endpoint": start({}).url, "prometheus_service_account": {"name": "reader", "namespace": namespace}, "timeout": 5}
    assert not Run(given).result.get("failed")
    Run({**given, **user([])}).failed("create a token (serviceaccounts/token) for ServiceAccount reader", "Grant")
    nobody = {"name": "nobody", "namespace": namespace}
    Run({**given, "prometheus_service_account": nobody}).failed("ServiceAccount nobody", "not found")


def test_check_mode_connects_to_nothing() -> None:
    done = Run({"prometheus_endpoint": "http://nothing.nowhere.svc:9090", "queries": [{"name": "a", "query": "a"}]}, check=True)
    assert not done.result.get("failed") and "http://nothing.nowhere.svc:9090" in done.result["msg"]
