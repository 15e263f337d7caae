# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The permission that TrustyAI's operator gives evaluations to go online and to execute code, in whichever way the cluster has it.

Newer OpenShift AI has fields for it in the DataScienceCluster, which its operator hands to TrustyAI's in a ConfigMap of its own; elsewhere it
is in the ConfigMap of TrustyAI's operator itself. Which one it is, the schema of the cluster tells. TrustyAI's operator reads either at its start
only, so a pod of it that is older than what it should have read is started again, and no other.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _readiness, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import Kube, KubeError

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Object = Mapping[str, t.Any]

OPERATOR = "trustyai-service-operator-controller-manager"
CONFIG_MAP = "trustyai-service-operator-config"
HANDED_OVER = "trustyai-dsc-config"
DSC_CRD = "datascienceclusters.datasciencecluster.opendatahub.io"
DSC_GROUP = "datasciencecluster.opendatahub.io"
#: The way from a DataScienceCluster to the fields.
FIELDS = ("spec", "components", "trustyai", "eval", "lmeval")


@dataclass(frozen=True)
class Names:
    """What a permission is called: in the DataScienceCluster, in what its operator hands over, and in the operator's own ConfigMap."""

    field: str
    handed_over: str
    key: str


PERMISSIONS = {
    "online": Names("permitOnline", "eval.lmeval.permitOnline", "lmes-allow-online"),
    "code_execution": Names("permitCodeExecution", "eval.lmeval.permitCodeExecution", "lmes-allow-code-execution"),
}


@dataclass(frozen=True)
class Outcome:
    """What there is, and what was (would be) done. ``where``: the object in words. ``restarted``: names of the operator's pods."""

    where: str
    before: Mapping[str, bool]
    after: Mapping[str, bool]
    restarted: Sequence[str]


def version_with_fields(crd: Object | None) -> str:
    """The served version of the DataScienceCluster that has the fields; empty where none has."""
    for version in ((crd or {}).get("spec") or {}).get("versions") or []:
        schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        for name in FIELDS:
            schema = (schema.get("properties") or {}).get(name) or {}
        if version.get("served") and "permitOnline" in (schema.get("properties") or {}):
            return version["name"]
    return ""


def granted_by_cluster(dsc: Object) -> dict[str, bool]:
    """The permissions that a DataScienceCluster gives."""
    found: t.Any = dsc
    for name in FIELDS:
        found = (found.get(name) if isinstance(found, dict) else None) or {}
    return {name: found.get(names.field) == "allow" for name, names in PERMISSIONS.items()}


def granted(config_map: Object | None, handed_over: bool = False) -> dict[str, bool]:
    """The permissions that a ConfigMap gives."""
    data = (config_map or {}).get("data") or {}
    return {name: str(data.get(names.handed_over if handed_over else names.key, "")).lower() == "true" for name, names in PERMISSIONS.items()}


def written(config_map: Object) -> str:
    """When a ConfigMap was written last, as RFC 3339."""
    meta = config_map["metadata"]
    return max([meta.get("creationTimestamp") or "", *(one.get("time") or "" for one in meta.get("managedFields") or [])])


def stale(config_map: Object, pods: Sequence[Object]) -> list[str]:
    """Pods that started before the ConfigMap was written, and so have not read it."""
    return sorted(
        pod["metadata"]["name"] for pod in pods if (pod.get("status") or {}).get("startTime", "9") < written(config_map) and not _leaving(pod)
    )


