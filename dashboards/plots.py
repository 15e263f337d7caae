# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Draws the dashboards from the real results of their queries, one PNG each, 1280 pixels wide.

These are plain plots, not Grafana's pages: queries, variables and time ranges are the panels' own and go through Grafana
(the code is that of the module ``dashboard_probe``), but lines, tables and colours are matplotlib's.
"""

from __future__ import annotations

import argparse
import math
import os
import textwrap
import time
import typing as t
from datetime import datetime, timezone
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _dashboard, _grafana, _kube, _link
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._dashboard import Outcome
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._dashboard_probe import Board, Wish
from matplotlib import dates, pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
UIDS = ("ai-ml-performance", "model-quality", "tempo-trace-explorer", "stack-health")
DPI = 100
COLUMN, ROW = 1280 / 24, 38
"""Pixels of Grafana's grid on a screen of this width."""

GRID, TEXT, FAINT = "#e4e4e9", "#24292e", "#70757c"
COLOURS = {"green": "#3a833a", "orange": "#cf7a0c", "red": "#c4162a", "blue": "#1f60c4", "text": TEXT}
TABLE_ROWS, LETTER = 7, 6.2
"""Rows of a table that fit into a panel, and pixels of a letter."""


# Values in words


def shown(value: t.Any, unit: str, decimals: int | None = None) -> str:
    """A value as its unit is written."""
    if value is None or isinstance(value, (str, bool)):
        return "" if value is None else str(value)
    number = float(value)
    if unit == "dateTimeAsIso":
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(number / 1000))
    scale: list[tuple[float, str]] = {
        "s": [(86400 * 7, " weeks"), (86400, " days"), (3600, " h"), (60, " min"), (1, " s"), (1e-3, " ms"), (1e-6, " µs")],
        "bytes": [(2**40, " TiB"), (2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B")],
        "mbytes": [(2**10, " GiB"), (1, " MiB")],
    }.get(unit, [])
    size, suffix = next(((size, word) for size, word in scale if abs(number) >= size), scale[-1] if scale and number else (1.0, ""))
    if unit == "percentunit":
        size, suffix = 0.01, " %"
    elif not scale:
        suffix = {"percent": " %", "watt": " W", "reqps": " req/s", "cps": "/s"}.get(unit, unit.removeprefix("suffix:") if ":" in unit else "")
    scaled = number / size
    if decimals is None:
        decimals = 0 if scaled == int(scaled) else 2 if abs(scaled) < 10 else 1
    return f"{scaled:,.{decimals}f}{suffix}"


class Looks:
    """How a panel's fields look: unit, decimals and texts, by the field's name where it has an override."""

    def __init__(self, panel: t.Mapping[str, t.Any]) -> None:
        config = panel.get("fieldConfig") or {}
        self._defaults = config.get("defaults") or {}
        self._overrides = {
            one["matcher"]["options"]: {part["id"]: part["value"] for part in one["properties"]}
            for one in config.get("overrides") or []
            if one["matcher"]["id"] == "byName"
        }
        self.no_value = str(self._defaults.get("noValue") or "No data")

    def of(self, name: str) -> t.Mapping[str, t.Any]:
        return {**self._defaults, **self._overrides.get(name, {})}

    def write(self, value: t.Any, name: str = "") -> tuple[str, str]:
        """A value's text and colour."""
        looks = self.of(name)
        for mapping in looks.get("mappings") or []:
            found = mapping["options"].get(f"{value:g}" if isinstance(value, (int, float)) else str(value))
            if found:
                return found["text"], COLOURS.get(found.get("color"), TEXT)
        colour = "text"
        for step in (looks.get("thresholds") or {}).get("steps") or []:
            if step["value"] is None or (isinstance(value, (int, float)) and value >= step["value"]):
                colour = step["color"]
        return shown(value, str(looks.get("unit") or ""), looks.get("decimals")), COLOURS.get(colour, TEXT)


# Results


Point = tuple[list[float], list[float | None]]


def columns_of(frame: t.Mapping[str, t.Any]) -> list[tuple[t.Mapping[str, t.Any], list[t.Any]]]:
    """The fields of a data frame with their values."""
    return list(zip(frame["schema"].get("fields") or [], (frame.get("data") or {}).get("values") or [], strict=False))


def rows_of(frame: t.Mapping[str, t.Any]) -> list[tuple[dict[str, t.Any], t.Any]]:
    """Labels and value of each row of a PromQL result, which has the labels in columns or, from Grafana's older backend, with its number."""
    fields = columns_of(frame)
    number, numbers = next(((field, values) for field, values in fields if field["type"] == "number"), ({}, []))
    texts = [(field["name"], values) for field, values in fields if field["type"] == "string"]
    labels = number.get("labels") or {}
    return [({**labels, **{name: values[place] for name, values in texts}}, value) for place, value in enumerate(numbers)]


def lines_of(outcome: Outcome) -> list[tuple[str, Point]]:
    """The lines of a query's result with their names; exemplars are none."""
    found = []
    for frame in outcome.frames:
        if frame["schema"].get("name") == "exemplar":
            continue
        times: list[float] = []
        for field, values in columns_of(frame):
            if field["type"] == "time":
                times = [value / 1000 for value in values]
            elif field["type"] == "number":
                name = (field.get("config") or {}).get("displayNameFromDS") or frame["schema"].get("name") or field.get("name") or ""
                found.append((str(name), (times, values)))
    return found


def exemplars_of(outcome: Outcome) -> Point:
    """Times and values of the exemplars of a query's result."""
    times: list[float] = []
    values: list[float | None] = []
    for frame in outcome.frames:
        if frame["schema"].get("name") != "exemplar":
            continue
        for field, column in columns_of(frame):
            if field["type"] == "time":
                times += [value / 1000 for value in column]
            elif field.get("name") == "Value":
                values += column
    return (times, values) if len(times) == len(values) else ([], [])


def table_of(panel: t.Mapping[str, t.Any], outcomes: t.Mapping[str, Outcome]) -> tuple[list[str], list[list[t.Any]]]:
    """Columns and rows of a table of PromQL results, merged, renamed and ordered as its transformations say."""
    names: dict[str, str] = next((one["options"]["renameByName"] for one in panel["transformations"] if one["id"] == "organize"), {})
    order = next((one["options"]["indexByName"] for one in panel["transformations"] if one["id"] == "organize"), {})
    rows: dict[tuple[tuple[str, t.Any], ...], dict[str, t.Any]] = {}
    for ref, outcome in outcomes.items():
        value = "Value" if len(outcomes) == 1 else f"Value #{ref}"
        for frame in outcome.frames:
            for labels, number in rows_of(frame):
                rows.setdefault(tuple(sorted(labels.items())), dict(labels))[value] = number
    columns = sorted(names, key=lambda name: order.get(name, 99))
    return [names[name] for name in columns], [[row.get(name) for name in columns] for row in rows.values()]


def found_traces(outcome: Outcome, spans: bool) -> tuple[list[str], list[list[t.Any]]]:
    """Columns and rows of what a search found."""
    rows: list[list[t.Any]] = []
    if not spans:
        for one in outcome.frames:
            took = f"{one.get('durationMs', 0)} ms"
            rows.append(
                [str(one.get("traceID"))[:16], _clock(one.get("startTimeUnixNano")), one.get("rootServiceName"), one.get("rootTraceName"), took]
            )
        return ["Trace ID", "Start", "Service", "Name", "Duration"], rows
    extra: list[str] = []
    for one in outcome.frames:
        for span in (one.get("spanSets") or [one.get("spanSet") or {}])[0].get("spans") or []:
            values = {attribute["key"]: next(iter(attribute["value"].values()), "") for attribute in span.get("attributes") or []}
            extra += [key for key in values if key not in extra and key not in ("service.name",)]
            took = f"{int(span.get('durationNanos') or 0) / 1e6:.0f} ms"
            rows.append(
                [str(one.get("traceID"))[:16], _clock(span.get("startTimeUnixNano")), span.get("name") or one.get("rootTraceName"), took, values]
            )
    titles = [key.removeprefix("gen_ai.") for key in extra]
    return ["Trace ID", "Start", "Name", "Duration", *titles], [[*row[:4], *(row[4].get(key) for key in extra)] for row in rows]


def _clock(nanoseconds: t.Any) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(int(nanoseconds or 0) / 1e9))


# Drawing


def draw_lines(axes: Axes, panel: t.Mapping[str, t.Any], outcomes: t.Mapping[str, Outcome], asked: _dashboard.Range) -> None:
    """Lines over time."""
    unit = Looks(panel).of("").get("unit", "")
    for outcome in outcomes.values():
        for name, (times, values) in lines_of(outcome):
            numbers = [math.nan if value is None else value for value in values]
            limit = name == "objective"
            axes.plot(
                [_utc(one) for one in times],
                numbers,
                label=name,
                linewidth=1.2,
                color=COLOURS["red"] if limit else None,
                linestyle="--" if limit else "-",
                marker="." if len(numbers) < 3 else None,
            )
        times, values = exemplars_of(outcome)
        if times:
            axes.plot([_utc(one) for one in times], values, "D", markersize=3, color=COLOURS["green"], label="exemplars")
    axes.set_xlim(_utc(asked.start / 1000), _utc(asked.end / 1000))
    axes.xaxis.set_major_locator(dates.AutoDateLocator(maxticks=6))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M" if asked.milliseconds <= 86400000 else "%m-%d"))
    axes.yaxis.set_major_formatter(lambda value, _place: shown(value, unit))
    low, high = axes.get_ylim()
    top = 1.0 if (panel["fieldConfig"]["defaults"].get("custom") or {}).get("axisSoftMax") == 1 else 0.0
    lowest = min([value for line in axes.get_lines() for value in line.get_ydata() if not math.isnan(value)], default=0.0)
    axes.set_ylim(min(low, 0.0) if lowest < 0 else 0.0, max(high, top) if high > low else low + 1)
    axes.grid(color=GRID, linewidth=0.6)
    axes.tick_params(labelsize=7, colors=FAINT, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    names = axes.get_legend_handles_labels()[1]
    box, whole = axes.get_window_extent(), axes.figure.get_window_extent()
    beside = max(1, int(box.width / (max(map(len, names), default=1) * 4.1 + 36)))
    # Room for the numbers on the left and for the lines of the legend below.
    left = max(len(shown(value, unit)) for value in axes.get_yticks()) * 4.4
    bottom = 12.0 * math.ceil(len(names) / beside)
    axes.set_position(
        ((box.x0 + left) / whole.width, (box.y0 + bottom) / whole.height, (box.width - left) / whole.width, (box.height - bottom) / whole.height)
    )
    axes.legend(
        fontsize=6.5,
        ncols=beside,
        loc="upper left",
        bbox_to_anchor=(-left / (box.width - left), -20 / (box.height - bottom)),
        frameon=False,
        borderaxespad=0,
        columnspacing=1,
        handlelength=1.4,
        labelspacing=0.25,
    )


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def draw_figures(axes: Axes, panel: t.Mapping[str, t.Any], outcomes: t.Mapping[str, Outcome]) -> None:
    """The newest values, large."""
    looks = Looks(panel)
    values = [(name, numbers[-1]) for outcome in outcomes.values() for name, (_times, numbers) in lines_of(outcome) if numbers]
    named = len(values) > 1 or panel["options"].get("textMode") == "value_and_name"
    for place, (name, value) in enumerate(values):
        text, colour = looks.write(value)
        at = (place + 0.5) / len(values)
        axes.text(at, 0.5, text, ha="center", va="center", fontsize=20 if not named else 12, color=colour, transform=axes.transAxes, weight="bold")
        if named:
            axes.text(at, 0.16, name, ha="center", va="center", fontsize=8, color=FAINT, transform=axes.transAxes)
    axes.axis("off")


def draw_table(axes: Axes, columns: t.Sequence[str], rows: t.Sequence[t.Sequence[tuple[str, str]]]) -> None:
    """A table; what does not fit is left out, and said."""
    axes.axis("off")
    kept = rows[:TABLE_ROWS] if len(rows) > TABLE_ROWS + 1 else rows
    lengths = [max([len(name), *(len(row[place][0]) for row in kept)]) + 2 for place, name in enumerate(columns)]
    room = axes.get_window_extent().width / LETTER
    while sum(lengths) > room and max(lengths) > 10:
        lengths[lengths.index(max(lengths))] -= 1
    left = 0.0
    step = 1 / (TABLE_ROWS + 2)
    for place, name in enumerate(columns):
        x = left / sum(lengths)
        axes.text(x, 1 - step / 2, _cut(name, lengths[place]), fontsize=8, weight="bold", color=TEXT, va="center", transform=axes.transAxes)
        for line, row in enumerate(kept):
            text, colour = row[place]
            axes.text(x, 1 - step * (line + 1.5), _cut(text, lengths[place]), fontsize=8, color=colour, va="center", transform=axes.transAxes)
        left += lengths[place]
    if len(kept) < len(rows):
        axes.text(0, step / 2, f"… and {len(rows) - len(kept)} more", fontsize=7.5, color=FAINT, va="center", transform=axes.transAxes)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length - 1 else text[: length - 2] + "…"


def draw_map(axes: Axes, outcomes: t.Mapping[str, Outcome]) -> None:
    """Services on a circle, calls as arrows with their rates."""
    calls = []
    for outcome in outcomes.values():
        for frame in outcome.frames:
            calls += [(labels["client"], labels["server"], rate) for labels, rate in rows_of(frame)]
    services = sorted({one for call in calls for one in call[:2]})
    ratio = axes.get_window_extent().width / axes.get_window_extent().height
    places = {}
    for place, name in enumerate(services):
        angle = math.pi - 2 * math.pi * place / len(services)
        places[name] = (math.cos(angle) * ratio * 0.7, math.sin(angle) * 0.7)
    for client, server, rate in calls:
        start, end = places[client], places[server]
        axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=12, shrinkA=22, shrinkB=22, color=FAINT, linewidth=1))
        axes.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, shown(rate, "reqps"), fontsize=7.5, color=FAINT, ha="center", va="bottom")
    for name, (x, y) in places.items():
        axes.plot([x], [y], "o", markersize=24, markerfacecolor="white", markeredgecolor=COLOURS["blue"], markeredgewidth=1.5)
        axes.text(x, y - 0.22, name, fontsize=8, color=TEXT, ha="center", va="top")
    axes.set_xlim(-ratio, ratio)
    axes.set_ylim(-1.1, 1)
    axes.axis("off")


