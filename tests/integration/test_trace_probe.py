# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""trace_probe against a real collector and a real Tempo, run as Ansible runs a module: a process of its own with arguments as JSON.

OTELCOL_BINARY and TEMPO_BINARY name the programs. Everything is on loopback; no Kubernetes is needed. Every fault is a real
one: a stopped process, a wrong address, a limit, a wrong tenant.
"""

from __future__ import annotations

import contextlib
import functools
import json
import signal
import socket
import time
import urllib.parse
import urllib.request
from concurrent import futures
from pathlib import Path

import pytest
import servers
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _link, _otlp, _tempo, _trace_probe
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._endpoint import Reached
from servers import SERVICE_HOST, Collector, TempoServer, free_port

TOKEN = "t0ken-that-must-not-be-seen"

Run = functools.partial(servers.Run, "trace_probe")


@pytest.fixture(scope="session")
def tempo(tmp_path_factory):
    with TempoServer(tmp_path_factory.mktemp("tempo")) as server:
        yield server


@pytest.fixture(scope="session")
def collector(tmp_path_factory, tempo):
    with Collector(tmp_path_factory.mktemp("collector"), tempo.otlp) as server:
        yield server


@pytest.fixture
def start(tmp_path):
    """``start(Class, ...)``: a server for one test."""
    with contextlib.ExitStack() as stack:
        yield lambda made, *args, **kwargs: stack.enter_context(made(tmp_path / f"server-{free_port()}", *args, **kwargs))


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """See ``issue_certificates``."""
    folder = tmp_path_factory.mktemp("tls")
    servers.issue_certificates(folder)
    return folder


QUICK = {"send_timeout": 2, "timeout": 1, "search_timeout": 1}
"""For tests that wait for what never comes."""


# It arrives


def test_a_trace_over_both_protocols_is_proven(collector, tempo) -> None:
    before = collector.counters()
    done = Run({**collector.parameters, "tempo_endpoint": tempo.url})
    proofs = done.proofs
    assert set(proofs) == {"grpc", "http"}
    for proof in proofs.values():
        assert proof["hop"] is None and proof["spans"] == 3
        assert proof["send_seconds"] > 0
        assert 0 < proof["by_id_seconds"] <= proof["search_seconds"]
        assert proof["send_seconds"] + proof["search_seconds"] < done.seconds
        # Not by the module's own reader: what Tempo has, as JSON.
        found = json.load(urllib.request.urlopen(f"{tempo.url}/api/v2/traces/{proof['trace_id']}", timeout=5))["trace"]["resourceSpans"]
        spans = [span for resource in found for scope in resource["scopeSpans"] for span in scope["spans"]]
        assert len(spans) == 3
        assert all({"key": "private_ai.probe.id", "value": {"stringValue": proof["probe_id"]}} in span["attributes"] for span in spans)
        chat = [span for span in spans if span["name"].startswith("chat")]
        assert {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}} in chat[0]["attributes"]
    assert proofs["grpc"]["probe_id"] == proofs["http"]["probe_id"]
    after = collector.counters()
    assert after.accepted - before.accepted == 6, "nothing is sent twice"


def test_two_runs_do_not_see_each_other(collector, tempo) -> None:
    runs = [Run({**collector.parameters, "tempo_endpoint": tempo.url}).proofs["grpc"] for _ in range(2)]
    assert runs[0]["probe_id"] != runs[1]["probe_id"]
    query = urllib.parse.urlencode({"q": runs[0]["traceql"], "limit": 20})
    traces = json.load(urllib.request.urlopen(f"{tempo.url}/api/search?{query}", timeout=5))["traces"]
    assert len(traces) == 2, "one for each protocol of the first run only"


def test_the_search_finds_a_trace_id_with_leading_zeros(collector, tempo, monkeypatch) -> None:
    """Tempo leaves them out in what a search returns."""
    made = _otlp.make_trace

    def with_zeros(*args):
        while not (trace := made(*args)).trace_id.startswith("00"):
            pass
        return trace

    monkeypatch.setattr(_trace_probe._otlp, "make_trace", with_zeros)
    params = {
        **dict.fromkeys(("otlp_ca_cert", "tempo_ca_cert", "tempo_tenant", "tempo_token")),
        **collector.parameters, "tempo_endpoint": tempo.url, "via": "direct", "protocols": ["grpc"], "service_name": "zeros",
        "send_timeout": 5, "timeout": 10, "search_timeout": 20,
    }  # fmt: skip
    (proof,) = _trace_probe.run(params)
    assert proof["trace_id"].startswith("00") and proof["hop"] is None


@pytest.mark.parametrize(
    "reader",
    [
        {"without_type_suffix": True, "without_units": True, "without_scope_info": True},
        {"without_type_suffix": False, "without_units": False, "without_scope_info": False},
    ],
    ids=["plain names", "names with unit and total"],
)
def test_the_counters_of_a_real_collector_are_read(start, tempo, reader) -> None:
    collector = start(Collector, tempo.otlp, reader=reader)
    page = urllib.request.urlopen(collector.parameters["collector_metrics_endpoint"] + "/metrics", timeout=5).read().decode()
    Run({**collector.parameters, "tempo_endpoint": tempo.url}).proofs  # noqa: B018
    counters = collector.counters()
    assert (counters.accepted, counters.refused) == (6, 0), page
    assert counters.exporters["otlp/tempo"].sent == 6
    assert counters.instance


def test_check_mode_sends_nothing(collector, tempo) -> None:
    before = collector.counters()
    done = Run({**collector.parameters, "tempo_endpoint": tempo.url}, check=True)
    assert not done.result.get("failed") and done.result["proofs"] == []
    assert collector.parameters["otlp_grpc_endpoint"] in done.result["msg"] and tempo.url in done.result["msg"]
    assert collector.counters().accepted == before.accepted


def test_check_mode_needs_nothing_to_be_there() -> None:
    nowhere = {
        name: f"http://nothing.nowhere.svc:{port}"
        for name, port in (("otlp_grpc_endpoint", 4317), ("otlp_http_endpoint", 4318), ("tempo_endpoint", 3200))
    }
    assert not Run(nowhere, check=True).result.get("failed")


# It does not arrive


def test_a_collector_that_is_down(start, tempo) -> None:
    collector = start(Collector, tempo.otlp)
    collector.stop()
    done = Run({**collector.parameters, "tempo_endpoint": tempo.url, **QUICK})
    done.lost("collector_unreachable", "Connection refused", collector.parameters["otlp_grpc_endpoint"], collector.parameters["otlp_http_endpoint"])
    assert done.seconds < 15


def test_one_receiver_that_is_missing_does_not_hide_the_other(collector, tempo) -> None:
    done = Run({**collector.parameters, "otlp_grpc_endpoint": f"http://127.0.0.1:{free_port()}", "tempo_endpoint": tempo.url, "send_timeout": 2})
    assert [proof["hop"] for proof in done.result["proofs"]] == ["collector_unreachable", None]
    assert done.result["msg"].startswith("trace sent over OTLP grpc: ")


def test_a_collector_that_hangs(start, tempo) -> None:
    collector = start(Collector, tempo.otlp)
    collector.signal(signal.SIGSTOP)
    done = Run({**collector.parameters, "collector_metrics_endpoint": None, "tempo_endpoint": tempo.url, **QUICK})
    done.lost("collector_unreachable", "no answer within")
    assert done.seconds < 15


def connected(port: int) -> bool:
    """Whether somebody on this machine has a connection to a port of it."""
    columns = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(remote.endswith(f":{port:04X}") and state == "01" for _number, _local, remote, state, *_rest in columns)


def test_a_collector_that_comes_up_while_we_try(start, tempo) -> None:
    collector = start(Collector, tempo.otlp)
    collector.signal(signal.SIGSTOP)
    port = urllib.parse.urlsplit(collector.parameters["otlp_http_endpoint"]).port

    def resume() -> float:
        """Half a second after the module has connected (the kernel does that for a stopped process). Returns for how long it was kept waiting."""
        deadline = time.monotonic() + 60
        while not connected(port) and time.monotonic() < deadline:
            time.sleep(0.01)
        begin = time.monotonic()
        time.sleep(0.5)
        kept = time.monotonic() - begin
        collector.signal(signal.SIGCONT)
        return kept

    with futures.ThreadPoolExecutor() as pool:
        kept = pool.submit(resume)
        proofs = Run(
            {**collector.parameters, "collector_metrics_endpoint": None, "tempo_endpoint": tempo.url, "protocols": ["http"], "send_timeout": 20}
        ).proofs
        assert proofs["http"]["send_seconds"] > kept.result(timeout=1)


def test_a_collector_without_memory(start, tempo) -> None:
    collector = start(Collector, tempo.otlp, memory_limiter={"check_interval": "100ms", "limit_mib": 2, "spike_limit_mib": 1})
    time.sleep(0.5)  # the limiter's own check
    done = Run({**collector.parameters, "tempo_endpoint": tempo.url, **QUICK})
    done.lost("collector_refused", "data refused due to high memory usage", "memory limit")
    assert collector.counters().refused > 0


def test_a_port_that_takes_no_traces(collector, tempo) -> None:
    done = Run({**collector.parameters, "otlp_http_endpoint": tempo.url, "tempo_endpoint": tempo.url, "protocols": ["http"], **QUICK})
    done.lost("collector_refused", "404", "correct the endpoint")


def test_grpc_to_a_port_that_speaks_only_http(collector, tempo) -> None:
    wrong = collector.parameters["otlp_http_endpoint"]
    done = Run({**collector.parameters, "otlp_grpc_endpoint": wrong, "tempo_endpoint": tempo.url, "protocols": ["grpc"], **QUICK})
    assert done.result["hop"] in ("collector_unreachable", "collector_refused")
    assert "OTLP port" in done.result["msg"] or "correct the endpoint" in done.result["msg"]


def test_an_exporter_that_retries(start, tempo) -> None:
    collector = start(Collector, f"127.0.0.1:{free_port()}")
    done = Run({**collector.parameters, "tempo_endpoint": tempo.url, **QUICK})
    done.lost("collector_export", "exporter otlp/tempo: 0 spans sent", "Exporting failed")
    assert "Exporting failed" in collector.log(), "what the message sends the user to look for"
    assert done.seconds < 15


def test_an_exporter_that_has_given_up(start, tempo) -> None:
    exporter = {"endpoint": f"127.0.0.1:{free_port()}", "retry_on_failure": {"enabled": False}}
    collector = start(Collector, exporter)
    done = Run({**collector.parameters, "tempo_endpoint": tempo.url, **QUICK})
    done.lost("collector_export", "exporter otlp/tempo: 0 spans sent, 6 failed")


def test_a_sending_queue_that_is_full(start, tempo) -> None:
    exporter = {"endpoint": f"127.0.0.1:{free_port()}", "sending_queue": {"queue_size": 1, "num_consumers": 1}}
    collector = start(Collector, exporter, batch=False)
    for _ in range(3):  # one is being retried, one waits, one is too many
        Run({**collector.parameters, "tempo_endpoint": tempo.url, "send_timeout": 1, "timeout": 0, "search_timeout": 0})
    done = Run({**collector.parameters, "tempo_endpoint": tempo.url, **QUICK})
    done.lost("collector_export", "full")


def test_a_tempo_that_is_down(start, tmp_path) -> None:
    tempo = start(TempoServer)
    collector = start(Collector, tempo.otlp)
    tempo.stop()
    Run({**collector.parameters, "tempo_endpoint": tempo.url, **QUICK}).lost("collector_export", "exporter otlp/tempo")
    # Without the collector's metrics, what is known is that Tempo does not answer.
    no_metrics = {**collector.parameters, "collector_metrics_endpoint": None}
    Run({**no_metrics, "tempo_endpoint": tempo.url, **QUICK}).lost("tempo_query", tempo.url, "Connection refused")


def test_a_query_api_that_is_down(collector, tempo) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    Run({**collector.parameters, "tempo_endpoint": dead, **QUICK}).lost("tempo_query", dead, "Connection refused")


def test_a_trace_that_went_to_another_tempo(start, collector) -> None:
    other = start(TempoServer)
    Run({**collector.parameters, "tempo_endpoint": other.url, **QUICK}).lost("tempo_store", "exporter otlp/tempo: 6 spans sent", "404")


def test_metrics_that_cannot_be_read(start, collector) -> None:
    other = start(TempoServer)
    dead = f"http://127.0.0.1:{free_port()}"
    done = Run({**collector.parameters, "collector_metrics_endpoint": dead, "tempo_endpoint": other.url, **QUICK})
    done.lost("after_collector", dead, "cannot tell")


def test_metrics_of_another_replica(start, tempo) -> None:
    other, collector = start(Collector, tempo.otlp), start(Collector, f"127.0.0.1:{free_port()}")
    metrics = other.parameters["collector_metrics_endpoint"]
    done = Run({**collector.parameters, "collector_metrics_endpoint": metrics, "tempo_endpoint": tempo.url, **QUICK})
    done.lost("after_collector", "another replica")


def test_a_trace_that_no_search_finds(start) -> None:
    """An ingester that keeps traces open for an hour: there by id, not searchable."""
    tempo = start(TempoServer, {"trace_idle_period": "1h", "trace_live_period": "1h", "flush_check_period": "1s"})
    collector = start(Collector, tempo.otlp)
    done = Run({**collector.parameters, "tempo_endpoint": tempo.url, **QUICK})
    done.lost("tempo_search", "by id", "trace_idle_period")
    assert all(proof["by_id_seconds"] is not None and proof["search_seconds"] is None for proof in done.result["proofs"])


# Tenants, tokens, TLS


@pytest.fixture(scope="module")
def tenants(tmp_path_factory):
    """Tempo with multitenancy, and a collector that writes as tenant dev."""
    folder = tmp_path_factory.mktemp("tenants")
    with contextlib.ExitStack() as stack:
        tempo = stack.enter_context(TempoServer(folder / "tempo", multitenancy=True))
        exporter = {"endpoint": tempo.otlp, "headers": {"x-scope-orgid": "dev"}}
        collector = stack.enter_context(Collector(folder / "collector", exporter))
        yield {**collector.parameters, "tempo_endpoint": tempo.url}


def test_the_tenant_that_was_written_is_read(tenants) -> None:
    assert set(Run({**tenants, "tempo_tenant": "dev", "tempo_token": TOKEN}).proofs) == {"grpc", "http"}


def test_another_tenant_has_nothing(tenants) -> None:
    Run({**tenants, "tempo_tenant": "prod", **QUICK}).lost("tempo_store", "same Tempo and tenant")


def test_no_tenant_is_refused_at_once(tenants) -> None:
    done = Run({**tenants, "timeout": 60, "search_timeout": 60})
    done.lost("tempo_query", "401", "tenant")
    assert done.seconds < 20


def test_a_token_shows_up_nowhere(tenants) -> None:
    for token in (TOKEN, TOKEN + "\n"):
        done = Run({**tenants, "tempo_token": token, **QUICK})
        assert done.result["failed"] and TOKEN not in done.output


def receiver_tls(tls: Path, name: str) -> dict:
    return {"cert_file": str(tls / f"{name}.pem"), "key_file": str(tls / f"{name}.key")}


def test_tls_with_a_ca(start, tempo, tls) -> None:
    collector = start(Collector, tempo.otlp, tls=receiver_tls(tls, "ip"))
    assert set(Run({**collector.parameters, "tempo_endpoint": tempo.url, "otlp_ca_cert": str(tls / "ca.pem")}).proofs) == {"grpc", "http"}
    for ca in (str(tls / "other-ca.pem"), None):
        done = Run({**collector.parameters, "tempo_endpoint": tempo.url, "otlp_ca_cert": ca, **QUICK})
        done.lost("collector_unreachable")
        assert done.result["msg"].lower().count("certificate") >= 2, done.result["msg"]


def test_tls_checks_the_name_of_the_service_behind_a_port_forward(start, tempo, tls, monkeypatch) -> None:
    """A port-forward is a local address; the certificate is the Service's."""
    collector = start(Collector, tempo.otlp, tls=receiver_tls(tls, "service"))

    @contextlib.contextmanager
    def forwarded(target):
        port = int(target.url.rpartition(":")[2])
        yield Reached(f"https://127.0.0.1:{port}", "127.0.0.1", port, name, True)

    monkeypatch.setattr(_link.Target, "reach", forwarded)
    trace = _otlp.make_trace("tls", "tls", "both", time.time_ns())
    for link, export, parameter in (
        (_otlp.grpc_link, _otlp.export_grpc, "otlp_grpc_endpoint"),
        (_link.http_link, _otlp.export_http, "otlp_http_endpoint"),
    ):
        target = _link.Target(collector.parameters[parameter], parameter, "auto", lambda: None, str(tls / "ca.pem"))
        name = SERVICE_HOST
        with link(target) as connection:
            assert connection.use(lambda one, export=export: export(one, _otlp.TRACES, trace.request, 5)).accepted
        name = "other.private-ai-demo.svc"
        with link(target) as connection, pytest.raises(_link.Unreachable):
            connection.use(lambda one, export=export: export(one, _otlp.TRACES, trace.request, 5))


