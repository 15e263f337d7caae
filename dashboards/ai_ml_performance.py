# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""How the served models perform: traffic, latency, tokens, cache and GPUs, for each model in each namespace."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.models.dashboard import Dashboard

from .parts import AMBER, GREEN, RED, TOKENS, Query, Row, assemble, data_source, figure, graph, number, objective, values_of

UID = "ai-ml-performance"
MODEL = "{{namespace}}/{{model_name}}"
CHOSEN = 'namespace=~"$namespace", model_name=~"$model"'
P95 = ', quantile="0.95"'
QUANTILES = {"0.5": "p50", "0.95": "p95", "0.99": "p99"}

NO_TRAFFIC = "No requests in the last 5 minutes"
NO_MODEL = "No metrics of a model: is it serving, and is it scraped?"
NO_GPU = "No GPU metrics of these models"
IDLE = "no request in this time."
GPU_EMPTY = "the models run without a GPU, or NVIDIA's DCGM exporter is not scraped."


def chosen(series: str, more: str = "") -> str:
    """A series of the chosen models."""
    return f"{series}{{{CHOSEN}{more}}}"


def latency(title: str, series: str, description: str, limit: str = "", **more: Any) -> Any:
    """p50, p95 and p99 of a latency, with its objective if it has one. Without requests it has none."""
    queries = [Query(chosen(series, f', quantile="{quantile}"'), f"{MODEL} {name}") for quantile, name in QUANTILES.items()]
    if limit:
        queries.append(objective(limit))
        description += f" The dashed line is the objective (variable {limit})."
    only_if = f"sum(max_over_time({chosen('vllm_requests_per_second')}[$__range])) == 0"
    return graph(title, description, "s", *queries, width=12, **{"no_value": NO_TRAFFIC, "may_be_empty": IDLE, "only_if": only_if, **more})


def gpu(series: str, by: str = "namespace, model_name, Hostname, gpu") -> str:
    """A figure of the GPUs that the chosen models' pods have.

    Who has a GPU stands in exported_namespace and exported_pod, or, with honorLabels, in namespace and pod; which model a pod serves says vLLM.
    """
    pod = f'label_replace({series}{{exported_pod!=""}}, "namespace", "$1", "exported_namespace", "(.*)")'
    pod = f'(label_replace({pod}, "pod", "$1", "exported_pod", "(.*)") or {series}{{exported_pod=""}})'
    models = f"group by (namespace, pod, model_name) ({chosen('vllm:num_requests_running')})"
    return f"max by ({by}) ({pod} * on (namespace, pod) group_left (model_name) {models})"


def gpu_graph(title: str, description: str, unit: str, expr: str, **more: Any) -> Any:
    """A figure of each GPU."""
    query = Query(expr, more.pop("name", "{{model_name}} {{Hostname}}/{{gpu}}"))
    return graph(title, description, unit, query, width=6, no_value=NO_GPU, may_be_empty=GPU_EMPTY, **more)


