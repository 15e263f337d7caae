# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations


class ModuleDocFragment:
    """Options of modules that read from Prometheus."""

    DOCUMENTATION = r"""
options:
  prometheus_endpoint:
    description:
      - URL of Prometheus' API without the C(/api/v1), for example V(http://prometheus-operated.monitoring.svc:9090).
        Whatever speaks this API will do, as Thanos Querier.
      - Without it OpenShift's is used, C(https://thanos-querier.openshift-monitoring.svc:9091), with the CA that OpenShift publishes and,
        unless O(prometheus_token) or O(prometheus_service_account) is given, with the token of the connection to the API server.
        That token is shown to no other endpoint.
    type: str
  prometheus_token:
    description: Bearer token to read with. On OpenShift its owner needs the ClusterRole C(cluster-monitoring-view).
    type: str
  prometheus_service_account:
    description:
      - A service account to read as, if O(prometheus_token) is not given. The module asks the API server for a token that lives ten minutes
        and keeps it nowhere. This needs C(create) on C(serviceaccounts/token).
    type: dict
    suboptions:
      name:
        description: Name.
        type: str
        required: true
      namespace:
        description: Namespace.
        type: str
        required: true
  prometheus_ca_cert:
    description:
      - Path of a PEM file with the certificate authorities to trust for O(prometheus_endpoint), or the certificates themselves.
      - Without it the system's are trusted, and for OpenShift's own Prometheus those that OpenShift publishes.
    type: path
"""
