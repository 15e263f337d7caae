# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The port-forward's way through a real API server, up to the kubelet (which tests/faults has).

Needs KUBECONFIG of an administrator; an API server without controllers and nodes is enough. Services, EndpointSlices and pods are objects
of the test's own in a namespace of its own, so no controller interferes where there are some.
"""

from __future__ import annotations

import os
import secrets
import socket
import time

import kubernetes
import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._endpoint import EndpointError, reach
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


@pytest.fixture(scope="session")
def admin():
    if not os.environ.get("KUBECONFIG"):
        pytest.fail("KUBECONFIG is not set: start the lab (make lab-up) and name its kubeconfig", pytrace=False)
    return _kube.connect({})


@pytest.fixture(scope="session")
def core(admin):
    return kubernetes.client.CoreV1Api(admin)


@pytest.fixture(scope="session")
def namespace(core):
    name = f"port-forward-{secrets.token_hex(4)}"
    core.create_namespace({"metadata": {"name": name}})
    yield name
    core.delete_namespace(name)


@pytest.fixture(scope="session")
def pod(admin, core, namespace):
    """A pod on a node that does not exist, said to be ready by an EndpointSlice, and Services before it."""
    body = {
        "metadata": {"name": "store-0"},
        "spec": {"nodeName": "no-such-node", "automountServiceAccountToken": False, "containers": [{"name": "c", "image": "none"}]},
    }
    if not core.list_namespaced_service_account(namespace).items:
        core.create_namespaced_service_account(namespace, {"metadata": {"name": "default"}})
    core.create_namespaced_pod(namespace, body)
    for service in ("store", "nobody"):
        core.create_namespaced_service(
            namespace, {"metadata": {"name": service}, "spec": {"ports": [{"name": "api", "port": 80, "targetPort": "s3"}]}}
        )
    core.create_namespaced_service(
        namespace, {"metadata": {"name": "outside"}, "spec": {"type": "ExternalName", "externalName": "s3.example.com", "ports": [{"port": 80}]}}
    )
    endpoint = {"addresses": ["192.0.2.1"], "conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": "store-0", "namespace": namespace}}
    slices = kubernetes.client.DiscoveryV1Api(admin)
    for service, endpoints in (("store", [endpoint]), ("nobody", [])):
        slices.create_namespaced_endpoint_slice(
            namespace,
            {
                "metadata": {"name": f"{service}-by-hand", "labels": {"kubernetes.io/service-name": service}},
                "addressType": "IPv4",
                "ports": [{"name": "api", "port": 9000}],
                "endpoints": endpoints,
            },
        )
    return "store-0"


def talk(url, client):
    """Make a connection to the endpoint and fail like a library that got no answer."""
    with reach(url, lambda: client) as reached, socket.create_connection((reached.host, reached.port), timeout=60) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        if sock.recv(1) == b"":
            raise ConnectionError("no answer")


def error_of(url, client):
    with pytest.raises(ModelMonitoringError) as caught:
        talk(url, client)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_service_that_does_not_exist(admin, namespace):
    message = error_of(f"http://missing.{namespace}.svc", admin)
    assert message.startswith(f"Service missing in namespace {namespace} does not exist: correct the host in the URL")


def test_port_that_the_service_does_not_have(admin, namespace, pod):
    assert f"Service store in namespace {namespace} has no TCP port 81 (it has: 80)" in error_of(f"http://store.{namespace}.svc:81", admin)


def test_service_without_pods(admin, namespace, pod):
    """The API server sends such a slice with ``endpoints: null``, on which the client's typed EndpointSlice fails."""
    assert f"Service nobody in namespace {namespace} has no pod behind it" in error_of(f"http://nobody.{namespace}.svc", admin)


def test_service_outside(admin, namespace, pod):
    assert "leads to something that is not a pod" in error_of(f"http://outside.{namespace}.svc", admin)


def test_pod_on_a_node_that_is_gone(admin, namespace, pod):
    message = error_of(f"http://store.{namespace}.svc", admin)
    assert f"endpoint: no port-forward to port 9000 of pod store-0 in namespace {namespace}: the API server answers 404 (pods" in message
    assert "no-such-node" in message
    assert "look whether the pod's node and its kubelet are up" in message


