# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What role grafana makes of its variables."""

from __future__ import annotations

import json

import pytest
import yaml

from roles import evaluating

DASHBOARD = json.dumps({"uid": "my_Dashboard", "title": "Mine", "panels": []})
ROUTES = {"__grafana_routes": {"api_found": True, "resources": []}}
INGRESSES = {"__grafana_ingress_classes": {"resources": [{"metadata": {"name": "nginx"}}]}}
PLAIN = {"grafana_prometheus_url": "http://prometheus-operated.monitoring.svc:9090"}


@pytest.fixture(scope="module")
def evaluate():
    with evaluating("grafana") as evaluate:
        yield evaluate


@pytest.fixture
def make(tmp_path, evaluate):
    """The objects of the role by kind and name; with one dashboard."""
    (tmp_path / "mine.json").write_text(DASHBOARD)

    def make(**given):
        given = {"__grafana_own_dashboards": [], "grafana_dashboards": [{"file": str(tmp_path / "mine.json")}], **given}
        texts = evaluate("__grafana_first_manifests + __grafana_manifests", **given)
        objects = [item for text in texts for item in yaml.safe_load_all(text) if item]
        made = {f"{item['kind']} {item['metadata']['name']}": item for item in objects}
        assert len(made) == len(objects)
        return made

    return make


def container(grafana, name="grafana", kind="containers"):
    (found,) = (one for one in grafana["spec"]["deployment"]["spec"]["template"]["spec"][kind] if one["name"] == name)
    return found


def test_on_openshift(make):
    made = make(**ROUTES)
    assert set(made) == {
        "Namespace private-ai-demo", "Secret grafana-admin-credentials", "ServiceAccount grafana-datasources",
        "ClusterRoleBinding private-ai-demo-grafana-datasources-prometheus", "NetworkPolicy grafana", "Grafana grafana",
        "GrafanaDatasource prometheus", "GrafanaDatasource tempo", "GrafanaFolder model-monitoring", "GrafanaDashboard my-dashboard",
        "ServiceAccount grafana-token-renewal", "Role grafana-token-renewal", "RoleBinding grafana-token-renewal",
        "CronJob grafana-token-renewal", "Route grafana",
    }  # fmt: skip
    assert made["Route grafana"]["spec"]["tls"] == {"termination": "edge", "insecureEdgeTerminationPolicy": "Redirect"}
    assert "host" not in made["Route grafana"]["spec"], "the router chooses it"
    assert made["ClusterRoleBinding private-ai-demo-grafana-datasources-prometheus"]["roleRef"]["name"] == "cluster-monitoring-view"
    datasource = made["GrafanaDatasource prometheus"]["spec"]
    assert datasource["uid"] == "prometheus"
    assert datasource["datasource"]["url"] == "https://thanos-querier.openshift-monitoring.svc:9091"
    assert datasource["datasource"]["jsonData"]["tlsAuthWithCACert"] is True
    assert "tlsSkipVerify" not in json.dumps(datasource)
    assert datasource["datasource"]["secureJsonData"] == {"httpHeaderValue1": "Bearer ${token}", "tlsCACert": "${service-ca.crt}"}
    assert [list(one["valueFrom"].values())[0] for one in datasource["valuesFrom"]] == [
        {"name": "grafana-datasources-token", "key": "token"},
        {"name": "openshift-service-ca.crt", "key": "service-ca.crt"},
    ]
    # The namespace's own users are taken there.
    assert "securityContext" not in made["Grafana grafana"]["spec"]["deployment"]["spec"]["template"]["spec"]


