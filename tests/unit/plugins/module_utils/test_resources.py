# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Paths of collections, by the discovery of one API version."""

from __future__ import annotations

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._resources import NotServed, Resources, guess


class Kube:
    """Discovery by path: kind -> (plural, whether it is namespaced)."""

    def __init__(self, **kinds):
        self.served = {"/api/v1": {"Namespace": ("namespaces", False), "Secret": ("secrets", True)}, "/apis/apps/v1": kinds}
        self.asked = []

    def get(self, path, what):
        self.asked.append(path)
        if path not in self.served:
            raise KubeError("not found", status=404)
        found = [{"name": plural, "kind": kind, "namespaced": scoped} for kind, (plural, scoped) in self.served[path].items()]
        return {"resources": [{"name": "namespaces/status", "kind": "Namespace", "namespaced": False}, *found]}


@pytest.mark.parametrize(
    ("api_version", "kind", "namespace", "path"),
    [
        ("v1", "Secret", "demo", "/api/v1/namespaces/demo/secrets"),
        ("v1", "Namespace", "", "/api/v1/namespaces"),
        ("v1", "Namespace", "demo", "/api/v1/namespaces"),
        ("apps/v1", "Deployment", "demo", "/apis/apps/v1/namespaces/demo/deployments"),
    ],
)
def test_path(api_version, kind, namespace, path):
    assert Resources(Kube(Deployment=("deployments", True))).collection(api_version, kind, namespace, "it") == path


def test_discovery_is_read_once_a_version():
    kube = Kube()
    resources = Resources(kube)
    for kind in ("Secret", "Namespace", "Secret"):
        resources.collection("v1", kind, "demo", "it")
    assert kube.asked == ["/api/v1"]


def test_a_kind_that_comes_later_is_found():
    kube = Kube()
    resources = Resources(kube)
    with pytest.raises(NotServed, match=r"^Deployment demo/d: apps/v1 has no kind Deployment\. Correct"):
        resources.collection("apps/v1", "Deployment", "demo", "Deployment demo/d")
    with pytest.raises(NotServed, match="^it: the API server does not serve tempo.grafana.com/v1alpha1. Install"):
        resources.collection("tempo.grafana.com/v1alpha1", "TempoStack", "demo", "it")
    kube.served["/apis/apps/v1"] = {"Deployment": ("deployments", True)}
    kube.served["/apis/tempo.grafana.com/v1alpha1"] = {"TempoStack": ("tempostacks", True)}
    assert resources.collection("apps/v1", "Deployment", "demo", "it").endswith("/deployments")
    assert resources.collection("tempo.grafana.com/v1alpha1", "TempoStack", "demo", "it").endswith("/tempostacks")


def test_a_namespace_that_is_missing_is_told():
    with pytest.raises(ModelMonitoringError, match="^it: Secret is namespaced; give its namespace"):
        Resources(Kube()).collection("v1", "Secret", "", "it")


@pytest.mark.parametrize(
    ("kind", "plural"),
    [("TempoStack", "tempostacks"), ("NetworkPolicy", "networkpolicies"), ("Ingress", "ingresses"), ("Grafana", "grafanas")],
)
def test_a_guess_is_the_plural_of_most_kinds(kind, plural):
    assert guess(kind) == plural
