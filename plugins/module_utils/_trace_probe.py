# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Send a trace through the collector, read it back from Tempo, and name the hop that lost it.

Three parts: ``judge`` decides from observations (pure), ``probe`` makes them (clock, connections and counters come in as
arguments), ``run`` opens the connections for the parameters of the module.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
import typing as t
import uuid
from dataclasses import dataclass, field

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube, _link, _otlp, _tempo
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Http, Link, Target, Unreachable
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._otlp import Reply, Trace
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._tempo import Read, Tempo

COLLECTOR_UNREACHABLE = "collector_unreachable"
COLLECTOR_REFUSED = "collector_refused"
COLLECTOR_EXPORT = "collector_export"
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

_COUNTED = {
    "receiver_accepted_spans": "accepted",
    "receiver_refused_spans": "refused",
    "exporter_sent_spans": "sent",
    "exporter_send_failed_spans": "failed",
    "exporter_enqueue_failed_spans": "dropped",
    "exporter_queue_size": "queued",
}
# By its configuration the collector adds the unit and "_total" to the names: exporter_sent_spans__spans__total.
_SAMPLE = re.compile(rf"otelcol_(?P<name>{'|'.join(_COUNTED)})(?:__[a-z]+_?)?(?:_total)?(?P<labels>\{{.*\}})? (?P<value>\S+)")
_INSTANCE = re.compile(r'service_instance_id="([^"]+)"')
_EXPORTER = re.compile(r'\bexporter="([^"]+)"')
_OTHER_SIGNAL = re.compile(r'\bdata_type="(?!traces")')


@dataclass(frozen=True)
class Exporter:
    """Spans of one exporter of the collector: counted since the collector's start, or since the probe's start.

    ``queued`` is what waits in its queue now, in the queue's own unit (requests, unless configured otherwise).
    """

    sent: float = 0
    failed: float = 0
    dropped: float = 0
    queued: float = 0


@dataclass(frozen=True)
class Counters:
    """The collector's own counters of spans. ``instance``: of the process that counts, None when it does not say."""

    accepted: float = 0
    refused: float = 0
    exporters: t.Mapping[str, Exporter] = field(default_factory=dict)
    instance: str | None = None


def parse_counters(text: str) -> Counters:
    """Read the collector's own metrics (Prometheus text format, names with and without unit and ``_total``)."""
    receivers = {"accepted": 0.0, "refused": 0.0}
    exporters: dict[str, dict[str, float]] = {}
    for sample in filter(None, map(_SAMPLE.match, text.splitlines())):
        labels = sample["labels"] or ""
        name = _COUNTED[sample["name"]]
        exporter = _EXPORTER.search(labels)
        if _OTHER_SIGNAL.search(labels):
            continue
        counts = receivers if name in receivers else exporters.setdefault(exporter[1] if exporter else "?", {})
        counts[name] = counts.get(name, 0) + float(sample["value"])
    instance = _INSTANCE.search(text)
    return Counters(
        **receivers,
        exporters={name: Exporter(**counts) for name, counts in exporters.items()},
        instance=instance[1] if instance else None,
    )


def growth(before: Counters | str, after: Counters | str) -> Counters | str:
    """What was counted in between, or why that is not known."""
    if isinstance(before, str):
        return before
    if isinstance(after, str):
        return after
    if before.instance and after.instance and before.instance != after.instance:
        return "they came from two different instances: the collector has restarted or has several replicas"
    if after.accepted < before.accepted:
        return "they went backwards: the collector has restarted"
    exporters = {}
    for name, now in after.exporters.items():
        was = before.exporters.get(name, Exporter())
        exporters[name] = Exporter(now.sent - was.sent, now.failed - was.failed, now.dropped - was.dropped, now.queued)
    return Counters(after.accepted - before.accepted, after.refused - before.refused, exporters, after.instance)


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


class Verdict(t.NamedTuple):
    """``hop``: where the trace was lost. ``message``: what was seen. ``cure``: what to do."""

    hop: str
    message: str
    cure: str


def judge(seen: Observation) -> Verdict | None:
    """Name the first hop that lost the trace; None when it arrived and was found both ways."""
    if isinstance(seen.sent, str):
        return Verdict(
            COLLECTOR_UNREACHABLE,
            f"the collector is not reachable at {seen.sent}",
            "see that the collector's pod is Ready and that the endpoint names its Service and OTLP port",
        )
    if not seen.sent.accepted:
        return _judge_refusal(seen.sent, seen.counters)
    if seen.by_id is None or seen.by_id.state != "ok":
        return _judge_loss(seen.by_id or Read("missing"), seen)
    if seen.search is None or seen.search.state != "ok":
        return _judge_search(seen.search or Read("missing"), seen)
    return None


