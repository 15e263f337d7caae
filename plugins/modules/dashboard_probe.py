#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: prove that Grafana dashboards show data."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dashboard_probe
short_description: Prove that every panel of Grafana dashboards shows data
version_added: 0.1.0
author:
  - private_ai.model_monitoring contributors (@private-ai)
description:
  - Opens dashboards as Grafana's page does. Variables get the values that they have on first opening, those of queries included; every query
    of every panel, also of those in collapsed rows, is run through Grafana over the panel's time range.
  - Says of each panel whether it shows data, shows none, or fails, with the data source's own words, and how long that took.
  - Waits for data that is not there yet. If there is none in the end, the module fails and names dashboard, panel and cause
    in one line each; for a query to Prometheus the cause is the variable without values, or the series or the label's value that does not exist.
  - A panel that may rightly be empty is not waited for, and is no failure. It says so in its description, in a sentence that
    begins with C(May be empty:) and goes on with the reason, or is named in O(optional).
  - A hidden query of the panel with the refId C(MAY_BE_EMPTY) narrows that. If there is one, the reason counts only while it finds something.
  - Grafana may be a Service of the cluster, which is reached by port-forward through the Kubernetes API, see O(via).
options:
  grafana_endpoint:
    description: URL of Grafana, for example V(http://grafana-service.private-ai-demo.svc:3000).
    type: str
    required: true
  grafana_username:
    description: User to log in as. The role Viewer is enough. O(grafana_secret), O(grafana_username) and O(grafana_token) exclude each other.
    type: str
  grafana_password:
    description: Password of O(grafana_username).
    type: str
  grafana_token:
    description: Token of a service account of Grafana's with the role Viewer.
    type: str
  grafana_secret:
    description: Secret of the cluster with user name and password. Its content does not leave the module.
    type: dict
    suboptions:
      name:
        description: Name of the Secret.
        type: str
        required: true
      namespace:
        description: Its namespace.
        type: str
        required: true
      username_key:
        description: Key of the user name in it.
        type: str
        default: GF_SECURITY_ADMIN_USER
      password_key:
        description: Key of the password in it.
        type: str
        default: GF_SECURITY_ADMIN_PASSWORD
  grafana_ca_cert:
    description: Path of a PEM file with the certificate authorities to trust for O(grafana_endpoint). Without it the system's are trusted.
    type: path
  dashboards:
    description: UIDs of the dashboards.
    type: list
    elements: str
    default: []
  folder:
    description: Title or UID of a folder, all of whose dashboards are taken too.
    type: str
  variables:
    description:
      - Values of variables by name, a text or a list, instead of those that the dashboard chooses.
      - As in a dashboard's address, they need not be among the variable's options. Variables that a dashboard does not have do not matter to it.
    type: dict
    default: {}
  time_from:
    description: Beginning of the time range instead of the dashboards' own, for example V(now-15m).
    type: str
  time_to:
    description: Its end, for example V(now).
    type: str
  optional:
    description: Panels that may be empty, beside those that say so themselves.
    type: list
    elements: dict
    default: []
    suboptions:
      dashboard:
        description: UID of the dashboard.
        type: str
        required: true
      panel:
        description: Title of the panel; V(*) for every panel of the dashboard.
        type: str
        required: true
      reason:
        description: Why it may be empty.
        type: str
        required: true
  timeout:
    description: Seconds to wait at most until every panel that must show data does.
    type: float
    default: 120
  via:
    description:
      - How to reach Grafana.
      - V(direct) connects to the URL's host.
      - V(port_forward) goes through the Kubernetes API to a Ready pod of the Service that the URL's host names.
      - V(auto) uses V(port_forward) for hosts that end in C(.svc) or C(.svc.<cluster domain>), and V(direct) for all others.
    type: str
    choices: [auto, direct, port_forward]
    default: auto
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
requirements:
  - python >= 3.10
  - kubernetes >= 28.1.0 (for Grafana reached by port-forward, and for O(grafana_secret))
attributes:
  check_mode:
    description: Connects to nothing; says what would be proven.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
notes:
  - RV(ignore:changed) is always V(false). The module only reads.
  - Works with Grafana 10 to 12 and dashboards of the classic schema (a list of panels).
  - TraceQL searches go through Grafana's data source proxy and service maps to the Prometheus that the Tempo data source names, because
    Grafana's page does the same; all other queries are C(POST /api/ds/query).
  - Panels without queries (text, rows, links) are not counted. A repeated panel is run once, with all chosen values.
  - Transformations of a panel are not done. They cannot make data out of none, but one that filters may hide what there is.
  - For O(grafana_secret) and port-forward the user of the play needs C(get) on that Secret, C(get) on the Service, C(list) on its pods and
    C(create) on C(pods/portforward).
seealso:
  - name: Grafana's HTTP API
    description: The requests that run the queries.
    link: https://grafana.com/docs/grafana/latest/developers/http_api/data_source/
"""

EXAMPLES = r"""
- name: Prove that the collection's dashboards show data
  private_ai.model_monitoring.dashboard_probe:
    grafana_endpoint: http://grafana-service.private-ai-demo.svc:3000
    grafana_secret:
      namespace: private-ai-demo
      name: grafana-admin-credentials
    dashboards: [ai-ml-performance, model-quality, tempo-trace-explorer, stack-health]

- name: Prove it for one model, in a Grafana elsewhere
  private_ai.model_monitoring.dashboard_probe:
    grafana_endpoint: https://grafana.example.com
    grafana_token: "{{ lookup('ansible.builtin.env', 'GRAFANA_TOKEN') }}"
    folder: Model monitoring
    variables:
      model: mistral-24b
    optional:
      - dashboard: ai-ml-performance
        panel: KV cache in use
        reason: this server has no KV cache
"""

RETURN = r"""
dashboards:
  description: One entry for each dashboard that could be opened.
  returned: when Grafana answered
  type: list
  elements: dict
  contains:
    uid:
      description: UID of the dashboard.
      type: str
      sample: stack-health
    title:
      description: Its title.
      type: str
      sample: Stack health
    panels:
      description: Number of panels with queries.
      type: int
      sample: 20
    with_data:
      description: How many of them show data.
      type: int
      sample: 18
    empty_optional:
      description: How many show none, and may.
      type: int
      sample: 2
    empty:
      description: How many show none, and must.
      type: int
      sample: 0
    errors:
      description: How many fail.
      type: int
      sample: 0
    variables:
      description: The values of its variables, by name.
      type: dict
      sample: {"prometheus": ["prometheus"], "namespace": ["private-ai-demo"]}
panels:
  description: One entry for each panel with queries.
  returned: when Grafana answered
  type: list
  elements: dict
  contains:
    dashboard:
      description: UID of its dashboard.
      type: str
      sample: stack-health
    panel:
      description: Its title.
      type: str
      sample: Targets
    id:
      description: Its number in the dashboard.
      type: int
      sample: 9
    state:
      description: V(data) if each of its queries found something, V(error) if one failed, else V(no_data).
      type: str
      sample: data
    message:
      description: Why it shows no data, or the error in the data source's own words; V(null) if it shows data.
      type: str
    optional:
      description: Why it may be empty; V(null) if it may not.
      type: str
    series:
      description: Number of lines, or of rows of a table.
      type: int
      sample: 12
    exemplars:
      description: Number of exemplars.
      type: int
      sample: 0
    seconds:
      description: How long its queries took the last time.
      type: float
      sample: 0.031
problems:
  description: One line for each dashboard that could not be opened and each panel that fails, or shows no data and must.
  returned: when Grafana answered
  type: list
  elements: str
  sample: ["AI/ML performance / GPU power: no data: there is no series DCGM_FI_DEV_POWER_USAGE now"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _dashboard_probe
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._endpoint import VIA_ARG
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


def argument_spec() -> dict:
    """Options of the module."""
    text, needed = {"type": "str"}, {"type": "str", "required": True}
    return {
        **AUTH_ARG_SPEC,
        "grafana_endpoint": needed,
        "grafana_username": text,
        "grafana_password": {"type": "str", "no_log": True},
        "grafana_token": {"type": "str", "no_log": True},
        "grafana_secret": {
            "type": "dict",
            "no_log": False,
            "options": {
                "name": needed,
                "namespace": needed,
                "username_key": {"type": "str", "default": "GF_SECURITY_ADMIN_USER", "no_log": False},
                "password_key": {"type": "str", "default": "GF_SECURITY_ADMIN_PASSWORD", "no_log": False},
            },
        },
        "grafana_ca_cert": {"type": "path"},
        "dashboards": {"type": "list", "elements": "str", "default": []},
        "folder": text,
        "variables": {"type": "dict", "default": {}},
        "time_from": text,
        "time_to": text,
        "optional": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {"dashboard": needed, "panel": needed, "reason": needed},
        },
        "timeout": {"type": "float", "default": 120},
        "via": VIA_ARG,
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec(),
        mutually_exclusive=[["grafana_secret", "grafana_username", "grafana_token"]],
        required_by={"grafana_password": "grafana_username"},
        supports_check_mode=True,
    )
    try:
        plan = _dashboard_probe.plan(module.params)
        if module.check_mode:
            module.exit_json(changed=False, dashboards=[], panels=[], problems=[], msg=plan)
        found = _dashboard_probe.run(module.params)
    except ModelMonitoringError as exc:
        module.fail_json(msg=str(exc))
    if found["problems"]:
        module.fail_json(msg=_dashboard_probe.explain(found), **found)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
