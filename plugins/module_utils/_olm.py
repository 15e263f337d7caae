# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Why a Subscription of the Operator Lifecycle Manager (OLM) has not come yet, and whether it ever will.

:func:`explain` is a pure function over the objects of one Subscription (:class:`Scene`); :class:`Judge` collects them from a
view and approves InstallPlans. What OLM 0.38 does, and why the explanations are as they are:

- OLM resolves all Subscriptions of a namespace together and writes a failure into each of them; the sentence in the condition
  names the one that it is about.
- A condition does not say for which generation of the Subscription it holds. One that is there at the first look may be about
  a spec just corrected: it has to stay for a while before it is believed.
- While the catalog is not READY, failed resolution means nothing: it is tried again when the catalog comes.
- Without an OperatorGroup, or with two, OLM does nothing at all and writes no condition.
- A bundle whose image cannot be pulled is reported after ten minutes; the unpacking pod says so at once.
- A ClusterServiceVersion passes through Failed on its way when a Deployment is slow or a webhook is late. Only some reasons
  are final.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _readiness, _wait

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import Kube

    Object = Mapping[str, t.Any]

API = "/apis/operators.coreos.com/v1alpha1"
NOT_INSTALLED = (
    "The cluster does not serve operators.coreos.com/v1alpha1: the Operator Lifecycle Manager is not installed. Install OLM"
    " (OpenShift brings it), or install the operators another way and leave the role operators out."
)

#: Seconds that something must be wrong before the wait ends because of it (see the module's first lines for why).
SETTLE_SECONDS = 10.0
#: The same for trouble that often passes while programs start: images that cannot be pulled, crashing pods, failed CSVs.
STARTING_SECONDS = 60.0
#: The same for a resolution that an error prevented: usually another catalog that is not there yet.
PREVENTED_SECONDS = 120.0

#: Reasons of a failed ClusterServiceVersion that OLM does not retry, or retries in vain until a person changes something.
FINAL_REASONS = {
    "CannotModifyStaticOperatorGroupProvidedAPIs": "Remove the operator that provides the same APIs, or its OperatorGroup",
    "InstallCheckFailed": "Look at the operator's Deployment and its pods",
    "InstallComponentFailedNoRetry": "Correct what the message names, delete the ClusterServiceVersion and subscribe again",
    "InterOperatorGroupOwnerConflict": "Another operator of another OperatorGroup provides the same APIs: remove one of them",
    "InvalidInstallModes": "Choose targetNamespaces of the OperatorGroup that the operator's install modes support",
    "InvalidInstallStrategy": "The operator's bundle is broken: choose another version (starting_csv)",
    "InvalidWebhookDescription": "The operator's bundle is broken: choose another version (starting_csv)",
    "NoOperatorGroup": "Create one OperatorGroup in this namespace",
    "NoTargetNamespaces": "Correct the targetNamespaces or the selector of the OperatorGroup",
    "OwnerConflict": "Another operator owns the same CustomResourceDefinition: remove one of them",
    "TooManyOperatorGroups": "Delete all OperatorGroups of this namespace but one",
    "UnsupportedOperatorGroup": "Choose targetNamespaces of the OperatorGroup that the operator's install modes support",
}


@dataclass(frozen=True)
class Wanted:
    """A Subscription to wait for. ``starting_csv``: the CSV wanted, when it matters; ``approve``: approve its InstallPlan."""

    name: str
    namespace: str
    starting_csv: str = ""
    approve: bool = False

    @property
    def target(self) -> str:
        """The name in messages and results."""
        return f"Subscription {self.namespace}/{self.name}"


class Target(t.Protocol):
    """What is waited for, as messages need it."""

    @property
    def target(self) -> str:
        """The name in messages and results."""

    @property
    def starting_csv(self) -> str:
        """The ClusterServiceVersion wanted, when it matters."""


@dataclass(frozen=True)
class Scene:
    """The objects of one Subscription, None for those that do not exist (or are not referred to yet).

    ``pods`` are those that serve its catalog and those that unpack bundles; empty when they may not be read.
    """

    subscription: Object | None
    operator_groups: Sequence[Object] = ()
    catalog: Object | None = None
    plan: Object | None = None
    csv: Object | None = None
    pods: Sequence[Object] = field(default_factory=list)


