# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What role verify expects is what role metrics makes."""

from __future__ import annotations

import pytest

from roles import Role

VERIFY, METRICS = Role("verify"), Role("metrics")
SITES = [
    {},
    {"metrics_dcgm_monitor": True, "metrics_minio_namespace": "model-storage", "metrics_model_namespaces": ["private-ai-demo", "fraud"]},
    {"tempo_storage_kind": "TempoMonolithic", "tempo_storage_name": "small", "model_monitoring_namespace": "other"},
]


@pytest.mark.parametrize("site", SITES, ids=["defaults", "more of all", "other names"])
def test_the_monitors_that_are_expected_are_those_that_are_made(site) -> None:
    made = {
        (item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]) for item in METRICS.manifests(**site) if "Monitor" in item["kind"]
    }
    expected = VERIFY.value("__verify_monitors", **site)
    assert {(one["kind"], one["namespace"], one["name"]) for one in expected} == made
    assert {one["name"] for one in expected if one.get("required", True)} >= {"model-monitoring-collector", "model-monitoring-pushgateway"}


def test_every_figure_of_a_model_that_is_recorded_is_expected() -> None:
    recorded = {
        rule["record"]
        for item in METRICS.manifests()
        if (item["kind"], item["metadata"]["name"]) == ("PrometheusRule", "model-monitoring-models")
        for group in item["spec"]["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    assert len(recorded) == 11
    assert {one["query"] for one in VERIFY.value("__verify_rules")} == recorded


def test_each_model_that_serves_is_expected_under_the_name_that_clients_use() -> None:
    found = {
        "inference_services": [
            {"name": "mistral-24b", "namespace": "demo", "model": "mistral-24b", "ready": True},
            {"name": "other", "namespace": "fraud", "model": "mistralai/Mistral-7B", "ready": True},
            {"name": "late", "namespace": "demo", "model": "late", "ready": False},
        ]
    }
    series = [{"namespace": "demo", "model_name": "mistral-24b"}, {"namespace": "fraud", "model_name": "mistralai/Mistral-7B"}]
    assert VERIFY.value("__verify_series", __verify_info=found) == series
    queries = VERIFY.value("__verify_queries", __verify_info=found, verify_queries=[{"name": "mine", "query": "up"}])
    assert [one["expected"] for one in queries[:-1]] == [series] * 11 and queries[-1] == {"name": "mine", "query": "up"}
    assert VERIFY.value("__verify_series") == []


def test_models_are_looked_for_where_and_as_the_site_says() -> None:
    assert VERIFY.value("__verify_model_places") == [{"namespace": "private-ai-demo"}]
    places = VERIFY.value("__verify_model_places", metrics_model_namespaces=["a", "b"], verify_model_selectors=["vllm=true"])
    assert places == [{"namespace": "a", "label_selectors": ["vllm=true"]}, {"namespace": "b", "label_selectors": ["vllm=true"]}]
