# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What the models' answers are worth: LM-Eval's scores, the quantised model against the full-precision one, TrustyAI and guardrails.

The difference of two scores has the standard error sqrt(a² + b²), as for independent samples. Both models answer the same questions, so the
true error is smaller, and a difference that shows here is one. 1.96 standard errors make an interval of 95 %.
"""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from .parts import AMBER, BLUE, GREEN, GREY, RED, Column, Query, Row, assemble, data_source, figure, graph, grid, values_of

UID = "model-quality"
BY = "namespace, task, metric, filter"
CHOSEN = 'namespace=~"$namespace", task=~"$task"'
SCORES = f'{CHOSEN}, metric=~"$metric"'
MODELS = 'model=~"$full|$quantized"'
NO_RESULT = "No evaluation yet"
EMPTY = "no evaluation has finished yet, or none of both models with the same task."
NONE = {"may_be_empty": "no evaluation has finished yet.", "only_if": 'absent(lm_eval_score{namespace=~"$namespace"})'}
TRUSTYAI = "no TrustyAI service has a metric request for this."
GUARDRAILS = "no guardrails detector runs, or it has seen no request."

VERDICTS = {"-1": ("Quantised scores lower", RED), "0": ("No difference beyond chance", GREEN), "1": ("Quantised scores higher", BLUE)}
STATES = {"-1": ("Failed", RED), "0": ("Waiting", GREY), "1": ("Running", AMBER), "2": ("Complete", GREEN)}


def score(model: str, series: str = "lm_eval_score") -> str:
    """A model's figure by task, metric and filter, without the labels of the scrape."""
    return f'max by ({BY}) ({series}{{{SCORES}, model="${model}"}})'


def difference() -> str:
    """Quantised minus full precision."""
    return f"({score('quantized')} - on ({BY}) {score('full')})"


def margin() -> str:
    """Half of the 95 % interval of the difference."""
    return f"(1.96 * sqrt({score('quantized', 'lm_eval_score_stderr')} ^ 2 + on ({BY}) {score('full', 'lm_eval_score_stderr')} ^ 2))"


def verdict() -> str:
    """-1, 0 or 1: the interval is below zero, holds it, is above."""
    return f"({difference()} - on ({BY}) {margin()} > bool 0) - on ({BY}) ({difference()} + on ({BY}) {margin()} < bool 0)"


def by_model(series: str, labels: str = "namespace, model, task, metric, filter", selector: str = SCORES) -> str:
    """A figure of both chosen models."""
    return f"max by ({labels}) ({series}{{{selector}, {MODELS}}})"


