#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Module lm_eval_job: run evaluations of models by TrustyAI's LM-Eval."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lm_eval_job
short_description: Run evaluations of models by TrustyAI's LM-Eval
version_added: 0.1.0
description:
  - Runs any number of evaluations as LMEvalJobs and waits, by watch, until all of them have ended.
  - The name of a job follows from its content. An evaluation that has been run with the same content is not run again; a changed one
    is another job. One whose last job failed, or has results that cannot be read, is run again.
  - Jobs of one model run one after the other, or O(parallel) at a time; those of different models beside each other.
  - A job that fails, is stuck or has been denied what it asked for does not stop the others. The reason is told from job, pod, events and
    the log of the pod, together with what to do.
  - On a terminal and in a log it shows every 30 seconds how far the evaluations are.
  - A job that still runs for an evaluation whose content has changed meanwhile is deleted.
options:
  namespace:
    description: Namespace of the jobs.
    type: str
    required: true
  evaluations:
    description: The evaluations, in the order in which those of one model are run.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the evaluation, as V(mistral-24b-arc-easy). It stays when settings change; the job's is this and a hash.
        type: str
        required: true
      model:
        description: What people call the model; results are told under it.
        type: str
        required: true
      spec:
        description:
          - The C(spec) of the LMEvalJob.
          - Give each job a volume of its own (C(outputs.pvcManaged)), since jobs that share one are given each other's results.
        type: dict
        required: true
      annotations:
        description: Annotations of the job, and so of its pod.
        type: dict
        default: {}
  parallel:
    description: How many jobs of one model run at a time.
    type: int
    default: 1
  rerun:
    description: Run all again, also what has been run with the same content.
    type: bool
    default: false
  keep:
    description: How many jobs at their end are kept of each evaluation, the present one among them. Older ones go, with their logs and volumes.
    type: int
    default: 3
  stuck_after:
    description:
      - Seconds without any progress after which a job is given up as stuck. It stays, and a later run goes on with it.
      - An image that cannot be had, or an operator that does not take the job, is given up after 120 seconds.
    type: int
    default: 600
  timeout:
    description: Seconds for all of them together.
    type: int
    default: 7200
  interval:
    description:
      - Return after so many seconds even if evaluations still run, with RV(finished=false); 0 to wait to the end.
      - It is how progress is shown; leave it alone.
    type: int
    default: 0
  memory:
    description: What a former call with O(interval) has returned as RV(memory).
    type: dict
    default: {}
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - private_ai.model_monitoring.kubernetes_client
attributes:
  check_mode:
    description: Tells which jobs it would make, each tried by dry run, and which still running ones it would end. Changes nothing and does not wait.
    support: full
  diff_mode:
    description: Shows what changed.
    support: none
    details: The jobs that were made and deleted are in RV(evaluations) and RV(deleted).
notes:
  - Needs the verbs C(list), C(watch), C(create) and C(delete) on C(lmevaljobs) in C(trustyai.opendatahub.io).
  - With C(list), C(watch) and C(get) on C(pods), C(get) on C(pods/log) and C(list) on C(events) it can also say why an evaluation failed or is stuck.
seealso:
  - module: private_ai.model_monitoring.lm_eval_results_info
author:
  - private_ai.model_monitoring contributors (@private-ai)
"""

EXAMPLES = r"""
- name: Evaluate a model
  private_ai.model_monitoring.lm_eval_job:
    namespace: private-ai-demo
    evaluations:
      - name: mistral-24b-gsm8k
        model: mistral-24b
        spec:
          model: local-completions
          modelArgs:
            - {name: model, value: mistral-24b}
            - {name: base_url, value: "http://mistral-24b-predictor.private-ai-demo.svc.cluster.local/v1/completions"}
            - {name: tokenizer_backend, value: none}
          taskList: {taskNames: [gsm8k]}
          limit: "100"
          allowOnline: true
          outputs: {pvcManaged: {size: 1Gi}}
    timeout: 3600
"""

RETURN = r"""
finished:
  description: Whether all have ended. Always true unless O(interval) is given.
  returned: always
  type: bool
  sample: true
