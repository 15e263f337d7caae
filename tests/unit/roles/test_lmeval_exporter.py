# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What the exporter of role lmeval pushes and deletes; on results that lm-evaluation-harness has written."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _lm_eval

ROOT = Path(__file__).resolve().parents[3]
EXPORTER = ROOT / "roles" / "lmeval" / "files" / "exporter.py"
RESULTS = (ROOT / "tests/unit/plugins/module_utils/fixtures/lm_eval_group_and_filters.json").read_text()
DONE, JOB = "2026-11-25T22:05:00Z", "lm-eval-demo"


@pytest.fixture(scope="module")
def exporter():
    """As in the pod, where the other file lies beside it."""
    sys.modules["_lm_eval"] = _lm_eval
    spec = importlib.util.spec_from_file_location("lmeval_exporter", EXPORTER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["_lm_eval"]


def job(name="a", model="mistral-24b", text=RESULTS, tasks=("lab_choice", "lab_gsm8k"), created="2026-11-25T22:00:00Z", **status):
    return {
        "metadata": {"name": name, "namespace": "demo", "creationTimestamp": created, "annotations": {_lm_eval.MODEL_ANNOTATION: model}},
        "spec": {"modelArgs": [{"name": "model", "value": "mistral-24b"}], "taskList": {"taskNames": list(tasks)}},
        "status": {"state": "Complete", "reason": "Succeeded", "completeTime": DONE, "results": text, **status},
    }


class Pushgateway:
    """Groups by their labels, with bodies as they were pushed."""

    def __init__(self):
        self.groups, self.requests = {}, []

    def __call__(self, method, path, body):
        self.requests.append((method, path))
        if (method, path) == ("GET", "/api/v1/metrics"):
            return json.dumps({"status": "success", "data": [self.group(key, text) for key, text in self.groups.items()]}).encode()
        words = path.removeprefix("/metrics/").split("/")
        names = [word.removesuffix("@base64") for word in words[::2]]
        key = tuple(zip(names, (base64.urlsafe_b64decode(value).decode() for value in words[1::2]), strict=True))
        if method == "DELETE":
            del self.groups[key]
        else:
            assert method == "PUT" and body.endswith(b"\n")
            self.groups[key] = body.decode()
        return b""

    @staticmethod
    def group(key, text):
        """As Pushgateway 1.11 tells of it."""
        group = {"labels": dict(key), "last_push_successful": True, "push_time_seconds": {"metrics": [{"labels": {}, "value": "1"}]}}
        for name, value in re.findall(r"^(\w+) (\S+)$", text, re.MULTILINE):
            group[name] = {"type": "GAUGE", "metrics": [{"labels": {}, "value": value}]}
        return group

    def samples(self, name=""):
        """What a scrape gives, by series."""
        lines = [line for text in self.groups.values() for line in text.splitlines() if line.startswith(name) and not line.startswith("#")]
        return dict(line.rsplit(" ", 1) for line in lines)


@pytest.fixture
def gateway():
    return Pushgateway()


def test_every_series_that_is_documented_and_no_other(exporter, gateway):
    """To the last digit of the file that the harness has written."""
    assert exporter.export([job()], JOB, gateway, 7.5) == []
    scores = gateway.samples("lm_eval_score{")
    assert scores == {
        'lm_eval_score{model="mistral-24b",task="lab_arc_easy",metric="acc",filter="none"}': "0.25",
        'lm_eval_score{model="mistral-24b",task="lab_arc_easy",metric="acc_norm",filter="none"}': "0.25",
        'lm_eval_score{model="mistral-24b",task="lab_choice",metric="acc",filter="none"}': "0.21428571428571427",
        'lm_eval_score{model="mistral-24b",task="lab_gsm8k",metric="exact_match",filter="flexible-extract"}': "0.375",
        'lm_eval_score{model="mistral-24b",task="lab_gsm8k",metric="exact_match",filter="strict-match"}': "0.0",
        'lm_eval_score{model="mistral-24b",task="lab_hellaswag",metric="acc",filter="none"}': "0.16666666666666666",
        'lm_eval_score{model="mistral-24b",task="lab_hellaswag",metric="acc_norm",filter="none"}': "0.16666666666666666",
    }
    written = json.loads(RESULTS)["results"]
    assert float(scores['lm_eval_score{model="mistral-24b",task="lab_choice",metric="acc",filter="none"}']) == written["lab_choice"]["acc,none"]
    key = '{model="mistral-24b",task="lab_choice",metric="acc",filter="none"}'
    assert gateway.samples("lm_eval_score_stderr")[f"lm_eval_score_stderr{key}"] == "0.1178511301977579"
    assert gateway.samples("lm_eval_accuracy")[f"lm_eval_accuracy{key}"] == "0.21428571428571427"
    assert gateway.samples("lm_eval_samples")['lm_eval_samples{model="mistral-24b",task="lab_choice"}'] == "14"
    assert set(gateway.samples("lm_eval_job_state").values()) == {"2"} and len(gateway.samples("lm_eval_job_state")) == 4
    assert set(gateway.samples("lm_eval_completion_time").values()) == {"1795644300.0"}
    assert gateway.samples("lm_eval_newest") == {"lm_eval_newest_result_timestamp_seconds": "1795644300.0"}
    assert gateway.samples("lm_eval_export") == {"lm_eval_export_timestamp_seconds": "7.5", "lm_eval_export_errors_total": "0.0"}
    documented = (ROOT / "docs" / "metrics.md").read_text()
    names = {re.split(r"[{ ]", name)[0] for name in gateway.samples()}
    assert names == set(exporter.SERIES)
    assert [name for name in names if f"`{name}`" not in documented] == []


def test_a_group_for_each_model_and_task_and_one_for_itself(exporter, gateway):
    exporter.export([job(tasks=("lab_gsm8k",))], JOB, gateway, 0.0)
    assert set(gateway.groups) == {
        (("job", JOB),),
        *((("job", JOB), ("model", "mistral-24b"), ("task", task)) for task in ("lab_arc_easy", "lab_choice", "lab_gsm8k", "lab_hellaswag")),
    }


def test_a_group_is_put_whole_in_one_request(exporter, gateway):
    exporter.export([job()], JOB, gateway, 0.0)
    paths = [path for method, path in gateway.requests if method == "PUT"]
    assert len(paths) == len(set(paths)) == 5


def test_what_is_gone_is_deleted_and_what_is_others_stays(exporter, gateway):
    exporter.export([job(), job("b", "other", tasks=())], JOB, gateway, 0.0)
    foreign = {
        (("job", "lm-eval-elsewhere"), ("model", "m"), ("task", "t")): "a 1\n",
        (("job", JOB), ("model", "x")): "lm_eval_export_errors_total 5\n",
    }
    gateway.groups |= foreign
    exporter.export([job()], JOB, gateway, 0.0)
    assert {dict(key).get("model") for key in gateway.groups} == {None, "mistral-24b", "m", "x"}
    assert "lm_eval_export_errors_total 0.0" in gateway.groups[(("job", JOB),)]
    exporter.export([], JOB, gateway, 0.0)
    assert set(gateway.groups) == {(("job", JOB),), *foreign}
    assert gateway.samples("lm_eval_newest") == {}


def test_results_that_cannot_be_read_are_told_and_counted_and_stop_nothing(exporter, gateway):
    broken = job("b", "broken", "{", tasks=("lab_gsm8k",))
    for export in (1, 2):
        (said,) = exporter.export([broken, job()], JOB, gateway, 0.0)
        assert said.startswith("LMEvalJob demo/b: its results are not JSON")
        assert gateway.samples("lm_eval_export_errors")["lm_eval_export_errors_total"] == f"{export}.0"
    assert len(gateway.samples("lm_eval_score{")) == 7
    assert gateway.samples("lm_eval_job_state")['lm_eval_job_state{model="broken",task="lab_gsm8k"}'] == "-1"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"reason": "Failed", "completeTime": "2026-11-25T23:05:00Z"}, "-1"),
        ({"reason": "Cancelled"}, "-1"),
        ({"state": "Running", "completeTime": None}, "1"),
        ({"state": "Scheduled", "completeTime": None}, "0"),
    ],
)
def test_the_newest_scores_and_how_the_newest_job_stands(exporter, gateway, status, state):
    exporter.export([job("old"), job("new", created="2026-11-25T23:00:00Z", **status)], JOB, gateway, 0.0)
    assert gateway.samples("lm_eval_job_state")['lm_eval_job_state{model="mistral-24b",task="lab_gsm8k"}'] == state
    assert len(gateway.samples("lm_eval_score{")) == 7
    assert gateway.samples("lm_eval_newest") == {"lm_eval_newest_result_timestamp_seconds": "1795644300.0"}