def draw(board: Board, model: t.Mapping[str, t.Any]) -> Figure:
    """A dashboard: its panels in their places, each with the results of its queries now."""
    board.resolve()
    panels = {panel.id: panel for panel in board.panels}
    head, foot = 64, 36
    height = max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in model["panels"]) * ROW + head + foot
    figure = pyplot.figure(figsize=(1280 / DPI, height / DPI), dpi=DPI, facecolor="#f4f5f5")

    def place(x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
        return x / 1280, 1 - (y + h) / height, w / 1280, h / height

    figure.text(12 / 1280, 1 - 22 / height, board.title, fontsize=14, weight="bold", color=TEXT, va="center")
    chosen = "   ".join(f"{name}: {', '.join(one.texts or one.values)}" for name, one in board.variables.items() if _control(model, name))
    figure.text(12 / 1280, 1 - 46 / height, chosen, fontsize=8.5, color=FAINT, va="center")
    said = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    figure.text(
        12 / 1280,
        12 / height,
        f"Plot of the results of the panels' queries through Grafana, {said}. This is not Grafana's page.",
        fontsize=8,
        color=FAINT,
    )
    for one in model["panels"]:
        at = one["gridPos"]
        x, y, w, h = at["x"] * COLUMN, head + at["y"] * ROW, at["w"] * COLUMN, at["h"] * ROW
        if one["type"] == "row":
            figure.text((x + 12) / 1280, 1 - (y + h / 2) / height, one["title"], fontsize=10, weight="bold", color=TEXT, va="center")
            continue
        card = figure.add_axes(place(x + 4, y + 4, w - 8, h - 8))
        card.set(xticks=[], yticks=[])
        for spine in card.spines.values():
            spine.set_color(GRID)
        figure.text((x + 14) / 1280, 1 - (y + 18) / height, one["title"], fontsize=9, weight="bold", color=TEXT, va="center")
        outcomes = board.run(panels[one["id"]])
        inside = (x + 18, y + 34, w - 36, h - 66) if one["type"] == "timeseries" else (x + 14, y + 32, w - 28, h - 42)
        axes = figure.add_axes(place(*inside))
        if all(outcome.state != _dashboard.DATA for outcome in outcomes.values()):
            axes.axis("off")
            words = textwrap.fill(Looks(one).no_value, int(w / 7.5))
            axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=9, color=FAINT, transform=axes.transAxes)
        elif one["type"] == "timeseries":
            draw_lines(axes, one, outcomes, board.range_of(panels[one["id"]]))
        elif one["type"] == "stat":
            draw_figures(axes, one, outcomes)
        elif one["type"] == "nodeGraph":
            draw_map(axes, outcomes)
        elif one["datasource"]["type"] == "tempo":
            columns, rows = found_traces(outcomes["A"], one["targets"][0].get("tableType") == "spans")
            draw_table(axes, columns, [[("" if value is None else str(value), TEXT) for value in row] for row in rows])
        else:
            columns, rows = table_of(one, outcomes)
            looks = Looks(one)
            draw_table(axes, columns, [[looks.write(value, name) for value, name in zip(row, columns, strict=True)] for row in rows])
    return figure


