# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Role verify by its playbook, against a real collector, Tempo and Prometheus on loopback and monitors in a real API server.

OTELCOL_BINARY, TEMPO_BINARY and PROMETHEUS_BINARY name the programs. Models are for the tests of the site, where some serve.
"""

from __future__ import annotations

import re

import pytest
from servers import Collector, PrometheusServer, TempoServer, free_port, play


@pytest.fixture(scope="module")
def tempo(tmp_path_factory):
    with TempoServer(tmp_path_factory.mktemp("tempo")) as server:
        yield server


@pytest.fixture(scope="module")
def collector(tmp_path_factory, tempo):
    with Collector(tmp_path_factory.mktemp("collector"), tempo.otlp, metrics_exporters={}) as server:
        yield server


@pytest.fixture
def endpoints(collector, tempo):
    """Variables of the role for collector and Tempo."""
    return {
        f"verify_{name}": value for name, value in {**collector.parameters, "tempo_endpoint": tempo.url, "exporter_endpoint": collector.page}.items()
    }


@pytest.fixture
def stack(place, collector, tmp_path):
    """Variables of the role for a Prometheus that scrapes what two monitors select."""
    for name in ("collector", "pushgateway"):
        place.service(name, app=name)
        place.monitor("ServiceMonitor", f"model-monitoring-{name}", {"selector": {"matchLabels": {"app": name}}, "endpoints": [{"port": "web"}]})
    labels = {name: {"namespace": place.name, "service": name, "endpoint": "web"} for name in ("collector", "pushgateway")}
    with PrometheusServer(tmp_path / "prometheus", dict.fromkeys(labels, collector.page), labels) as prometheus:
        yield {"verify_namespace": place.name, "verify_prometheus_endpoint": prometheus.url, "verify_metrics_timeout": 60}


def test_the_role_prints_the_proofs_and_leaves_them_behind(endpoints, stack) -> None:
    done = play(**endpoints, **stack)
    assert done.returncode == 0, done.stdout
    assert "Proven: a trace sent to the collector is in Tempo" in done.stdout
    rows = re.findall(r'"(grpc|http) +[0-9.]+ s +[0-9.]+ s +[0-9.]+ s +([0-9a-f]{32})"', done.stdout)
    assert [protocol for protocol, _trace in rows] == ["grpc", "http"]
    assert "Proven: a metric sent to the collector is scraped" in done.stdout
    metrics = re.findall(r'"(grpc|http) +[0-9.]+ s +[0-9.]+ s +[0-9.]+ s +private_ai_probe_timestamp_seconds\{.*\} == ([0-9.]+)"', done.stdout)
    assert [protocol for protocol, _value in metrics] == ["grpc", "http"]
    for name in ("collector", "pushgateway"):
        assert re.search(rf'"up +1 +ServiceMonitor {stack["verify_namespace"]}/model-monitoring-{name}"', done.stdout), done.stdout
    assert f"Figures of models were not proven: no model serves in {stack['verify_namespace']}." in done.stdout
    stats = done.stdout.partition("CUSTOM STATS")[2]
    assert all(f'"trace_id": "{trace}"' in stats for _protocol, trace in rows)
    assert all(f'"value": {value}' in stats for _protocol, value in metrics)
    assert "changed=0" in done.stdout


def test_the_role_in_check_mode_says_what_it_would_prove(endpoints, stack) -> None:
    done = play("--check", **endpoints, **stack)
    assert done.returncode == 0, done.stdout
    assert "Nothing was proven" in done.stdout and "read it back from Prometheus" in done.stdout and "changed=0" in done.stdout


def test_the_role_fails_with_the_hop(endpoints) -> None:
    done = play(**{**endpoints, "verify_metrics": False, "verify_tempo_endpoint": f"http://127.0.0.1:{free_port()}", "verify_timeout": 1})
    assert done.returncode != 0
    assert '"hop": "tempo_query"' in done.stdout and "Proven" not in done.stdout


def test_the_role_without_metrics_proves_traces_and_says_so(endpoints) -> None:
    done = play(**endpoints, verify_metrics=False)
    assert done.returncode == 0, done.stdout
    assert "Proven: a trace" in done.stdout and "Metrics were not proven: verify_metrics is false." in done.stdout


def test_a_monitor_that_selects_nothing_fails_the_role_with_the_labels_that_exist(endpoints, stack, place) -> None:
    place.monitor("ServiceMonitor", "mine", {"selector": {"matchLabels": {"app": "mine"}}, "endpoints": [{"port": "web"}]})
    done = play(**endpoints, **stack, verify_monitors=[{"kind": "ServiceMonitor", "name": "mine", "namespace": place.name}])
    assert done.returncode != 0
    for words in ("its selector app=mine selects no Service", "collector: app=collector; pushgateway: app=pushgateway"):
        assert words in done.stdout, done.stdout


def test_a_prometheus_that_is_not_there_stops_the_role_before_anything_is_sent(endpoints, collector) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    before = collector.counters()
    done = play(**endpoints, verify_prometheus_endpoint=dead)
    assert done.returncode != 0
    assert f"Prometheus is not reachable at {dead}" in done.stdout
    assert collector.counters().accepted == before.accepted


def test_the_role_in_check_mode_on_a_machine_without_cluster() -> None:
    done = play("--check", verify_metrics=False)
    assert done.returncode == 0, done.stdout
    assert "Nothing was proven" in done.stdout and "changed=0" in done.stdout


def test_the_role_refuses_a_mistyped_variable() -> None:
    done = play("--check", verify_protocol=["grpc"])
    assert done.returncode != 0
    assert "Role verify has no variable verify_protocol" in done.stdout


def test_a_token_shows_up_nowhere(endpoints) -> None:
    token = "t0ken-that-must-not-be-seen"
    done = play("-vvv", **endpoints, verify_prometheus_endpoint=f"http://127.0.0.1:{free_port()}", verify_prometheus_token=token)
    assert done.returncode != 0 and token not in done.stdout + done.stderr