def test_a_score_that_is_no_number_is_left_out(exporter, gateway):
    text = json.dumps({"results": {"t": {"acc,none": float("nan"), "acc_stderr,none": "N/A", "f1,none": 0.5}}})
    exporter.export([job(text=text, tasks=("t",))], JOB, gateway, 0.0)
    assert gateway.samples("lm_eval_score") == {'lm_eval_score{model="mistral-24b",task="t",metric="f1",filter="none"}': "0.5"}
    assert gateway.samples("lm_eval_accuracy") == {} and gateway.samples("lm_eval_samples") == {}


def test_names_with_all_that_names_may_have(exporter, gateway):
    model = 'a/b "c"\\d\n'
    exporter.export([job(model=model, tasks=("lab_gsm8k",))], JOB, gateway, 0.0)
    assert {dict(key).get("model") for key in gateway.groups} == {None, model}
    assert 'lm_eval_samples{model="a/b \\"c\\"\\\\d\\n",task="lab_gsm8k"}' in gateway.samples("lm_eval_samples")


def test_jobs_are_read_with_the_rights_of_the_pod(exporter, tmp_path, monkeypatch):
    (tmp_path / "token").write_text("t0ken\n")
    asked = {}

    def urlopen(request, timeout, context):
        asked.update(url=request.full_url, headers=dict(request.header_items()), context=context)
        return io.BytesIO(b'{"items": [{"metadata": {"name": "a"}}]}')

    monkeypatch.setattr(exporter, "ACCOUNT", str(tmp_path))
    monkeypatch.setattr(exporter.urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(exporter.ssl, "create_default_context", lambda cafile: f"trusts {cafile}")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    assert exporter.read_jobs("demo", "a/b=c") == [{"metadata": {"name": "a"}}]
    assert asked["url"] == "https://[fd00::1]:443/apis/trustyai.opendatahub.io/v1alpha1/namespaces/demo/lmevaljobs?labelSelector=a%2Fb%3Dc"
    assert asked["headers"]["Authorization"] == "Bearer t0ken" and asked["context"] == f"trusts {tmp_path}/ca.crt"


def test_a_model_without_a_name(exporter):
    assert exporter.path("j", {"model": "", "task": "t"}) == "/metrics/job@base64/ag==/model@base64/=/task@base64/dA=="


def test_a_pushgateway_that_is_away_is_one_line_and_a_failure(tmp_path):
    (tmp_path / "_lm_eval.py").write_text(Path(_lm_eval.__file__).read_text())
    (tmp_path / "exporter.py").write_text(EXPORTER.read_text())
    environment = {"PUSHGATEWAY": "http://127.0.0.1:9/", "NAMESPACE": "demo"}
    done = subprocess.run([sys.executable, "-S", tmp_path / "exporter.py"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"Evaluations were not pushed to http://127.0.0.1:9: .*serviceaccount/token.*\. The next run tries again\.\n", done.stderr)
