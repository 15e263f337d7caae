# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What Grafana's front end does before it asks a data source: variables, time ranges, intervals; and what its answers are worth.

Pure functions on a dashboard's JSON (the classic schema, which Grafana 10 to 12 read and write). The rules are those of Grafana's own
source: packages/grafana-data (date math, rangeutil), public/app/features/templating and variables, and the data sources for
Prometheus and Tempo.
"""

from __future__ import annotations

import json
import math
import re
import typing as t
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError

ALL = "$__all"
MAY_BE_EMPTY = "May be empty: "
"""In a panel's description: the panel may rightly show nothing, and what follows is the reason. The collection's dashboards are made so."""

CONDITION = "MAY_BE_EMPTY"
"""refId of a hidden query of such a panel: the reason counts only while it finds something. Without it the reason always counts."""

SCREEN = 1280
"""Width in pixels of the screen that a dashboard is thought to be seen on; together with a panel's width it gives the number of points."""

# Grafana's front end: public/app/features/templating/templateSrv.ts
_REFERENCE = re.compile(r"\$(?P<plain>\w+)|\[\[(?P<old>\w+?)(?::(?P<old_format>\w+))?\]\]|\$\{(?P<name>\w+)(?:\.[^:}]+)?(?::(?P<format>[^}]+))?\}")


class DashboardError(ModelMonitoringError):
    """A dashboard, or a part of it, is not one that can be run."""


# Panels


@dataclass(frozen=True)
class Panel:
    """A panel that asks something.

    ``targets``: its visible queries, each with the panel's data source where it has none of its own. ``optional``: why it may be empty,
    None if it may not; ``condition``: the query that must find something for that to count, None for always. ``points``: most points of a line.
    ``interval``: least step, as the panel says. ``time_from``, ``time_shift``: its own time range.
    """

    id: int
    title: str
    type: str
    targets: t.Sequence[t.Mapping[str, t.Any]]
    optional: str | None = None
    condition: t.Mapping[str, t.Any] | None = None
    points: int = SCREEN
    interval: str = ""
    time_from: str = ""
    time_shift: str = ""


def panels_of(dashboard: t.Mapping[str, t.Any]) -> list[Panel]:
    """Every panel with queries, those in collapsed rows included, in the order of the screen."""
    found = []
    for one in dashboard.get("panels") or []:
        for panel in [one, *(one.get("panels") or [])]:
            every = [{**target, "datasource": target.get("datasource") or panel.get("datasource")} for target in panel.get("targets") or []]
            targets = [target for target in every if not target.get("hide")]
            if not targets:
                continue
            reason = (panel.get("description") or "").partition(MAY_BE_EMPTY)[2].strip()
            width = (panel.get("gridPos") or {}).get("w", 24)
            found.append(
                Panel(
                    panel.get("id") or 0,
                    panel.get("title") or f"panel {panel.get('id')}",
                    panel.get("type") or "",
                    targets,
                    " ".join(reason.split()) or None,
                    next((target for target in every if target.get("hide") and target.get("refId") == CONDITION), None),
                    int(panel.get("maxDataPoints") or SCREEN * width // 24),
                    panel.get("interval") or "",
                    panel.get("timeFrom") or "",
                    panel.get("timeShift") or "",
                )
            )
    return found


def check(dashboard: t.Any, where: str) -> t.Mapping[str, t.Any]:
    """The dashboard itself.

    :raises DashboardError: it is none, or of a schema that is not known here.
    """
    if not isinstance(dashboard, dict) or not isinstance(dashboard.get("panels"), list):
        kind = "of Grafana's new schema (elements and layout)" if isinstance(dashboard, dict) and "elements" in dashboard else "not a dashboard"
        raise DashboardError(f"{where}: its JSON is {kind}: give one with a list of panels")
    return dashboard


# Time


@dataclass(frozen=True)
class Range:
    """A time range in milliseconds since 1970."""

    start: int
    end: int

    @property
    def milliseconds(self) -> int:
        return self.end - self.start


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "M": 30 * 86400, "y": 365 * 86400, "ms": 0.001}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdwMy])")


