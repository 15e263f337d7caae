# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The port-forward without a cluster: what it decides, and its pump on real WebSockets over real TLS.

The other end of a tunnel is the same WebSocket implementation on the server side of a socket pair, played by the test.
"""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import struct
import threading
import time

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _port_forward as pf
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websocket import ABNF, WebSocket, WebSocketConnectionClosedException

SERVICE = pf.Service("minio", "model-storage")
TARGET = pf.PodPort("minio-0", "model-storage", 9000)
SPEC = {"ports": [{"name": "api", "port": 80, "targetPort": "s3"}, {"name": "console", "port": 9001}, {"name": "dns", "port": 53, "protocol": "UDP"}]}


def endpoints(*pods, ready=True, ports=({"name": "api", "port": 9000}, {"name": "console", "port": 9001})):
    return {
        "ports": list(ports),
        "endpoints": [{"targetRef": {"kind": "Pod", "name": pod}, "conditions": {"ready": ready}} for pod in pods],
    }


@pytest.mark.parametrize(
    ("spec", "port", "slices", "expected"),
    [
        pytest.param(SPEC, 80, [endpoints("minio-0")], TARGET, id="named target port, resolved in the slice"),
        pytest.param(SPEC, 9001, [endpoints("minio-0")], TARGET._replace(port=9001), id="second port"),
        pytest.param(SPEC, 80, [endpoints("minio-1", ready=False), endpoints("minio-2", "minio-0")], TARGET, id="only ready pods, first by name"),
        pytest.param(SPEC, 80, [endpoints("minio-0", ready=None)], TARGET, id="ready unknown counts as ready"),
        pytest.param(
            {"ports": [{"port": 9000}]},
            9000,
            [endpoints("minio-0", ports=[{"name": "", "port": 9000}])],
            TARGET,
            id="unnamed port: '' and absent are one",
        ),
        pytest.param(
            SPEC,
            80,
            [endpoints("minio-1", ports=[{"name": "console", "port": 9001}]), endpoints("minio-0")],
            TARGET,
            id="slice without the port is passed over",
        ),
    ],
)
def test_choose_pod(spec, port, slices, expected):
    assert pf.choose_pod(SERVICE, port, spec, slices) == expected


@pytest.mark.parametrize(
    ("spec", "port", "slices", "message"),
    [
        (SPEC, 9000, [endpoints("minio-0")], "Service minio in namespace model-storage has no TCP port 9000 (it has: 80, 9001, 53)"),
        (SPEC, 53, [endpoints("minio-0")], "has no TCP port 53"),
        ({}, 80, [], "has no TCP port 80 (it has: none)"),
        (SPEC, 80, [endpoints("minio-1", "minio-0", ready=False)], "no ready pod behind port 80 (not ready, or without that port: minio-0, minio-1)"),
        (
            SPEC,
            80,
            [endpoints("minio-0", ports=[{"name": "console", "port": 9001}])],
            "no ready pod behind port 80 (not ready, or without that port: minio-0)",
        ),
        (SPEC, 80, [], "has no pod behind it"),
        (SPEC, 80, [{"ports": None, "endpoints": None}], "has no pod behind it"),
        (SPEC, 80, [{"ports": SPEC["ports"], "endpoints": [{"addresses": ["192.0.2.1"]}]}], "use its own URL and via=direct"),
        ({**SPEC, "type": "ExternalName"}, 80, [], "use its own URL and via=direct"),
    ],
)
def test_choose_pod_says_why_not(spec, port, slices, message):
    with pytest.raises(pf.EndpointError) as caught:
        pf.choose_pod(SERVICE, port, spec, slices)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'error forwarding port 9000 to pod 3f2a, uid : failed to connect to localhost:9000 inside namespace "x", IPv4: dial tcp4 127.0.0.1:9000:'
            " connect: connection refused IPv6: dial tcp6: address localhost: no suitable address",
            "nothing listens on port 9000 of pod minio-0 in namespace model-storage",
        ),
        ("error forwarding port 9000 to pod 3f2a, uid : sandbox is\n gone", "broke: uid : sandbox is gone: look at the pod"),
    ],
)
def test_what_the_kubelet_says_becomes_one_line(text, message):
    assert message in pf.pod_error(text, TARGET)
    assert "\n" not in pf.pod_error(text, TARGET)


# The pump


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    """Server and client TLS contexts that trust each other."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "api")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("api")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path_factory.mktemp("tls") / "api.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=pem)


