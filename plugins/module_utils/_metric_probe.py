# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Send a metric through the collector, read it back from Prometheus, and name the hop that lost it.

The metric is a gauge whose labels are the same in every run and whose value is unique to the run: it is found by value, so that
probes make one series for each protocol, however often they run.

Three parts, as in ``_trace_probe``: ``judge`` decides from observations (pure), ``probe`` makes them, ``run`` opens the connections.
"""

from __future__ import annotations

import contextlib
import re
import time
import typing as t
from dataclasses import dataclass

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _link, _otlp, _polling, _probe, _prometheus
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._endpoint import parse, service_of
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Target
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._otlp import METRICS, PROBE_METRIC, Reply
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._probe import Counters, Sender, Verdict
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._prometheus import Prometheus, PrometheusError, Sample, ScrapeTarget

EXPORTER_PAGE = "exporter_page"
SCRAPE_TARGET = "scrape_target"
PROMETHEUS_QUERY = "prometheus_query"
PROMETHEUS_STORE = "prometheus_store"

PAGE_SECONDS = 10.0
"""Most to wait until the metric is on the page of the collector's Prometheus exporter: the batch processor holds it for less."""

RESEND_SECONDS = 3.0
"""After that long without a result the metric is sent once more: another probe, or a restart of the collector, may have taken its place."""

_SAMPLE = re.compile(rf"{PROBE_METRIC}(?P<labels>\{{.*\}}) (?P<value>\S+)")
_PROTOCOL = re.compile(r'[{,]protocol="([^"]*)"')


def promql(protocol: str, value: float) -> str:
    """The query that finds the metric of one run."""
    return f"{PROBE_METRIC}{_prometheus.selector({'protocol': protocol})} == {value!r}"


def on_page(text: str, protocol: str, value: float) -> bool:
    """Whether a page in Prometheus' text format has the metric of this run."""
    for sample in filter(None, map(_SAMPLE.match, text.splitlines())):
        found = _PROTOCOL.search(sample["labels"])
        if found and found[1] == protocol and float(sample["value"]) == value:
            return True
    return False


@dataclass(frozen=True)
class Observation:
    """What was seen of one metric.

    ``sent``: the collector's answer, or the reason why there was none. ``page``: None when the metric was on the exporter's page or nobody
    looked, else why not (``unread``: the page could not be read). ``found``: in Prometheus. ``error``: of the last query.
    ``targets``: what Prometheus scrapes with the ``wanted`` labels, None when not known. ``counters``: the growth during the probe, or why it
    is not known. ``waited``: seconds for Prometheus.
    """

    sent: Reply | str
    page: str | None = None
    unread: bool = False
    found: bool = False
    error: PrometheusError | None = None
    targets: t.Sequence[ScrapeTarget] | None = None
    wanted: t.Mapping[str, str] | None = None
    counters: Counters | str = "they were not asked for"
    waited: float = 0


def judge(seen: Observation) -> Verdict | None:
    """Name the first hop that lost the metric; None when Prometheus has it and no exporter of the collector is in trouble."""
    refusal = _probe.judge_sending(seen.sent, seen.counters, METRICS)
    if refusal:
        return refusal
    if seen.found:
        return _probe.judge_other_exporters(seen.counters, METRICS, "Prometheus has the metric")
    if seen.page is not None and not seen.unread:
        return _judge_page(seen)
    if seen.error is not None:
        return Verdict(PROMETHEUS_QUERY, *_split(str(seen.error)))
    return _judge_scraping(seen)


def _judge_page(seen: Observation) -> Verdict:
    troubled = _probe.troubled_exporters(seen.counters)
    missing = f"the collector took the metric, but its Prometheus exporter does not show it: {seen.page}"
    if troubled:
        return Verdict(
            EXPORTER_PAGE,
            f"{missing}; {_probe.account(troubled, METRICS)}",
            'see in the collector\'s log why ("Exporting failed")',
        )
    return Verdict(
        EXPORTER_PAGE,
        missing,
        "see that exporter prometheus is in the metrics pipeline of receiver otlp, that no processor drops the metric, and that"
        " exporter_endpoint names the exporter's port",
    )


