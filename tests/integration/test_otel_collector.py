# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The configuration that role otel_collector renders, in the real collector, with a real Tempo behind it, on loopback.

OTELCOL_BINARY and TEMPO_BINARY name the programs. What needs a cluster (k8sattributes) is taken out here and left to the lab.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import pytest
import yaml
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _otlp
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from servers import Server, TempoServer, free_port

from roles import Role

ROLE = Role("otel_collector")
IMAGE = "ghcr.io/open-telemetry/opentelemetry-collector-releases/opentelemetry-collector-contrib:0.158.0"
SECRET = "what is my diagnosis, doctor?"

EXTRA = {
    "otel_collector_exporters": {
        "otlp/archive": {"endpoint": "archive.example.com:4317", "auth": {"authenticator": "basicauth"}},
        "otlphttp/archive": {"endpoint": "https://archive.example.com", "headers": {"Authorization": "Bearer ${env:TOKEN}"}},
        "prometheusremotewrite": {"endpoint": "https://metrics.example.com/api/v1/write"},
    },
    "otel_collector_extensions": {"basicauth": {"client_auth": {"username": "${env:USERNAME}", "password": "${env:TOKEN}"}}},
    "otel_collector_traces_exporters": ["otlp/archive", "otlphttp/archive"],
    "otel_collector_metrics_exporters": ["prometheusremotewrite", "otlp/archive"],
}
#: Each of these with each of those.
CHOICES = (
    [{"otel_collector_queue_persistent": kept} for kept in (False, True)],
    [{"otel_collector_tail_sampling": sampled} for sampled in (False, True)],
    [
        {"otel_collector_image": IMAGE},
        {"otel_collector_image": IMAGE, "otel_collector_tempo_tenant": "dev", **EXTRA},
        {"otel_collector_span_metrics": False, "otel_collector_k8s_namespaces": []},
        {
            "otel_collector_redact_attributes": ['^a\\.b"$', "[.]c$"],
            "otel_collector_span_metrics_dimensions": ["session.id"],
            "otel_collector_k8s_namespaces": ["a", "b"],
        },
    ],
)


def rendered(**inventory) -> dict:
    return ROLE.value("__otel_collector_config", **{"otel_collector_image": IMAGE, **inventory})


@pytest.mark.parametrize("parts", list(itertools.product(*CHOICES)), ids=range(16))
def test_the_collector_takes_what_is_rendered(tmp_path, parts):
    config = rendered(**{name: value for part in parts for name, value in part.items()})
    for name, extension in config["extensions"].items():
        if name == "file_storage":
            extension["directory"] = str(tmp_path)
    assert validated(tmp_path, config) == ""


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (("exporters", "otlp/tempo", "sending_queue", "queue_size", 0), "queue_size"),
        (("processors", "transform/redact", "metric_statements", ['delete_matching_keys(datapoint.attributes, "(")']), "missing closing"),
        (("connectors", "spanmetrics", "dimensions", [{"name": "span.name"}]), "duplicate dimension"),
        (("service", "pipelines", "traces", "exporters", ["nowhere"]), "nowhere"),
    ],
)
def test_the_collector_would_not_take_anything(tmp_path, part, message):
    """What validate says is worth something."""
    config = target = rendered()
    *path, last, value = part
    for key in path:
        target = target[key]
    target[last] = value
    assert message in validated(tmp_path, config)


