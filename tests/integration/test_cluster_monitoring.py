# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""cluster_monitoring against a real API server, with OpenShift's namespace and ConfigMap made for the test."""

from __future__ import annotations

import pytest

NAMESPACE = "openshift-monitoring"
CONFIG_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
NAME = "cluster-monitoring-config"
THEIRS = "# ours\nprometheusK8s:\n  retention: 15d\n"


@pytest.fixture
def openshift_monitoring(cluster):
    """OpenShift's namespace, without the ConfigMap. It stays: the control plane alone has nothing that takes a namespace away."""
    if NAMESPACE not in [item["metadata"]["name"] for item in cluster.get("/api/v1/namespaces")["items"]]:
        cluster.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    yield
    for item in cluster.get(CONFIG_MAPS)["items"]:
        if item["metadata"]["name"] == NAME:
            cluster.delete(f"{CONFIG_MAPS}/{NAME}")


def test_made_where_there_is_none(run, start, cluster, openshift_monitoring):
    found = run("cluster_monitoring")
    assert (found["changed"], found["openshift"], found["user_workload"]) == (False, False, False)
    said = start("cluster_monitoring", check=True, enable_user_workload=True).result()
    assert (said["changed"], said["user_workload"], said["diff"][0]["after"]) == (True, True, "enableUserWorkload: true\n")
    assert NAME not in [item["metadata"]["name"] for item in cluster.get(CONFIG_MAPS)["items"]]
    assert run("cluster_monitoring", enable_user_workload=True)["changed"]
    assert cluster.get(f"{CONFIG_MAPS}/{NAME}")["data"] == {"config.yaml": "enableUserWorkload: true\n"}


def test_added_to_what_is_there(run, start, cluster, openshift_monitoring):
    cluster.create(CONFIG_MAPS, {"metadata": {"name": NAME, "labels": {"a": "b"}}, "data": {"config.yaml": THEIRS, "other": "kept"}})
    said = start("cluster_monitoring", check=True, enable_user_workload=True).result()
    assert (said["changed"], said["diff"][0]["before"], said["diff"][0]["after"]) == (True, THEIRS, f"{THEIRS}enableUserWorkload: true\n")
    assert cluster.get(f"{CONFIG_MAPS}/{NAME}")["data"]["config.yaml"] == THEIRS
    assert run("cluster_monitoring", enable_user_workload=True)["changed"]
    made = cluster.get(f"{CONFIG_MAPS}/{NAME}")
    assert made["data"] == {"config.yaml": f"{THEIRS}enableUserWorkload: true\n", "other": "kept"}
    assert made["metadata"]["labels"] == {"a": "b"}
    again = run("cluster_monitoring", enable_user_workload=True)
    assert (again["changed"], again["diff"], again["user_workload"]) == (False, [], True)
    assert cluster.get(f"{CONFIG_MAPS}/{NAME}")["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


def test_a_user_who_may_not(run, user, cluster, openshift_monitoring):
    cluster.create(CONFIG_MAPS, {"metadata": {"name": NAME}, "data": {"config.yaml": THEIRS}})
    reader = user([{"apiGroups": [""], "resources": ["configmaps", "namespaces"], "verbs": ["get"]}])
    said = run("cluster_monitoring", enable_user_workload=True, **reader)
    assert said["failed"]
    assert "ConfigMap openshift-monitoring/cluster-monitoring-config: not allowed" in said["msg"]
    assert cluster.get(f"{CONFIG_MAPS}/{NAME}")["data"] == {"config.yaml": THEIRS}
