# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Where a model is: the endpoint of an InferenceService (KServe), and whether it answers.

:func:`explain` is a pure function over an InferenceService and what KServe and Knative made for it (:class:`Scene`);
:class:`Judge` collects these from a view. All of it carries KServe's label, so that four selections serve a whole namespace.
What KServe 0.15 and Open Data Hub's fork of it do, and why the answers are as they are:

- RawDeployment (later called Standard): a Service ``<name>-predictor``, port 80 before the container's port. A headless one
  (Open Data Hub's default) has no port 80: its name stands for the pods, so the container's own port is the one to call.
- Serverless (later called Knative): every revision has a Service ``<revision>-private`` whose endpoints are the revision's
  pods. Which revision is the latest ready one is in the status; names are shortened with a hash when they are long, so the
  Service is found by its labels.
- With a transformer that is the component to call; the model is the predictor's all the same.
- ``status.components.predictor.url`` of RawDeployment names no Service; ``status.address.url`` does, but without the port of
  a headless Service in upstream's KServe.
- Open Data Hub puts a proxy that asks for a token before the predictor (port ``https``, 8443) when the annotation
  ``security.opendatahub.io/enable-auth`` says so. The proxy's container is there without it too.
- ``status.observedGeneration`` is the Deployment's or the Knative Service's, not the InferenceService's own. The rollout of
  the Deployment is the better evidence.
- The served model's name is an argument of the container, in the Deployment with the runtime's placeholders filled in.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shlex
import typing as t
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _readiness, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import KubeError

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import Kube

    Object = Mapping[str, t.Any]

API = "/apis/serving.kserve.io/v1beta1"
LABEL = "serving.kserve.io/inferenceservice"
NOT_INSTALLED = (
    "The cluster does not serve serving.kserve.io/v1beta1: KServe is not installed. Install it (OpenShift AI brings it: kserve is"
    " Managed in the DataScienceCluster), or ask for no InferenceService."
)

RAW, SERVERLESS, MODEL_MESH = "RawDeployment", "Serverless", "ModelMesh"
#: KServe's names of the deployment modes, old and new.
MODES = {RAW: RAW, "Standard": RAW, SERVERLESS: SERVERLESS, "Knative": SERVERLESS, MODEL_MESH: MODEL_MESH}

#: Seconds that an invalid spec must last: the runtime that it names may be on its way, and the status may be of an older spec.
SPEC_SECONDS = 20.0
#: Seconds that a model must have failed to load: its container is started again, and its store may come late.
LOAD_SECONDS = 60.0
#: Seconds that a ready model must have no pod: the endpoints follow the status.
SCALED_SECONDS = 10.0

_DEFAULT_PORTS = {"http": 80, "https": 443}
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@dataclass(frozen=True)
class Query:
    """InferenceServices to look for: one by name, or all of a namespace (empty: of all namespaces) with these labels."""

    namespace: str = ""
    name: str = ""
    labels: str = ""

    @classmethod
    def parse(cls, item: Mapping[str, t.Any]) -> Query:
        """From a module's parameters; raises ModelMonitoringError for names that no object can have."""
        for key in ("name", "namespace"):
            if item.get(key) and not _DNS_NAME.fullmatch(item[key]):
                raise ModelMonitoringError(
                    f"inference_services: {key} {item[key]!r} is not a name that Kubernetes allows: lower-case letters, digits and hyphens."
                )
        return cls(item.get("namespace") or "", item.get("name") or "", ",".join(item.get("label_selectors") or []))

    @property
    def target(self) -> str:
        """The name in messages and results."""
        if self.name:
            return f"InferenceService {self.namespace}/{self.name}"
        place = f"in namespace {self.namespace}" if self.namespace else "in any namespace"
        return f"InferenceServices {place}" + (f" with {self.labels}" if self.labels else "")

    def path(self, prefix: str, plural: str) -> str:
        """The path of a collection where this looks."""
        return f"{prefix}/namespaces/{self.namespace}/{plural}" if self.namespace else f"{prefix}/{plural}"

    @property
    def selection(self) -> _wait.Selection:
        """The InferenceServices."""
        path = self.path(API, "inferenceservices")
        if self.name:
            return _wait.Selection.named(path, self.name, absent=NOT_INSTALLED)
        return _wait.Selection(path, labels=self.labels, absent=NOT_INSTALLED)


@dataclass(frozen=True)
class Scene:
    """What KServe and Knative made for one InferenceService."""

    services: Sequence[Object] = ()
    deployments: Sequence[Object] = ()
    endpoint_slices: Sequence[Object] = ()


@dataclass(frozen=True)
class Info:
    """What is known of one InferenceService; the fields are the module's results, empty or None while not known."""

    name: str
    namespace: str
    deployment_mode: str | None = None
    url: str | None = None
    scheme: str | None = None
    host: str | None = None
    port: int | None = None
    service: str | None = None
    revision: str | None = None
    model: str | None = None
    runtime: str | None = None
    auth_required: bool | None = None
    address_url: str | None = None


def explain(item: Object, scene: Scene) -> _wait.State:
    """How far an InferenceService is; ``facts`` has its :class:`Info` as ``info``."""
    info = describe(item, scene)
    verdict = _verdict(item, scene, info)
    text = verdict.text
    if verdict.phase != _wait.READY and info.revision and info.url and _ready_endpoints(info, scene):
        text = f"{text.rstrip('. ')}; revision {info.revision} serves at {info.url}"
    query = Query(info.namespace, info.name)
    return _wait.State(query.target, verdict.phase, text, verdict.cure, verdict.cause, verdict.grace, facts={"info": info})


def describe(item: Object, scene: Scene) -> Info:
    """All that can be told of an InferenceService as it is now."""
    meta, status = item["metadata"], _status(item)
    name, namespace = meta["name"], meta["namespace"]
    mode = _mode(item, scene)
    address_url = (status.get("address") or {}).get("url")
    entry = "predictor" if item["spec"].get("transformer") is None else "transformer"
    auth = str((meta.get("annotations") or {}).get("security.opendatahub.io/enable-auth", "")).lower() == "true"
    if mode == RAW and entry == "transformer":
        auth = False  # the proxy is before the predictor
    predictor = _predictor(item, scene, mode)
    info = Info(
        name,
        namespace,
        deployment_mode=mode,
        revision=_revision(item, entry) if mode == SERVERLESS else None,
        model=_model(predictor, name) if predictor else None,
        runtime=_runtime(item),
        auth_required=auth,
        address_url=address_url,
    )
    service = _service(item, scene, info, entry)
    port = _service_port(service, mode, auth) if service else None
    if service is None or port is None:
        return info
    number = _port_to_call(service, port, scene)
    scheme = _scheme(port)
    host = f"{service['metadata']['name']}.{namespace}.svc.{_domain(address_url)}"
    url = f"{scheme}://{host}" if number == _DEFAULT_PORTS.get(scheme) else f"{scheme}://{host}:{number}"
    return replace(info, url=url if number else None, scheme=scheme, host=host, port=number, service=service["metadata"]["name"])


def _verdict(item: Object, scene: Scene, info: Info) -> _readiness.Verdict:
    meta = item["metadata"]
    if meta.get("deletionTimestamp"):
        return _waiting("is being deleted", "When it is gone, create it again")
    if info.deployment_mode == MODEL_MESH:
        return _failing(
            "is deployed by ModelMesh, which gives a model no Service of its own", f"Deploy it as {RAW} or {SERVERLESS}, or leave it out", "mode", 0.0
        )
    if str((meta.get("annotations") or {}).get("serving.kserve.io/stop", "")).lower() == "true":
        return _failing("is stopped", "Start it: set its annotation serving.kserve.io/stop to false, or leave it out", "stopped", 0.0)
    wrong = _invalid_spec(item)
    if wrong:
        return wrong
    if _condition(item, "Ready").get("status") != "True":
        return _not_ready(item, scene, info)
    return _no_endpoint(scene, info) or _readiness.Verdict(_wait.READY, "is ready")


def _invalid_spec(item: Object) -> _readiness.Verdict | None:
    """The verdict for a spec that KServe refuses."""
    status = _status(item).get("modelStatus") or {}
    if status.get("transitionStatus") != "InvalidSpec":
        return None
    said = _said(status.get("lastFailureInfo") or {}, "its spec is invalid")
    return _failing(said, "Correct its spec, or create the ServingRuntime that it names", "spec", SPEC_SECONDS)


def _not_ready(item: Object, scene: Scene, info: Info) -> _readiness.Verdict:
    """The verdict while the condition Ready is not True: with the words of whoever knows best."""
    deployment = _entry_deployment(scene, info)
    rollout = _readiness.deployment(deployment, ()) if deployment and info.deployment_mode == RAW else None
    if rollout and rollout.phase == _wait.FAILING:  # its pods are refused; KServe's status says nothing of it
        return rollout
    status = _status(item).get("modelStatus") or {}
    if status.get("transitionStatus") == "BlockedByFailedLoad":
        failure = status.get("lastFailureInfo") or {}
        code = f" (exit code {failure['exitCode']})" if failure.get("exitCode") else ""
        said = _said(failure, "the model failed to load")
        why = _why(item)
        return _failing(f"{said}{code}{f'; {why}' if why else ''}", "Look at the log of its pods", "load", LOAD_SECONDS)
    why = _why(item)
    if any(condition.get("reason") == "RevisionFailed" for condition in _status(item).get("conditions") or []):
        return _failing(why, "Look at the log and the events of the revision's pods", "revision", LOAD_SECONDS)
    if rollout and rollout.phase != _wait.READY:
        why = "; ".join(filter(None, (why, rollout.text)))
    if why:
        return _waiting(why, "Look at its pods")
    return _waiting("KServe has not reported on it yet", "Look at the log of kserve-controller-manager")


def _why(item: Object) -> str:
    """Reason and message of the condition that says most, empty when none says anything."""
    names = [f"{part}{what}" for what in ("ConfigurationReady", "RouteReady", "Ready") for part in ("Predictor", "Transformer", "Explainer")]
    late = [condition for name in (*names, "IngressReady", "Ready") if (condition := _condition(item, name)) and condition.get("status") != "True"]
    told = next((condition for condition in late if condition.get("message")), None) or next(iter(late), {})
    return _said(told, f"its condition {told['type']} is {told['status']}" if told else "")


def _no_endpoint(scene: Scene, info: Info) -> _readiness.Verdict | None:
    """The verdict for one that KServe calls ready while nobody answers at the URL; None when somebody does."""
    log = "Look at the log of kserve-controller-manager"
    if info.deployment_mode is None:
        return _waiting("KServe does not say how it is deployed", "Set its annotation serving.kserve.io/deploymentMode")
    if info.deployment_mode == SERVERLESS and not info.revision:
        return _waiting("no revision of it is ready yet", "Look at its Knative Service and its pods")
    if info.service is None:
        what = f"revision {info.revision} has no private Service" if info.revision else "it has no Service"
        return _waiting(f"{what} with a port to call", log)
    if info.url is None:
        return _waiting(f"the container's port behind the headless Service {info.service} is not known yet", log)
    deployment = _entry_deployment(scene, info)
    if info.deployment_mode == RAW:
        if deployment is None:
            return _waiting(f"Service {info.service} has no Deployment", log)
        rollout = _readiness.deployment(deployment, ())
        if rollout.phase != _wait.READY:
            return rollout
    if _ready_endpoints(info, scene):
        return None
    if deployment is not None and deployment["spec"].get("replicas") == 0:
        return _failing(
            "is scaled to zero: nobody answers at its URL",
            "Set minReplicas to 1, or call its address_url, which wakes it" if info.revision else "Set minReplicas to 1",
            "scaled",
            SCALED_SECONDS,
        )
    return _waiting(f"Service {info.service} has no ready endpoint", "Look at its pods")


def _mode(item: Object, scene: Scene) -> str | None:
    """How it is deployed; older versions of KServe do not say it in the status."""
    said = _status(item).get("deploymentMode") or (item["metadata"].get("annotations") or {}).get("serving.kserve.io/deploymentMode")
    if said:
        return MODES.get(said)
    components = (_status(item).get("components") or {}).values()
    if any(component.get("latestCreatedRevision") for component in components):
        return SERVERLESS
    name = f"{item['metadata']['name']}-predictor"
    return RAW if any(service["metadata"]["name"] == name and service["spec"].get("selector") for service in scene.services) else None


def _revision(item: Object, component: str) -> str | None:
    """The latest revision that is ready. (The latest one that was created may never be.)"""
    return ((_status(item).get("components") or {}).get(component) or {}).get("latestReadyRevision") or None


def _service(item: Object, scene: Scene, info: Info, entry: str) -> Object | None:
    """The Service to call."""
    if info.deployment_mode == SERVERLESS:
        wanted = {"serving.knative.dev/revision": info.revision, "networking.internal.knative.dev/serviceType": "Private"}
        return next((service for service in scene.services if wanted.items() <= _labels(service).items()), None)
    if info.deployment_mode != RAW:
        return None
    host = urlsplit(info.address_url or "").hostname or ""
    names = [host.partition(".")[0], f"{info.name}-{entry}", f"{info.name}-{entry}-default"]
    by_name = {service["metadata"]["name"]: service for service in scene.services}
    return next((by_name[name] for name in names if name in by_name), None)


def _service_port(service: Object, mode: str | None, auth: bool) -> Object | None:
    """The port of a Service that answers requests to the model: HTTP before gRPC, the proxy's if it asks for a token."""
    ports = [port for port in service["spec"].get("ports") or [] if port.get("protocol", "TCP") == "TCP" and "metric" not in _port_name(port)]
    if mode == SERVERLESS:  # port 80 is the proxy of the revision's pods, whatever it speaks; the others serve Knative itself
        ports = [port for port in ports if port["port"] == 80] or ports[:1]
    elif auth:
        ports = [port for port in ports if _scheme(port) == "https"] or ports
    return next((port for port in ports if _scheme(port) != "grpc"), ports[0] if ports else None)


def _port_to_call(service: Object, port: Object, scene: Scene) -> int | None:
    """The port's number for a client: a headless Service is only a name for pods, so there it is the container's."""
    if service["spec"].get("clusterIP") != "None":
        return port["port"]
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    named = [other for deployment in scene.deployments for container in _containers(deployment) for other in container.get("ports") or []]
    return next((other["containerPort"] for other in named if other.get("name") == target), None)


def _scheme(port: Object) -> str:
    """``http``, ``https`` or ``grpc`` (without TLS), from a Service's port."""
    name, protocol = _port_name(port), port.get("appProtocol") or ""
    if "grpc" in name or "h2c" in name or name.startswith("http2") or protocol in ("grpc", "kubernetes.io/h2c"):
        return "grpc"
    return "https" if name.startswith("https") or protocol == "https" or port["port"] == 443 else "http"


def _domain(address_url: str | None) -> str:
    """The cluster's domain, as KServe knows it."""
    host = urlsplit(address_url or "").hostname or ""
    return host.partition(".svc.")[2] or "cluster.local"


def _entry_deployment(scene: Scene, info: Info) -> Object | None:
    """The Deployment behind the Service to call."""
    if info.deployment_mode == SERVERLESS:
        return _of_revision(scene, info.revision)
    return next((item for item in scene.deployments if item["metadata"]["name"] == info.service), None)


def _of_revision(scene: Scene, revision: str | None) -> Object | None:
    return next((item for item in scene.deployments if revision and _labels(item).get("serving.knative.dev/revision") == revision), None)


def _ready_endpoints(info: Info, scene: Scene) -> bool:
    slices = [item for item in scene.endpoint_slices if _labels(item).get("kubernetes.io/service-name") == info.service]
    endpoints = [endpoint for item in slices for endpoint in item.get("endpoints") or []]
    return any((endpoint.get("conditions") or {}).get("ready") is not False for endpoint in endpoints)


def _runtime(item: Object) -> str | None:
    """The ServingRuntime or ClusterServingRuntime; None for a custom predictor, and where KServe chose one and does not say which."""
    status, spec = _status(item), item["spec"].get("predictor") or {}
    return (spec.get("model") or {}).get("runtime") or status.get("servingRuntimeName") or status.get("clusterServingRuntimeName") or None


def _predictor(item: Object, scene: Scene, mode: str | None) -> Object | None:
    """The container that serves the model, from the Deployment of the predictor (of its latest ready revision)."""
    candidates: list[Object] = [other for other in scene.deployments if _labels(other).get("component", "predictor") == "predictor"]
    if mode == SERVERLESS:
        of_revision = _of_revision(replace(scene, deployments=candidates), _revision(item, "predictor"))
        candidates = [of_revision] if of_revision else []
    containers = [list(_containers(other)) for other in candidates]
    named = [container for group in containers for container in group if container["name"] == "kserve-container"]
    others = [group[0] for group in containers if group[0]["name"] != "worker-container"]
    return next(iter(named + others), None)


def _model(container: Object, default: str) -> str | None:
    """The name that a client gives as ``model``; None where only the program itself can know it.

    vLLM: the first of --served-model-name, else the model as it was named (``/mnt/models``); KServe's servers and OpenVINO:
    --model_name; ``default`` where nothing says it. The last of repeated arguments counts: KServe puts the
    InferenceService's behind the runtime's.
    """
    words = list(_words(container))
    found: dict[str, str] = {}
    for word, following in itertools.pairwise([*words, ""]):
        flag, equals, value = word.partition("=")
        if flag.startswith("--"):
            found[flag[2:].replace("_", "-")] = value if equals else following
    for flag in ("served-model-name", "model-name", "model"):
        if found.get(flag):
            return _expanded(found[flag], container)
    positional = [following for word, following in itertools.pairwise(words) if word == "serve"]
    if not container.get("command") and "vllm" in container.get("image", ""):  # the image's own command is `vllm serve`
        positional += words[:1]
    name = next((word for word in positional if not word.startswith("-")), "")
    return _expanded(name, container) if name else default


def _words(container: Object) -> Iterable[str]:
    """The words of command and arguments, those of a shell's script one by one."""
    for argument in (*(container.get("command") or []), *(container.get("args") or [])):
        text = str(argument).replace("\\\n", " ")
        if not any(character.isspace() for character in text):
            yield text
            continue
        try:
            yield from shlex.split(text)
        except ValueError:  # quotes that only the shell's own grammar explains
            yield from text.split()


def _expanded(text: str, container: Object) -> str | None:
    """The text with the container's variables; None when one of them is not a plain value."""
    values = {variable["name"]: variable.get("value") for variable in container.get("env") or []}
    lacking = []

    def value(match: re.Match[str]) -> str:
        found = values.get(next(filter(None, match.groups())))
        if found is None:
            lacking.append(match[0])
        return found or ""

    expanded = re.sub(r"\$\((\w+)\)|\$\{(\w+)\}|\$(\w+)", value, text)
    return None if lacking else expanded


class Judge:
    """The judge for :func:`_wait.wait_for`: every InferenceService that a query finds is a target; a query that finds none is one."""

    def __init__(self, kube: Kube, queries: Sequence[Query]) -> None:
        self._kube = kube
        self._queries = queries

    def __call__(self, view: _wait.Viewer) -> list[_wait.State]:
        """All targets' states; raises KubeError."""
        states: dict[str, _wait.State] = {}
        for query in self._queries:
            found = sorted(view.items(query.selection), key=lambda item: (item["metadata"]["namespace"], item["metadata"]["name"]))
            if not found:
                states.setdefault(query.target, _missing(query))
            for item in found:
                state = explain(item, self._scene(view, query, item))
                states.setdefault(state.target, state)
        return list(states.values())

    def glance(self, view: _wait.Viewer) -> list[_wait.State]:
        """All targets' states where a KServe that is not installed yet is no error (check mode)."""
        try:
            return self(view)
        except KubeError as error:
            if error.status != 404:
                raise
            return [_missing(query, "KServe is not installed yet") for query in self._queries]

    def diagnose(self, view: _wait.Viewer, states: Sequence[_wait.State]) -> list[_wait.State]:
        """The states with what the pods say, for what is late. Not being allowed to read pods is no error."""
        return [state if state.phase == _wait.READY else _wait.with_text(state, self._pods_say(state)) for state in states]

    def existing(self, view: _wait.Viewer) -> list[_wait.State]:
        """All targets' states now; raises ModelMonitoringError for a named one that does not exist, and KubeError."""
        states = self(view)
        found = {state.target: state for state in states}
        lacking = [query for query in self._queries if query.name and "info" not in found[query.target].facts]
        if lacking:
            raise ModelMonitoringError(" ".join(f"{query.target}: does not exist. {self._others(query)}" for query in lacking))
        return states

    def _others(self, query: Query) -> str:
        """What there is instead of an InferenceService that does not exist, for messages."""
        with contextlib.suppress(KubeError):  # listing by name may be all that is allowed
            found = self._kube.get(query.path(API, "inferenceservices"), "list InferenceServices").get("items") or []
            names = sorted(item["metadata"]["name"] for item in found)
            there = f"{', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}" if names else "none"
            return f"Correct its name or namespace (there is {there} in this one), or wait for it with wait=true."
        return "Correct its name or namespace, or wait for it with wait=true."

    def _scene(self, view: _wait.Viewer, query: Query, item: Object) -> Scene:
        meta = item["metadata"]

        def made(prefix: str, plural: str) -> list[Object]:
            found = view.items(_wait.Selection(query.path(prefix, plural), labels=LABEL))
            return [other for other in found if other["metadata"]["namespace"] == meta["namespace"] and _labels(other)[LABEL] == meta["name"]]

        return Scene(made("/api/v1", "services"), made("/apis/apps/v1", "deployments"), made("/apis/discovery.k8s.io/v1", "endpointslices"))

    def _pods_say(self, state: _wait.State) -> str:
        info = state.facts.get("info")
        if info is None:
            return ""
        try:
            pods = self._kube.get(f"/api/v1/namespaces/{info.namespace}/pods", "list pods", labelSelector=f"{LABEL}={info.name}").get("items") or []
        except KubeError:
            return ""
        return _readiness.pods_say(pods)


def _missing(query: Query, why: str = "") -> _wait.State:
    text = why or ("does not exist" if query.name else "there is none")
    cure = "Check its name and namespace, and whether what creates it has run" if query.name else "Correct namespace and labels, or deploy a model"
    return _wait.State(query.target, _wait.WAITING, text, cure)


def _waiting(text: str, cure: str) -> _readiness.Verdict:
    return _readiness.Verdict(_wait.WAITING, text, cure)


def _failing(text: str, cure: str, cause: str, grace: float) -> _readiness.Verdict:
    return _readiness.Verdict(_wait.FAILING, text, cure, cause, grace)


def _status(item: Object) -> Mapping[str, t.Any]:
    return item.get("status") or {}


def _condition(item: Object, name: str) -> Mapping[str, t.Any]:
    """The condition of that type, empty when there is none."""
    return next((condition for condition in _status(item).get("conditions") or [] if condition.get("type") == name), {})


def _said(condition: Mapping[str, t.Any], otherwise: str) -> str:
    """``Reason: message`` in one line, or other words when there is neither."""
    text = " ".join(": ".join(str(condition[key]) for key in ("reason", "message") if condition.get(key)).split())
    return (text if len(text) <= 400 else f"{text[:399]}…") or otherwise


def _labels(item: Object) -> Mapping[str, str]:
    return item["metadata"].get("labels") or {}


def _port_name(port: Object) -> str:
    return port.get("name") or ""


def _containers(deployment: Object) -> Sequence[Object]:
    return deployment["spec"]["template"]["spec"]["containers"]
