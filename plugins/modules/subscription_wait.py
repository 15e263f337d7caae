#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Module subscription_wait: wait until Subscriptions of the Operator Lifecycle Manager have installed their operators."""

from __future__ import annotations

DOCUMENTATION = r"""
module: subscription_wait
short_description: Wait until OLM Subscriptions have installed their operators
version_added: 0.1.0
description:
  - Waits for any number of Subscriptions at once, by watch, until the ClusterServiceVersion (CSV) of each is C(Succeeded).
  - Approves InstallPlans on the way where it is told to, and only those that contain the wanted CSV.
  - Stops early and says why when a Subscription cannot come by itself - missing or broken CatalogSource, unknown package,
    channel or CSV (in OLM's own words), no OperatorGroup or several, a bundle that cannot be unpacked, an InstallPlan that
    has failed or needs approval, a CSV that has failed for good, with the requirement that is not met.
  - Something must be wrong for 10 seconds before it counts, for a minute where it often passes while programs start, and for
    two minutes where another catalog prevents the resolution.
  - Survives a restarted API server and expired watches; lists and continues.
options:
  subscriptions:
    description: The Subscriptions to wait for.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the Subscription object (not of the package).
        type: str
        required: true
      namespace:
        description: Its namespace.
        type: str
        required: true
      starting_csv:
        description:
          - Name of the wanted CSV, as V(tempo-operator.v0.21.0).
          - With C(installPlanApproval=Manual) the Subscription is ready when this CSV, or a later version that is already
            installed, has succeeded. With C(Automatic) OLM goes on to the newest by itself, which is ready as well.
          - Without it, the CSV that OLM names is waited for; an upgrade that waits for approval does not make an installed
            operator unready.
        type: str
      approve:
        description:
          - Approve the InstallPlan that contains the wanted CSV - the one of O(subscriptions[].starting_csv), or without it
            the first one that OLM offers. Upgrades of an installed operator are approved only if O(subscriptions[].starting_csv)
            names them.
          - OLM makes one InstallPlan for all Subscriptions of a namespace that have something to install, and one with
            C(Manual) makes it manual for all of them; approving it approves all that is in it.
        type: bool
        default: false
  timeout:
    description: Seconds to wait for all of them together.
    type: int
    default: 600
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - private_ai.model_monitoring.kubernetes_client
attributes:
  check_mode:
    description: Tells what a real run would wait for and changes nothing.
    support: full
    details: >-
      Looks once, approves nothing and reports in RV(missing) what a real run would wait for; a missing Subscription or a
      missing OLM is no failure. RV(ignore:changed) is true when an InstallPlan would be approved.
  diff_mode:
    description: Shows what changed.
    support: none
    details: The only change is an approval, which RV(approved) names.
notes:
  - Needs the verbs C(list) and C(watch) on C(subscriptions), C(installplans), C(clusterserviceversions) in
    C(operators.coreos.com) and on C(operatorgroups) in the Subscriptions' namespaces, and on C(catalogsources) in those of
    their catalogs. C(patch) on C(installplans) is needed for O(subscriptions[].approve) only.
  - With C(list) and C(watch) on C(pods) in the catalogs' namespaces it can also say why a catalog or an unpacking Job does
    not start, and stop early because of it. Without this right it does without.
seealso:
  - module: private_ai.model_monitoring.crd_wait
author:
  - private_ai.model_monitoring contributors (@private-ai)
"""

EXAMPLES = r"""
- name: Wait for the operators
  private_ai.model_monitoring.subscription_wait:
    subscriptions:
      - name: tempo-product
        namespace: openshift-tempo-operator
      - name: opentelemetry-product
        namespace: openshift-opentelemetry-operator
        starting_csv: opentelemetry-operator.v0.140.0
        approve: true
    timeout: 600
"""

RETURN = r"""
waited:
  description: Seconds until all were ready.
  returned: always
  type: float
  sample: 38.71
approved:
  description: InstallPlans that were approved, as namespace/name. In check mode those that would be.
  returned: always
  type: list
  elements: str
  sample: ["openshift-opentelemetry-operator/install-x7k2p"]
subscriptions:
  description: The Subscriptions in the order they were asked for.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the Subscription.
      type: str
      sample: tempo-product
    namespace:
      description: Its namespace.
      type: str
      sample: openshift-tempo-operator
    csv:
      description: The CSV that it is about, null while none is known.
      type: str
      sample: tempo-operator.v0.21.0
    phase:
      description: Phase of this CSV, null while there is none.
      type: str
      sample: Succeeded
    waited:
      description: Seconds until it was ready, null when it is not.
      type: float
      sample: 31.02
    state:
      description: Last state in words.
      type: str
      sample: ClusterServiceVersion tempo-operator.v0.21.0 has succeeded
missing:
  description: Subscriptions that are not ready, as namespace/name. Empty after a successful real run.
  returned: always
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube, _olm, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


def argument_spec():
    """The module's options."""
    return {
        **AUTH_ARG_SPEC,
        "subscriptions": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "namespace": {"type": "str", "required": True},
                "starting_csv": {"type": "str"},
                "approve": {"type": "bool", "default": False},
            },
        },
        "timeout": {"type": "int", "default": 600},
    }


def result(wanted, states, seconds, ready_after):
    """The module's return values, apart from changed and approved."""
    by_target = {state.target: state for state in states}
    subscriptions = []
    missing = []
    for item in wanted:
        state = by_target.get(item.target)
        facts = state.facts if state else {}
        subscriptions.append(
            {
                "name": item.name,
                "namespace": item.namespace,
                "csv": facts.get("csv"),
                "phase": facts.get("phase"),
                "waited": round(ready_after[item.target], 3) if item.target in ready_after else None,
                "state": state.text if state else "is not known",
            }
        )
        if state is None or state.phase != _wait.READY:
            missing.append(f"{item.namespace}/{item.name}")
    return {"waited": round(seconds, 3), "subscriptions": subscriptions, "missing": missing}


def look(judge, view):
    """The states at one look, for check mode; none where OLM is not installed."""
    try:
        return judge(view)
    except _kube.KubeError as error:
        if error.status != 404:
            raise
        return []


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    wanted = [_olm.Wanted(item["name"], item["namespace"], item["starting_csv"] or "", item["approve"]) for item in module.params["subscriptions"]]
    approved: list[str] = []
    try:
        kube = _kube.Kube(_kube.connect(module.params))
        judge = _olm.Judge(kube, wanted, approved, dry=module.check_mode)
        with _wait.View(kube) as view:
            if module.check_mode:
                states = look(judge, view)
                module.exit_json(changed=bool(approved), approved=approved, **result(wanted, states, 0.0, {}))
            waited = _wait.wait_for(view, judge, module.params["timeout"])
    except _wait.WaitError as error:
        module.fail_json(
            msg=str(error),
            changed=bool(approved),
            approved=approved,
            **result(wanted, error.states, error.seconds, error.ready_after),
        )
    except ModelMonitoringError as error:
        module.fail_json(msg=str(error), changed=bool(approved), approved=approved)
    module.exit_json(
        changed=bool(approved),
        approved=approved,
        **result(wanted, waited.states, waited.seconds, waited.ready_after),
    )


if __name__ == "__main__":
    main()
