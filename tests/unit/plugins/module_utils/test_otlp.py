# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The trace that is sent, as the OTLP message says it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _otlp
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Answer
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

END = 1_800_000_000_000_000_000


def attributes(message) -> dict:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in message.attributes}


@pytest.fixture(name="trace")
def made(monkeypatch):
    """Made in an environment that would spoil it."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,secret=1")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "other")
    return _otlp.make_trace("my-probe", "abc", "grpc", END)


def test_all_spans_are_in_one_resource_with_the_service_name_only(trace) -> None:
    (resource,) = trace.request.resource_spans
    assert attributes(resource.resource) == {"service.name": "my-probe"}
    (scope,) = resource.scope_spans
    assert {span.span_id for span in scope.spans} == trace.span_ids
    assert len(trace.span_ids) == len(scope.spans) == 3
    assert {span.trace_id.hex() for span in scope.spans} == {trace.trace_id}


def test_children_hang_on_the_root_and_lie_within_its_time(trace) -> None:
    spans = trace.request.resource_spans[0].scope_spans[0].spans
    (root,) = (span for span in spans if not span.parent_span_id)
    children = [span for span in spans if span.parent_span_id]
    assert all(span.parent_span_id == root.span_id for span in children)
    assert root.end_time_unix_nano == END
    for span in children:
        assert root.start_time_unix_nano < span.start_time_unix_nano < span.end_time_unix_nano < END


def test_every_span_can_be_found_and_the_model_calls_speak_genai(trace) -> None:
    spans = [attributes(span) for span in trace.request.resource_spans[0].scope_spans[0].spans]
    assert all(span[_otlp.PROBE_ID] == "abc" for span in spans)
    assert all(span["private_ai.probe.protocol"] == "grpc" for span in spans)
    (chat,) = (span for span in spans if span.get("gen_ai.operation.name") == "chat")
    assert chat["gen_ai.request.model"] == _otlp.MODEL
    assert chat["gen_ai.usage.input_tokens"] == 42 and chat["gen_ai.usage.output_tokens"] == 17


def test_two_traces_differ(trace) -> None:
    other = _otlp.make_trace("my-probe", "abc", "grpc", END)
    assert other.trace_id != trace.trace_id and not other.span_ids & trace.span_ids


def test_a_disabled_sdk_is_told_in_plain_words() -> None:
    code = (
        "from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _otlp, _errors\n"
        "try: _otlp.make_trace('s', 'p', 'grpc', 10**18)\n"
        "except _errors.ModelMonitoringError as exc: print(exc)\n"
    )
    # The SDK reads the variable once, so it takes a process of its own.
    env = {"OTEL_SDK_DISABLED": "true", "PYTHONPATH": ":".join(path for path in sys.path if path)}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "OTEL_SDK_DISABLED" in result.stdout


class Server:
    """An HTTP connection with one answer."""

    def __init__(self, status: int, body: bytes, content_type: str) -> None:
        self.answer = Answer(status, body, {"Content-Type": content_type})

    def request(self, method, path, **_more):
        assert (method, path) == ("POST", "/v1/traces")
        return self.answer


PROTOBUF = "application/x-protobuf"


def rejected(count: int) -> bytes:
    return ExportTraceServiceResponse(partial_success={"rejected_spans": count, "error_message": "too old"}).SerializeToString()


@pytest.mark.parametrize(
    ("status", "body", "content_type", "reply"),
    [
        (200, b"", PROTOBUF, _otlp.Reply(True)),
        (200, b"{}", "application/json", _otlp.Reply(True)),
        (200, rejected(0), PROTOBUF, _otlp.Reply(True)),
        (200, rejected(2), PROTOBUF, _otlp.Reply(False, "partial success", "2 spans rejected: too old")),
        (503, Status(message="data refused").SerializeToString(), PROTOBUF, _otlp.Reply(False, "503", "data refused", True)),
        (429, b"slow\ndown", "text/plain", _otlp.Reply(False, "429", "slow down", True)),
        (401, b"no token", "text/plain", _otlp.Reply(False, "401", "no token", False)),
        (500, b"\xff\xff broken", PROTOBUF, _otlp.Reply(False, "500", "\ufffd\ufffd broken", False)),
        (302, b"", "text/html", _otlp.Reply(False, "302", "", False)),
    ],
)
def test_http_answers_are_read(trace, status, body, content_type, reply) -> None:
    assert _otlp.export_http(Server(status, body, content_type), _otlp.TRACES, trace.request, 1) == reply


def test_a_metric_is_one_gauge_whose_value_alone_is_of_this_run(monkeypatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,secret=1")
    request = _otlp.make_metric("my-probe", "grpc", 1764.123, END)
    (resource,) = request.resource_metrics
    assert attributes(resource.resource) == {"service.name": "my-probe"}
    (scope,) = resource.scope_metrics
    (metric,) = scope.metrics
    (point,) = metric.gauge.data_points
    assert (metric.name, metric.unit) == ("private_ai_probe_timestamp_seconds", "s")
    assert (point.as_double, point.time_unix_nano, attributes(point)) == (1764.123, END, {"protocol": "grpc"})


def test_rejected_metrics_are_told() -> None:
    response = ExportMetricsServiceResponse(partial_success={"rejected_data_points": 1, "error_message": "too old"})

    class Metrics(Server):
        def request(self, method, path, **_more):
            assert path == "/v1/metrics"
            return self.answer

    server = Metrics(200, response.SerializeToString(), PROTOBUF)
    reply = _otlp.export_http(server, _otlp.METRICS, _otlp.make_metric("s", "http", 1, END), 1)
    assert reply == _otlp.Reply(False, "partial success", "1 data points rejected: too old")
