# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Where a model is and whether it answers: what KServe and Knative made, changed row by row."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _inference_service, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._inference_service import API, LABEL, Judge, Query, Scene
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError

FIXTURES = Path(__file__).parent / "fixtures"
READY, WAITING, FAILING = _wait.READY, _wait.WAITING, _wait.FAILING
HOST = "mistral-24b-predictor.private-ai-demo.svc.cluster.local"


class Cluster:
    """The objects of a fixture, for tests to change."""

    def __init__(self, mode: str) -> None:
        content = yaml.safe_load((FIXTURES / f"inference_service_{mode}.yaml").read_text())
        content = copy.deepcopy(content)  # YAML's aliases would change together
        self.item, self.services, self.deployments, self.slices = (
            content[key] for key in ("inference_service", "services", "deployments", "endpoint_slices")
        )

    @property
    def scene(self) -> Scene:
        return Scene(self.services, self.deployments, self.slices)

    @property
    def state(self) -> _wait.State:
        return _inference_service.explain(self.item, self.scene)

    @property
    def info(self) -> _inference_service.Info:
        return self.state.facts["info"]

    @property
    def container(self) -> dict:
        return self.deployments[-1]["spec"]["template"]["spec"]["containers"][0]

    def annotate(self, **annotations: str) -> None:
        names = {"auth": "security.opendatahub.io/enable-auth", "stop": "serving.kserve.io/stop", "mode": "serving.kserve.io/deploymentMode"}
        self.item["metadata"].setdefault("annotations", {}).update({names[key]: value for key, value in annotations.items()})

    def condition(self, name: str, status: str, **more: str) -> None:
        others = [condition for condition in self.item["status"]["conditions"] if condition["type"] != name]
        self.item["status"]["conditions"] = [*others, {"type": name, "status": status, **more}]

    def ports(self, *ports: dict, **spec) -> None:
        self.services[0]["spec"].update(ports=list(ports), **spec)


@pytest.fixture
def raw() -> Cluster:
    return Cluster("raw")


@pytest.fixture
def serverless() -> Cluster:
    return Cluster("serverless")


def port(number: int, target=8080, name: str | None = "http", **more) -> dict:
    return {"port": number, "targetPort": target, "protocol": "TCP", **({"name": name} if name else {}), **more}


def test_raw_deployment(raw):
    assert (raw.state.phase, raw.state.text) == (READY, "is ready")
    assert raw.state.target == "InferenceService private-ai-demo/mistral-24b"
    assert raw.info == _inference_service.Info(
        name="mistral-24b",
        namespace="private-ai-demo",
        deployment_mode="RawDeployment",
        url=f"http://{HOST}",
        scheme="http",
        host=HOST,
        port=80,
        service="mistral-24b-predictor",
        revision=None,
        model="mistral-24b",
        runtime=None,
        auth_required=False,
        address_url=f"http://{HOST}",
    )


def test_serverless_is_the_latest_ready_revision(serverless):
    host = "my-model-predictor-00003-private.default.svc.cluster.local"
    assert serverless.state.phase == READY
    assert serverless.info == _inference_service.Info(
        name="my-model",
        namespace="default",
        deployment_mode="Serverless",
        url=f"http://{host}",
        scheme="http",
        host=host,
        port=80,
        service="my-model-predictor-00003-private",
        revision="my-model-predictor-00003",
        model="my-model",
        runtime="vllm-cuda-runtime",
        auth_required=False,
        address_url="http://my-model.default.svc.cluster.local",
    )


