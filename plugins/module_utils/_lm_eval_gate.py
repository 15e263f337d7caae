# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether a model is worse than its baseline, by more than a margin and by more than chance.

The test is the z test of two proportions without pooling, one-sided, with a margin (E. Miller, Adding Error Bars to Evals, arXiv:2411.00640, has it
for evaluations of language models, without the margin):

    z = (worse_by - margin) / sqrt(stderr_model² + stderr_baseline²)

``worse_by`` is baseline - model, for figures of which less is better model - baseline. The standard errors are those of the harness, so that the same
holds for figures that are no proportions. A model is worse where z is beyond the quantile of the confidence (1.645 for 95 %).

Both models answer the same questions, so their scores go up and down together and the true standard error of the difference is smaller. The test
errs on the careful side: what it calls worse is worse.
"""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass
from statistics import NormalDist

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _lm_eval
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WORSE, NOT_WORSE, UNKNOWN = "worse", "not worse", "unknown"


@dataclass(frozen=True)
class Comparison:
    """One figure of a model beside its baseline's. None is what cannot be told."""

    model: str
    baseline: str
    task: str
    metric: str
    filter: str
    score: float | None
    stderr: float | None
    baseline_score: float | None
    baseline_stderr: float | None
    worse_by: float | None
    z: float | None
    p: float | None
    verdict: str


@dataclass(frozen=True)
class Gate:
    """``margin``: what a model may be worse by, in the unit of the figure. ``confidence``: that it is no chance, of one side.

    ``metrics``: that are compared, empty for all.
    """

    margin: float = 0.0
    confidence: float = 0.95
    metrics: Sequence[str] = ()

    def check(self) -> None:
        """Raises ModelMonitoringError for numbers that make no test."""
        if not self.margin >= 0:
            raise ModelMonitoringError(f"margin: {self.margin} is less than nothing: give what the model may be worse by, as 0.02.")
        if not 0.5 < self.confidence < 1:
            raise ModelMonitoringError(f"confidence: {self.confidence} is no confidence: give a number between 0.5 and 1, as 0.95.")

    @property
    def critical(self) -> float:
        """The z beyond which it is no chance."""
        return NormalDist().inv_cdf(self.confidence)

    def compare(self, model: str, baseline: str, score: _lm_eval.Score, other: _lm_eval.Score) -> Comparison:
        """One figure of both."""
        worse_by, z = None, None
        if score.value is not None and other.value is not None:
            worse_by = other.value - score.value if score.higher_is_better is not False else score.value - other.value
            if score.stderr is not None and other.stderr is not None:
                z = _ratio(worse_by - self.margin, math.hypot(score.stderr, other.stderr))
        verdict = UNKNOWN if z is None else WORSE if z > self.critical else NOT_WORSE
        return Comparison(
            model,
            baseline,
            score.task,
            score.metric,
            score.filter,
            score.value,
            score.stderr,
            other.value,
            other.stderr,
            worse_by,
            z,
            None if z is None else NormalDist().cdf(-z),
            verdict,
        )

    def judge(self, evaluations: Sequence[_lm_eval.Evaluation], baselines: Mapping[str, str]) -> list[Comparison]:
        """All figures that both models of a pair have, from the newest evaluations. ``baselines``: by model."""
        newest = _lm_eval.newest_scores(evaluations)
        found = []
        for (model, task), (_evaluation, scores) in sorted(newest.items()):
            baseline = baselines.get(model, "")
            _other, others = newest.get((baseline, task), (None, ()))
            by_key = {(score.metric, score.filter): score for score in others}
            for score in scores:
                other = by_key.get((score.metric, score.filter))
                if other and (not self.metrics or score.metric in self.metrics):
                    found.append(self.compare(model, baseline, score, other))
        return found


def in_words(comparison: Comparison, margin: float) -> str:
    """A comparison as a person says it."""
    one = comparison
    what = f"{one.task} {one.metric}" + (f" ({one.filter})" if one.filter != "none" else "")
    numbers = f"{_with_error(one.baseline_score, one.baseline_stderr)} -> {_with_error(one.score, one.stderr)}"
    if one.verdict == UNKNOWN:
        return f"{one.model} cannot be compared with {one.baseline} on {what}: {numbers}, a number or its standard error is missing"
    test = f"z {one.z:.2f}, p {one.p:.2g}"
    if one.verdict == WORSE:
        return f"{one.model} is worse than {one.baseline} on {what}: {numbers}, by {one.worse_by:.4g} (margin {margin:g}, {test})"
    return f"{one.model} is not worse than {one.baseline} on {what}: {numbers} (margin {margin:g}, {test})"


def _ratio(difference: float, error: float) -> float:
    """z, also where nothing is left to chance."""
    if error:
        return difference / error
    return math.copysign(math.inf, difference) if difference else 0.0


def _with_error(value: float | None, error: float | None) -> str:
    return f"{'?' if value is None else f'{value:.4g}'} ± {'?' if error is None else f'{error:.2g}'}"
