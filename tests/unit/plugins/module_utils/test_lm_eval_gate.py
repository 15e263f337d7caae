# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""When a model is worse than its baseline: against scipy, and with scores as LM-Eval gives them."""

from __future__ import annotations

import math

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._lm_eval import Evaluation, Score
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._lm_eval_gate import Comparison, Gate, in_words
from scipy import stats


def score(value, stderr, task="arc_easy", metric="acc", name="none", higher=True):
    return Score(task, metric, name, value, stderr, 100, higher)


def proportion(right, of):
    """A score and its standard error as the harness has them."""
    share = right / of
    return score(share, math.sqrt(share * (1 - share) / (of - 1)))


def evaluation(model, *scores, job="a", created="2026-11-25T22:00:00Z"):
    return Evaluation(job, "demo", model, (), "succeeded", "", created, created, created, scores)


@pytest.mark.parametrize(("right", "base", "of"), [(40, 61, 100), (58, 61, 100), (70, 61, 100), (612, 640, 1000), (1, 99, 100)])
@pytest.mark.parametrize("margin", [0.0, 0.02, 0.1])
def test_the_statistic_is_that_of_two_samples_with_these_means_and_errors(right, base, of, margin):
    """scipy knows the test with a t distribution; with so many degrees of freedom that is the normal one."""
    one, other = proportion(right, of), proportion(base, of)
    many = 10**9
    expected = stats.ttest_ind_from_stats(
        other.value - margin,
        other.stderr * math.sqrt(many),
        many,
        one.value,
        one.stderr * math.sqrt(many),
        many,
        equal_var=False,
        alternative="greater",
    )
    found = Gate(margin).compare("q", "f", one, other)
    assert found.z == pytest.approx(expected.statistic, rel=1e-9)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert (found.verdict == "worse") == (expected.pvalue < 0.05)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_limit_is_the_quantile(confidence):
    limit = stats.norm.ppf(confidence)
    gate = Gate(0.0, confidence)
    assert gate.critical == pytest.approx(limit)
    for step, verdict in ((0.999, "not worse"), (1.001, "worse")):
        assert gate.compare("q", "f", score(0.5 - 0.05 * limit * step, 0.03), score(0.5, 0.04)).verdict == verdict


def test_noise_passes_about_as_often_as_the_confidence_says():
    """Two models of the same quality, 100 samples, drawn 2000 times."""
    draws = stats.binom.rvs(100, 0.7, size=(2000, 2), random_state=1)
    worse = sum(Gate().compare("q", "f", proportion(int(a), 100), proportion(int(b), 100)).verdict == "worse" for a, b in draws)
    assert 0.03 < worse / 2000 < 0.07


def test_a_real_drop_is_found():
    draws = stats.binom.rvs(1000, [0.75, 0.65], size=(200, 2), random_state=1)
    found = [Gate(0.02).compare("q", "f", proportion(int(b), 1000), proportion(int(a), 1000)).verdict for a, b in draws]
    assert found.count("worse") > 190


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        (score(0.4, 0.0), score(0.5, 0.0), "worse"),
        (score(0.5, 0.0), score(0.5, 0.0), "not worse"),
        (score(0.6, 0.0), score(0.5, 0.0), "not worse"),
        (score(0.4, None), score(0.5, 0.1), "unknown"),
        (score(0.4, 0.1), score(0.5, None), "unknown"),
        (score(None, 0.1), score(0.5, 0.1), "unknown"),
        (score(30.0, 1.0, higher=False), score(20.0, 1.0, higher=False), "worse"),
        (score(20.0, 1.0, higher=False), score(30.0, 1.0, higher=False), "not worse"),
        (score(0.4, 0.01, higher=None), score(0.5, 0.01, higher=None), "worse"),
    ],
)
def test_verdicts(one, other, verdict):
    assert Gate().compare("q", "f", one, other).verdict == verdict


def test_a_difference_of_just_the_margin_is_allowed():
    assert Gate(0.125).compare("q", "f", score(0.375, 0.0), score(0.5, 0.0)).verdict == "not worse"


def test_pairs():
    evaluations = [
        evaluation("f", score(0.8, 0.01), score(0.7, 0.01, metric="acc_norm"), score(0.5, 0.01, "gsm8k", "exact_match", "strict-match")),
        evaluation("q", score(0.6, 0.01), score(0.5, 0.01, "gsm8k", "exact_match", "flexible-extract"), score(0.1, 0.01, "other")),
        evaluation("q", score(0.8, 0.01), job="old", created="2026-11-24T22:00:00Z"),
        evaluation("alone", score(0.1, 0.01)),
    ]
    (found,) = Gate().judge(evaluations, {"q": "f", "missing": "f", "alone": "nobody"})
    assert (found.model, found.baseline, found.task, found.metric, found.score, found.baseline_score) == ("q", "f", "arc_easy", "acc", 0.6, 0.8)
    assert Gate(metrics=["acc_norm"]).judge(evaluations, {"q": "f"}) == []
    assert len(Gate(metrics=["acc"]).judge(evaluations, {"q": "f"})) == 1


@pytest.mark.parametrize(
    ("gate", "said"), [(Gate(-0.1), "margin: -0.1"), (Gate(confidence=0.5), "confidence: 0.5"), (Gate(confidence=1), "confidence: 1")]
)
def test_numbers_that_make_no_test(gate, said):
    with pytest.raises(ModelMonitoringError, match=said):
        gate.check()


@pytest.mark.parametrize("gate", [Gate(), Gate(0.02, 0.99)])
def test_numbers_that_do(gate):
    gate.check()


def test_in_words():
    gate = Gate(0.02)
    drop = gate.compare("q", "f", score(0.4, 0.049, "gsm8k", "exact_match", "flexible-extract"), score(0.61, 0.049, "gsm8k", "exact_match"))
    assert in_words(drop, 0.02) == (
        "q is worse than f on gsm8k exact_match (flexible-extract): 0.61 ± 0.049 -> 0.4 ± 0.049, by 0.21 (margin 0.02, z 2.74, p 0.0031)"
    )
    assert in_words(gate.compare("q", "f", score(0.6, 0.049), score(0.61, 0.049)), 0.02).startswith("q is not worse than f on arc_easy acc: 0.61 ±")
    unknown = Comparison("q", "f", "t", "acc", "none", None, None, 0.5, 0.1, None, None, None, "unknown")
    assert in_words(unknown, 0.0) == "q cannot be compared with f on t acc: 0.5 ± 0.1 -> ? ± ?, a number or its standard error is missing"
