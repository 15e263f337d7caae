#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Module service_account_token: keep a service account's bound token in a Secret."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_account_token
short_description: Keep a service account's bound token in a Secret, renewed in good time
version_added: 0.1.0
description:
  - For a program that must show a token and cannot mint one, as a data source of Grafana.
  - Asks the API server for a token of the service account (a TokenRequest), which ends after a time, and puts it into a Secret.
  - A token that is there is kept while it is this account's and more than half of its life is left, whoever minted it.
    Anything else is replaced.
  - To replace one that is good, because somebody has seen it, delete the Secret and the service account, create the account again and
    run this module. A bound token ends with its account.
  - The token is never returned, logged or shown.
options:
  name:
    description: Name of the service account.
    type: str
    required: true
  namespace:
    description: Namespace of the service account and of the Secret.
    type: str
    required: true
  secret:
    description: Name of the Secret.
    type: str
    required: true
  key:
    description: Key of the Secret.
    type: str
    default: token
  expiration_seconds:
    description: For how long to ask, at least 600. The API server may give less.
    type: int
    default: 2592000
  field_manager:
    description: Name under which the Secret's fields are owned.
    type: str
    default: model-monitoring
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - private_ai.model_monitoring.kubernetes_client
requirements:
  - PyYAML
attributes:
  check_mode:
    description: Tells whether it would mint a token, and mints none.
    support: full
  diff_mode:
    description: Shows until when the token is good, before and after. Never the token.
    support: full
notes:
  - Needs the verbs C(get) on the service account, C(create) on its C(serviceaccounts/token), and C(get), C(create) and C(patch) on the Secret.
seealso:
  - module: private_ai.model_monitoring.manifests
author:
  - private_ai.model_monitoring contributors (@private-ai)
"""

EXAMPLES = r"""
- name: A token for Grafana's data source, good for 30 days
  private_ai.model_monitoring.service_account_token:
    name: grafana-datasources
    namespace: private-ai-demo
    secret: grafana-datasources-token
"""

RETURN = r"""
reason:
  description: Why a token was minted (in check mode would be), empty when it was not.
  returned: success
  type: str
  sample: more than half of the token's life is over
expires:
  description: Until when the token is good, in UTC; null in check mode when one would be minted.
  returned: success
  type: str
  sample: "2026-01-31T12:00:00Z"
token_id:
  description: Changes when this module mints a token, and not when something in the cluster renews it. It says nothing about the token.
  returned: success
  type: str
  sample: 3c1d0f5b9a7e2c44
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _account_token, _kube
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


def argument_spec():
    """The module's options."""
    return {
        **AUTH_ARG_SPEC,
        "name": {"type": "str", "required": True},
        "namespace": {"type": "str", "required": True},
        "secret": {"type": "str", "required": True, "no_log": False},
        "key": {"type": "str", "default": "token", "no_log": False},
        "expiration_seconds": {"type": "int", "default": 30 * 24 * 3600},
        "field_manager": {"type": "str", "default": "model-monitoring"},
    }


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    wanted = _account_token.Wanted(params["namespace"], params["name"], params["secret"], params["key"], params["expiration_seconds"])
    try:
        kube = _kube.Kube(_kube.connect(params))
        kept = _account_token.keep(kube, wanted, time.time(), params["field_manager"], dry=module.check_mode)
    except ModelMonitoringError as error:
        module.fail_json(msg=str(error))
    expires = _account_token.in_words(kept.expires)
    header = f"token in Secret {wanted.namespace}/{wanted.secret}"
    diff = {"before_header": header, "after_header": header, "before": f"{kept.reason}\n", "after": f"good until {expires or '(a new one)'}\n"}
    module.exit_json(changed=kept.changed, reason=kept.reason, expires=expires, token_id=kept.token_id, diff=diff if kept.changed else {})


if __name__ == "__main__":
    main()
