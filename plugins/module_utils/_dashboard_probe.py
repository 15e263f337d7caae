# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Prove that dashboards show data: every query of every panel is run through Grafana, as its page would on first opening."""

from __future__ import annotations

import contextlib
import sys
import time
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _dashboard, _grafana, _kube, _link
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._dashboard import (
    DashboardError,
    DataSource,
    Option,
    Outcome,
    Panel,
    Range,
    Variable,
)
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._grafana import Credentials, Grafana, GrafanaError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._link import Target
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._polling import Clock, Sleep, api_client_factory, poll, rounded

SERVICE_GRAPH = "traces_service_graph_request_total"
SPANS_OF_A_TRACE = 3
"""Grafana's default for a search."""

VALUES_SHOWN = 5
"""Of a label whose values a message names."""


@dataclass(frozen=True)
class Wish:
    """How the dashboards are to be opened.

    ``variables``: values by name, instead of those that the dashboard chooses. ``since``, ``until``: time range instead of the dashboard's.
    ``optional``: reasons by dashboard's UID and panel's title, ``*`` for all of it, why a panel may be empty.
    """

    variables: t.Mapping[str, t.Sequence[str]] = field(default_factory=dict)
    since: str = ""
    until: str = ""
    optional: t.Mapping[tuple[str, str], str] = field(default_factory=dict)


