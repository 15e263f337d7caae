# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What the integration tests share: the cluster that KUBECONFIG names, and modules as the processes that Ansible runs."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube
from kubernetes.dynamic import DynamicClient

MONITORS = "/apis/monitoring.coreos.com/v1"
MODULES = "ansible_collections.private_ai.model_monitoring.plugins.modules"


class Cluster:
    """Plain requests of an administrator, by path."""

    def __init__(self) -> None:
        self._client = DynamicClient(_kube.connect({}), discoverer=lambda client, cache_file: None)

    def _request(self, method: str, path: str, **kwargs) -> str:
        return self._client.request(method, path, serialize=False, **kwargs).data.decode()

    def get(self, path: str) -> dict:
        return json.loads(self._request("get", path))

    def create(self, path: str, body: dict) -> dict:
        """Create an object in a collection."""
        return json.loads(self._request("post", path, body=body))

    def merge(self, path: str, body: dict) -> dict:
        """Merge-patch an object or its subresource."""
        return json.loads(self._request("patch", path, body=body, content_type="application/merge-patch+json"))

    def delete(self, path: str) -> None:
        self._request("delete", path)

    def watches(self, resource: str) -> int:
        """How many watches of a resource the API server serves now, by its own count."""
        metrics = self._request("get", "/metrics", header_params={"Accept": "text/plain"})
        counts = re.findall(rf'^apiserver_longrunning_requests{{.*resource="{resource}".*verb="WATCH".*}} (\d+)$', metrics, re.MULTILINE)
        return sum(map(int, counts))


class Running:
    """A module at work."""

    def __init__(self, cluster: Cluster, name: str, check: bool, arguments: dict) -> None:
        self._cluster = cluster
        self._watched = {}
        arguments = {"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}}
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{MODULES}.{name}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self._process.stdin.write(json.dumps(arguments))
        self._process.stdin.close()
        self._process.stdin = None

    def ended(self) -> bool:
        return self._process.poll() is not None

    def result(self, timeout: float = 60) -> dict:
        """What the module returned; any other output on the way is an error."""
        out, err = self._process.communicate(timeout=timeout)
        assert err == "", err
        return json.loads(out)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    if not os.environ.get("KUBECONFIG"):
        pytest.fail("KUBECONFIG is not set: start the lab (make lab-up) and name its kubeconfig", pytrace=False)
    return Cluster()


@pytest.fixture
def start(cluster):
    """Start a module: ``start("crd_wait", crds=[...])``; with ``watching`` returns when it has opened a watch of that resource.

    The API server counts everybody's: name a resource that the tests of no other file watch, because files run at the same time.
    """
    started = []

    def begin(name: str, /, *, check: bool = False, watching: str = "", **arguments) -> Running:
        before = cluster.watches(watching) if watching else 0
        running = Running(cluster, name, check, arguments)
        started.append(running)
        deadline = time.monotonic() + 30
        while watching and cluster.watches(watching) <= before:
            assert not running.ended(), running.result()
            assert time.monotonic() < deadline, f"{name} opened no watch of {watching}"
        return running

    yield begin
    for running in started:
        running.kill()


@pytest.fixture
def run(start):
    """Run a module to its end: ``run("crd_wait", crds=[...])`` returns its result."""

    def whole(name: str, /, **arguments) -> dict:
        return start(name, **arguments).result()

    return whole


@pytest.fixture
def namespaces(cluster):
    """Makes namespaces of the test's own: ``namespaces()`` returns the name of a new one."""
    made = []

    def make() -> str:
        made.append(f"waits-{secrets.token_hex(4)}")
        cluster.create("/api/v1/namespaces", {"metadata": {"name": made[-1]}})
        return made[-1]

    yield make
    for name in made:
        cluster.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def namespace(namespaces) -> str:
    """A namespace of the test's own."""
    return namespaces()


@pytest.fixture
def user(cluster):
    """The API options of a user with these cluster-wide rules and no more: ``user([{"apiGroups": ..., "resources": ..., "verbs": ...}])``."""
    made = []
    roles = "/apis/rbac.authorization.k8s.io/v1"

    def make(rules: list[dict]) -> dict:
        name = f"waits-{secrets.token_hex(4)}"
        made.append(name)
        cluster.create(f"{roles}/clusterroles", {"metadata": {"name": name}, "rules": rules})
        subject = {"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
        role = {"kind": "ClusterRole", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
        cluster.create(f"{roles}/clusterrolebindings", {"metadata": {"name": name}, "subjects": [subject], "roleRef": role})
        return {"impersonate_user": name, "impersonate_groups": ["system:authenticated"]}

    yield make
    for name in made:
        cluster.delete(f"{roles}/clusterrolebindings/{name}")
        cluster.delete(f"{roles}/clusterroles/{name}")


@pytest.fixture
def place(cluster, namespace):
    """A namespace with two Services and a Pod, and what makes monitors in it."""

    class Place:
        name = namespace

        @staticmethod
        def monitor(kind: str, name: str, spec: dict) -> dict:
            cluster.create(
                f"{MONITORS}/namespaces/{namespace}/{kind.lower()}s",
                {"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": {"name": name}, "spec": spec},
            )
            return {"kind": kind, "name": name, "namespace": namespace}

        @staticmethod
        def service(name: str, port: str = "web", **labels: str) -> None:
            spec = {"ports": [{"name": port, "port": 80}]}
            cluster.create(f"/api/v1/namespaces/{namespace}/services", {"metadata": {"name": name, "labels": labels}, "spec": spec})

        @staticmethod
        def pod(name: str, port: int, **labels: str) -> None:
            spec = {"containers": [{"name": "a", "image": "a", "ports": [{"containerPort": port}]}]}
            cluster.create(f"/api/v1/namespaces/{namespace}/pods", {"metadata": {"name": name, "labels": labels}, "spec": spec})

        @staticmethod
        def label(**labels: str) -> None:
            cluster.merge(f"/api/v1/namespaces/{namespace}", {"metadata": {"labels": labels}})

    return Place
