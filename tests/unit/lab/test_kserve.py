# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What KServe is told in the lab."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import threading

import pytest
import yaml
from lab.kserve import config_map, objects, self_signed

SHIPPED = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "inferenceservice-config", "namespace": "elsewhere"},
    "data": {
        "_example": "nothing that counts",
        "deploy": '{"defaultDeploymentMode": "Serverless"}',
        "ingress": '{"ingressDomain": "example.com", "urlScheme": "http"}',
        "inferenceService": '{"resource": {"cpuRequest": "1"}}',
        "agent": '{"image": "kserve/agent:latest"}',
    },
}


@pytest.fixture
def config(tmp_path):
    """Folder `config` of KServe's module, shortened."""
    client = {"service": {"name": "$(webhookServiceName)", "namespace": "$(kserveNamespace)", "path": "/mutate-pods"}}
    files = {
        "configmap/inferenceservice.yaml": [SHIPPED],
        "webhook/manifests.yaml": [None, {"kind": "MutatingWebhookConfiguration", "metadata": {"name": "a"}, "webhooks": [{"clientConfig": client}]}],
    }
    for name, items in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(yaml.safe_dump_all(items))
    return tmp_path


def test_settings_are_merged_into_what_is_shipped():
    data = {key: json.loads(value) for key, value in config_map(SHIPPED)["data"].items()}
    assert data["deploy"] == {"defaultDeploymentMode": "RawDeployment"}
    assert data["ingress"]["ingressDomain"] == "svc.cluster.local"
    assert data["ingress"]["urlScheme"] == "http"
    assert data["agent"] == {"image": "kserve/agent:latest"}
    assert "_example" not in data


def test_webhooks_name_the_service_and_trust_its_certificate(config):
    settings, secret, webhooks = objects(config)
    assert (settings["metadata"]["namespace"], secret["metadata"]["name"]) == ("kserve", "kserve-webhook-server-cert")
    (webhook,) = webhooks["webhooks"]
    assert webhook["clientConfig"]["service"] == {"name": "kserve-webhook-server-service", "namespace": "kserve", "path": "/mutate-pods"}
    assert base64.b64decode(webhook["clientConfig"]["caBundle"]).decode() == secret["stringData"]["tls.crt"]


@pytest.mark.parametrize(("host", "trusted"), [("webhooks.kserve.svc", True), ("elsewhere.kserve.svc", False)])
def test_a_client_with_the_certificate_trusts_its_host_only(tmp_path, host, trusted):
    certificate, key = self_signed("webhooks.kserve.svc")
    (tmp_path / "both.pem").write_text(certificate + key)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "both.pem")
    theirs, ours = socket.socketpair()

    def serve():
        with theirs, contextlib.suppress(ssl.SSLError):  # the client's refusal
            serving.wrap_socket(theirs, server_side=True).close()

    thread = threading.Thread(target=serve)
    thread.start()
    with ours, contextlib.nullcontext() if trusted else pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        ssl.create_default_context(cadata=certificate).wrap_socket(ours, server_hostname=host).close()
    thread.join()
