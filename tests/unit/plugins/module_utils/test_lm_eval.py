# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What a job has found: on files that lm-evaluation-harness 0.4.13 has written, as they are and with one thing changed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _lm_eval
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._lm_eval import Score

FIXTURES = Path(__file__).parent / "fixtures"
GROUP = (FIXTURES / "lm_eval_group_and_filters.json").read_text()
ONE_SAMPLE = (FIXTURES / "lm_eval_one_sample.json").read_text()


def content(**changes):
    return {**json.loads(GROUP), **changes}


def job(text=GROUP, annotations=None, **status):
    return {
        "metadata": {"name": "a", "namespace": "demo", "creationTimestamp": "2026-11-25T22:00:00Z", "annotations": annotations or {}},
        "spec": {
            "model": "local-completions",
            "modelArgs": [{"name": "model", "value": "mistral-24b"}, {"name": "base_url", "value": "http://m/v1/completions"}],
            "taskList": {"taskNames": ["lab_choice", "lab_gsm8k"]},
        },
        "status": {
            "state": "Complete",
            "reason": "Succeeded",
            "message": "job completed",
            "lastScheduleTime": "2026-11-25T22:00:01Z",
            "completeTime": "2026-11-25T22:05:00Z",
            "results": text,
            **status,
        },
    }


def test_tasks_a_group_and_two_filters():
    """Every number is the file's own, to the last digit."""
    assert _lm_eval.parse(GROUP, "mistral-24b") == (
        Score("lab_arc_easy", "acc", "none", 0.25, 0.16366341767699427, 8, True),
        Score("lab_arc_easy", "acc_norm", "none", 0.25, 0.16366341767699427, 8, True),
        Score("lab_choice", "acc", "none", 0.21428571428571427, 0.1178511301977579, 14, True),
        Score("lab_gsm8k", "exact_match", "flexible-extract", 0.375, 0.18298126367784995, 8, True),
        Score("lab_gsm8k", "exact_match", "strict-match", 0.0, 0.0, 8, True),
        Score("lab_hellaswag", "acc", "none", 0.16666666666666666, 0.16666666666666669, 6, True),
        Score("lab_hellaswag", "acc_norm", "none", 0.16666666666666666, 0.16666666666666669, 6, True),
    )


def test_one_sample_has_no_standard_error():
    scores = _lm_eval.parse(ONE_SAMPLE)
    assert {score.task for score in scores} == {"lab_arc_easy", "lab_gsm8k"}
    assert all(score.stderr is None and score.samples == 1 and score.value in (0.0, 1.0) for score in scores)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"acc,none": float("nan"), "acc_stderr,none": float("nan")}, (None, None)),
        ({"acc,none": float("inf"), "acc_stderr,none": 0.1}, (None, 0.1)),
        ({"acc,none": "0.5", "acc_stderr,none": "0.1"}, (0.5, 0.1)),
        ({"acc,none": "nan", "acc_stderr,none": "N/A"}, (None, None)),
        ({"acc,none": "N/A"}, (None, None)),
        ({"acc,none": 1}, (1.0, None)),
    ],
)
def test_values_that_are_no_plain_numbers(row, expected):
    (score,) = _lm_eval.parse(json.dumps({"results": {"t": row}}))
    assert (score.value, score.stderr) == expected
    assert (score.samples, score.higher_is_better) == (None, None)


@pytest.mark.parametrize("value", [True, None, "bypass", [0.1], {"a": 1}])
def test_what_is_no_figure_is_passed_over(value):
    (score,) = _lm_eval.parse(json.dumps({"results": {"t": {"other,none": value, "alias": " - t", "sample_len": 8, "acc,none": 0.5}}}))
    assert score.metric == "acc"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has no results: the harness has written no file, or its volume was not kept"),
        ("{", r"its results are not JSON \(Expecting property name"),
        ("[]", "its results hold no task"),
        ('{"results": [1]}', "its results hold no task"),
        ('{"results": {"t": "broken", "u": {"alias": "u"}}}', "its results hold no figure for t, u"),
        (GROUP, "its results are of model mistral-24b, not of quantised: another job writes to the same volume"),
    ],
)
def test_what_is_wrong_with_results(text, said):
    with pytest.raises(ValueError, match=said):
        _lm_eval.parse(text, "quantised")


def test_a_file_that_does_not_say_whose_it_is_is_taken():
    assert _lm_eval.parse(json.dumps(content(model_name="")), "quantised")
    assert _lm_eval.parse(json.dumps(content(model_name=None)), "quantised")


