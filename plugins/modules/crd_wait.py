#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Module crd_wait: wait until custom resource definitions can be used."""

from __future__ import annotations

DOCUMENTATION = r"""
module: crd_wait
short_description: Wait until custom resource definitions are established and served
version_added: 0.1.0
description:
  - Waits for any number of CustomResourceDefinitions at once, by watch.
  - A CRD is ready when it is C(Established) and discovery serves it at the wanted version. Until then an object of its kind
    cannot be created, even if the CRD already exists.
  - Stops early when the names of a CRD are not accepted, because that does not heal by itself.
  - Survives a restarted API server and expired watches; lists and continues.
options:
  crds:
    description: The CRDs to wait for.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Full name of the CRD, as V(tempostacks.tempo.grafana.com).
        type: str
        required: true
      version:
        description: API version that must be served, as V(v1alpha1). Any served version will do when this is not given.
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
    details: Looks once and reports in RV(missing) what a real run would wait for; never fails because of it.
  diff_mode:
    description: Shows what changed.
    support: none
    details: Nothing is ever changed.
notes:
  - Needs the verbs C(list) and C(watch) on C(customresourcedefinitions) in C(apiextensions.k8s.io), which can be limited
    to the CRDs' names, and the right to read discovery, which every authenticated user has.
seealso:
  - module: private_ai.model_monitoring.subscription_wait
  - module: private_ai.model_monitoring.resource_wait
author:
  - private_ai.model_monitoring contributors (@private-ai)
"""

EXAMPLES = r"""
- name: Wait until TempoStack and TempoMonolithic can be created
  private_ai.model_monitoring.crd_wait:
    crds:
      - name: tempostacks.tempo.grafana.com
        version: v1alpha1
      - name: tempomonolithics.tempo.grafana.com
        version: v1alpha1
    timeout: 120
"""

RETURN = r"""
waited:
  description: Seconds until all were ready.
  returned: always
  type: float
  sample: 3.214
crds:
  description: The CRDs in the order they were asked for.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Full name.
      type: str
      sample: tempostacks.tempo.grafana.com
    version:
      description: Version that is served; the wanted one or, when none was wanted, the stored one. Null while unknown.
      type: str
      sample: v1alpha1
    ready:
      description: Whether it is established and served.
      type: bool
    waited:
      description: Seconds until it was ready, null when it is not.
      type: float
      sample: 3.102
    state:
      description: Last state in words.
      type: str
      sample: is established and served
missing:
  description: Names of the CRDs that are not ready. Empty after a successful real run.
  returned: always
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _crd, _kube, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


def argument_spec():
    """The module's options."""
    return {
        **AUTH_ARG_SPEC,
        "crds": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {"name": {"type": "str", "required": True}, "version": {"type": "str"}},
        },
        "timeout": {"type": "int", "default": 300},
    }


def result(wanted, states, seconds, ready_after):
    """The module's return values."""
    by_target = {state.target: state for state in states}
    crds = []
    for item in wanted:
        state = by_target.get(item.target)
        crds.append(
            {
                "name": item.name,
                "version": state.facts.get("version") if state else item.version,
                "ready": state is not None and state.phase == _wait.READY,
                "waited": round(ready_after[item.target], 3) if item.target in ready_after else None,
                "state": state.text if state else "unknown",
            }
        )
    return {
        "waited": round(seconds, 3),
        "crds": crds,
        "missing": [crd["name"] for crd in crds if not crd["ready"]],
    }


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        wanted = [_crd.Wanted.parse(item["name"], item["version"]) for item in module.params["crds"]]
        kube = _kube.Kube(_kube.connect(module.params))
        judge = _crd.judge(kube, wanted)
        with _wait.View(kube) as view:
            if module.check_mode:
                states = judge(view)
                module.exit_json(changed=False, **result(wanted, states, 0.0, {}))
            waited = _wait.wait_for(view, judge, module.params["timeout"])
    except _wait.WaitError as error:
        module.fail_json(msg=str(error), **result(wanted, error.states, error.seconds, error.ready_after))
    except ModelMonitoringError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result(wanted, waited.states, waited.seconds, waited.ready_after))


if __name__ == "__main__":
    main()
