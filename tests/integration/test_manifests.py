# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""manifests against a real API server: its defaults, conflicts, rights and refusals."""

from __future__ import annotations

import base64
import json

import pytest


def config(namespace, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": namespace}, "data": data}


def service(namespace):
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": namespace}, "spec": {"ports": [{"port": 80}]}}


def secret(namespace, **data):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": namespace}, "stringData": data}


STACK = {"apiVersion": "tempo.grafana.com/v1alpha1", "kind": "TempoStack", "metadata": {"name": "t", "namespace": "nowhere"}}


def actions(result):
    return {item["target"]: item["action"] for item in result["objects"]}


def test_created_unchanged_changed_and_a_field_left_out(run, cluster, namespace):
    def apply(**data):
        return run("manifests", manifests=[config(namespace, **data), service(namespace)])

    targets = (f"ConfigMap {namespace}/settings", f"Service {namespace}/web")
    made = apply(a="1", b="2")
    assert (made["changed"], actions(made)) == (True, dict.fromkeys(targets, "created"))
    again = apply(a="1", b="2")
    assert (again["changed"], actions(again), again["diff"]) == (False, dict.fromkeys(targets, "unchanged"), [])
    less = apply(a="1")
    assert actions(less) == {targets[0]: "changed", targets[1]: "unchanged"}
    assert "b: '2'" in less["diff"][0]["before"]
    assert "b: '2'" not in less["diff"][0]["after"]
    assert cluster.get(f"/api/v1/namespaces/{namespace}/configmaps/settings")["data"] == {"a": "1"}


def test_texts_of_many_documents(run, namespace):
    text = f"---\n{json.dumps(config(namespace, a='1'))}\n---\n{json.dumps(service(namespace))}\n"
    assert len(run("manifests", manifests=[text, ""])["objects"]) == 2


def test_a_value_is_generated_once(run, start, cluster, namespace):
    def value():
        return base64.b64decode(cluster.get(f"/api/v1/namespaces/{namespace}/secrets/s")["data"]["password"]).decode()

    options = {"manifests": [secret(namespace, user="me")], "generated_data": {"s": ["password"]}}
    assert actions(start("manifests", check=True, **options).result()) == {f"Secret {namespace}/s": "created"}
    made = run("manifests", **options)
    assert actions(made) == {f"Secret {namespace}/s": "created"}
    first = value()
    assert len(first) == 32
    assert first not in json.dumps(made)
    assert run("manifests", **options)["changed"] is False
    assert start("manifests", check=True, **options).result()["changed"] is False
    assert value() == first
    cluster.merge(f"/api/v1/namespaces/{namespace}/secrets/s", {"data": {"password": None}})
    assert actions(run("manifests", **options)) == {f"Secret {namespace}/s": "changed"}
    assert value() != first


def test_check_mode_changes_nothing(start, cluster, namespace):
    made = start("manifests", check=True, manifests=[config(namespace, a="1")]).result()
    assert actions(made) == {f"ConfigMap {namespace}/settings": "created"}
    assert "a: '1'" in made["diff"][0]["after"]
    names = [item["metadata"]["name"] for item in cluster.get(f"/api/v1/namespaces/{namespace}/configmaps")["items"]]
    assert "settings" not in names


def test_check_mode_of_what_only_a_real_run_makes(start, user):
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "nowhere"}}
    made = start("manifests", check=True, manifests=[space, config("nowhere", a="1"), STACK]).result()
    assert set(actions(made).values()) == {"created"}
    nobody = user([{"apiGroups": [""], "resources": ["namespaces", "configmaps"], "verbs": ["get", "create", "patch"]}])
    refused = start("manifests", check=True, manifests=[space, config("nowhere", a="1"), STACK], **nobody).result()
    assert refused["msg"].startswith("Cannot create TempoStack nowhere/t: the user of the play may not create tempostacks.tempo.grafana.com")


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (config("nowhere"), "ConfigMap nowhere/settings: namespace nowhere does not exist. Create it, or correct the name."),
        (STACK, "TempoStack nowhere/t: the API server does not serve tempo.grafana.com/v1alpha1. Install"),
        ({"apiVersion": "v1", "kind": "Confixmap", "metadata": {"name": "a"}}, "v1 has no kind Confixmap"),
        ({"kind": "ConfigMap"}, "manifests[0] is not a manifest"),
    ],
)
def test_what_cannot_be(run, manifest, message):
    result = run("manifests", manifests=[manifest])
    assert result["failed"]
    assert message in result["msg"]


