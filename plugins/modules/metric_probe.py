#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: send a metric through an OpenTelemetry collector and read it back from Prometheus."""

from __future__ import annotations

DOCUMENTATION = r"""
module: metric_probe
short_description: Send a metric through an OpenTelemetry collector and read it back from Prometheus
version_added: 0.1.0
author:
  - private_ai.model_monitoring contributors (@private-ai)
description:
  - Sends a metric to a collector, over OTLP gRPC and OTLP HTTP, looks for it on the page of the collector's Prometheus exporter, and reads it
    back from Prometheus' query API once that has scraped the page.
  - The metric is the gauge C(private_ai_probe_timestamp_seconds). Its only label of its own is C(protocol) and its value is the time
    of sending, by which it is found. So probes make one series for each protocol, however often they run.
  - If the metric does not arrive, or if another exporter of the collector (remote write, for example) cannot get rid of it, the module fails
    and names the hop that lost it, with what was seen and what to do.
  - Endpoints that are Services of the cluster are reached by port-forward through the Kubernetes API, see O(via).
options:
  exporter_endpoint:
    description:
      - URL of the page of the collector's Prometheus exporter without the C(/metrics), for example
        V(http://otel-collector-collector.private-ai-demo.svc:8889).
      - Without it the module cannot tell a metric that the collector did not export from one that was not scraped. Leave it out when
        several replicas are behind a load balancer, as the page may be another replica's.
    type: str
  scrape_labels:
    description:
      - Labels of the scrape target that is this page in Prometheus, by which its state is found when the metric does not arrive.
      - Default is C(namespace) and C(service) of the Service that O(exporter_endpoint) names, which is what a ServiceMonitor makes.
    type: dict
  timeout:
    description:
      - Seconds to wait at most until Prometheus has the metrics.
      - Prometheus needs up to its scrape interval for a target that it knows, and up to two minutes more for one that is new.
    type: float
    default: 150
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - private_ai.model_monitoring.otlp_collector
  - private_ai.model_monitoring.prometheus
  - private_ai.model_monitoring.endpoint
attributes:
  check_mode:
    description: Sends nothing and connects to nothing; says what would be proven.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
notes:
  - RV(ignore:changed) is always V(false). The probe's two series stay in Prometheus for its retention time like any other, but they are data
    that flows through the stack and not configuration of it, so a play that ends with a proof stays idempotent.
  - Proxies in the environment (C(HTTPS_PROXY)) are used for the Kubernetes API only.
seealso:
  - module: private_ai.model_monitoring.trace_probe
  - module: private_ai.model_monitoring.prometheus_probe
  - name: Prometheus HTTP API
    description: The requests that read the metric back.
    link: https://prometheus.io/docs/prometheus/latest/querying/api/
"""

EXAMPLES = r"""
- name: Prove on OpenShift that metrics arrive, reaching the Services through the Kubernetes API
  private_ai.model_monitoring.metric_probe:
    otlp_grpc_endpoint: http://otel-collector-collector.private-ai-demo.svc:4317
    otlp_http_endpoint: http://otel-collector-collector.private-ai-demo.svc:4318
    exporter_endpoint: http://otel-collector-collector.private-ai-demo.svc:8889
    collector_metrics_endpoint: http://otel-collector-collector-monitoring.private-ai-demo.svc:8888

- name: Prove it with another Prometheus
  private_ai.model_monitoring.metric_probe:
    protocols: [grpc]
    otlp_grpc_endpoint: http://otel-collector-collector.private-ai-demo.svc:4317
    exporter_endpoint: http://otel-collector-collector.private-ai-demo.svc:8889
    prometheus_endpoint: https://prometheus.example.com
    prometheus_token: "{{ lookup('ansible.builtin.env', 'PROMETHEUS_TOKEN') }}"
    prometheus_ca_cert: /etc/pki/example-ca.crt
"""

RETURN = r"""
proofs:
  description:
    - One entry for each protocol, also when the module fails. Empty in check mode.
    - Latencies are seconds on the clock of the controller since the collector accepted the metric, rounded to milliseconds.
  returned: always, unless a parameter is not usable
  type: list
  elements: dict
  contains:
    protocol:
      description: OTLP protocol over which the metric was sent.
      type: str
      sample: grpc
    metric:
      description: Name of the metric.
      type: str
      sample: private_ai_probe_timestamp_seconds
    value:
      description: Value of the metric, seconds since 1970.
      type: float
      sample: 1764097142.123
    promql:
      description: The query that finds the metric of this run.
      type: str
      sample: 'private_ai_probe_timestamp_seconds{protocol="grpc"} == 1764097142.123'
    send_seconds:
      description: Time to connect to the collector and have the metric accepted. V(null) if it was not accepted.
      type: float
      sample: 0.021
    page_seconds:
      description: Time from then until it was on the page of the collector's Prometheus exporter. V(null) if it was not, or nobody looked.
      type: float
      sample: 0.208
    prometheus_seconds:
      description: Time from then until a query to Prometheus returned it. V(null) if none did.
      type: float
      sample: 11.204
    hop:
      description:
        - Where the metric was lost; V(null) if it was not.
        - V(collector_unreachable), no answer from the collector's OTLP receiver.
        - V(collector_refused), the collector answered that it does not take the metric.
        - V(collector_export), Prometheus has the metric, and another exporter of the collector could not export it, by its own metrics;
          or the collector refused the metric because the queue of an exporter is full.
        - V(exporter_page), the collector took the metric and does not show it on the page of its Prometheus exporter.
        - V(scrape_target), the page is not scraped - Prometheus has no target for it, or cannot scrape it.
        - V(prometheus_store), the page is scraped, and Prometheus does not have the metric.
        - V(prometheus_query), Prometheus' query API is not reachable or refuses to read.
      type: str
      sample: scrape_target
    message:
      description: What was seen and what to do; V(null) if the metric was not lost.
      type: str
hop:
  description: RV(proofs[].hop) of the first metric that was lost.
  returned: when a metric was lost
  type: str
  sample: scrape_target
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _metric_probe, _probe
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._endpoint import VIA_ARG
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._otlp import METRICS
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._prometheus import PROMETHEUS_ARGS


def argument_spec() -> dict:
    """Options of the module."""
    return {
        **AUTH_ARG_SPEC,
        **_probe.COLLECTOR_ARGS,
        **PROMETHEUS_ARGS,
        "exporter_endpoint": {"type": "str"},
        "scrape_labels": {"type": "dict"},
        "timeout": {"type": "float", "default": 150},
        "via": VIA_ARG,
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    try:
        plan = _metric_probe.plan(module.params)
        if module.check_mode:
            module.exit_json(changed=False, proofs=[], msg=plan)
        proofs = _metric_probe.run(module.params)
    except ModelMonitoringError as exc:
        module.fail_json(msg=str(exc))
    lost = [proof for proof in proofs if proof["hop"]]
    if lost:
        module.fail_json(msg=_probe.explain(METRICS, proofs), hop=lost[0]["hop"], proofs=proofs)
    module.exit_json(changed=False, proofs=proofs)


if __name__ == "__main__":
    main()
