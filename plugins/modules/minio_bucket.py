#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: minio_bucket
short_description: Manage a bucket of MinIO or another S3 object store
version_added: 0.1.0
description:
  - Creates or deletes a bucket and manages its versioning, object lock, tags and one lifecycle rule that lets objects expire.
  - The object store is reached by its URL, or, when the URL names a Service of the cluster, by a port-forward through the
    Kubernetes API server, so that it need not be reachable from the controller and nothing but this module is needed there.
  - What is not asked for is neither read nor changed. Other settings of the bucket, and lifecycle rules of others, stay as they are.
author:
  - private_ai.model_monitoring contributors (@private-ai)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
options:
  name:
    description:
      - Name of the bucket; 3 to 63 lower-case letters, digits, dots and hyphens. It is checked before any connection is made.
    type: str
    required: true
  state:
    description:
      - V(present) creates the bucket if need be and brings its settings to what is asked for.
      - V(absent) deletes it; a bucket that is not empty only with O(force=true).
    type: str
    choices: [present, absent]
    default: present
  force:
    description:
      - With O(state=absent), delete all that the bucket holds first, older versions and delete markers included.
      - What is under retention or legal hold stays, and the module fails.
    type: bool
    default: false
  endpoint:
    description:
      - URL of the S3 API with scheme and without path, for example V(https://minio.example.com) or
        V(http://minio.model-storage.svc:9000). Without a port it is 80 or 443.
      - With V(https) the certificate must be valid for the host that is named here, also through a port-forward.
    type: str
    required: true
  via:
    description:
      - How the endpoint is reached.
      - V(auto) takes the port-forward for a host of the form C(<service>.<namespace>.svc), with or without cluster domain, and connects
        directly to any other.
      - V(direct) connects to the host itself, for example from inside the cluster.
      - V(port_forward) is like V(auto), but fails for a host that is not of that form.
    type: str
    choices: [auto, direct, port_forward]
    default: auto
  access_key:
    description:
      - Access key (user) of the object store.
    type: str
    required: true
  secret_key:
    description:
      - Secret key (password) of O(access_key).
    type: str
    required: true
  region:
    description:
      - Region of the bucket, for object stores that have several. Without it the object store is asked.
    type: str
  s3_ca_cert:
    description:
      - Path of a PEM file with the CA certificates to trust for O(endpoint) instead of the public ones.
        (O(ca_cert) is that of the Kubernetes API server.)
    type: path
  versioning:
    description:
      - V(enabled) keeps older versions of objects; V(suspended) stops that and keeps the versions that exist.
      - V(unmanaged) leaves it as it is.
    type: str
    choices: [enabled, suspended, unmanaged]
    default: unmanaged
  object_lock:
    description:
      - Whether the bucket has object lock. S3 decides this when the bucket is created, for good; so for a bucket that exists it is
        only compared, and the module fails when it differs.
      - Without it a new bucket is created without object lock and that of an existing one is left as it is.
      - V(true) implies versioning.
    type: bool
  lifecycle_expiry_days:
    description:
      - Days after which an object expires; older versions expire that many days after they were replaced.
      - Kept as one lifecycle rule with the ID C(private_ai.model_monitoring) for the whole bucket. Rules of others stay as they are.
      - V(0) removes that rule. Without this option it is left as it is.
    type: int
  tags:
    description:
      - All tags that the bucket shall have; others are removed. V({}) removes all. Without this option they are left as they are.
    type: dict
  timeout:
    description:
      - Seconds that one request to the object store may take. This includes its one repetition after a broken connection.
    type: int
    default: 30
requirements:
  - minio >= 7.2
  - kubernetes >= 28.1 (for a port-forward)
attributes:
  check_mode:
    description: Tells what it would do and changes nothing.
    support: full
  diff_mode:
    description: Shows the managed settings before and after.
    support: full
notes:
  - The port-forward uses these rights in the namespace of the Service, C(get) on C(services), C(list) on
    C(endpointslices.discovery.k8s.io), C(get) and C(create) on C(pods/portforward).
  - The port-forward acts as the user of the connection; O(impersonate_user) is refused with it.
  - The policy of O(access_key) must allow C(s3:ListBucket) and C(s3:GetBucketLocation), C(s3:CreateBucket) or C(s3:DeleteBucket), and the
    C(s3:Get...) and C(s3:Put...) actions of those settings that are managed.
"""

EXAMPLES = r"""
- name: A bucket for traces, in the MinIO of the cluster
  private_ai.model_monitoring.minio_bucket:
    name: tempo-traces
    endpoint: http://minio.model-storage.svc:9000
    access_key: "{{ lookup('private_ai.model_monitoring.dotenv', 'MINIO_ACCESS_KEY') }}"
    secret_key: "{{ lookup('private_ai.model_monitoring.dotenv', 'MINIO_SECRET_KEY') }}"

- name: A bucket in an object store outside, with a private CA, whose objects live for 30 days
  private_ai.model_monitoring.minio_bucket:
    name: tempo-traces
    endpoint: https://s3.example.com
    s3_ca_cert: /etc/pki/example-ca.pem
    access_key: "{{ access_key }}"
    secret_key: "{{ secret_key }}"
    versioning: enabled
    lifecycle_expiry_days: 30
    tags:
      team: monitoring

- name: Delete a bucket with all that it holds
  private_ai.model_monitoring.minio_bucket:
    name: tempo-traces
    state: absent
    force: true
    endpoint: http://minio.model-storage.svc:9000
    access_key: "{{ access_key }}"
    secret_key: "{{ secret_key }}"
"""

RETURN = r"""
actions:
  description:
    - What was done (in check mode, what would be done), in order.
    - Of C(create), C(versioning), C(expiry), C(tags), C(empty), C(delete). Empty when nothing had to be done.
  returned: success
  type: list
  elements: str
  sample: [create, expiry]
bucket:
  description: The bucket after the run (in check mode, as it would be). Settings that are not managed are left out.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
      returned: always
      sample: tempo-traces
    state:
      description: V(present) or V(absent).
      type: str
      returned: always
      sample: present
    versioning:
      description: V(off) when it was never set, V(enabled) or V(suspended).
      type: str
      returned: when O(versioning) is managed
      sample: enabled
    object_lock:
      description: Whether it has object lock.
      type: bool
      returned: when O(object_lock) is given
      sample: false
    lifecycle_expiry_days:
      description: Days after which objects expire, V(0) without a rule of this module.
      type: int
      returned: when O(lifecycle_expiry_days) is given
      sample: 30
    tags:
      description: All its tags.
      type: dict
      returned: when O(tags) is given
      sample: {team: monitoring}
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _bucket
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._endpoint import VIA_ARG, reach
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import connect


def argument_spec() -> dict[str, t.Any]:
    return {
        **AUTH_ARG_SPEC,
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "force": {"type": "bool", "default": False},
        "endpoint": {"type": "str", "required": True},
        "via": VIA_ARG,
        "access_key": {"type": "str", "required": True, "no_log": True},
        "secret_key": {"type": "str", "required": True, "no_log": True},
        "region": {"type": "str"},
        "s3_ca_cert": {"type": "path"},
        "versioning": {"type": "str", "choices": ["enabled", "suspended", "unmanaged"], "default": "unmanaged"},
        "object_lock": {"type": "bool"},
        "lifecycle_expiry_days": {"type": "int"},
        "tags": {"type": "dict"},
        "timeout": {"type": "int", "default": 30},
    }


def manage(params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Bring the bucket to the wanted state; the result as ``exit_json`` takes it."""
    name = params["name"]
    wanted = _bucket.wanted_of(params)
    with reach(params["endpoint"], lambda: connect(params), params["via"]) as reached:
        store = _bucket.Store(
            name,
            params["endpoint"],
            reached,
            access_key=params["access_key"],
            secret_key=params["secret_key"],
            region=params["region"],
            ca_cert=params["s3_ca_cert"],
            timeout=params["timeout"],
        )
        before = store.observe(wanted)
        actions, after = _bucket.plan(name, before, wanted)
        if not check_mode:
            store.apply(actions)
    shown = _bucket.show(name, after, wanted)
    return {
        "changed": bool(actions),
        "actions": [action.verb for action in actions],
        "bucket": shown,
        "diff": {"before": _bucket.show(name, before, wanted), "after": shown},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    if _bucket.MINIO_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("minio"), exception=str(_bucket.MINIO_IMPORT_ERROR))
    try:
        result = manage(module.params, module.check_mode)
    except ModelMonitoringError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