def test_serverless_when_the_latest_created_revision_failed(serverless):
    predictor = serverless.item["status"]["components"]["predictor"]
    predictor["latestCreatedRevision"], predictor["latestReadyRevision"] = "my-model-predictor-00003", "my-model-predictor-00001"
    message = 'Revision "my-model-predictor-00003" failed with message: Container failed with: CUDA out of memory.'
    for name in ("PredictorConfigurationReady", "PredictorReady", "Ready"):
        serverless.condition(name, "False", reason="RevisionFailed", message=message)
    serverless.slices[0]["metadata"]["labels"]["kubernetes.io/service-name"] = "my-model-predictor-00001-private"
    state = serverless.state
    assert (state.phase, state.cause, state.grace) == (FAILING, "revision", 60.0)
    url = "http://my-model-predictor-00001-private.default.svc.cluster.local"
    assert state.text == f"RevisionFailed: {message.rstrip('.')}; revision my-model-predictor-00001 serves at {url}"
    assert (serverless.info.url, serverless.info.model) == (url, "my-model-of-old")
    serverless.slices.clear()
    assert "serves at" not in serverless.state.text


def test_serverless_long_names_are_found_by_their_labels(serverless):
    serverless.services[0]["metadata"]["name"] = "my-model-prefffff105d7597f637e83cc711605ac3ea4957-private"
    assert serverless.info.service == "my-model-prefffff105d7597f637e83cc711605ac3ea4957-private"


@pytest.mark.parametrize(
    ("component", "text"),
    [
        ({"latestCreatedRevision": "my-model-predictor-00001"}, "no revision of it is ready yet"),
        ({"latestReadyRevision": "my-model-predictor-00009"}, "revision my-model-predictor-00009 has no private Service with a port to call"),
    ],
)
def test_serverless_without_a_revision_to_call(serverless, component, text):
    serverless.item["status"]["components"]["predictor"] = component
    assert (serverless.state.phase, serverless.state.text, serverless.info.url) == (WAITING, text, None)
    assert serverless.info.model is None


def test_serverless_speaking_http2_is_grpc(serverless):
    serverless.ports(port(80, 8013, "http2"), port(443, 8112, "https"), port(8013, 8013, "http2-istio"))
    assert (serverless.info.scheme, serverless.info.port) == ("grpc", 80)
    assert serverless.info.url == "grpc://my-model-predictor-00003-private.default.svc.cluster.local:80"


def test_scaled_to_zero(serverless, raw):
    for cluster, cure in ((serverless, "or call its address_url, which wakes it"), (raw, "Set minReplicas to 1")):
        cluster.slices.clear()
        cluster.deployments[-1]["spec"]["replicas"] = 0
        cluster.deployments[-1]["status"] = {"observedGeneration": 1}
        state = cluster.state
        assert (state.phase, state.text, state.grace) == (FAILING, "is scaled to zero: nobody answers at its URL", 10.0)
        assert state.cure.endswith(cure)
        assert cluster.info.url


def test_no_ready_endpoint(raw, serverless):
    raw.slices[0]["endpoints"][0]["conditions"] = {"ready": False}
    assert (raw.state.phase, raw.state.text) == (WAITING, "Service mistral-24b-predictor has no ready endpoint")
    serverless.slices[0]["metadata"]["labels"]["kubernetes.io/service-name"] = "my-model-predictor-00001-private"
    assert serverless.state.text == "Service my-model-predictor-00003-private has no ready endpoint"


@pytest.mark.parametrize(
    ("ports", "spec", "url", "number"),
    [
        ("port 80 before the container's", {}, f"http://{HOST}", 80),
        ("headless", {"clusterIP": "None"}, f"http://{HOST}:8080", 8080),
        ("gRPC before HTTP", {}, f"http://{HOST}:8080", 8080),
        ("gRPC alone", {}, f"grpc://{HOST}:80", 80),
        ("metrics before HTTP", {}, f"http://{HOST}", 80),
        ("TLS", {}, f"https://{HOST}", 443),
    ],
)
def test_ports(raw, ports, spec, url, number):
    known = {
        "port 80 before the container's": [port(80)],
        "headless": [port(80)],
        "gRPC before HTTP": [port(80, 9000, "h2c"), port(8080, 8080, "http")],
        "gRPC alone": [port(80, 9000, None, appProtocol="kubernetes.io/h2c")],
        "metrics before HTTP": [port(8002, 8002, "metrics"), port(80)],
        "TLS": [port(443, 8443, "https")],
    }
    raw.ports(*known[ports], **spec)
    assert (raw.info.url, raw.info.port) == (url, number)