def test_on_plain_kubernetes_with_a_given_prometheus(make):
    made = make(**PLAIN)
    kinds = {name.split()[0] for name in made}
    assert kinds.isdisjoint({"Route", "Ingress", "CronJob", "ServiceAccount", "ClusterRoleBinding", "Role"})
    datasource = made["GrafanaDatasource prometheus"]["spec"]
    assert datasource["datasource"]["url"] == PLAIN["grafana_prometheus_url"]
    assert not {"valuesFrom"} & set(datasource)
    assert not {"secureJsonData"} & set(datasource["datasource"])
    assert not {"httpHeaderName1", "tlsAuthWithCACert"} & set(datasource["datasource"]["jsonData"])
    pod = made["Grafana grafana"]["spec"]["deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"] == {"runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001}
    assert pod["automountServiceAccountToken"] is False


def test_an_ingress_where_there_are_no_routes(make):
    made = make(**PLAIN, **INGRESSES)
    assert made["Ingress grafana"]["spec"] == {
        "rules": [
            {
                "http": {
                    "paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "grafana-service", "port": {"name": "grafana"}}}}]
                }
            }
        ]
    }
    made = make(**PLAIN, **INGRESSES, grafana_host="grafana.example.com", grafana_ingress_tls_secret="tls", grafana_ingress_class="nginx")
    spec = made["Ingress grafana"]["spec"]
    assert (spec["ingressClassName"], spec["tls"]) == ("nginx", [{"secretName": "tls", "hosts": ["grafana.example.com"]}])
    assert spec["rules"][0]["host"] == "grafana.example.com"
    assert made["Grafana grafana"]["spec"]["config"]["server"] == {"root_url": "https://grafana.example.com/"}
    assert "Ingress grafana" not in make(**PLAIN, **INGRESSES, grafana_expose="none")


@pytest.mark.parametrize(
    ("given", "sources"),
    [
        ({}, [({"kubernetes.io/metadata.name": "grafana-operator"}, 3000)]),
        (ROUTES, [({"kubernetes.io/metadata.name": "grafana-operator"}, 3000), ({"policy-group.network.openshift.io/ingress": ""}, 3000)]),
        (
            {**ROUTES, "grafana_openshift_login": True},
            [({"kubernetes.io/metadata.name": "grafana-operator"}, 3000), ({"policy-group.network.openshift.io/ingress": ""}, 9091)],
        ),
        (INGRESSES, [({"kubernetes.io/metadata.name": "grafana-operator"}, 3000), ({"kubernetes.io/metadata.name": "ingress-nginx"}, 3000)]),
    ],
)
def test_who_is_let_in(make, given, sources):
    spec = make(**PLAIN, **given)["NetworkPolicy grafana"]["spec"]
    assert (spec["podSelector"], spec["policyTypes"]) == ({"matchLabels": {"app": "grafana"}}, ["Ingress"])
    found = [(rule["from"][0]["namespaceSelector"]["matchLabels"], rule["ports"][0]["port"]) for rule in spec["ingress"]]
    assert found == sources
    assert all(len(rule["from"]) == len(rule["ports"]) == 1 for rule in spec["ingress"])


def test_the_password_is_generated_and_nowhere_in_a_manifest(make, evaluate):
    made = make(**ROUTES)
    assert made["Secret grafana-admin-credentials"]["stringData"] == {"GF_SECURITY_ADMIN_USER": "admin"}
    assert evaluate("__grafana_generated") == {"grafana-admin-credentials": ["GF_SECURITY_ADMIN_PASSWORD"]}
    spec = made["Grafana grafana"]["spec"]
    assert spec["disableDefaultAdminSecret"] is True
    assert "admin_password" not in json.dumps(spec)
    assert spec["config"]["auth.anonymous"] == {"enabled": "false"}


def test_a_new_password_or_token_changes_what_their_readers_see(make):
    read = {"__grafana_admin": {"resources": [{"metadata": {"resourceVersion": "77"}}]}, "__grafana_token": {"token_id": "3c1d"}}
    made = make(**ROUTES, **read)
    annotations = made["Grafana grafana"]["spec"]["deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"model-monitoring/admin-credentials": "77"}
    assert made["GrafanaDatasource prometheus"]["spec"]["datasource"]["jsonData"]["tokenId"] == "3c1d"


def test_persistent_or_not(make):
    made = make(**PLAIN, grafana_storage_class="fast", grafana_version="registry.example.com/grafana@sha256:abc")["Grafana grafana"]
    assert made["spec"]["persistentVolumeClaim"]["spec"]["storageClassName"] == "fast"
    assert made["spec"]["deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    reset = container(made, "admin-password", "initContainers")
    assert reset["image"] == "registry.example.com/grafana@sha256:abc"
    assert [mount["mountPath"] for mount in reset["volumeMounts"]] == ["/etc/grafana/grafana.ini", "/var/lib/grafana", "/var/log/grafana"]

    made = make(**PLAIN, grafana_persistent=False)["Grafana grafana"]
    assert not {"persistentVolumeClaim"} & set(made["spec"])
    assert not {"strategy"} & set(made["spec"]["deployment"]["spec"])
    assert not {"volumes", "initContainers"} & set(made["spec"]["deployment"]["spec"]["template"]["spec"])


def test_every_container_that_is_added_is_restricted(make):
    made = make(**ROUTES, grafana_openshift_login=True)
    job = made["CronJob grafana-token-renewal"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    added = [container(made["Grafana grafana"], "login"), container(made["Grafana grafana"], "admin-password", "initContainers"), *job["containers"]]
    for one in added:
        assert one["securityContext"]["allowPrivilegeEscalation"] is False, one["name"]
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}, one["name"]
        assert one["resources"]["limits"]["memory"], one["name"]
    assert job["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_who_renews_the_token_may_do_nothing_else_but_say_when_it_ends(make):
    made = make(**ROUTES)
    assert made["Role grafana-token-renewal"]["rules"] == [
        {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["grafana-datasources"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["grafana-datasources-token"], "verbs": ["get", "patch"]},
        {"apiGroups": [""], "resources": ["services/proxy"], "resourceNames": ["pushgateway:9091"], "verbs": ["create"]},
    ]
    assert "CronJob grafana-token-renewal" not in make(**ROUTES, grafana_token_image="")
    assert "ServiceAccount grafana-datasources" in make(**ROUTES, grafana_token_image="")


def test_tempo(make):
    datasource = make(**PLAIN)["GrafanaDatasource tempo"]["spec"]["datasource"]
    assert datasource["url"] == "http://tempo-tempo-query-frontend.private-ai-demo.svc:3200"
    assert datasource["jsonData"]["serviceMap"] == {"datasourceUid": "prometheus"}
    assert datasource["jsonData"]["tracesToMetrics"]["datasourceUid"] == "prometheus"
    assert all("{$__tags" in query["query"] for query in datasource["jsonData"]["tracesToMetrics"]["queries"])
    assert make(**PLAIN, grafana_tempo_kind="TempoMonolithic")["GrafanaDatasource tempo"]["spec"]["datasource"]["url"] == (
        "http://tempo-tempo.private-ai-demo.svc:3200"
    )


def test_tempo_behind_its_gateway(make):
    made = make(**PLAIN, grafana_tempo_tenant="dev")
    spec = made["GrafanaDatasource tempo"]["spec"]
    assert spec["datasource"]["url"] == "https://tempo-tempo-gateway.private-ai-demo.svc:8080/api/traces/v1/dev/tempo"
    assert spec["datasource"]["secureJsonData"] == {"httpHeaderValue1": "Bearer ${token}", "tlsCACert": "${service-ca.crt}"}
    (rule,) = made["ClusterRole private-ai-demo-grafana-datasources-tempo"]["rules"]
    assert rule == {"apiGroups": ["tempo.grafana.com"], "resources": ["dev"], "resourceNames": ["traces"], "verbs": ["get"]}
    assert "ClusterRoleBinding private-ai-demo-grafana-datasources-prometheus" not in made


def test_log_in_with_openshift(make, evaluate):
    made = make(**ROUTES, grafana_openshift_login=True)
    assert made["Route grafana"]["spec"]["tls"]["termination"] == "reencrypt"
    assert made["Route grafana"]["spec"]["port"] == {"targetPort": "login"}
    spec = made["Grafana grafana"]["spec"]
    assert spec["config"]["auth.proxy"]["whitelist"] == "127.0.0.1, ::1"
    assert spec["config"]["users"] == {"allow_sign_up": "false", "auto_assign_org_role": "Viewer"}
    reference = spec["serviceAccount"]["metadata"]["annotations"]["serviceaccounts.openshift.io/oauth-redirectreference.grafana"]
    assert json.loads(reference)["reference"] == {"kind": "Route", "name": "grafana"}
    asked = next(word for word in container(made["Grafana grafana"], "login")["args"] if word.startswith("-openshift-sar="))
    assert json.loads(asked.partition("=")[2])["resourceName"] == "grafana"
    assert evaluate("__grafana_generated", grafana_openshift_login=True)["grafana-login"] == ["session_secret"]


def test_settings_of_the_site_win(make):
    config = make(**PLAIN, grafana_config={"log": {"level": "debug"}, "analytics": {"reporting_enabled": "true"}})["Grafana grafana"]["spec"][
        "config"
    ]
    assert config["log"] == {"mode": "console", "level": "debug"}
    assert config["analytics"]["reporting_enabled"] == "true"
    assert {type(value) for section in config.values() for value in section.values()} == {str}


def test_dashboards_and_folders(make):
    made = make(**PLAIN, grafana_folders=[{"name": "one", "title": 'A "title": with signs'}, {"name": "two"}])
    assert made["GrafanaFolder one"]["spec"]["title"] == 'A "title": with signs'
    assert made["GrafanaFolder two"]["spec"]["title"] == "two"
    dashboard = made["GrafanaDashboard my-dashboard"]["spec"]
    assert (dashboard["folderRef"], dashboard["json"]) == ("one", DASHBOARD)
    selectors = {json.dumps(item["spec"]["instanceSelector"]) for item in made.values() if "instanceSelector" in item.get("spec", {})}
    assert selectors == {json.dumps({"matchLabels": made["Grafana grafana"]["metadata"]["labels"]})}
    assert {item["spec"]["resyncPeriod"] for item in made.values() if "resyncPeriod" in item.get("spec", {})} == {"1m"}


def test_all_that_is_made_is_removed_but_the_namespace(make, evaluate):
    for given in (ROUTES, {**PLAIN, **INGRESSES}, {**ROUTES, "grafana_openshift_login": True, "grafana_tempo_tenant": "dev"}):
        made = set(make(**given)) - {"Namespace private-ai-demo"}
        files = {"__grafana_read_dashboards": [{"uid": "my_Dashboard", "spec": {}, "folder": "x"}]}
        removed = {f"{item['kind']} {item['metadata']['name']}" for item in evaluate("__grafana_absent", **files)}
        assert made <= removed


def test_authorities_of_the_first_namespace_that_has_them(evaluate):
    pem = "-----BEGIN CERTIFICATE-----"
    results = [{"resources": []}, {"resources": [{"data": {"service-ca.crt": pem}}]}]
    assert evaluate("__grafana_ca", __grafana_authorities={"results": results}) == pem
    assert evaluate("__grafana_ca") == ""
    assert evaluate("__grafana_ca", __grafana_authorities={"results": [{"resources": [{"data": {"ca.crt": pem}}]}]}) == ""