def validated(folder: Path, config: dict) -> str:
    """What `otelcol validate` has against a configuration, empty if nothing."""
    binary = os.environ.get("OTELCOL_BINARY")
    if not binary:
        pytest.fail("OTELCOL_BINARY is not set: build the lab (make lab-build) and name its program", pytrace=False)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    environment = {**os.environ, "TOKEN": "t", "USERNAME": "u"}
    done = subprocess.run(
        [binary, "validate", "--config", folder / "config.yaml"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


class RenderedCollector(Server):
    """The collector with a rendered configuration, whose addresses are moved to loopback and whose lookup of pods is left out.

    ``otlp``: host and port of its gRPC receiver. ``page()``: what Prometheus would read.
    """

    def __init__(self, folder: Path, tempo: str, **inventory) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        grpc, http, page, own, health = (free_port() for _ in range(5))
        self.otlp, self._page, self._own = f"127.0.0.1:{grpc}", f"http://127.0.0.1:{page}/metrics", f"http://127.0.0.1:{own}/metrics"
        config = rendered(otel_collector_tempo_endpoint=tempo, otel_collector_k8s_attributes=False, **inventory)
        config["extensions"]["health_check"]["endpoint"] = f"127.0.0.1:{health}"
        if "file_storage" in config["extensions"]:
            config["extensions"]["file_storage"]["directory"] = str(folder)
        protocols = config["receivers"]["otlp"]["protocols"]
        protocols["grpc"]["endpoint"], protocols["http"]["endpoint"] = self.otlp, f"127.0.0.1:{http}"
        config["exporters"]["prometheus"]["endpoint"] = f"127.0.0.1:{page}"
        config["service"]["telemetry"]["metrics"]["readers"][0]["pull"]["exporter"]["prometheus"] |= {"host": "127.0.0.1", "port": own}
        for connector in {"spanmetrics", "servicegraph"} & set(config["connectors"]):
            config["connectors"][connector]["metrics_flush_interval"] = "200ms"
        self.config = copy.deepcopy(config)
        super().__init__("OTELCOL_BINARY", folder, ["--config"], config, f"http://127.0.0.1:{health}")

    def page(self, openmetrics: bool = False) -> str:
        accept = "application/openmetrics-text; version=1.0.0" if openmetrics else "text/plain"
        return urllib.request.urlopen(urllib.request.Request(self._page, headers={"Accept": accept}), timeout=30).read().decode()

    def own(self, name: str) -> float:
        """The sum of one of its own counters."""
        body = urllib.request.urlopen(self._own, timeout=30).read().decode()
        found = [value for _, value in series(body, name)]
        assert found, f"no {name} among its own metrics"
        return sum(found)


def series(page: str, name: str) -> list[tuple[dict, float]]:
    """Labels and value of each series of that name."""
    found = re.findall(rf"^{name}(?:{{(.*)}})? ([-+.e\d]+)", page, re.MULTILINE)
    return [(dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)), float(value)) for labels, value in found]


def until(look, wanted: str, seconds: float = 20):
    """What ``look`` returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {wanted}"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def tempo(tmp_path_factory):
    with TempoServer(tmp_path_factory.mktemp("tempo")) as server:
        yield server


@pytest.fixture(scope="module")
def collector(tmp_path_factory, tempo):
    with RenderedCollector(tmp_path_factory.mktemp("collector"), tempo.otlp) as server:
        yield server


class Application:
    """A service with the OpenTelemetry SDK."""

    def __init__(self, name: str, endpoint: str, **resource: str) -> None:
        self.resource = Resource({"service.name": name, **{key.replace("__", "."): value for key, value in resource.items()}})
        self._provider = TracerProvider(resource=self.resource, shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint, insecure=True)))
        self.tracer = self._provider.get_tracer("test")
        self._endpoint = endpoint

    def measure(self, record) -> None:
        """Send what ``record`` does with a meter."""
        provider = MeterProvider(
            [PeriodicExportingMetricReader(OTLPMetricExporter(self._endpoint, insecure=True))], self.resource, shutdown_on_exit=False
        )
        record(provider.get_meter("test"))
        provider.shutdown()


def stored(tempo: TempoServer, trace_id: int) -> list[dict]:
    """The spans of a trace in Tempo, empty while there are none."""
    try:
        body = urllib.request.urlopen(f"{tempo.url}/api/traces/{trace_id:032x}", timeout=30).read()
    except urllib.error.HTTPError as error:
        assert error.code == 404
        return []
    return [span for batch in json.loads(body)["batches"] for scope in batch["scopeSpans"] for span in scope["spans"]]


def attributes(item: dict) -> dict:
    return {attribute["key"]: next(iter(attribute["value"].values())) for attribute in item.get("attributes", [])}


def chat(collector: RenderedCollector, model: str, failed: bool = False, **further) -> int:
    """A request from a gateway to a model that carries prompt and completion in every way; returns the trace's id."""
    gateway, server = (
        Application("gateway", collector.otlp, k8s__namespace__name="models"),
        Application(model, collector.otlp, k8s__pod__name="pod-1"),
    )
    common = {"gen_ai.request.model": model, "gen_ai.operation.name": "chat", **further}
    with gateway.tracer.start_as_current_span(f"chat {model}", kind=SpanKind.CLIENT, attributes=common) as span:
        span.set_attribute("gen_ai.input.messages", json.dumps([{"role": "user", "content": SECRET}]))
        span.set_attribute("gen_ai.prompt.0.content", SECRET)
        span.set_attribute("traceloop.entity.input", SECRET)
        span.add_event("gen_ai.user.message", {"content": SECRET, "role": "user"})
        span.add_event("gen_ai.client.inference.operation.details", {"gen_ai.output.messages": SECRET, "gen_ai.response.id": "r-1"})
        with server.tracer.start_as_current_span("/v1/chat/completions", kind=SpanKind.SERVER, attributes={**common, "input.value": SECRET}) as inner:
            inner.set_attribute("gen_ai.usage.input_tokens", 7)
            if failed:
                inner.set_status(StatusCode.ERROR)
    return span.get_span_context().trace_id


