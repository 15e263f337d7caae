# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The waits while the API server, or the way to it, is taken away from under them.

Needs the lab's programs built; starts a control plane of its own.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _crd, _kube, _wait
from kubernetes.dynamic import DynamicClient
from lab.build import Builder
from lab.control_plane import ControlPlane
from lab.programs import load

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ROLES = "/apis/rbac.authorization.k8s.io/v1"


class Server:
    """A control plane whose API server can be stopped and started."""

    def __init__(self, control_plane):
        self.control_plane = control_plane
        self.admin = {"kubeconfig": str(control_plane.kubeconfig)}

    def start(self):
        self.control_plane.api_server.start(json.loads((self.control_plane.state / "kube-apiserver.json").read_text()))

    def stop(self, grace=0.1):
        """End the API server: in good order if ``grace`` (seconds) is long enough, else as a crash."""
        self.control_plane.api_server.stop(grace)

    def create(self, path, body):
        """Create an object, as soon as the API server takes it."""
        client = DynamicClient(_kube.connect(self.admin), discoverer=lambda client, cache_file: None)
        deadline = time.monotonic() + 60
        while True:
            try:
                return client.request("post", path, body=body, serialize=False)
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def define(self, name):
        plural, _dot, group = name.partition(".")
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        names = {"plural": plural, "kind": plural.capitalize(), "singular": plural[:-1], "listKind": f"{plural.capitalize()}List"}
        self.create(CRDS, {"metadata": {"name": name}, "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    control_plane = ControlPlane(tmp_path_factory.mktemp("control-plane") / "state", load(), Builder())
    control_plane.up()
    yield Server(control_plane)
    control_plane.down()


class Proxy:
    """A load balancer between a client and the API server, whose connections can be lost in the two ways there are."""

    def __init__(self, server):
        url = _kube.connect(server.admin).configuration.host
        self._behind = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.params = {**server.admin, "host": f"https://127.0.0.1:{self._listener.getsockname()[1]}"}
        self._pairs = []
        self._silent = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._listener.close()
        self.cut()

    def cut(self):
        """Close all connections there are."""
        for each in sum(self._pairs, ()):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def fall_silent(self):
        """Forget all connections there are, as a firewall does: nothing arrives any more, and nobody is told."""
        self._silent.update(sum(self._pairs, ()))

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _address = self._listener.accept()
                far = socket.create_connection(self._behind)
                self._pairs.append((near, far))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source not in self._silent:
                    sink.sendall(data)
            if source not in self._silent:
                sink.shutdown(socket.SHUT_RDWR)


class Wait(threading.Thread):
    """crd_wait's logic at work."""

    def __init__(self, params, name, timeout=90):
        super().__init__(daemon=True)
        self.kube = _kube.Kube(_kube.connect(params))
        self.wanted, self.timeout, self.outcome = [_crd.Wanted(name)], timeout, None
        self.looked = threading.Event()
        self.start()
        assert self.looked.wait(20)

    def run(self):
        judge = _crd.judge(self.kube, self.wanted)

        def look(view):
            states = judge(view)
            self.looked.set()
            return states

        try:
            with _wait.View(self.kube) as view:
                self.outcome = _wait.wait_for(view, look, self.timeout)
        except Exception as error:  # the test looks at it
            self.outcome = error
            self.looked.set()

    def ended(self, timeout=60):
        self.join(timeout)
        assert not self.is_alive(), "it still waits"
        return self.outcome


def test_restart(server):
    wait = Wait(server.admin, "restarts.example.com")
    for grace in (10, 0.1):
        server.stop(grace)
        time.sleep(3)
        assert wait.is_alive()
        server.start()
    server.define("restarts.example.com")
    assert isinstance(wait.ended(), _wait.Waited), wait.outcome


def test_restart_with_little_rights(server):
    """An API server that has just started refuses those who are not administrators, until it has read the roles."""
    name = "waits-restart"
    rule = {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["list", "watch"]}
    server.create(f"{ROLES}/clusterroles", {"metadata": {"name": name}, "rules": [rule]})
    subject, role = ({"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"} for kind in ("User", "ClusterRole"))
    server.create(f"{ROLES}/clusterrolebindings", {"metadata": {"name": name}, "subjects": [subject], "roleRef": role})
    wait = Wait({**server.admin, "impersonate_user": name, "impersonate_groups": ["system:authenticated"]}, "rights.example.com")
    server.stop()
    server.start()
    server.define("rights.example.com")
    assert isinstance(wait.ended(), _wait.Waited), wait.outcome


def test_never_back(server):
    wait = Wait(server.admin, "never.example.com", timeout=8)
    server.stop()
    try:
        outcome = wait.ended(20)
    finally:
        server.start()
        server.define("afterwards.example.com")
    assert isinstance(outcome, _wait.WaitError)
    assert "CustomResourceDefinition never.example.com: does not exist" in str(outcome)
    assert "What is known may be old" in str(outcome) and "does not answer" in str(outcome)
    assert 8 <= outcome.seconds < 9


def test_expired(server):
    """A watch from a version that is gone: a real 410, and the objects are listed anew."""
    server.define("expired.example.com")
    kube = _kube.Kube(_kube.connect(server.admin))
    messages, stopped = [], threading.Event()

    def put(message):
        messages.append(message)
        stopped.set()

    selection = _wait.Selection.named(CRDS, "expired.example.com")
    with pytest.raises(_kube.KubeError) as raised:
        for event in kube.watch(CRDS, "watch", 5, resourceVersion="1"):
            assert event["type"] == "ERROR", "the first version is still there"
            raise _kube.KubeError("expired", status=event["object"]["code"])
    assert raised.value.status == 410
    patience = _wait.Patience(time.monotonic, _wait.Outages(), worked=True)
    _wait.follow(kube, selection, "1", put, patience, stopped)
    assert [item["metadata"]["name"] for item in messages[0].objects] == ["expired.example.com"]


def test_connections_cut_again_and_again(server):
    """A load balancer with a short idle time-out; what changes while no watch is open is not missed."""
    with Proxy(server) as proxy:
        wait = Wait(proxy.params, "cut.example.com")
        for _ in range(5):
            proxy.cut()
            time.sleep(0.3)
            assert wait.is_alive()
        proxy.cut()
        server.define("cut.example.com")
        started = time.monotonic()
        assert isinstance(wait.ended(), _wait.Waited), wait.outcome
        assert time.monotonic() - started < 5


def test_connection_that_falls_silent(server, monkeypatch):
    monkeypatch.setattr(_wait, "WATCH_SECONDS", 1)
    with Proxy(server) as proxy:
        wait = Wait(proxy.params, "silent.example.com")
        time.sleep(0.5)  # so that the watch is open
        proxy.fall_silent()
        server.define("silent.example.com")
        time.sleep(0.5)
        assert wait.is_alive(), "the connection has not fallen silent"
        assert isinstance(wait.ended(15), _wait.Waited), wait.outcome
