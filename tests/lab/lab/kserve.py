# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""KServe's configuration and webhooks from its own files, with what it gets from OpenShift AI: RawDeployment and a certificate."""

from __future__ import annotations

import base64
import datetime
import json
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMESPACE = "kserve"
WEBHOOKS = "kserve-webhook-server-service"
#: What differs from the ConfigMap that KServe ships, by its key.
SETTINGS: dict[str, dict[str, Any]] = {
    "deploy": {"defaultDeploymentMode": "RawDeployment"},
    "ingress": {
        "disableIngressCreation": True,
        "disableIstioVirtualHost": True,
        # So status.url is that of the Service, and resolves; the default names an ingress that is not there.
        "domainTemplate": "{{ .Name }}-predictor.{{ .Namespace }}.{{ .IngressDomain }}",
        "ingressDomain": "svc.cluster.local",
    },
    # For two cores.
    "inferenceService": {"resource": {"cpuLimit": "1", "memoryLimit": "1Gi", "cpuRequest": "10m", "memoryRequest": "64Mi"}},
}

Object = dict[str, Any]


def objects(config: Path) -> list[Object]:
    """ConfigMap, webhooks and their certificate, from the folder `config` of KServe's module."""
    certificate, key = self_signed(f"{WEBHOOKS}.{NAMESPACE}.svc")
    webhooks = (config / "webhook/manifests.yaml").read_text()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "kserve-webhook-server-cert", "namespace": NAMESPACE},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": certificate, "tls.key": key},
    }
    return [
        config_map(yaml.safe_load((config / "configmap/inferenceservice.yaml").read_text())),  # before the Secret, which the pod waits for
        secret,
        *(with_authority(item, certificate) for item in yaml.safe_load_all(webhooks) if item),
    ]


def config_map(shipped: Object) -> Object:
    """KServe's ConfigMap with SETTINGS."""
    data = {key: value for key, value in shipped["data"].items() if key != "_example"}
    for key, settings in SETTINGS.items():
        data[key] = json.dumps(json.loads(data[key]) | settings)
    return {**shipped, "metadata": {"name": shipped["metadata"]["name"], "namespace": NAMESPACE}, "data": data}


def with_authority(configuration: Object, certificate: str) -> Object:
    """A webhook configuration that names KServe's Service and trusts the certificate."""
    for webhook in configuration["webhooks"]:
        client = webhook["clientConfig"]
        client["caBundle"] = base64.b64encode(certificate.encode()).decode()
        client["service"] |= {"name": WEBHOOKS, "namespace": NAMESPACE}
    return configuration


def self_signed(host: str) -> tuple[str, str]:
    """A server's certificate that is its own authority, and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()