def test_a_span_arrives_without_what_people_wrote(collector, tempo):
    trace = chat(collector, "redacted")
    spans = until(lambda: len(found := stored(tempo, trace)) == 2 and found, "both spans")
    assert SECRET not in json.dumps(spans)
    client, server = sorted(spans, key=lambda span: "parentSpanId" in span and bool(span["parentSpanId"]))
    assert attributes(client) == {"gen_ai.request.model": "redacted", "gen_ai.operation.name": "chat"}
    assert attributes(server)["gen_ai.usage.input_tokens"] == "7"
    assert "input.value" not in attributes(server)
    assert [(event["name"], attributes(event)) for event in client["events"]] == [
        ("gen_ai.user.message", {"role": "user"}),
        ("gen_ai.client.inference.operation.details", {"gen_ai.response.id": "r-1"}),
    ]
    assert SECRET not in collector.page()


def test_spans_arrive_whole_when_that_is_wanted(tmp_path, tempo):
    """The test above could not fail if nothing carried the secret."""
    with RenderedCollector(tmp_path, tempo.otlp, otel_collector_redact=False) as collector:
        trace = chat(collector, "whole")
        spans = until(lambda: len(found := stored(tempo, trace)) == 2 and found, "both spans")
        assert json.dumps(spans).count(SECRET) == 6


def test_spans_are_counted_and_timed(collector):
    for _ in range(3):
        chat(collector, "counted")
    chat(collector, "counted", failed=True)
    labels = {"service_name": "counted", "span_kind": "SPAN_KIND_SERVER", "gen_ai_request_model": "counted", "gen_ai_operation_name": "chat"}

    def calls() -> dict:
        found = series(collector.page(), "traces_span_metrics_calls_total")
        return {row["status_code"]: value for row, value in found if labels.items() <= row.items()}

    until(lambda: calls() == {"STATUS_CODE_UNSET": 3, "STATUS_CODE_ERROR": 1}, "calls of the server")
    page = collector.page()
    assert "collector_instance_id" not in page
    durations = [value for row, value in series(page, "traces_span_metrics_duration_seconds_count") if labels.items() <= row.items()]
    assert sorted(durations) == [1, 3]
    limits = {row["le"] for row, _ in series(page, "traces_span_metrics_duration_seconds_bucket") if labels.items() <= row.items()}
    assert {"0.01", "2.5", "120"} <= limits
    (client,) = (
        row
        for row, _ in series(page, "traces_span_metrics_calls_total")
        if row["service_name"] == "gateway" and row["gen_ai_request_model"] == "counted"
    )
    assert client["k8s_namespace_name"] == "models"


def test_histograms_carry_exemplars(collector):
    trace = chat(collector, "exemplary")
    pattern = rf'^traces_span_metrics_duration_seconds_bucket{{[^}}]*"exemplary"[^}}]*}} \S+ # {{[^}}]*trace_id="{trace:032x}"'
    until(lambda: re.search(pattern, collector.page(openmetrics=True), re.MULTILINE), "an exemplar")


