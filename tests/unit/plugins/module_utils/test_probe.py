# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What the probes share: the collector's counters and what they tell."""

from __future__ import annotations

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _probe
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._otlp import METRICS, TRACES
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._probe import Counters, Exporter


def counters(accepted: float = 3, refused: float = 0, instance: str | None = "a", **exporters: Exporter) -> Counters:
    return Counters(accepted, refused, exporters, instance)


PAGE = """\
# HELP otelcol_exporter_sent_spans Number of spans successfully sent to destination.
# TYPE otelcol_exporter_sent_spans counter
otelcol_exporter_sent_spans{exporter="otlp/tempo",service_instance_id="1f",service_name="otelcol"} 12
otelcol_exporter_sent_spans{exporter="debug",service_instance_id="1f",service_name="otelcol"} 1.2e+01
otelcol_exporter_send_failed_spans{exporter="otlp/tempo",service_instance_id="1f"} 4
otelcol_exporter_send_failed_metric_points{exporter="otlp/tempo",service_instance_id="1f"} 99
otelcol_exporter_enqueue_failed_spans{exporter="otlp/tempo",service_instance_id="1f"} 2
otelcol_exporter_queue_size{data_type="traces",exporter="otlp/tempo"} 7
otelcol_exporter_queue_size{data_type="metrics",exporter="otlp/tempo"} 55
otelcol_exporter_queue_capacity{data_type="traces",exporter="otlp/tempo"} 1000
otelcol_receiver_accepted_spans{receiver="otlp",transport="grpc"} 10
otelcol_receiver_accepted_spans{receiver="otlp",transport="http"} 8
otelcol_receiver_refused_spans{receiver="otlp",transport="grpc"} 1
otelcol_receiver_accepted_metric_points{receiver="otlp",transport="grpc"} 77
otelcol_process_uptime{service_instance_id="1f"} 3
"""


@pytest.mark.parametrize(
    "rename",
    [
        lambda text: text,
        lambda text: text.replace("_spans{", "_spans_total{"),
        lambda text: text.replace("_spans{", "_spans__spans__total{").replace("queue_size{", "queue_size__batches_{"),
    ],
    ids=["plain", "total", "unit and total"],
)
def test_counters_are_read_whatever_suffixes_the_names_have(rename) -> None:
    assert _probe.parse_counters(rename(PAGE), TRACES) == Counters(18, 1, {"otlp/tempo": Exporter(12, 4, 2, 7), "debug": Exporter(12)}, "1f")


def test_counters_of_another_signal_are_kept_apart() -> None:
    assert _probe.parse_counters(PAGE, METRICS) == Counters(77, 0, {"otlp/tempo": Exporter(failed=99, queued=55)}, "1f")


def test_counters_of_a_page_without_them_are_zero() -> None:
    assert _probe.parse_counters("go_goroutines 8\n", TRACES) == Counters()


def test_growth_is_the_difference_but_for_what_waits_now() -> None:
    before = counters(10, 1, tempo=Exporter(8, 1, 1, 5))
    after = counters(16, 1, tempo=Exporter(11, 4, 3, 3), new=Exporter(6))
    assert _probe.growth(before, after) == counters(6, 0, tempo=Exporter(3, 3, 2, 3), new=Exporter(6))


def test_growth_needs_no_name_of_the_instance() -> None:
    """A collector that has not counted anything yet may not say it."""
    assert _probe.growth(counters(0, instance=None), counters(3, instance="a")) == counters(3)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("gone", counters(), "gone"),
        (counters(), "gone", "gone"),
        (counters(instance="a"), counters(instance="b"), "two different instances"),
        (counters(9, instance=None), counters(3, instance=None), "went backwards"),
    ],
)
def test_growth_is_not_known_when_counters_cannot_be_compared(before, after, words) -> None:
    assert words in _probe.growth(before, after)


def test_explain_tells_the_same_loss_once() -> None:
    def proof(protocol, message):
        return {"protocol": protocol, "hop": message and "x", "message": message}

    assert _probe.explain(TRACES, [proof("grpc", "lost"), proof("http", "lost")]) == "trace sent over OTLP grpc and http: lost"
    assert _probe.explain(TRACES, [proof("grpc", None), proof("http", "lost")]) == "trace sent over OTLP http: lost"
    assert _probe.explain(TRACES, [proof("grpc", "a"), proof("http", "b")]) == "trace sent over OTLP grpc: a | trace sent over OTLP http: b"
