#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Module package_wait: wait until OLM's catalogs offer packages."""

from __future__ import annotations

DOCUMENTATION = r"""
module: package_wait
short_description: Wait until catalogs of the Operator Lifecycle Manager offer packages
version_added: 0.1.0
description:
  - Waits until each package can be subscribed to, which means that its CatalogSource is V(READY) and has the package, the channel
    and, when it is given, the ClusterServiceVersion (CSV).
  - To be used before a Subscription is made. OLM backs off for minutes from a Subscription that it has seen before its catalog
    was ready, and a mistyped package or channel is found before anything is touched.
  - Stops early and says why when that cannot come by itself - missing or broken CatalogSource, unknown package, channel or CSV,
    with what there is instead.
  - Something must be wrong for 10 seconds before it counts, for a minute where it often passes while programs start.
options:
  packages:
    description: The packages to wait for.
    type: list
    elements: dict
    required: true
    suboptions:
      package:
        description: Name of the package, as V(tempo-product).
        type: str
        required: true
      channel:
        description: Channel, as V(stable).
        type: str
        required: true
      source:
        description: Name of the CatalogSource, as V(redhat-operators).
        type: str
        required: true
      source_namespace:
        description: Its namespace, as V(openshift-marketplace).
        type: str
        required: true
      starting_csv:
        description: Name of a CSV that the channel must have.
        type: str
  timeout:
    description: Seconds to wait for all of them together.
    type: int
    default: 120
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - private_ai.model_monitoring.kubernetes_client
attributes:
  check_mode:
    description: Changes nothing, and works as in a real run.
    support: full
  diff_mode:
    description: Shows what changed.
    support: none
    details: Nothing is ever changed.
notes:
  - Needs the verbs C(list) and C(watch) on C(catalogsources) in C(operators.coreos.com) and C(list) on C(packagemanifests) in
    C(packages.operators.coreos.com), both in the catalogs' namespaces.
  - With C(list) and C(watch) on C(pods) there it can also say why a catalog is not ready.
seealso:
  - module: private_ai.model_monitoring.subscription_wait
author:
  - private_ai.model_monitoring contributors (@private-ai)
"""

EXAMPLES = r"""
- name: Wait until the operators can be subscribed to
  private_ai.model_monitoring.package_wait:
    packages:
      - package: tempo-product
        channel: stable
        source: redhat-operators
        source_namespace: openshift-marketplace
"""

RETURN = r"""
waited:
  description: Seconds until all were offered.
  returned: always
  type: float
  sample: 0.043
packages:
  description: The packages in the order they were asked for.
  returned: always
  type: list
  elements: dict
  contains:
    package:
      description: Name of the package.
      type: str
      sample: tempo-product
    csv:
      description: The CSV that a Subscription would install, null when it is not known.
      type: str
      sample: tempo-operator.v0.21.0
    state:
      description: Last state in words.
      type: str
      sample: is offered by CatalogSource openshift-marketplace/redhat-operators
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube, _packages, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


def argument_spec():
    """The module's options."""
    required = {name: {"type": "str", "required": True} for name in ("package", "channel", "source", "source_namespace")}
    return {
        **AUTH_ARG_SPEC,
        "packages": {"type": "list", "elements": "dict", "required": True, "options": {**required, "starting_csv": {"type": "str"}}},
        "timeout": {"type": "int", "default": 120},
    }


def result(states, seconds):
    """The module's return values."""
    return {
        "waited": round(seconds, 3),
        "packages": [{"package": state.target.removeprefix("package "), "csv": state.facts.get("csv"), "state": state.text} for state in states],
    }


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        wanted = [_packages.Wanted(**{**item, "starting_csv": item["starting_csv"] or ""}) for item in module.params["packages"]]
        kube = _kube.Kube(_kube.connect(module.params))
        with _wait.View(kube) as view:
            waited = _wait.wait_for(view, _packages.judge(kube, wanted), module.params["timeout"])
    except _wait.WaitError as error:
        module.fail_json(msg=str(error), **result(error.states, error.seconds))
    except ModelMonitoringError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result(waited.states, waited.seconds))


if __name__ == "__main__":
    main()
