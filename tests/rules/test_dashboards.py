# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The dashboards' own arithmetic in Prometheus' own engine: promtool gets series and the panels' queries. PROMTOOL names it; `make rules` does."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _dashboard
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._dashboard import Variable

DASHBOARDS = Path(__file__).parents[2] / "roles" / "grafana" / "files" / "dashboards"
CHOSEN = {
    name: Variable(name, values, values, many)
    for name, values, many in (
        ("namespace", ("demo", "other"), True),
        ("model", ("full", "small"), True),
        ("full", ("full",), False),
        ("quantized", ("small",), False),
        ("task", ("arc", "gsm"), True),
        ("metric", ("acc",), True),
        ("objective_ttft", ("2",), False),
        ("__rate_interval", ("5m",), False),
    )
}


def query(uid: str, title: str, name: str = "A") -> str:
    """A panel's query by refId or by the name of its series, with the variables in it."""
    board = json.loads((DASHBOARDS / f"{uid}.json").read_text(encoding="utf-8"))
    (panel,) = [one for one in _dashboard.panels_of(board) if one.title == title]
    columns = {}
    for one in board["panels"]:
        for step in one.get("transformations", []) if one["title"] == title else []:
            columns |= step["options"].get("renameByName", {})
    (target,) = [one for one in panel.targets if name in (one["refId"], one.get("legendFormat"), columns.get(f"Value #{one['refId']}"))]
    return _dashboard.interpolate(target["expr"], CHOSEN, _dashboard.promql)


@pytest.fixture
def evaluates(tmp_path):
    """Check what a query gives ten minutes after the start: ``evaluates(query, {series: values}, {labels: value})``."""

    def evaluates(expr: str, series: dict[str, str], expected: dict[str, float]) -> None:
        test = {
            "evaluation_interval": "1m",
            "tests": [
                {
                    "interval": "1m",
                    "input_series": [{"series": name, "values": values} for name, values in series.items()],
                    "promql_expr_test": [
                        {"expr": expr, "eval_time": "10m", "exp_samples": [{"labels": labels, "value": value} for labels, value in expected.items()]}
                    ],
                }
            ],
        }
        path = tmp_path / "test.yml"
        path.write_text(yaml.safe_dump(test))
        done = subprocess.run([os.environ["PROMTOOL"], "test", "rules", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return evaluates


def scores(**tasks: tuple[float, float, float, float]) -> dict[str, str]:
    """Score and standard error of both models by task, with what a scrape adds and a model that nobody chose."""
    found = {}
    for task, numbers in tasks.items():
        for model, score, error in (("full", *numbers[:2]), ("small", *numbers[2:]), ("third", 0.9, 0.0)):
            labels = f'namespace="demo", model="{model}", task="{task}", metric="acc", filter="none", pod="{model}"'
            found[f"lm_eval_score{{{labels}}}"] = f"{score}x10"
            found[f"lm_eval_score_stderr{{{labels}}}"] = f"{error}x10"
    return found


def by_task(**values: float) -> dict[str, float]:
    return {f'{{filter="none", metric="acc", namespace="demo", task="{task}"}}': value for task, value in values.items()}


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ((0.80, 0.02, 0.79, 0.02), 0),
        ((0.80, 0.02, 0.70, 0.02), -1),
        ((0.70, 0.02, 0.80, 0.02), 1),
        ((0.80, 0.02, 0.7446, 0.02), 0),  # 1.96 * sqrt(2) * 0.02 = 0.05544
        ((0.80, 0.02, 0.7445, 0.02), -1),
        ((0.80, 0.0, 0.80, 0.0), 0),
        ((0.80, 0.0, 0.81, 0.0), 1),
    ],
)
def test_verdict(evaluates, numbers, verdict) -> None:
    evaluates(query("model-quality", "Is the quantised model worse?"), scores(arc=numbers), by_task(arc=verdict))
    evaluates(query("model-quality", "Quantised minus full precision", "Verdict"), scores(arc=numbers), by_task(arc=verdict))


@pytest.mark.parametrize(
    ("column", "arc", "gsm"),
    [
        ("Full precision", 0.5, 0.25),
        ("Quantised", 0.75, 0.125),
        ("Difference", 0.25, -0.125),
        ("95 % from", 0.25 - 1.96 * 0.05, -0.125),
        ("to", 0.25 + 1.96 * 0.05, -0.125),
    ],
)
def test_difference_and_its_interval(evaluates, column, arc, gsm) -> None:
    series = scores(arc=(0.5, 0.03, 0.75, 0.04), gsm=(0.25, 0.0, 0.125, 0.0))
    evaluates(query("model-quality", "Quantised minus full precision", column), series, by_task(arc=arc, gsm=gsm))


def test_a_task_that_only_one_model_has_done_has_no_verdict(evaluates) -> None:
    one = {name: values for name, values in scores(arc=(0.5, 0.03, 0.75, 0.04)).items() if 'model="small"' not in name}
    evaluates(query("model-quality", "Is the quantised model worse?"), one, {})