def seconds(duration: str) -> float:
    """Seconds of a duration such as ``1h30m``.

    :raises DashboardError: it is none.
    """
    text = duration.strip().lstrip(">=")
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise DashboardError(f"'{duration}' is not a duration: write it like 30s, 5m or 1h")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def moment(text: str, now: float, end: bool = False) -> int:
    """A point in time in milliseconds: ``now-6h``, ``now/d``, ISO 8601, or milliseconds since 1970.

    :param now: seconds since 1970.
    :param end: a rounded one (``/d``) means the end of that unit, not its beginning.
    :raises DashboardError: it is none of these.
    """
    text = str(text).strip()
    if text.isdigit():
        return int(text)
    if not text.startswith("now"):
        try:
            return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)
        except ValueError:
            raise DashboardError(f"'{text}' is not a point in time: write it like now-1h, 2024-05-01T12:00:00Z or milliseconds") from None
    at = datetime.fromtimestamp(now, timezone.utc)
    rest = text[3:]
    for part in re.findall(r"[-+]\d+[a-zA-Z]+|/[a-zA-Z]+|.+", rest):
        step = re.fullmatch(r"([-+])(\d+)([smhdwMy])", part)
        if step:
            at += timedelta(seconds=float(step[1] + step[2]) * _UNITS[step[3]])
        elif re.fullmatch(r"/[smhdwMy]", part):
            at = _rounded(at, part[1], end)
        else:
            raise DashboardError(f"'{text}' is not a point in time: write it like now-1h or now/d")
    return int(at.timestamp() * 1000)


def _rounded(at: datetime, unit: str, end: bool) -> datetime:
    """The beginning of the unit that a moment is in, or its last millisecond."""
    fields = {"y": "month day hour minute second", "M": "day hour minute second", "w": "hour minute second", "d": "hour minute second"}
    fields |= {"h": "minute second", "m": "second", "s": ""}
    begun = at.replace(microsecond=0, **{name: 1 if name in ("month", "day") else 0 for name in fields[unit].split()})  # type: ignore[arg-type]
    if unit == "w":
        begun -= timedelta(days=begun.weekday())
    if not end:
        return begun
    if unit == "M":
        following = (begun + timedelta(days=32)).replace(day=1)
    elif unit == "y":
        following = begun.replace(year=begun.year + 1)
    else:
        following = begun + timedelta(seconds=_UNITS[unit])
    return following - timedelta(milliseconds=1)


def range_of(panel: Panel, since: str, until: str, now: float) -> Range:
    """The time range that a panel is asked for.

    :param since: of the dashboard, as ``until``.
    """
    if panel.time_from:
        since, until = f"now-{panel.time_from.removeprefix('now-')}", "now"
    found = Range(moment(since, now), moment(until, now, end=True))
    if panel.time_shift:
        shift = int(seconds(panel.time_shift) * 1000)
        found = Range(found.start - shift, found.end - shift)
    return found


# Grafana's rangeutil.roundInterval: up to the first number it is rounded to the second, both in milliseconds.
_ROUND = (
    (10, 1), (15, 10), (35, 20), (75, 50), (150, 100), (350, 200), (750, 500), (1500, 1000), (3500, 2000), (7500, 5000), (12500, 10000),
    (17500, 15000), (25000, 20000), (45000, 30000), (90000, 60000), (210000, 120000), (450000, 300000), (750000, 600000), (1050000, 900000),
    (1500000, 1200000), (2700000, 1800000), (5400000, 3600000), (9000000, 7200000), (16200000, 10800000), (32400000, 21600000),
    (86400000, 43200000), (604800000, 86400000), (1814400000, 604800000), (3628800000, 2592000000),
)  # fmt: skip


def interval(asked: Range, points: int, least: str = "") -> int:
    """Milliseconds between two points of a line, as Grafana chooses them. ``least``: lower limit as a duration."""
    exact = asked.milliseconds / points
    rounded = next((to for below, to in _ROUND if exact < below), 31536000000)
    return max(rounded, int(seconds(least) * 1000) if least else 0, 1)


def duration_text(milliseconds: int) -> str:
    """A duration as Grafana writes it into a query: ``30s``, ``2m``."""
    for unit, size in (("y", 31536000000), ("w", 604800000), ("d", 86400000), ("h", 3600000), ("m", 60000), ("s", 1000)):
        if milliseconds >= size and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


# Variables


@dataclass(frozen=True)
class Option:
    """A value that a variable may have, and how it is shown."""

    text: str
    value: str


