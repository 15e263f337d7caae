# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The verdict as a table, and the course of a probe on a fake clock."""

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _trace_probe as tp
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Unreachable
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._otlp import Reply
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._probe import (
    COLLECTOR_EXPORT,
    COLLECTOR_REFUSED,
    COLLECTOR_UNREACHABLE,
    Counters,
    Exporter,
)
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._tempo import Read

ACCEPTED = Reply(True)
OK = Read("ok")
MISSING = Read("missing", "404")
DOWN = Read("unreachable", "http://tempo:3200: Connection refused")
DENIED = Read("refused", "401 Unauthorized", hopeless=True)


def counters(accepted: float = 3, refused: float = 0, instance: str | None = "a", **exporters: Exporter) -> Counters:
    return Counters(accepted, refused, exporters, instance)


SENT = counters(tempo=Exporter(sent=3))
RETRYING = counters(tempo=Exporter(queued=1))
FAILED = counters(tempo=Exporter(failed=3))
FULL = counters(tempo=Exporter(dropped=3, queued=1000))


@pytest.mark.parametrize(
    ("sent", "by_id", "search", "grown", "hop", "words"),
    [
        (ACCEPTED, OK, OK, SENT, None, ()),
        # Tempo has it, and a second back end has nothing; one that works and fails with something else is not blamed.
        (ACCEPTED, OK, OK, counters(tempo=Exporter(sent=3), other=Exporter(queued=1)), COLLECTOR_EXPORT, ("Tempo has the trace", "exporter other")),
        (ACCEPTED, OK, OK, counters(tempo=Exporter(sent=3), other=Exporter(sent=9, failed=1)), None, ()),
        ("http://c:4317: Connection refused", None, None, SENT, COLLECTOR_UNREACHABLE, ("http://c:4317: Connection refused", "Ready")),
        (Reply(False, "UNAVAILABLE", "data refused"), None, None, SENT, COLLECTOR_REFUSED, ("UNAVAILABLE data refused", "memory limit")),
        (Reply(False, "503", "data refused"), None, None, "no metrics", COLLECTOR_REFUSED, ("503", "memory limit")),
        (Reply(False, "UNAUTHENTICATED", "no token"), None, None, SENT, COLLECTOR_REFUSED, ("credentials",)),
        (Reply(False, "401", ""), None, None, SENT, COLLECTOR_REFUSED, ("credentials",)),
        (Reply(False, "404", "page not found"), None, None, SENT, COLLECTOR_REFUSED, ("correct the endpoint",)),
        (Reply(False, "UNIMPLEMENTED", "unknown service"), None, None, SENT, COLLECTOR_REFUSED, ("correct the endpoint",)),
        (Reply(False, "partial success", "3 spans rejected"), None, None, SENT, COLLECTOR_REFUSED, ("3 spans rejected",)),
        (Reply(False, "500", "strange"), None, None, SENT, COLLECTOR_REFUSED, ("strange", "collector's log")),
        # A full queue shows as a refusal, but the exporter is the cause.
        (Reply(False, "UNAVAILABLE", "sending queue is full"), None, None, FULL, COLLECTOR_EXPORT, ("queue of exporter tempo is full",)),
        (ACCEPTED, MISSING, None, FAILED, COLLECTOR_EXPORT, ("exporter tempo: 0 spans sent, 3 failed", "Exporting failed")),
        (ACCEPTED, MISSING, None, RETRYING, COLLECTOR_EXPORT, ("queue size 1",)),
        (ACCEPTED, MISSING, None, FULL, COLLECTOR_EXPORT, ("3 dropped at a full queue",)),
        (ACCEPTED, MISSING, None, counters(tempo=Exporter(sent=9, dropped=3)), COLLECTOR_EXPORT, ("3 dropped at a full queue",)),
        # It still retries, another exporter works.
        (ACCEPTED, MISSING, None, counters(tempo=Exporter(queued=1), other=Exporter(sent=3)), COLLECTOR_EXPORT, ("exporter tempo: 0",)),
        # Tempo is down altogether: the collector's export is the first hop that lost it.
        (ACCEPTED, DOWN, None, RETRYING, COLLECTOR_EXPORT, ("queue size 1",)),
        # One exporter works and another does not: the one that does not is named, and only that.
        (ACCEPTED, MISSING, None, counters(tempo=Exporter(failed=3), other=Exporter(sent=3)), COLLECTOR_EXPORT, ("exporter tempo: 0",)),
        (ACCEPTED, MISSING, None, counters(), COLLECTOR_EXPORT, ("3 spans accepted, none sent", "filter, sampling")),
        (ACCEPTED, MISSING, None, counters(tempo=Exporter()), COLLECTOR_EXPORT, ("3 spans accepted, none sent", "filter, sampling")),
        (ACCEPTED, MISSING, None, SENT, tp.TEMPO_STORE, ("Tempo does not have the trace after 30 s (404)", "exporter tempo: 3 spans sent")),
        (ACCEPTED, Read("missing", "only 1 of 3 spans are there"), None, SENT, tp.TEMPO_STORE, ("only 1 of 3",)),
        # Busy collector: something waits in the queue, but spans are sent.
        (ACCEPTED, MISSING, None, counters(500, tempo=Exporter(sent=480, queued=1)), tp.TEMPO_STORE, ("480 spans sent",)),
        (ACCEPTED, MISSING, None, "http://c:8888: Connection refused", tp.AFTER_COLLECTOR, ("cannot tell", "http://c:8888")),
        (ACCEPTED, MISSING, None, counters(0, tempo=Exporter(failed=9)), tp.AFTER_COLLECTOR, ("another replica",)),
        (ACCEPTED, None, None, SENT, tp.TEMPO_STORE, ("not asked",)),
        (ACCEPTED, DOWN, None, SENT, tp.TEMPO_QUERY, ("not reachable at http://tempo:3200", "query-frontend is Ready")),
        (ACCEPTED, DOWN, None, "no metrics", tp.TEMPO_QUERY, ("not reachable",)),
        (ACCEPTED, DENIED, None, SENT, tp.TEMPO_QUERY, ("refused to read: 401", "give a token")),
        (ACCEPTED, OK, MISSING, SENT, tp.TEMPO_SEARCH, ("has the trace by id", "after 90 s", "trace_idle_period")),
        (ACCEPTED, OK, None, SENT, tp.TEMPO_SEARCH, ("did not find it",)),
        (ACCEPTED, OK, DENIED, SENT, tp.TEMPO_SEARCH, ("refused to search: 401", "give a token")),
        (ACCEPTED, OK, DOWN, SENT, tp.TEMPO_SEARCH, ("no longer reachable at http://tempo:3200",)),
    ],
)  # fmt: skip
def test_judge_names_the_first_hop_that_lost_the_trace(sent, by_id, search, grown, hop, words) -> None:
    verdict = tp.judge(tp.Observation(sent, by_id, search, grown, waited=30, search_waited=90))
    assert (verdict and verdict.hop) == hop
    for word in words:
        assert verdict is not None and word in f"{verdict.message}: {verdict.cure}"


