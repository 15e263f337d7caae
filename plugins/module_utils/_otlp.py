# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Make a trace or a metric with the OpenTelemetry SDK and hand it to an OTLP receiver over gRPC or HTTP.

The SDK makes them, its OTLP packages encode them and bring the gRPC client. Their ``OTLP…Exporter`` classes are not
used: all that they tell is success or failure (the status goes to a log, a partial success is dropped), they retry by rules
that differ between versions (up to a minute on a dead endpoint), and what we are here for is to say who refused and why.
"""

from __future__ import annotations

import contextlib
import queue
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.private_ai.model_monitoring.plugins.module_utils._endpoint import parse
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import CONNECT_SECONDS, Http, Link, Target, Unreachable

try:
    import grpc
    from google.protobuf.message import DecodeError
    from google.rpc.status_pb2 import Status
    from opentelemetry import trace as otel
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.metrics import Observation
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    IMPORT_ERROR: ImportError | None = None
except ImportError as _error:
    IMPORT_ERROR = _error

PROBE_ID = "private_ai.probe.id"
"""Attribute of every span of a probe; its value is unique to one run."""

MODEL = "private-ai-probe"
"""Model name of the probe's spans, so that no panel counts them for a real model."""

PROBE_METRIC = "private_ai_probe_timestamp_seconds"
"""Name of the probe's metric, the same in OTLP and in Prometheus whatever the collector does to names (units, suffixes, dots)."""

RETRYABLE_GRPC = ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS", "RESOURCE_EXHAUSTED")
RETRYABLE_HTTP = (429, 502, 503, 504)
"""By the OTLP specification."""


@dataclass(frozen=True)
class Signal:
    """A kind of telemetry. ``what``: one piece of it, in words. ``items``: what a collector counts of it. ``kind``: its name in paths and labels."""

    what: str
    items: str
    kind: str


TRACES = Signal("trace", "spans", "traces")
METRICS = Signal("metric", "metric_points", "metrics")


@dataclass(frozen=True)
class Trace:
    """A finished trace. ``trace_id``: 32 hex digits. ``span_ids``: 8 bytes each. ``request``: the OTLP message."""

    trace_id: str
    span_ids: frozenset[bytes]
    request: t.Any


class Reply(t.NamedTuple):
    """What a receiver answered. ``code``: gRPC's or HTTP's status. ``retryable``: asking again may help."""

    accepted: bool
    code: str = ""
    text: str = ""
    retryable: bool = False


def make_trace(service_name: str, probe_id: str, protocol: str, end_ns: int) -> Trace:
    """A question answered with retrieval: a root span with an embedding and a chat completion below it.

    Nothing of the SDK's environment (sampler, resource attributes) gets in.

    :param end_ns: when it ended, nanoseconds since 1970.
    :raises ModelMonitoringError: ``OTEL_SDK_DISABLED`` is set.
    """
    provider = TracerProvider(resource=Resource({"service.name": service_name}), sampler=ALWAYS_ON, shutdown_on_exit=False)
    tracer = provider.get_tracer("private_ai.model_monitoring")

    def span(name: str, kind: t.Any, parent: t.Any, start: float, end: float, **attributes: t.Any) -> t.Any:
        """One span; start and end are seconds before the end of the trace."""
        named = {key.replace("__", "."): value for key, value in attributes.items()}
        made = tracer.start_span(
            name,
            context=otel.set_span_in_context(parent) if parent else None,
            kind=kind,
            attributes={PROBE_ID: probe_id, "private_ai.probe.protocol": protocol, **named},
            start_time=end_ns - int(start * 1e9),
        )
        made.end(end_ns - int(end * 1e9))
        return made

    kinds = otel.SpanKind
    root = span("POST /v1/chat/completions", kinds.SERVER, None, 0.9, 0, http__request__method="POST", http__response__status_code=200)
    embeddings = span(
        f"embeddings {MODEL}", kinds.CLIENT, root, 0.88, 0.8,
        gen_ai__operation__name="embeddings", gen_ai__provider__name="vllm", gen_ai__request__model=MODEL,
        gen_ai__usage__input_tokens=7,
    )  # fmt: skip
    chat = span(
        f"chat {MODEL}", kinds.CLIENT, root, 0.78, 0.02,
        gen_ai__operation__name="chat", gen_ai__provider__name="vllm", gen_ai__request__model=MODEL,
        gen_ai__response__model=MODEL, gen_ai__response__finish_reasons=("stop",),
        gen_ai__usage__input_tokens=42, gen_ai__usage__output_tokens=17,
    )  # fmt: skip
    spans = (root, embeddings, chat)
    if not root.get_span_context().is_valid:
        raise ModelMonitoringError("the OpenTelemetry SDK makes no spans: OTEL_SDK_DISABLED is set in the environment: unset it")
    return Trace(
        otel.format_trace_id(root.get_span_context().trace_id),
        frozenset(one.get_span_context().span_id.to_bytes(8, "big") for one in spans),
        encode_spans(spans),
    )