def explain(wanted: Wanted, scene: Scene, approvable: frozenset[str] = frozenset()) -> _wait.State:
    """How far a Subscription is. ``approvable`` are the CSVs whose InstallPlan will be approved by us."""
    subscription = scene.subscription
    if subscription is None:
        return Teller(wanted).failing("does not exist", "Create it, or correct name and namespace", "missing", SETTLE_SECONDS)
    csv = wanted_csv(wanted, subscription)
    phase = _status(scene.csv).get("phase") if scene.csv else None
    tell = Teller(wanted, {"csv": csv or None, "phase": phase})
    if phase == "Succeeded":
        return tell.ready(f"ClusterServiceVersion {csv} has succeeded")
    return (
        _operator_groups(tell, wanted, scene)
        or _csv(tell, scene)
        or _plan(tell, wanted, scene, csv, approvable)
        or explain_catalog(tell, subscription, scene)
        or _conditions(tell, subscription, scene)
        or tell.waiting("OLM has not resolved it yet", "Look at the log of OLM's catalog-operator")
    )


def wanted_csv(wanted: Wanted, subscription: Object) -> str:
    """The ClusterServiceVersion that makes this Subscription ready, empty while OLM has not named one.

    With ``starting_csv`` it is that one, or a later one that is already there. Without, it is the installed one (an upgrade
    that waits for approval does not make an installed operator unready), or the one that is being installed.
    """
    status = _status(subscription)
    current, installed = status.get("currentCSV") or "", status.get("installedCSV") or ""
    manual = subscription["spec"].get("installPlanApproval") == "Manual"
    if not wanted.starting_csv:
        return installed if installed and manual else current or installed
    if not manual:
        return current or wanted.starting_csv
    return installed if _is_later(installed, wanted.starting_csv) else wanted.starting_csv


def to_approve(scene: Scene, approvable: frozenset[str]) -> Object | None:
    """The scene's InstallPlan if it waits for approval and contains a CSV that we are to approve, else None."""
    if scene.plan is None or not _awaits_approval(scene.plan):
        return None
    return scene.plan if approvable.intersection(_csvs_of(scene.plan)) else None


class Judge:
    """The judge for :func:`_wait.wait_for`; approves InstallPlans on the way and names them in ``approved``.

    With ``dry`` it names those that it would approve.
    """

    def __init__(self, kube: Kube, wanted: Sequence[Wanted], approved: list[str], dry: bool = False) -> None:
        self._kube = kube
        self._wanted = wanted
        self._approved = approved
        self._dry = dry

    def __call__(self, view: _wait.Viewer) -> list[_wait.State]:
        """All targets' states; raises KubeError."""
        scenes = [(item, look(view, item)) for item in self._wanted]
        approvable = {
            namespace: frozenset(
                wanted_csv(item, scene.subscription)
                for item, scene in scenes
                if item.approve and item.namespace == namespace and scene.subscription is not None
            )
            for namespace in {item.namespace for item in self._wanted}
        }
        for item, scene in scenes:
            plan = to_approve(scene, approvable[item.namespace])
            if plan is not None:
                self._approve(plan)
        return [explain(item, scene, approvable[item.namespace]) for item, scene in scenes]

    def _approve(self, plan: Object) -> None:
        """Approve an InstallPlan as it was seen; a conflict is a KubeError with status 409. Once is enough."""
        meta = plan["metadata"]
        name = f"{meta['namespace']}/{meta['name']}"
        if name in self._approved:
            return
        if not self._dry:
            self._kube.merge_patch(
                f"{API}/namespaces/{meta['namespace']}/installplans/{meta['name']}",
                {"metadata": {"resourceVersion": meta["resourceVersion"]}, "spec": {"approved": True}},
                f"approve InstallPlan {name}",
            )
        self._approved.append(name)