def test_a_service_without_a_port_to_call(raw):
    raw.ports(clusterIP="None")
    assert (raw.state.phase, raw.info.url) == (WAITING, None)
    assert raw.state.text == "it has no Service with a port to call"
    raw.ports(port(80, "http"), clusterIP="None")
    assert raw.state.text == "the container's port behind the headless Service mistral-24b-predictor is not known yet"
    raw.container["ports"] = [{"name": "http", "containerPort": 8033}]
    assert raw.info.url == f"http://{HOST}:8033"


@pytest.mark.parametrize("headless", [False, True])
def test_open_data_hub_asks_for_a_token(raw, headless):
    raw.annotate(auth="true")
    raw.ports(port(8443, "https", "https"), **({"clusterIP": "None"} if headless else {}))
    raw.deployments[0]["spec"]["template"]["spec"]["containers"].append(
        {"name": "kube-rbac-proxy", "ports": [{"name": "https", "containerPort": 8443}, {"name": "proxy", "containerPort": 8643}]}
    )
    raw.item["status"]["address"]["url"] = f"https://{HOST}:8443"
    assert (raw.info.url, raw.info.port, raw.info.auth_required) == (f"https://{HOST}:8443", 8443, True)
    assert raw.state.phase == READY


def test_open_data_hub_has_its_proxy_also_where_it_asks_for_nothing(raw):
    raw.deployments[0]["spec"]["template"]["spec"]["containers"].append(
        {"name": "kube-rbac-proxy", "ports": [{"name": "https", "containerPort": 8443}]}
    )
    assert (raw.info.url, raw.info.auth_required) == (f"http://{HOST}", False)


def test_authentication_of_a_service_that_has_both_ports(raw):
    raw.ports(port(80), port(8443, "https", "https"))
    assert raw.info.url == f"http://{HOST}"
    raw.annotate(auth="True")
    assert raw.info.url == f"https://{HOST}:8443"
    raw.ports(port(80))  # KServe has not seen the annotation yet
    assert (raw.info.url, raw.info.auth_required) == (f"http://{HOST}", True)


def test_a_transformer_is_called_and_the_predictor_names_the_model(raw):
    raw.annotate(auth="true")
    raw.item["spec"]["transformer"] = {}  # all of it may be left to defaults
    raw.item["status"].pop("address")
    service, deployment = copy.deepcopy(raw.services[0]), copy.deepcopy(raw.deployments[0])
    for item in (service, deployment):
        item["metadata"]["name"] = "mistral-24b-transformer"
        item["metadata"]["labels"]["component"] = "transformer"
    deployment["spec"]["template"]["spec"]["containers"][0]["args"] = ["--model_name", "other"]
    raw.services.insert(0, service)
    raw.deployments.insert(0, deployment)
    raw.slices[0]["metadata"]["labels"]["kubernetes.io/service-name"] = "mistral-24b-transformer"
    assert (raw.info.service, raw.info.model, raw.info.auth_required) == ("mistral-24b-transformer", "mistral-24b", False)
    assert raw.state.phase == READY


def test_the_service_that_the_address_names_goes_before_the_usual_one(raw):
    """Newer versions of KServe let a predictor have a name, which is part of the Service's; another cluster domain is kept."""
    for item in (*raw.services, *raw.deployments):
        item["metadata"]["name"] = "mistral-24b-blue-predictor"
    raw.slices[0]["metadata"]["labels"]["kubernetes.io/service-name"] = "mistral-24b-blue-predictor"
    assert raw.info.url is None
    raw.item["status"]["address"]["url"] = "http://mistral-24b-blue-predictor.private-ai-demo.svc.corp.example"
    assert raw.info.url == "http://mistral-24b-blue-predictor.private-ai-demo.svc.corp.example"
    assert raw.state.phase == READY


