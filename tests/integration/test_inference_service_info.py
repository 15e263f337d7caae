# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""inference_service_info against a real API server with KServe's CRD. What KServe, Knative and Kubernetes' controllers write is written by
the tests, from the fixtures of the unit tests."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import pytest
import yaml
from kubernetes.dynamic.exceptions import NotFoundError

FIXTURES = Path(__file__).parents[1] / "unit" / "plugins" / "module_utils" / "fixtures"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
READ = [
    {"apiGroups": ["serving.kserve.io"], "resources": ["inferenceservices"], "verbs": ["list", "watch"]},
    {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"]},
    {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list", "watch"]},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
]


@pytest.fixture(scope="module", autouse=True)
def control_plane_with_kserve(cluster):
    """The objects must stay as the test writes them, and KServe's CRD must be there."""
    leases = cluster.get("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases")["items"]
    if any(item["metadata"]["name"] == "kube-controller-manager" for item in leases):
        pytest.fail("controllers run here and would answer these objects themselves: use the lab's profile control-plane", pytrace=False)
    names = [item["metadata"]["name"] for item in cluster.get(CRD)["items"]]
    assert "inferenceservices.serving.kserve.io" in names, "the lab's profile control-plane has KServe's CRDs"


class Model:
    """The objects of a fixture, to be created in a namespace of the test's own one after the other."""

    def __init__(self, cluster, namespace: str, mode: str, name: str = "") -> None:
        text = (FIXTURES / f"inference_service_{mode}.yaml").read_text()
        before = yaml.safe_load(text)["inference_service"]["metadata"]
        text = text.replace(before["namespace"], namespace)
        content = copy.deepcopy(yaml.safe_load(text.replace(before["name"], name) if name else text))
        self._cluster = cluster
        self._namespace = namespace
        self.item = content["inference_service"]
        self.services, self.deployments, self.slices = (content[key] for key in ("services", "deployments", "endpoint_slices"))

    @property
    def name(self) -> str:
        return self.item["metadata"]["name"]

    def _path(self, prefix: str, plural: str) -> str:
        return f"{prefix}/namespaces/{self._namespace}/{plural}"

    def _create(self, path: str, item: dict, **more) -> dict:
        meta = {key: value for key, value in item["metadata"].items() if key in ("name", "labels", "annotations")}
        body = {key: value for key, value in item.items() if key != "status"}
        return self._cluster.create(path, {**body, "metadata": meta, **more})

    def create(self) -> None:
        """The InferenceService as its user makes it."""
        path = self._path("/apis/serving.kserve.io/v1beta1", "inferenceservices")
        self._create(path, self.item, apiVersion="serving.kserve.io/v1beta1", kind="InferenceService")

    def report(self, **status) -> None:
        """KServe's status: the fixture's with other fields; conditions and components are replaced as a whole."""
        path = self._path("/apis/serving.kserve.io/v1beta1", f"inferenceservices/{self.name}")
        self._cluster.merge(f"{path}/status", {"status": {**self.item["status"], **status}})

    def annotate(self, **annotations) -> None:
        path = self._path("/apis/serving.kserve.io/v1beta1", f"inferenceservices/{self.name}")
        self._cluster.merge(path, {"metadata": {"annotations": annotations}})

    def make(self) -> None:
        """What KServe and Knative make for it, rolled out, but nobody answers yet."""
        for item in self.services:
            spec = {key: value for key, value in item["spec"].items() if key in ("ports", "selector", "type")}
            self._create(self._path("/api/v1", "services"), item, spec=spec)
        for item in self.deployments:
            spec = copy.deepcopy(item["spec"])
            labels = {"app": item["metadata"]["name"]}
            spec["selector"] = {"matchLabels": labels}
            spec["template"]["metadata"] = {"labels": labels}
            for container in spec["template"]["spec"]["containers"]:
                container.setdefault("image", "example.invalid/none:1")
            path = self._path("/apis/apps/v1", "deployments")
            created = self._create(path, item, spec=spec)
            replicas = spec["replicas"]
            status = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
            status["observedGeneration"] = created["metadata"]["generation"]
            self._cluster.merge(f"{path}/{item['metadata']['name']}/status", {"status": status})

    def answer(self) -> None:
        """A pod behind the Service is ready."""
        for item in self.slices:
            self._create(self._path("/apis/discovery.k8s.io/v1", "endpointslices"), item, addressType="IPv4")

    def all(self) -> None:
        self.create()
        self.report()
        self.make()
        self.answer()

    @property
    def query(self) -> dict:
        return {"name": self.name, "namespace": self._namespace}


@pytest.fixture
def model(cluster, namespace):
    """``model("raw")`` or ``model("serverless", "name")``: a :class:`Model` in the test's namespace."""
    return lambda mode, name="": Model(cluster, namespace, mode, name)


def test_both_modes_in_one_call(run, model, namespace):
    raw, serverless = model("raw"), model("serverless")
    raw.all()
    serverless.all()
    result = run("inference_service_info", inference_services=[serverless.query, raw.query])
    assert not result.get("failed"), result
    first, second = result["inference_services"]
    assert first["url"] == f"http://my-model-predictor-00003-private.{namespace}.svc.cluster.local"
    assert (first["revision"], first["model"], first["deployment_mode"]) == ("my-model-predictor-00003", "my-model", "Serverless")
    assert second["url"] == f"http://mistral-24b-predictor.{namespace}.svc.cluster.local"
    assert (second["model"], second["port"], second["deployment_mode"]) == ("mistral-24b", 80, "RawDeployment")
    assert [item["state"] for item in result["inference_services"]] == ["is ready"] * 2
    assert result["missing"] == [] and result["changed"] is False
    assert run("inference_service_info", inference_services=[{"namespace": namespace}])["inference_services"] == [second, first]


def test_waits_from_nothing_to_an_answer(start, model, namespace):
    raw = model("raw")
    running = start("inference_service_info", inference_services=[raw.query], wait=True, timeout=60, watching="inferenceservices")
    raw.create()
    raw.report(conditions=[{"type": "Ready", "status": "Unknown"}])
    raw.make()
    raw.report()
    assert not running.ended()
    raw.answer()
    result = running.result()
    assert not result.get("failed"), result
    (found,) = result["inference_services"]
    assert found["ready"] and found["url"] == f"http://mistral-24b-predictor.{namespace}.svc.cluster.local"
    assert 0 < found["waited"] <= result["waited"] < 60


def test_waits_for_the_revision_that_becomes_ready(start, model, namespace):
    serverless = model("serverless")
    serverless.create()
    serverless.make()
    predictor = serverless.item["status"]["components"]["predictor"]
    late = [{"type": kind, "status": "Unknown"} for kind in ("PredictorConfigurationReady", "PredictorReady", "Ready")]
    serverless.report(components={"predictor": {**predictor, "latestReadyRevision": "my-model-predictor-00001"}}, conditions=late)
    (before,) = start("inference_service_info", inference_services=[serverless.query]).result()["inference_services"]
    assert (before["ready"], before["revision"], before["model"]) == (False, "my-model-predictor-00001", "my-model-of-old")
    running = start("inference_service_info", inference_services=[{"namespace": namespace}], wait=True, watching="inferenceservices")
    serverless.answer()
    assert not running.ended()
    serverless.report()
    (after,) = running.result()["inference_services"]
    assert (after["ready"], after["revision"], after["model"]) == (True, "my-model-predictor-00003", "my-model")
    assert after["url"] == f"http://my-model-predictor-00003-private.{namespace}.svc.cluster.local"


def test_time_out_tells_the_last_state_and_what_the_pods_say(cluster, run, model, namespace):
    raw = model("raw")
    raw.create()
    unavailable = {"reason": "MinimumReplicasUnavailable", "message": "Deployment does not have minimum availability."}
    raw.report(conditions=[{"type": kind, "status": "False", **unavailable} for kind in ("PredictorReady", "Ready")])
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    if not cluster.get(accounts)["items"]:
        cluster.create(accounts, {"metadata": {"name": "default"}})
    labels = {"serving.kserve.io/inferenceservice": raw.name}
    spec = {"containers": [{"name": "kserve-container", "image": "example.invalid/none:1"}], "automountServiceAccountToken": False}
    cluster.create(f"/api/v1/namespaces/{namespace}/pods", {"metadata": {"name": "p", "labels": labels}, "spec": {**spec, "nodeName": "none"}})
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    container = {"name": "kserve-container", "ready": False, "restartCount": 0, "image": "x", "imageID": "", "state": {"waiting": waiting}}
    cluster.merge(f"/api/v1/namespaces/{namespace}/pods/p/status", {"status": {"phase": "Pending", "containerStatuses": [container]}})
    queries = [raw.query, {"namespace": namespace, "label_selectors": ["no=such"]}]
    result = run("inference_service_info", inference_services=queries, wait=True, timeout=1)
    assert result["failed"]
    assert result["msg"] == (
        f"Not ready after 1 s: InferenceService {namespace}/mistral-24b: MinimumReplicasUnavailable: Deployment does not have minimum"
        " availability; pod p: container kserve-container waits, ImagePullBackOff: no such image. Look at its pods."
        f" InferenceServices in namespace {namespace} with no=such: there is none. Correct namespace and labels, or deploy a model."
    )
    (found,) = result["inference_services"]
    assert (found["ready"], found["waited"], found["url"]) == (False, None, None)


def test_stops_early_at_a_stopped_one(start, model):
    raw = model("raw")
    raw.create()
    running = start("inference_service_info", inference_services=[raw.query], wait=True, timeout=120, watching="inferenceservices")
    raw.annotate(**{"serving.kserve.io/stop": "true"})
    result = running.result(timeout=20)
    assert result["failed"] and f"{raw.name}: is stopped. Start it" in result["msg"]


def test_what_must_exist(run, model, namespace):
    model("raw").create()
    missing = {"name": "mistral-24", "namespace": namespace}
    result = run("inference_service_info", inference_services=[missing])
    assert result["failed"]
    assert result["msg"] == (
        f"InferenceService {namespace}/mistral-24: does not exist. Correct its name or namespace (there is mistral-24b in this one),"
        " or wait for it with wait=true."
    )
    checked = run("inference_service_info", inference_services=[missing, {"namespace": "no-such-namespace"}], wait=True, check=True)
    assert not checked.get("failed")
    assert checked["missing"] == [f"InferenceService {namespace}/mistral-24", "InferenceServices in namespace no-such-namespace"]
    assert [item["state"] for item in checked["inference_services"]] == ["does not exist"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"name": "mistral-24b"}, "one of the following is required: namespace, label_selectors"),
        ({}, "one of the following is required: namespace, label_selectors"),
        ({"name": "a", "namespace": "b", "label_selectors": ["c"]}, "parameters are mutually exclusive: name|label_selectors"),
        ({"namespace": "Demo"}, "namespace 'Demo' is not a name that Kubernetes allows"),
        ({"label_selectors": ["a==b==c"]}, "the API server answered 400"),
    ],
)
def test_what_cannot_be_looked_for(run, wanted, said):
    started = time.monotonic()
    result = run("inference_service_info", inference_services=[wanted], wait=True, timeout=60)
    assert result["failed"] and said in result["msg"]
    assert time.monotonic() - started < 20


