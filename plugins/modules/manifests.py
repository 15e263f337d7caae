#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Module manifests: apply or delete a list of manifests."""

from __future__ import annotations

DOCUMENTATION = r"""
module: manifests
short_description: Apply a list of manifests by server-side apply, with a check mode and a diff that hold
version_added: 0.1.0
description:
  - Brings objects of any kinds to the cluster in one call, in the order given, by server-side apply with a field manager of its own.
  - Fields that are left out of a manifest later are removed from the object; what other field managers own stays.
  - In check mode asks the API server by dry run, so that rights, schema, quota and admission webhooks are heard. What cannot be
    asked because a namespace or a kind does not exist yet (the real run would have created it before) counts as created, if the
    user has the right to create it.
  - Unknown fields in a manifest are refused.
  - An API server or admission webhook that is just starting is asked again.
options:
  manifests:
    description:
      - The objects, each as a mapping or as a YAML text, which may have any number of documents.
      - Put no secret in here, because options are logged; that is what O(secret_data) is for.
    type: list
    elements: raw
    required: true
  secret_data:
    description:
      - By the name of a Secret of O(manifests), keys and values (in the clear) to add to its data.
      - Never logged or shown. The diff of a Secret tells only which keys it has and which have changed.
    type: dict
    default: {}
  generated_data:
    description:
      - By the name of a Secret of O(manifests), keys that get a random value of 32 characters when the Secret does not have them yet. Those
        that it has are kept, so that a password is generated once. To have a new one, delete the key or the Secret.
      - The value is made where the module runs, goes nowhere but into the Secret, and is never logged or shown.
    type: dict
    default: {}
  state:
    description:
      - V(present) applies the objects.
      - V(absent) deletes those that exist, last first, and waits until they are gone.
    type: str
    choices: [present, absent]
    default: present
  create_only:
    description:
      - Kinds whose objects are shared with others. They are created if need be, but one that exists is neither changed nor deleted.
    type: list
    elements: str
    default: [Namespace]
  one_per_namespace:
    description:
      - Kinds of which a namespace may have only one object, as V(OperatorGroup). Where there is one of another name already,
        none is created.
    type: list
    elements: str
    default: []
  only_own:
    description:
      - With O(state=absent), leave objects in which O(field_manager) has no field. They have the name, and are other people's.
    type: bool
    default: false
  field_manager:
    description: Name under which the fields are owned.
    type: str
    default: model-monitoring
  force_conflicts:
    description: Take over fields that another field manager has set to another value, instead of failing.
    type: bool
    default: false
  timeout:
    description:
      - Seconds for which the API server or a webhook may not answer; with O(state=absent) also for the objects to be gone.
    type: int
    default: 60
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
    description: Shows each object that changes before and after, without status and without the data of Secrets.
    support: full
notes:
  - Needs the verbs C(get), C(create) and C(patch) on the kinds of the objects; C(get), C(list), C(watch) and C(delete) to delete them.
seealso:
  - module: kubernetes.core.k8s
    description: For all else that can be done with objects.
author:
  - private_ai.model_monitoring contributors (@private-ai)
"""

EXAMPLES = r"""
- name: A namespace, and a Secret whose password no log and no diff will show
  private_ai.model_monitoring.manifests:
    manifests:
      - apiVersion: v1
        kind: Namespace
        metadata:
          name: private-ai-demo
      - apiVersion: v1
        kind: Secret
        metadata:
          name: tempo-storage
          namespace: private-ai-demo
        stringData:
          bucket: tempo-traces
          endpoint: http://minio.model-storage.svc:9000
    secret_data:
      tempo-storage:
        access_key_id: "{{ access_key }}"
        access_key_secret: "{{ secret_key }}"

- name: A Secret with a password that is generated once and kept
  private_ai.model_monitoring.manifests:
    manifests:
      - apiVersion: v1
        kind: Secret
        metadata:
          name: grafana-admin-credentials
          namespace: private-ai-demo
        stringData:
          GF_SECURITY_ADMIN_USER: admin
    generated_data:
      grafana-admin-credentials: [GF_SECURITY_ADMIN_PASSWORD]

- name: What the templates of a role make
  private_ai.model_monitoring.manifests:
    manifests: "{{ query('ansible.builtin.template', 'namespace.yaml.j2', 'tempostack.yaml.j2') }}"
    force_conflicts: true
"""

RETURN = r"""
objects:
  description: The objects in the order in which they were dealt with.
  returned: always
  type: list
  elements: dict
  contains:
    target:
      description: Kind, namespace and name.
      type: str
      sample: Secret private-ai-demo/tempo-storage
    action:
      description: V(created), V(changed), V(unchanged) or V(deleted); in check mode what would be done.
      type: str
      sample: created
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _kube, _manifests
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


def argument_spec():
    """The module's options."""
    return {
        **AUTH_ARG_SPEC,
        "manifests": {"type": "list", "elements": "raw", "required": True},
        "secret_data": {"type": "dict", "default": {}, "no_log": True},
        "generated_data": {"type": "dict", "default": {}, "no_log": False},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "create_only": {"type": "list", "elements": "str", "default": ["Namespace"]},
        "one_per_namespace": {"type": "list", "elements": "str", "default": []},
        "only_own": {"type": "bool", "default": False},
        "field_manager": {"type": "str", "default": "model-monitoring"},
        "force_conflicts": {"type": "bool", "default": False},
        "timeout": {"type": "int", "default": 60},
    }


def result(manager):
    """The module's return values."""
    return {
        "changed": manager.changed,
        "objects": [{"target": outcome.target, "action": outcome.action} for outcome in manager.outcomes],
        "diff": _manifests.diff(manager.outcomes),
    }


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    manager = None
    try:
        manifests = _manifests.parse(params["manifests"], params["secret_data"], params["generated_data"])
        manager = _manifests.Manager(
            _kube.Kube(_kube.connect(params)),
            params["field_manager"],
            force=params["force_conflicts"],
            create_only=params["create_only"],
            one_per_namespace=params["one_per_namespace"],
            only_own=params["only_own"],
            timeout=params["timeout"],
            dry=module.check_mode,
        )
        if params["state"] == "present":
            manager.apply(manifests)
        else:
            manager.delete(manifests)
    except ModelMonitoringError as error:
        module.fail_json(msg=str(error), **(result(manager) if manager else {}))
    module.exit_json(**result(manager))


if __name__ == "__main__":
    main()
