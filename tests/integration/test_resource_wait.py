# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""resource_wait against a real API server. What controllers write into the objects is written by the tests; the objects are the test's own."""

from __future__ import annotations

import time

import pytest

READ = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]}]


def deployment(replicas: int = 1) -> dict:
    labels = {"app": "web"}
    # No controller shall make pods of it, also where one runs: an image that no node has, on a node that does not exist.
    pod = {"nodeSelector": {"no-such": "node"}, "containers": [{"name": "c", "image": "example.invalid/none:1"}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {"metadata": {"name": "web"}, "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}}


def resources(namespace, *kinds):
    known = {"Secret": ("v1", "settings"), "Deployment": ("apps/v1", "web"), "Service": ("v1", "web")}
    return [{"api_version": known[kind][0], "kind": kind, "name": known[kind][1], "namespace": namespace} for kind in kinds]


def rolled_out(generation: int, available: int = 1) -> dict:
    return {
        "status": {
            "observedGeneration": generation,
            "replicas": 1,
            "updatedReplicas": 1,
            "readyReplicas": available,
            "availableReplicas": available,
        }
    }


@pytest.fixture(scope="module", autouse=True)
def no_controllers(cluster):
    """A Deployment's status must stay as the test writes it."""
    leases = cluster.get("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases")["items"]
    if any(item["metadata"]["name"] == "kube-controller-manager" for item in leases):
        pytest.fail("controllers run here and would answer these objects themselves: use the lab's profile control-plane", pytrace=False)


def test_a_mixture_in_one_call(cluster, start, namespace):
    cluster.create(
        f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}
    )
    wanted = [*resources(namespace, "Secret", "Deployment", "Service"), {"api_version": "v1", "kind": "Namespace", "name": namespace}]
    running = start("resource_wait", resources=wanted, timeout=60, watching="secrets")
    cluster.create(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "settings"}})
    created = cluster.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment())
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web/status"
    cluster.merge(path, rolled_out(created["metadata"]["generation"], available=0))
    endpoint_slice = {
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
        "ports": [{"port": 80}],
    }
    cluster.create(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices", endpoint_slice)
    assert not running.ended()
    cluster.merge(path, rolled_out(created["metadata"]["generation"]))
    result = running.result()
    assert [item["ready"] for item in result["resources"]] == [True] * 4, result
    assert result["resources"][2]["state"] == "has 1 ready endpoints"
    assert result["resources"][1]["waited"] >= result["resources"][3]["waited"]


def test_a_changed_object_is_not_ready_before_its_status_is_about_it(cluster, start, namespace):
    created = cluster.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment())
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web"
    cluster.merge(f"{path}/status", rolled_out(created["metadata"]["generation"]))
    changed = cluster.merge(path, {"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}})
    wanted = [*resources(namespace, "Deployment"), {"api_version": "v1", "kind": "Namespace", "name": namespace}]
    running = start("resource_wait", resources=wanted, timeout=60, watching="namespaces")
    assert not running.ended()
    cluster.merge(f"{path}/status", rolled_out(changed["metadata"]["generation"]))
    assert running.result()["missing"] == []


def test_time_out_tells_the_last_state_and_what_the_pods_say(cluster, run, namespace):
    created = cluster.create(f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment())
    cluster.merge(f"/apis/apps/v1/namespaces/{namespace}/deployments/web/status", rolled_out(created["metadata"]["generation"], available=0))
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    if not cluster.get(accounts)["items"]:
        cluster.create(accounts, {"metadata": {"name": "default"}})
    template = deployment()["spec"]["template"]
    pod = {"metadata": {"name": "web-0", **template["metadata"]}, "spec": {**template["spec"], "automountServiceAccountToken": False}}
    cluster.create(f"/api/v1/namespaces/{namespace}/pods", pod)
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}
    ended = {"exitCode": 1, "reason": "Error", "message": "bucket does not exist"}
    container = {"name": "c", "ready": False, "restartCount": 4, "image": "x", "imageID": "", "state": {"waiting": waiting}}
    container["lastState"] = {"terminated": ended}
    cluster.merge(f"/api/v1/namespaces/{namespace}/pods/web-0/status", {"status": {"phase": "Running", "containerStatuses": [container]}})
    result = run("resource_wait", resources=resources(namespace, "Secret", "Deployment"), timeout=1)
    assert result["failed"]
    assert f"Secret {namespace}/settings: does not exist." in result["msg"]
    assert f"Deployment {namespace}/web: 0 of 1 replicas are available" in result["msg"]
    assert "pod web-0: container c crashes (4 restarts, last exit code 1 Error: bucket does not exist); see its previous log" in result["msg"]


def test_stops_early_at_a_failed_job(cluster, run, namespace):
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "example.invalid/none:1"}]}}
    cluster.create(f"/apis/batch/v1/namespaces/{namespace}/jobs", {"metadata": {"name": "once"}, "spec": {"template": template, "suspend": True}})
    stamp = "2026-01-01T00:00:00Z"
    failed = {"status": "True", "reason": "BackoffLimitExceeded", "message": "Job has reached the limit", "lastTransitionTime": stamp}
    conditions = [{"type": "FailureTarget", **failed}, {"type": "Failed", **failed}]
    cluster.merge(f"/apis/batch/v1/namespaces/{namespace}/jobs/once/status", {"status": {"startTime": stamp, "conditions": conditions}})
    started = time.monotonic()
    result = run("resource_wait", resources=[{"api_version": "batch/v1", "kind": "Job", "name": "once", "namespace": namespace}], timeout=60)
    assert result["failed"]
    assert f"Job {namespace}/once: BackoffLimitExceeded: Job has reached the limit." in result["msg"]
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"api_version": "nope.example.com/v1", "kind": "Nope", "name": "n"}, "does not serve nope.example.com/v1"),
        ({"api_version": "v1", "kind": "Sekret", "name": "n"}, "v1 has no kind Sekret"),
        ({"api_version": "v1", "kind": "Secret", "name": "n"}, "is namespaced; give its namespace"),
    ],
)
def test_what_cannot_be_waited_for(run, wanted, said):
    started = time.monotonic()
    result = run("resource_wait", resources=[wanted], timeout=60)
    assert result["failed"] and said in result["msg"]
    assert time.monotonic() - started < 20


def test_check_mode_of_what_does_not_exist_yet(run, namespace):
    wanted = [*resources(namespace, "Secret"), {"api_version": "nope.example.com/v1", "kind": "Nope", "name": "n", "namespace": namespace}]
    result = run("resource_wait", resources=wanted, timeout=60, check=True)
    assert not result.get("failed")
    assert result["missing"] == [f"Secret {namespace}/settings", f"Nope {namespace}/n"]


def test_least_rights(cluster, run, namespace, user):
    cluster.create(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "settings"}})
    named = [{**READ[0], "resourceNames": ["settings"]}]
    assert run("resource_wait", resources=resources(namespace, "Secret"), timeout=10, **user(named))["missing"] == []
    refused = run("resource_wait", resources=resources(namespace, "Secret"), timeout=60, **user([]))
    assert refused["failed"] and 'cannot list resource "secrets"' in refused["msg"]
