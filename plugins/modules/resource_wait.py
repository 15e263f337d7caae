#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Module resource_wait: wait until any mixture of resources is ready."""

from __future__ import annotations

DOCUMENTATION = r"""
module: resource_wait
short_description: Wait until resources of any kinds are ready
version_added: 0.1.0
description:
  - Waits for any number of resources of any kinds in one call, by watch.
  - Knows when Deployments, StatefulSets, DaemonSets, Jobs, Pods, Services (a ready endpoint), PersistentVolumeClaims,
    Namespaces, Routes, TempoStacks, TempoMonolithics and OpenTelemetryCollectors are ready. Secrets, ConfigMaps and
    ServiceAccounts are ready when they exist. Any other kind is ready when its condition C(Ready), C(Available) or
    C(Established) is true, or, if it has none of them, when it exists.
  - TempoStack, TempoMonolithic and OpenTelemetryCollector are ready when the Deployments and StatefulSets that they own are
    rolled out too, because their own status tells neither that there are pods nor for which generation it holds.
  - Stops early when a resource cannot become ready by itself - a failed Job or Pod, pods that are refused by a quota or a
    policy for a minute, a Tempo operator that reports a configuration error for 20 seconds.
  - On time-out says the last state of each resource and, where it may read them, what its pods say.
  - Survives a restarted API server and expired watches; lists and continues.
options:
  resources:
    description: The resources to wait for.
    type: list
    elements: dict
    required: true
    suboptions:
      api_version:
        description: API version, as V(apps/v1).
        type: str
        required: true
      kind:
        description: Kind, as V(Deployment).
        type: str
        required: true
      name:
        description: Name.
        type: str
        required: true
      namespace:
        description: Namespace; left out for resources that have none.
        type: str
  timeout:
    description: Seconds to wait for all of them together.
    type: int
    default: 300
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - private_ai.model_monitoring.kubernetes_client
attributes:
  check_mode:
    description: Tells what a real run would wait for and changes nothing.
    support: full
    details: >-
      Looks once and reports in RV(missing) what a real run would wait for; a missing resource or a missing API is no
      failure.
  diff_mode:
    description: Shows what changed.
    support: none
    details: Nothing is ever changed.
notes:
  - Needs the verbs C(list) and C(watch) on the resources' kinds, which can be limited to their names, and the right to read
    discovery, which every authenticated user has.
  - For a Service also on C(endpointslices) in C(discovery.k8s.io), for the kinds of the Tempo and OpenTelemetry operators
    also on C(deployments), C(statefulsets) and C(daemonsets) in C(apps).
  - With C(list) on C(pods) it can also say why a resource has not become ready in time.
seealso:
  - module: private_ai.model_monitoring.crd_wait
author:
  - private_ai.model_monitoring contributors (@private-ai)
"""

EXAMPLES = r"""
- name: Wait for the stack and for what it needs
  private_ai.model_monitoring.resource_wait:
    resources:
      - api_version: v1
        kind: Secret
        name: tempo-storage
        namespace: private-ai-demo
      - api_version: tempo.grafana.com/v1alpha1
        kind: TempoStack
        name: tempo
        namespace: private-ai-demo
      - api_version: v1
        kind: Service
        name: tempo-tempo-query-frontend
        namespace: private-ai-demo
    timeout: 300
"""

RETURN = r"""
waited:
  description: Seconds until all were ready.
  returned: always
  type: float
  sample: 41.5
resources:
  description: The resources in the order they were asked for.
  returned: always
  type: list
  elements: dict
  contains:
    api_version:
      description: API version.
      type: str
      sample: tempo.grafana.com/v1alpha1
    kind:
      description: Kind.
      type: str
      sample: TempoStack
    name:
      description: Name.
      type: str
      sample: tempo
    namespace:
      description: Namespace, null for resources that have none.
      type: str
      sample: private-ai-demo
    ready:
      description: Whether it is ready.
      type: bool
    waited:
      description: Seconds until it was ready, null when it is not.
      type: float
      sample: 41.5
    state:
      description: Last state in words.
      type: str
      sample: all components are rolled out
missing:
  description: Resources that are not ready, as kind namespace/name. Empty after a successful real run.
  returned: always
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube, _readiness, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


def argument_spec():
    """The module's options."""
    return {
        **AUTH_ARG_SPEC,
        "resources": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "api_version": {"type": "str", "required": True},
                "kind": {"type": "str", "required": True},
                "name": {"type": "str", "required": True},
                "namespace": {"type": "str"},
            },
        },
        "timeout": {"type": "int", "default": 300},
    }


def result(wanted, states, seconds, ready_after):
    """The module's return values."""
    by_target = {state.target: state for state in states}
    resources = []
    missing = []
    for item in wanted:
        state = by_target.get(item.target)
        ready = state is not None and state.phase == _wait.READY
        resources.append(
            {
                "api_version": item.api_version,
                "kind": item.kind,
                "name": item.name,
                "namespace": item.namespace or None,
                "ready": ready,
                "waited": round(ready_after[item.target], 3) if item.target in ready_after else None,
                "state": state.text if state else "is not known",
            }
        )
        if not ready:
            missing.append(item.target)
    return {"waited": round(seconds, 3), "resources": resources, "missing": missing}


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    wanted = [_readiness.Wanted(item["api_version"], item["kind"], item["name"], item["namespace"] or "") for item in module.params["resources"]]
    try:
        kube = _kube.Kube(_kube.connect(module.params))
        judge = _readiness.Judge(kube, wanted)
        with _wait.View(kube) as view:
            if module.check_mode:
                module.exit_json(changed=False, **result(wanted, judge.glance(view), 0.0, {}))
            waited = _wait.wait_for(view, judge, module.params["timeout"], diagnose=judge.diagnose)
    except _wait.WaitError as error:
        module.fail_json(msg=str(error), **result(wanted, error.states, error.seconds, error.ready_after))
    except ModelMonitoringError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result(wanted, waited.states, waited.seconds, waited.ready_after))


if __name__ == "__main__":
    main()
