# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _endpoint, _port_forward
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._endpoint import Endpoint, EndpointError, Reached, parse, reach, service_of
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._port_forward import PodPort, Service


def no_cluster():
    raise AssertionError("the API server must not be asked")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://minio.model-storage.svc:9000", Endpoint("http", "minio.model-storage.svc", 9000, "")),
        ("https://s3.example.com", Endpoint("https", "s3.example.com", 443, "")),
        ("http://s3.example.com/", Endpoint("http", "s3.example.com", 80, "")),
        ("http://tempo.example.com/tempo/", Endpoint("http", "tempo.example.com", 80, "/tempo")),
        ("https://[2001:db8::1]:9000", Endpoint("https", "2001:db8::1", 9000, "")),
        ("HTTP://Minio.Example.COM", Endpoint("http", "minio.example.com", 80, "")),
    ],
)
def test_parse(url, expected):
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("minio.model-storage.svc:9000", "otlp: 'minio.model-storage.svc:9000' has no scheme: put http:// or https:// in front"),
        ("minio", "has no scheme"),
        ("127.0.0.1:9000", "has no scheme"),
        ("", "has no scheme"),
        ("grpc://collector:4317", "has scheme 'grpc': use http or https"),
        ("http://", "has no host"),
        ("http://:9000", "has no host"),
        ("http://minio:nine", "its port is not a number"),
        ("http://minio:99999", "its port is not a number"),
        ("http://minio:0", "has no valid port"),
        ("http://[::1", "not a valid URL"),
        ("http://minio:9000?x=1", "has a query"),
        ("http://minio:9000#x", "has a query or fragment"),
    ],
)
def test_parse_says_what_is_wrong(url, message):
    with pytest.raises(EndpointError) as caught:
        parse(url, "otlp")
    assert message in str(caught.value)
    assert str(caught.value).startswith("otlp: ")


@pytest.mark.parametrize(
    "url", ["http://user:s3cr3t@minio:9000", "user:s3cr3t@minio:9000", "http://user:s3cr3t@minio:nine", "http://user:s3cr3t@[::1"]
)
def test_a_password_in_the_url_is_refused_and_not_repeated(url):
    with pytest.raises(EndpointError) as caught:
        parse(url)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("minio.model-storage.svc", Service("minio", "model-storage")),
        ("minio.model-storage.svc.cluster.local", Service("minio", "model-storage")),
        ("minio.model-storage.svc.corp.example.", Service("minio", "model-storage")),
        ("minio.model-storage.svc.", Service("minio", "model-storage")),
        ("minio.model-storage", None),
        ("pod-0.minio.model-storage.svc", None),
        ("minio.model-storage.svcs", None),
        ("minio.example.com", None),
        ("127.0.0.1", None),
    ],
)
def test_service_of(host, expected):
    assert service_of(host) == expected


@pytest.mark.parametrize(
    ("url", "via", "expected"),
    [
        ("https://s3.example.com", "auto", Reached("https://s3.example.com:443", "s3.example.com", 443, "s3.example.com", False)),
        (
            "http://tempo.example.com:3200/t/",
            "direct",
            Reached("http://tempo.example.com:3200/t", "tempo.example.com", 3200, "tempo.example.com", False),
        ),
        ("http://minio.x.svc:9000", "direct", Reached("http://minio.x.svc:9000", "minio.x.svc", 9000, "minio.x.svc", False)),
        ("http://[::1]:9000", "auto", Reached("http://[::1]:9000", "::1", 9000, "::1", False)),
    ],
)
def test_direct(url, via, expected):
    with reach(url, no_cluster, via) as reached:
        assert reached == expected


def test_port_forward_needs_a_service():
    with (
        pytest.raises(EndpointError, match=r"^endpoint: 's3\.example\.com' is not a Service.*or set via=direct$"),
        reach("https://s3.example.com", no_cluster, "port_forward"),
    ):
        pass


@pytest.fixture
def forward(monkeypatch):
    """Replaces only the look-up of the pod; the Forwarder is real and its tunnels fail as the test says."""
    asked = []

    def install(dial):
        def forward_to(api_client, service, port):
            asked.append((api_client, service, port))
            return _port_forward.Forwarder(dial, PodPort("minio-0", service.namespace, port))

        monkeypatch.setattr(_endpoint._port_forward, "forward", forward_to)
        return asked

    return install


def refuse():
    raise EndpointError("nothing listens there")


@pytest.mark.parametrize("via", ["auto", "port_forward"])
def test_service_goes_by_port_forward(forward, via):
    asked = forward(refuse)
    with reach("https://minio.model-storage.svc.cluster.local:9000/x", lambda: "client", via) as reached:
        assert asked == [("client", Service("minio", "model-storage"), 9000)]
        assert reached == Reached(f"https://127.0.0.1:{reached.port}/x", "127.0.0.1", reached.port, "minio.model-storage.svc.cluster.local", True)
        with socket.create_connection((reached.host, reached.port), timeout=5):
            pass


def test_reason_of_the_port_forward_replaces_that_of_the_library(forward):
    forward(refuse)
    with (
        pytest.raises(EndpointError, match=r"^tempo: nothing listens there$") as caught,
        reach("http://tempo.x.svc:3200", lambda: None, parameter="tempo") as reached,
        socket.create_connection((reached.host, reached.port), timeout=5) as sock,
    ):
        assert sock.recv(1) == b""
        raise ConnectionError("what a library makes of it")
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_other_errors_are_left_alone_when_the_port_forward_is_well(forward):
    forward(refuse)
    with pytest.raises(ValueError, match="^mine$"), reach("http://tempo.x.svc:3200", lambda: None):
        raise ValueError("mine")


def test_listener_is_closed_afterwards(forward):
    forward(refuse)
    with reach("http://tempo.x.svc:3200", lambda: None) as reached:
        pass
    with contextlib.closing(socket.socket()) as sock:
        assert sock.connect_ex((reached.host, reached.port)) != 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("port-forward")]
