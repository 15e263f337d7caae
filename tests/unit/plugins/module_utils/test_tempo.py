# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What is made of the answers of Tempo's query API."""

from __future__ import annotations

import json

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _otlp, _tempo
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Answer, Unreachable
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

TRACE = _otlp.make_trace("probe", "abc", "grpc", 10**18)


class FakeLink:
    """A link to a server with one answer; keeps the requests."""

    def __init__(self, status: int = 200, body: bytes = b"", headers: dict | None = None, error: str = "") -> None:
        self.answer, self.error = Answer(status, body, headers or {}), error
        self.requests: list[tuple] = []

    def use(self, work):
        if self.error:
            raise Unreachable(self.error)
        return work(self)

    def request(self, method, path, **more):
        self.requests.append((method, path, more))
        return self.answer


def stored(spans: int = 3, probe_id: str = "abc") -> bytes:
    data = TracesData(resource_spans=TRACE.request.resource_spans)
    kept = data.resource_spans[0].scope_spans[0].spans
    del kept[spans:]
    for span in kept:
        for one in span.attributes:
            if one.key == _otlp.PROBE_ID:
                one.value.string_value = probe_id
    return data.SerializeToString()


def by_id(**answer) -> _tempo.Read:
    return _tempo.Tempo(FakeLink(**answer)).trace(TRACE.trace_id, "abc", TRACE.span_ids)


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ({"body": stored()}, _tempo.Read("ok")),
        ({"body": stored(1)}, _tempo.Read("missing", "only 1 of 3 spans are there")),
        ({"body": stored(3, "other")}, _tempo.Read("missing", "only 0 of 3 spans are there")),
        ({"body": b""}, _tempo.Read("missing", "only 0 of 3 spans are there")),
        ({"status": 404}, _tempo.Read("missing", "404")),
        ({"status": 404, "body": b"page not found\n"}, _tempo.Read("missing", "404 page not found")),
        ({"status": 401, "body": b"who?"}, _tempo.Read("refused", "401 who?", True)),
        ({"status": 503, "body": b"starting"}, _tempo.Read("refused", "503 starting", False)),
        ({"error": "http://t:3200: refused"}, _tempo.Read("unreachable", "http://t:3200: refused")),
    ],
)
def test_a_trace_is_there_only_with_all_its_spans(answer, read) -> None:
    assert by_id(**answer) == read


def test_an_answer_that_is_no_trace_is_told() -> None:
    assert by_id(body=b"<html>hello</html>").state == "refused"


def found(*ids: str) -> bytes:
    return json.dumps({"traces": [{"traceID": one, "rootServiceName": "probe"} for one in ids], "metrics": {}}).encode()


@pytest.mark.parametrize(
    ("answer", "state", "ids"),
    [
        ({"body": found("1f")}, "ok", {0x1F}),  # Tempo leaves leading zeros out
        ({"body": found("1f", "2e" * 16)}, "ok", {0x1F, int("2e" * 16, 16)}),
        ({"body": found()}, "ok", set()),
        ({"body": b'{"metrics": {}}'}, "ok", set()),
        ({"body": b"<html>"}, "refused", set()),
        ({"body": b"[1]"}, "refused", set()),
        ({"status": 404, "body": b"page not found"}, "refused", set()),
        ({"status": 400, "body": b"invalid TraceQL"}, "refused", set()),
        ({"error": "down"}, "unreachable", set()),
    ],
)
def test_search_results(answer, state, ids) -> None:
    read, got = _tempo.Tempo(FakeLink(**answer)).search("abc", 1, 2)
    assert (read.state, got) == (state, ids)


def test_requests_carry_query_tenant_and_token() -> None:
    link = FakeLink(body=found())
    tempo = _tempo.Tempo(link, "dev", "t0ken")
    tempo.search("abc", 10, 20)
    tempo.trace(TRACE.trace_id, "abc", TRACE.span_ids)
    (_m, search, more), (_m2, trace, _more) = link.requests
    assert search == "/api/search" and trace == f"/api/traces/{TRACE.trace_id}"
    assert more["query"] == {"q": '{ span.private_ai.probe.id = "abc" }', "start": 10, "end": 20, "limit": 20}
    assert more["headers"] == {"X-Scope-OrgID": "dev", "Authorization": "Bearer t0ken", "Accept": "application/json"}


@pytest.mark.parametrize("token", ["s3cr3t\n", "s3 cr3t", "s3cr\u00e9t"])
def test_a_token_that_no_header_can_hold_is_told_without_showing_it(token) -> None:
    with pytest.raises(ModelMonitoringError) as error:
        _tempo.Tempo(FakeLink(), token=token)
    assert "tempo_token" in str(error.value) and "cr" not in str(error.value).replace("correct", "").replace("character", "")


def test_the_clock_of_tempo_is_compared(monkeypatch) -> None:
    monkeypatch.setattr(_tempo.time, "time", lambda: 784111777.0)
    tempo = _tempo.Tempo(FakeLink(status=404, headers={"Date": "Sun, 06 Nov 1994 08:50:37 GMT"}))
    assert tempo.clock_skew is None
    tempo.warm_up()
    assert tempo.clock_skew == 60


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_a_missing_or_broken_date_is_no_error(date) -> None:
    assert _tempo._skew(date, 0) is None