class Board:
    """An opened dashboard.

    :param model: its JSON.
    :param wall: seconds since 1970.
    """

    def __init__(self, grafana: Grafana, model: t.Mapping[str, t.Any], sources: t.Sequence[DataSource], wish: Wish, wall: Clock = time.time) -> None:
        self._grafana, self._sources, self._wall = grafana, sources, wall
        self._model, self._wish = model, wish
        times = model.get("time") or {}
        self._since = wish.since or times.get("from") or "now-6h"
        self._until = wish.until or times.get("to") or "now"
        self.uid = str(model.get("uid"))
        self.title = str(model.get("title"))
        self.panels = [
            _dashboard.with_reason(panel, wish.optional.get((self.uid, panel.title)) or wish.optional.get((self.uid, "*")))
            for panel in _dashboard.panels_of(model)
        ]
        self.variables: dict[str, Variable] = {}

    def range_of(self, panel: Panel) -> Range:
        """The time range of a panel now."""
        return _dashboard.range_of(panel, self._since, self._until, self._wall())

    def resolve(self) -> None:
        """Give the variables their values, as at the opening of the dashboard.

        :raises ModelMonitoringError: a variable's query cannot be run.
        """
        asked = self.range_of(Panel(0, "", "", ()))
        known = _dashboard.constants(self._model, asked)
        for one in _dashboard.in_order((self._model.get("templating") or {}).get("list") or []):
            name = str(one.get("name"))
            try:
                known[name] = self._variable(one, known, asked)
            except GrafanaError as exc:
                raise GrafanaError(f"variable {name}: {exc}", exc.hopeless) from exc
            except DashboardError as exc:
                raise DashboardError(f"variable {name}: {exc}") from exc
        self.variables = known

    def _variable(self, one: t.Mapping[str, t.Any], known: t.Mapping[str, Variable], asked: Range) -> Variable:
        kind, name = one.get("type"), str(one.get("name"))
        wanted = self._wish.variables.get(name)
        if kind in ("textbox", "constant"):
            saved = (one.get("current") or {}).get("value") if kind == "textbox" else None
            value = wanted[0] if wanted else str(saved if saved not in (None, "") else one.get("query") or "")
            return Variable(name, (value,), (value,))
        if kind == "datasource":
            options = _dashboard.source_options(one, self._sources)
            if not options and wanted is None:
                raise DashboardError(f"Grafana has no data source of type {one.get('query')}: add one")
            return _dashboard.choose(one, options, wanted)
        if kind == "query":
            source = _dashboard.source_of(one.get("datasource"), known, self._sources)
            if source.type != "prometheus":
                raise DashboardError(f"its query goes to a data source of type {source.type}; only those to Prometheus can be run here")
            found = self._grafana.values(source, _dashboard.lookup(one, known), asked)
            regex = _dashboard.interpolate(str(one.get("regex") or ""), known)
            return _dashboard.choose(one, _dashboard.query_options(found, regex, int(one.get("sort") or 0)), wanted)
        if kind in ("custom", "interval"):
            options = _dashboard.listed_options(one)
            if kind == "interval" and one.get("auto"):
                step = _dashboard.interval(asked, int(one.get("auto_count") or 30), str(one.get("auto_min") or "10s"))
                options.insert(0, Option("auto", _dashboard.duration_text(step)))
            return _dashboard.choose(one, options, wanted)
        if kind == "adhoc":
            return Variable(name, ())
        raise DashboardError(f"it is of type '{kind}', which is not known here")

    def run(self, panel: Panel) -> dict[str, Outcome]:
        """Run the queries of a panel; what each gave, by refId.

        :raises GrafanaError: Grafana does not accept the credentials.
        """
        asked = self.range_of(panel)
        known = {**self.variables, **_dashboard.constants(self._model, asked)}
        found: dict[str, Outcome] = {}
        batch = []
        for target in panel.targets:
            ref = str(target.get("refId") or "A")
            try:
                source = _dashboard.source_of(target["datasource"], known, self._sources)
                kind = str(target.get("queryType") or "")
                if source.type == "tempo" and kind == "serviceMap":
                    batch.append(self._prepared(panel, _service_map(target, ref), self._service_graph(source), known, asked))
                elif source.type == "tempo" and kind == "traceql" and not _dashboard.traceql_metrics(str(target.get("query") or "")):
                    found[ref] = self._search(source, target, known, asked)
                elif source.type == "tempo" and kind in ("traceqlSearch", "nativeSearch", "search", "upload"):
                    raise DashboardError(f"a Tempo query of type '{kind}' is put together by Grafana's page: write it as TraceQL")
                else:
                    batch.append(self._prepared(panel, {**target, "refId": ref}, source, known, asked))
            except DashboardError as exc:
                found[ref] = Outcome(_dashboard.ERROR, str(exc), hopeless=True)
        if batch:
            found |= self._grafana.run(batch, asked)
        return {str(target.get("refId") or "A"): found[str(target.get("refId") or "A")] for target in panel.targets}

    def may_be_empty(self, panel: Panel) -> bool:
        """Whether the reason for which a panel may be empty counts now."""
        if panel.optional is None or panel.condition is None:
            return panel.optional is not None
        alone = replace(panel, targets=(panel.condition,), condition=None)
        return all(outcome.state == _dashboard.DATA for outcome in self.run(alone).values())

    def _prepared(
        self, panel: Panel, target: t.Mapping[str, t.Any], source: DataSource, known: t.Mapping[str, Variable], asked: Range
    ) -> dict[str, t.Any]:
        write = {"prometheus": _dashboard.promql, "tempo": _dashboard.piped}.get(source.type, _dashboard.glob)
        step = _dashboard.interval(
            asked, panel.points, _dashboard.interpolate(panel.interval, known) or str(source.settings.get("timeInterval") or "")
        )
        more = {"datasource": {"type": source.type, "uid": source.uid}, "intervalMs": step, "maxDataPoints": panel.points, "utcOffsetSec": 0}
        return {**_dashboard.filled({name: value for name, value in target.items() if name != "datasource"}, known, write), **more}

    def _service_graph(self, source: DataSource) -> DataSource:
        uid = (source.settings.get("serviceMap") or {}).get("datasourceUid")
        if not uid:
            raise DashboardError(f"data source {source.name} names no Prometheus for its service map: set serviceMap.datasourceUid in its jsonData")
        return _dashboard.source_of({"uid": uid}, {}, self._sources)

    def _search(self, source: DataSource, target: t.Mapping[str, t.Any], known: t.Mapping[str, Variable], asked: Range) -> Outcome:
        query = _dashboard.interpolate(str(target.get("query") or ""), known, _dashboard.piped)
        limit, per_trace = int(target.get("limit") or 20), int(target.get("spss") or SPANS_OF_A_TRACE)
        return self._grafana.search(source, query, limit, per_trace, asked, target.get("tableType") == "spans")

    def why(self, panel: Panel) -> str:
        """Why a panel is empty, as far as its Prometheus can tell: a variable without values, a series or a label's value that does not exist."""
        names = _closure(_dashboard.references([dict(target) for target in panel.targets]), self._model)
        causes: list[str] = []
        for one in (self._model.get("templating") or {}).get("list") or []:
            variable = self.variables.get(str(one.get("name")))
            if variable is not None and variable.empty and variable.name in names:
                source = _dashboard.source_of(one.get("datasource"), self.variables, self._sources)
                reasons = self._missing(source, _dashboard.lookup(one, self.variables).expr)
                causes.append(": ".join(filter(None, (f"variable {variable.name} has no values, {variable.asked} finds nothing", *reasons[:1]))))
        if causes:
            return causes[0]
        for target in panel.targets:
            with contextlib.suppress(DashboardError):
                source = _dashboard.source_of(target["datasource"], self.variables, self._sources)
                expr = str(target.get("expr") or "")
                if source.type == "tempo" and target.get("queryType") == "serviceMap":
                    source, expr = self._service_graph(source), f"{SERVICE_GRAPH}{{}}"
                if source.type == "prometheus":
                    causes += self._missing(source, _dashboard.interpolate(expr, self.variables, _dashboard.promql))
        return "; ".join(dict.fromkeys(causes))

    def _missing(self, source: DataSource, expr: str) -> list[str]:
        """What a query asks for that Prometheus does not have, in words."""
        causes = []
        found = _dashboard.selectors(expr) or [_dashboard.Selector(expr, ())] if expr else []
        for selector in found:
            if not self._exists(source, selector.series):
                causes.append(f"there is no series {selector.series} now")
                continue
            for label, operator, value in selector.matchers:
                if self._exists(source, f"{selector.series}{{{label}{operator}{value}}}"):
                    continue
                there = self._grafana.values(source, _dashboard.Lookup("label_values", label, selector.series), self.range_of(Panel(0, "", "", ())))
                words = f"its values are {', '.join(sorted(there)[:VALUES_SHOWN])}" if there else "nothing sets this label"
                causes.append(f"no series {selector.series} has {label}{operator}{value}, {words}")
        return causes

    def _exists(self, source: DataSource, selector: str) -> bool:
        asked = self.range_of(Panel(0, "", "", ()))
        outcome = self._grafana.run([_grafana.instant("A", source, f"count({selector})")], asked)["A"]
        return outcome.state != _dashboard.NO_DATA  # an error is no evidence


