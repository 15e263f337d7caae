#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Module lm_eval_permission: let TrustyAI's operator give evaluations online access and code execution."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lm_eval_permission
short_description: Let TrustyAI's operator give evaluations online access and code execution
version_added: 0.1.0
description:
  - An evaluation that asks for online access or code execution gets it only if TrustyAI's operator permits it. This module lets it, in the way that
    the cluster has - the fields C(spec.components.trustyai.eval.lmeval) of the DataScienceCluster where its schema has them, else the
    operator's ConfigMap C(trustyai-service-operator-config).
  - The operator reads it at its start only. Pods of it that are older are started again, and no others; a change of somebody else that
    it has not read yet is noticed in the same way.
  - Gives permissions and takes none away.
options:
  online:
    description: Permit online access. V(false) leaves it as it is.
    type: bool
    default: false
  code_execution:
    description: Permit execution of code that comes with data sets. V(false) leaves it as it is.
    type: bool
    default: false
  operator_namespace:
    description: Namespace of TrustyAI's operator. Without it it is looked for in all namespaces.
    type: str
  timeout:
    description: Seconds for the operator to be there again.
    type: int
    default: 180
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - private_ai.model_monitoring.kubernetes_client
attributes:
  check_mode:
    description: Tells what it would do, by dry run on the API server, and changes nothing.
    support: full
  diff_mode:
    description: Shows the permissions before and after.
    support: full
notes:
  - Needs C(get) on C(customresourcedefinitions), C(list) and C(patch) on C(datascienceclusters), and in the operator's namespace C(get), C(list),
    C(watch) and C(patch) on C(configmaps), C(list) and C(watch) on C(deployments) and C(pods), and C(delete) on C(pods). Without
    O(operator_namespace) also C(list) on C(deployments) in all namespaces.
seealso:
  - module: private_ai.model_monitoring.lm_eval_job
author:
  - private_ai.model_monitoring contributors (@private-ai)
"""

EXAMPLES = r"""
- name: Let evaluations load data sets from the Hugging Face hub
  private_ai.model_monitoring.lm_eval_permission:
    online: true
"""

RETURN = r"""
where:
  description: The object that has the permissions.
  returned: success
  type: str
  sample: DataScienceCluster default-dsc
permissions:
  description: The permissions after the run (in check mode those that there would be).
  returned: success
  type: dict
  contains:
    online:
      description: Online access.
      type: bool
      sample: true
    code_execution:
      description: Code execution.
      type: bool
      sample: false
restarted:
  description: Pods of the operator that were started again because they had not read it.
  returned: success
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube, _lm_eval_permission
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


def argument_spec():
    """The module's options."""
    return {
        **AUTH_ARG_SPEC,
        "online": {"type": "bool", "default": False},
        "code_execution": {"type": "bool", "default": False},
        "operator_namespace": {"type": "str"},
        "timeout": {"type": "int", "default": 180},
    }


def result(outcome):
    """The module's return values."""
    return {
        "changed": outcome.before != outcome.after or bool(outcome.restarted),
        "where": outcome.where,
        "permissions": outcome.after,
        "restarted": outcome.restarted,
        "diff": {"before": outcome.before, "after": outcome.after, "before_header": outcome.where, "after_header": outcome.where},
    }


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    try:
        permission = _lm_eval_permission.Permission(_kube.Kube(_kube.connect(params)), params["operator_namespace"] or "", module.check_mode)
        outcome = permission.give([name for name in _lm_eval_permission.PERMISSIONS if params[name]], params["timeout"])
    except ModelMonitoringError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result(outcome))


if __name__ == "__main__":
    main()
