# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations


class ModuleDocFragment:
    """Options and requirements of modules that send telemetry to an OpenTelemetry collector."""

    DOCUMENTATION = r"""
options:
  otlp_grpc_endpoint:
    description:
      - URL of the collector's OTLP gRPC receiver, for example V(http://otel-collector-collector.private-ai-demo.svc:4317).
        C(https) means gRPC over TLS.
      - Required when O(protocols) has V(grpc).
    type: str
  otlp_http_endpoint:
    description:
      - URL of the collector's OTLP HTTP receiver without the C(/v1/traces) or C(/v1/metrics), for example
        V(http://otel-collector-collector.private-ai-demo.svc:4318).
      - Required when O(protocols) has V(http).
    type: str
  collector_metrics_endpoint:
    description:
      - URL of the collector's own metrics without the C(/metrics), for example
        V(http://otel-collector-collector-monitoring.private-ai-demo.svc:8888).
      - Without it the module still works, but cannot tell what the collector failed to export.
    type: str
  protocols:
    description: OTLP protocols to prove; something is sent over each.
    type: list
    elements: str
    choices: [grpc, http]
    default: [grpc, http]
  service_name:
    description: Value of C(service.name) of what is sent.
    type: str
    default: model-monitoring-probe
  send_timeout:
    description: Seconds to wait at most for the collector to accept it. An answer that allows it is followed by another attempt.
    type: float
    default: 10
  otlp_ca_cert:
    description:
      - Path of a PEM file with the certificate authorities to trust for the collector's C(https) endpoints, or the certificates themselves.
      - Without it the system's authorities are trusted (for gRPC those that its library brings along).
    type: path
requirements:
  - python >= 3.10
  - opentelemetry-sdk >= 1.27
  - opentelemetry-exporter-otlp-proto-grpc >= 1.27
  - kubernetes >= 28.1.0 (for endpoints reached by port-forward)
"""
