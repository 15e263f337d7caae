# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""A page about evaluations for people without Grafana: one HTML file that needs nothing else, and the same as JSON.

Everything in it follows from the results alone, so that the same results make the same bytes.
"""

from __future__ import annotations

import html
import io
import json
import sys
import typing as t

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _lm_eval_gate
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError

try:
    import matplotlib.backends.backend_svg
    from matplotlib.figure import Figure

    IMPORT_ERROR: ImportError | None = None
except ImportError as _error:
    IMPORT_ERROR = _error

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Item = Mapping[str, t.Any]

#: Standard errors to both sides that make an interval of 95 %.
INTERVAL = 1.96
COLOURS = ("#1f60c4", "#e0752d", "#3f8f3f", "#a352cc", "#8f6b3f", "#5f6f7f")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0 2rem }
th, td { text-align: left; padding: 0.3rem 0.8rem; border-bottom: 1px solid #d5d9de }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
caption { text-align: left; color: #57606a }
svg { max-width: 100%; height: auto }
.worse, .failed, .cancelled { color: #b3261e; font-weight: 600 }
.not.worse, .succeeded { color: #2e7032; font-weight: inherit }
.unknown, .waiting, .running { color: #6b5200 }
.verdict { font-size: 1.25rem; padding: 0.8rem 1rem; border-left: 0.4rem solid currentColor; background: #f5f6f8 }
"""


def need_packages() -> None:
    """Raises ModelMonitoringError where the plots cannot be drawn."""
    if IMPORT_ERROR is not None:
        raise ModelMonitoringError(f"Python package matplotlib is needed for {sys.executable} ({IMPORT_ERROR}): install it there with pip")


def newest_scores(evaluations: Sequence[Item]) -> list[dict[str, t.Any]]:
    """The newest scores of each model and task, by task, metric, filter and model.

    ``evaluations``: the newest first, as lm_eval_results_info has them.
    """
    seen: dict[tuple[str, str], str] = {}
    rows = []
    for one in evaluations:
        for score in one["scores"]:
            if seen.setdefault((one["model"], score["task"]), one["job"]) == one["job"]:
                rows.append({**score, "model": one["model"], "job": one["job"], "completed": one["completed"]})
    return sorted(rows, key=lambda row: (row["task"], row["metric"], row["filter"], row["model"]))


def verdict(comparisons: Sequence[Item]) -> tuple[str, str]:
    """The answer to whether a model is worse, in words, and its class."""
    worse = [one for one in comparisons if one["verdict"] == _lm_eval_gate.WORSE]
    if worse:
        return _lm_eval_gate.WORSE, " ".join(f"{one['words']}." for one in worse)
    known = [one for one in comparisons if one["verdict"] == _lm_eval_gate.NOT_WORSE]
    if known:
        models = ", ".join(sorted({f"{one['model']} is not worse than {one['baseline']}" for one in known}))
        return _lm_eval_gate.NOT_WORSE, f"{models}, in none of {len(known)} comparisons by more than the margin and chance."
    return _lm_eval_gate.UNKNOWN, "No model has been compared with a baseline."


