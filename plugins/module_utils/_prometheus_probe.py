# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Look whether Prometheus scrapes what monitors select, and whether queries return what is expected; wait for it, and say what is missing and why.

``judge_monitor`` and ``judge_query`` decide from what was read (pure), ``probe`` reads until all is well or time is up and then asks for
reasons, ``run`` opens the connections for the parameters of the module.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube, _link, _polling, _prometheus
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._monitors import Monitor, Monitors, Selected
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._prometheus import Prometheus, PrometheusError, Rule, Sample, ScrapeTarget

UP, DOWN, ABSENT, NOTHING_SELECTED, MISSING = "up", "down", "absent", "nothing_selected", "missing"
"""States of a monitor."""

DATA, IDLE = "data", "idle"
"""States of a series, beside MISSING."""

LONGEST_PAUSE = 5.0
"""Seconds between two looks: what is waited for takes up to two minutes, and a query costs something."""


@dataclass(frozen=True)
class Query:
    """A query to look at.

    ``expected``: labels of the series that there must be, one mapping for each. ``idle``: a query that returns a series with these labels when
    there is rightly no data.
    """

    name: str
    query: str
    expected: t.Sequence[t.Mapping[str, str]] = ({},)
    idle: str = ""


@dataclass(frozen=True)
class MonitorFinding:
    """How it stands with a monitor.

    ``lacking``: labels of the targets that are down or absent. ``text``, ``cure``: why it is not well. ``seconds``: until this was so.
    """

    monitor: Monitor
    state: str
    targets: int = 0
    lacking: t.Sequence[t.Mapping[str, str]] = ()
    text: str = ""
    cure: str = ""
    seconds: float = 0

    @property
    def settled(self) -> bool:
        """Whether waiting changes nothing."""
        return self.state not in (DOWN, ABSENT)

    @property
    def well(self) -> bool:
        """Whether this is as it should be."""
        return self.state == UP or (self.state in (NOTHING_SELECTED, MISSING) and not self.monitor.required)


@dataclass(frozen=True)
class SeriesFinding:
    """One expected series: ``data``, ``idle`` or ``missing``. ``value``: None when there is none or it is no number."""

    labels: t.Mapping[str, str]
    state: str
    value: float | None = None


@dataclass(frozen=True)
class QueryFinding:
    """How it stands with a query. ``text``, ``cure``: why something is missing. ``seconds``: until this was so."""

    query: Query
    series: t.Sequence[SeriesFinding]
    text: str = ""
    cure: str = ""
    seconds: float = 0

    @property
    def missing(self) -> list[SeriesFinding]:
        """The series that should have data and have none."""
        return [one for one in self.series if one.state == MISSING]


def judge_monitor(monitor: Monitor, selected: Selected | None, up: t.Sequence[Sample]) -> MonitorFinding:
    """How it stands with a monitor.

    :param selected: what it selects, None when it does not exist.
    :param up: the series of ``up``, in which every scrape target is.
    """
    if selected is None:
        cure = "apply it (role metrics), or correct its name or namespace"
        return MonitorFinding(monitor, MISSING, text="it does not exist", cure=cure)
    if selected.trouble:
        cure = "correct the selector, or label what it is for"
        return MonitorFinding(monitor, NOTHING_SELECTED, text=selected.trouble, cure=cure)
    found = [(labels, [one for one in up if _prometheus.matches(one.labels, labels)]) for labels in selected.wanted]
    absent = [labels for labels, samples in found if not samples]
    down = [one.labels for _labels, samples in found for one in samples if one.value != 1]
    if down:
        return MonitorFinding(monitor, DOWN, len(found), down, f"{len(down)} of its targets are down", "see that port, path and scheme are right")
    if absent:
        text = f"Prometheus has no target for {' and '.join(map(_prometheus.selector, absent))}"
        cure = "see that Prometheus takes monitors with these labels of this namespace, and its log; a new one takes up to two minutes"
        return MonitorFinding(monitor, ABSENT, len(found), absent, text, cure)
    return MonitorFinding(monitor, UP, len(found))


def judge_query(query: Query, found: t.Sequence[Sample], idle: t.Sequence[Sample] = ()) -> QueryFinding:
    """How it stands with a query.

    :param found: its result. A value that is no number (of a quantile without observations, for example) counts as no data.
    :param idle: the result of its query ``idle``.
    """

    def series(labels: t.Mapping[str, str]) -> SeriesFinding:
        values = [one.value for one in found if _prometheus.matches(one.labels, labels) and not math.isnan(one.value)]
        if values:
            return SeriesFinding(labels, DATA, values[0])
        return SeriesFinding(labels, IDLE if any(_prometheus.matches(one.labels, labels) for one in idle) else MISSING)

    return QueryFinding(query, [series(labels) for labels in query.expected])


