# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""When a CustomResourceDefinition can be used: established, and served by discovery at the wanted version.

Established alone is not enough: the API server says so before it serves the new paths (kubernetes/kubernetes issue known as
apiextensions-apiserver #5), and who creates an object in between gets a 404. Discovery has no watch, so after Established it
is asked again in quick succession; that gap is milliseconds on one API server and up to a few seconds behind several.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, replace

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import Kube, KubeError

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COLLECTION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
#: Seconds between two looks at discovery: quick at first, then as a courtesy to the API server.
QUICK, QUICK_LOOKS, SLOW = 0.02, 100, 0.5
#: Seconds that a name conflict must last: another CRD with the same names may just be on its way out.
CONFLICT_SECONDS = 10.0


@dataclass(frozen=True)
class Wanted:
    """A CRD by its full name (``tempostacks.tempo.grafana.com``); ``version`` None means any served one."""

    name: str
    version: str | None = None

    @property
    def target(self) -> str:
        """The name in messages and results."""
        return f"CustomResourceDefinition {self.name}" + (f" ({self.version})" if self.version else "")

    @classmethod
    def parse(cls, name: str, version: str | None) -> Wanted:
        """From a module's parameters; raises ModelMonitoringError for a name that no CRD can have."""
        if "." not in name.strip("."):
            raise ModelMonitoringError(
                f"crds: {name!r} is not the name of a CustomResourceDefinition: give <plural>.<group>, as tempostacks.tempo.grafana.com."
            )
        return cls(name, version or None)


def state(wanted: Wanted, crd: dict[str, t.Any] | None) -> _wait.State:
    """How far a CRD is by its own object, None when it does not exist. READY means established, not yet served."""
    if crd is None:
        return _wait.State(
            wanted.target,
            _wait.WAITING,
            "does not exist",
            "The operator that brings it is not installed or not far enough: look at its Subscription and its"
            " ClusterServiceVersion, and check the spelling (<plural>.<group>)",
        )
    served = [version["name"] for version in crd["spec"]["versions"] if version.get("served")]
    facts = {"version": wanted.version or _preferred(crd, served)}
    conditions = {item["type"]: item for item in (crd.get("status") or {}).get("conditions") or []}
    accepted = conditions.get("NamesAccepted") or {}
    if accepted.get("status") == "False":
        return _wait.State(
            wanted.target,
            _wait.FAILING,
            f"its names are not accepted ({accepted.get('reason')}: {accepted.get('message')})",
            "Another CustomResourceDefinition of the same group has these names: remove one of the two",
            cause="names",
            grace=CONFLICT_SECONDS,
            facts=facts,
        )
    if crd["metadata"].get("deletionTimestamp"):
        return _wait.State(
            wanted.target,
            _wait.WAITING,
            "is being deleted",
            "Objects with finalizers may hold it; when it is gone, whatever installed it must install it again",
            facts=facts,
        )
    if wanted.version and wanted.version not in served:
        return _wait.State(
            wanted.target,
            _wait.WAITING,
            f"does not serve version {wanted.version}, only {', '.join(served) or 'none'}",
            "Install a version of the operator that serves it, or ask for one that is served",
            facts=facts,
        )
    established = conditions.get("Established") or {}
    if established.get("status") != "True":
        return _wait.State(
            wanted.target,
            _wait.WAITING,
            f"is not established yet ({established.get('reason')}: {established.get('message')})" if established else "is not established yet",
            "The API server does this within seconds: look at its log",
            facts=facts,
        )
    return _wait.State(wanted.target, _wait.READY, "is established", facts=facts)


def judge(kube: Kube, wanted: Sequence[Wanted]) -> Callable[[_wait.Viewer], list[_wait.State]]:
    """The judge for :func:`_wait.wait_for`: READY when established and served by discovery."""
    looks: dict[Wanted, int] = {}

    def one(view: _wait.Viewer, item: Wanted) -> _wait.State:
        found = state(item, _wait.first(view.items(_wait.Selection.named(COLLECTION, item.name))))
        if found.phase != _wait.READY:
            looks.pop(item, None)
            return found
        if served(kube, item.name, found.facts["version"]):
            return replace(found, text="is established and served")
        looks[item] = looks.get(item, 0) + 1
        return replace(
            found,
            phase=_wait.WAITING,
            text=f"is established, but discovery does not serve {found.facts['version']} yet",
            cure="The API server does this within seconds: look at its log",
            again=QUICK if looks[item] < QUICK_LOOKS else SLOW,
        )

    return lambda view: [one(view, item) for item in wanted]


def served(kube: Kube, name: str, version: str) -> bool:
    """Whether discovery serves the CRD ``<plural>.<group>`` at a version; raises KubeError."""
    plural, _dot, group = name.partition(".")
    try:
        answer = kube.get(f"/apis/{group}/{version}", f"read the discovery of {group}/{version}")
    except KubeError as error:
        if error.status in (404, 503):  # 503: the group is known, but its handlers are not ready
            return False
        raise
    return any(resource["name"] == plural for resource in answer.get("resources") or [])


def _preferred(crd: dict[str, t.Any], served_versions: Sequence[str]) -> str | None:
    """The version to report when none was asked for: the stored one if it is served, else the first served."""
    stored = [version["name"] for version in crd["spec"]["versions"] if version.get("storage")]
    return next((name for name in (*stored, *served_versions) if name in served_versions), None)