def _service_map(target: t.Mapping[str, t.Any], ref: str) -> dict[str, t.Any]:
    """What Grafana's front end asks Prometheus for to draw a service map: at least the calls between services."""
    chosen = target.get("serviceMapQuery") or "{}"
    selectors = chosen if isinstance(chosen, list) else [chosen]
    expr = " or ".join(f"sum by (client, server) (rate({SERVICE_GRAPH}{one}[$__range]))" for one in selectors)
    return {"refId": ref, "expr": expr, "instant": True, "range": False, "format": "table"}


def _closure(names: set[str], model: t.Mapping[str, t.Any]) -> set[str]:
    """The variables named, and those that these depend on."""
    asks = {
        str(one.get("name")): _dashboard.references([one.get("query"), one.get("datasource")])
        for one in (model.get("templating") or {}).get("list") or []
    }
    found, new = set(names), set(names)
    while new:
        new = set().union(*(asks.get(name, set()) for name in new)) - found
        found |= new
    return found


@dataclass
class Seen:
    """What was last seen of a panel."""

    board: Board
    panel: Panel
    outcome: Outcome
    seconds: float = 0.0


def probe(
    grafana: Grafana,
    uids: t.Sequence[str],
    folder: str | None,
    wish: Wish,
    timeout: float,
    clock: Clock = time.monotonic,
    sleep: Sleep = time.sleep,
    wall: Clock = time.time,
) -> dict[str, t.Any]:
    """Open dashboards and run their panels, again while something is missing, until all that must show data do or time is up.

    :param uids: of the dashboards; with ``folder`` those in it too.
    :param timeout: seconds. What cannot heal (a query that is none) ends the wait.
    :return: ``dashboards``, ``panels`` and ``problems``, see RETURN of the module.
    :raises ModelMonitoringError: Grafana is not reachable, refuses, or has no data sources.
    """
    boards: dict[str, Board] = {}
    missing: dict[str, GrafanaError | DashboardError] = {}
    panels: dict[tuple[str, int], Seen] = {}
    trouble: list[GrafanaError] = []

    def step() -> bool:
        trouble.clear()
        try:
            if not boards or missing:
                _open(grafana, uids, folder, wish, wall, boards, missing)
            for board in boards.values():
                _run(board, panels, clock)
        except GrafanaError as exc:
            if exc.hopeless:
                raise
            trouble.append(exc)
            return False
        waiting = any(_must(one) and not one.outcome.hopeless for one in panels.values())
        return not waiting and not any(isinstance(one, GrafanaError) for one in missing.values())

    poll(step, timeout, clock, sleep)
    if trouble:
        raise trouble[0]
    for seen in panels.values():
        if _must(seen) and seen.outcome.state == _dashboard.NO_DATA:
            with contextlib.suppress(ModelMonitoringError):
                cause = seen.board.why(seen.panel)
                seen.outcome = Outcome(_dashboard.NO_DATA, cause or seen.outcome.text, seen.outcome.series, seen.outcome.exemplars)
    return report(list(boards.values()), list(panels.values()), missing)


