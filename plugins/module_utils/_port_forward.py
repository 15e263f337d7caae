# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Reach a port of a Service through the Kubernetes API server (what ``kubectl port-forward service/...`` does).

Three steps, apart from each other: ``choose_pod`` decides (pure), ``open_tunnel`` dials (one WebSocket per connection),
``Forwarder`` listens on loopback and pumps bytes.

Why not ``kubernetes.stream.portforward``: it opens the same WebSocket, but its pump throws away what it has not delivered yet
when the pod closes, so the answer to a ``Connection: close`` request is lost, and it replaces a method of the shared ApiClient
for the time of a call, which is not safe with several connections at once. The WebSocket itself (TLS, proxy, credentials) is
the client's.

RBAC that is used, in the namespace of the Service: ``get`` services; ``list`` endpointslices (discovery.k8s.io); ``create`` and ``get``
pods/portforward (a WebSocket is asked for by GET; newer API servers want ``create`` as well).
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import ssl
import threading
import time
import typing as t

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError

DATA, ERROR = 0, 1
"""Channels of the port-forward protocol v4: the first byte of every message."""

LINGER = 5.0
"""Seconds that a pod may stay silent after the client has closed its side, before the connection is given up."""

STALL = 30.0
"""Seconds that a peer may stop in the middle of a frame."""

CHUNK = 64 * 1024


class EndpointError(ModelMonitoringError):
    """An endpoint cannot be reached; the message names it and the cure."""


class Service(t.NamedTuple):
    """A Service of the cluster."""

    name: str
    namespace: str

    def __str__(self) -> str:
        return f"Service {self.name} in namespace {self.namespace}"


class PodPort(t.NamedTuple):
    """A container port of a pod."""

    pod: str
    namespace: str
    port: int

    def __str__(self) -> str:
        return f"port {self.port} of pod {self.pod} in namespace {self.namespace}"


def choose_pod(service: Service, port: int, spec: dict[str, t.Any], slices: list[dict[str, t.Any]]) -> PodPort:
    """Choose a Ready pod behind a Service's port.

    :param service: names, for messages.
    :param port: the Service's port (not the pod's).
    :param spec: ``spec`` of the Service as the API sends it.
    :param slices: ``items`` of its EndpointSlices as the API sends them; these already hold the numeric port of a named targetPort.
    :raises EndpointError: the Service has no such port, or no Ready pod behind it.
    """
    ports = spec.get("ports") or []
    wanted = next((p for p in ports if p["port"] == port and p.get("protocol", "TCP") == "TCP"), None)
    if wanted is None:
        known = ", ".join(str(p["port"]) for p in ports) or "none"
        raise EndpointError(f"{service} has no TCP port {port} (it has: {known}): give one of its ports in the URL")

    waiting: list[str] = []
    ready: list[PodPort] = []
    others = False
    for piece in slices:
        number = next((p.get("port") for p in piece.get("ports") or [] if (p.get("name") or "") == (wanted.get("name") or "")), None)
        for endpoint in piece.get("endpoints") or []:
            target = endpoint.get("targetRef") or {}
            if target.get("kind") != "Pod":
                others = True
            elif (endpoint.get("conditions") or {}).get("ready") is False or number is None:
                waiting.append(target["name"])
            else:
                ready.append(PodPort(target["name"], service.namespace, number))
    if ready:
        return min(ready)
    if waiting:
        pods = ", ".join(sorted(set(waiting)))
        raise EndpointError(
            f"{service} has no ready pod behind port {port} (not ready, or without that port: {pods}): look at the state and the log of these pods"
        )
    if others or spec.get("type") == "ExternalName":
        raise EndpointError(f"{service} leads to something that is not a pod, which a port-forward cannot reach: use its own URL and via=direct")
    raise EndpointError(f"{service} has no pod behind it: look whether its selector matches running pods")