@pytest.mark.parametrize(("said", "mode"), [("Standard", "RawDeployment"), ("RawDeployment", "RawDeployment"), ("", "RawDeployment"), ("New", None)])
def test_names_of_the_mode(raw, said, mode):
    raw.item["status"]["deploymentMode"] = said
    raw.item["metadata"].pop("annotations")
    assert raw.info.deployment_mode == mode
    assert (raw.state.phase, raw.info.url is None) == ((READY, False) if mode else (WAITING, True))


def test_the_mode_where_kserve_does_not_say_it(raw, serverless):
    for cluster in (raw, serverless):
        cluster.item["status"].pop("deploymentMode")
    assert serverless.info.deployment_mode == "Serverless"
    assert raw.info.deployment_mode == "RawDeployment"  # by its annotation
    raw.item["metadata"].pop("annotations")
    raw.services[0]["spec"].pop("selector")
    assert (raw.info.deployment_mode, raw.state.text) == (None, "KServe does not say how it is deployed")


def test_model_mesh(raw):
    raw.item["status"]["deploymentMode"] = "ModelMesh"
    assert (raw.state.phase, raw.state.grace, raw.info.url) == (FAILING, 0.0, None)


@pytest.mark.parametrize(
    ("status", "phase", "text"),
    [
        ({}, WAITING, "KServe has not reported on it yet"),
        (
            {"conditions": [{"type": "Ready", "status": "Unknown"}, {"type": "PredictorReady", "status": "Unknown"}]},
            WAITING,
            "its condition PredictorReady is Unknown",
        ),
        (
            {
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "False",
                        "reason": "MinimumReplicasUnavailable",
                        "message": "Not available.",
                    },
                    {"type": "IngressReady", "status": "False", "reason": "Predictor ingress not created"},
                ]
            },
            WAITING,
            "MinimumReplicasUnavailable: Not available.",
        ),
        (
            {
                "modelStatus": {
                    "transitionStatus": "InvalidSpec",
                    "lastFailureInfo": {"reason": "RuntimeNotRecognized", "message": "Waiting for runtime to become available"},
                }
            },
            FAILING,
            "RuntimeNotRecognized: Waiting for runtime to become available",
        ),
        (
            {
                "conditions": [{"type": "Ready", "status": "False", "reason": "MinimumReplicasUnavailable", "message": "Not available."}],
                "modelStatus": {
                    "transitionStatus": "BlockedByFailedLoad",
                    "lastFailureInfo": {"reason": "ModelLoadFailed", "message": "no such\nbucket", "exitCode": 1},
                },
            },
            FAILING,
            "ModelLoadFailed: no such bucket (exit code 1); MinimumReplicasUnavailable: Not available.",
        ),
        ({"modelStatus": {"transitionStatus": "BlockedByFailedLoad"}}, FAILING, "the model failed to load"),
    ],
)
def test_not_ready(raw, status, phase, text):
    raw.item["status"] = {"deploymentMode": "RawDeployment", **status}
    assert (raw.state.phase, raw.state.text) == (phase, text)
    assert raw.info.url == f"http://{HOST}"


def test_a_refused_spec_while_the_old_one_serves(raw):
    raw.item["status"]["modelStatus"]["transitionStatus"] = "InvalidSpec"
    assert (raw.state.phase, raw.state.text, raw.state.grace) == (FAILING, "its spec is invalid", 20.0)


def test_a_failure_of_the_past(raw):
    raw.item["status"]["modelStatus"].update(transitionStatus="BlockedByFailedLoad", lastFailureInfo={"reason": "ModelLoadFailed"})
    assert raw.state.phase == READY


