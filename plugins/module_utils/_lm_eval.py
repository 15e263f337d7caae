# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What an LMEvalJob (TrustyAI) has found: from the object as the API server has it to typed scores.

The exporter runs this very file inside the cluster, from a ConfigMap: it needs nothing but Python's standard library, and it never raises
for what a job says. What is wrong with one job is its :attr:`Evaluation.error`, in words, and the others are read all the same.

What TrustyAI's operator 1.38 and lm-evaluation-harness 0.4.8 to 0.4.13 do, and why things are as they are:

- ``status.state`` ends in ``Complete`` for success and failure alike; ``reason`` tells them apart. ``completeTime`` is the end: without it it is
  a pod that could not be created (a quota), which the operator tries again.
- ``status.results`` is the file that the harness has written, as text. It is Python's JSON, so NaN may be in it.
- The keys of a task's figures are ``metric,filter``, their standard errors' ``metric_stderr,filter``. A standard error that cannot be had is ``N/A``.
- Groups of tasks (mmlu) are rows of ``results`` like their tasks; how many samples they have only their tasks say.
- Two jobs that share a volume for their results can each be given the other's: so the name of the model is compared.
"""

from __future__ import annotations

import json
import math
import re
import typing as t
from dataclasses import dataclass, field
from datetime import datetime, timezone

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

#: Labels and annotations of jobs. All jobs of one model and one entry of its tasks are one evaluation, whatever their settings.
EVALUATION_LABEL = "model-monitoring/evaluation"
CONTENT_LABEL = "model-monitoring/content"
MODEL_ANNOTATION = "model-monitoring/model"

WAITING, RUNNING, SUCCEEDED, FAILED, CANCELLED = "waiting", "running", "succeeded", "failed", "cancelled"
ENDED = (SUCCEEDED, FAILED, CANCELLED)

#: Metrics that are a share of right answers.
ACCURACY = re.compile(r"(acc|accuracy|exact_match|em)(_|$)")


@dataclass(frozen=True)
class Score:
    """One figure. ``value`` and ``stderr`` are None where the harness has no number for them (NaN, ``N/A``).

    ``samples``: documents that it was taken from; None where that is not said. ``higher_is_better``: None where the task does not say.
    """

    task: str
    metric: str
    filter: str
    value: float | None
    stderr: float | None = None
    samples: int | None = None
    higher_is_better: bool | None = None


@dataclass(frozen=True)
class Evaluation:
    """A job and what it has found.

    ``model``: as people call it: what the job is annotated with, else the model that was asked for. ``tasks``: that were asked for.
    ``state``: one of WAITING, RUNNING, SUCCEEDED, FAILED, CANCELLED. ``message``: of the operator. ``started``, ``completed``: as RFC 3339, None
    before. ``error``: why there are no scores although the operator calls it succeeded; empty when there are some. Its state is FAILED then.
    """

    job: str
    namespace: str
    model: str
    tasks: tuple[str, ...]
    state: str
    message: str
    created: str | None = None
    started: str | None = None
    completed: str | None = None
    scores: tuple[Score, ...] = field(default=())
    error: str = ""


def read(job: Mapping[str, t.Any]) -> Evaluation:
    """An LMEvalJob as it is now."""
    meta, spec, status = (job.get(key) or {} for key in ("metadata", "spec", "status"))
    asked = asked_model(spec)
    state = state_of(status)
    scores: tuple[Score, ...] = ()
    error = ""
    if state == SUCCEEDED:
        try:
            scores = parse(status.get("results") or "", asked)
        except ValueError as reason:
            state, error = FAILED, str(reason)
    return Evaluation(
        job=meta.get("name", ""),
        namespace=meta.get("namespace", ""),
        model=(meta.get("annotations") or {}).get(MODEL_ANNOTATION) or asked,
        tasks=tuple((spec.get("taskList") or {}).get("taskNames") or ()),
        state=state,
        message=" ".join((status.get("message") or "").split()),
        created=meta.get("creationTimestamp"),
        started=status.get("lastScheduleTime"),
        completed=status.get("completeTime"),
        scores=scores,
        error=error,
    )


def state_of(status: Mapping[str, t.Any]) -> str:
    """How far a job is, from its status."""
    if status.get("completeTime"):
        return {"Succeeded": SUCCEEDED, "Cancelled": CANCELLED}.get(status.get("reason", ""), FAILED)
    return RUNNING if status.get("state") == "Running" else WAITING


def asked_model(spec: Mapping[str, t.Any]) -> str:
    """The model that a job asks for: of the arguments that may name it the one that the harness takes for its ``model_name``."""
    arguments = {argument.get("name"): argument.get("value") or "" for argument in spec.get("modelArgs") or []}
    return next((arguments[name] for name in ("peft", "delta", "pretrained", "model", "path", "engine") if arguments.get(name)), "")


def parse(text: str, model: str = "") -> tuple[Score, ...]:
    """The scores in a file of results, by task, metric and filter. ``model``: whose they must be, empty for anybody's.

    Raises ValueError in one line for what is no such file, or another model's.
    """
    if not text.strip():
        raise ValueError("it has no results: the harness has written no file, or its volume was not kept")
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"its results are not JSON ({error})") from error
    rows = _mapping(content, "results") or {}
    if not rows:
        raise ValueError("its results hold no task")
    found = content.get("model_name")
    if model and isinstance(found, str) and found and found != model:
        raise ValueError(f"its results are of model {found}, not of {model}: another job writes to the same volume")
    scores = [score for task, row in rows.items() if isinstance(row, dict) for score in _scores(task, row, content)]
    if not scores:
        raise ValueError(f"its results hold no figure for {', '.join(sorted(rows))}")
    return tuple(sorted(scores, key=lambda score: (score.task, score.metric, score.filter)))


def _scores(task: str, row: Mapping[str, t.Any], content: Mapping[str, t.Any]) -> Iterable[Score]:
    better = _mapping(content, "higher_is_better", task) or {}
    samples = _samples(task, content)
    for key, value in row.items():
        metric, comma, name = key.partition(",")
        if not comma or metric.endswith("_stderr") or not _figure(value):
            continue
        direction = better.get(metric)
        yield Score(
            task,
            metric,
            name,
            number(value),
            number(row.get(f"{metric}_stderr,{name}")),
            samples,
            direction if isinstance(direction, bool) else None,
        )


def _samples(task: str, content: Mapping[str, t.Any], above: tuple[str, ...] = ()) -> int | None:
    """The documents that a task was evaluated on; of a group the sum of its tasks'."""
    counts = _mapping(content, "n-samples", task)
    if counts is not None:
        effective = number(counts.get("effective"))
        return None if effective is None else int(effective)
    parts = (_mapping(content, "group_subtasks") or {}).get(task)
    if not isinstance(parts, list) or not parts or task in above:
        return None
    found = [_samples(part, content, (*above, task)) for part in parts]
    return None if None in found else sum(t.cast("list[int]", found))


