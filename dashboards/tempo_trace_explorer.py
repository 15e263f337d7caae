# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Requests one by one: the traces of the models and of what calls them (Llama Stack, gateways)."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from .parts import Query, Row, TraceQL, assemble, choice, data_source, graph, service_map, traces, values_of

UID = "tempo-trace-explorer"
SERVICE = 'resource.service.name =~ "${service:pipe}"'
SPANS = 'service_name=~"$service"'
NO_SPANS = "No spans of these services in this time range"
NO_TRACES = "No such traces of these services in this time range"
PROBE = "model-monitoring-probe"
"""Service of the spans by which the collection proves that traces arrive; they are nobody's requests."""
SILENT = {"may_be_empty": "no service sends traces.", "only_if": f'absent(traces_span_metrics_calls_total{{service_name!="{PROBE}"}})'}
INFERENCE = "chat|text_completion|generate_content"
# Llama Stack's and LangChain's spans of a retrieval have no operation name, but speak of it in their own.
RETRIEVAL = "(?i).*(retriev|vector|rag[._]).*"


def p95(selector: str, by: str) -> str:
    """Duration that 95 % of the spans stayed below."""
    return f"histogram_quantile(0.95, sum by (le{by}) (rate(traces_span_metrics_duration_seconds_bucket{{{SPANS}, {selector}}}[$__rate_interval])))"


def dashboard() -> Dashboard:
    """The dashboard."""
    tokens = "span.gen_ai.usage.{}_tokens"
    recent = [
        traces(
            "Recent traces",
            "The newest traces in which the chosen services took part. The trace id opens the trace.",
            TraceQL(f"{{ {SERVICE} }}"),
            no_value=NO_TRACES,
            **SILENT,
        ),
        traces(
            "Slow traces",
            "Traces with a span of the chosen services that took longer than the threshold above.",
            TraceQL(f"{{ {SERVICE} && duration > $slow }}"),
            width=12,
            no_value=NO_TRACES,
            may_be_empty="no request took that long.",
        ),
        traces(
            "Failed traces",
            "Traces with a span of the chosen services that ended in an error.",
            TraceQL(f"{{ {SERVICE} && status = error }}"),
            width=12,
            no_value=NO_TRACES,
            may_be_empty="no request failed.",
        ),
    ]
    operations = [
        graph(
            "Latency by operation, p95",
            "What 95 % of an operation's spans stayed below, by the collector's span metrics. Each dot is a span: click it to open its trace.",
            "s",
            Query(p95('span_name!=""', ", service_name, span_name"), "{{service_name}} {{span_name}}", exemplar=True),
            width=12,
            no_value=NO_SPANS,
            **SILENT,
        ),
        graph(
            "Spans by operation",
            "Spans per second of each operation, from the collector's span metrics.",
            "cps",
            Query(
                f"sum by (service_name, span_name) (rate(traces_span_metrics_calls_total{{{SPANS}}}[$__rate_interval]))",
                "{{service_name}} {{span_name}}",
            ),
            width=12,
            no_value=NO_SPANS,
            **SILENT,
        ),
        service_map(
            "Service map",
            "Who calls whom, how often and how fast, from the collector's service graph.",
            f'{{client!="{PROBE}",server!="{PROBE}"}}',
            no_value="No calls between services in this time range",
            may_be_empty="fewer than two services send traces.",
            only_if=f'count(count by (service_name) (traces_span_metrics_calls_total{{service_name!="{PROBE}"}})) < 2 or {SILENT["only_if"]}',
        ),
    ]
    genai = [
        traces(
            "Tokens of requests",
            "Spans of requests to models with the tokens of prompt and answer, by their GenAI attributes.",
            TraceQL(
                f"{{ {SERVICE} && ({tokens.format('output')} > 0 || {tokens.format('completion')} > 0) }} | select(name, span.gen_ai.request.model, "
                f"{', '.join(tokens.format(name) for name in ('input', 'output', 'prompt', 'completion'))})",
                spans=True,
            ),
            no_value=NO_TRACES,
            may_be_empty="no request to a model has been traced.",
            only_if='absent(traces_span_metrics_calls_total{gen_ai_operation_name!=""})',
        ),
        graph(
            "Retrieval and inference, p95",
            "How the time of RAG requests divides: looking documents up, and the model's answer.",
            "s",
            Query(p95(f'span_name=~"{RETRIEVAL}"', ""), "retrieval"),
            Query(p95(f'gen_ai_operation_name=~"{INFERENCE}"', ""), "inference"),
            width=12,
            no_value=NO_SPANS,
            may_be_empty="no request retrieves documents.",
        ),
        traces(
            "RAG requests",
            "Traces with both a retrieval and an inference, with the spans of both and how long they took.",
            TraceQL(
                f'({{ {SERVICE} && name =~ "{RETRIEVAL}" }} && {{ span.gen_ai.operation.name =~ "{INFERENCE}" }})'
                " | select(name, span.gen_ai.operation.name)",
                spans=True,
            ),
            width=12,
            no_value=NO_TRACES,
            may_be_empty="no request retrieves documents.",
        ),
    ]
    variables = [
        data_source("tempo", "Tempo"),
        data_source("prometheus", "Prometheus"),
        values_of("service", "Service", "traces_span_metrics_calls_total", "service_name", regex=f"/^(?!{PROBE}$).*$/"),
        choice("slow", "Slow is longer than", ["1s", "200ms", "500ms", "2s", "5s", "10s", "30s"], "Threshold of the table of slow traces."),
    ]
    return assemble(
        UID,
        "Tempo trace explorer",
        "Requests one by one: the traces of the models and of what calls them.",
        variables,
        [Row("Traces", recent), Row("Operations and services", operations), Row("GenAI and RAG", genai)],
        since="now-1h",
    )
