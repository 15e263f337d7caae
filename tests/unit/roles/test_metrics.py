# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What role metrics makes, for many choices of its variables. The rules themselves are tested with promtool, in tests/rules."""

from __future__ import annotations

import re

import pytest

from roles import Role

ROLE = Role("metrics")
EVERYTHING = {
    "metrics_gpu_alert": True,
    "metrics_dcgm_monitor": True,
    "metrics_minio_namespace": "model-storage",
    "metrics_minio_token_secret": "prometheus",
    "metrics_pushgateway_clients": ["monitoring"],
    "metrics_scrape_interval": "15s",
    "metrics_labels": {"release": "a"},
    "metrics_model_namespaces": ["private-ai-demo", "fraud"],
    "metrics_pushgateway_storage_class": "fast",
}


def named(manifests):
    return [f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}" for item in manifests]


def one(manifests, kind, name):
    (found,) = [item for item in manifests if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


DEFAULT = [
    "Namespace /private-ai-demo",
    "ServiceAccount private-ai-demo/pushgateway",
    "PersistentVolumeClaim private-ai-demo/pushgateway",
    "Deployment private-ai-demo/pushgateway",
    "Service private-ai-demo/pushgateway",
    "PodMonitor private-ai-demo/model-monitoring-models",
    "ServiceMonitor private-ai-demo/model-monitoring-collector",
    "ServiceMonitor private-ai-demo/model-monitoring-pushgateway",
    "PrometheusRule private-ai-demo/model-monitoring-models",
    "PrometheusRule private-ai-demo/model-monitoring-collector",
    "PrometheusRule private-ai-demo/model-monitoring-tempo",
    "PrometheusRule private-ai-demo/model-monitoring-pushgateway",
    "ServiceMonitor private-ai-demo/model-monitoring-tempo-tempo-distributor",
    "ServiceMonitor private-ai-demo/model-monitoring-tempo-tempo-ingester",
    "ServiceMonitor private-ai-demo/model-monitoring-tempo-tempo-querier",
    "ServiceMonitor private-ai-demo/model-monitoring-tempo-tempo-query-frontend",
    "ServiceMonitor private-ai-demo/model-monitoring-tempo-tempo-compactor",
]


def test_names_that_others_go_by():
    assert named(ROLE.manifests()) == DEFAULT


def test_everything():
    made = named(ROLE.manifests(**EVERYTHING))
    assert set(made) - set(DEFAULT) == {
        "PodMonitor fraud/model-monitoring-models",
        "PrometheusRule fraud/model-monitoring-models",
        "PrometheusRule private-ai-demo/model-monitoring-gpu",
        "PrometheusRule fraud/model-monitoring-gpu",
        "NetworkPolicy private-ai-demo/pushgateway",
        "ServiceMonitor nvidia-gpu-operator/model-monitoring-dcgm",
        "ServiceMonitor model-storage/model-monitoring-minio",
    }
    assert len(made) == len(set(made))


def test_a_monitor_selects_in_its_own_namespace_and_where_labels_are_wanted_all_have_them():
    for manifest in ROLE.manifests(**EVERYTHING):
        if manifest["kind"] in ("PodMonitor", "ServiceMonitor", "PrometheusRule"):
            assert "namespaceSelector" not in manifest["spec"]
            assert manifest["metadata"]["labels"]["release"] == "a"
        for endpoint in manifest.get("spec", {}).get("endpoints", []) + manifest.get("spec", {}).get("podMetricsEndpoints", []):
            assert endpoint["interval"] == "15s"


def test_a_rule_names_its_namespace_in_each_selector():
    """So that it says the same where Prometheus enforces the namespace and where it does not."""
    for manifest in ROLE.manifests(**EVERYTHING):
        namespace = manifest["metadata"].get("namespace")
        for group in manifest["spec"].get("groups", []) if manifest["kind"] == "PrometheusRule" else []:
            for rule in group["rules"]:
                selectors = re.findall(r"\{([^}]*)\}", rule["expr"])
                assert selectors
                for selector in selectors:
                    assert f'namespace="{namespace}"' in selector, rule["expr"]


def test_where_rules_are_evaluated():
    scope = {
        item["metadata"]["name"]: item["metadata"]["labels"].get("openshift.io/prometheus-rule-evaluation-scope")
        for item in ROLE.manifests(**EVERYTHING)
        if item["kind"] == "PrometheusRule"
    }
    assert scope == {f"model-monitoring-{name}": "leaf-prometheus" for name in ("models", "collector", "tempo", "pushgateway")} | {
        "model-monitoring-gpu": None  # its series are not in the namespace's own Prometheus
    }


def test_models():
    spec = one(ROLE.manifests(), "PodMonitor", "model-monitoring-models")["spec"]
    assert [(endpoint["portNumber"], endpoint["path"]) for endpoint in spec["podMetricsEndpoints"]] == [(8080, "/metrics"), (8000, "/metrics")]
    condition = {"key": "serving.kserve.io/inferenceservice", "operator": "NotIn", "values": ["iris"]}
    endpoint = {"port": 8443, "path": "/m", "scheme": "https", "tls_config": {"insecureSkipVerify": False}}
    spec = one(ROLE.manifests(metrics_model_selector=[condition], metrics_model_endpoints=[endpoint]), "PodMonitor", "model-monitoring-models")[
        "spec"
    ]
    assert spec["selector"]["matchExpressions"][-1] == condition
    (made,) = spec["podMetricsEndpoints"]
    assert (made["portNumber"], made["path"], made["scheme"], made["tlsConfig"]) == (8443, "/m", "https", {"insecureSkipVerify": False})


def alerts(**inventory):
    models = [item for item in ROLE.manifests(**inventory) if item["kind"] == "PrometheusRule" and item["metadata"]["name"].endswith("-models")]
    return {item["metadata"]["namespace"]: {rule.get("alert") for rule in item["spec"]["groups"][0]["rules"]} for item in models}


def test_traces_are_looked_for_only_where_their_series_are():
    assert "ModelTracesMissing" in alerts()["private-ai-demo"]
    assert "ModelTracesMissing" not in alerts(metrics_model_traces=False)["private-ai-demo"]
    both = alerts(metrics_model_namespaces=["private-ai-demo", "fraud"])
    assert both["private-ai-demo"] - both["fraud"] == {"ModelTracesMissing"}


TEMPO = "model-monitoring-tempo-tempo"


@pytest.mark.parametrize("gateway", [False, True])
def test_tempo_stack_is_scraped_with_its_own_certificates(gateway):
    made = ROLE.manifests(metrics_tempo_gateway=gateway)
    (ingester,) = one(made, "ServiceMonitor", f"{TEMPO}-ingester")["spec"]["endpoints"]
    assert ingester == {
        "port": "http",
        "scheme": "https",
        "tlsConfig": {
            "ca": {"configMap": {"name": "tempo-tempo-ca-bundle", "key": "service-ca.crt"}},
            "cert": {"secret": {"name": "tempo-tempo-ingester-mtls", "key": "tls.crt"}},
            "keySecret": {"name": "tempo-tempo-ingester-mtls", "key": "tls.key"},
            "serverName": "tempo-tempo-ingester.private-ai-demo.svc.cluster.local",
        },
    }
    (frontend,) = one(made, "ServiceMonitor", f"{TEMPO}-query-frontend")["spec"]["endpoints"]
    assert (frontend.get("scheme") == "https") is gateway


def test_tempo_monolithic():
    made = ROLE.manifests(metrics_tempo_kind="TempoMonolithic")
    assert [name for name in named(made) if "monitoring-tempo-" in name] == [f"ServiceMonitor private-ai-demo/{TEMPO}"]
    assert one(made, "ServiceMonitor", TEMPO)["spec"]["endpoints"] == [{"port": "http"}]


TEMPOS = {
    "none": ("TempoStack", [], False),
    "without monitors": ("TempoStack", [{"spec": {"retention": {}}}], False),
    "switched off": ("TempoStack", [{"spec": {"observability": {"metrics": {"createServiceMonitors": False}}}}], False),
    "with monitors": ("TempoStack", [{"spec": {"observability": {"metrics": {"createServiceMonitors": True}}}}], True),
    "monolithic without": ("TempoMonolithic", [{"spec": {"observability": {"metrics": {}}}}], False),
    "monolithic with": ("TempoMonolithic", [{"spec": {"observability": {"metrics": {"serviceMonitors": {"enabled": True}}}}}], True),
    "monolithic with labels": (
        "TempoMonolithic",
        [{"spec": {"observability": {"metrics": {"serviceMonitors": {"enabled": True, "extraLabels": {"a": "b"}}}}}}],
        True,
    ),
}


@pytest.mark.parametrize(("kind", "found", "monitored"), TEMPOS.values(), ids=TEMPOS.keys())
def test_tempo_is_not_scraped_twice(kind, found, monitored):
    inventory = {"metrics_tempo_kind": kind, "__metrics_tempo": {"resources": found}}
    assert ROLE.value("__metrics_tempo_monitored", **inventory) is monitored
    assert any("monitoring-tempo-" in name for name in named(ROLE.manifests(**inventory))) is not monitored
    assert ("servicemonitor-tempo.yaml.j2" in ROLE.value("__metrics_unwanted_templates", **inventory)) is monitored


@pytest.mark.parametrize("openshift", [False, True])
def test_pushgateway(openshift):
    made = ROLE.manifests(__metrics_cluster={"openshift": openshift}, **EVERYTHING)
    pod = one(made, "Deployment", "pushgateway")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert ("fsGroup" in pod["securityContext"]) is not openshift
    (container,) = pod["containers"]
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    (monitored,) = one(made, "ServiceMonitor", "model-monitoring-pushgateway")["spec"]["endpoints"]
    assert monitored["honorLabels"] is True
    policy = one(made, "NetworkPolicy", "pushgateway")["spec"]
    assert policy["ingress"][0]["from"] == [
        {"podSelector": {}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
    ]


CRD = [{"name": "prometheus", "crds": [{"name": "prometheusrules.monitoring.coreos.com"}]}]
MISSING = {
    "none": ({"kinds": []}, {}, ["PodMonitor", "PrometheusRule", "ServiceMonitor"]),
    "some": ({"kinds": ["ServiceMonitor", "PrometheusRule"]}, {}, ["PodMonitor"]),
    "all": ({"kinds": ["ServiceMonitor", "PrometheusRule", "PodMonitor", "Prometheus"]}, {}, []),
    "an operator brings them": ({"kinds": []}, {"operators_list": CRD}, []),
    "operators bring others": ({"kinds": []}, {"operators_list": [{"name": "tempo"}]}, ["PodMonitor", "PrometheusRule", "ServiceMonitor"]),
}


@pytest.mark.parametrize(("cluster", "inventory", "missing"), MISSING.values(), ids=MISSING.keys())
def test_a_prometheus_operator_is_missing(cluster, inventory, missing):
    assert ROLE.value("__metrics_missing_kinds", __metrics_cluster=cluster, **inventory) == missing


def test_namespaces_that_are_not_made_here():
    assert ROLE.value("__metrics_foreign_namespaces") == []
    assert ROLE.value("__metrics_foreign_namespaces", **EVERYTHING) == ["fraud", "model-storage", "nvidia-gpu-operator"]


GOOD = ("5m", "1h30m", "90s", "1d", "500ms", "1w2d")
BAD = ("", "5", "5 m", "m", "1m1h", "5min", "five", "-5m", "1.5h", "5m ", "5m\n")


@pytest.mark.parametrize("variable", ["metrics_rate_window", "metrics_alert_for", "metrics_silence_for", "metrics_scrape_interval"])
def test_durations(variable):
    for duration in GOOD:
        assert ROLE.checks(**{variable: duration}) == []
    for duration in BAD:
        if duration or variable != "metrics_scrape_interval":
            (said,) = ROLE.checks(**{variable: duration})
            assert said.startswith(f"{variable}: '{duration}' is no duration of Prometheus. Give it without spaces, as ")


def test_no_duration_at_all():
    assert ROLE.checks(metrics_alert_for="0s", metrics_silence_for="0s") == []
    assert len(ROLE.checks(metrics_rate_window="0s", metrics_scrape_interval="0s")) == 2


@pytest.mark.parametrize("variable", ["metrics_error_ratio", "metrics_kv_cache_ratio", "metrics_collector_queue_ratio"])
def test_ratios(variable):
    assert ROLE.checks(**{variable: "0.5"}) == ROLE.checks(**{variable: 0.999}) == []
    for value in (0, 1, 5, -0.1, "a"):
        (said,) = ROLE.checks(**{variable: value})
        assert said.startswith(f"{variable}: {value} is no share of ")


def test_objective_and_endpoints():
    assert ROLE.checks() == []
    assert ROLE.checks(metrics_ttft_objective=0) == ["metrics_ttft_objective: 0 is no time to the first token. Give seconds, as 2.0."]
    (said,) = ROLE.checks(metrics_model_endpoints=[])
    assert said.startswith("metrics_model_endpoints is empty")
