# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: dashboard
short_description: Read a Grafana dashboard from a file, for a GrafanaDashboard
version_added: 0.1.0
author:
  - private_ai.model_monitoring contributors (@private-ai)
description:
  - Reads the JSON of a dashboard, and fails with one line that names the file if it is none, or none that can be imported as it is.
  - A dashboard of more than 256 KiB is compressed, as the field C(gzipJson) of a GrafanaDashboard takes it.
options:
  _terms:
    description: Paths of the files on the controller.
    type: list
    elements: path
    required: true
seealso:
  - module: private_ai.model_monitoring.manifests
"""

EXAMPLES = r"""
- name: A dashboard for the grafana-operator
  private_ai.model_monitoring.manifests:
    manifests:
      - apiVersion: grafana.integreatly.org/v1beta1
        kind: GrafanaDashboard
        metadata:
          name: "{{ dashboard.uid }}"
          namespace: private-ai-demo
        spec: "{{ {'instanceSelector': {'matchLabels': {'app': 'grafana'}}} | combine(dashboard.spec) }}"
  vars:
    dashboard: "{{ lookup('private_ai.model_monitoring.dashboard', 'my-dashboard.json') }}"
"""

RETURN = r"""
_raw:
  description: A dictionary for each file.
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
    spec:
      description: V(json) with the text, or V(gzipJson) with the compressed text in base64.
      type: dict
"""

import typing as t

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _dashboard_file
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[dict[str, t.Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        dashboards = []
        for path in terms:
            try:
                with open(path, encoding="utf-8") as file:
                    dashboards.append(_dashboard_file.content(file.read(), path))
            except OSError as exc:
                raise AnsibleLookupError(f"The dashboard {path} cannot be read: {exc.strerror}. Correct its path.") from None
            except UnicodeDecodeError:
                raise AnsibleLookupError(f"{path} is not a text in UTF-8, and so no dashboard. Correct it, or leave the file out.") from None
            except ModelMonitoringError as exc:
                raise AnsibleLookupError(f"{exc}.") from None
        return dashboards