class Pod:
    """The far end of a tunnel: sends and receives messages of the port-forward protocol."""

    def __init__(self, sock):
        self.ws = websocket_on(sock)
        for channel in (pf.DATA, pf.ERROR):
            self.send(struct.pack("<H", TARGET.port), channel)

    def send(self, data, channel=pf.DATA):
        self.ws.send_binary(bytes([channel]) + data)

    def receive(self):
        """Data of the next message; None when the tunnel is closed."""
        return receive(self.ws)

    def answer_and_close(self, data):
        """All in one TLS record, as a server does that sends its answer and closes: this is what the client's own pump loses."""
        frames = [ABNF.create_frame(b"\0" + data[i : i + 8000], ABNF.OPCODE_BINARY) for i in range(0, len(data), 8000)]
        frames.append(ABNF.create_frame(struct.pack("!H", 1000), ABNF.OPCODE_CLOSE))
        self.ws.sock.sendall(b"".join(frame.format() for frame in frames))
        self.ws.sock.close()


def receive(ws):
    try:
        frame = ws.recv_frame()
    except (WebSocketConnectionClosedException, OSError):
        return None
    if frame.opcode == ABNF.OPCODE_CLOSE:
        return None
    assert frame.data[0] == pf.DATA
    return frame.data[1:]


def websocket_on(sock):
    ws = WebSocket()
    ws.sock = sock
    ws.connected = True
    return ws


@contextlib.contextmanager
def forwarder(tls, behave, linger=5.0):
    """A Forwarder whose every tunnel ends in ``behave(pod)``, run in a thread of its own; errors of that thread fail the test."""
    server, client = tls
    errors, threads = [], []

    def dial():
        near, far = socket.socketpair()

        def run():
            try:
                behave(Pod(server.wrap_socket(far, server_side=True)))
            except Exception as exc:
                errors.append(exc)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return websocket_on(client.wrap_socket(near, server_hostname="api"))

    with pf.Forwarder(dial, TARGET, linger) as forward:
        yield forward
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert not errors


def connect(forward):
    return socket.create_connection((forward.host, forward.port), timeout=5)


def read_all(sock):
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    return data