def not_served(cluster, path, seconds=30):
    """Returns when the API server has taken note that a resource is served no longer."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            cluster.get(path)
        except NotFoundError:
            return
        time.sleep(0.1)
    pytest.fail(f"{path} is served still")


def test_without_kserve(cluster, run):
    path = f"{CRD}/inferenceservices.serving.kserve.io"
    versions = cluster.get(path)["spec"]["versions"]
    cluster.merge(path, {"spec": {"versions": [{**version, "served": False} for version in versions]}})
    try:
        not_served(cluster, "/apis/serving.kserve.io/v1beta1/namespaces/default/inferenceservices")
        wanted = [{"name": "a", "namespace": "default"}]
        for wait in (False, True):
            result = run("inference_service_info", inference_services=wanted, wait=wait, timeout=60)
            assert result["failed"] and "KServe is not installed. Install it" in result["msg"]
        checked = run("inference_service_info", inference_services=wanted, check=True)
        assert [item["state"] for item in checked["inference_services"]] == ["KServe is not installed yet"]
    finally:
        cluster.merge(path, {"spec": {"versions": versions}})
        run("crd_wait", crds=[{"name": "inferenceservices.serving.kserve.io", "version": "v1beta1"}], timeout=30)


def test_least_rights(run, model, user):
    raw = model("raw")
    raw.all()
    allowed = run("inference_service_info", inference_services=[raw.query], wait=True, timeout=10, **user(READ))
    assert allowed["missing"] == [], allowed
    for lacking in READ:
        rules = [rule for rule in READ if rule != lacking]
        refused = run("inference_service_info", inference_services=[raw.query], wait=True, timeout=60, **user(rules))
        assert refused["failed"] and f'cannot list resource "{lacking["resources"][0]}"' in refused["msg"]