def dashboard() -> Dashboard:
    """The dashboard."""
    duration = (
        'traces_span_metrics_duration_seconds_bucket{gen_ai_request_model=~"$model", gen_ai_operation_name=~"chat|text_completion|generate_content"}'
    )
    spans = {
        quantile: f"histogram_quantile({quantile}, sum by (le, gen_ai_request_model) (rate({duration}[$__rate_interval])))"
        for quantile in ("0.5", "0.95")
    }
    now = [
        figure(
            "Running now",
            "Requests that the chosen models work on now.",
            "short",
            Query(f"sum({chosen('vllm_requests_running')})"),
            no_value=NO_MODEL,
        ),
        figure(
            "Waiting now",
            "Requests that wait for a place in a batch, all chosen models together.",
            "short",
            Query(f"sum({chosen('vllm_requests_waiting')})"),
            steps=((None, GREEN), (1, AMBER), (10, RED)),
            no_value=NO_MODEL,
        ),
        figure(
            "Finished now",
            "Requests finished per second in the last 5 minutes, all chosen models together.",
            "reqps",
            Query(f"sum({chosen('vllm_requests_per_second')})"),
            decimals=2,
            no_value=NO_MODEL,
        ),
        figure(
            "Failing now",
            "Share of requests that failed in the last 5 minutes, of the chosen model with the most.",
            "percentunit",
            Query(f"max({chosen('vllm_request_error_ratio')})"),
            steps=((None, GREEN), (0.01, AMBER), (0.05, RED)),
            decimals=1,
            no_value=NO_MODEL,
        ),
        figure(
            "First token, p95",
            "Time to first token that 95 % of requests stayed below in the last 5 minutes, of the slowest chosen model.",
            "s",
            Query(f"max({chosen('vllm_time_to_first_token_seconds', P95)})"),
            decimals=2,
            no_value=NO_TRAFFIC,
            may_be_empty=IDLE,
            only_if=f"sum({chosen('vllm_requests_per_second')}) == 0",
        ),
        figure(
            "Generating now",
            "Tokens generated per second in the last 5 minutes, all chosen models together.",
            TOKENS,
            Query(f"sum({chosen('vllm_tokens_per_second')})"),
            decimals=0,
            no_value=NO_MODEL,
        ),
    ]
    requests = [
        graph(
            "Requests running",
            "Requests in a batch, by model.",
            "short",
            Query(chosen("vllm_requests_running"), MODEL),
            width=6,
            no_value=NO_MODEL,
        ),
        graph(
            "Requests waiting",
            "Requests in the queue, by model. A queue that grows for minutes means too few replicas or too small a KV cache.",
            "short",
            Query(chosen("vllm_requests_waiting"), MODEL),
            width=6,
            no_value=NO_MODEL,
        ),
        graph(
            "Request rate",
            "Requests finished per second, by model.",
            "reqps",
            Query(chosen("vllm_requests_per_second"), MODEL),
            width=6,
            no_value=NO_MODEL,
        ),
        graph(
            "Error ratio",
            "Share of failed requests, by model. The dashed line is the objective (variable objective_error_ratio).",
            "percentunit",
            Query(chosen("vllm_request_error_ratio"), MODEL),
            objective("objective_error_ratio"),
            width=6,
            no_value=NO_MODEL,
        ),
    ]
    latencies = [
        latency(
            "Time to first token",
            "vllm_time_to_first_token_seconds",
            "From the arrival of a request to its first token: what a person waits for before the answer begins.",
            "objective_ttft",
        ),
        latency(
            "Inter-token latency",
            "vllm_inter_token_latency_seconds",
            "From one token to the next: the pace at which an answer appears once it has begun.",
            "objective_itl",
        ),
        latency("End-to-end latency", "vllm_e2e_request_latency_seconds", "From the arrival of a request to its last token.", "objective_e2e"),
        latency(
            "Time in the queue",
            "vllm_request_queue_time_seconds",
            "How long requests waited for their place in a batch. A part of the time to first token.",
            no_value="No request had to wait",
            may_be_empty="no request had to wait.",
            only_if="",
        ),
        graph(
            "Duration of requests in traces",
            "How long GenAI operations took by their traces, as callers and models saw them. Each dot is one request: click it to open its trace.",
            "s",
            Query(spans["0.5"], "{{gen_ai_request_model}} p50"),
            Query(spans["0.95"], "{{gen_ai_request_model}} p95", exemplar=True),
            width=24,
            no_value="No traces of requests to these models in this time range",
            may_be_empty="neither the models nor their callers send traces, or there was no request.",
            only_if='absent(traces_span_metrics_calls_total{gen_ai_request_model=~"$model"})',
        ),
    ]
    tokens = [
        graph(
            "Generated tokens", "Tokens generated per second, by model.", TOKENS, Query(chosen("vllm_tokens_per_second"), MODEL), no_value=NO_MODEL
        ),
        graph(
            "Prompt tokens",
            "Tokens of prompts processed per second, by model.",
            TOKENS,
            Query(chosen("vllm_prompt_tokens_per_second"), MODEL),
            no_value=NO_MODEL,
        ),
        graph(
            "KV cache in use",
            "Share of the KV cache that is in use, of each model's fullest pod. When it is full, requests are preempted and computed again.",
            "percentunit",
            Query(chosen("vllm_kv_cache_usage_ratio"), MODEL),
            top=1,
            no_value=NO_MODEL,
        ),
    ]
    gpus = f"count by (namespace, model_name) ({gpu('DCGM_FI_DEV_GPU_UTIL')})"
    hardware = [
        gpu_graph("GPU utilisation", "Share of time in which a GPU had work.", "percent", gpu("DCGM_FI_DEV_GPU_UTIL"), top=100),
        gpu_graph(
            "GPU memory", "Memory in use on a GPU. vLLM takes its share at start, for weights and KV cache.", "mbytes", gpu("DCGM_FI_DEV_FB_USED")
        ),
        gpu_graph("GPU power", "What a GPU draws.", "watt", gpu("DCGM_FI_DEV_POWER_USAGE")),
        gpu_graph(
            "Tokens per GPU",
            "Tokens generated per second for each GPU that a model has: what models of different size are compared by.",
            TOKENS,
            f"{chosen('vllm_tokens_per_second')} / on (namespace, model_name) {gpus}",
            name=MODEL,
        ),
    ]
    variables = [
        data_source("prometheus", "Prometheus"),
        values_of("namespace", "Namespace", "vllm_requests_running", "namespace"),
        values_of("model", "Model", 'vllm_requests_running{namespace=~"$namespace"}', "model_name"),
        number("objective_ttft", "Objective: time to first token (s)", 2, "What the time to first token should stay below, in seconds."),
        number("objective_itl", "Objective: inter-token latency (s)", 0.1, "What the inter-token latency should stay below, in seconds."),
        number("objective_e2e", "Objective: end-to-end latency (s)", 30, "What the end-to-end latency should stay below, in seconds."),
        number("objective_error_ratio", "Objective: error ratio", 0.05, "What the share of failed requests should stay below, between 0 and 1."),
    ]
    return assemble(
        UID,
        "AI/ML performance",
        "How the served models perform. Figures of models are those of the collection's recording rules.",
        variables,
        [Row("Now", now), Row("Requests", requests), Row("Latency", latencies), Row("Tokens and cache", tokens), Row("GPUs", hardware)],
        since="now-1h",
        refresh="30s",
    )