def test_requests_between_services_are_edges(collector):
    chat(collector, "edge")
    chat(collector, "edge", failed=True)
    edge = {"client": "gateway", "server": "edge"}

    def count(name: str) -> float:
        return sum(value for row, value in series(collector.page(), name) if edge.items() <= row.items())

    until(lambda: count("traces_service_graph_request_total") == 2, "the edge")
    assert count("traces_service_graph_request_failed_total") == 1
    assert count("traces_service_graph_request_server_seconds_count") == 2


def test_a_pod_replaced_goes_on_counting(collector):
    """Two pods of one service are one series, not two that overwrite each other."""
    for pod in ("one", "two"):
        application = Application("replaced", collector.otlp, k8s__pod__name=pod, service__instance__id=pod)
        for _ in range(2):
            application.tracer.start_span("work").end()

    def calls() -> list[float]:
        return [value for row, value in series(collector.page(), "traces_span_metrics_calls_total") if row["service_name"] == "replaced"]

    until(lambda: calls() == [4], "one series")


def test_metrics_over_otlp_are_there_with_chosen_labels(collector):
    application = Application(
        "mistral", collector.otlp, k8s__namespace__name="models", k8s__pod__name="mistral-1", host__name="node-7", kserve__inferenceservice__name="m"
    )

    def record(meter):
        meter.create_histogram("vllm_time_to_first_token_seconds", unit="s").record(0.25, {"model_name": "m", "gen_ai.prompt": SECRET})
        meter.create_counter("vllm.generation_tokens").add(5, {"model_name": "m"})

    application.measure(record)
    ((row, value),) = until(lambda: series(collector.page(), "vllm_generation_tokens_total"), "the counter")
    assert value == 5
    wanted = {
        "service_name": "mistral",
        "k8s_namespace_name": "models",
        "k8s_pod_name": "mistral-1",
        "kserve_inferenceservice_name": "m",
        "model_name": "m",
    }
    assert wanted.items() <= row.items()
    assert "host_name" not in row
    ((row, value),) = series(collector.page(), "vllm_time_to_first_token_seconds_sum")
    assert (value, row["model_name"]) == (0.25, "m")
    assert SECRET not in collector.page()


def test_combinations_over_the_limit_are_counted_together(tmp_path, tempo):
    with RenderedCollector(tmp_path, tempo.otlp, otel_collector_span_metrics_limit=5) as collector:
        application = Application("talkative", collector.otlp)
        for number in range(20):
            application.tracer.start_span(f"GET /orders/{number}").end()

        def counts() -> list[float]:
            return [value for _, value in series(collector.page(), "traces_span_metrics_calls_total")]

        until(lambda: sum(counts()) == 20, "all spans")
        assert len(counts()) == 6
        (overflow,) = (
            value for row, value in series(collector.page(), "traces_span_metrics_calls_total") if row.get("otel_metric_overflow") == "true"
        )
        assert overflow == 15


