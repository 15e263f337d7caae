# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Errors of the Kubernetes client in plain words, and finding the way to the cluster. No network."""

from __future__ import annotations

import json
import ssl

import pytest
import urllib3.exceptions
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube
from kubernetes.client.exceptions import ApiException
from urllib3.connectionpool import HTTPSConnectionPool

POOL = HTTPSConnectionPool("api.example.com", 6443)
FORBIDDEN = (
    'subscriptions.operators.coreos.com is forbidden: User "dev" cannot list resource "subscriptions" in API group'
    ' "operators.coreos.com" in the namespace "demo"'
)


def refused(status, message, headers=None):
    error = ApiException(status=status, reason="Reason")
    error.body = json.dumps({"kind": "Status", "message": message}) if message is not None else None
    error.headers = headers or {}
    return error


def connection_error():
    connection = POOL.ConnectionCls("api.example.com", 6443)
    return urllib3.exceptions.NewConnectionError(connection, "Failed to establish a new connection: [Errno 111] Connection refused")


class TestExplain:
    @pytest.mark.parametrize(
        ("error", "parts", "status", "permanent"),
        [
            (refused(401, "Unauthorized"), ["does not accept the credentials (401 Unauthorized)", "Log in again"], 401, False),
            (
                refused(403, 'namespaces is forbidden: User "system:anonymous" cannot list'),
                ["does not accept the credentials", "Log in again"],
                403,
                False,
            ),
            (refused(403, FORBIDDEN), ["not allowed", FORBIDDEN, "Grant this verb"], 403, False),
            (refused(404, "the server could not find the requested resource"), ["not found (the server could"], 404, False),
            (refused(500, "etcdserver: leader changed"), ["answered 500 (etcdserver: leader changed)"], 500, False),
            (refused(502, None), ["answered 502 (Reason)"], 502, False),
            (connection_error(), ["api.example.com:6443 does not answer", "Connection refused", "kubeconfig"], None, False),
            (
                urllib3.exceptions.MaxRetryError(POOL, "/api", connection_error()),
                ["the API server api.example.com:6443 does not answer (Failed to establish a new connection"],
                None,
                False,
            ),
            (urllib3.exceptions.ReadTimeoutError(POOL, "/api", "Read timed out."), ["api.example.com:6443 does"], None, False),
            (urllib3.exceptions.ProtocolError("Connection broken"), ["does not answer (Connection broken)"], None, False),
            (ConnectionResetError(104, "Connection reset by peer"), ["Connection reset by peer"], None, False),
            (TimeoutError(), ["does not answer (TimeoutError)"], None, False),
            (
                urllib3.exceptions.SSLError(ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")),
                ["no TLS connection", "self-signed certificate", "ca_cert"],
                None,
                True,
            ),
            (
                ApiException(status=0, reason="SSLError\n[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"),
                ["no TLS connection", "ca_cert"],
                None,
                True,
            ),
            (urllib3.exceptions.SSLError("record layer failure"), ["no TLS connection"], None, False),
        ],
    )
    def test_one_line_with_action_and_cure(self, error, parts, status, permanent):
        translated = _kube.translate(error, "list Subscriptions in namespace demo")
        text = str(translated)
        assert text == _kube.explain(error, "list Subscriptions in namespace demo")
        assert text.startswith("Cannot list Subscriptions in namespace demo: ")
        assert "\n" not in text
        assert [part for part in parts if part not in text] == []
        assert (translated.status, translated.permanent) == (status, permanent)

    def test_no_object_address_in_the_text(self):
        assert "0x" not in _kube.explain(connection_error(), "x")
        assert "HTTPSConnection" not in _kube.explain(connection_error(), "x")

    def test_retry_after(self):
        assert _kube.translate(refused(429, "slow down", {"Retry-After": "7"}), "x").retry_after == 7.0
        assert _kube.translate(refused(429, "slow down", {"Retry-After": "Wed, 21 Oct 2026"}), "x").retry_after is None
        assert _kube.translate(refused(429, "slow down"), "x").retry_after is None

    def test_a_long_body_is_cut(self):
        assert len(_kube.explain(refused(500, "x" * 5000), "x")) < 1000

    def test_an_error_of_ours_stays_as_it_is(self):
        error = _kube.KubeError("already said", status=418)
        assert _kube.translate(error, "x") is error


class TestConnect:
    @pytest.fixture(autouse=True)
    def nothing_configured(self, monkeypatch, tmp_path):
        for name in ("KUBECONFIG", "K8S_AUTH_KUBECONFIG", "KUBERNETES_SERVICE_HOST", "K8S_AUTH_HOST", "K8S_AUTH_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / ".kube/config"))

    def fails(self, **params):
        with pytest.raises(_kube.KubeError) as raised:
            _kube.connect(params)
        assert raised.value.permanent
        return str(raised.value)

    def test_no_configuration_at_all(self):
        text = self.fails()
        assert "No connection to a cluster is configured" in text
        assert "Set KUBECONFIG" in text

    def test_a_kubeconfig_that_does_not_exist(self):
        assert "The kubeconfig /no/such/file does not exist" in self.fails(kubeconfig="/no/such/file")

    def test_a_kubeconfig_of_the_environment_that_does_not_exist(self, monkeypatch):
        monkeypatch.setenv("K8S_AUTH_KUBECONFIG", "/no/such/file")
        assert "The kubeconfig /no/such/file does not exist" in self.fails()

    @pytest.mark.parametrize("content", ["just a string", "- a\n- list", "{", "a: 1"])
    def test_a_kubeconfig_that_is_none(self, tmp_path, content):
        path = tmp_path / "config"
        path.write_text(content)
        text = self.fails(kubeconfig=str(path))
        assert text.startswith(f"The kubeconfig {path} cannot be used: ")
        assert "\n" not in text

    def test_a_dictionary_that_is_no_kubeconfig(self):
        assert "The kubeconfig given as a dictionary cannot be used" in self.fails(kubeconfig={"a": 1})

    def test_options_are_those_of_kubernetes_core(self):
        client = _kube.connect(
            {
                "host": "https://api.example.com:6443/",
                "api_key": "secret",
                "validate_certs": False,
                "impersonate_user": "dev",
                "impersonate_groups": ["a", "b"],
                "timeout": 5,
                "crds": [],
            }
        )
        assert client.configuration.host == "https://api.example.com:6443"
        assert client.configuration.api_key == {"authorization": "Bearer secret"}
        assert client.configuration.verify_ssl is False
        assert client.configuration.retries is False
        assert client.default_headers["Impersonate-User"] == "dev"
        assert sorted(v for k, v in client.default_headers.items() if k.lower().startswith("impersonate-group")) == ["a", "b"]

    def test_the_library_is_missing(self, monkeypatch):
        monkeypatch.setattr(_kube, "IMPORT_ERROR", ImportError("No module named 'kubernetes'"))
        with pytest.raises(_kube.KubeError, match="pip install kubernetes"):
            _kube.connect({})


@pytest.mark.parametrize(
    "chunks",
    [
        [b'{"a": 1}\n{"a": 2}\n'],
        [b'{"a"', b': 1}\n{"a": 2', b"}\n"],
        [b'{"a": 1}', b"\n", b"\n", b'{"a": 2}\n{"a": 3'],
    ],
)
def test_lines_wherever_the_chunks_are_cut(chunks):
    assert list(_kube.lines(chunks)) == [b'{"a": 1}', b'{"a": 2}']


def test_a_line_is_given_as_soon_as_it_is_complete():
    def chunks():
        yield b"first\nsec"
        pytest.fail("the second chunk was read before the first line was given")

    assert next(_kube.lines(chunks())) == b"first"


def test_a_character_cut_in_two():
    text = '{"a": "ü"}\n'.encode()
    cut = text.index("ü".encode()) + 1
    assert [json.loads(line) for line in _kube.lines([text[:cut], text[cut:]])] == [{"a": "ü"}]