def dashboard() -> Dashboard:
    """The dashboard."""
    task = {"task": "Task", "metric": "Metric", "filter": "Filter", "namespace": "Namespace"}
    run = "namespace, model, task"
    answer = [
        figure(
            "Is the quantised model worse?",
            "For each task: whether the 95 % interval of the difference (quantised minus full precision) is below zero, holds it or is above."
            " Of scores for which more is better, such as accuracy, lower means worse.",
            "none",
            Query(verdict(), "{{task}}, {{metric}}"),
            width=18,
            mappings=VERDICTS,
            steps=((None, GREY),),
            no_value=NO_RESULT,
            may_be_empty=EMPTY,
        ),
        figure(
            "Age of the newest result",
            "How long ago the newest evaluation was completed.",
            "s",
            Query('time() - max(lm_eval_newest_result_timestamp_seconds{namespace=~"$namespace"})'),
            width=6,
            steps=((None, GREEN), (7 * 86400, AMBER), (30 * 86400, RED)),
            no_value=NO_RESULT,
            **NONE,
        ),
        grid(
            "Quantised minus full precision",
            "The difference of the newest scores with its 95 % interval, from the standard errors of both.",
            "percentunit",
            task,
            Query(score("full"), "Full precision"),
            Query(score("quantized"), "Quantised"),
            Query(difference(), "Difference"),
            Query(f"{difference()} - on ({BY}) {margin()}", "95 % from"),
            Query(f"{difference()} + on ({BY}) {margin()}", "to"),
            Query(verdict(), "Verdict"),
            columns={"Verdict": Column(unit="none", mappings=VERDICTS, width=230)},
            decimals=1,
            no_value=NO_RESULT,
            may_be_empty=EMPTY,
        ),
    ]
    scores = [
        grid(
            "Newest scores",
            "The newest score of each task and model with its standard error: a difference of less than three of these may well be chance.",
            "percentunit",
            {"model": "Model", **task},
            Query(by_model("lm_eval_score"), "Score"),
            Query(by_model("lm_eval_score_stderr"), "Standard error"),
            decimals=1,
            no_value=NO_RESULT,
            **NONE,
        ),
        graph(
            "History",
            "The score that was the newest at each time.",
            "percentunit",
            Query(by_model("lm_eval_score"), "{{model}} {{task}} {{metric}}"),
            width=24,
            max_data_points=5000,  # steps of two minutes, so that a new result shows at once
            no_value=NO_RESULT,
            **NONE,
        ),
        grid(
            "Evaluations",
            "The newest evaluation of each model and task.",
            "none",
            {"model": "Model", "task": "Task", "namespace": "Namespace"},
            Query(by_model("lm_eval_job_state", run, CHOSEN), "State"),
            Query(by_model("lm_eval_samples", run, CHOSEN), "Samples"),
            Query(f"1000 * {by_model('lm_eval_completion_time', run, CHOSEN)}", "Completed"),
            Query(f"time() - {by_model('lm_eval_completion_time', run, CHOSEN)}", "Age"),
            columns={
                "State": Column(mappings=STATES),
                "Samples": Column(unit="short", decimals=0),
                "Completed": Column(unit="dateTimeAsIso"),
                "Age": Column(unit="s", decimals=1),
            },
            no_value=NO_RESULT,
            **NONE,
        ),
    ]
    trust = [
        graph(
            "Statistical parity difference",
            "TrustyAI's SPD: the difference in favourable outcomes between groups; fair is between -0.1 and 0.1.",
            "none",
            Query('trustyai_spd{namespace=~"$namespace"}', "{{model}}"),
            width=6,
            no_value="No metric request in TrustyAI",
            may_be_empty=TRUSTYAI,
        ),
        graph(
            "Disparate impact ratio",
            "TrustyAI's DIR: the ratio of favourable outcomes between groups; fair is between 0.8 and 1.2.",
            "none",
            Query('trustyai_dir{namespace=~"$namespace"}', "{{model}}"),
            width=6,
            no_value="No metric request in TrustyAI",
            may_be_empty=TRUSTYAI,
        ),
        graph(
            "Mean shift of inputs",
            "TrustyAI's MeanShift: the probability that today's inputs come from the reference data; below 0.05 they have drifted.",
            "none",
            Query('trustyai_meanshift{namespace=~"$namespace"}', "{{model}} {{subcategory}}"),
            width=6,
            no_value="No metric request in TrustyAI",
            may_be_empty=TRUSTYAI,
        ),
        graph(
            "Guardrails: share of detections",
            "Share of requests in which a guardrails detector found something.",
            "percentunit",
            Query(
                'sum by (detector_name) (rate(trustyai_guardrails_detections_total{namespace=~"$namespace"}[$__rate_interval]))'
                ' / sum by (detector_name) (rate(trustyai_guardrails_requests_total{namespace=~"$namespace"}[$__rate_interval]))',
                "{{detector_name}}",
            ),
            width=6,
            no_value="No guardrails detector has seen a request",
            may_be_empty=GUARDRAILS,
        ),
    ]
    quantized = "(?:quant|awq|gptq|int[48]|fp8|w[48]a)"
    variables = [
        data_source("prometheus", "Prometheus"),
        values_of("namespace", "Namespace", "lm_eval_score", "namespace"),
        values_of("full", "Full precision", 'lm_eval_score{namespace=~"$namespace"}', "model", many=False, regex=f"/^(?!.*{quantized}).*$/i"),
        values_of("quantized", "Quantised", 'lm_eval_score{namespace=~"$namespace"}', "model", many=False, regex=f"/.*{quantized}.*/i"),
        values_of("task", "Task", 'lm_eval_score{namespace=~"$namespace"}', "task"),
        values_of("metric", "Metric", 'lm_eval_score{namespace=~"$namespace"}', "metric"),
    ]
    return assemble(
        UID,
        "Model quality assessment",
        "What the models' answers are worth, by LM-Eval, TrustyAI and guardrails.",
        variables,
        [Row("Quantised against full precision", answer), Row("Scores", scores), Row("TrustyAI and guardrails", trust)],
        since="now-7d",
    )