# Connections that are none


@pytest.fixture
def listener():
    """``(port, behave)``: a port where every connection is given to ``behave[0]``."""
    import threading

    behave = [lambda connection: None]
    kept = []
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _peer = server.accept()
            except OSError:
                return
            kept.append(connection)
            behave[0](connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield server.getsockname()[1], behave
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)
    for connection in kept:
        connection.close()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (lambda connection: connection.close(), ""),
        (lambda connection: None, "no answer within 1 s"),
        (lambda connection: connection.sendall(b"hello\r\n"), ""),
    ],
    ids=["closes", "is silent", "speaks something else"],
)
def test_a_port_that_is_no_receiver_is_unreachable(listener, protocol, behaviour, words) -> None:
    port, behave = listener
    behave[0] = behaviour
    target = _link.Target(f"http://127.0.0.1:{port}", "x", "direct", lambda: None)
    link, export = (_otlp.grpc_link, _otlp.export_grpc) if protocol == "grpc" else (_link.http_link, _otlp.export_http)
    request = _otlp.make_trace("s", "p", protocol, time.time_ns()).request
    begin = time.monotonic()
    with link(target) as connection, pytest.raises(_link.Unreachable) as error:
        connection.use(lambda one: export(one, _otlp.TRACES, request, 1))
    assert words in str(error.value) and f"127.0.0.1:{port}" in str(error.value)
    assert time.monotonic() - begin < 3


def test_a_redirect_is_not_followed(listener) -> None:
    port, behave = listener
    behave[0] = lambda connection: (
        connection.recv(9999),
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
    )
    with _link.http_link(_link.Target(f"http://127.0.0.1:{port}/prefix", "x", "direct", lambda: None)) as link:
        read = _tempo.Tempo(link).trace("0" * 32, "p", frozenset())
    assert read.state == "refused" and read.text == "302"