def look(view: _wait.Viewer, wanted: Wanted) -> Scene:
    """The objects of one Subscription, from reference to reference; raises KubeError."""

    def named(namespace: str, plural: str, name: str) -> Object | None:
        path = f"{API}/namespaces/{namespace}/{plural}"
        return _wait.first(view.items(_wait.Selection.named(path, name, absent=NOT_INSTALLED))) if name else None

    subscription = named(wanted.namespace, "subscriptions", wanted.name)
    if subscription is None:
        return Scene(None)
    csv = named(wanted.namespace, "clusterserviceversions", wanted_csv(wanted, subscription))
    if _status(csv).get("phase") == "Succeeded":
        return Scene(subscription, csv=csv)
    spec, status = subscription["spec"], _status(subscription)
    source_namespace = spec.get("sourceNamespace") or ""
    catalog = named(source_namespace, "catalogsources", spec.get("source") or "")
    pods: Sequence[Object] = ()
    if catalog is not None and not (csv or status.get("installPlanRef")):
        path = f"/api/v1/namespaces/{source_namespace}/pods"
        served = f"olm.catalogSource={spec['source']}"
        labels = "operatorframework.io/bundle-unpack-ref" if connection(catalog) == "READY" else served
        pods = view.items(_wait.Selection(path, labels=labels, optional=True))
    return Scene(
        subscription,
        operator_groups=view.items(
            _wait.Selection(f"/apis/operators.coreos.com/v1/namespaces/{wanted.namespace}/operatorgroups", absent=NOT_INSTALLED)
        ),
        catalog=catalog,
        plan=named(wanted.namespace, "installplans", (status.get("installPlanRef") or {}).get("name") or ""),
        csv=csv,
        pods=pods,
    )


class Teller:
    """Makes the states of one target."""

    def __init__(self, wanted: Target, facts: Mapping[str, t.Any] | None = None) -> None:
        self._target = wanted.target
        self._facts = facts or {"csv": wanted.starting_csv or None, "phase": None}

    def ready(self, text: str) -> _wait.State:
        return _wait.State(self._target, _wait.READY, text, facts=self._facts)

    def waiting(self, text: str, cure: str = "") -> _wait.State:
        return _wait.State(self._target, _wait.WAITING, text, cure, facts=self._facts)

    def failing(self, text: str, cure: str, cause: str, grace: float) -> _wait.State:
        return _wait.State(self._target, _wait.FAILING, text, cure, cause=cause, grace=grace, facts=self._facts)


def _operator_groups(tell: Teller, wanted: Wanted, scene: Scene) -> _wait.State | None:
    """A namespace without exactly one OperatorGroup: OLM resolves nothing in it."""
    names = sorted(group["metadata"]["name"] for group in scene.operator_groups)
    if len(names) == 1:
        return None
    if not names:
        return tell.failing(
            f"namespace {wanted.namespace} has no OperatorGroup, so OLM installs nothing in it",
            f"Create one OperatorGroup in {wanted.namespace}",
            "operator groups",
            SETTLE_SECONDS,
        )
    return tell.failing(
        f"namespace {wanted.namespace} has {len(names)} OperatorGroups ({', '.join(names)}), so OLM installs nothing in it",
        "Delete all but one",
        "operator groups",
        SETTLE_SECONDS,
    )


def _csv(tell: Teller, scene: Scene) -> _wait.State | None:
    """The ClusterServiceVersion that is on its way."""
    if scene.csv is None:
        return None
    status = _status(scene.csv)
    phase, reason = status.get("phase") or "not processed yet", status.get("reason") or ""
    text = f"ClusterServiceVersion {scene.csv['metadata']['name']} is {phase}"
    said = ": ".join(filter(None, (reason, _short(status.get("message") or ""))))
    if said:
        text += f" ({said})"
    unmet = unmet_requirements(scene.csv)
    if unmet:
        text += f"; not met: {unmet}"
    if phase != "Failed":
        failed_before = [item for item in status.get("conditions") or [] if item.get("phase") == "Failed"]
        if failed_before:
            last = failed_before[-1]
            text += f"; it has failed before with {last.get('reason')}: {_short(last.get('message') or '')}"
        return tell.waiting(text, "Look at the operator's Deployment and its pods")
    cure = FINAL_REASONS.get(reason)
    if reason == "InstallCheckFailed" and "timeout" in (status.get("message") or ""):
        return tell.failing(text, cure or "", f"csv {reason}", 0.0)  # OLM has waited five minutes, and leaves Failed at once
    if cure:
        return tell.failing(text, cure, f"csv {reason}", SETTLE_SECONDS)
    return tell.failing(text, "Look at the operator's Deployment and its pods", "csv failed", STARTING_SECONDS)


def unmet_requirements(csv: Object) -> str:
    """The requirements of a ClusterServiceVersion that are not met, in words; empty when all are or none are known."""
    unmet = []
    for requirement in _status(csv).get("requirementStatus") or []:
        dependents = [
            _short(dependent.get("message") or dependent.get("kind") or "")
            for dependent in requirement.get("dependents") or []
            if dependent.get("status") != "Satisfied"
        ]
        if requirement.get("status") == "Present" and not dependents:
            continue
        why = "; ".join(dependents) or requirement.get("message") or requirement.get("status")
        unmet.append(f"{requirement.get('kind')} {requirement.get('name')} ({requirement.get('status')}: {_short(why)})")
    return ", ".join(unmet)