def _control(model: t.Mapping[str, t.Any], name: str) -> bool:
    """Whether a variable is among the controls above a dashboard."""
    return any(one["name"] == name and one.get("hide") != 2 for one in model["templating"]["list"])


def main() -> None:
    """Draw all dashboards."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.plots", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--endpoint", default="http://grafana-service.private-ai-demo.svc:3000", help="URL of Grafana; a Service is reached by port-forward"
    )
    parser.add_argument(
        "--secret",
        default="private-ai-demo/grafana-admin-credentials",
        help="namespace and name of the Secret; GRAFANA_TOKEN in the environment goes first",
    )
    parser.add_argument("--to", type=Path, default=FOLDER, help="folder of the images")
    options = parser.parse_args()
    token = os.environ.get("GRAFANA_TOKEN")
    namespace, _slash, name = options.secret.partition("/")
    if token:
        credentials = _grafana.Credentials(token=token)
    else:
        kube = _kube.Kube(_kube.connect({}))
        credentials = _grafana.credentials_in(kube, namespace, name, "GF_SECURITY_ADMIN_USER", "GF_SECURITY_ADMIN_PASSWORD")
    options.to.mkdir(parents=True, exist_ok=True)
    with _link.http_link(_link.Target(options.endpoint, "--endpoint", "auto", lambda: _kube.connect({}))) as link:
        grafana = _grafana.Grafana(link, credentials)
        sources = grafana.data_sources()
        for uid in UIDS:
            model = grafana.dashboard(uid)
            figure = draw(Board(grafana, model, sources, Wish()), model)
            figure.savefig(options.to / f"{uid}.png", dpi=DPI)
            pyplot.close(figure)
            print(f"plots: {options.to / f'{uid}.png'}")


if __name__ == "__main__":
    main()
