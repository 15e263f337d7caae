# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Send a trace through the collector, read it back from Tempo, and name the hop that lost it.

Three parts: ``judge`` decides from observations (pure), ``probe`` makes them (clock, connections and counters come in as
arguments), ``run`` opens the connections for the parameters of the module.
"""

from __future__ import annotations

import contextlib
import time
import typing as t
import uuid
from dataclasses import dataclass

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _link, _otlp, _polling, _probe, _tempo
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Target
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._otlp import TRACES, Reply, Trace
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._probe import COLLECTOR_EXPORT, Counters, Sender, Verdict
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._tempo import Read, Tempo

AFTER_COLLECTOR = "after_collector"
TEMPO_QUERY = "tempo_query"
TEMPO_STORE = "tempo_store"
TEMPO_SEARCH = "tempo_search"

SEARCH_MARGIN = 60
"""Seconds before and after the trace to search in."""

FIRST_LOOK = 2.0
"""Seconds to look for a trace by id before the next one is sent."""

SKEW_LIMIT = 30.0
"""Seconds of difference between clocks from which on it is worth a word."""


@dataclass(frozen=True)
class Observation:
    """What was seen of one trace.

    ``sent``: the collector's answer, or the reason why there was none. ``by_id``, ``search``: the last read, None when not tried.
    ``counters``: the growth during the probe, or why it is not known. ``waited``, ``search_waited``: seconds.
    ``clock_skew``: seconds by which Tempo's clock is ahead, None when not known.
    """

    sent: Reply | str
    by_id: Read | None = None
    search: Read | None = None
    counters: Counters | str = "they were not asked for"
    waited: float = 0
    search_waited: float = 0
    clock_skew: float | None = None


def judge(seen: Observation) -> Verdict | None:
    """Name the first hop that lost the trace; None when it arrived, was found both ways, and no exporter of the collector is stuck."""
    refusal = _probe.judge_sending(seen.sent, seen.counters, TRACES)
    if refusal:
        return refusal
    if seen.by_id is None or seen.by_id.state != "ok":
        return _judge_loss(seen.by_id or Read("missing"), seen)
    if seen.search is None or seen.search.state != "ok":
        return _judge_search(seen.search or Read("missing"), seen)
    return _probe.judge_other_exporters(seen.counters, TRACES, "Tempo has the trace")


def _judge_loss(by_id: Read, seen: Observation) -> Verdict:
    """The collector took the trace, Tempo does not give it by id."""
    counters = seen.counters
    waited = f"after {seen.waited:.0f} s"
    failed = _probe.failed_exporters(counters)
    if by_id.state == "refused" and not failed:  # it ends the probe at once, so the exporters may not have had the time
        return Verdict(TEMPO_QUERY, f"Tempo's query API refused to read: {by_id.text}", _query_cure(by_id))
    if isinstance(counters, Counters) and counters.accepted > 0:
        troubled = _probe.troubled_exporters(counters)
        if troubled:
            return Verdict(
                COLLECTOR_EXPORT,
                f"the collector took the trace but could not export it: {_probe.account(troubled, TRACES)}",
                "see in the collector's log why (\"Exporting failed\"), and correct the exporter's endpoint or bring Tempo's distributor up",
            )
        if all(one.sent <= 0 for one in counters.exporters.values()):
            return Verdict(
                COLLECTOR_EXPORT,
                f"the collector took the trace but exported nothing {waited}: it counts {counters.accepted:.0f} spans accepted, none sent,"
                " none failed, none queued",
                "see whether its traces pipeline has an exporter, and whether a processor (filter, sampling) drops the spans",
            )
    if by_id.state == "unreachable":
        return Verdict(TEMPO_QUERY, f"Tempo's query API is not reachable at {by_id.text}", _query_cure(by_id))
    missing = f"Tempo does not have the trace {waited} ({by_id.text or 'not asked'})"
    if isinstance(counters, str):
        return Verdict(
            AFTER_COLLECTOR,
            f"the collector took the trace, but {missing}; the collector's own metrics cannot tell which of the two lost it: {counters}",
            "see the collector's log for \"Exporting failed\", then the log of Tempo's distributor and ingester",
        )
    if counters.accepted <= 0:
        return Verdict(
            AFTER_COLLECTOR,
            f"the collector took the trace, but {missing}; the collector's own metrics do not show the trace (another replica's?)",
            'see the logs of all its replicas for "Exporting failed", then the log of Tempo\'s distributor and ingester',
        )
    return Verdict(
        TEMPO_STORE,
        f"the collector exported the trace, but {missing}; the collector counts: {_probe.account(counters.exporters, TRACES)}",
        "see that the exporter and the probe mean the same Tempo and tenant, then the log of Tempo's distributor and ingester"
        " (limits, ring, storage)",
    )


def _judge_search(search: Read, seen: Observation) -> Verdict:
    """Tempo gives the trace by id, TraceQL does not find it."""
    waited = f"after {seen.search_waited:.0f} s"
    if search.state in ("unreachable", "refused"):
        verb = "is no longer reachable at" if search.state == "unreachable" else "refused to search:"
        return Verdict(TEMPO_SEARCH, f"Tempo has the trace by id, but its query API {verb} {search.text}", _query_cure(search))
    if seen.clock_skew is not None and abs(seen.clock_skew) > SKEW_LIMIT:
        side = "behind" if seen.clock_skew > 0 else "ahead of"
        return Verdict(
            TEMPO_SEARCH,
            f"Tempo has the trace by id, but TraceQL did not find it {waited}; this machine's clock is {abs(seen.clock_skew):.0f} s {side} Tempo's",
            "set the clocks (NTP): a search is by time",
        )
    return Verdict(
        TEMPO_SEARCH,
        f"Tempo has the trace by id, but TraceQL did not find it {waited}",
        "see the log of Tempo's ingester and querier; if the ingester cuts traces later than that (trace_idle_period), raise the time-out",
    )


def _query_cure(read: Read) -> str:
    if read.text.startswith(("401", "403")):
        return "give a token (and tenant) that may read traces"
    return "see that Tempo's query-frontend is Ready and that the endpoint names its Service and HTTP port"


@dataclass(frozen=True)
class Limits:
    """Seconds to wait at most: for the collector to accept, for Tempo by id, for Tempo by search."""

    send: float
    by_id: float
    search: float


@dataclass
class Flight:
    """One trace on its way. Times are of the monotonic clock."""

    protocol: str
    trace: Trace
    sent: Reply | str = "not tried"
    send_seconds: float | None = None
    accepted_at: float | None = None
    by_id: Read | None = None
    by_id_seconds: float | None = None
    by_id_waited: float = 0
    search: Read | None = None
    search_seconds: float | None = None
    search_waited: float = 0


def probe(
    senders: t.Mapping[str, Sender],
    tempo: Tempo,
    counters: t.Callable[[], Counters | str],
    limits: Limits,
    service_name: str,
    probe_id: str,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
    wall: t.Callable[[], float] = time.time,
) -> list[dict[str, t.Any]]:
    """Send one trace by each protocol, then read all back by id, then by search.

    :param senders: by protocol.
    :param counters: the collector's counters now, or why they cannot be had.
    :param clock: monotonic seconds. ``sleep`` must move it. ``wall``: seconds since 1970.
    :return: one proof for each protocol, see RETURN of the module.
    """
    before = counters()
    started = wall()
    flights = [Flight(name, _otlp.make_trace(service_name, probe_id, name, int(wall() * 1e9))) for name in senders]

    def read_by_id(pending: t.Sequence[Flight]) -> bool:
        for flight in pending:
            flight.by_id = tempo.trace(flight.trace.trace_id, probe_id, flight.trace.span_ids)
            flight.by_id_waited = clock() - t.cast(float, flight.accepted_at)
            if flight.by_id.state == "ok":
                flight.by_id_seconds = flight.by_id_waited
        return all(flight.by_id.state == "ok" or flight.by_id.hopeless for flight in pending if flight.by_id)

    def search(pending: t.Sequence[Flight]) -> bool:
        read, found = tempo.search(probe_id, int(started) - SEARCH_MARGIN, int(wall()) + SEARCH_MARGIN)
        for flight in pending:
            flight.search_waited = clock() - t.cast(float, flight.accepted_at)
            if read.state == "ok" and int(flight.trace.trace_id, 16) in found:
                flight.search_seconds = flight.search_waited
            flight.search = Read("missing") if read.state == "ok" and flight.search_seconds is None else read
        return read.hopeless or all(flight.search_seconds is not None for flight in pending)

    def poll(step: t.Callable[[t.Sequence[Flight]], bool], pending: t.Callable[[], t.Sequence[Flight]], timeout: float) -> None:
        _polling.poll(lambda: not pending() or step(pending()), timeout, clock, sleep)

    def stored() -> t.Sequence[Flight]:
        return [one for one in flights if one.by_id_seconds is not None]

    tempo.warm_up()
    for flight in flights:
        flight.sent, seconds = _probe.send(flight.trace.request, senders[flight.protocol], limits.send, clock, sleep)
        if isinstance(flight.sent, Reply) and flight.sent.accepted:
            flight.accepted_at, flight.send_seconds = clock(), seconds
            # Read at once, so that its latency does not hold the sending of the next.
            _polling.poll(lambda one=flight: read_by_id([one]), min(FIRST_LOOK, limits.by_id), clock, sleep)  # type: ignore[misc]
    poll(read_by_id, lambda: [one for one in flights if one.accepted_at is not None and one not in stored()], limits.by_id)
    poll(search, lambda: [one for one in stored() if one.search_seconds is None], limits.search)

    lost = any(flight.search_seconds is None for flight in flights)
    grown = _probe.growth(before, counters()) if lost else _probe.settled_growth(before, counters, clock, sleep)
    return [_proof(flight, probe_id, grown, tempo.clock_skew) for flight in flights]


def _proof(flight: Flight, probe_id: str, counters: Counters | str, clock_skew: float | None) -> dict[str, t.Any]:
    verdict = judge(Observation(flight.sent, flight.by_id, flight.search, counters, flight.by_id_waited, flight.search_waited, clock_skew))
    return {
        "protocol": flight.protocol,
        "trace_id": flight.trace.trace_id,
        "probe_id": probe_id,
        "spans": len(flight.trace.span_ids),
        "traceql": _tempo.traceql(probe_id),
        "send_seconds": _polling.rounded(flight.send_seconds),
        "by_id_seconds": _polling.rounded(flight.by_id_seconds),
        "search_seconds": _polling.rounded(flight.search_seconds),
        "hop": verdict.hop if verdict else None,
        "message": f"{verdict.message}: {verdict.cure}" if verdict else None,
    }


def plan(params: t.Mapping[str, t.Any]) -> str:
    """What a run would prove, in one line. Connects to nothing.

    :raises ModelMonitoringError: a parameter is not usable.
    """
    found = _targets(params, _polling.api_client_factory(params))
    return f"would send a trace {_probe.ways(params)} and read it back from {found['tempo_endpoint'].url} by id and by TraceQL search"


def _targets(params: t.Mapping[str, t.Any], api_client: t.Callable[[], t.Any]) -> dict[str, Target]:
    return _probe.targets(params, {"tempo_endpoint": "tempo_ca_cert", "collector_metrics_endpoint": "otlp_ca_cert"}, api_client)


def run(params: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    """Probe with the parameters of the module.

    :return: see ``probe``.
    :raises ModelMonitoringError: a parameter is not usable, or a package is missing. What goes wrong on the way is a verdict.
    """
    _probe.need_packages()
    found = _targets(params, _polling.api_client_factory(params))
    with contextlib.ExitStack() as stack:
        senders = _probe.senders(stack, TRACES, params["protocols"], found)
        tempo = Tempo(stack.enter_context(_link.http_link(found["tempo_endpoint"])), params["tempo_tenant"], params["tempo_token"])
        metrics = None
        if "collector_metrics_endpoint" in found:
            metrics = stack.enter_context(_link.http_link(found["collector_metrics_endpoint"]))
        return probe(
            senders,
            tempo,
            lambda: _probe.read_counters(metrics, TRACES),
            Limits(params["send_timeout"], params["timeout"], params["search_timeout"]),
            params["service_name"],
            uuid.uuid4().hex,
        )