def test_pod_that_is_gone(admin, core, namespace, pod):
    core.delete_namespaced_pod(pod, namespace, grace_period_seconds=0)
    try:
        assert f"no port-forward to port 9000 of pod store-0 in namespace {namespace}: the pod is gone (404): run again" in error_of(
            f"http://store.{namespace}.svc", admin
        )
    finally:
        core.create_namespaced_pod(
            namespace,
            {
                "metadata": {"name": pod},
                "spec": {"nodeName": "no-such-node", "automountServiceAccountToken": False, "containers": [{"name": "c", "image": "none"}]},
            },
        )


@pytest.fixture
def user(admin, core, namespace):
    """``user(rule, ...)``: a client of a service account that may do what the rules say (verbs, groups, resources)."""
    rbac = kubernetes.client.RbacAuthorizationV1Api(admin)

    def client_of(*rules, **token):
        name = f"u-{secrets.token_hex(4)}"
        core.create_namespaced_service_account(namespace, {"metadata": {"name": name}})
        rbac.create_namespaced_role(
            namespace,
            {
                "metadata": {"name": name},
                "rules": [{"verbs": verbs, "apiGroups": groups, "resources": resources} for verbs, groups, resources in rules],
            },
        )
        rbac.create_namespaced_role_binding(
            namespace,
            {
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            },
        )
        issued = core.create_namespaced_service_account_token(name, namespace, {"spec": {}}).status.token
        kubernetes.client.Configuration.set_default(None)  # the administrator's certificate: connecting with a kubeconfig leaves it there
        client = _kube.connect({"host": admin.configuration.host, "api_key": token.get("token", issued), "ca_cert": admin.configuration.ssl_ca_cert})
        deadline = time.monotonic() + 10  # the authorizer learns of a new role by a watch
        review = kubernetes.client.AuthorizationV1Api(client)
        while rules and "token" not in token:
            attributes = {"namespace": namespace, "verb": rules[0][0][0], "group": rules[0][1][0], "resource": rules[0][2][0]}
            if review.create_self_subject_access_review({"spec": {"resourceAttributes": attributes}}).status.allowed:
                break
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return client

    return client_of


SERVICES = (["get"], [""], ["services"])
SLICES = (["list"], ["discovery.k8s.io"], ["endpointslices"])
FORWARD = (["get", "create"], [""], ["pods/portforward"])


def test_documented_rights_are_enough_to_get_to_the_node(user, namespace, pod):
    assert "no-such-node" in error_of(f"http://store.{namespace}.svc", user(FORWARD, SERVICES, SLICES))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((SLICES, FORWARD), "Cannot get Service store in namespace {namespace}: not allowed"),
        ((SERVICES, FORWARD), "Cannot list endpointslices of Service store in namespace {namespace}: not allowed"),
        ((SERVICES, SLICES), "the user may not do it (403): allow get and create on pods/portforward in namespace {namespace}"),
    ],
)
def test_missing_right_is_named(user, namespace, pod, rules, message):
    assert message.format(namespace=namespace) in error_of(f"http://store.{namespace}.svc", user(*rules))


def test_wrong_token(user, namespace, pod):
    message = error_of(f"http://store.{namespace}.svc", user(token="s3cr3t-wrong-token"))
    assert "does not accept the credentials" in message
    assert "s3cr3t" not in message


def test_impersonation_is_refused(namespace, pod):
    client = _kube.connect({"impersonate_user": "system:admin", "impersonate_groups": ["system:masters"]})
    assert "cannot impersonate another user" in error_of(f"http://store.{namespace}.svc", client)


def test_port_forward_leaves_the_client_as_it_is(admin, core, namespace, pod):
    before = dict(vars(admin))
    with pytest.raises(EndpointError):
        talk(f"http://store.{namespace}.svc", admin)
    assert dict(vars(admin)) == before
    assert core.read_namespaced_pod(pod, namespace).metadata.name == pod
