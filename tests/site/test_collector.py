# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What the site's collector adds to what a pod sends, and what it shows to Prometheus."""

from __future__ import annotations

import time

from trials import SITE, Trial, until

PAGE = "otel-collector-collector:8889"


def test_telemetry_says_which_pod_it_is_from(converged):
    """The sender says nothing of itself but a service name; the rest is looked up by its address."""
    trial, since = Trial(), time.time()
    labels = {"serving.kserve.io/inferenceservice": "site-test"}
    # Long enough for the collector to hear of the pod: what comes before that has no name of it.
    run = trial.start("otel-collector", "--count=100", "--rate=10", "--service=site-test", namespace=SITE, labels=labels)
    assert trial.outcome(run, 60).accepted == 100

    def named() -> dict[str, str] | None:
        for trace in trial.traces(run, since):
            resource = (trace.get("batches") or trace["resourceSpans"])[0]["resource"]
            found = {item["key"]: item["value"].get("stringValue") for item in resource["attributes"]}
            if "k8s.pod.name" in found:
                return found
        return None

    found = until(named, "a trace in Tempo that names its pod", 60)
    assert found["k8s.pod.name"].startswith(run)
    assert (found["k8s.namespace.name"], found["kserve.inferenceservice.name"]) == (SITE, "site-test")

    def counted() -> bool:
        page = trial.read(SITE, PAGE, "/metrics").decode()
        rows = [row for row in page.splitlines() if row.startswith("traces_span_metrics_calls_total") and 'service_name="site-test"' in row]
        return any(f'k8s_namespace_name="{SITE}"' in row for row in rows)

    until(counted, "its spans are counted on the page for Prometheus", 60)