def _judge_refusal(reply: Reply, counters: Counters | str) -> Verdict:
    if isinstance(counters, Counters):
        full = [name for name, one in counters.exporters.items() if one.dropped > 0]
        if full:
            return Verdict(
                COLLECTOR_EXPORT,
                f"the collector could not export: the sending queue of exporter {', '.join(sorted(full))} is full, so it refuses"
                f" new spans ({reply.code} {reply.text})",
                "see in the collector's log why the exporter does not get rid of them (address and state of Tempo's distributor)",
            )
    cures = {
        ("partial success",): "see the message and the collector's log",
        ("UNAUTHENTICATED", "PERMISSION_DENIED", "401", "403"): "it wants credentials: send to a receiver without authentication",
        ("UNIMPLEMENTED", "404", "405", "415"): (
            "this port takes no traces by this protocol: correct the endpoint, or add the OTLP receiver to a traces pipeline"
        ),
        (*_otlp.RETRYABLE_GRPC, *map(str, _otlp.RETRYABLE_HTTP)): (
            "it has no room (memory limiter), or what is behind the receiver does not take the spans: see its log, raise the memory limit"
            " of its container, or lower the load"
        ),
    }
    cure = next((text for codes, text in cures.items() if reply.code in codes), "see the collector's log")
    return Verdict(COLLECTOR_REFUSED, f"the collector refused the trace: {reply.code} {reply.text}".strip(), cure)


def _judge_loss(by_id: Read, seen: Observation) -> Verdict:
    """The collector took the trace, Tempo does not give it by id."""
    counters = seen.counters
    waited = f"after {seen.waited:.0f} s"
    exporters = counters.exporters if isinstance(counters, Counters) and counters.accepted > 0 else {}
    failed = {name: one for name, one in exporters.items() if one.failed > 0 or one.dropped > 0}
    if by_id.state == "refused" and not failed:  # it ends the probe at once, so the exporters may not have had the time
        return Verdict(TEMPO_QUERY, f"Tempo's query API refused to read: {by_id.text}", _query_cure(by_id))
    if isinstance(counters, Counters) and counters.accepted > 0:
        troubled = failed | {name: one for name, one in exporters.items() if one.sent <= 0 and one.queued > 0}
        if troubled:
            return Verdict(
                COLLECTOR_EXPORT,
                f"the collector took the trace but could not export it: {_account(troubled)}",
                "see in the collector's log why (\"Exporting failed\"), and correct the exporter's endpoint or bring Tempo's distributor up",
            )
        if all(one.sent <= 0 for one in exporters.values()):
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
        f"the collector exported the trace, but {missing}; the collector counts: {_account(counters.exporters)}",
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


def _account(exporters: t.Mapping[str, Exporter]) -> str:
    return "; ".join(
        f"exporter {name}: {one.sent:.0f} spans sent, {one.failed:.0f} failed, {one.dropped:.0f} dropped at a full queue, queue size {one.queued:.0f}"
        for name, one in sorted(exporters.items())
    )


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


Sender = t.Callable[[t.Any, float], Reply]
"""Hands an OTLP request to the collector in one attempt of so many seconds; raises Unreachable."""


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
        _poll(lambda: not pending() or step(pending()), timeout, clock, sleep)

    def stored() -> t.Sequence[Flight]:
        return [one for one in flights if one.by_id_seconds is not None]

    tempo.warm_up()
    for flight in flights:
        _send(flight, senders[flight.protocol], limits.send, clock, sleep)
        if flight.accepted_at is not None:  # at once, so that its latency does not hold the sending of the next
            _poll(lambda one=flight: read_by_id([one]), min(FIRST_LOOK, limits.by_id), clock, sleep)  # type: ignore[misc]
    poll(read_by_id, lambda: [one for one in flights if one.accepted_at is not None and one not in stored()], limits.by_id)
    poll(search, lambda: [one for one in stored() if one.search_seconds is None], limits.search)

    lost = any(flight.search_seconds is None for flight in flights)
    grown = growth(before, counters()) if lost else "they were not asked for"
    return [_proof(flight, probe_id, grown, tempo.clock_skew) for flight in flights]