def _open(
    grafana: Grafana,
    uids: t.Sequence[str],
    folder: str | None,
    wish: Wish,
    wall: Clock,
    boards: dict[str, Board],
    missing: dict[str, GrafanaError | DashboardError],
) -> None:
    """Read the dashboards that are not read yet; what cannot be had goes to ``missing`` by its name."""
    missing.clear()
    sources = grafana.data_sources()
    if not sources:
        raise GrafanaError("Grafana has no data source: add those that the dashboards need")
    wanted = list(uids)
    if folder:
        try:
            wanted += grafana.folder(folder)
        except GrafanaError as exc:
            if exc.hopeless:
                raise
            missing[folder] = exc
    for uid in dict.fromkeys(wanted):
        if uid in boards:
            continue
        try:
            boards[uid] = Board(grafana, grafana.dashboard(uid), sources, wish, wall)
        except GrafanaError as exc:
            if exc.hopeless:
                raise
            missing[uid] = exc
        except DashboardError as exc:
            missing[uid] = exc


def _run(board: Board, panels: dict[tuple[str, int], Seen], clock: Clock) -> None:
    """Run those panels of a dashboard that have not shown data yet; those that may be empty once only."""
    pending = [panel for panel in board.panels if (board.uid, panel.id) not in panels or _must(panels[board.uid, panel.id])]
    if not pending:
        return
    try:
        board.resolve()
    except (GrafanaError, DashboardError) as exc:
        hopeless = not isinstance(exc, GrafanaError) or exc.hopeless
        for panel in pending:
            panels[board.uid, panel.id] = Seen(board, panel, Outcome(_dashboard.ERROR, str(exc), hopeless=hopeless))
        return
    for panel in pending:
        started = clock()
        outcome = _dashboard.together(board.run(panel))
        if outcome.state == _dashboard.NO_DATA and not board.may_be_empty(panel):
            panel = replace(panel, optional=None)
        panels[board.uid, panel.id] = Seen(board, panel, outcome, clock() - started)


def _must(seen: Seen) -> bool:
    """Whether a panel must show data, or at least no error, and does not."""
    return seen.outcome.state == _dashboard.ERROR or (seen.outcome.state == _dashboard.NO_DATA and seen.panel.optional is None)


def report(boards: t.Sequence[Board], panels: t.Sequence[Seen], missing: t.Mapping[str, Exception]) -> dict[str, t.Any]:
    """What was found, as the module returns it."""
    rows = [
        {
            "dashboard": seen.board.uid,
            "panel": seen.panel.title,
            "id": seen.panel.id,
            "state": seen.outcome.state,
            "message": seen.outcome.text or None,
            "optional": seen.panel.optional,
            "series": seen.outcome.series,
            "exemplars": seen.outcome.exemplars,
            "seconds": rounded(seen.seconds),
        }
        for seen in panels
    ]
    summary = []
    for board in boards:
        own = [seen for seen in panels if seen.board is board]
        empty = [seen for seen in own if seen.outcome.state == _dashboard.NO_DATA]
        summary.append(
            {
                "uid": board.uid,
                "title": board.title,
                "panels": len(own),
                "with_data": sum(seen.outcome.state == _dashboard.DATA for seen in own),
                "empty_optional": sum(seen.panel.optional is not None for seen in empty),
                "empty": sum(seen.panel.optional is None for seen in empty),
                "errors": sum(seen.outcome.state == _dashboard.ERROR for seen in own),
                "variables": {name: list(one.values) for name, one in board.variables.items() if not name.startswith("__")},
            }
        )
    words = {_dashboard.NO_DATA: "no data", _dashboard.ERROR: "error"}
    problems = [str(one) for one in missing.values()]
    problems += [f"{seen.board.title} / {seen.panel.title}: {words[seen.outcome.state]}: {seen.outcome.text}" for seen in panels if _must(seen)]
    return {"dashboards": summary, "panels": rows, "problems": problems}