def data(evaluations: Sequence[Item], comparisons: Sequence[Item]) -> str:
    """The same as JSON."""
    kind, words = verdict(comparisons)
    content = {"verdict": kind, "words": words, "comparisons": comparisons, "scores": newest_scores(evaluations), "evaluations": evaluations}
    return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def page(title: str, evaluations: Sequence[Item], comparisons: Sequence[Item]) -> str:
    """The page. Raises ModelMonitoringError without matplotlib."""
    need_packages()
    rows = newest_scores(evaluations)
    kind, words = verdict(comparisons)
    completed = max((one["completed"] for one in evaluations if one["completed"]), default="")
    parts = [
        f"<h1>{_text(title)}</h1>",
        f"<p>{len(evaluations)} evaluations{f', the last of {_text(completed)}' if completed else ''}.</p>",
        f'<p class="verdict {kind}">{_text(words)}</p>',
    ]
    if comparisons:
        parts += ["<h2>Models and their baselines</h2>", _comparisons(comparisons)]
    if rows:
        parts += ["<h2>Newest scores</h2>", plot(rows), _scores(rows)]
    parts += ["<h2>Evaluations</h2>", _evaluations(evaluations)]
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def plot(rows: Sequence[Item]) -> str:
    """The scores with their intervals, a line for each figure, a colour for each model; as SVG."""
    figures = list(dict.fromkeys((row["task"], row["metric"], row["filter"]) for row in rows))
    models = sorted({row["model"] for row in rows})
    figure = Figure(figsize=(9, 1.2 + 0.32 * len(figures) * max(1, len(models) / 2)))
    axes = figure.add_subplot()
    for number, model in enumerate(models):
        mine = [row for row in rows if row["model"] == model and row["value"] is not None]
        shift = (number - (len(models) - 1) / 2) * 0.8 / max(1, len(models))
        axes.errorbar(
            [row["value"] for row in mine],
            [figures.index((row["task"], row["metric"], row["filter"])) + shift for row in mine],
            xerr=[INTERVAL * (row["stderr"] or 0.0) for row in mine],
            fmt="o",
            capsize=3,
            color=COLOURS[number % len(COLOURS)],
            label=model,
        )
    axes.set_yticks(range(len(figures)), [f"{task}\n{metric}{f' ({name})' if name != 'none' else ''}" for task, metric, name in figures])
    axes.set_ylim(len(figures) - 0.5, -0.5)
    axes.set_xlabel("score, with its interval of 95 %")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.55 / figure.get_figheight()), ncols=3, frameon=False)
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "model-monitoring", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    _head, begin, svg = text.getvalue().partition("<svg ")
    return f'{begin}role="img" aria-label="Newest scores of each model, as in the table below" {svg}'


def _comparisons(comparisons: Iterable[Item]) -> str:
    head = ("Model", "Baseline", "Task", "Metric", "#Baseline's score", "#Model's score", "#Worse by", "#z", "Verdict")
    return _table(
        head,
        [
            (
                one["model"],
                one["baseline"],
                one["task"],
                _metric(one),
                _with_error(one["baseline_score"], one["baseline_stderr"]),
                _with_error(one["score"], one["stderr"]),
                _number(one["worse_by"]),
                _number(one["z"], 2),
                (one["verdict"],),
            )
            for one in comparisons
        ],
        "z: difference less the margin, in standard errors.",
    )


def _scores(rows: Iterable[Item]) -> str:
    head = ("Task", "Metric", "Model", "#Score", "#Standard error", "#Samples")
    cells = [
        (
            row["task"],
            _metric(row),
            row["model"],
            _number(row["value"]),
            _number(row["stderr"]),
            "" if row["samples"] is None else str(row["samples"]),
        )
        for row in rows
    ]
    return _table(head, cells)


def _evaluations(evaluations: Iterable[Item]) -> str:
    head = ("Model", "Tasks", "State", "Completed", "Job", "")
    cells = [
        (one["model"], ", ".join(one["tasks"]), (one["state"],), one["completed"] or "", one["job"], one["error"] or _trouble(one))
        for one in evaluations
    ]
    return _table(head, cells)


def _trouble(one: Item) -> str:
    return one["message"] if one["state"] in ("failed", "cancelled") else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[t.Any]], caption: str = "") -> str:
    """A table; a column whose title begins with # is of numbers, a cell in a tuple is a state and has a colour."""
    kinds = [' class="number"' if title.startswith("#") else "" for title in head]
    titles = "".join(f"<th{kind}>{_text(title.removeprefix('#'))}</th>" for kind, title in zip(kinds, head, strict=True))
    lines = ["".join(_cell(cell, kind) for cell, kind in zip(row, kinds, strict=True)) for row in rows]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>\n{f'<caption>{_text(caption)}</caption>' if caption else ''}<tr>{titles}</tr>\n{body}\n</table>"


def _cell(cell: t.Any, kind: str) -> str:
    return f'<td class="{_text(cell[0])}">{_text(cell[0])}</td>' if isinstance(cell, tuple) else f"<td{kind}>{_text(cell)}</td>"


def _metric(one: Item) -> str:
    return one["metric"] if one["filter"] == "none" else f"{one['metric']} ({one['filter']})"


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _with_error(value: float | None, error: float | None) -> str:
    return _number(value) + ("" if error is None else f" ± {_number(error)}")


def _text(value: str) -> str:
    return html.escape(value)
