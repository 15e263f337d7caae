#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Module cluster_monitoring: see, and if asked see to it, that Prometheus takes what users ask for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_monitoring
short_description: Find out whether the cluster's Prometheus takes monitors and rules of users, and switch that on in OpenShift
version_added: 0.1.0
description:
  - Tells which kinds of the Prometheus operator the API server serves, whether the cluster is OpenShift, and whether OpenShift's
    user-workload monitoring is on. Found out by asking the API server.
  - With O(enable_user_workload=true) switches user-workload monitoring on where OpenShift's monitoring is there and it is off, by
    C(enableUserWorkload) in ConfigMap C(cluster-monitoring-config) in C(openshift-monitoring). All else in this ConfigMap stays as it
    is, comments included; what somebody else changes at the same time is not lost.
  - An API server without OpenShift's monitoring is no error, and nothing is changed there.
options:
  enable_user_workload:
    description: Switch user-workload monitoring on where it is off.
    type: bool
    default: false
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - private_ai.model_monitoring.kubernetes_client
requirements:
  - PyYAML
attributes:
  check_mode:
    description: Tells what it would do, by dry run on the API server, and changes nothing.
    support: full
  diff_mode:
    description: Shows the configuration in the ConfigMap before and after.
    support: full
notes:
  - On OpenShift needs the verb C(get) on ConfigMap C(cluster-monitoring-config) in C(openshift-monitoring) and, where there is none yet,
    on this namespace; to switch on also C(patch), or C(create).
seealso:
  - module: private_ai.model_monitoring.manifests
author:
  - private_ai.model_monitoring contributors (@private-ai)
"""

EXAMPLES = r"""
- name: Look
  private_ai.model_monitoring.cluster_monitoring:
  register: monitoring

- name: It takes PodMonitors
  ansible.builtin.assert:
    that:
      - "'PodMonitor' in monitoring.kinds"
      - monitoring.user_workload is not false

- name: Switch it on where it is off
  private_ai.model_monitoring.cluster_monitoring:
    enable_user_workload: true
"""

RETURN = r"""
kinds:
  description: Kinds of the API C(monitoring.coreos.com/v1) that the API server serves; empty without a Prometheus operator.
  returned: success
  type: list
  elements: str
  sample: [Alertmanager, PodMonitor, Prometheus, PrometheusRule, ServiceMonitor]
openshift:
  description: Whether the cluster is OpenShift.
  returned: success
  type: bool
user_workload:
  description: Whether user-workload monitoring is on; V(null) where the cluster does not have OpenShift's monitoring.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _cluster_monitoring, _kube
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


def argument_spec():
    """The module's options."""
    return {**AUTH_ARG_SPEC, "enable_user_workload": {"type": "bool", "default": False}}


def result(found):
    """The module's return values."""
    changed = found.before != found.after
    header = f"{_cluster_monitoring.CONFIG_MAP} {_cluster_monitoring.KEY}"
    return {
        "changed": changed,
        "kinds": found.kinds,
        "openshift": found.openshift,
        "user_workload": found.user_workload,
        "diff": [{"before_header": header, "after_header": header, "before": found.before or "", "after": found.after}] if changed else [],
    }


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        kube = _kube.Kube(_kube.connect(module.params))
        if module.params["enable_user_workload"]:
            found = _cluster_monitoring.switch_on(kube, dry=module.check_mode)
        else:
            found = _cluster_monitoring.look(kube)
    except ModelMonitoringError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result(found))


if __name__ == "__main__":
    main()