def _plan(tell: Teller, wanted: Wanted, scene: Scene, csv: str, approvable: frozenset[str]) -> _wait.State | None:
    """The InstallPlan that is on its way."""
    plan = scene.plan
    phase = _status(plan).get("phase")
    if plan is None or phase == "Complete":
        return None
    name = f"InstallPlan {plan['metadata']['namespace']}/{plan['metadata']['name']}"
    contents = ", ".join(_csvs_of(plan)) or "nothing"
    if _awaits_approval(plan):
        if approvable.intersection(_csvs_of(plan)):
            return tell.waiting(f"{name} ({contents}) is being approved")
        if wanted.approve:
            return tell.failing(
                f"{name} offers {contents}, not {csv}, and is not approved for that",
                "Correct starting_csv, or approve the InstallPlan by hand if this step is wanted",
                "approval",
                SETTLE_SECONDS,
            )
        return tell.failing(
            f"{name} ({contents}) requires approval",
            f"Set approve to true, or approve it: kubectl -n {plan['metadata']['namespace']} patch installplan"
            f' {plan["metadata"]["name"]} --type merge -p \'{{"spec":{{"approved":true}}}}\'',
            "approval",
            SETTLE_SECONDS,
        )
    said = _plan_says(plan)
    if phase == "Failed":
        return tell.failing(
            f"{name} ({contents}) has failed: {said}",
            "Correct what the message names, delete this InstallPlan and the Subscription, and subscribe again",
            "plan failed",
            SETTLE_SECONDS,
        )
    return tell.waiting(f"{name} ({contents}) is {phase or 'new'}{f' ({said})' if said else ''}", "Look at its status")


def _plan_says(plan: Object) -> str:
    """What an InstallPlan says about why it is not complete."""
    status = _status(plan)
    conditions = [item for item in status.get("conditions") or [] if item.get("status") == "False"]
    lookups = [
        condition for lookup in status.get("bundleLookups") or [] for condition in lookup.get("conditions") or [] if condition.get("status") == "True"
    ]
    said = [f"{item.get('reason')}: {item.get('message')}" for item in (*conditions, *lookups) if item.get("message")]
    return _short("; ".join(said) or status.get("message") or "")


def explain_catalog(tell: Teller, subscription: Object, scene: Scene) -> _wait.State | None:
    """What is wrong with the CatalogSource that the Subscription names, None when it is READY."""
    spec = subscription["spec"]
    name = f"CatalogSource {spec.get('sourceNamespace')}/{spec.get('source')}"
    if scene.catalog is None:
        known = ", ".join(
            f"{reference.get('namespace')}/{reference.get('name')}"
            for health in _status(subscription).get("catalogHealth") or []
            if (reference := health.get("catalogSourceRef") or {})
        )
        return tell.failing(
            f"{name} does not exist" + (f"; OLM knows {known}" if known else ""),
            "Correct source and source namespace, or create the CatalogSource",
            "catalog missing",
            SETTLE_SECONDS,
        )
    status = _status(scene.catalog)
    state = connection(scene.catalog)
    if state == "READY":
        return None
    if status.get("message"):
        return tell.failing(
            f"{name} cannot be served ({status.get('reason')}: {_short(status['message'])})",
            "Correct the CatalogSource",
            f"catalog {status.get('reason')}",
            SETTLE_SECONDS if status.get("reason") == "SpecInvalidError" else STARTING_SECONDS,
        )
    text = f"{name} is not ready (connection state {state or 'not known yet'})"
    stuck = _stuck(scene.pods)
    if stuck:
        return tell.failing(f"{text}: {stuck}", "Correct its image, or the pull secret and the registry mirror", "catalog pod", STARTING_SECONDS)
    if scene.catalog["spec"].get("address") and state == "TRANSIENT_FAILURE":
        return tell.failing(
            f"{text}: nothing answers at {scene.catalog['spec']['address']}",
            "Correct spec.address, or start what serves it",
            "catalog address",
            STARTING_SECONDS,
        )
    why = _readiness.pods_say(scene.pods)
    return tell.waiting(f"{text}{f': {why}' if why else ''}", "Look at the pod that serves the catalog in its namespace")