def explain_monitor(finding: MonitorFinding, targets: t.Sequence[ScrapeTarget], left_out: t.Callable[[str], bool]) -> MonitorFinding:
    """With the reasons that only matter when it is not well.

    :param targets: all that is scraped, with the errors of the last scrapes.
    :param left_out: whether user workload monitoring passes a namespace over.
    """
    if finding.state == DOWN:
        bad = [one for one in targets if one.health != UP and any(_prometheus.matches(one.labels, labels) for labels in finding.lacking)]
        told = "; ".join(f"{one.url} ({one.error or one.health})" for one in bad) or " and ".join(map(_prometheus.selector, finding.lacking))
        return replace(finding, text=f"{finding.text}: {told}")
    if finding.state == ABSENT and left_out(finding.monitor.namespace):
        cure = f"take the label openshift.io/user-monitoring=false from namespace {finding.monitor.namespace}, with which nothing in it is scraped"
        return replace(finding, cure=cure)
    return finding


def explain_query(finding: QueryFinding, rules: t.Sequence[Rule] | None) -> QueryFinding:
    """With the reasons that only matter when something is missing.

    :param rules: the recording rules that are loaded, None when that is not known.
    """
    if not finding.missing:
        return finding
    text = f"no data for {' and '.join(_prometheus.selector(one.labels) for one in finding.missing)}"
    named = [one for one in rules or [] if one.name == finding.query.query]
    wrong = [one.error for one in named if one.error]
    if wrong:
        return replace(finding, text=f"{text}; its recording rule fails: {wrong[0]}", cure="correct the rule")
    if named:
        cure = "see that what it is made of is scraped; a rule needs two scrapes and an evaluation before it has data"
        return replace(finding, text=f"{text}; its recording rule is loaded and without error", cure=cure)
    if rules is not None and finding.query.query.isidentifier():
        cure = "see that it is scraped, or, if a recording rule makes it, that Prometheus takes this PrometheusRule (labels, namespace)"
        return replace(finding, text=f"{text}; no recording rule of that name is loaded", cure=cure)
    return replace(finding, text=text, cure="see that what it is made of is scraped")


class Reader(t.Protocol):
    """What ``probe`` needs of the API server, see ``Monitors``."""

    def spec(self, monitor: Monitor) -> t.Mapping[str, t.Any] | None: ...

    def selected(self, monitor: Monitor, spec: t.Mapping[str, t.Any]) -> Selected: ...

    def left_out(self, namespace: str) -> bool: ...


class Source(t.Protocol):
    """What ``probe`` needs of Prometheus."""

    def query(self, promql: str) -> list[Sample]: ...

    def targets(self) -> list[ScrapeTarget]: ...

    def recording_rules(self) -> list[Rule]: ...


@dataclass(frozen=True)
class Found:
    """What a probe found, in the order in which it was asked. ``seconds``: of the whole."""

    monitors: t.Sequence[MonitorFinding]
    queries: t.Sequence[QueryFinding]
    seconds: float