def test_tail_sampling_keeps_errors_and_the_proof_and_counts_all(tmp_path, tempo):
    policies = [{"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}}]
    inventory = {"otel_collector_tail_sampling": True, "otel_collector_tail_sampling_wait": "1s", "otel_collector_tail_sampling_policies": policies}
    with RenderedCollector(tmp_path, tempo.otlp, **inventory) as collector:
        dropped = [chat(collector, "sampled") for _ in range(5)]
        failed, probe = chat(collector, "sampled", failed=True), chat(collector, "sampled", **{"private_ai.probe.id": "p"})
        for kept in (failed, probe):
            assert SECRET not in json.dumps(until(lambda kept=kept: len(found := stored(tempo, kept)) == 2 and found, "a kept trace"))
        calls = series(collector.page(), "traces_span_metrics_calls_total")
        assert sum(value for row, value in calls if row["service_name"] == "sampled") == 7
        assert not any(stored(tempo, trace) for trace in dropped)


def test_a_back_end_that_does_not_answer_holds_up_nobody(tmp_path, tempo):
    dead = {"otlp/dead": {"endpoint": f"127.0.0.1:{free_port()}", "tls": {"insecure": True}, "sending_queue": {"enabled": True, "queue_size": 1}}}
    inventory = {
        "otel_collector_exporters": dead,
        "otel_collector_traces_exporters": ["otlp/dead"],
        "otel_collector_metrics_exporters": ["otlp/dead"],
    }
    for kept in (False, True):
        with RenderedCollector(tmp_path / str(kept), tempo.otlp, otel_collector_queue_persistent=kept, **inventory) as collector:
            traces = [chat(collector, "beside") for _ in range(5)]
            for trace in traces:
                until(lambda trace=trace: len(stored(tempo, trace)) == 2, "both spans in Tempo")
            assert collector.own("otelcol_receiver_refused_spans_total") == 0


def test_a_further_back_end_gets_traces_and_metrics(tmp_path, tempo):
    with TempoServer(tmp_path / "tempo") as other, RenderedCollector(tmp_path / "other", other.otlp) as second:
        exporter = {"otlp/second": {"endpoint": second.otlp, "tls": {"insecure": True}}}
        inventory = {"otel_collector_traces_exporters": ["otlp/second"], "otel_collector_metrics_exporters": ["otlp/second"]}
        with RenderedCollector(tmp_path / "first", tempo.otlp, otel_collector_exporters=exporter, **inventory) as first:
            trace = chat(first, "twice")
            Application("twice", first.otlp).measure(lambda meter: meter.create_counter("passed.on").add(3))
            for place in (tempo, other):
                spans = until(lambda place=place: len(found := stored(place, trace)) == 2 and found, "both spans")
                assert SECRET not in json.dumps(spans)
            until(lambda: [value for _, value in series(second.page(), "passed_on_total")] == [3], "the metric")


@pytest.mark.parametrize("kept", [True, False], ids=["volume", "memory"])
def test_what_was_acknowledged_outlives_the_collector_with_a_queue_on_a_volume(tmp_path, kept):
    """Tempo is away, spans are taken, the collector is killed at once: nothing is lost from a volume, all of it from memory."""
    with (
        TempoServer(tmp_path / "tempo") as tempo,
        RenderedCollector(tmp_path / "collector", tempo.otlp, otel_collector_queue_persistent=kept) as collector,
    ):
        tempo.stop()
        application = Application("killed", collector.otlp)
        traces = []
        for _ in range(20):
            with application.tracer.start_as_current_span("work") as span:
                traces.append(span.get_span_context().trace_id)
        collector.signal(signal.SIGKILL)
        collector.stop()
        tempo.start()
        collector.start()
        if kept:
            for trace in traces:
                until(lambda trace=trace: len(stored(tempo, trace)) == 1, "a span in Tempo", 60)
        else:
            after = Application("after", collector.otlp).tracer.start_span("work")
            after.end()
            until(lambda: stored(tempo, after.get_span_context().trace_id), "a later span")
            assert not any(stored(tempo, trace) for trace in traces)


def test_its_own_metrics_have_the_names_that_alerts_go_by(collector):
    for name in ("receiver_accepted_spans_total", "receiver_refused_spans_total", "exporter_queue_size", "exporter_queue_capacity"):
        assert collector.own(f"otelcol_{name}") >= 0
    until(lambda: collector.own("otelcol_exporter_sent_spans_total") > 0, "spans sent")
    assert collector.own("otelcol_process_memory_rss_bytes") > collector.own("otelcol_process_cpu_seconds_total") > 0


def test_a_full_queue_tells_the_sender(tmp_path):
    """With a queue on a volume, what has no place in it is refused in a way that makes the sender send it again."""
    nowhere = f"127.0.0.1:{free_port()}"
    with RenderedCollector(tmp_path, nowhere, otel_collector_queue_persistent=True, otel_collector_queue_size=10) as collector:
        with grpc.insecure_channel(collector.otlp) as channel:
            stub = TraceServiceStub(channel)
            for number in range(10):
                request = _otlp.make_trace("full", str(number), "grpc", time.time_ns()).request
                try:
                    stub.Export(request, timeout=10)
                except grpc.RpcError as error:
                    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "sending queue is full")
                    assert number > 0
                    return
        pytest.fail("nothing was refused")