def _conditions(tell: Teller, subscription: Object, scene: Scene) -> _wait.State | None:
    """What OLM says on the Subscription itself; only asked when the catalog is ready."""
    conditions = {item["type"]: item for item in _status(subscription).get("conditions") or [] if item.get("status") == "True"}
    generation = subscription["metadata"].get("generation")
    resolution = conditions.get("ResolutionFailed")
    if resolution:
        said = _short(resolution.get("message") or resolution.get("reason") or "", 600)
        final = resolution.get("reason") == "ConstraintsNotSatisfiable"
        return tell.failing(
            f"OLM cannot resolve it: {said}",
            _resolution_cure(said, subscription),
            f"resolution of generation {generation}" if final else "resolution prevented",
            SETTLE_SECONDS if final else PREVENTED_SECONDS,
        )
    unpacking = conditions.get("BundleUnpackFailed")
    if unpacking:
        return tell.failing(
            f"its bundle cannot be unpacked: {_short(unpacking.get('message') or unpacking.get('reason') or '')}",
            "Check that the bundle's image can be pulled; then delete the failed Job in the catalog's namespace and the"
            " Subscription, and subscribe again",
            "unpack",
            SETTLE_SECONDS,
        )
    if "BundleUnpacking" in conditions:
        stuck = _stuck(scene.pods)
        if stuck:
            return tell.failing(
                f"its bundle cannot be unpacked: {stuck}",
                "Check that the bundle's image can be pulled (pull secret, registry mirror)",
                "unpack pod",
                STARTING_SECONDS,
            )
        return tell.waiting("its bundle is being unpacked", "Look at the Jobs in the catalog's namespace")
    if "InstallPlanMissing" in conditions:
        return tell.waiting("its InstallPlan has been deleted", "Delete the Subscription and subscribe again")
    return None


def _resolution_cure(said: str, subscription: Object) -> str:
    """What to do about a failed resolution, by OLM's own sentence."""
    spec = subscription["spec"]
    catalog = f"CatalogSource {spec.get('sourceNamespace')}/{spec.get('source')}"
    about = re.search(r"referenced by subscription ([^\s,]+)", said)
    whose = f"Subscription {about.group(1)}" if about else "the Subscription"
    if "no operators found in package" in said:
        return f"Correct the package name or the source of {whose}: {catalog} does not have it (kubectl get packagemanifests)"
    if "no operators found in channel" in said:
        return f"Correct the channel of {whose}: kubectl get packagemanifest {spec.get('name')} -o yaml lists those that exist"
    if "no operators found with name" in said:
        return f"Correct the starting CSV of {whose}: this channel does not have it"
    if "no operators found from catalog" in said:
        return f"The catalog of {whose} is empty or not ready: check it"
    if "failed to populate resolver cache" in said:
        return "Repair or delete the CatalogSource that the message names: one that does not answer stops all resolution"
    return "Correct what the message names; OLM resolves all Subscriptions of a namespace together"


def _stuck(pods: Sequence[Object]) -> str:
    """Why pods do not run, if it is something that seldom passes (image, crash); empty otherwise."""
    return _readiness.pods_say(pod for pod in pods if _readiness.is_stuck(pod))


def connection(catalog: Object) -> str:
    return (_status(catalog).get("connectionState") or {}).get("lastObservedState") or ""


def _awaits_approval(plan: Object) -> bool:
    return _status(plan).get("phase") == "RequiresApproval" and not plan["spec"].get("approved")


def _csvs_of(plan: Object) -> list[str]:
    return list(plan["spec"].get("clusterServiceVersionNames") or [])


def _is_later(name: str, than: str) -> bool:
    """Whether a CSV name is that of a later version of the same operator (``tempo-operator.v0.21.0``)."""
    (package, version), (other_package, other_version) = _versioned(name), _versioned(than)
    return package == other_package and bool(version) and bool(other_version) and version > other_version


def _versioned(name: str) -> tuple[str, tuple[int, ...]]:
    """A CSV's package name and its numeric version, empty when the name does not end in one."""
    package, _dot, version = name.partition(".")
    numbers = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return package, tuple(int(number) for number in numbers.group(1).split(".")) if numbers else ()


def _status(item: Object | None) -> Mapping[str, t.Any]:
    return (item or {}).get("status") or {}


def _short(text: str, most: int = 400) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
