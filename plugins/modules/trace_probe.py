#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: send a trace through an OpenTelemetry collector and read it back from Tempo."""

from __future__ import annotations

DOCUMENTATION = r"""
module: trace_probe
short_description: Send a trace through an OpenTelemetry collector and read it back from Tempo
version_added: 0.1.0
author:
  - private_ai.model_monitoring contributors (@private-ai)
description:
  - Sends a small trace with OpenTelemetry GenAI attributes to a collector, over OTLP gRPC and OTLP HTTP, and reads the same trace
    back from Tempo by its id and by a TraceQL search for an id that is unique to the run.
  - If the trace does not arrive, the module fails and names the hop that lost it, with what was seen and what to do.
    For this it reads the collector's own metrics before and after. Without them (O(collector_metrics_endpoint)) it cannot tell a trace
    that the collector did not export from one that Tempo did not store.
  - Endpoints that are Services of the cluster are reached by port-forward through the Kubernetes API, see O(via).
options:
  tempo_endpoint:
    description:
      - URL of Tempo's query API, for example V(http://tempo-tempo-query-frontend.private-ai-demo.svc:3200).
      - With a gateway, the URL of the gateway with the tenant's path, for example
        V(https://tempo-tempo-gateway.private-ai-demo.svc:8080/api/traces/v1/dev/tempo).
    type: str
    required: true
  timeout:
    description: Seconds to wait at most until Tempo returns the traces by id.
    type: float
    default: 30
  search_timeout:
    description:
      - Seconds to wait at most until a TraceQL search finds the traces.
      - Longer than O(timeout), because Tempo's ingester makes a trace searchable only some time after its last span.
    type: float
    default: 90
  tempo_ca_cert:
    description:
      - Path of a PEM file with the certificate authorities to trust for O(tempo_endpoint), or the certificates themselves.
      - Without it the system's are trusted.
    type: path
  tempo_tenant:
    description: Tenant to read from, sent as header C(X-Scope-OrgID). Only with multitenancy.
    type: str
  tempo_token:
    description: Bearer token to read with. Only with a gateway or another proxy that asks for it.
    type: str
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - private_ai.model_monitoring.otlp_collector
  - private_ai.model_monitoring.endpoint
attributes:
  check_mode:
    description: Sends nothing and connects to nothing; says what would be proven.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
notes:
  - RV(ignore:changed) is always V(false). The probe's traces stay in Tempo for its retention time like any other, but they are data that
    flows through the stack and not configuration of it, so a play that ends with a proof stays idempotent.
  - The spans carry the model name C(private-ai-probe) and the attribute C(private_ai.probe.id), by which panels can leave them out.
  - With several replicas of the collector, its metrics may come from another replica than the one that took the trace. The module
    notices this and says so instead of guessing.
  - Proxies in the environment (C(HTTPS_PROXY)) are used for the Kubernetes API only.
seealso:
  - name: OpenTelemetry semantic conventions for generative AI
    description: The attributes of the spans.
    link: https://opentelemetry.io/docs/specs/semconv/gen-ai/
  - name: Tempo HTTP API
    description: The requests that read the trace back.
    link: https://grafana.com/docs/tempo/latest/api_docs/
"""

EXAMPLES = r"""
- name: Prove that traces arrive, reaching the Services through the Kubernetes API
  private_ai.model_monitoring.trace_probe:
    otlp_grpc_endpoint: http://otel-collector-collector.private-ai-demo.svc:4317
    otlp_http_endpoint: http://otel-collector-collector.private-ai-demo.svc:4318
    collector_metrics_endpoint: http://otel-collector-collector-monitoring.private-ai-demo.svc:8888
    tempo_endpoint: http://tempo-tempo-query-frontend.private-ai-demo.svc:3200

- name: Read back through Tempo's gateway with a tenant and a token
  private_ai.model_monitoring.trace_probe:
    protocols: [grpc]
    otlp_grpc_endpoint: http://otel-collector-collector.private-ai-demo.svc:4317
    tempo_endpoint: https://tempo-tempo-gateway.private-ai-demo.svc:8080/api/traces/v1/dev/tempo
    tempo_tenant: dev
    tempo_token: "{{ lookup('ansible.builtin.env', 'TEMPO_TOKEN') }}"
    tempo_ca_cert: /etc/pki/service-ca.crt

- name: Probe a collector on this machine
  private_ai.model_monitoring.trace_probe:
    protocols: [http]
    otlp_http_endpoint: http://127.0.0.1:4318
    tempo_endpoint: http://127.0.0.1:3200
"""

