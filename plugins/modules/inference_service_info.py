#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Module inference_service_info: where models are served, and whether they answer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: inference_service_info
short_description: Where models are served inside the cluster, and whether they answer
version_added: 0.1.0
description:
  - Tells for any number of InferenceServices (KServe, OpenShift AI) in one call which URL a client inside the cluster calls,
    under which name the model is served there, whether a token is needed, and whether the model answers - or why not.
  - In deployment mode RawDeployment (Standard) that is the predictor's Service, with the container's port when the Service is
    headless. In Serverless (Knative) it is the private Service of the latest ready revision, whatever its number.
    With a transformer it is the transformer's. ModelMesh is not supported.
  - Can wait, by watch, until all of them are ready. It then stops early at what does not heal by itself - a stopped
    InferenceService or one of ModelMesh at once, one that has been scaled to zero for 10 seconds, a spec that KServe has refused
    for 20 seconds, a model or revision that has failed for a minute, pods that are refused by a quota or a policy for a minute.
  - On time-out says the last state of each and, where it may read them, what its pods say.
  - Survives a restarted API server and expired watches while it waits; lists and continues.
options:
  inference_services:
    description:
      - What to look for. Each element is one InferenceService by name, or all of a namespace, of some labels, or both.
      - What several elements find is reported once.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of one InferenceService. It must exist, unless the module waits or runs in check mode.
        type: str
      namespace:
        description: Namespace. Without it, O(inference_services[].label_selectors) are looked for in all namespaces.
        type: str
      label_selectors:
        description: Label selectors that must all hold, as V(opendatahub.io/dashboard=true).
        type: list
        elements: str
  wait:
    description:
      - Whether to wait until all are ready; also until a named one exists, and until each of the other elements finds at least one.
      - Without it, one that is not ready is a result and no failure.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for all of them together.
    type: int
    default: 300
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - private_ai.model_monitoring.kubernetes_client
attributes:
  check_mode:
    description: Reads, and changes nothing.
    support: full
    details: >-
      Looks once and reports in RV(missing) what a real run would wait for; an InferenceService that does not exist or a KServe
      that is not installed is no failure.
  diff_mode:
    description: Shows what changed.
    support: none
    details: Nothing is ever changed.
notes:
  - Needs the verb C(list), to wait also C(watch), on C(inferenceservices) in C(serving.kserve.io), C(services), C(deployments) in C(apps) and
    C(endpointslices) in C(discovery.k8s.io), in the namespaces that are asked for. It needs no right on Knative's kinds.
  - With C(list) on C(pods) it can also say why an InferenceService has not become ready in time.
seealso:
  - module: private_ai.model_monitoring.resource_wait
author:
  - private_ai.model_monitoring contributors (@private-ai)
"""

EXAMPLES = r"""
- name: Wait until both models answer
  private_ai.model_monitoring.inference_service_info:
    inference_services:
      - name: mistral-24b
        namespace: private-ai-demo
      - name: mistral-24b-quantized
        namespace: private-ai-demo
    wait: true
    timeout: 900
  register: models

- name: Ask each which models it has
  ansible.builtin.uri:
    url: "{{ item.url }}/v1/models"
  loop: "{{ models.inference_services }}"
  loop_control:
    label: "{{ item.name }}"

- name: All models that the dashboard of OpenShift AI shows, in any namespace
  private_ai.model_monitoring.inference_service_info:
    inference_services:
      - label_selectors: [opendatahub.io/dashboard=true]
"""

RETURN = r"""
waited:
  description: Seconds until all were ready, 0 when the module did not wait.
  returned: always
  type: float
  sample: 12.4