def find_pod(api_client: t.Any, service: Service, port: int) -> PodPort:
    """Ask the API server for a Ready pod behind a Service's port.

    :param api_client: what ``_kube.connect`` returns.
    :raises EndpointError: no such Service, port or Ready pod.
    :raises KubeError: the API server cannot be asked.
    """
    kube = _kube.Kube(api_client)
    try:
        found = kube.get(f"/api/v1/namespaces/{service.namespace}/services/{service.name}", f"get {service}")
    except _kube.KubeError as exc:
        if exc.status != 404:
            raise
        raise EndpointError(
            f"{service} does not exist: correct the host in the URL (<service>.<namespace>.svc), or set via=direct if it is not a Service"
        ) from exc
    slices = kube.get(
        f"/apis/discovery.k8s.io/v1/namespaces/{service.namespace}/endpointslices",
        f"list endpointslices of {service}",
        labelSelector=f"kubernetes.io/service-name={service.name}",
    )
    return choose_pod(service, port, found["spec"], slices.get("items") or [])


def open_tunnel(api_client: t.Any, target: PodPort) -> t.Any:
    """Open one connection to a pod's port, as a ``websocket.WebSocket`` that speaks the port-forward protocol v4.

    Safe to be called from several threads: nothing of the ApiClient is changed.

    :raises EndpointError: the API server or the kubelet says no.
    """
    from kubernetes.stream import ws_client

    if any(name.lower().startswith("impersonate-") for name in api_client.default_headers):
        raise EndpointError(
            f"a port-forward to {target} cannot impersonate another user (the Kubernetes client sends no such header over a WebSocket):"
            " use the credentials of that user, or an address that can be reached directly"
        )
    headers: dict[str, str] = {"sec-websocket-protocol": "v4.channel.k8s.io"}
    query = [("ports", str(target.port))]
    # Not ApiClient.update_params_for_auth: its signature differs between versions of the client.
    token = api_client.configuration.auth_settings().get("BearerToken", {}).get("value")
    if token:
        headers["authorization"] = token
    path = f"/api/v1/namespaces/{target.namespace}/pods/{target.pod}/portforward"
    url = ws_client.get_websocket_url(api_client.configuration.host + path, query)
    try:
        return ws_client.create_websocket(api_client.configuration, url, headers)
    except Exception as exc:
        raise EndpointError(refusal(exc, target)) from exc


def refusal(exc: Exception, target: PodPort) -> str:
    """One line for a WebSocket that was not opened.

    :param exc: of ``websocket-client``; a bad handshake carries ``status_code`` and, by version, ``resp_body`` (a Status object as JSON).
    """
    status = getattr(exc, "status_code", None)
    if status is None:
        return _kube.explain(exc, f"open a port-forward to {target}")
    if status == 401:
        return f"no port-forward to {target}: the API server does not know these credentials (401): renew the token or the kubeconfig"
    if status == 403:
        return f"no port-forward to {target}: the user may not do it (403): allow get and create on pods/portforward in namespace {target.namespace}"
    try:
        answer = json.loads(getattr(exc, "resp_body", None) or b"{}")
        reason, missing = answer.get("message", ""), (answer.get("details") or {}).get("name")
    except (ValueError, AttributeError):
        reason, missing = "", None
    # A node that is gone is answered with 404 as well; the API server says «pods "<name of the node>" not found».
    if status == 404 and missing in (None, target.pod):
        return f"no port-forward to {target}: the pod is gone (404): run again"
    reason = " ".join(str(reason).split()) or "no reason given"
    return f"no port-forward to {target}: the API server answers {status} ({reason}): look whether the pod's node and its kubelet are up"


def pod_error(text: str, target: PodPort) -> str:
    """One line for what the kubelet sends on the error channel, e.g. ``error forwarding port 9000 to pod ...: connection refused``."""
    text = " ".join(text.split())
    if "refused" in text:
        return f"nothing listens on {target}: look at the log of the pod, and whether the Service's targetPort is the port of its program"
    # The runtime's text names the pod by its sandbox's id first; what counts comes after the last such name.
    return f"the connection to {target} broke: {re.sub(r'^error forwarding port [0-9]+ to pod [^ ,]+,? ?', '', text)}: look at the pod and its node"


