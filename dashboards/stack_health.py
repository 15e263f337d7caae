# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether the monitoring itself is well: what is scraped, the collector, Tempo and its bucket, tokens, evaluations, alerts."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from .parts import AMBER, GREEN, RED, Column, Query, Row, assemble, data_source, figure, graph, grid, values_of

UID = "stack-health"
HERE = 'namespace=~"$namespace"'
NO_COLLECTOR = "No metrics of the collector: is it running, and is it scraped?"
NO_TEMPO = "No metrics of Tempo: is it running, and is it scraped?"
ACCEPTED = "otelcol_receiver_accepted_spans_total"
LOST = {
    "refused": "otelcol_receiver_refused_spans_total",
    "failed": "otelcol_exporter_send_failed_spans_total",
    "queue full": "otelcol_exporter_enqueue_failed_spans_total",
}
UP = {"0": ("Down", RED), "1": ("Up", GREEN)}


def rate(series: str, by: str) -> str:
    """A counter's growth per second."""
    return f"sum by ({by}) (rate({series}{{{HERE}}}[$__rate_interval]))"


def lost(series: str) -> str:
    """The rate of a counter that exists only once something was lost: else zero, where the collector is seen at all."""
    return f"sum(rate({series}{{{HERE}}}[$__rate_interval])) or 0 * sum(rate({ACCEPTED}{{{HERE}}}[$__rate_interval]))"