waited:
  description: Seconds since the first call.
  returned: always
  type: float
  sample: 312.4
progress:
  description: How far they are, in one line.
  returned: always
  type: str
  sample: "2 of 4 evaluations have ended after 120 s; mistral-24b-gsm8k running: Requesting API:  40%"
evaluations:
  description: The evaluations in the order in which they were given.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: mistral-24b-gsm8k
    model:
      description: What people call the model.
      type: str
      sample: mistral-24b
    job:
      description: Name of the LMEvalJob; null for one that was not started.
      type: str
      sample: mistral-24b-gsm8k-1f3c9a72
    made:
      description: Whether the job was made by this run; in check mode whether it would be.
      type: bool
      sample: true
    state:
      description: V(succeeded), V(failed), V(cancelled), V(stuck), V(unfinished) (after O(timeout)) or V(not started).
      type: str
      sample: succeeded
    seconds:
      description: Seconds from when this run made or saw the job to its end, null for one that was not started.
      type: float
      sample: 118.0
    reason:
      description: Why it has not succeeded, and what to do; empty when it has.
      type: str
      sample: ""
    denied:
      description: What the job asked for and TrustyAI's operator does not permit - V(online access), V(code execution). The job was run without it.
      type: list
      elements: str
      sample: []
deleted:
  description: Names of the jobs that were deleted because they were too many, or still running for what is not wanted any more.
  returned: always
  type: list
  elements: str
  sample: []
memory:
  description: What a later call with O(interval) needs to go on.
  returned: always
  type: dict
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube, _lm_eval_run, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


def argument_spec():
    """The module's options."""
    return {
        **AUTH_ARG_SPEC,
        "namespace": {"type": "str", "required": True},
        "evaluations": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "model": {"type": "str", "required": True},
                "spec": {"type": "dict", "required": True},
                "annotations": {"type": "dict", "default": {}},
            },
        },
        "parallel": {"type": "int", "default": 1},
        "rerun": {"type": "bool", "default": False},
        "keep": {"type": "int", "default": 3},
        "stuck_after": {"type": "int", "default": 600},
        "timeout": {"type": "int", "default": 7200},
        "interval": {"type": "int", "default": 0},
        "memory": {"type": "dict", "default": {}},
    }


def result(judge, wanted, finished, rows, began, now):
    """The module's return values."""
    return {
        "changed": bool(judge.deleted) or any(row["made"] for row in rows),
        "finished": finished,
        "waited": round(now - began, 3),
        "progress": _lm_eval_run.progress(wanted, judge.courses, now - began),
        "evaluations": rows,
        "deleted": judge.deleted,
        "memory": _lm_eval_run.remember(judge, began),
    }


def run(params, judge, wanted, view, now=time.time):
    """Wait as long as one call may; the module's return values. Raises ModelMonitoringError."""
    began = _lm_eval_run.recall(judge, params["memory"], now())
    left = began + params["timeout"] - now()
    last = not 0 < params["interval"] < left
    if not _lm_eval_run.wait(view, judge, max(0.0, left if last else params["interval"]), last) and not last:
        return result(judge, wanted, False, [], began, now())
    rows = judge.report()
    judge.prune(params["keep"])
    return result(judge, wanted, True, rows, began, now())


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    try:
        wanted = _lm_eval_run.parse(params["evaluations"])
        settings = _lm_eval_run.Settings.parse(params)
        kube = _kube.Kube(_kube.connect(params))
        judge = _lm_eval_run.Judge(kube, params["namespace"], wanted, settings)
        with _wait.View(kube) as view:
            if module.check_mode:
                now = time.time()
                module.exit_json(**result(judge, wanted, True, judge.foresee(view), now, now))
            outcome = run(params, judge, wanted, view)
    except ModelMonitoringError as error:
        module.fail_json(msg=str(error))
    failed = _lm_eval_run.failures(outcome["evaluations"])
    if failed:
        module.fail_json(msg=failed, **outcome)
    module.exit_json(**outcome)


if __name__ == "__main__":
    main()