def eventually(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("size", [1, 500, 20_000, 300_000])
def test_an_answer_followed_by_close_arrives_whole(tls, size):
    body = bytes(range(256)) * (size // 256 + 1)

    def behave(pod):
        assert pod.receive() == b"GET"
        pod.answer_and_close(body[:size])

    with forwarder(tls, behave) as forward, connect(forward) as sock:
        sock.sendall(b"GET")
        assert read_all(sock) == body[:size]
        assert forward.failure is None


def test_two_messages_in_one_tls_record(tls):
    def behave(pod):
        frames = [ABNF.create_frame(b"\0" + data, ABNF.OPCODE_BINARY) for data in (b"one ", b"two")]
        pod.ws.sock.sendall(b"".join(frame.format() for frame in frames))
        assert pod.receive() is None

    with forwarder(tls, behave, linger=0.1) as forward, connect(forward) as sock:
        assert sock.recv(4) == b"one "
        assert sock.recv(3) == b"two"


def test_fragments_and_pings(tls):
    def behave(pod):
        pod.ws.send_frame(ABNF.create_frame(b"\0one ", ABNF.OPCODE_BINARY, fin=0))
        pod.ws.ping(b"are you there")
        pod.ws.send_frame(ABNF.create_frame(b"two ", ABNF.OPCODE_CONT, fin=0))
        pod.ws.send_frame(ABNF.create_frame(b"three", ABNF.OPCODE_CONT, fin=1))
        pong = pod.ws.recv_frame()
        assert (pong.opcode, pong.data) == (ABNF.OPCODE_PONG, b"are you there")
        pod.answer_and_close(b" four")

    with forwarder(tls, behave) as forward, connect(forward) as sock:
        assert read_all(sock) == b"one two three four"


def test_connections_do_not_mix(tls):
    def echo(pod):
        while (data := pod.receive()) is not None:
            pod.send(data)

    results = {}

    def talk(forward, number):
        body = bytes([number]) * 200_000
        with connect(forward) as sock:
            sender = threading.Thread(target=sock.sendall, args=(body,))
            sender.start()
            got = b""
            while len(got) < len(body):
                got += sock.recv(65536)
            sender.join()
            results[number] = got == body

    with forwarder(tls, echo) as forward:
        threads = [threading.Thread(target=talk, args=(forward, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert results == dict.fromkeys(range(8), True)


def test_answer_after_the_client_has_closed_its_side(tls):
    asked = threading.Event()

    def behave(pod):
        assert pod.receive() == b"last word"
        asked.wait(5)
        pod.answer_and_close(b"answer")

    with forwarder(tls, behave) as forward, connect(forward) as sock:
        sock.sendall(b"last word")
        sock.shutdown(socket.SHUT_WR)
        asked.set()
        assert read_all(sock) == b"answer"


def test_silent_pod_is_given_up_after_the_client_has_closed(tls):
    closed = threading.Event()

    def behave(pod):
        assert pod.receive() == b"x"
        assert pod.receive() is None
        closed.set()

    with forwarder(tls, behave, linger=0.1) as forward:
        with connect(forward) as sock:
            sock.sendall(b"x")
        assert closed.wait(5)
        assert forward.failure is None


def test_refused_by_the_pod(tls):
    def behave(pod):
        pod.send(b"error forwarding port 9000 to pod 3f2a, uid : dial tcp4 127.0.0.1:9000: connect: connection refused", pf.ERROR)
        pod.receive()

    with forwarder(tls, behave) as forward, connect(forward) as sock:
        assert read_all(sock) == b""
        assert forward.failure.startswith("nothing listens on port 9000 of pod minio-0")


def test_a_success_wipes_out_an_earlier_failure(tls):
    with forwarder(tls, lambda pod: pod.answer_and_close(b"ok")) as forward:
        forward.failure = "earlier"
        with connect(forward) as sock:
            assert read_all(sock) == b"ok"
        assert forward.failure is None


def test_tunnel_cannot_be_opened():
    def dial():
        raise pf.EndpointError("no port-forward to it")

    with pf.Forwarder(dial, TARGET) as forward, connect(forward) as sock:
        assert read_all(sock) == b""
        assert forward.failure == "no port-forward to it"


def test_tunnel_breaks(tls):
    def behave(pod):
        assert pod.receive() == b"x"
        socket.socket.sendall(pod.ws.sock, b"not a TLS record, as from a proxy that gives up")
        pod.ws.sock.close()

    with forwarder(tls, behave) as forward, connect(forward) as sock:
        sock.sendall(b"x")
        assert read_all(sock) == b""
        assert "the connection to port 9000 of pod minio-0 in namespace model-storage broke" in forward.failure


def test_client_that_resets_is_no_failure_of_the_pod(tls):
    started = threading.Event()

    def behave(pod):
        assert pod.receive() == b"x"
        started.set()
        assert pod.receive() is None

    with forwarder(tls, behave) as forward:
        sock = connect(forward)
        sock.sendall(b"x")
        assert started.wait(5)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        eventually(lambda: not forward._sockets)
        assert forward.failure is None


@pytest.mark.parametrize("state", ["client open", "client closed"])
def test_exit_closes_everything_at_once(tls, state):
    closed_or_not = threading.Event()

    def behave(pod):
        assert closed_or_not.wait(5)
        pod.send(b"x")
        pod.receive()

    before = set(threading.enumerate())
    with forwarder(tls, behave, linger=60) as forward:
        sock = connect(forward)
        if state == "client closed":
            sock.shutdown(socket.SHUT_WR)
        closed_or_not.set()
        assert sock.recv(1) == b"x"  # so the pump has seen the client's close too
        begin = time.monotonic()
    assert time.monotonic() - begin < 0.9
    assert sock.recv(1) == b""
    sock.close()
    eventually(lambda: set(threading.enumerate()) <= before)
    with pytest.raises(ConnectionRefusedError):
        connect(forward)


def test_tunnel_that_opens_while_all_is_being_closed_is_closed_too():
    dialling, go_on = threading.Event(), threading.Event()
    near, far = socket.socketpair()

    def dial():
        dialling.set()
        assert go_on.wait(5)
        return websocket_on(near)

    with pf.Forwarder(dial, TARGET) as forward:
        sock = connect(forward)
        assert dialling.wait(5)
    go_on.set()
    assert read_all(sock) == b""
    assert receive(websocket_on(far)) is None
