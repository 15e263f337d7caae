# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What dashboards are made of: variables, queries, kinds of panels and the grid.

Every data source is a variable, so that the dashboards work in any Grafana, and every panel says what it shows, in which unit, and
what it means when it is empty. A panel that may rightly be empty says so at the end of its description (``may_be_empty``), in words
that people and ``dashboard_probe`` read alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import common, nodegraph, stat, table, tempo, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus as prometheus_builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.tempo import SearchTableType

PROMETHEUS = models.DataSourceRef(type_val="prometheus", uid="${prometheus}")
TEMPO = models.DataSourceRef(type_val="tempo", uid="${tempo}")
TAG = "model-monitoring"
"""Tag of every dashboard; the links between them go by it."""

MAY_BE_EMPTY = "May be empty: "
"""Begins the last sentence of a description of a panel that may rightly show nothing; the rest of it is the reason."""

EMPTY = "MAY_BE_EMPTY"
"""refId of a hidden query beside such a panel's own: the panel may be empty only while this one finds something. Grafana does not run hidden ones."""

GREEN, AMBER, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"
TOKENS = "suffix: tok/s"
SPANS_OF_A_TRACE = 10
"""Most spans of one trace in a table of spans."""
_ALL = models.VariableOption(text="All", value="$__all")


# Variables


def data_source(name: str, label: str) -> builders.DatasourceVariable:
    """The data source of a type (its name too); the role's own is chosen first where there are several."""
    return builders.DatasourceVariable(name).label(label).type(name).current(models.VariableOption(text=label, value=name))


