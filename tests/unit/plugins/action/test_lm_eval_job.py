# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""How progress of evaluations is shown: the module is called again until all have ended."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.action import lm_eval_job


@pytest.fixture
def run(monkeypatch):
    """Runs the action on what calls of the module return; gives its result, the calls' arguments and what was shown."""

    def run(*outcomes, **arguments):
        shown, calls, left = [], [], list(outcomes)
        action = object.__new__(lm_eval_job.ActionModule)
        action._task = SimpleNamespace(args={"namespace": "demo", **arguments})

        def execute(module_args, task_vars):
            calls.append(dict(module_args))
            return left.pop(0)

        monkeypatch.setattr(lm_eval_job.ActionBase, "run", lambda self, tmp, task_vars: {})
        monkeypatch.setattr(lm_eval_job.display, "display", shown.append)
        action._execute_module = execute
        return action.run(task_vars={}), calls, shown

    return run


RUNNING = {"finished": False, "progress": "1 of 2 evaluations have ended", "memory": {"began": 1.0}}
ENDED = {"finished": True, "changed": True}


def test_until_all_have_ended(run):
    result, calls, shown = run(RUNNING, {**RUNNING, "memory": {"began": 1.0, "more": 2}}, ENDED)
    assert result == ENDED
    assert shown == [RUNNING["progress"]] * 2
    assert [call.get("memory") for call in calls] == [None, {"began": 1.0}, {"began": 1.0, "more": 2}]
    assert all(call["interval"] == lm_eval_job.INTERVAL and call["namespace"] == "demo" for call in calls)


@pytest.mark.parametrize("outcome", [{"failed": True, "msg": "no"}, {"failed": True, "finished": False}, {"skipped": True}, {"changed": True}])
def test_what_is_not_to_go_on(run, outcome):
    result, calls, shown = run(outcome)
    assert result == outcome and len(calls) == 1 and shown == []


def test_an_interval_of_ones_own(run):
    _result, calls, _shown = run(ENDED, interval=5)
    assert calls[0]["interval"] == 5