def test_not_ready_with_what_the_deployment_says(raw):
    raw.condition("Ready", "False")
    raw.deployments[0]["status"]["availableReplicas"] = 0
    assert raw.state.text == "its condition Ready is False; 0 of 1 replicas are available, 1 are up to date, 1 exist"
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
    raw.deployments[0]["status"]["conditions"] = [refused]
    assert (raw.state.phase, raw.state.text, raw.state.grace) == (FAILING, "FailedCreate: exceeded quota", 60.0)


def test_ready_is_not_ready_before_it_is_rolled_out(raw):
    """KServe's condition is the Deployment's Available, which an old pod keeps true."""
    raw.deployments[0]["status"]["updatedReplicas"] = 0
    assert (raw.state.phase, raw.state.text) == (WAITING, "1 of 1 replicas are available, 0 are up to date, 1 exist")
    raw.deployments.clear()
    assert raw.state.text == "Service mistral-24b-predictor has no Deployment"


def test_stopped_and_deleted(raw):
    raw.annotate(stop="true")
    assert (raw.state.phase, raw.state.text, raw.state.grace) == (FAILING, "is stopped", 0.0)
    raw.item["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert (raw.state.phase, raw.state.text) == (WAITING, "is being deleted")


VLLM = ["python", "-m", "vllm.entrypoints.openai.api_server"]


@pytest.mark.parametrize(
    ("container", "model"),
    [
        # OpenShift AI's runtime, the placeholder filled in by KServe; the InferenceService's arguments come behind the runtime's.
        ({"command": VLLM, "args": ["--port=8080", "--model=/mnt/models", "--served-model-name=mistral"]}, "mistral"),
        ({"command": VLLM, "args": ["--served-model-name=mistral", "--max-model-len=4096", "--served-model-name=granite"]}, "granite"),
        ({"command": VLLM, "args": ["--model", "/mnt/models", "--served-model-name", "first", "second", "--port", "8080"]}, "first"),
        ({"command": VLLM, "args": ["--served_model_name", "under_score"]}, "under_score"),
        ({"command": VLLM, "args": ["--model=/mnt/models"]}, "/mnt/models"),
        ({"command": ["vllm", "serve"], "args": ["/mnt/models", "--port=8080"]}, "/mnt/models"),
        ({"command": ["vllm", "serve", "--port=8080"]}, "isvc"),
        ({"image": "vllm/vllm-openai:v0.11.0", "args": ["mistralai/Mistral-7B"]}, "mistralai/Mistral-7B"),
        ({"image": "example.com/server:1", "args": ["/mnt/models"]}, "isvc"),
        ({"command": ["bash", "-c", "exec vllm serve /mnt/models \\\n  --served-model-name 'a b'"]}, "a b"),
        ({"command": ["bash", "-c"], "args": ["echo don't; vllm serve --served-model-name=broken"]}, "broken"),
        ({"args": ["--served-model-name=$(NAME)"], "env": [{"name": "NAME", "value": "from-env"}]}, "from-env"),
        ({"command": ["sh", "-c", "vllm serve ${DIR} --served-model-name=${NAME}-x"], "env": [{"name": "NAME", "value": "e"}]}, "e-x"),
        ({"args": ["--served-model-name=$(NAME)"], "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}, None),
        ({"args": ["--served-model-name=$NAME"]}, None),
        ({"args": ["--model_name=sklearn-iris", "--http_port=8080"]}, "sklearn-iris"),
        ({"args": ["tritonserver", "--model-store=/mnt/models"]}, "isvc"),
        ({"args": ["--served-model-name"]}, "isvc"),
        ({}, "isvc"),
    ],
)
def test_served_model(container, model):
    assert _inference_service._model({"name": "kserve-container", **container}, "isvc") == model


def test_a_worker_of_several_nodes_is_not_the_one_that_serves(raw):
    worker = copy.deepcopy(raw.deployments[0])
    worker["metadata"]["name"] = "mistral-24b-predictor-worker"
    worker["spec"]["template"]["spec"]["containers"][0].update(name="worker-container", args=["--served-model-name=worker"])
    raw.deployments.insert(0, worker)
    assert raw.info.model == "mistral-24b"
    raw.container["name"] = "simulator"
    assert raw.info.model == "mistral-24b"


def test_a_container_beside_the_one_that_serves(raw):
    raw.deployments[0]["spec"]["template"]["spec"]["containers"].insert(0, {"name": "proxy", "args": ["--model=none"]})
    assert raw.info.model == "mistral-24b"


def test_a_custom_container_of_any_name(raw):
    raw.container["name"] = "simulator"
    assert raw.info.model == "mistral-24b"


@pytest.mark.parametrize("status", [{"servingRuntimeName": "vllm"}, {"clusterServingRuntimeName": "vllm"}])
def test_runtime_that_kserve_chose(raw, status):
    raw.item["status"].update(status)
    assert raw.info.runtime == "vllm"


def test_queries():
    assert Query.parse({"name": "a", "namespace": "b"}).target == "InferenceService b/a"
    assert Query.parse({"namespace": "b", "label_selectors": ["x=y", "z"]}).target == "InferenceServices in namespace b with x=y,z"
    assert Query.parse({"label_selectors": ["x=y"]}).target == "InferenceServices in any namespace with x=y"
    assert Query.parse({"namespace": "b"}).selection.path == f"{API}/namespaces/b/inferenceservices"
    assert Query.parse({"label_selectors": ["x=y"]}).selection.path == f"{API}/inferenceservices"


@pytest.mark.parametrize("item", [{"name": "a/b", "namespace": "c"}, {"namespace": "../x"}, {"name": "A", "namespace": "c"}])
def test_names_that_no_object_has(item):
    with pytest.raises(ModelMonitoringError, match="is not a name that Kubernetes allows"):
        Query.parse(item)


class View:
    """A view of the objects of both fixtures."""

    def __init__(self, *clusters: Cluster, error: KubeError | None = None) -> None:
        self.clusters = clusters
        self.error = error
        self.asked: list[_wait.Selection] = []

    def items(self, selection: _wait.Selection) -> list[dict]:
        self.asked.append(selection)
        if self.error:
            raise self.error
        plural = selection.path.rsplit("/", 1)[-1]
        kinds = {"inferenceservices": "item", "services": "services", "deployments": "deployments", "endpointslices": "slices"}
        found = [item for cluster in self.clusters for item in self._several(getattr(cluster, kinds[plural]))]
        namespace = selection.path.split("/namespaces/")[1].split("/")[0] if "/namespaces/" in selection.path else ""
        name = selection.fields.partition("=")[2]
        return [item for item in found if namespace in ("", item["metadata"]["namespace"]) and name in ("", item["metadata"]["name"])]

    @staticmethod
    def _several(items: dict | list) -> list:
        return items if isinstance(items, list) else [items]


class Kube:
    def __init__(self, answer: dict | KubeError) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict]] = []

    def get(self, path: str, what: str, **query: str) -> dict:
        self.asked.append((path, query))
        if isinstance(self.answer, KubeError):
            raise self.answer
        return self.answer


def test_judge_of_all_namespaces_asks_once_for_each_kind(raw, serverless):
    view = View(serverless, raw)
    states = Judge(Kube({}), [Query(labels="x=y")])(view)
    assert [state.target for state in states] == ["InferenceService default/my-model", "InferenceService private-ai-demo/mistral-24b"]
    assert [state.phase for state in states] == [READY, READY]
    assert {(selection.path, selection.labels) for selection in view.asked} == {
        (f"{API}/inferenceservices", "x=y"),
        ("/api/v1/services", LABEL),
        ("/apis/apps/v1/deployments", LABEL),
        ("/apis/discovery.k8s.io/v1/endpointslices", LABEL),
    }


def test_judge_keeps_what_is_of_another_inference_service_apart(raw):
    other = Cluster("raw")
    for item in (other.item, *other.services, *other.deployments, *other.slices):
        item["metadata"]["name"] = item["metadata"]["name"].replace("mistral-24b", "mistral-24b-quantized")
        item["metadata"].setdefault("labels", {})[LABEL] = "mistral-24b-quantized"
    other.container["args"] = ["--model", "quantized"]
    other.item["status"]["address"]["url"] = None
    view = View(raw, other)
    both = [Query("private-ai-demo", "mistral-24b-quantized"), Query("private-ai-demo"), Query("private-ai-demo", "mistral-24b")]
    states = Judge(Kube({}), both)(view)
    assert [(state.facts["info"].name, state.facts["info"].model) for state in states] == [
        ("mistral-24b-quantized", "quantized"),
        ("mistral-24b", "mistral-24b"),
    ]


def test_judge_of_what_does_not_exist(raw):
    queries = [Query("private-ai-demo", "nope"), Query("empty", labels="a=b")]
    states = Judge(Kube({}), queries)(View(raw))
    assert [(state.target, state.phase, state.text) for state in states] == [
        ("InferenceService private-ai-demo/nope", WAITING, "does not exist"),
        ("InferenceServices in namespace empty with a=b", WAITING, "there is none"),
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"items": [{"metadata": {"name": name}} for name in "gfedcba"]}, "(there is a, b, c, d, e and 2 more in this one)"),
        ({"items": []}, "(there is none in this one)"),
        (KubeError("forbidden", status=403), "Correct its name or namespace, or wait for it"),
    ],
)
def test_one_that_must_exist(raw, answer, said):
    with pytest.raises(ModelMonitoringError) as error:
        Judge(Kube(answer), [Query("private-ai-demo", "mistral-24b"), Query("private-ai-demo", "nope")]).existing(View(raw))
    assert str(error.value).startswith("InferenceService private-ai-demo/nope: does not exist. ")
    assert said in str(error.value)
    assert "mistral-24b:" not in str(error.value)