def values_of(name: str, label: str, series: str, of: str, *, many: bool = True, regex: str = "") -> builders.QueryVariable:
    """The values that a label has on a series in the time range: with ``many`` any number of them and at first all, else one."""
    variable = (
        builders.QueryVariable(name)
        .label(label)
        .datasource(PROMETHEUS)
        .query(f"label_values({series}, {of})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
    if regex:
        variable.regex(regex)
    return variable.multi(True).include_all(True).current(_ALL) if many else variable


def number(name: str, label: str, value: float, description: str) -> builders.TextBoxVariable:
    """A number that is set in the dashboard's settings or in its address (``?var-<name>=<value>``); not among the controls."""
    text = f"{value:g}"
    return (
        builders.TextBoxVariable(name)
        .label(label)
        .description(description)
        .default_value(text)
        .current(models.VariableOption(text=text, value=text))
        .hide(models.VariableHide.HIDE_VARIABLE)
    )


def choice(name: str, label: str, values: Sequence[str], description: str) -> builders.CustomVariable:
    """One of a few values; the first to begin with."""
    options = [models.VariableOption(selected=not place, text=value, value=value) for place, value in enumerate(values)]
    return builders.CustomVariable(name).label(label).description(description).values(",".join(values)).options(options).current(options[0])


# Queries


@dataclass(frozen=True)
class Query:
    """A PromQL query.

    ``name``: of its series (with ``{{label}}``), or of its column in a table. ``exemplar``: single requests shown as dots.
    ``objective``: a constant that is drawn as a limit.
    """

    expr: str
    name: str = ""
    exemplar: bool = False
    objective: bool = False


def objective(variable: str) -> Query:
    """The limit that a variable holds, as a dashed line."""
    return Query(f"vector(${variable})", "objective", objective=True)


@dataclass(frozen=True)
class TraceQL:
    """A search in Tempo: ``spans`` for a row for each matching span instead of each trace."""

    query: str
    spans: bool = False
    limit: int = 20


# Panels


@dataclass(frozen=True)
class Column:
    """How a column of a table looks; ``mappings``: text and colour by value; ``link``: address of a link."""

    unit: str = ""
    decimals: int | None = None
    mappings: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    link: tuple[str, str] | None = None
    width: int | None = None


def graph(title: str, description: str, unit: str, *queries: Query, width: int = 8, top: float | None = None, **common_options: Any) -> Any:
    """Lines over time. ``top``: upper end of the axis."""
    panel = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(8)
        .show_points(looks.VisibilityMode.AUTO)
        .legend(common.VizLegendOptions().show_legend(True).display_mode(looks.LegendDisplayMode.LIST).placement(looks.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
        .axis_soft_min(0)
    )
    if top is not None:
        panel.axis_soft_max(top)
    if any(query.objective for query in queries):
        panel.override_by_name(
            "objective",
            _properties(
                {"color": {"mode": "fixed", "fixedColor": RED}, "custom.lineStyle": {"fill": "dash", "dash": [8, 8]}, "custom.fillOpacity": 0}
            ),
        )
    for ref, query in zip(_refs(), queries, strict=False):
        panel.with_target(_prometheus(ref, query).range())
    return _describe(panel, PROMETHEUS, title, description, unit, width, 8, **common_options)


def figure(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 4,
    steps: Sequence[tuple[float | None, str]] = ((None, BLUE),),
    mappings: Mapping[str, tuple[str, str]] | None = None,
    **common_options: Any,
) -> Any:
    """The newest value, large. ``steps``: colours from a value on, the first from None. ``mappings``: text and colour by value."""
    panel = (
        stat.Panel()
        .color_mode(looks.BigValueColorMode.VALUE)
        .graph_mode(looks.BigValueGraphMode.NONE)
        .text_mode(
            looks.BigValueTextMode.VALUE_AND_NAME if len(queries) > 1 or any(query.name for query in queries) else looks.BigValueTextMode.VALUE
        )
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(steps))
    )
    if mappings:
        panel.mappings([_value_map(mappings)])
    for ref, query in zip(_refs(), queries, strict=False):
        panel.with_target(_prometheus(ref, query).instant())
    return _describe(panel, PROMETHEUS, title, description, unit, width, 4, **common_options)


def grid(
    title: str,
    description: str,
    unit: str,
    labels: Mapping[str, str],
    *queries: Query,
    width: int = 24,
    columns: Mapping[str, Column] | None = None,
    **common_options: Any,
) -> Any:
    """A table: a row for each combination of labels, a column for each query.

    :param labels: the labels to show, in order, and what their columns are called.
    :param columns: looks of columns by name, where they differ from the panel's unit.
    """
    values = ["Value"] if len(queries) == 1 else [f"Value #{ref}" for ref, _query in zip(_refs(), queries, strict=False)]
    names = {**labels, **{value: query.name for value, query in zip(values, queries, strict=True)}}
    panel = (
        table.Panel()
        .with_transformation(models.DataTransformerConfig("merge", options={}))
        .with_transformation(
            models.DataTransformerConfig(
                "organize",
                options={"excludeByName": {"Time": True}, "indexByName": {name: place for place, name in enumerate(names)}, "renameByName": names},
            )
        )
    )
    for ref, query in zip(_refs(), queries, strict=False):
        panel.with_target(_prometheus(ref, query).instant().format(PromQueryFormat.TABLE))
    return _describe(_columns(panel, columns), PROMETHEUS, title, description, unit, width, 8, **common_options)


def traces(title: str, description: str, query: TraceQL, *, width: int = 24, **common_options: Any) -> Any:
    """A table of what a search in Tempo finds. The row's trace id leads to the trace."""
    target = (
        tempo.TempoQuery()
        .ref_id("A")
        .datasource(TEMPO)
        .query_type("traceql")
        .query(query.query)
        .limit(query.limit)
        .table_type(SearchTableType.SPANS if query.spans else SearchTableType.TRACES)
        .spss(SPANS_OF_A_TRACE if query.spans else 3)
    )
    panel = table.Panel().with_target(target)
    # The names of the column differ between Grafana's versions; hidden ones stay hidden.
    panel.override_by_regexp("/^trace ?ID$/i", _properties({"links": [_explore("Open the trace")]}))
    return _describe(panel, TEMPO, title, description, "none", width, 8, **common_options)


def service_map(title: str, description: str, selector: str, *, width: int = 24, **common_options: Any) -> Any:
    """Who calls whom, which Grafana's Tempo data source draws from the service graph's series in Prometheus."""
    target = tempo.TempoQuery().ref_id("A").datasource(TEMPO).query_type("serviceMap").service_map_query(selector)
    return _describe(nodegraph.Panel().with_target(target), TEMPO, title, description, "none", width, 11, **common_options)


# Dashboards


@dataclass(frozen=True)
class Row:
    """Panels under a heading, side by side as far as they fit into the 24 columns."""

    title: str
    panels: Sequence[Any]


def assemble(
    uid: str, title: str, description: str, variables: Sequence[Any], rows: Sequence[Row], since: str, refresh: str = "1m"
) -> models.Dashboard:
    """A dashboard: variables above, rows below each other. ``since``: beginning of the time range, for example ``now-1h``."""
    board = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time(since, "now")
        .refresh(refresh)
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            builders.DashboardLink("Model monitoring")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .keep_time(True)
            .include_vars(False)
        )
    )
    for variable in variables:
        board.with_variable(variable)
    number_of_panel = 0
    for row in rows:
        number_of_panel += 1
        board.with_row(builders.Row(row.title).id(number_of_panel))
        for panel in row.panels:
            number_of_panel += 1
            board.with_panel(panel.id(number_of_panel))
    return board.build()