def _mapping(content: t.Any, *keys: str) -> dict[str, t.Any] | None:
    """The mapping at a path, None when there is none."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else None


def _figure(value: t.Any) -> bool:
    """Whether a value stands for a number, be it one that the harness could not compute."""
    if isinstance(value, bool) or value is None:
        return False
    return isinstance(value, (int, float)) or (isinstance(value, str) and (value == "N/A" or number(value) is not None or value.lower() == "nan"))


def number(value: t.Any) -> float | None:
    """A number, also from its text; None for what is none and for what is not finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def seconds(time: str | None) -> float | None:
    """Seconds since 1970 of a time as the API server writes it; None for none."""
    if not time:
        return None
    return datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()


def newest(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """The newest first; those of one second by name, so that the order is always the same."""
    return sorted(evaluations, key=lambda one: (one.created or "", one.job), reverse=True)


def newest_scores(evaluations: Sequence[Evaluation]) -> dict[tuple[str, str], tuple[Evaluation, tuple[Score, ...]]]:
    """By model and task the scores of the newest evaluation that has some, and that evaluation."""
    found: dict[tuple[str, str], tuple[Evaluation, tuple[Score, ...]]] = {}
    for one in newest(evaluations):
        for task in dict.fromkeys(score.task for score in one.scores):
            found.setdefault((one.model, task), (one, tuple(score for score in one.scores if score.task == task)))
    return found