def _proof(flight: Flight, probe_id: str, counters: Counters | str, clock_skew: float | None) -> dict[str, t.Any]:
    verdict = judge(Observation(flight.sent, flight.by_id, flight.search, counters, flight.by_id_waited, flight.search_waited, clock_skew))
    return {
        "protocol": flight.protocol,
        "trace_id": flight.trace.trace_id,
        "probe_id": probe_id,
        "spans": len(flight.trace.span_ids),
        "traceql": _tempo.traceql(probe_id),
        "send_seconds": _rounded(flight.send_seconds),
        "by_id_seconds": _rounded(flight.by_id_seconds),
        "search_seconds": _rounded(flight.search_seconds),
        "hop": verdict.hop if verdict else None,
        "message": f"{verdict.message}: {verdict.cure}" if verdict else None,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _send(flight: Flight, sender: Sender, timeout: float, clock: t.Callable[[], float], sleep: t.Callable[[float], None]) -> None:
    """Hand a trace to the collector, again while its answer (or none) is one that may change."""
    started = clock()

    def attempt() -> bool:
        try:
            flight.sent = sender(flight.trace.request, max(1.0, timeout - (clock() - started)))
        except Unreachable as exc:
            flight.sent = str(exc)
            return False
        return flight.sent.accepted or not flight.sent.retryable

    _poll(attempt, timeout, clock, sleep)
    if isinstance(flight.sent, Reply) and flight.sent.accepted:
        flight.accepted_at = clock()
        flight.send_seconds = flight.accepted_at - started


def _poll(done: t.Callable[[], bool], timeout: float, clock: t.Callable[[], float], sleep: t.Callable[[float], None]) -> None:
    """Ask until done or time is up, at the last moment once more; quickly at first, then every second (there is no watch here)."""
    deadline = clock() + timeout
    pause = 0.02
    while True:
        late = clock() >= deadline
        if done() or late:
            return
        sleep(max(0.0, min(pause, deadline - clock())))
        pause = min(pause * 1.5, 1.0)


def targets(params: t.Mapping[str, t.Any]) -> dict[str, Target]:
    """The endpoints that a run needs, by parameter.

    :param params: of the module.
    :raises ModelMonitoringError: an endpoint is missing, or one or its CA file is not usable.
    """
    client: list[t.Any] = []

    def api_client() -> t.Any:
        """One for all endpoints, made only when one needs it."""
        if not client:
            client.append(_kube.connect(params))
        return client[0]

    if not params["protocols"]:
        raise ModelMonitoringError("protocols: the list is empty: give grpc, http or both")
    wanted = {f"otlp_{protocol}_endpoint": "otlp_ca_cert" for protocol in params["protocols"]}
    for parameter in wanted:
        if not params[parameter]:
            raise ModelMonitoringError(f"{parameter}: missing: give the URL of the receiver, or take its protocol out of protocols")
    wanted["tempo_endpoint"] = "tempo_ca_cert"
    if params["collector_metrics_endpoint"]:
        wanted["collector_metrics_endpoint"] = "otlp_ca_cert"
    found = {parameter: Target(params[parameter], parameter, params["via"], api_client, params[ca_cert]) for parameter, ca_cert in wanted.items()}
    for one in found.values():
        one.check()
    return found


def plan(params: t.Mapping[str, t.Any]) -> str:
    """What a run would prove, in one line. Connects to nothing.

    :raises ModelMonitoringError: a parameter is not usable.
    """
    found = targets(params)
    ways = " and ".join(f"over OTLP {one} to {params[f'otlp_{one}_endpoint']}" for one in params["protocols"])
    return f"would send a trace {ways} and read it back from {found['tempo_endpoint'].url} by id and by TraceQL search"


def run(params: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    """Probe with the parameters of the module.

    :return: see ``probe``.
    :raises ModelMonitoringError: a parameter is not usable, or a package is missing. What goes wrong on the way is a verdict.
    """
    packages = "opentelemetry-sdk, opentelemetry-exporter-otlp-proto-grpc and urllib3"
    for error in (_otlp.IMPORT_ERROR, _link.IMPORT_ERROR):
        if error is not None:
            raise ModelMonitoringError(f"Python packages {packages} are needed for {sys.executable} ({error}): install them there with pip")
    found = targets(params)
    with contextlib.ExitStack() as stack:
        senders: dict[str, Sender] = {}
        for protocol in dict.fromkeys(params["protocols"]):
            collector = found[f"otlp_{protocol}_endpoint"]
            if protocol == "grpc":
                senders[protocol] = _sender(stack.enter_context(_otlp.grpc_link(collector)), _otlp.export_grpc)
            else:
                senders[protocol] = _sender(stack.enter_context(_link.http_link(collector)), _otlp.export_http)
        tempo = Tempo(stack.enter_context(_link.http_link(found["tempo_endpoint"])), params["tempo_tenant"], params["tempo_token"])
        metrics = None
        if "collector_metrics_endpoint" in found:
            metrics = stack.enter_context(_link.http_link(found["collector_metrics_endpoint"]))
        return probe(
            senders,
            tempo,
            lambda: read_counters(metrics),
            Limits(params["send_timeout"], params["timeout"], params["search_timeout"]),
            params["service_name"],
            uuid.uuid4().hex,
        )


def _sender(link: Link[t.Any], export: t.Callable[[t.Any, t.Any, float], Reply]) -> Sender:
    return lambda request, timeout: link.use(lambda connection: export(connection, request, timeout))


def read_counters(link: Link[Http] | None) -> Counters | str:
    """The collector's counters now, or why they cannot be had."""
    if link is None:
        return "collector_metrics_endpoint was not given"
    try:
        answer = link.use(lambda http: http.request("GET", "/metrics", timeout=_tempo.REQUEST_SECONDS))
    except Unreachable as exc:
        return str(exc)
    if answer.status != 200:
        return f"{answer.status} {answer.text}"
    return parse_counters(answer.body.decode("utf-8", "replace"))


def explain(proofs: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    """One line for all lost traces; the same loss over several protocols is told once."""
    protocols: dict[str, list[str]] = {}
    for proof in proofs:
        if proof["hop"]:
            protocols.setdefault(proof["message"], []).append(proof["protocol"])
    return " | ".join(f"trace sent over OTLP {' and '.join(names)}: {message}" for message, names in protocols.items())