@pytest.mark.parametrize(
    ("change", "samples"),
    [
        ({"n-samples": {}}, None),
        ({"n-samples": {"lab_arc_easy": {"effective": 3}}}, None),
        ({"n-samples": {"lab_arc_easy": {"effective": 3}, "lab_hellaswag": {"effective": 4}}}, 7),
        ({"n-samples": "broken"}, None),
        ({"group_subtasks": {"lab_choice": ["lab_choice"]}}, None),
        ({"group_subtasks": {"lab_choice": "broken"}}, None),
    ],
)
def test_samples_of_a_group(change, samples):
    scores = {score.task: score for score in _lm_eval.parse(json.dumps(content(**change)))}
    assert scores["lab_choice"].samples == samples


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({}, "waiting"),
        ({"state": "New"}, "waiting"),
        ({"state": "Scheduled"}, "waiting"),
        ({"state": "Running", "message": "Requesting API:  40%"}, "running"),
        ({"state": "Complete", "reason": "Failed", "message": "exceeded quota"}, "waiting"),  # tried again
        ({"state": "Complete", "reason": "Failed", "completeTime": "x"}, "failed"),
        ({"state": "Complete", "reason": "Cancelled", "completeTime": "x"}, "cancelled"),
        ({"state": "Complete", "reason": "Succeeded", "completeTime": "x"}, "succeeded"),
    ],
)
def test_states(status, state):
    assert _lm_eval.state_of(status) == state


def test_a_job():
    found = _lm_eval.read(job())
    assert (found.job, found.namespace, found.model, found.tasks) == ("a", "demo", "mistral-24b", ("lab_choice", "lab_gsm8k"))
    assert (found.state, found.error, len(found.scores)) == ("succeeded", "", 7)
    assert (found.started, found.completed) == ("2026-11-25T22:00:01Z", "2026-11-25T22:05:00Z")


def test_a_job_is_called_what_people_call_its_model():
    assert _lm_eval.read(job(annotations={_lm_eval.MODEL_ANNOTATION: "Mistral"})).model == "Mistral"


@pytest.mark.parametrize("text", ["{", "", json.dumps(content(model_name="other"))])
def test_a_job_whose_results_cannot_be_read_has_failed_and_says_why(text):
    found = _lm_eval.read(job(text))
    assert (found.state, found.scores) == ("failed", ())
    assert found.error.startswith("it")


def test_a_failed_job_is_not_asked_for_results():
    found = _lm_eval.read(job("{", reason="Failed", message="exit  status\n1"))
    assert (found.state, found.error, found.message) == ("failed", "", "exit status 1")


@pytest.mark.parametrize("item", [{}, {"metadata": {}, "spec": None, "status": None}])
def test_a_job_of_which_nothing_is_known(item):
    assert _lm_eval.read(item).state == "waiting"


def test_the_model_that_the_harness_will_name():
    arguments = [{"name": "pretrained", "value": "base"}, {"name": "peft", "value": "adapter"}]
    assert _lm_eval.asked_model({"modelArgs": arguments}) == "adapter"
    assert _lm_eval.asked_model({"modelArgs": [{"name": "model"}]}) == ""


def test_the_newest_scores_of_each_model_and_task():
    def of(name, created, text):
        item = job(text)
        item["metadata"] |= {"name": name, "creationTimestamp": created}
        return _lm_eval.read(item)

    old = of("old", "2026-11-25T10:00:00Z", GROUP)
    new = of("new", "2026-11-25T11:00:00Z", ONE_SAMPLE)
    broken = of("broken", "2026-11-25T12:00:00Z", "{")
    found = _lm_eval.newest_scores([old, broken, new])
    assert {key: one.job for key, (one, _scores) in found.items()} == {
        ("mistral-24b", "lab_arc_easy"): "new",
        ("mistral-24b", "lab_gsm8k"): "new",
        ("mistral-24b", "lab_hellaswag"): "old",
        ("mistral-24b", "lab_choice"): "old",
    }
    assert [score.metric for score in found["mistral-24b", "lab_arc_easy"][1]] == ["acc", "acc_norm"]


@pytest.mark.parametrize(("metric", "share"), [("acc", True), ("acc_norm", True), ("exact_match", True), ("account", False), ("bleu_acc", False)])
def test_which_metrics_are_shares_of_right_answers(metric, share):
    assert bool(_lm_eval.ACCURACY.match(metric)) is share


def test_times(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    assert _lm_eval.seconds("1970-01-02T00:00:01Z") == 86401.0
    assert _lm_eval.seconds(None) is None
    monkeypatch.undo()
    time.tzset()


def test_it_needs_the_standard_library_alone():
    """As in the exporter's pod: without this collection and without what is installed."""
    done = subprocess.run([sys.executable, "-I", "-S", _lm_eval.__file__], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
