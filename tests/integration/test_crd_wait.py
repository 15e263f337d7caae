# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""crd_wait against a real API server."""

from __future__ import annotations

import secrets
import time

import pytest

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
READ = [{"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["list", "watch"]}]


def definition(name: str, kind: str, versions: dict[str, bool]) -> dict:
    """A CRD ``<plural>.<group>``; versions by name and whether they are served, the last one stored."""
    plural, _dot, group = name.partition(".")
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "metadata": {"name": name},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": plural[:-1], "kind": kind, "listKind": f"{kind}List"},
            "versions": [
                {"name": version, "served": served, "storage": version == list(versions)[-1], "schema": schema}
                for version, served in versions.items()
            ],
        },
    }


@pytest.fixture
def group(cluster):
    """An API group of the test's own, whose CRDs go with it."""
    name = f"t{secrets.token_hex(4)}.example.com"
    yield name
    for item in cluster.get(CRDS)["items"]:
        if item["spec"]["group"] == name:
            cluster.delete(f"{CRDS}/{item['metadata']['name']}")


def test_all_there(cluster, run, group):
    wanted = {f"widgets.{group}": "v1", f"gadgets.{group}": "v1alpha1"}
    for name, kind in ((f"widgets.{group}", "Widget"), (f"gadgets.{group}", "Gadget")):
        cluster.create(CRDS, definition(name, kind, {"v1alpha1": True, "v1": True}))
    result = run("crd_wait", crds=[{"name": name, "version": version} for name, version in wanted.items()], timeout=20)
    assert {crd["name"]: (crd["version"], crd["ready"]) for crd in result["crds"]} == {name: (wanted[name], True) for name in wanted}
    assert (result["changed"], result["missing"]) == (False, [])


def test_served_when_it_returns(cluster, start, group):
    """The point of the module: an object can be created in the very moment it returns."""
    name = f"widgets.{group}"
    running = start("crd_wait", crds=[{"name": name}], timeout=30, watching="customresourcedefinitions")
    cluster.create(CRDS, definition(name, "Widget", {"v1": True}))
    result = running.result()
    cluster.create(f"/apis/{group}/v1/namespaces/default/widgets", {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "first"}})
    assert result["crds"][0]["version"] == "v1"
    assert 0 < result["waited"] < 30


def test_version_served_later(cluster, start, group):
    name = f"widgets.{group}"
    cluster.create(CRDS, definition(name, "Widget", {"v1alpha1": True, "v1": False}))
    cluster.merge(f"{CRDS}/{name}/status", {"status": {}})
    running = start("crd_wait", crds=[{"name": name, "version": "v1"}], timeout=30, watching="customresourcedefinitions")
    body = definition(name, "Widget", {"v1alpha1": True, "v1": True})
    assert not running.ended()
    cluster.merge(f"{CRDS}/{name}", {"spec": {"versions": body["spec"]["versions"]}})
    assert running.result()["crds"][0]["ready"]


def test_recreated_on_the_way(cluster, start, group):
    name = f"widgets.{group}"
    cluster.create(CRDS, definition(name, "Widget", {"v1": False, "v2": True}))
    running = start("crd_wait", crds=[{"name": name, "version": "v1"}], timeout=30, watching="customresourcedefinitions")
    cluster.delete(f"{CRDS}/{name}")
    deadline = time.monotonic() + 20
    while [item for item in cluster.get(CRDS)["items"] if item["metadata"]["name"] == name]:
        assert time.monotonic() < deadline
    cluster.create(CRDS, definition(name, "Widget", {"v1": True}))
    assert running.result()["crds"][0]["ready"]


def test_names_not_accepted_stops_early(cluster, run, group):
    cluster.create(CRDS, definition(f"widgets.{group}", "Widget", {"v1": True}))
    second = definition(f"gadgets.{group}", "Widget", {"v1": True})
    second["spec"]["names"]["singular"] = "gadget"
    cluster.create(CRDS, second)
    started = time.monotonic()
    result = run("crd_wait", crds=[{"name": f"gadgets.{group}"}], timeout=60)
    assert result["failed"]
    assert "its names are not accepted" in result["msg"] and "already in use" in result["msg"]
    assert time.monotonic() - started < 30


def test_time_out_names_what_is_missing_and_the_cure(cluster, run, group):
    cluster.create(CRDS, definition(f"widgets.{group}", "Widget", {"v1": True}))
    crds = [{"name": f"widgets.{group}"}, {"name": f"never.{group}"}, {"name": f"widgets.{group}", "version": "v9"}]
    result = run("crd_wait", crds=crds, timeout=1)
    assert result["failed"]
    assert f"CustomResourceDefinition never.{group}: does not exist. The operator that brings it" in result["msg"]
    assert f"CustomResourceDefinition widgets.{group} (v9): does not serve version v9, only v1." in result["msg"]
    assert f"CustomResourceDefinition widgets.{group}:" not in result["msg"]
    assert [crd["ready"] for crd in result["crds"]] == [True, False, False]
    assert 1 <= result["waited"] < 2


def test_check_mode_reports_and_does_not_wait(run, group):
    started = time.monotonic()
    result = run("crd_wait", crds=[{"name": f"never.{group}"}], timeout=60, check=True)
    assert not result.get("failed")
    assert (result["missing"], result["changed"]) == ([f"never.{group}"], False)
    assert time.monotonic() - started < 20


def test_the_verbs_of_the_documentation_are_enough(cluster, run, user, group):
    name = f"widgets.{group}"
    cluster.create(CRDS, definition(name, "Widget", {"v1": True}))
    rules = [{**READ[0], "resourceNames": [name]}]
    assert run("crd_wait", crds=[{"name": name}], timeout=10, **user(rules))["crds"][0]["ready"]


@pytest.mark.parametrize("check", [False, True])
def test_without_rights(run, user, group, check):
    result = run("crd_wait", crds=[{"name": f"widgets.{group}"}], timeout=60, check=check, **user([]))
    assert result["failed"]
    assert "cannot list resource" in result["msg"] and "Grant this verb" in result["msg"]


def test_wrong_token(run, cluster):
    host = cluster._client.configuration.host
    result = run("crd_wait", crds=[{"name": "a.example.com"}], host=host, api_key="wrong", validate_certs=False, timeout=60)
    assert result["failed"]
    assert "does not accept the credentials (401 Unauthorized)" in result["msg"]


def test_unknown_authority(run, cluster):
    host = cluster._client.configuration.host
    result = run("crd_wait", crds=[{"name": "a.example.com"}], host=host, api_key="wrong", ca_cert="/etc/ssl/certs/ca-certificates.crt", timeout=60)
    assert result["failed"]
    assert "no TLS connection to the API server" in result["msg"] and "ca_cert" in result["msg"]


def test_nobody_there(run):
    started = time.monotonic()
    result = run("crd_wait", crds=[{"name": "a.example.com"}], host="https://127.0.0.1:1", api_key="x", timeout=60)
    assert result["failed"]
    assert "127.0.0.1:1 does not answer" in result["msg"] and "Connection refused" in result["msg"]
    assert time.monotonic() - started < 30


def test_no_kubeconfig(run, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/no/such/file")
    result = run("crd_wait", crds=[{"name": "a.example.com"}])
    assert result["failed"]
    assert result["msg"] == "The kubeconfig /no/such/file does not exist: correct KUBECONFIG or the kubeconfig option."


def test_a_name_that_no_crd_has(run):
    result = run("crd_wait", crds=[{"name": "tempostacks"}])
    assert result["failed"]
    assert "<plural>.<group>" in result["msg"]