WHO = {
    'vllm:num_requests_running{namespace="demo", pod="full-1", model_name="full"}': "1x10",
    'vllm:num_requests_running{namespace="demo", pod="small-1", model_name="small"}': "1x10",
    'vllm:num_requests_running{namespace="demo", pod="third-1", model_name="third"}': "1x10",
}


def gpus(series: str, honored: bool = False) -> dict[str, str]:
    """Two GPUs of one pod, one of another, one that nobody chose, one that nobody has; whose they are in either way."""
    found = {}
    for gpu, pod, value in (("0", "full-1", 10), ("1", "full-1", 20), ("2", "small-1", 30), ("3", "third-1", 40), ("4", "", 50)):
        who = (
            f'namespace="demo", pod="{pod}"' if honored and pod else f'namespace="gpus", pod="dcgm", exported_namespace="demo", exported_pod="{pod}"'
        )
        if not pod:
            who = 'namespace="gpus", pod="dcgm"'
        found[f'{series}{{Hostname="node", gpu="{gpu}", UUID="GPU-{gpu}", modelName="A100", {who}}}'] = f"{value}x10"
    return found


def of_gpu(gpu: str, model: str) -> str:
    return f'{{Hostname="node", gpu="{gpu}", model_name="{model}", namespace="demo"}}'


@pytest.mark.parametrize("honored", [False, True])
@pytest.mark.parametrize(
    ("title", "series"),
    [("GPU utilisation", "DCGM_FI_DEV_GPU_UTIL"), ("GPU memory", "DCGM_FI_DEV_FB_USED"), ("GPU power", "DCGM_FI_DEV_POWER_USAGE")],
)
def test_gpus_are_those_of_the_chosen_models(evaluates, title, series, honored) -> None:
    expected = {of_gpu("0", "full"): 10, of_gpu("1", "full"): 20, of_gpu("2", "small"): 30}
    evaluates(query("ai-ml-performance", title), {**WHO, **gpus(series, honored)}, expected)


def test_tokens_per_gpu(evaluates) -> None:
    tokens = {f'vllm_tokens_per_second{{namespace="demo", model_name="{name}"}}': "100x10" for name in ("full", "small")}
    expected = {'{model_name="full", namespace="demo"}': 50, '{model_name="small", namespace="demo"}': 100}
    evaluates(query("ai-ml-performance", "Tokens per GPU"), {**WHO, **gpus("DCGM_FI_DEV_GPU_UTIL"), **tokens}, expected)


ACCEPTED = {'otelcol_receiver_accepted_spans_total{namespace="demo", pod="c", receiver="otlp"}': "0+60x10"}
FAILED = {'otelcol_exporter_send_failed_spans_total{namespace="demo", pod="c", exporter="otlp/tempo"}': "0+120x10"}


@pytest.mark.parametrize(("series", "lost"), [(ACCEPTED, {"{}": 0}), ({**ACCEPTED, **FAILED}, {"{}": 2}), ({}, {})])
def test_nothing_lost_is_zero_only_where_the_collector_is_seen(evaluates, series, lost) -> None:
    evaluates(query("stack-health", "Spans lost"), series, lost)


def test_targets_down_and_alerts_firing(evaluates) -> None:
    up = {'up{namespace="demo", job="a", pod="1"}': "1x10", 'up{namespace="demo", job="a", pod="2"}': "0x10", 'up{namespace="far", job="b"}': "0x10"}
    evaluates(query("stack-health", "Targets down"), up, {"{}": 1})
    evaluates(query("stack-health", "Alerts firing"), up, {"{}": 0})
    fires = {
        'ALERTS{namespace="demo", alertname="X", alertstate="firing"}': "1x10",
        'ALERTS{namespace="demo", alertname="Y", alertstate="pending"}': "1x10",
    }
    evaluates(query("stack-health", "Alerts firing"), {**up, **fires}, {"{}": 1})
    evaluates(query("stack-health", "Targets", "State"), up, {'{job="a", namespace="demo"}': 0})


def test_how_long_an_alert_is_active(evaluates) -> None:
    series = {
        'ALERTS{namespace="demo", alertname="X", alertstate="firing", severity="warning"}': "1x10",
        'ALERTS_FOR_STATE{namespace="demo", alertname="X", severity="warning"}': "300x10",
    }
    evaluates(query("stack-health", "Alerts"), series, {'{alertname="X", alertstate="firing", namespace="demo", severity="warning"}': 300})


def test_age_of_evaluations_and_end_of_tokens(evaluates) -> None:
    evaluates(query("stack-health", "Age of evaluations"), {'lm_eval_newest_result_timestamp_seconds{namespace="demo"}': "100x10"}, {"{}": 500})
    tokens = {
        f'model_monitoring_token_expiry_timestamp_seconds{{namespace="demo", token="{token}"}}': f"{end}x10"
        for token, end in (("a", 900), ("b", 700))
    }
    evaluates(query("stack-health", "Token ends in"), tokens, {"{}": 100})


def test_the_objective_is_a_line(evaluates) -> None:
    evaluates(query("ai-ml-performance", "Time to first token", "objective"), {}, {"{}": 2})