def _judge_scraping(seen: Observation) -> Verdict:
    """It is on its way, Prometheus answers, and does not have it."""
    waited = f"after {seen.waited:.0f} s"
    aside = f" (and the exporter's page could not be read: {seen.page})" if seen.page is not None else ""
    if seen.targets is None or seen.wanted is None:
        return Verdict(
            SCRAPE_TARGET,
            f"Prometheus does not have the metric {waited}{aside}",
            "see that it scrapes the collector's Prometheus exporter (a ServiceMonitor selects its Service), or give scrape_labels for more",
        )
    labels = _prometheus.selector(seen.wanted)
    if not seen.targets:
        return Verdict(
            SCRAPE_TARGET,
            f"Prometheus has no scrape target {labels} {waited}{aside}",
            "see that a ServiceMonitor selects that Service and its port, and that this Prometheus takes ServiceMonitors of its namespace;"
            " a new one takes up to two minutes to be scraped",
        )
    up = [one for one in seen.targets if one.health == "up"]
    if not up:
        said = "; ".join(
            f"{one.url or _prometheus.selector(one.labels)} is {one.health}{f' ({one.error})' if one.error else ''}" for one in seen.targets
        )
        return Verdict(
            SCRAPE_TARGET,
            f"Prometheus scrapes {labels} in vain {waited}: {said}{aside}",
            "see that the ServiceMonitor names the right port, path and scheme, and that no NetworkPolicy is in between",
        )
    return Verdict(
        PROMETHEUS_STORE,
        f"Prometheus scrapes {labels} well, but does not have the metric {waited}{aside}",
        "see whether the ServiceMonitor drops it (metricRelabelings, sampleLimit), whether another replica of the collector took it, and that"
        " the Prometheus that is asked is the one that scrapes",
    )


def _split(text: str) -> tuple[str, str]:
    """Message and cure of an error, which ends in ``: <cure>``."""
    message, _colon, cure = text.rpartition(": ")
    return message, cure


@dataclass(frozen=True)
class Limits:
    """Seconds to wait at most: for the collector to accept, for the exporter's page, for Prometheus."""

    send: float
    page: float
    prometheus: float


@dataclass
class Flight:
    """One metric on its way. Times are of the monotonic clock."""

    protocol: str
    value: float
    sent: Reply | str = "not tried"
    send_seconds: float | None = None
    accepted_at: float | None = None
    page: str | None = None
    unread: bool = False
    page_seconds: float | None = None
    error: PrometheusError | None = None
    answered: bool = False
    prometheus_seconds: float | None = None
    waited: float = 0
    sent_again: float = 0


class Prober(t.Protocol):
    """What ``probe`` needs of the world."""

    def query(self, promql: str) -> list[Sample]:
        """Raises PrometheusError."""


def probe(
    senders: t.Mapping[str, Sender],
    page: t.Callable[[], tuple[str, str]] | None,
    prometheus: Prober,
    targets: t.Callable[[], t.Sequence[ScrapeTarget] | None],
    wanted: t.Mapping[str, str] | None,
    counters: t.Callable[[], Counters | str],
    limits: Limits,
    service_name: str,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
    wall: t.Callable[[], float] = time.time,
) -> list[dict[str, t.Any]]:
    """Send one metric by each protocol, look for all on the exporter's page, then in Prometheus.

    :param senders: by protocol.
    :param page: the exporter's page now, and why it cannot be had (one of them empty); None to leave it out.
    :param targets: what Prometheus scrapes with the labels ``wanted``, None when not known; asked only when something is lost.
    :param counters: the collector's counters now, or why they cannot be had.
    :param clock: monotonic seconds. ``sleep`` must move it. ``wall``: seconds since 1970.
    :return: one proof for each protocol, see RETURN of the module.
    """
    before = counters()
    flights = [Flight(name, round(wall(), 3)) for name in senders]

    def send(flight: Flight, timeout: float) -> tuple[Reply | str, float]:
        request = _otlp.make_metric(service_name, flight.protocol, flight.value, int(wall() * 1e9))
        return _probe.send(request, senders[flight.protocol], timeout, clock, sleep)

    def send_again(flight: Flight, waited: float) -> None:
        if waited > flight.sent_again + RESEND_SECONDS:
            flight.sent_again = waited
            send(flight, 1)

    def accepted() -> list[Flight]:
        return [one for one in flights if one.accepted_at is not None]

    def look() -> bool:
        text, trouble = page() if page else ("", "")
        for flight in accepted():
            waited = clock() - t.cast(float, flight.accepted_at)
            flight.unread = bool(trouble)
            if flight.page_seconds is None and on_page(text, flight.protocol, flight.value):
                flight.page_seconds = waited
            flight.page = None if flight.page_seconds is not None else trouble or f"not after {waited:.0f} s"
            if flight.page and not trouble:
                send_again(flight, waited)
        return all(flight.page is None for flight in accepted())

    def travelling() -> list[Flight]:
        """Those that Prometheus may have sooner or later: what is not on a page that can be read it will never have."""
        return [one for one in accepted() if one.prometheus_seconds is None and (one.page is None or one.unread)]

    def ask() -> bool:
        for flight in travelling():
            flight.waited = clock() - t.cast(float, flight.accepted_at)
            try:
                if prometheus.query(promql(flight.protocol, flight.value)):
                    flight.prometheus_seconds = clock() - t.cast(float, flight.accepted_at)
                flight.error, flight.answered = None, True
            except PrometheusError as exc:
                flight.error = exc
            if flight.prometheus_seconds is None:
                send_again(flight, flight.waited)
        return all(
            one.error and (one.error.hopeless or (not one.answered and one.error.status is None and one.waited > _polling.FIRST_CONTACT_SECONDS))
            for one in travelling()
        )

    for flight in flights:
        flight.sent, seconds = send(flight, limits.send)
        if isinstance(flight.sent, Reply) and flight.sent.accepted:
            flight.accepted_at, flight.send_seconds = clock(), seconds
    if page and accepted():
        _polling.poll(look, limits.page, clock, sleep)
    _polling.poll(ask, limits.prometheus, clock, sleep)

    lost = travelling()
    scraped = targets() if lost and not any(one.error for one in lost) else None
    grown = _probe.growth(before, counters()) if lost else _probe.settled_growth(before, counters, clock, sleep)
    return [_proof(flight, grown, scraped, wanted) for flight in flights]


