# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Make a trace with the OpenTelemetry SDK and hand it to an OTLP receiver over gRPC or HTTP.

The SDK makes the spans, its OTLP packages encode them and bring the gRPC client. Their ``OTLPSpanExporter`` classes are not
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
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
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

RETRYABLE_GRPC = ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS", "RESOURCE_EXHAUSTED")
RETRYABLE_HTTP = (429, 502, 503, 504)
"""By the OTLP specification."""


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
                roots = None
                if target.ca_cert is not None:
                    with open(target.ca_cert, "rb") as file:
                        roots = file.read()
                channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(roots), options)
            else:
                channel = grpc.insecure_channel(address, options)
            with channel:
                yield channel

    return Link(target.url, connect)


def export_grpc(channel: t.Any, request: t.Any, timeout: float) -> Reply:
    """Hand a trace to a receiver over gRPC, in one attempt.

    :param channel: ``grpc.Channel``.
    :param request: ``ExportTraceServiceRequest``.
    :param timeout: seconds.
    :raises Unreachable: no HTTP/2 connection, or no answer in time.
    """
    deadline = time.monotonic() + timeout
    connected = _connects(channel, min(CONNECT_SECONDS, timeout))
    try:
        # A channel that cannot connect fails at once, and only the call says why.
        answer = TraceServiceStub(channel).Export(request, timeout=max(0.1, deadline - time.monotonic()))
    except grpc.RpcError as exc:
        code, details = exc.code().name, " ".join((exc.details() or "").split())
        if code == "DEADLINE_EXCEEDED":
            raise Unreachable(f"{'connected, but ' if connected else ''}no answer within {timeout:.3g} s") from exc
        if not connected:
            raise Unreachable(details.rpartition("last error: ")[2]) from exc
        return Reply(False, code, details, code in RETRYABLE_GRPC)
    return _partial(answer)


def export_http(http: Http, request: t.Any, timeout: float) -> Reply:
    """Hand a trace to a receiver over HTTP, in one attempt; arguments and errors as ``export_grpc``."""
    kind = "application/x-protobuf"
    answer = http.request("POST", "/v1/traces", body=request.SerializeToString(), headers={"Content-Type": kind}, timeout=timeout)
    protobuf = answer.headers.get("Content-Type", "").startswith(kind)
    try:
        if 200 <= answer.status < 300:
            return _partial(ExportTraceServiceResponse.FromString(answer.body if protobuf else b""))
        text = Status.FromString(answer.body).message if protobuf else answer.text
    except DecodeError:
        text = answer.text
    return Reply(False, str(answer.status), text, answer.status in RETRYABLE_HTTP)


def _partial(answer: t.Any) -> Reply:
    """What a receiver that said "success" may still have refused."""
    partial = answer.partial_success
    if partial.rejected_spans:
        return Reply(False, "partial success", f"{partial.rejected_spans} spans rejected: {partial.error_message}")
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
