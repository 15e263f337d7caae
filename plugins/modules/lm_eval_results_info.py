#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Module lm_eval_results_info: what evaluations have found, and whether a model is worse than its baseline."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lm_eval_results_info
short_description: What evaluations of LM-Eval have found, and whether a model is worse than its baseline
version_added: 0.1.0
description:
  - Reads the LMEvalJobs of a namespace and returns what they have found, typed - a score for each task, metric and filter with its standard
    error and the number of samples.
  - Results that cannot be read, or are of another model than the one that was asked for, are reported with their job and stop nothing.
  - Compares models with their baselines by the newest scores of both. A model is V(worse) where it is so by more than O(margin) and by more than
    chance, by a one-sided z test on scores and standard errors, z = (difference - margin) / sqrt(stderr1² + stderr2²).
options:
  namespace:
    description: Namespace of the jobs.
    type: str
    required: true
  label_selectors:
    description: Label selectors that must all hold; empty for all jobs. By default those that M(private_ai.model_monitoring.lm_eval_job) has made.
    type: list
    elements: str
    default: [model-monitoring/evaluation]
  baselines:
    description: By the name of a model the name of its baseline, both as results are told under.
    type: dict
    default: {}
  margin:
    description: What a model may be worse by, in the unit of the metric (0.02 is two points of a hundred in accuracy).
    type: float
    default: 0.0
  confidence:
    description: Probability of not calling a model worse that is not; between 0.5 and 1.
    type: float
    default: 0.95
  metrics:
    description: Metrics that are compared, as V(acc_norm); empty for all.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - private_ai.model_monitoring.kubernetes_client
attributes:
  check_mode:
    description: Reads, and changes nothing.
    support: full
  diff_mode:
    description: Shows what changed.
    support: none
    details: Nothing is ever changed.
notes:
  - Needs the verb C(list) on C(lmevaljobs) in C(trustyai.opendatahub.io), in the namespace.
seealso:
  - module: private_ai.model_monitoring.lm_eval_job
author:
  - private_ai.model_monitoring contributors (@private-ai)
"""

EXAMPLES = r"""
- name: Is the quantised model worse by more than two points?
  private_ai.model_monitoring.lm_eval_results_info:
    namespace: private-ai-demo
    baselines:
      mistral-24b-quantized: mistral-24b
    margin: 0.02
  register: found

- name: Say it
  ansible.builtin.debug:
    msg: "{{ found.comparisons | map(attribute='words') }}"
"""

RETURN = r"""
evaluations:
  description: The jobs, the newest first.
  returned: always
  type: list
  elements: dict
  contains:
    job:
      description: Name of the LMEvalJob.
      type: str
      sample: mistral-24b-gsm8k-1f3c9a72
    namespace:
      description: Its namespace.
      type: str
      sample: private-ai-demo
    model:
      description: The model, as people call it where the job says so, else as it was asked for.
      type: str
      sample: mistral-24b
    tasks:
      description: Tasks that were asked for.
      type: list
      elements: str
      sample: [gsm8k]
    state:
      description: V(waiting), V(running), V(succeeded), V(failed) or V(cancelled).
      type: str
      sample: succeeded
    message:
      description: Message of TrustyAI's operator.
      type: str
      sample: job completed
    created:
      description: When the job was made, as RFC 3339 in UTC.
      type: str
      sample: "2026-11-25T22:00:00Z"
    started:
      description: When its pod was made, null before.
      type: str
      sample: "2026-11-25T22:00:01Z"
    completed:
      description: When it ended, null before.
      type: str
      sample: "2026-11-25T22:05:00Z"
    error:
      description: Why there are no scores of a job that TrustyAI's operator calls succeeded; empty when there are some.
      type: str
      sample: ""
    scores:
      description: What it has found, by task, metric and filter. A group of tasks has scores of its own.
      type: list
      elements: dict
      contains:
        task:
          description: Task, or group of tasks.
          type: str
          sample: gsm8k
        metric:
          description: Metric.
          type: str
          sample: exact_match
        filter:
          description: Filter; V(none) where the task has none.
          type: str
          sample: flexible-extract
        value:
          description: The score to the last digit, null where it is no number (NaN).
          type: float
          sample: 0.61
        stderr:
          description: Its standard error, null where there is none.
          type: float
          sample: 0.049
        samples:
          description: Documents that it was taken from, null where that is not said.
          type: int
          sample: 100
        higher_is_better:
          description: Whether more is better, null where the task does not say.
          type: bool
          sample: true
comparisons:
  description: Models beside their baselines, by model and task; what both have of the newest scores.
  returned: always
  type: list
  elements: dict
  contains:
    model:
      description: The model.
      type: str
      sample: mistral-24b-quantized
    baseline:
      description: Its baseline.
      type: str
      sample: mistral-24b
    task:
      description: Task.
      type: str
      sample: gsm8k
    metric:
      description: Metric.
      type: str
      sample: exact_match
    filter:
      description: Filter.
      type: str
      sample: flexible-extract
    score:
      description: The model's score.
      type: float
      sample: 0.4
    stderr:
      description: Its standard error.
      type: float
      sample: 0.049
    baseline_score:
      description: The baseline's score.
      type: float
      sample: 0.61
    baseline_stderr:
      description: Its standard error.
      type: float
      sample: 0.049
    worse_by:
      description: What the model is worse by; negative where it is better.
      type: float
      sample: 0.21
    z:
      description: The statistic; null where a number is missing, and where there is no chance at all (both standard errors are 0) but a difference.
      type: float
      sample: 2.74
    p:
      description: Probability of a statistic like this or beyond if the model is worse by just the margin.
      type: float
      sample: 0.0031
    verdict:
      description: V(worse), V(not worse), or V(unknown) where a number is missing.
      type: str
      sample: worse
    words:
      description: All of it as a person says it.
      type: str
      sample: "mistral-24b-quantized is worse than mistral-24b on gsm8k exact_match (flexible-extract): 0.61 ± 0.049 -> 0.4 ± 0.049, by 0.21 (...)"
"""

import dataclasses
import math

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube, _lm_eval, _lm_eval_gate, _lm_eval_run
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


def argument_spec():
    """The module's options."""
    return {
        **AUTH_ARG_SPEC,
        "namespace": {"type": "str", "required": True},
        "label_selectors": {"type": "list", "elements": "str", "default": [_lm_eval.EVALUATION_LABEL]},
        "baselines": {"type": "dict", "default": {}},
        "margin": {"type": "float", "default": 0.0},
        "confidence": {"type": "float", "default": 0.95},
        "metrics": {"type": "list", "elements": "str", "default": []},
    }


def result(jobs, gate, baselines):
    """The module's return values."""
    evaluations = _lm_eval.newest(_lm_eval.read(job) for job in jobs)
    comparisons = []
    for one in gate.judge(evaluations, baselines):
        z = one.z if one.z is not None and math.isfinite(one.z) else None  # JSON has no infinity
        comparisons.append({**dataclasses.asdict(one), "z": z, "words": _lm_eval_gate.in_words(one, gate.margin)})
    return {"evaluations": [dataclasses.asdict(one) for one in evaluations], "comparisons": comparisons}


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    try:
        gate = _lm_eval_gate.Gate(params["margin"], params["confidence"], params["metrics"])
        gate.check()
        jobs = _lm_eval_run.jobs(_kube.Kube(_kube.connect(params)), params["namespace"], ",".join(params["label_selectors"]))
    except ModelMonitoringError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result(jobs, gate, params["baselines"]))


if __name__ == "__main__":
    main()