def dashboard() -> Dashboard:
    """The dashboard."""
    now = [
        figure(
            "Targets down",
            "Scrape targets that did not answer the last time.",
            "short",
            Query(f"sum(up{{{HERE}}} == bool 0)"),
            steps=((None, GREEN), (1, RED)),
            no_value="Nothing is scraped",
        ),
        figure(
            "Collector's queue",
            "How full the fullest queue of the collector's exporters is. What does not fit is lost.",
            "percentunit",
            Query(f"max(otelcol_exporter_queue_size{{{HERE}}} / otelcol_exporter_queue_capacity{{{HERE}}})"),
            steps=((None, GREEN), (0.5, AMBER), (0.8, RED)),
            decimals=0,
            no_value=NO_COLLECTOR,
        ),
        figure(
            "Spans lost",
            "Spans per second that the collector refused or could not hand on, in the last 5 minutes.",
            "cps",
            Query(" + ".join(f"({lost(series)})" for series in LOST.values())),
            steps=((None, GREEN), (0.001, RED)),
            decimals=1,
            no_value=NO_COLLECTOR,
        ),
        figure(
            "Alerts firing",
            "Alerts of the chosen namespaces that fire now.",
            "short",
            Query(f'count(ALERTS{{{HERE}, alertstate="firing"}}) or 0 * count(up{{{HERE}}})'),
            steps=((None, GREEN), (1, RED)),
            no_value="Nothing is scraped",
        ),
        figure(
            "Token ends in",
            "Time until the first of the stack's tokens ends. Grafana's is renewed long before; when it ends, every panel goes blank.",
            "s",
            Query("min(model_monitoring_token_expiry_timestamp_seconds{" + HERE + "}) - time()"),
            steps=((None, RED), (3600, AMBER), (6 * 3600, GREEN)),
            decimals=1,
            no_value="No token to renew",
            may_be_empty="Grafana reads its Prometheus without a token, or nobody has renewed it yet: that happens once a day.",
        ),
        figure(
            "Age of evaluations",
            "How long ago the newest evaluation result was written.",
            "s",
            Query("time() - max(lm_eval_newest_result_timestamp_seconds{" + HERE + "})"),
            steps=((None, GREEN), (7 * 86400, AMBER), (30 * 86400, RED)),
            decimals=1,
            no_value="No evaluation yet",
            may_be_empty="no evaluation has finished yet.",
        ),
    ]
    alert = "alertname, severity, model_name, namespace"
    targets = [
        grid(
            "Targets",
            "What Prometheus scrapes, and whether it answered the last time: the worst target of each job.",
            "none",
            {"namespace": "Namespace", "job": "Job"},
            Query(f"min by (namespace, job) (up{{{HERE}}})", "State"),
            Query(f"count by (namespace, job) (up{{{HERE}}})", "Targets"),
            width=12,
            columns={"State": Column(mappings=UP), "Targets": Column(unit="short", decimals=0)},
            no_value="Nothing is scraped",
        ),
        grid(
            "Alerts",
            "Alerts of the chosen namespaces that fire or are about to. The rules are Prometheus'; their runbooks say what to do.",
            "none",
            {"alertname": "Alert", "alertstate": "State", "severity": "Severity", "model_name": "Model", "namespace": "Namespace"},
            Query(
                f"(time() - max by ({alert}) (ALERTS_FOR_STATE{{{HERE}}}))"
                f" * on ({alert}) group_right () max by ({alert}, alertstate) (ALERTS{{{HERE}}})",
                "Active for",
            ),
            width=12,
            columns={"Active for": Column(unit="s", decimals=0)},
            no_value="No alert",
            may_be_empty="no alert fires, which is good.",
        ),
    ]
    collector = [
        graph(
            "Spans through the collector",
            "Spans per second that the collector took, and that each exporter handed on.",
            "cps",
            Query(rate(ACCEPTED, "receiver"), "in: {{receiver}}"),
            Query(rate("otelcol_exporter_sent_spans_total", "exporter"), "out: {{exporter}}"),
            no_value=NO_COLLECTOR,
        ),
        graph(
            "Spans lost by the collector",
            "Spans per second that were refused on the way in (memory limit), failed on the way out, or did not fit into the queue.",
            "cps",
            *(Query(lost(series), name) for name, series in LOST.items()),
            no_value=NO_COLLECTOR,
        ),
        graph(
            "Queue of each exporter",
            "How full the queue of each exporter is.",
            "percentunit",
            Query(
                f"max by (exporter, data_type) (otelcol_exporter_queue_size{{{HERE}}} / otelcol_exporter_queue_capacity{{{HERE}}})",
                "{{exporter}} {{data_type}}",
            ),
            top=1,
            no_value=NO_COLLECTOR,
        ),
        graph(
            "Memory of the collector",
            "What each pod of the collector holds in memory.",
            "bytes",
            Query(f"max by (pod) (otelcol_process_memory_rss_bytes{{{HERE}}})", "{{pod}}"),
            no_value=NO_COLLECTOR,
        ),
        graph(
            "Spans into Tempo",
            "Spans per second that Tempo's distributor took.",
            "cps",
            Query(rate("tempo_distributor_spans_received_total", "tenant"), "{{tenant}}"),
            no_value=NO_TEMPO,
        ),
        graph(
            "Tempo's flushes",
            "Blocks per second that the ingesters wrote to the bucket, and attempts that failed. In quiet times a block takes up to half an hour.",
            "cps",
            Query(rate("tempo_ingester_blocks_flushed_total", "namespace"), "flushed"),
            Query(rate("tempo_ingester_failed_flushes_total", "namespace"), "failed"),
            no_value=NO_TEMPO,
        ),
    ]
    storage = [
        graph(
            "Traces in the bucket",
            "Size of the blocks in Tempo's bucket, by Tempo's own count.",
            "bytes",
            Query(f'max by (tenant) (tempodb_backend_bytes_total{{{HERE}, status="live"}})', "{{tenant}}"),
            width=12,
            no_value="No block in the bucket yet",
            may_be_empty="Tempo has not written its first block yet, which takes up to half an hour.",
        ),
        graph(
            "Size of buckets",
            "What is in each bucket by MinIO's count, old versions included.",
            "bytes",
            Query('max by (bucket) (minio_bucket_usage_total_bytes{bucket=~"$bucket"})', "{{bucket}}"),
            width=12,
            no_value="No metrics of the object store",
            may_be_empty="the object store is not MinIO, is not scraped, or has not counted yet.",
        ),
        graph(
            "Tokens end in",
            "Time until each of the stack's tokens ends.",
            "s",
            Query(f"min by (token) (model_monitoring_token_expiry_timestamp_seconds{{{HERE}}}) - time()", "{{token}}"),
            width=12,
            no_value="No token to renew",
            may_be_empty="Grafana reads its Prometheus without a token, or nobody has renewed it yet: that happens once a day.",
        ),
        graph(
            "Age of evaluation results",
            "How long ago the newest evaluation result was written.",
            "s",
            Query(f"time() - max by (namespace) (lm_eval_newest_result_timestamp_seconds{{{HERE}}})", "{{namespace}}"),
            width=12,
            no_value="No evaluation yet",
            may_be_empty="no evaluation has finished yet.",
        ),
    ]
    variables = [
        data_source("prometheus", "Prometheus"),
        values_of("namespace", "Namespace", "otelcol_exporter_queue_capacity", "namespace"),
        values_of("bucket", "Bucket", "minio_bucket_usage_total_bytes", "bucket"),
    ]
    return assemble(
        UID,
        "Stack health",
        "Whether the monitoring itself is well.",
        variables,
        [
            Row("Now", now),
            Row("Targets and alerts", targets),
            Row("From the collector to Tempo", collector),
            Row("Storage, tokens, evaluations", storage),
        ],
        since="now-1h",
    )
