# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""How lm_eval_job waits in parts, and what it returns."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _lm_eval_run
from ansible_collections.private_ai.model_monitoring.plugins.modules import lm_eval_job

ROW = _lm_eval_run._row(_lm_eval_run.Wanted("a", "full", {}), "a-1", True, "succeeded")


class Judge:
    def __init__(self):
        self.courses, self.deleted, self.kept = {}, [], []

    def report(self):
        return [ROW]

    def prune(self, keep):
        self.deleted.append("old")
        self.kept.append(keep)


@pytest.fixture
def waits(monkeypatch):
    """What was waited for: seconds, and whether it was the last time."""
    asked = []

    def wait(view, judge, seconds, last):
        asked.append((seconds, last))
        return wait.ended

    wait.ended = False
    monkeypatch.setattr(_lm_eval_run, "wait", wait)
    return type("Waits", (), {"asked": asked, "wait": wait})


def run(now, **params):
    judge = Judge()
    return lm_eval_job.run({"memory": {}, "timeout": 100, "interval": 0, "keep": 3, **params}, judge, [], None, lambda: now), judge


def test_to_the_end(waits):
    result, judge = run(50.0)
    assert waits.asked == [(100.0, True)]
    assert result["finished"] and result["deleted"] == ["old"] and judge.kept == [3]


def test_in_parts(waits):
    result, judge = run(50.0, interval=30)
    assert waits.asked == [(30, False)]
    assert not result["finished"] and judge.kept == [] and result["memory"]["began"] == 50.0


@pytest.mark.parametrize(("now", "seconds", "last"), [(100.0, 30, False), (125.0, 25.0, True), (200.0, 0.0, True)])
def test_parts_have_one_end(waits, now, seconds, last):
    result, _judge = run(now, interval=30, memory={"began": 50.0, "courses": {}, "deleted": []})
    assert waits.asked == [(seconds, last)]
    assert (result["finished"], result["waited"]) == (last, now - 50.0)


def test_a_part_in_which_all_have_ended_is_the_last(waits):
    waits.wait.ended = True
    result, judge = run(50.0, interval=30)
    assert result["finished"] and judge.kept == [3]


def test_changed():
    judge = Judge()
    unchanged = lm_eval_job.result(judge, [], True, [{**ROW, "made": False}], 0.0, 1.0)
    assert not unchanged["changed"]
    assert lm_eval_job.result(judge, [], True, [ROW], 0.0, 1.0)["changed"]
    judge.deleted = ["old"]
    assert lm_eval_job.result(judge, [], True, [{**ROW, "made": False}], 0.0, 1.0)["changed"]


def test_the_documentation_names_what_is_returned():
    returned = yaml.safe_load(lm_eval_job.RETURN)
    result = lm_eval_job.result(Judge(), [], True, [ROW], 0.0, 1.0)
    assert returned.keys() == result.keys() - {"changed"}
    assert returned["evaluations"]["contains"].keys() == ROW.keys()
