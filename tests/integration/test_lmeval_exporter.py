# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The exporter of role lmeval and a real Pushgateway. PUSHGATEWAY_BINARY names it; `make integration` does."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import urllib.error
from pathlib import Path

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _lm_eval
from servers import Server, free_port

ROOT = Path(__file__).resolve().parents[2]
RESULTS = (ROOT / "tests/unit/plugins/module_utils/fixtures/lm_eval_group_and_filters.json").read_text()
JOB = "lm-eval-demo"


@pytest.fixture(scope="module")
def exporter():
    sys.modules["_lm_eval"] = _lm_eval
    spec = importlib.util.spec_from_file_location("lmeval_exporter", ROOT / "roles" / "lmeval" / "files" / "exporter.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["_lm_eval"]


@pytest.fixture
def pushgateway(tmp_path):
    """A Pushgateway, and its address."""
    address = f"127.0.0.1:{free_port()}"
    arguments = [f"--web.listen-address={address}", "--web.config.file"]
    with Server("PUSHGATEWAY_BINARY", tmp_path, arguments, {}, f"http://{address}/-/ready") as server:
        server.url = f"http://{address}"
        yield server


def job(name, model, text=RESULTS, **status):
    return {
        "metadata": {
            "name": name,
            "namespace": "demo",
            "creationTimestamp": "2026-11-25T22:00:00Z",
            "annotations": {_lm_eval.MODEL_ANNOTATION: model},
        },
        "spec": {"modelArgs": [{"name": "model", "value": "mistral-24b"}], "taskList": {"taskNames": ["lab_choice"]}},
        "status": {"state": "Complete", "reason": "Succeeded", "completeTime": "2026-11-25T22:05:00Z", "results": text, **status},
    }


def page(request):
    """The samples that Prometheus would scrape: by name and labels, but those of the group alone."""
    found = {}
    for line in request("GET", "/metrics", None).decode().splitlines():
        match = re.match(r"(lm_eval_\w+)\{(.*)\} (\S+)$", line)
        if match:
            labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2]))
            key = (match[1], *(labels.get(name, "") for name in ("model", "task", "metric", "filter")))
            found[key] = float(match[3])
    return found


def test_every_number_is_that_of_the_file(exporter, pushgateway):
    request = exporter.sender(pushgateway.url)
    exporter.export([job("a", "full"), job("b", "org/small")], JOB, request, 1.0)
    written = json.loads(RESULTS)["results"]
    seen = page(request)
    for model in ("full", "org/small"):
        for task, row in written.items():
            for key, value in row.items():
                metric, comma, name = key.partition(",")
                if comma:
                    series = "lm_eval_score_stderr" if metric.endswith("_stderr") else "lm_eval_score"
                    assert seen[series, model, task, metric.removesuffix("_stderr"), name] == value


def test_groups_of_jobs_that_are_gone_go_and_errors_add_up(exporter, pushgateway):
    request = exporter.sender(pushgateway.url)
    jobs = [job("a", "full"), job("b", 'w"ei\\rd/', RESULTS), job("c", "", RESULTS), job("d", "broken", "{")]
    jobs[2]["spec"]["modelArgs"] = []
    for run in (1.0, 2.0):
        assert len(exporter.export(jobs, JOB, request, run)) == 1
        assert page(request)["lm_eval_export_errors_total", "", "", "", ""] == run
    assert {key[1] for key in page(request) if key[0] == "lm_eval_samples"} == {"full", 'w\\"ei\\\\rd/', ""}
    exporter.export(jobs[:1], JOB, request, 3.0)
    assert {key[1] for key in page(request)} == {"full", ""}
    exporter.export([], JOB, request, 4.0)
    assert {key[0] for key in page(request)} == {"lm_eval_export_errors_total", "lm_eval_export_timestamp_seconds"}


def test_what_a_pushgateway_that_is_away_did_not_get_the_next_run_pushes(exporter, pushgateway):
    request = exporter.sender(pushgateway.url)
    pushgateway.stop()
    with pytest.raises(urllib.error.URLError):
        exporter.export([job("a", "full")], JOB, request, 1.0)
    pushgateway.start()
    exporter.export([job("a", "full")], JOB, request, 2.0)
    assert page(request)["lm_eval_score", "full", "lab_choice", "acc", "none"] == json.loads(RESULTS)["results"]["lab_choice"]["acc,none"]


def test_a_group_that_is_refused_is_not_there_by_half(exporter, pushgateway):
    """Whatever the Pushgateway takes offence at: of the whole request nothing is kept."""
    request = exporter.sender(pushgateway.url)
    request("PUT", "/metrics/job/other", b"# TYPE lm_eval_samples histogram\nlm_eval_samples_count 1\nlm_eval_samples_sum 1\n")
    with pytest.raises(urllib.error.HTTPError):
        exporter.export([job("a", "full")], JOB, request, 1.0)
    assert not any(key[0] == "lm_eval_score" for key in page(request))