class Permission:
    """Gives permissions to the operator of a cluster. ``dry``: only tells; nothing is changed.

    ``namespace``: of TrustyAI's operator; empty to look for it.
    """

    def __init__(self, kube: Kube, namespace: str = "", dry: bool = False) -> None:
        self._kube = kube
        self._dry = {"dryRun": "All"} if dry else {}
        self._namespace = namespace or self._find()

    def give(self, wanted: Sequence[str], timeout: float) -> Outcome:
        """Give these permissions and take none away. Raises ModelMonitoringError."""
        version = version_with_fields(self._read(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{DSC_CRD}"))
        clusters = self._kube.get(f"/apis/{DSC_GROUP}/{version}/datascienceclusters", "list DataScienceClusters")["items"] if version else []
        if clusters:
            return self._by_cluster(f"/apis/{DSC_GROUP}/{version}/datascienceclusters", clusters[0], wanted, timeout)
        return self._by_config_map(wanted, timeout)

    def _by_cluster(self, collection: str, dsc: Object, wanted: Sequence[str], timeout: float) -> Outcome:
        name = dsc["metadata"]["name"]
        before = granted_by_cluster(dsc)
        lacking = [one for one in wanted if not before[one]]
        if lacking:
            body: dict[str, t.Any] = {PERMISSIONS[one].field: "allow" for one in lacking}
            for part in reversed(FIELDS):
                body = {part: body}
            self._kube.merge_patch(f"{collection}/{name}", body, f"change DataScienceCluster {name}", fieldManager="model-monitoring", **self._dry)
        where = f"DataScienceCluster {name}"
        restarted = [] if lacking and self._dry else self._restart(HANDED_OVER, wanted, True, timeout)
        return Outcome(where, before, {**before, **dict.fromkeys(wanted, True)}, restarted)

    def _by_config_map(self, wanted: Sequence[str], timeout: float) -> Outcome:
        target = f"ConfigMap {self._namespace}/{CONFIG_MAP}"
        path = f"{self._core('configmaps')}/{CONFIG_MAP}"
        config_map = self._read(path)
        if config_map is None:
            raise ModelMonitoringError(f"{target} does not exist: it is TrustyAI's operator's. Correct its namespace, or install the operator.")
        before = granted(config_map)
        lacking = [one for one in wanted if not before[one]]
        if lacking:
            # The annotation keeps OpenShift AI's operator from putting its own values back; others do not read it.
            body = {
                "metadata": {"annotations": {"opendatahub.io/managed": "false"}},
                "data": {PERMISSIONS[one].key: "true" for one in lacking},
            }
            self._kube.merge_patch(path, body, f"change {target}", fieldManager="model-monitoring", **self._dry)
        restarted = [] if lacking and self._dry else self._restart(CONFIG_MAP, wanted, False, timeout)
        return Outcome(target, before, {**before, **dict.fromkeys(wanted, True)}, restarted)

    def _restart(self, config_map: str, wanted: Sequence[str], handed_over: bool, timeout: float) -> list[str]:
        """Start pods again that have not read a ConfigMap, once it says what is wanted, and wait until they are there again."""
        deleted: list[str] = []

        def judge(view: _wait.Viewer) -> list[_wait.State]:
            target = f"ConfigMap {self._namespace}/{config_map}"
            found = _wait.first(view.items(_wait.Selection.named(self._core("configmaps"), config_map)))
            if wanted and (found is None or not all(granted(found, handed_over)[one] for one in wanted)):
                cure = "Look at the log of OpenShift AI's operator" if handed_over else "Somebody else changes it"
                return [_wait.State(target, _wait.READY if self._dry else _wait.WAITING, "does not say yet what is permitted", cure)]
            if found is None:
                return [_wait.State(target, _wait.READY, "is not needed")]
            deployment = _wait.first(view.items(_wait.Selection.named(f"/apis/apps/v1/namespaces/{self._namespace}/deployments", OPERATOR)))
            pods = view.items(_wait.Selection(self._core("pods"), labels=_selector(deployment))) if deployment else []
            for name in stale(found, pods):
                if name not in deleted:
                    deleted.append(name)
                    if not self._dry:
                        self._delete(name)
            verdict = _readiness.deployment(deployment, ())
            old = [] if self._dry else stale(found, pods)
            ready = verdict.phase == _wait.READY and not old
            words = verdict.text if not old else f"pod {old[0]} has not read {config_map} yet"
            phase = _wait.READY if ready or self._dry else _wait.WAITING
            return [_wait.State(f"Deployment {self._namespace}/{OPERATOR}", phase, words, verdict.cure or "Look at its pods")]

        with _wait.View(self._kube) as view:
            _wait.wait_for(view, judge, timeout)
        return deleted

    def _delete(self, pod: str) -> None:
        try:
            self._kube.delete(f"{self._core('pods')}/{pod}", f"delete Pod {self._namespace}/{pod}")
        except KubeError as error:
            if error.status != 404:
                raise

    def _core(self, plural: str) -> str:
        return f"/api/v1/namespaces/{self._namespace}/{plural}"

    def _read(self, path: str) -> dict[str, t.Any] | None:
        """An object, None where there is none; raises KubeError."""
        try:
            return self._kube.get(path, f"read {path.rpartition('/')[2]}")
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    def _find(self) -> str:
        """The namespace of the operator; raises ModelMonitoringError."""
        found = self._kube.get("/apis/apps/v1/deployments", "look for TrustyAI's operator", fieldSelector=f"metadata.name={OPERATOR}")["items"]
        if not found:
            raise ModelMonitoringError(
                f"There is no Deployment {OPERATOR}: TrustyAI's operator is not installed. Set trustyai to Managed in the DataScienceCluster, or"
                " install it."
            )
        return found[0]["metadata"]["namespace"]


def _selector(deployment: Object) -> str:
    """The labels of a Deployment's pods, as a query; every Deployment has some."""
    return ",".join(f"{key}={value}" for key, value in sorted(deployment["spec"]["selector"]["matchLabels"].items()))


def _leaving(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))
