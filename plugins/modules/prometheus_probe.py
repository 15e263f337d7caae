#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: prove that Prometheus scrapes what monitors select, and that queries have data."""

from __future__ import annotations

DOCUMENTATION = r"""
module: prometheus_probe
short_description: Prove that Prometheus scrapes what monitors select, and that queries have data
version_added: 0.1.0
author:
  - private_ai.model_monitoring contributors (@private-ai)
description:
  - For each ServiceMonitor and PodMonitor, reads from the cluster what it selects, and looks whether Prometheus has a target for each of it
    and whether that target is up.
  - For each query, looks whether Prometheus returns the expected series, with a number as their value.
  - Waits until all is well, because a new monitor takes up to two minutes to be scraped. When time is up, says for each item what is
    missing and why - no target, the error of the last scrape, a rule that is not loaded or fails, a selector that selects nothing (with the labels
    that exist), a port that does not exist.
  - Without monitors and queries it only proves that Prometheus can be asked.
options:
  monitors:
    description: The monitors to look for.
    type: list
    elements: dict
    default: []
    suboptions:
      kind:
        description: Kind.
        type: str
        choices: [ServiceMonitor, PodMonitor]
        required: true
      name:
        description: Name.
        type: str
        required: true
      namespace:
        description: Namespace.
        type: str
        required: true
      required:
        description:
          - Whether it must exist and select something. If V(false) and it selects nothing, that is a warning.
          - What it does select must be up in any case.
        type: bool
        default: true
  queries:
    description: The queries to look at.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the query is for, in messages and in the result.
        type: str
        required: true
      query:
        description: PromQL whose result is an instant vector, as the name of a recording rule.
        type: str
        required: true
      expected:
        description: Labels of the series that there must be, a dictionary for each. By default any series will do.
        type: list
        elements: dict
        default: [{}]
      idle:
        description:
          - PromQL that returns a series with the expected labels when it is right that there is no data, for example because a model has had
            no request. Such a series counts as V(idle).
        type: str
  timeout:
    description: Seconds to wait at most.
    type: float
    default: 150
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - private_ai.model_monitoring.prometheus
  - private_ai.model_monitoring.endpoint
  - private_ai.model_monitoring.kubernetes_client
attributes:
  check_mode:
    description: Connects to nothing; says what would be looked at.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
notes:
  - RV(ignore:changed) is always V(false).
  - Needs the verb C(get) on C(servicemonitors) and C(podmonitors) in C(monitoring.coreos.com), and C(list) on C(services) and C(pods), in the
    namespaces of the monitors. With C(get) on C(namespaces) it can also say that OpenShift's user workload monitoring leaves a namespace out.
  - A target is recognised by the labels that the prometheus-operator gives it (C(namespace), C(service) or C(pod), C(endpoint), C(job)).
    A monitor whose relabelings change these is not understood.
seealso:
  - module: private_ai.model_monitoring.metric_probe
"""

EXAMPLES = r"""
- name: Prove on OpenShift that the collector is scraped and that two models have figures
  private_ai.model_monitoring.prometheus_probe:
    monitors:
      - kind: ServiceMonitor
        name: otel-collector
        namespace: private-ai-demo
      - kind: PodMonitor
        name: vllm
        namespace: private-ai-demo
        required: false
    queries:
      - name: tokens per second
        query: vllm_tokens_per_second
        expected:
          - {namespace: private-ai-demo, model_name: mistral-24b}
          - {namespace: private-ai-demo, model_name: mistral-24b-quantized}

- name: See that Prometheus can be asked
  private_ai.model_monitoring.prometheus_probe:
    prometheus_endpoint: http://prometheus-operated.monitoring.svc:9090
    timeout: 0
"""

RETURN = r"""
monitors:
  description: One entry for each monitor, also when the module fails. Empty in check mode.
  returned: when Prometheus and the API server could be asked
  type: list
  elements: dict
  contains:
    kind:
      description: Kind.
      type: str
      sample: ServiceMonitor
    name:
      description: Name.
      type: str
      sample: otel-collector
    namespace:
      description: Namespace.
      type: str
      sample: private-ai-demo
    required:
      description: Whether it must exist and select something.
      type: bool
    state:
      description:
        - V(up), all that it selects is scraped.
        - V(down), some of it cannot be scraped.
        - V(absent), Prometheus has no target for some of it.
        - V(nothing_selected), it selects nothing.
        - V(missing), it does not exist.
      type: str
      sample: up
    targets:
      description: Number of targets that it makes.
      type: int
      sample: 1
    seconds:
      description: Time until this was so.
      type: float
      sample: 12.031
    message:
      description: What was seen and what to do; V(null) if it is up.
      type: str
queries:
  description: One entry for each query, also when the module fails. Empty in check mode.
  returned: when Prometheus and the API server could be asked
  type: list
  elements: dict
  contains:
    name:
      description: Name.
      type: str
      sample: tokens per second
    query:
      description: The query.
      type: str
      sample: vllm_tokens_per_second
    series:
      description: One entry for each expected series, with C(labels), C(state) (V(data), V(idle) or V(missing)) and C(value) (V(null) without data).
      type: list
      elements: dict
    seconds:
      description: Time until this was so.
      type: float
      sample: 31.5
    message:
      description: What was seen and what to do; V(null) if nothing is missing.
      type: str
seconds:
  description: Time of the whole.
  returned: when Prometheus and the API server could be asked
  type: float
  sample: 31.602
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _prometheus_probe
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._endpoint import VIA_ARG
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._prometheus import PROMETHEUS_ARGS


def argument_spec() -> dict:
    """Options of the module."""
    monitors = {
        "kind": {"type": "str", "choices": ["ServiceMonitor", "PodMonitor"], "required": True},
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "required": {"type": "bool", "default": True},
    }
    queries = {
        "name": {"type": "str", "required": True},
        "query": {"type": "str", "required": True},
        "expected": {"type": "list", "elements": "dict", "default": [{}]},
        "idle": {"type": "str"},
    }
    return {
        **AUTH_ARG_SPEC,
        **PROMETHEUS_ARGS,
        "monitors": {"type": "list", "elements": "dict", "options": monitors, "default": []},
        "queries": {"type": "list", "elements": "dict", "options": queries, "default": []},
        "timeout": {"type": "float", "default": 150},
        "via": VIA_ARG,
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(argument_spec(), supports_check_mode=True)
    try:
        plan = _prometheus_probe.plan(module.params)
        if module.check_mode:
            module.exit_json(changed=False, monitors=[], queries=[], msg=plan)
        found = _prometheus_probe.run(module.params)
    except ModelMonitoringError as exc:
        module.fail_json(msg=str(exc))
    for warning in _prometheus_probe.warnings(found):
        module.warn(warning)
    result = _prometheus_probe.result(found)
    failures = _prometheus_probe.failures(found)
    if failures:
        module.fail_json(msg=failures, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
