# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What lm_eval_results_info returns."""

from __future__ import annotations

import json

import yaml
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._lm_eval_gate import Gate
from ansible_collections.private_ai.model_monitoring.plugins.modules import lm_eval_results_info


def job(model, score, stderr=0.0):
    text = json.dumps({"results": {"gsm8k": {"exact_match,none": score, "exact_match_stderr,none": stderr}}, "model_name": model})
    status = {"state": "Complete", "reason": "Succeeded", "completeTime": "2026-11-25T22:05:00Z", "results": text}
    spec = {"modelArgs": [{"name": "model", "value": model}], "taskList": {"taskNames": ["gsm8k"]}}
    return {"metadata": {"name": f"{model}-1", "namespace": "demo", "creationTimestamp": "2026-11-25T22:00:00Z"}, "spec": spec, "status": status}


JOBS = [job("full", 0.6), job("small", 0.4)]


def test_the_documentation_names_what_is_returned():
    returned = yaml.safe_load(lm_eval_results_info.RETURN)
    result = lm_eval_results_info.result(JOBS, Gate(), {"small": "full"})
    assert returned.keys() == result.keys()
    for name in returned:
        assert returned[name]["contains"].keys() == result[name][0].keys()
    assert returned["evaluations"]["contains"]["scores"]["contains"].keys() == result["evaluations"][0]["scores"][0].keys()


def test_it_is_json_whatever_the_numbers_are():
    found = lm_eval_results_info.result([job("full", float("nan")), job("other", 1, float("inf"))], Gate(), {"other": "full"})
    assert [one["scores"][0]["value"] for one in found["evaluations"]] == [1.0, None]
    certain = lm_eval_results_info.result(JOBS, Gate(), {"small": "full"})
    assert (certain["comparisons"][0]["verdict"], certain["comparisons"][0]["z"]) == ("worse", None)
    json.dumps([found, certain], allow_nan=False)