def test_judge_does_not_blame_an_exporter_that_works() -> None:
    grown = counters(tempo=Exporter(failed=3), other=Exporter(sent=3))
    verdict = tp.judge(tp.Observation(ACCEPTED, MISSING, None, grown))
    assert verdict is not None and "other" not in verdict.message


@pytest.mark.parametrize(
    ("skew", "words"),
    [(None, "trace_idle_period"), (2.0, "trace_idle_period"), (3600.0, "3600 s behind Tempo's"), (-120.0, "120 s ahead of Tempo's")],
)
def test_a_search_that_finds_nothing_tells_of_clocks_that_differ(skew, words) -> None:
    verdict = tp.judge(tp.Observation(ACCEPTED, OK, MISSING, SENT, clock_skew=skew))
    assert verdict is not None and words in f"{verdict.message}: {verdict.cure}"


class FakeTime:
    """A clock that only sleeping and working move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


@dataclasses.dataclass
class Stack:
    """Collector and Tempo as seen by the probe: every request takes 10 ms; times are seconds after the trace was accepted."""

    time: FakeTime
    stored_after: float = 0.05
    searchable_after: float = 8.0
    search_fails: Read | None = None
    read_fails: Read | None = None
    clock_skew: float | None = 0.0
    warm: bool = False
    accepted: dict[str, float] = dataclasses.field(default_factory=dict)
    requests: list[str] = dataclasses.field(default_factory=list)
    windows: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    counts: list[Counters | str] = dataclasses.field(default_factory=list)

    def _work(self, name: str) -> None:
        self.time.now += 0.01
        self.requests.append(name)

    def sender(self, *replies: Reply | Unreachable):
        """One that gives these replies, the last for ever."""
        rest = list(replies)

        def send(request, timeout: float) -> Reply:
            self._work("send")
            reply = rest.pop(0) if len(rest) > 1 else rest[0]
            if isinstance(reply, Unreachable):
                raise reply
            if reply.accepted:
                self.accepted[request.resource_spans[0].scope_spans[0].spans[0].trace_id.hex()] = self.time.now
            return reply

        return send

    def warm_up(self) -> None:
        self.warm = True

    def trace(self, trace_id: str, probe_id: str, span_ids: frozenset[bytes]) -> Read:
        self._work("by id")
        assert len(span_ids) == 3
        if self.read_fails:
            return self.read_fails
        return OK if self.time.now - self.accepted[trace_id] >= self.stored_after else MISSING

    def search(self, probe_id: str, start: int, end: int):
        self._work("search")
        self.windows.append((start, end))
        if self.search_fails:
            return self.search_fails, frozenset()
        return OK, frozenset(int(one, 16) for one, at in self.accepted.items() if self.time.now - at >= self.searchable_after)

    def counters(self) -> Counters | str:
        self.requests.append("counters")
        return self.counts.pop(0) if self.counts else counters(0)

    def probe(self, **senders):
        return tp.probe(
            senders, self, self.counters, tp.Limits(10, 30, 90), "probe", "abc", self.time.clock, self.time.sleep, lambda: self.time.now + 1e9
        )


@pytest.fixture
def stack() -> Stack:
    return Stack(FakeTime())


def test_a_trace_that_arrives_is_proven_with_its_latencies(stack) -> None:
    grpc, http = stack.probe(grpc=stack.sender(ACCEPTED), http=stack.sender(ACCEPTED))
    assert (grpc["protocol"], http["protocol"]) == ("grpc", "http")
    for proof in (grpc, http):
        assert proof["hop"] is None and proof["message"] is None
        assert proof["spans"] == 3
        assert proof["send_seconds"] == pytest.approx(0.01)
        assert 0.05 <= proof["by_id_seconds"] < 0.15
        assert 8 <= proof["search_seconds"] < 9.1
        assert proof["traceql"] == '{ span.private_ai.probe.id = "abc" }'
    assert grpc["trace_id"] != http["trace_id"]
    assert stack.warm
    assert stack.requests.count("counters") == 2


def test_the_search_window_holds_the_trace(stack) -> None:
    stack.probe(grpc=stack.sender(ACCEPTED))
    for start, end in stack.windows:
        assert start <= 1e9 + 1000 - 0.9 and end >= stack.time.now + 1e9
        assert end - start < 300


def test_a_slow_trace_over_one_protocol_does_not_hold_the_other(stack) -> None:
    stack.stored_after = 20
    grpc, http = stack.probe(grpc=stack.sender(ACCEPTED), http=stack.sender(ACCEPTED))
    assert stack.accepted[http["trace_id"]] - stack.accepted[grpc["trace_id"]] < 3
    assert 20 <= grpc["by_id_seconds"] < 21.1
    assert 20 <= http["by_id_seconds"] < 21.1


def test_an_answer_that_may_change_is_asked_again(stack) -> None:
    busy = Reply(False, "UNAVAILABLE", "later", retryable=True)
    (proof,) = stack.probe(grpc=stack.sender(Unreachable("no"), busy, ACCEPTED))
    assert proof["hop"] is None
    assert stack.requests.count("send") == 3


def test_an_answer_that_cannot_change_is_not_asked_again(stack) -> None:
    (proof,) = stack.probe(grpc=stack.sender(Reply(False, "UNAUTHENTICATED", "who?")))
    assert proof["hop"] == COLLECTOR_REFUSED
    assert stack.requests.count("send") == 1
    assert "by id" not in stack.requests and "search" not in stack.requests


def test_a_dead_collector_ends_within_the_time_to_send(stack) -> None:
    before = stack.time.now
    grpc, http = stack.probe(grpc=stack.sender(Unreachable("refused")), http=stack.sender(ACCEPTED))
    assert grpc["hop"] == COLLECTOR_UNREACHABLE and grpc["send_seconds"] is None
    assert http["hop"] is None, "the other protocol is proven all the same"
    assert stack.accepted[http["trace_id"]] - before < 10.5


def test_a_trace_that_never_comes_ends_within_the_time_by_id(stack) -> None:
    stack.stored_after = 1e9
    stack.counts = [counters(0), counters(6, tempo=Exporter(queued=2))]
    before = stack.time.now
    proofs = stack.probe(grpc=stack.sender(ACCEPTED), http=stack.sender(ACCEPTED))
    assert [proof["hop"] for proof in proofs] == [COLLECTOR_EXPORT, COLLECTOR_EXPORT]
    assert stack.time.now - before < 36
    assert "search" not in stack.requests
    assert stack.requests.count("by id") < 150, "not a busy loop"


def test_a_trace_that_comes_at_the_last_moment_is_still_seen(stack) -> None:
    stack.stored_after = 31.9  # 2 s of first looks, then 30 s
    (proof,) = stack.probe(grpc=stack.sender(ACCEPTED))
    assert proof["hop"] is None


def test_a_read_that_is_denied_ends_at_once(stack) -> None:
    stack.read_fails = DENIED
    before = stack.time.now
    (proof,) = stack.probe(grpc=stack.sender(ACCEPTED))
    assert stack.time.now - before < 1
    assert proof["hop"] == tp.TEMPO_QUERY


def test_a_search_that_finds_nothing_ends_within_its_time(stack) -> None:
    stack.searchable_after = 1e9
    before = stack.time.now
    (proof,) = stack.probe(grpc=stack.sender(ACCEPTED))
    assert proof["hop"] == tp.TEMPO_SEARCH and proof["by_id_seconds"] is not None and proof["search_seconds"] is None
    assert 90 <= stack.time.now - before < 90.2
    assert "after 90 s" in proof["message"]


def test_a_probe_ends_as_soon_as_all_is_found(stack) -> None:
    before = stack.time.now
    (proof,) = stack.probe(grpc=stack.sender(ACCEPTED))
    assert stack.time.now - before == pytest.approx(proof["send_seconds"] + proof["search_seconds"], abs=0.002)


def test_an_exporter_that_is_still_busy_is_given_time(stack) -> None:
    busy = counters(3, tempo=Exporter(sent=3), other=Exporter(queued=1))
    stack.counts = [counters(0), busy, busy, counters(3, tempo=Exporter(sent=3), other=Exporter(sent=3))]
    assert stack.probe(grpc=stack.sender(ACCEPTED))[0]["hop"] is None
    stack.counts = [counters(0), *[busy] * 99]
    before = stack.time.now
    assert stack.probe(grpc=stack.sender(ACCEPTED))[0]["hop"] == COLLECTOR_EXPORT
    assert stack.time.now - before < 16


def test_a_latency_once_measured_stays(stack) -> None:
    stack.stored_after, stack.searchable_after = 0, 0
    everything = stack.search

    def search(probe_id, start, end):
        read, found = everything(probe_id, start, end)
        if len(stack.windows) < 9:  # the first trace is found at once, the second later
            found = frozenset([int(next(iter(stack.accepted)), 16)])
        return read, found

    stack.search = search
    grpc, http = stack.probe(grpc=stack.sender(ACCEPTED), http=stack.sender(ACCEPTED))
    assert grpc["search_seconds"] < 0.1 < 1 < http["search_seconds"]


def test_a_search_that_is_denied_ends_at_once(stack) -> None:
    stack.search_fails = DENIED
    before = stack.time.now
    (proof,) = stack.probe(grpc=stack.sender(ACCEPTED))
    assert proof["hop"] == tp.TEMPO_SEARCH and stack.time.now - before < 1


def test_a_search_that_finds_only_one_of_two_names_the_other(stack) -> None:
    found: list[int] = []

    def search(probe_id, start, end):
        stack.time.now += 0.01
        return OK, frozenset(found[:1])

    stack.search = search
    send = stack.sender(ACCEPTED)

    def remember(request, timeout):
        found.append(int(request.resource_spans[0].scope_spans[0].spans[0].trace_id.hex(), 16))
        return send(request, timeout)

    grpc, http = stack.probe(grpc=remember, http=remember)
    assert grpc["hop"] is None and grpc["search_seconds"] is not None
    assert http["hop"] == tp.TEMPO_SEARCH and "did not find it" in http["message"]


PARAMS = {
    "protocols": ["grpc", "http"],
    "otlp_grpc_endpoint": "http://c.ns.svc:4317",
    "otlp_http_endpoint": "http://c.ns.svc:4318",
    "tempo_endpoint": "http://t.ns.svc:3200",
    "collector_metrics_endpoint": None,
    "otlp_ca_cert": None,
    "tempo_ca_cert": None,
    "via": "auto",
}


def test_plan_says_what_would_be_proven_and_needs_no_cluster(monkeypatch) -> None:
    monkeypatch.setattr(tp._polling._kube, "connect", lambda params: pytest.fail("connected"))
    said = tp.plan(PARAMS)
    assert "OTLP grpc to http://c.ns.svc:4317" in said and "OTLP http to http://c.ns.svc:4318" in said and "http://t.ns.svc:3200" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"otlp_grpc_endpoint": None}, "otlp_grpc_endpoint: missing"),
        ({"protocols": []}, "protocols: the list is empty"),
        ({"tempo_endpoint": "tempo:3200"}, "tempo_endpoint: 'tempo:3200' has no scheme"),
        ({"collector_metrics_endpoint": "c:8888"}, "collector_metrics_endpoint"),
        ({"otlp_http_endpoint": "https://u:secret@c"}, "otlp_http_endpoint"),
        ({"tempo_ca_cert": "/does/not/exist.pem"}, "the CA file '/does/not/exist.pem' cannot be read"),
    ],
)
def test_unusable_parameters_are_named(change, words) -> None:
    with pytest.raises(ModelMonitoringError) as error:
        tp.plan({**PARAMS, **change})
    assert words in str(error.value) and "secret" not in str(error.value)


def test_an_endpoint_of_a_protocol_that_is_not_asked_for_may_be_missing() -> None:
    assert "grpc" in tp.plan({**PARAMS, "protocols": ["grpc"], "otlp_http_endpoint": None})
