#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Module trustyai_metric_requests: which metrics of fairness and drift TrustyAI's service computes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: trustyai_metric_requests
short_description: Which metrics of fairness and drift TrustyAI's service computes
version_added: 0.1.0
description:
  - Asks TrustyAI's service to compute metrics on its schedule, and takes back those that this module has asked for before and that are not
    wanted any more. Requests of others stay.
  - A request is known by a name that follows from its content, so what is there already is not asked for again.
  - Of a model that has not been asked anything yet the service knows nothing and refuses. Such requests are in RV(pending) and no
    failure; a later run asks again.
options:
  endpoint:
    description: URL of the service, as V(http://trustyai-service.private-ai-demo.svc).
    type: str
    required: true
  requests:
    description: The metrics that are wanted; empty for none.
    type: list
    elements: dict
    required: true
    suboptions:
      metric:
        description: Statistical parity difference, disparate impact ratio, or a test of drift.
        type: str
        choices: [spd, dir, meanshift, kstest, approxkstest, fouriermmd]
        required: true
      request:
        description:
          - The body of the request as TrustyAI's API has it, without C(requestName). C(modelId), and for V(spd) and V(dir) C(protectedAttribute),
            C(privilegedAttribute), C(unprivilegedAttribute), C(outcomeName), C(favorableOutcome); for drift C(referenceTag).
        type: dict
        required: true
  endpoint_ca_cert:
    description: Path of a PEM file with the authorities to trust for an https endpoint, or the certificates themselves.
    type: path
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - private_ai.model_monitoring.kubernetes_client
  - private_ai.model_monitoring.endpoint
attributes:
  check_mode:
    description: Tells what it would ask for and take back, and changes nothing.
    support: full
  diff_mode:
    description: Shows what changed.
    support: none
    details: It is in RV(created) and RV(deleted).
author:
  - private_ai.model_monitoring contributors (@private-ai)
"""

EXAMPLES = r"""
- name: Have drift and fairness computed
  private_ai.model_monitoring.trustyai_metric_requests:
    endpoint: http://trustyai-service.private-ai-demo.svc
    requests:
      - metric: meanshift
        request: {modelId: loans, referenceTag: TRAINING}
      - metric: spd
        request:
          modelId: loans
          protectedAttribute: gender
          privilegedAttribute: 1
          unprivilegedAttribute: 0
          outcomeName: granted
          favorableOutcome: 1
          batchSize: 5000
"""

RETURN = r"""
created:
  description: Names of requests that were made.
  returned: success
  type: list
  elements: str
  sample: [model-monitoring-0f3c2b9a71de]
deleted:
  description: Ids of requests that were taken back.
  returned: success
  type: list
  elements: str
  sample: []
pending:
  description: Requests that the service would not take yet.
  returned: success
  type: list
  elements: dict
  contains:
    metric:
      description: Its metric.
      type: str
      sample: spd
    name:
      description: Its name.
      type: str
      sample: model-monitoring-0f3c2b9a71de
    reason:
      description: What the service said.
      type: str
      sample: No metadata found for model=loans
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _endpoint, _link, _polling, _trustyai
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


def argument_spec():
    """The module's options."""
    options = {
        "metric": {"type": "str", "choices": sorted(_trustyai.PATHS), "required": True},
        "request": {"type": "dict", "required": True},
    }
    return {
        **AUTH_ARG_SPEC,
        "endpoint": {"type": "str", "required": True},
        "requests": {"type": "list", "elements": "dict", "required": True, "options": options},
        "endpoint_ca_cert": {"type": "path"},
        "via": _endpoint.VIA_ARG,
    }


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    try:
        target = _link.Target(params["endpoint"], "endpoint", params["via"], _polling.api_client_factory(params), params["endpoint_ca_cert"])
        target.check()
        wanted = [_trustyai.Wanted(item["metric"], item["request"]) for item in params["requests"]]
        with _link.http_link(target) as link:
            result = _trustyai.apply(_trustyai.Service(link, params["endpoint"].rstrip("/")), wanted, module.check_mode)
    except ModelMonitoringError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