def explain(found: t.Mapping[str, t.Any]) -> str:
    """All problems in one text, a line each."""
    panels = sum(one["panels"] for one in found["dashboards"])
    good = sum(one["with_data"] + one["empty_optional"] for one in found["dashboards"])
    return "\n".join([f"{panels - good} of {panels} panels show no data or fail:" if panels else "No dashboard could be opened:", *found["problems"]])


# The module's parameters


def target_of(params: t.Mapping[str, t.Any]) -> Target:
    """Where Grafana is.

    :raises ModelMonitoringError: a parameter is not usable.
    """
    if not params["dashboards"] and not params["folder"]:
        raise ModelMonitoringError("dashboards: name at least one dashboard by its UID, or give a folder")
    if params["grafana_username"] and not params["grafana_password"]:
        raise ModelMonitoringError("grafana_password: missing: give it with grafana_username")
    if not params["timeout"] >= 0:
        raise ModelMonitoringError(f"timeout: {params['timeout']} is below 0: give the seconds to wait at most")
    for name in ("time_from", "time_to"):
        if params[name]:
            try:
                _dashboard.moment(params[name], time.time())
            except DashboardError as exc:
                raise ModelMonitoringError(f"{name}: {exc}") from exc
    found = Target(params["grafana_endpoint"], "grafana_endpoint", params["via"], api_client_factory(params), params["grafana_ca_cert"])
    found.check()
    return found


def plan(params: t.Mapping[str, t.Any]) -> str:
    """What a run would prove, in one line. Connects to nothing.

    :raises ModelMonitoringError: a parameter is not usable.
    """
    target = target_of(params)
    what = [*(f"dashboard {uid}" for uid in params["dashboards"]), *([f"every dashboard in folder {params['folder']}"] if params["folder"] else [])]
    return f"would run every panel of {', '.join(what)} through Grafana at {target.url}"


def wish_of(params: t.Mapping[str, t.Any]) -> Wish:
    """How the dashboards are to be opened."""
    variables = {name: [str(one) for one in (value if isinstance(value, list) else [value])] for name, value in (params["variables"] or {}).items()}
    optional = {(one["dashboard"], one["panel"]): one["reason"] for one in params["optional"] or []}
    return Wish(variables, params["time_from"] or "", params["time_to"] or "", optional)


def credentials_of(params: t.Mapping[str, t.Any]) -> Credentials:
    """The account to read with; from the cluster where the parameters name a Secret.

    :raises ModelMonitoringError: the Secret cannot be read.
    """
    secret = params["grafana_secret"]
    if secret:
        kube = _kube.Kube(_kube.connect(params))
        return _grafana.credentials_in(kube, secret["namespace"], secret["name"], secret["username_key"], secret["password_key"])
    return Credentials(params["grafana_username"], params["grafana_password"], params["grafana_token"])


def run(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Probe with the parameters of the module.

    :return: see ``probe``.
    :raises ModelMonitoringError: a parameter is not usable, a package is missing, Grafana is not reachable or refuses.
    """
    if _link.IMPORT_ERROR is not None:
        raise ModelMonitoringError(f"Python package urllib3 is needed for {sys.executable} ({_link.IMPORT_ERROR}): install it there with pip")
    target = target_of(params)
    credentials = credentials_of(params)
    with _link.http_link(target) as link:
        return probe(Grafana(link, credentials), params["dashboards"], params["folder"], wish_of(params), params["timeout"])