def test_a_field_that_the_kind_does_not_have(run, namespace):
    result = run("manifests", manifests=[{**service(namespace), "spec": {"prots": [{"port": 80}]}}])
    assert ".spec.prots: field not declared in schema" in result["msg"]


def test_a_field_of_another(run, cluster, namespace):
    run("manifests", manifests=[config(namespace, a="1")], field_manager="somebody")
    refused = run("manifests", manifests=[config(namespace, a="2")])
    assert "somebody" in refused["msg"]
    assert "force_conflicts" in refused["msg"]
    assert run("manifests", manifests=[config(namespace, a="2")], force_conflicts=True)["changed"]
    assert cluster.get(f"/api/v1/namespaces/{namespace}/configmaps/settings")["data"] == {"a": "2"}


def test_rights(run, namespace, user):
    refused = run("manifests", manifests=[config(namespace, a="1")], **user([]))
    assert refused["failed"]
    assert "configmaps" in refused["msg"]


def test_one_for_a_namespace(run, cluster, namespace):
    def group(name):
        return {"apiVersion": "operators.coreos.com/v1", "kind": "OperatorGroup", "metadata": {"name": name, "namespace": namespace}, "spec": {}}

    for name, expected in (("first", "created"), ("second", "unchanged"), ("first", "unchanged")):
        done = run("manifests", manifests=[group(name)], one_per_namespace=["OperatorGroup"])
        assert actions(done) == {f"OperatorGroup {namespace}/{name}": expected}
    assert len(cluster.get(f"/apis/operators.coreos.com/v1/namespaces/{namespace}/operatorgroups")["items"]) == 1


def test_a_secret_is_never_shown(run, cluster, namespace):
    made = run("manifests", manifests=[secret(namespace, user="me")], secret_data={"s": {"password": "pass-one"}})
    changed = run("manifests", manifests=[secret(namespace, user="me")], secret_data={"s": {"password": "pass-two"}})
    assert actions(changed) == {f"Secret {namespace}/s": "changed"}
    for value in ("pass-one", "pass-two"):
        for form in (value, base64.b64encode(value.encode()).decode()):
            assert form not in json.dumps([made["objects"], made["diff"], changed["objects"], changed["diff"]])
            assert form not in json.dumps(changed["invocation"])
    stored = cluster.get(f"/api/v1/namespaces/{namespace}/secrets/s")["data"]
    assert {key: base64.b64decode(value).decode() for key, value in stored.items()} == {"user": "me", "password": "pass-two"}
    again = run("manifests", manifests=[secret(namespace, user="me")], secret_data={"s": {"password": "pass-two"}})
    assert not again["changed"]


def test_absent(run, start, cluster, namespace):
    manifests = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, config(namespace, a="1"), STACK]
    run("manifests", manifests=manifests[:2])
    assert start("manifests", check=True, manifests=manifests, state="absent").result()["changed"]
    gone = run("manifests", manifests=manifests, state="absent")
    assert actions(gone) == {"TempoStack nowhere/t": "unchanged", f"ConfigMap {namespace}/settings": "deleted", f"Namespace {namespace}": "unchanged"}
    assert not run("manifests", manifests=manifests, state="absent")["changed"]
    assert cluster.get(f"/api/v1/namespaces/{namespace}")["status"]["phase"] == "Active"