def make_metric(service_name: str, protocol: str, value: float, time_ns: int) -> t.Any:
    """A gauge with one point, as the OTLP message ``ExportMetricsServiceRequest``.

    Its labels are the same in every run, so that probes make one series for each protocol and no more: what is unique is the value.

    :param value: what to find it by.
    :param time_ns: of the point, nanoseconds since 1970.
    :raises ModelMonitoringError: ``OTEL_SDK_DISABLED`` is set.
    """
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], Resource({"service.name": service_name}), shutdown_on_exit=False)
    provider.get_meter("private_ai.model_monitoring").create_observable_gauge(
        PROBE_METRIC,
        callbacks=[lambda _options: [Observation(value, {"protocol": protocol})]],
        unit="s",
        description="Time at which a probe of model monitoring sent this, seconds since 1970",
    )
    made = reader.get_metrics_data()
    if made is None:
        raise ModelMonitoringError("the OpenTelemetry SDK makes no metrics: OTEL_SDK_DISABLED is set in the environment: unset it")
    request = encode_metrics(made)
    for point in request.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points:
        point.time_unix_nano = time_ns
    return request


def grpc_link(target: Target) -> Link[t.Any]:
    """A link to a gRPC server; its connection is a ``grpc.Channel``."""

    @contextlib.contextmanager
    def connect() -> t.Iterator[t.Any]:
        with target.reach() as reached:
            address = f"[{reached.host}]:{reached.port}" if ":" in reached.host else f"{reached.host}:{reached.port}"
            options: list[tuple[str, t.Any]] = [("grpc.enable_http_proxy", 0)]
            if reached.forwarded:
                options.append(("grpc.default_authority", reached.server_hostname))
            if parse(target.url, target.parameter).scheme == "https":
                if reached.forwarded:
                    options.append(("grpc.ssl_target_name_override", reached.server_hostname))
                roots = target.authorities()
                credentials = grpc.ssl_channel_credentials(roots.encode("latin-1") if roots else None)
                channel = grpc.secure_channel(address, credentials, options)
            else:
                channel = grpc.insecure_channel(address, options)
            with channel:
                yield channel

    return Link(target.url, connect)


def export_grpc(channel: t.Any, signal: Signal, request: t.Any, timeout: float) -> Reply:
    """Hand telemetry to a receiver over gRPC, in one attempt.

    :param channel: ``grpc.Channel``.
    :param request: ``ExportTraceServiceRequest`` or ``ExportMetricsServiceRequest``, as the signal says.
    :param timeout: seconds.
    :raises Unreachable: no HTTP/2 connection, or no answer in time.
    """
    deadline = time.monotonic() + timeout
    connected = _connects(channel, min(CONNECT_SECONDS, timeout))
    stub: t.Any = {TRACES: TraceServiceStub, METRICS: MetricsServiceStub}[signal](channel)
    try:
        # A channel that cannot connect fails at once, and only the call says why.
        answer = stub.Export(request, timeout=max(0.1, deadline - time.monotonic()))
    except grpc.RpcError as exc:
        code, details = exc.code().name, " ".join((exc.details() or "").split())
        if code == "DEADLINE_EXCEEDED":
            raise Unreachable(f"{'connected, but ' if connected else ''}no answer within {timeout:.3g} s") from exc
        if not connected:
            raise Unreachable(details.rpartition("last error: ")[2]) from exc
        return Reply(False, code, details, code in RETRYABLE_GRPC)
    return _partial(answer.partial_success)


def export_http(http: Http, signal: Signal, request: t.Any, timeout: float) -> Reply:
    """Hand telemetry to a receiver over HTTP, in one attempt; arguments and errors as ``export_grpc``."""
    media = "application/x-protobuf"
    answer = http.request("POST", f"/v1/{signal.kind}", body=request.SerializeToString(), headers={"Content-Type": media}, timeout=timeout)
    protobuf = answer.headers.get("Content-Type", "").startswith(media)
    response: t.Any = {TRACES: ExportTraceServiceResponse, METRICS: ExportMetricsServiceResponse}[signal]
    try:
        if 200 <= answer.status < 300:
            return _partial(response.FromString(answer.body if protobuf else b"").partial_success)
        text = Status.FromString(answer.body).message if protobuf else answer.text
    except DecodeError:
        text = answer.text
    return Reply(False, str(answer.status), text, answer.status in RETRYABLE_HTTP)


def _partial(partial: t.Any) -> Reply:
    """What a receiver that said "success" may still have refused."""
    rejected, unit = (partial.rejected_spans, "spans") if hasattr(partial, "rejected_spans") else (partial.rejected_data_points, "data points")
    if rejected:
        return Reply(False, "partial success", f"{rejected} {unit} rejected: {partial.error_message}")
    return Reply(True)


def _connects(channel: t.Any, timeout: float) -> bool:
    """Whether a channel comes to an HTTP/2 connection; returns early when it does not."""
    states: queue.SimpleQueue[t.Any] = queue.SimpleQueue()
    callback = states.put
    channel.subscribe(callback, try_to_connect=True)
    deadline = time.monotonic() + timeout
    try:
        while True:
            state = states.get(timeout=max(0.0, deadline - time.monotonic()))
            if state in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
                return state is grpc.ChannelConnectivity.READY
    except queue.Empty:
        return False
    finally:
        channel.unsubscribe(callback)
