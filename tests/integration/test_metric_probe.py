# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""metric_probe against a real collector and a real Prometheus. OTELCOL_BINARY and PROMETHEUS_BINARY name the programs.

Everything is on loopback; no Kubernetes is needed. Every fault is a real one: a stopped process, a wrong address, a page that is missing or
not scraped, a Prometheus that asks for a password.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
import urllib.request

import pytest
import servers
from servers import Collector, PrometheusServer, free_port

TOKEN = "t0ken-that-must-not-be-seen"
NOWHERE = {"endpoint": "127.0.0.1:1"}
QUICK = {"send_timeout": 3, "timeout": 4}
"""For tests that wait for what never comes."""

Run = functools.partial(servers.Run, "metric_probe")


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with Collector(tmp_path_factory.mktemp("collector"), NOWHERE, metrics_exporters={}) as server:
        yield server


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory, collector):
    with PrometheusServer(tmp_path_factory.mktemp("prometheus") / "server", {"collector": collector.page}) as server:
        yield server


@pytest.fixture
def start(tmp_path):
    """``start(Class, ...)``: a server for one test."""
    with contextlib.ExitStack() as stack:
        yield lambda made, *args, **kwargs: stack.enter_context(made(tmp_path / f"server-{free_port()}", *args, **kwargs))


def endpoints(collector: Collector, prometheus: PrometheusServer, **more) -> dict:
    labels = {"job": "collector", "namespace": "demo"}
    return {**collector.parameters, "exporter_endpoint": collector.page, "prometheus_endpoint": prometheus.url, "scrape_labels": labels, **more}


# It arrives


def test_a_metric_over_both_protocols_is_proven(collector, prometheus) -> None:
    proofs = Run(endpoints(collector, prometheus)).proofs
    assert set(proofs) == {"grpc", "http"}
    for proof in proofs.values():
        assert proof["hop"] is None
        assert 0 < proof["send_seconds"] < 2
        assert 0 < proof["page_seconds"] < 2, "the batch processor's 0.2 s and a read"
        assert proof["page_seconds"] <= proof["prometheus_seconds"] < 10
        (series,) = prometheus.ask(proof["promql"])
        assert float(series["value"][1]) == proof["value"]


def test_probes_make_no_more_series_however_often_they_run(collector, prometheus) -> None:
    values = [Run(endpoints(collector, prometheus)).proofs["grpc"]["value"] for _ in range(3)]
    assert len(set(values)) == 3
    (count,) = prometheus.ask('count(count_over_time({__name__=~"private_ai.*"}[10m]))')
    assert count["value"][1] == "2"