class Forwarder:
    """A listener on 127.0.0.1 that forwards every connection through a tunnel of its own.

    Context manager; at exit the listener and all connections are closed.

    :param dial: opens one tunnel (see ``open_tunnel``); raises EndpointError.
    :param target: for messages.
    """

    def __init__(self, dial: t.Callable[[], t.Any], target: PodPort, linger: float = LINGER) -> None:
        self._dial = dial
        self._target = target
        self._linger = linger
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()  # of clients and tunnels, to wake their threads at exit
        self._threads: list[threading.Thread] = []
        self._closing = False
        self.failure: str | None = None
        """Why the latest connection did not work, in one line; None as soon as one delivers bytes of the pod."""

    def __enter__(self) -> Forwarder:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()
        self._spawn(self._accept)
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._closing = True
            for sock in (self._listener, *self._sockets):
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not SSLSocket's, which would take the TLS state from its thread
        deadline = time.monotonic() + 1
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        self._listener.close()

    def _spawn(self, target: t.Callable[..., None], *args: t.Any) -> None:
        thread = threading.Thread(target=target, args=args, name=f"port-forward {self._target.pod}:{self._target.port}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _peer = self._listener.accept()
            except OSError:  # closed
                return
            self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(client.close)
            try:
                tunnel = self._dial()
                stack.callback(_close_quietly, tunnel)
                tunnel.settimeout(STALL)
                sockets = {client, tunnel.sock}
                with self._lock:
                    if self._closing:
                        return
                    self._sockets |= sockets
                stack.callback(self._sockets.difference_update, sockets)
                self._pump(client, tunnel)
            except EndpointError as exc:
                self.failure = str(exc)  # before the client's connection is closed: who sees that can read this
            except Exception as exc:
                self.failure = f"the connection to {self._target} broke ({type(exc).__name__}): look at the pod, its node and the API server"

    def _pump(self, client: socket.socket, tunnel: t.Any) -> None:
        """Copy bytes both ways until the pod has closed, or the client has and the pod stays silent for ``linger`` seconds.

        One thread reads and writes: a Python TLS socket must not be used by two at once. The protocol cannot tell the pod that the
        client has closed one side only, so that is kept to ourselves and the pod's answer is still delivered.
        """
        from websocket import ABNF, WebSocketConnectionClosedException

        started: set[int] = set()  # channels whose first message (the port number, 2 bytes) has been seen
        channel = DATA
        client_open = True
        while not self._closing:
            buffered = isinstance(tunnel.sock, ssl.SSLSocket) and tunnel.sock.pending() > 0
            readers = [tunnel.sock, client] if client_open else [tunnel.sock]
            readable = [tunnel.sock] if buffered else select.select(readers, [], [], None if client_open else self._linger)[0]
            if not readable or self._closing:
                return
            if client in readable:
                try:
                    data = client.recv(CHUNK)
                except OSError:  # the client has gone; that is its own business
                    return
                if data:
                    tunnel.send_binary(bytes([DATA]) + data)
                else:
                    client_open = False
            if tunnel.sock in readable:
                try:
                    frame = tunnel.recv_frame()  # not recv_data_frame(): it fails when it cannot return the courtesy of a close
                except WebSocketConnectionClosedException:
                    return
                if frame.opcode == ABNF.OPCODE_CLOSE:
                    return
                if frame.opcode == ABNF.OPCODE_PING:
                    tunnel.pong(frame.data)
                if frame.opcode not in (ABNF.OPCODE_BINARY, ABNF.OPCODE_CONT) or not frame.data:
                    continue
                data = frame.data
                if frame.opcode == ABNF.OPCODE_BINARY:  # else it goes on with the message before
                    channel, data = data[0], data[1:]
                if channel not in started:
                    started.add(channel)
                elif channel == ERROR:
                    raise EndpointError(pod_error(data.decode("utf-8", "replace"), self._target))
                elif data:
                    self.failure = None
                    try:
                        client.sendall(data)
                    except OSError:
                        return


def _close_quietly(tunnel: t.Any) -> None:
    with contextlib.suppress(Exception):  # it may be broken already
        tunnel.close(timeout=0)


def forward(api_client: t.Any, service: Service, port: int) -> Forwarder:
    """A Forwarder (not yet entered) to a Ready pod behind a Service's port; raises what ``find_pod`` raises."""
    target = find_pod(api_client, service, port)
    return Forwarder(lambda: open_tunnel(api_client, target), target)