@dataclass(frozen=True)
class Variable:
    """A variable that is resolved.

    ``values``: what is chosen. ``texts``: how that is shown. ``many``: whether it may be several (multi or "All"), so that data sources
    write it as an expression. ``everything``: the custom text for "All" when that is chosen. ``asked``: the query that gave its options.
    """

    name: str
    values: tuple[str, ...]
    texts: tuple[str, ...] = ()
    many: bool = False
    everything: str = ""
    asked: str = ""

    @property
    def empty(self) -> bool:
        """Whether its query found nothing to choose from."""
        return bool(self.asked) and not self.everything and not any(self.values)


@dataclass(frozen=True)
class DataSource:
    """A data source of Grafana's. ``settings``: its jsonData."""

    uid: str
    type: str
    name: str
    default: bool = False
    settings: t.Mapping[str, t.Any] = field(default_factory=dict)


def references(value: t.Any) -> set[str]:
    """Names of the variables that a text, or the texts in a structure, refer to."""
    text = value if isinstance(value, str) else json.dumps(value)
    return {match["plain"] or match["old"] or match["name"] for match in _REFERENCE.finditer(text)}


def in_order(variables: t.Sequence[t.Mapping[str, t.Any]]) -> list[t.Mapping[str, t.Any]]:
    """The dashboard's variables so that each comes after those that it refers to.

    :raises DashboardError: two refer to each other.
    """
    left = list(variables)
    names = {one.get("name") for one in left}
    done: list[t.Mapping[str, t.Any]] = []
    while left:
        known = {one.get("name") for one in done}
        ready = [one for one in left if not (_asks(one) & names) - known - {one.get("name")}]
        if not ready:
            raise DashboardError(
                f"variables {', '.join(str(one.get('name')) for one in left)} refer to each other in a circle: correct their queries"
            )
        done.append(ready[0])
        left.remove(ready[0])
    return done


def _asks(variable: t.Mapping[str, t.Any]) -> set[str]:
    return references([variable.get("query"), variable.get("datasource"), variable.get("regex")])


def source_options(variable: t.Mapping[str, t.Any], sources: t.Sequence[DataSource]) -> list[Option]:
    """The data sources that a variable of type datasource offers."""
    regex = _regex(variable.get("regex") or "")
    return [
        Option(one.name, one.uid)
        for one in sorted(sources, key=lambda one: one.name.lower())
        if one.type == variable.get("query") and (regex is None or regex.search(one.name))
    ]


def listed_options(variable: t.Mapping[str, t.Any]) -> list[Option]:
    """The options of a variable of type custom or interval: ``a, b`` or ``text : value``; a comma within is ``\\,``."""
    found = []
    for part in re.split(r"(?<!\\),", str(variable.get("query") or "")):
        text = part.strip().replace("\\,", ",")
        pair = re.fullmatch(r"(.+?)\s:\s(.+)", text)
        found.append(Option(pair[1].strip(), pair[2].strip()) if pair else Option(text, text))
    return found


def query_options(values: t.Iterable[str], regex: str, sort: int) -> list[Option]:
    """The options that a variable's query gives: filtered by its regular expression (a group takes a part), without repetition, sorted."""
    pattern = _regex(regex)
    found: dict[str, Option] = {}
    for value in values:
        option: Option | None = Option(value, value)
        if pattern is not None:
            option = _matched(pattern, value)
        if option is not None:
            found.setdefault(option.value, option)
    options = list(found.values())
    keys: dict[int, t.Callable[[Option], t.Any]] = {1: lambda one: one.text, 3: _number, 5: lambda one: one.text.lower(), 7: _natural}
    key = keys.get(sort if sort % 2 else sort - 1)
    return sorted(options, key=key, reverse=sort % 2 == 0) if key else options


def _matched(pattern: re.Pattern[str], value: str) -> Option | None:
    match = pattern.search(value)
    if match is None:
        return None
    groups = match.groupdict()
    if groups.get("value") or groups.get("text"):
        return Option(groups.get("text") or groups["value"], groups.get("value") or groups["text"])
    part = next((group for group in match.groups() if group is not None), "") if match.groups() else value
    return Option(part, part) if part else None


def _number(option: Option) -> float:
    found = re.search(r"\d+", option.text)
    return float(found[0]) if found else -1.0


