# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What role trustyai makes."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _trustyai

from roles import ROOT, Role, evaluating

ROLE = Role("trustyai")
CONFIG = {"chat_generation": {"service": {"hostname": "m.demo.svc", "port": 8000}}}
GUARDRAILS = {"trustyai_guardrails": True, "trustyai_guardrails_config": CONFIG}


def kinds(**site):
    return [f"{item['kind']} {item['metadata']['name']}" for item in ROLE.manifests(**site)]


def one(kind, **site):
    (found,) = [item for item in ROLE.manifests(**site) if item["kind"] == kind]
    return found


@pytest.mark.parametrize(
    ("site", "made"),
    [
        ({}, ["TrustyAIService trustyai-service"]),
        ({"trustyai_service": False}, []),
        ({"trustyai_monitor": True}, ["TrustyAIService trustyai-service", "ServiceMonitor model-monitoring-trustyai"]),
        ({"trustyai_storage": "database"}, ["Secret trustyai-service-database", "TrustyAIService trustyai-service"]),
        ({"trustyai_storage": "database", "trustyai_database_secret_exists": True}, ["TrustyAIService trustyai-service"]),
        (
            {**GUARDRAILS, "trustyai_service": False, "trustyai_guardrails_secrets": [{"name": "a", "keys": {}}, {"name": "b", "keys": {}}]},
            ["Secret a", "Secret b", "ConfigMap guardrails-orchestrator-config", "GuardrailsOrchestrator guardrails-orchestrator"],
        ),
    ],
)
def test_what_is_made(site, made):
    assert kinds(**site) == made


def test_storage():
    assert one("TrustyAIService")["spec"]["storage"] == {"format": "PVC", "folder": "/inputs", "size": "10Gi"}
    spec = one("TrustyAIService", trustyai_storage="database", trustyai_service_schedule="1m")["spec"]
    assert spec["storage"] == {"format": "DATABASE", "size": "10Gi", "databaseConfigurations": "trustyai-service-database"}
    assert spec["metrics"] == {"schedule": "1m", "batchSize": 5000}
    assert "folder" not in str(spec)  # both would be a migration


def test_credentials_are_in_no_manifest():
    secret = one(
        "Secret", trustyai_storage="database", trustyai_database_service="db", trustyai_database_username="u", trustyai_database_password="p"
    )
    assert set(secret["stringData"]) == {"databaseKind", "databaseService", "databasePort", "databaseName", "databaseGeneration"}
    assert secret["stringData"]["databasePort"] == "3306"
    data = ROLE.value("__trustyai_database_data", trustyai_storage="database", trustyai_database_username="u", trustyai_database_password="p")
    assert data == {"trustyai-service-database": {"databaseUsername": "u", "databasePassword": "p"}}
    assert ROLE.value("__trustyai_database_data") == {}


def crd(*fields):
    properties = {"spec": {"properties": {"otelExporter": {"properties": dict.fromkeys(fields, {})}}}}
    return {"resources": [{"spec": {"versions": [{"name": "v1alpha1", "served": True, "schema": {"openAPIV3Schema": {"properties": properties}}}]}}]}


@pytest.mark.parametrize(
    ("fields", "exporter"),
    [
        (("protocol", "otlpEndpoint"), {"protocol": "grpc", "otlpEndpoint": "http://c-collector.demo.svc:4317", "otlpExport": "all"}),
        (
            ("otlpProtocol", "enableTraces"),
            {
                "otlpProtocol": "grpc",
                "otlpTracesEndpoint": "http://c-collector.demo.svc:4317",
                "otlpMetricsEndpoint": "http://c-collector.demo.svc:4317",
                "enableTraces": True,
                "enableMetrics": True,
            },
        ),
    ],
)
def test_telemetry_of_guardrails_by_the_names_of_this_cluster(fields, exporter):
    site = {**GUARDRAILS, "otel_collector_name": "c", "otel_collector_namespace": "demo", "__trustyai_guardrails_crd": crd(*fields)}
    spec = one("GuardrailsOrchestrator", **site)["spec"]
    assert spec["otelExporter"] == exporter
    assert spec["enableBuiltInDetectors"] is True
    assert yaml.safe_load(one("ConfigMap", **site)["data"]["config.yaml"]) == CONFIG