def test_two_probes_at_once_do_not_take_each_other_away(collector, prometheus) -> None:
    done: list = []
    threads = [threading.Thread(target=lambda: done.append(Run(endpoints(collector, prometheus, timeout=90)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = (one.proofs for one in done)
    assert first["grpc"]["value"] != second["grpc"]["value"]


def test_without_the_page_and_the_collectors_metrics_it_is_proven_too(collector, prometheus) -> None:
    given = endpoints(collector, prometheus, exporter_endpoint=None, collector_metrics_endpoint=None)
    assert all(proof["page_seconds"] is None for proof in Run(given).proofs.values())


def test_check_mode_sends_nothing(collector, prometheus) -> None:
    before = urllib.request.urlopen(collector.page + "/metrics").read()
    done = Run(endpoints(collector, prometheus), check=True)
    assert not done.result.get("failed") and done.result["proofs"] == []
    assert collector.parameters["otlp_grpc_endpoint"] in done.result["msg"] and prometheus.url in done.result["msg"]
    assert urllib.request.urlopen(collector.page + "/metrics").read() == before


# It is lost


def test_no_collector(collector, prometheus) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    given = endpoints(collector, prometheus, otlp_grpc_endpoint=dead, otlp_http_endpoint=dead, **QUICK)
    Run(given).lost("collector_unreachable", dead, "Connection refused")


def test_a_collector_that_takes_traces_only(start, prometheus) -> None:
    collector = start(Collector, NOWHERE)
    Run(endpoints(collector, prometheus, **QUICK)).lost("collector_refused", "takes no metrics", "metrics pipeline")


def test_the_page_is_not_in_the_pipeline(start, prometheus) -> None:
    other = {"otlp_http/elsewhere": {"endpoint": "http://127.0.0.1:1", "retry_on_failure": {"enabled": False}}}
    collector = start(Collector, NOWHERE, metrics_exporters=other, exporter_page=False)
    done = Run(endpoints(collector, prometheus, exporter_endpoint=collector.parameters["collector_metrics_endpoint"], timeout=60))
    done.lost("exporter_page", "does not show it", "exporter otlp_http/elsewhere: 0 metric points sent")
    assert done.seconds < 50, "what is not on the page is not waited for"


def test_a_page_that_is_not_scraped(collector, start) -> None:
    prometheus = start(PrometheusServer, {"other": "http://127.0.0.1:1"})
    done = Run(endpoints(collector, prometheus, **QUICK))
    done.lost("scrape_target", 'no scrape target {job="collector",namespace="demo"}', "ServiceMonitor", "up to two minutes")


def test_a_page_that_is_scraped_in_vain(collector, start) -> None:
    prometheus = start(PrometheusServer, {"collector": f"http://127.0.0.1:{free_port()}"}).scraping()
    done = Run(endpoints(collector, prometheus, **QUICK))
    done.lost("scrape_target", "in vain", "is down", "connection refused")


def test_a_prometheus_that_scrapes_another_page(collector, start) -> None:
    prometheus = start(PrometheusServer, {"collector": collector.parameters["collector_metrics_endpoint"]}).scraping()
    Run(endpoints(collector, prometheus, **QUICK)).lost("prometheus_store", "scrapes", "metricRelabelings")


def test_a_prometheus_that_is_not_there(collector) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    done = Run({**collector.parameters, "prometheus_endpoint": dead, "protocols": ["http"], **QUICK})
    done.lost("prometheus_query", dead, "Connection refused", "prometheus_endpoint names its Service and port")


def test_a_prometheus_that_is_none(collector) -> None:
    done = Run({**collector.parameters, "prometheus_endpoint": collector.page, "timeout": 60})
    done.lost("prometheus_query", "404", "without the /api/v1")
    assert done.seconds < 50


def test_a_remote_write_that_cannot_be_reached_is_told_although_prometheus_has_the_metric(start) -> None:
    remote = {"prometheusremotewrite": {"endpoint": f"http://127.0.0.1:{free_port()}/api/v1/write"}}
    collector = start(Collector, NOWHERE, metrics_exporters=remote)
    prometheus = start(PrometheusServer, {"collector": collector.page})
    done = Run(endpoints(collector, prometheus))
    done.lost("collector_export", "Prometheus has the metric", "exporter prometheusremotewrite: 0 metric points sent", "Exporting failed")
    assert all(proof["prometheus_seconds"] is not None for proof in done.result["proofs"])


def test_a_remote_write_that_works_is_no_trouble(start) -> None:
    other = start(PrometheusServer, {})
    collector = start(Collector, NOWHERE, metrics_exporters={"prometheusremotewrite": {"endpoint": f"{other.url}/api/v1/write"}})
    prometheus = start(PrometheusServer, {"collector": collector.page})
    proofs = Run(endpoints(collector, prometheus)).proofs
    assert len(other.ask(proofs["grpc"]["promql"])) == 1


# Who may read


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """See ``issue_certificates``."""
    folder = tmp_path_factory.mktemp("tls")
    servers.issue_certificates(folder)
    return folder


def test_tls_with_a_ca_in_a_file_or_as_text(collector, start, tls) -> None:
    web = {"tls_server_config": {"cert_file": str(tls / "ip.pem"), "key_file": str(tls / "ip.key")}}
    prometheus = start(PrometheusServer, {"collector": collector.page}, web=web)
    given = endpoints(collector, prometheus)
    for ca in (str(tls / "ca.pem"), (tls / "ca.pem").read_text()):
        assert set(Run({**given, "prometheus_ca_cert": ca}).proofs) == {"grpc", "http"}
    for ca in (str(tls / "other-ca.pem"), None):
        Run({**given, "prometheus_ca_cert": ca, **QUICK}).lost("prometheus_query", "certificate")


def test_a_prometheus_that_asks_for_a_password(collector, start) -> None:
    # bcrypt of a word that nobody here knows
    web = {"basic_auth_users": {"somebody": "$2b$04$zKmNwgqLGMNxdHyB7zoR7.oTEfaq8wRwYsnt2XRzVoJDR6Ot0/C6K"}}
    prometheus = start(PrometheusServer, {"collector": collector.page}, web=web)
    done = Run(endpoints(collector, prometheus, timeout=60))
    done.lost("prometheus_query", "401", "give a token")
    assert done.seconds < 50


@pytest.fixture
def guard(prometheus):
    """``guard(status)``: a URL where Prometheus answers who shows the token, and others get this status."""
    made = []

    def make(status: int) -> str:
        class Guard(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.headers["Authorization"] == f"Bearer {TOKEN}":
                    with urllib.request.urlopen(prometheus.url + self.path, timeout=5) as answer:
                        code, body = answer.status, answer.read()
                else:
                    code, body = status, b"Forbidden (user=nobody)"
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args) -> None:
                pass

        made.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guard))
        threading.Thread(target=made[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{made[-1].server_port}"

    yield make
    for one in made:
        one.shutdown()
        one.server_close()


@pytest.mark.parametrize(("status", "words"), [(401, "give a token"), (403, "cluster-monitoring-view")])
def test_a_token_opens_and_another_does_not(collector, prometheus, guard, status, words) -> None:
    given = endpoints(collector, prometheus, prometheus_endpoint=guard(status))
    assert set(Run({**given, "prometheus_token": TOKEN}).proofs) == {"grpc", "http"}
    for token in (None, "another"):
        Run({**given, "prometheus_token": token, **QUICK}).lost("prometheus_query", str(status), words)


def test_a_token_shows_up_nowhere(collector, prometheus) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    for token in (TOKEN, TOKEN + "\n"):
        done = Run(endpoints(collector, prometheus, prometheus_endpoint=dead, prometheus_token=token, **QUICK))
        assert done.result["failed"] and TOKEN not in done.output