RETURN = r"""
proofs:
  description:
    - One entry for each protocol, also when the module fails. Empty in check mode.
    - Latencies are seconds on the clock of the controller, rounded to milliseconds.
  returned: always, unless a parameter is not usable
  type: list
  elements: dict
  contains:
    protocol:
      description: OTLP protocol over which the trace was sent.
      type: str
      sample: grpc
    trace_id:
      description: Id of the trace.
      type: str
      sample: 4bf92f3577b34da6a3ce929d0e0e4736
    probe_id:
      description: Value of the attribute C(private_ai.probe.id), the same for all traces of a run.
      type: str
      sample: 0f8fad5bd9cb469fa16570867728950e
    spans:
      description: Number of spans sent, all of which must come back.
      type: int
      sample: 3
    traceql:
      description: The query that finds the traces of this run.
      type: str
      sample: '{ span.private_ai.probe.id = "0f8fad5bd9cb469fa16570867728950e" }'
    send_seconds:
      description: Time to connect to the collector and have the trace accepted. V(null) if it was not accepted.
      type: float
      sample: 0.021
    by_id_seconds:
      description: Time from then until Tempo returned the whole trace by its id. V(null) if it did not.
      type: float
      sample: 0.084
    search_seconds:
      description: Time from then until a TraceQL search found the trace. V(null) if it did not.
      type: float
      sample: 6.317
    hop:
      description:
        - Where the trace was lost; V(null) if it was not.
        - V(collector_unreachable), no answer from the collector's OTLP receiver.
        - V(collector_refused), the collector answered that it does not take the trace.
        - V(collector_export), the collector took the trace and could not export it, to Tempo or to another place, by its own metrics.
        - V(tempo_store), the collector exported the trace and Tempo does not have it.
        - V(after_collector), one of these two; the collector's metrics could not tell which.
        - V(tempo_query), Tempo's query API is not reachable or refuses to read.
        - V(tempo_search), Tempo has the trace, and a search does not find it.
      type: str
      sample: collector_export
    message:
      description: What was seen and what to do; V(null) if the trace was not lost.
      type: str
hop:
  description: RV(proofs[].hop) of the first trace that was lost.
  returned: when a trace was lost
  type: str
  sample: collector_export
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _probe, _trace_probe
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._endpoint import VIA_ARG
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._otlp import TRACES


def argument_spec() -> dict:
    """Options of the module."""
    return {
        **AUTH_ARG_SPEC,
        **_probe.COLLECTOR_ARGS,
        "tempo_endpoint": {"type": "str", "required": True},
        "timeout": {"type": "float", "default": 30},
        "search_timeout": {"type": "float", "default": 90},
        "via": VIA_ARG,
        "tempo_ca_cert": {"type": "path"},
        "tempo_tenant": {"type": "str"},
        "tempo_token": {"type": "str", "no_log": True},
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    try:
        plan = _trace_probe.plan(module.params)
        if module.check_mode:
            module.exit_json(changed=False, proofs=[], msg=plan)
        proofs = _trace_probe.run(module.params)
    except ModelMonitoringError as exc:
        module.fail_json(msg=str(exc))
    lost = [proof for proof in proofs if proof["hop"]]
    if lost:
        module.fail_json(msg=_probe.explain(TRACES, proofs), hop=lost[0]["hop"], proofs=proofs)
    module.exit_json(changed=False, proofs=proofs)


if __name__ == "__main__":
    main()