def render(dashboard: models.Dashboard) -> str:
    """Its JSON, one setting a line, so that changes can be read."""
    return json.dumps(dashboard, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


# Details


def _describe(
    panel: Any,
    source: models.DataSourceRef,
    title: str,
    description: str,
    unit: str,
    width: int,
    height: int,
    *,
    no_value: str,
    may_be_empty: str = "",
    only_if: str = "",
    **more: Any,
) -> Any:
    """What every panel has.

    :param may_be_empty: why it may rightly show nothing.
    :param only_if: PromQL that finds something as long as that is so; without it the reason always counts.
    :param more: further calls of the builder by name.
    """
    for name, value in more.items():
        getattr(panel, name)(value)
    if only_if:
        panel.with_target(_prometheus(EMPTY, Query(only_if)).instant().hide(True))
    text = f"{description}\n\n{MAY_BE_EMPTY}{may_be_empty}" if may_be_empty else description
    return panel.title(title).description(text).unit(unit).datasource(source).span(width).height(height).no_value(no_value)


def _prometheus(ref: str, query: Query) -> prometheus_builders.Dataquery:
    target = prometheus_builders.Dataquery().ref_id(ref).datasource(PROMETHEUS).expr(query.expr)
    if query.name:
        target.legend_format(query.name)
    return target.exemplar(True) if query.exemplar else target


def _refs() -> str:
    return "ABCDEFGHIJKL"


def _properties(values: Mapping[str, Any]) -> list[models.DynamicConfigValue]:
    return [models.DynamicConfigValue(name, value) for name, value in values.items()]


def _columns(panel: table.Panel, columns: Mapping[str, Column] | None) -> table.Panel:
    for name, column in (columns or {}).items():
        values: dict[str, Any] = {}
        if column.unit:
            values["unit"] = column.unit
        if column.decimals is not None:
            values["decimals"] = column.decimals
        if column.mappings:
            values["mappings"] = [_value_map(column.mappings)]
            values["custom.cellOptions"] = {"type": "color-text"}
        if column.link:
            values["links"] = [{"title": column.link[0], "url": column.link[1]}]
        if column.width:
            values["custom.width"] = column.width
        panel.override_by_name(name, _properties(values))
    return panel


def _value_map(mappings: Mapping[str, tuple[str, str]]) -> models.ValueMap:
    return models.ValueMap(
        {value: models.ValueMappingResult(text=text, color=color, index=place) for place, (value, (text, color)) in enumerate(mappings.items())}
    )


def _thresholds(steps: Sequence[tuple[float | None, str]]) -> builders.ThresholdsConfig:
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps([models.Threshold(value, color) for value, color in steps])


def _explore(title: str) -> dict[str, Any]:
    """A link from a trace id to the whole trace in Grafana's Explore."""
    query = {"refId": "A", "datasource": {"type": "tempo", "uid": "${tempo}"}, "queryType": "traceql", "query": "${__value.raw}"}
    pane = json.dumps({"datasource": "${tempo}", "queries": [query], "range": {"from": "${__from}", "to": "${__to}"}}, separators=(",", ":"))
    return {"title": title, "url": f"/explore?left={pane}", "targetBlank": True}