inference_services:
  description:
    - The InferenceServices that exist, in the order they were asked for, those of one element by namespace and name; and those that were
      asked for by name and do not exist.
    - What is not known (yet) is null.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name.
      type: str
      sample: mistral-24b
    namespace:
      description: Namespace.
      type: str
      sample: private-ai-demo
    url:
      description:
        - What a client inside the cluster calls, without a path and without the port if it is the scheme's own. The OpenAI API of
          vLLM is below V(/v1) of it.
        - Known before the model answers; see RV(inference_services[].ready).
      type: str
      sample: http://mistral-24b-predictor.private-ai-demo.svc.cluster.local
    scheme:
      description: V(http), V(https) or V(grpc) (without TLS).
      type: str
      sample: http
    host:
      description: Host of the URL.
      type: str
      sample: mistral-24b-predictor.private-ai-demo.svc.cluster.local
    port:
      description: Port of the URL.
      type: int
      sample: 80
    service:
      description: Name of the Service, as a ServiceMonitor or a port-forward needs it.
      type: str
      sample: mistral-24b-predictor
    revision:
      description: The latest ready Knative revision; null in RawDeployment, and in Serverless while no revision is ready.
      type: str
      sample: mistral-24b-predictor-00004
    model:
      description:
        - Name of the served model, that is what clients send as V(model) and vLLM's metrics have as label C(model_name).
        - From the container's arguments - C(--served-model-name), C(--model_name), C(--model) - else KServe's default, the InferenceService's name.
      type: str
      sample: mistral-24b
    runtime:
      description: Name of the ServingRuntime or ClusterServingRuntime; null for a predictor with a container of its own.
      type: str
      sample: vllm-cuda-runtime
    deployment_mode:
      description: V(RawDeployment), V(Serverless) or V(ModelMesh). KServe's newer names Standard and Knative are reported by these.
      type: str
      sample: RawDeployment
    auth_required:
      description: Whether the endpoint wants a bearer token (C(security.opendatahub.io/enable-auth) of OpenShift AI).
      type: bool
      sample: false
    address_url:
      description:
        - KServe's own address for clients inside the cluster. In Serverless it leads through Knative's gateway, which starts a model that
          is scaled to zero.
      type: str
      sample: http://mistral-24b-predictor.private-ai-demo.svc.cluster.local
    ready:
      description: Whether KServe calls it ready and a pod answers behind the URL.
      type: bool
      sample: true
    waited:
      description: Seconds until it was ready, null when it is not.
      type: float
      sample: 12.4
    state:
      description: Last state in words; why it is not ready, with reason and message of the condition that says most.
      type: str
      sample: is ready
missing:
  description:
    - InferenceServices that are not ready, as InferenceService namespace/name, and elements that found none. Empty after a
      real run that waited.
  returned: always
  type: list
  elements: str
  sample: []
"""

import dataclasses

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _inference_service, _kube, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


def argument_spec():
    """The module's options."""
    return {
        **AUTH_ARG_SPEC,
        "inference_services": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str"},
                "namespace": {"type": "str"},
                "label_selectors": {"type": "list", "elements": "str"},
            },
            "required_one_of": [("namespace", "label_selectors")],
            "mutually_exclusive": [("name", "label_selectors")],
        },
        "wait": {"type": "bool", "default": False},
        "timeout": {"type": "int", "default": 300},
    }


def result(queries, states, seconds, ready_after):
    """The module's return values."""
    named = {query.target: _inference_service.Info(query.name, query.namespace) for query in queries if query.name}
    found = []
    for state in states:
        info = state.facts.get("info") or named.get(state.target)
        if info is None:
            continue
        found.append(
            {
                **dataclasses.asdict(info),
                "ready": state.phase == _wait.READY,
                "waited": round(ready_after[state.target], 3) if state.target in ready_after else None,
                "state": state.text,
            }
        )
    return {
        "waited": round(seconds, 3),
        "inference_services": found,
        "missing": [state.target for state in states if state.phase != _wait.READY],
    }


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    queries = []
    try:
        queries = [_inference_service.Query.parse(item) for item in module.params["inference_services"]]
        kube = _kube.Kube(_kube.connect(module.params))
        judge = _inference_service.Judge(kube, queries)
        with _wait.View(kube) as view:
            if module.check_mode:
                module.exit_json(changed=False, **result(queries, judge.glance(view), 0.0, {}))
            if not module.params["wait"]:
                module.exit_json(changed=False, **result(queries, judge.existing(view), 0.0, {}))
            waited = _wait.wait_for(view, judge, module.params["timeout"], diagnose=judge.diagnose)
    except _wait.WaitError as error:
        module.fail_json(msg=str(error), **result(queries, error.states, error.seconds, error.ready_after))
    except ModelMonitoringError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result(queries, waited.states, waited.seconds, waited.ready_after))


if __name__ == "__main__":
    main()