def _proof(flight: Flight, grown: Counters | str, scraped: t.Sequence[ScrapeTarget] | None, wanted: t.Mapping[str, str] | None) -> dict[str, t.Any]:
    found = flight.prometheus_seconds is not None
    verdict = judge(Observation(flight.sent, flight.page, flight.unread, found, flight.error, scraped, wanted, grown, flight.waited))
    return {
        "protocol": flight.protocol,
        "metric": PROBE_METRIC,
        "value": flight.value,
        "promql": promql(flight.protocol, flight.value),
        "send_seconds": _polling.rounded(flight.send_seconds),
        "page_seconds": _polling.rounded(flight.page_seconds),
        "prometheus_seconds": _polling.rounded(flight.prometheus_seconds),
        "hop": verdict.hop if verdict else None,
        "message": f"{verdict.message}: {verdict.cure}" if verdict else None,
    }


def plan(params: t.Mapping[str, t.Any]) -> str:
    """What a run would prove, in one line. Connects to nothing.

    :raises ModelMonitoringError: a parameter is not usable.
    """
    _targets(params, _polling.api_client_factory(params))
    _prometheus.check(params)
    return f"would send a metric {_probe.ways(params)} and read it back from Prometheus by its query API ({_prometheus.described(params)})"


def _targets(params: t.Mapping[str, t.Any], api_client: t.Callable[[], t.Any]) -> dict[str, Target]:
    return _probe.targets(params, {"collector_metrics_endpoint": "otlp_ca_cert", "exporter_endpoint": "otlp_ca_cert"}, api_client)


def scrape_labels(params: t.Mapping[str, t.Any]) -> dict[str, str] | None:
    """The labels of the target that is the exporter's page: given, or those that Prometheus gives to a Service; None when not known."""
    if params["scrape_labels"]:
        return {name: str(value) for name, value in params["scrape_labels"].items()}
    service = service_of(parse(params["exporter_endpoint"], "exporter_endpoint").host) if params["exporter_endpoint"] else None
    return {"namespace": service.namespace, "service": service.name} if service else None


def run(params: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    """Probe with the parameters of the module.

    :return: see ``probe``.
    :raises ModelMonitoringError: a parameter is not usable, or a package is missing. What goes wrong on the way is a verdict.
    """
    _probe.need_packages()
    api_client = _polling.api_client_factory(params)
    found = _targets(params, api_client)
    access = _prometheus.access(params, api_client)
    wanted = scrape_labels(params)
    with contextlib.ExitStack() as stack:

        def link(parameter: str) -> t.Any:
            return stack.enter_context(_link.http_link(found[parameter])) if parameter in found else None

        prometheus = Prometheus(stack.enter_context(_link.http_link(access.target)), access.token)
        metrics, exporter = link("collector_metrics_endpoint"), link("exporter_endpoint")

        def targets() -> list[ScrapeTarget] | None:
            try:
                return _prometheus.scrape_targets(prometheus, wanted) if wanted else None
            except PrometheusError:
                return None

        return probe(
            _probe.senders(stack, METRICS, params["protocols"], found),
            (lambda: _probe.page(exporter, "exporter_endpoint")) if exporter else None,
            prometheus,
            targets,
            wanted,
            lambda: _probe.read_counters(metrics, METRICS),
            Limits(params["send_timeout"], PAGE_SECONDS, params["timeout"]),
            params["service_name"],
        )