def _natural(option: Option) -> list[tuple[bool, t.Any]]:
    return [(not part.isdigit(), int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", option.text) if part]


def _regex(text: str) -> re.Pattern[str] | None:
    """A regular expression as Grafana takes it: ``/pattern/flags``, or a plain pattern that must match the whole.

    :raises DashboardError: it is none.
    """
    if not text:
        return None
    whole = re.fullmatch(r"/(.*)/([gimsuy]*)", text, re.DOTALL)
    pattern, flags = (whole[1], whole[2]) if whole else (f"^(?:{text})$", "")
    try:
        return re.compile(re.sub(r"\(\?<(?=\w+>)", "(?P<", pattern), re.IGNORECASE if "i" in flags else 0)
    except re.error as exc:
        raise DashboardError(f"'{text}' is not a regular expression ({exc}): correct it") from exc


def choose(variable: t.Mapping[str, t.Any], options: t.Sequence[Option], wanted: t.Sequence[str] | None = None) -> Variable:
    """What is chosen when the dashboard is opened: what was saved with it as far as it is offered, else the first (with "All" that).

    :param wanted: what to choose instead, offered or not, as in the dashboard's address (``?var-name=value``).
    """
    name = str(variable.get("name"))
    asked = str(_query_text(variable)) if variable.get("type") == "query" else ""
    everything = bool(variable.get("includeAll"))
    many = everything or bool(variable.get("multi"))
    if wanted is not None and list(wanted) != [ALL]:
        return Variable(name, tuple(wanted), tuple(wanted), many, asked=asked)
    if wanted is None:
        current = variable.get("current") or {}
        saved = current.get("value")
        chosen = [str(one) for one in (saved if isinstance(saved, list) else [saved]) if one not in (None, "")]
        texts = current.get("text")
        shown = [str(one) for one in (texts if isinstance(texts, list) else [texts]) if one]
        offered = [one for one in options if one.value in chosen or (not variable.get("multi") and one.text in shown)]
        if offered:
            offered = offered if variable.get("multi") else offered[:1]
            return Variable(name, tuple(one.value for one in offered), tuple(one.text for one in offered), many, asked=asked)
    if everything:
        return Variable(name, tuple(one.value for one in options), ("All",), many, str(variable.get("allValue") or ""), asked)
    first = options[:1]
    return Variable(name, tuple(one.value for one in first) or ("",), tuple(one.text for one in first) or ("None",), many, asked=asked)


def _query_text(variable: t.Mapping[str, t.Any]) -> str:
    query = variable.get("query")
    return str(query.get("query") or "") if isinstance(query, dict) else str(query or "")


@dataclass(frozen=True)
class Lookup:
    """What a variable's query asks Prometheus for. ``kind``: ``label_values``, ``label_names``, ``metrics``, ``query_result`` or ``series``."""

    kind: str
    label: str = ""
    expr: str = ""


def lookup(variable: t.Mapping[str, t.Any], known: t.Mapping[str, Variable]) -> Lookup:
    """Take a variable's query apart, as Grafana's data source for Prometheus does."""
    text = interpolate(_query_text(variable), known, promql).strip()
    if re.fullmatch(r"label_names\(\s*\)", text):
        return Lookup("label_names")
    match = re.fullmatch(r"label_names\(\s*(.+?)\s*\)", text, re.DOTALL)
    if match:
        return Lookup("label_names", expr=match[1])
    match = re.fullmatch(r"label_values\((?:(.+),)?\s*([a-zA-Z_$][\w.]*)\s*\)", text, re.DOTALL)
    if match:
        return Lookup("label_values", match[2], (match[1] or "").strip())
    match = re.fullmatch(r"metrics\((.+)\)", text)
    if match:
        return Lookup("metrics", expr=match[1])
    match = re.fullmatch(r"query_result\((.+)\)", text, re.DOTALL)
    if match:
        return Lookup("query_result", expr=match[1])
    return Lookup("series", expr=text)


def series_text(labels: t.Mapping[str, str]) -> str:
    """A series as Grafana writes it for a variable's regular expression: ``name{label="value"}``."""
    rest = ",".join(f'{name}="{value}"' for name, value in sorted(labels.items()) if name != "__name__")
    return f"{labels.get('__name__', '')}{{{rest}}}"


def result_texts(frames: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """Each value of a result as Grafana writes it for a variable's regular expression: ``name{label="value"} value time``."""
    found = []
    for frame in frames:
        times: t.Sequence[t.Any] = ()
        for one, column in zip(frame["schema"].get("fields") or [], (frame.get("data") or {}).get("values") or [], strict=False):
            if one.get("type") == "time":
                times = column
            elif one.get("type") == "number":
                found += [f"{series_text(one.get('labels') or {})} {value} {when}" for value, when in zip(column, times, strict=False)]
    return found


# Interpolation


Writer = t.Callable[[Variable], str]
"""Writes a variable into a query of a data source, where the query does not say how."""


def promql(variable: Variable) -> str:
    """As Grafana's data source for Prometheus writes a variable: as part of a regular expression when it may have several values."""
    if not variable.many:
        return variable.values[0].replace("\\", "\\\\").replace("'", "\\\\'") if variable.values else ""
    escaped = [re.sub(r"[$^*{}\[\]'+?.()|]", lambda found: "\\\\" + found[0], one.replace("\\", "\\\\\\\\")) for one in variable.values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def piped(variable: Variable) -> str:
    """As Grafana's data source for Tempo writes a variable."""
    return "|".join(variable.values)


def glob(variable: Variable) -> str:
    """Grafana's own default."""
    return variable.values[0] if len(variable.values) == 1 else "{" + ",".join(variable.values) + "}"


def _escaped(value: str) -> str:
    return re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", value)


_FORMATS: dict[str, Writer] = {
    "raw": lambda one: ",".join(one.values),
    "csv": lambda one: ",".join(one.values),
    "pipe": piped,
    "glob": glob,
    "regex": lambda one: _escaped(one.values[0]) if len(one.values) == 1 else f"({'|'.join(map(_escaped, one.values))})",
    "json": lambda one: json.dumps(list(one.values) if one.many else "".join(one.values)),
    "text": lambda one: " + ".join(one.texts),
    "doublequote": lambda one: ",".join('"' + value.replace('"', '\\"') + '"' for value in one.values),
    "singlequote": lambda one: ",".join("'" + value.replace("'", "\\'") + "'" for value in one.values),
    "percentencode": lambda one: quote(glob(one), safe=""),
    "queryparam": lambda one: "&".join(f"var-{one.name}={quote(value, safe='')}" for value in one.values),
}


def interpolate(text: str, known: t.Mapping[str, Variable], write: Writer = glob) -> str:
    """The text with the variables' values. What is not known stays (``$1`` of label_replace, intervals that Grafana's backend fills in)."""

    def value(match: re.Match[str]) -> str:
        variable = known.get(match["plain"] or match["old"] or match["name"])
        if variable is None:
            return match[0]
        form = match["format"] or match["old_format"] or ""
        if variable.everything and form not in ("text", "percentencode"):
            return interpolate(variable.everything, known, write)
        return (_FORMATS.get(form, glob) if form else write)(variable)

    return _REFERENCE.sub(value, text)


def filled(value: t.Any, known: t.Mapping[str, Variable], write: Writer = glob) -> t.Any:
    """A structure in which every text is interpolated."""
    if isinstance(value, str):
        return interpolate(value, known, write)
    if isinstance(value, dict):
        return {key: filled(one, known, write) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [filled(one, known, write) for one in value]
    return value


def constants(dashboard: t.Mapping[str, t.Any], asked: Range) -> dict[str, Variable]:
    """The variables that Grafana gives to every query, but for the intervals, which its backend fills in."""
    values = {
        "__from": asked.start,
        "__to": asked.end,
        "__range": f"{round(asked.milliseconds / 1000)}s",
        "__range_s": round(asked.milliseconds / 1000),
        "__range_ms": asked.milliseconds,
        "__dashboard": dashboard.get("title", ""),
        "__org": 1,
    }
    return {name: Variable(name, (str(value),), (str(value),)) for name, value in values.items()}


# Data sources


def source_of(reference: t.Any, known: t.Mapping[str, Variable], sources: t.Sequence[DataSource]) -> DataSource:
    """The data source that a panel or target names: by UID, by name (old dashboards), by a variable, or the default where it names none.

    :raises DashboardError: there is none such.
    """
    name = (reference.get("uid") if isinstance(reference, dict) else reference) or ""
    name = interpolate(str(name), known)
    kind = reference.get("type") if isinstance(reference, dict) else None
    if name in ("__expr__", "-- Grafana --", "-- Dashboard --", "-- Mixed --", "grafana"):
        return DataSource(name, kind or name, name)
    for one in sources:
        if (name and name in (one.uid, one.name)) or (name in ("", "default") and one.default and kind in (None, one.type)):
            return one
    there = ", ".join(sorted(f"{one.name} ({one.type}, UID {one.uid})" for one in sources)) or "none"
    wanted = f"'{name}'" if name else f"of type {kind}" if kind else "that is the default"
    raise DashboardError(f"Grafana has no data source {wanted}; it has: {there}")


# Answers


@dataclass(frozen=True)
class Outcome:
    """What a query gave. ``state``: ``data``, ``no_data`` or ``error``. ``series``: lines or rows with at least one value.

    ``text``: why it is not data; an error in the data source's own words. ``hopeless``: asking again does not help. ``frames``: what came.
    """

    state: str
    text: str = ""
    series: int = 0
    exemplars: int = 0
    hopeless: bool = False
    frames: t.Sequence[t.Mapping[str, t.Any]] = ()


DATA, NO_DATA, ERROR = "data", "no_data", "error"


CURRENT = 60 * 1000
"""Milliseconds before the end of its range in which a line must have a value, or two steps: one that goes on has a value at the last step."""


def judge_frames(frames: t.Sequence[t.Mapping[str, t.Any]], since: float | None = None) -> Outcome:
    """Whether Grafana's data frames hold something that a panel would draw.

    Exemplars are dots on the lines of others and are counted by themselves. NaN is nothing to draw. Lines that all ended are drawn too, but who
    looks at them wants to know of now.

    :param since: milliseconds since 1970 after which there must be a value of a line; None where old ones are as good.
    """
    series = exemplars = values = 0
    newest = 0.0
    for frame in frames:
        schema, columns = frame.get("schema") or {}, (frame.get("data") or {}).get("values") or []
        rows = max(map(len, columns), default=0)
        custom = (schema.get("meta") or {}).get("custom") or {}
        if schema.get("name") == "exemplar" or (isinstance(custom, dict) and custom.get("resultType") == "exemplar"):
            exemplars += rows
            continue
        values += rows
        fields = schema.get("fields") or []
        measured = [column for field, column in zip(fields, columns, strict=False) if field.get("type") != "time"] or list(columns)
        numbers = [column for field, column in zip(fields, columns, strict=False) if field.get("type") == "number"]
        if any(value is not None for column in (numbers or measured) for value in column):
            tables = any(field.get("type") == "string" for field in fields)
            series += rows if tables else 1
            newest = max(newest, math.inf if tables else _newest(fields, columns))
    if series and since is not None and newest < since:
        return Outcome(NO_DATA, f"the newest value is of {moment_text(newest)}", exemplars=exemplars, frames=frames)
    if series:
        return Outcome(DATA, series=series, exemplars=exemplars, frames=frames)
    text = "the query found only values that are not numbers (NaN)" if values else "the query found nothing"
    return Outcome(NO_DATA, text, exemplars=exemplars, frames=frames)


def _newest(fields: t.Sequence[t.Mapping[str, t.Any]], columns: t.Sequence[t.Sequence[t.Any]]) -> float:
    """When the newest value of a line is from, in milliseconds since 1970; infinity for what has no times."""
    kinds = [field.get("type") for field in fields]
    if "time" not in kinds:
        return math.inf
    times = columns[kinds.index("time")]
    lines = [column for kind, column in zip(kinds, columns, strict=False) if kind == "number"]
    return max((float(at) for row, at in enumerate(times) if any(line[row] is not None for line in lines)), default=0.0)


def moment_text(milliseconds: float) -> str:
    """A point in time for people, in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def judge_answer(status: int, body: bytes, since: t.Mapping[str, float | None]) -> dict[str, Outcome]:
    """What an answer of ``POST /api/ds/query`` says for each query, by refId.

    :param since: by refId, after when there must be a value, see ``judge_frames``.
    """
    refs = list(since)
    try:
        answer = json.loads(body)
        results = answer.get("results") or {}
    except (ValueError, AttributeError):
        text = f"{status} {' '.join(body[:200].decode('utf-8', 'replace').split())}".strip()
        return {ref: Outcome(ERROR, text, hopeless=status in HOPELESS) for ref in refs}
    found = {}
    for ref in refs:
        result = results.get(ref)
        if result is None:
            if status == 200:
                found[ref] = Outcome(NO_DATA, "the query found nothing")
                continue
            words = answer.get("message") or answer.get("error") or "no reason given"
            found[ref] = Outcome(ERROR, f"{status} {words}", hopeless=status in HOPELESS)
        elif result.get("error"):
            # A refused log-in may end when a token is renewed; Grafana 10.0 gives no status, and every failure as 400.
            text = _one_line(result["error"])
            found[ref] = Outcome(ERROR, text, hopeless=result.get("status") == 400 or "bad_data" in text or "parse error" in text)
        elif (result.get("status") or 200) >= 400:
            # What a proxy in front of the data source says is no error to Grafana, only an answer with nothing in it.
            found[ref] = Outcome(ERROR, f"the data source answers {result['status']}", hopeless=result["status"] == 400)
        else:
            found[ref] = judge_frames(result.get("frames") or [], since[ref])
    return found


HOPELESS = (400, 401, 403)
"""Statuses that asking again does not change."""


def judge_search(status: int, body: bytes, spans: bool = False) -> Outcome:
    """What Tempo's answer to a TraceQL search is worth: traces, or with ``spans`` spans."""
    if status != 200:
        return Outcome(ERROR, f"{status} {_one_line(body[:300].decode('utf-8', 'replace'))}".strip(), hopeless=status in HOPELESS)
    try:
        traces = json.loads(body).get("traces") or []
        rows = sum(len((one.get("spanSets") or [one.get("spanSet") or {}])[0].get("spans") or []) for one in traces) if spans else len(traces)
    except (ValueError, AttributeError):
        return Outcome(ERROR, f"not an answer of Tempo's: {_one_line(body[:100].decode('utf-8', 'replace'))}")
    return Outcome(DATA, series=rows, frames=traces) if rows else Outcome(NO_DATA, "the search found no trace")


def together(outcomes: t.Mapping[str, Outcome]) -> Outcome:
    """A panel's outcome: an error if any of its queries has one, data only if all of them have."""
    for state in (ERROR, NO_DATA):
        bad = {ref: one for ref, one in outcomes.items() if one.state == state}
        if bad:
            texts: dict[str, list[str]] = {}
            for ref, one in bad.items():
                texts.setdefault(one.text, []).append(ref)
            words = "; ".join(text if len(outcomes) == len(refs) else f"{text} (query {', '.join(refs)})" for text, refs in texts.items())
            return Outcome(state, words, _total(outcomes, "series"), _total(outcomes, "exemplars"), all(one.hopeless for one in bad.values()))
    return Outcome(DATA, series=_total(outcomes, "series"), exemplars=_total(outcomes, "exemplars"))


def _total(outcomes: t.Mapping[str, Outcome], name: str) -> int:
    return sum(getattr(one, name) for one in outcomes.values())


def _one_line(text: t.Any) -> str:
    return " ".join(str(text).split())


# Why a query finds nothing


@dataclass(frozen=True)
class Selector:
    """A series and its matchers as they stand in a PromQL query; ``matchers``: label, operator, value in quotes."""

    series: str
    matchers: tuple[tuple[str, str, str], ...]


_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{((?:[^{}\"']|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')*)\}")
_MATCHER = re.compile(r"([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')")


def selectors(expr: str) -> list[Selector]:
    """The series with matchers in a PromQL query, each once."""
    return list(dict.fromkeys(Selector(name, tuple(_MATCHER.findall(matchers))) for name, matchers in _SELECTOR.findall(expr)))


def traceql_metrics(query: str) -> bool:
    """Whether a TraceQL query is one of metrics, which Grafana's backend asks, and not a search, which its front end does through the proxy."""
    functions = r"rate|count_over_time|sum_over_time|min_over_time|max_over_time|avg_over_time|quantile_over_time|histogram_over_time|compare"
    return bool(re.search(rf"\|\s*({functions})\s*\(", query))


def with_reason(panel: Panel, reason: str | None) -> Panel:
    """The panel, optional for this reason in any case."""
    return replace(panel, optional=reason, condition=None) if reason else panel