def test_selections_that_find_nothing_are_no_error(raw):
    states = Judge(Kube({}), [Query("empty")]).existing(View(raw))
    assert [state.target for state in states] == ["InferenceServices in namespace empty"]


def test_without_kserve(raw):
    judge = Judge(Kube({}), [Query("private-ai-demo", "mistral-24b")])
    missing = View(raw, error=KubeError("not served", status=404))
    with pytest.raises(KubeError):
        judge(missing)
    assert [(state.phase, state.text) for state in judge.glance(missing)] == [(WAITING, "KServe is not installed yet")]
    with pytest.raises(KubeError):
        judge.glance(View(raw, error=KubeError("forbidden", status=403)))
    assert judge.glance(View(raw))[0].phase == READY
    assert Query("private-ai-demo", "x").selection.absent.startswith("The cluster does not serve serving.kserve.io/v1beta1")


def test_diagnosis_tells_what_the_pods_say(raw):
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    pod = {
        "metadata": {"name": "p"},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "kserve-container", "state": {"waiting": waiting}}]},
    }
    kube = Kube({"items": [pod]})
    judge = Judge(kube, [Query("private-ai-demo"), Query("empty")])
    raw.condition("Ready", "False")
    late, none = judge.diagnose(View(raw), judge(View(raw)))
    assert late.text.endswith("; pod p: container kserve-container waits, ImagePullBackOff: no such image")
    assert none.text == "there is none"
    assert kube.asked == [("/api/v1/namespaces/private-ai-demo/pods", {"labelSelector": f"{LABEL}=mistral-24b"})]
    refused = Judge(Kube(KubeError("forbidden", status=403)), [Query("private-ai-demo")])
    assert refused.diagnose(View(raw), refused(View(raw)))[0].text == "its condition Ready is False"