def test_of_the_dashboard_one_field_is_ours():
    found = {"resources": [{"metadata": {"name": "odh-dashboard-config"}}]}
    assert yaml.safe_load(ROLE.text("odhdashboardconfig.yaml.j2", __trustyai_dashboards=found)) == {
        "apiVersion": "opendatahub.io/v1alpha",
        "kind": "OdhDashboardConfig",
        "metadata": {"name": "odh-dashboard-config", "namespace": "redhat-ods-applications"},
        "spec": {"dashboardConfig": {"disableLMEval": False}},
    }
    assert str(ROLE.value("__trustyai_dashboard_there")) == "False"
    assert ROLE.value("__trustyai_dashboard_there", __trustyai_dashboards=found) is True
    assert str(ROLE.value("__trustyai_dashboard_there", __trustyai_dashboards=found, trustyai_dashboard=False)) == "False"


def test_what_is_left_out_is_removed():
    assert [item["kind"] for item in ROLE.value("__trustyai_unwanted")] == ["ServiceMonitor", "GuardrailsOrchestrator", "ConfigMap"]
    assert ROLE.value("__trustyai_unwanted", trustyai_monitor=True, **GUARDRAILS) == []


@pytest.mark.parametrize(
    ("service", "wait", "missing", "asked"),
    [(True, True, [], True), (True, True, ["Deployment a/trustyai-service"], False), (True, False, None, False), (False, True, [], False)],
)
def test_the_service_is_asked_once_it_is_there_also_in_check_mode(service, wait, missing, asked):
    given = {"trustyai_service": service, "trustyai_wait": wait, "__trustyai_waited": {} if missing is None else {"missing": missing}}
    assert ROLE.applies("ready.yml", "Say which metrics are wanted", **given) is asked


@pytest.mark.parametrize(
    ("site", "said"),
    [
        ({"trustyai_service_schedule": "often"}, "trustyai_service_schedule: 'often' is no duration"),
        ({"trustyai_storage": "database"}, "trustyai_database_service is empty"),
        ({"trustyai_service": False, "trustyai_metric_requests": [{"metric": "spd", "request": {"modelId": "a"}}]}, "there is no service to ask"),
        (
            {"trustyai_wait": False, "trustyai_metric_requests": [{"metric": "spd", "request": {"modelId": "a"}}]},
            "Set trustyai_wait to true, or leave them out",
        ),
        ({"trustyai_metric_requests": [{"metric": "spd", "request": {}}]}, "each request needs the modelId"),
        ({"trustyai_guardrails": True}, "trustyai_guardrails_config is empty"),
    ],
)
def test_bad_input(site, said):
    (found,) = ROLE.checks(**site)
    assert said in found


def test_good_input():
    assert ROLE.checks() == []
    assert ROLE.checks(trustyai_storage="database", trustyai_database_secret_exists=True) == []


def test_the_metrics_are_those_of_the_module():
    options = yaml.safe_load((ROOT / "roles/trustyai/meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert set(options["trustyai_metric_requests"]["options"]["metric"]["choices"]) == set(_trustyai.PATHS)


@pytest.mark.parametrize("there", [True, False])
def test_secrets_of_guardrails_come_from_the_environment_and_a_missing_one_is_an_error(monkeypatch, there):
    secrets = [{"name": "a", "keys": {"token": "DETECTOR_A", "other": "DETECTOR_B"}}, {"name": "b", "keys": {"token": "DETECTOR_B"}}]
    monkeypatch.setenv("DETECTOR_A", "one")
    if there:
        monkeypatch.setenv("DETECTOR_B", "two")
    given = {**GUARDRAILS, "trustyai_guardrails_secrets": secrets, "trustyai_env_file": "/nowhere"}
    with evaluating("trustyai", **given) as evaluate:
        if there:
            assert evaluate("__trustyai_secret_data") == {"a": {"token": "one", "other": "two"}, "b": {"token": "two"}}
        else:
            with pytest.raises(AssertionError, match="DETECTOR_B is neither in the environment"):
                evaluate("__trustyai_secret_data")