def probe(
    prometheus: Source,
    reader: Reader | None,
    monitors: t.Sequence[Monitor],
    queries: t.Sequence[Query],
    timeout: float,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> Found:
    """Look until all is settled or time is up.

    :param reader: of monitors; may be None when there are none to look for.
    :param clock: monotonic seconds. ``sleep`` must move it.
    :raises PrometheusError: Prometheus cannot be asked, or does not take a query.
    :raises KubeError: the API server cannot be asked for a monitor or what it selects.
    """
    started = clock()
    monitor_findings: dict[int, MonitorFinding] = {}
    query_findings: dict[int, QueryFinding] = {}
    error: list[PrometheusError] = []
    answered: list[bool] = []

    def look_at_monitors() -> None:
        chosen: dict[int, Selected | None] = {}
        for place, monitor in enumerate(monitors):
            if place not in monitor_findings or not monitor_findings[place].settled:
                spec = reader.spec(monitor) if reader else None
                chosen[place] = None if spec is None or reader is None else reader.selected(monitor, spec)
        spaces = sorted({labels["namespace"] for selected in chosen.values() if selected for labels in selected.wanted})
        up = prometheus.query(f'up{{namespace=~"{"|".join(spaces)}"}}') if spaces else []
        for place, selected in chosen.items():
            monitor_findings[place] = replace(judge_monitor(monitors[place], selected, up), seconds=clock() - started)

    def look_at_queries() -> None:
        for place, query in enumerate(queries):
            if place not in query_findings or query_findings[place].missing:
                try:
                    found = prometheus.query(query.query)
                    finding = judge_query(query, found)
                    if finding.missing and query.idle:
                        finding = judge_query(query, found, prometheus.query(query.idle))
                except PrometheusError as exc:
                    if exc.status in (400, 422):
                        raise PrometheusError(f"query {query.name}: {exc}", exc.status, hopeless=True) from exc
                    raise
                query_findings[place] = replace(finding, seconds=clock() - started)

    def look() -> bool:
        try:
            if not answered:
                prometheus.query("vector(1)")
                answered.append(True)
            look_at_monitors()
            look_at_queries()
        except PrometheusError as exc:
            error[:] = [exc]
            return exc.hopeless or (not answered and exc.status is None and clock() - started > _polling.FIRST_CONTACT_SECONDS)
        error.clear()
        return all(one.settled for one in monitor_findings.values()) and not any(one.missing for one in query_findings.values())

    _polling.poll(look, timeout, clock, sleep, LONGEST_PAUSE)
    if error:
        raise error[0]
    seconds = clock() - started
    return Found(
        _explained_monitors(list(monitor_findings.values()), prometheus, reader),
        _explained_queries(list(query_findings.values()), prometheus),
        seconds,
    )


def _explained_monitors(findings: t.Sequence[MonitorFinding], prometheus: Source, reader: Reader | None) -> list[MonitorFinding]:
    targets: list[ScrapeTarget] = []
    if any(one.state == DOWN for one in findings):
        with contextlib.suppress(PrometheusError):
            targets = prometheus.targets()
    return [explain_monitor(one, targets, reader.left_out) if reader else one for one in findings]


def _explained_queries(findings: t.Sequence[QueryFinding], prometheus: Source) -> list[QueryFinding]:
    rules: list[Rule] | None = None
    if any(one.missing for one in findings):
        with contextlib.suppress(PrometheusError):
            rules = prometheus.recording_rules()
    return [explain_query(one, rules) for one in findings]


def result(found: Found) -> dict[str, t.Any]:
    """The lists ``monitors`` and ``queries`` of the module's result."""
    return {
        "seconds": _polling.rounded(found.seconds),
        "monitors": [
            {
                "kind": one.monitor.kind,
                "name": one.monitor.name,
                "namespace": one.monitor.namespace,
                "required": one.monitor.required,
                "state": one.state,
                "targets": one.targets,
                "seconds": _polling.rounded(one.seconds),
                "message": f"{one.text}: {one.cure}" if one.text else None,
            }
            for one in found.monitors
        ],
        "queries": [
            {
                "name": one.query.name,
                "query": one.query.query,
                "series": [{"labels": dict(series.labels), "state": series.state, "value": series.value} for series in one.series],
                "seconds": _polling.rounded(one.seconds),
                "message": f"{one.text}: {one.cure}" if one.text else None,
            }
            for one in found.queries
        ],
    }


def failures(found: Found) -> str:
    """One line for all that is not well, empty when all is."""
    parts = [f"{one.monitor}: {one.text}: {one.cure}" for one in found.monitors if not one.well]
    parts += [f"{one.query.name}: {one.text}: {one.cure}" for one in found.queries if one.missing]
    return " | ".join(parts)


def warnings(found: Found) -> list[str]:
    """What is allowed, and worth a word all the same: a monitor that has nothing to do."""
    return [f"{one.monitor}: {one.text}" for one in found.monitors if one.well and one.state == NOTHING_SELECTED]


def plan(params: t.Mapping[str, t.Any]) -> str:
    """What a run would look at, in one line. Connects to nothing.

    :raises ModelMonitoringError: a parameter is not usable.
    """
    _prometheus.check(params)
    _queries(params)
    what = f"{len(params['monitors'])} monitors and {len(params['queries'])} queries"
    return f"would look at {what} in Prometheus ({_prometheus.described(params)})"


def _queries(params: t.Mapping[str, t.Any]) -> list[Query]:
    return [
        Query(one["name"], one["query"], [{name: str(value) for name, value in labels.items()} for labels in one["expected"]], one["idle"] or "")
        for one in params["queries"]
    ]


def run(params: t.Mapping[str, t.Any]) -> Found:
    """Probe with the parameters of the module.

    :raises ModelMonitoringError: a parameter is not usable, a package is missing, or Prometheus or the API server cannot be asked.
    """
    if _link.IMPORT_ERROR is not None:
        raise ModelMonitoringError(f"Python package urllib3 is needed for {sys.executable} ({_link.IMPORT_ERROR}): install it there with pip")
    api_client = _polling.api_client_factory(params)
    access = _prometheus.access(params, api_client)
    monitors = [Monitor(one["kind"], one["name"], one["namespace"], one["required"]) for one in params["monitors"]]
    reader = Monitors(_kube.Kube(api_client())) if monitors else None
    with _link.http_link(access.target) as link:
        return probe(Prometheus(link, access.token), reader, monitors, _queries(params), params["timeout"])
