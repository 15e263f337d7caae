# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Whether a cluster's Prometheus takes monitors and rules of users, and the one switch that OpenShift has for it.

OpenShift runs a second Prometheus for them when ConfigMap cluster-monitoring-config in openshift-monitoring says so, in the YAML
under its key ``config.yaml``. What else is in there is other people's and stays as it is, comments included.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import Kube, KubeError

try:
    import yaml

    YAML_IMPORT_ERROR: ImportError | None = None
except ImportError as _error:
    YAML_IMPORT_ERROR = _error

OPERATOR_GROUP = "monitoring.coreos.com"
"""API group of the Prometheus operator."""

OPENSHIFT_GROUP = "security.openshift.io"
"""API group that every OpenShift has, and no other Kubernetes."""

NAMESPACE, NAME, KEY, SWITCH = "openshift-monitoring", "cluster-monitoring-config", "config.yaml", "enableUserWorkload"
CONFIG_MAP = f"ConfigMap {NAMESPACE}/{NAME}"
_COLLECTION = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
_ATTEMPTS = 5


@dataclass(frozen=True)
class Found:
    """What there is.

    ``kinds``: of the Prometheus operator's API ``v1``, sorted; empty without it. ``openshift``: whether this is one.
    ``user_workload``: whether OpenShift's monitoring looks after what is users'; None where there is no such monitoring.
    ``before``, ``after``: the YAML in the ConfigMap, None without ConfigMap; they differ when it was (would be) changed.
    """

    kinds: list[str]
    openshift: bool
    user_workload: bool | None
    before: str | None = None
    after: str | None = None


def look(kube: Kube) -> Found:
    """Ask the cluster; raises ModelMonitoringError."""
    return _look(kube)[0]


def switch_on(kube: Kube, dry: bool = False) -> Found:
    """Switch user-workload monitoring on where it can be and is not; raises ModelMonitoringError.

    Of somebody else's change in the meantime nothing is lost: the ConfigMap is written only if it still is what was read.
    """
    query = {"fieldManager": "model-monitoring", **({"dryRun": "All"} if dry else {})}
    for attempts_left in reversed(range(_ATTEMPTS)):
        found, config_map = _look(kube)
        if found.user_workload is not False:
            break
        after = with_switch(found.before or "")
        body: dict[str, t.Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": {KEY: after}}
        try:
            if config_map is None:
                kube.create(_COLLECTION, body, f"create {CONFIG_MAP}", **query)
            else:
                body["metadata"]["resourceVersion"] = config_map["metadata"]["resourceVersion"]
                kube.merge_patch(f"{_COLLECTION}/{NAME}", body, f"change {CONFIG_MAP}", **query)
        except KubeError as error:
            if error.status != 409 or not attempts_left:
                raise
        else:
            return replace(found, user_workload=True, after=after)
    return found


def _look(kube: Kube) -> tuple[Found, dict[str, t.Any] | None]:
    """What there is, and the ConfigMap, None where there is none."""
    groups = {group["name"] for group in kube.get("/apis", "read the API groups").get("groups") or []}
    kinds: set[str] = set()
    if OPERATOR_GROUP in groups:
        resources = kube.get(f"/apis/{OPERATOR_GROUP}/v1", f"read the discovery of {OPERATOR_GROUP}/v1").get("resources") or []
        kinds = {resource["kind"] for resource in resources if "/" not in resource["name"]}
    openshift = OPENSHIFT_GROUP in groups
    config_map = _read(kube, f"{_COLLECTION}/{NAME}", CONFIG_MAP, refusal=openshift)
    text = None if config_map is None else (config_map.get("data") or {}).get(KEY) or ""
    # Without the ConfigMap the namespace tells whether it could be there.
    present = config_map is not None or _read(kube, f"/api/v1/namespaces/{NAMESPACE}", f"Namespace {NAMESPACE}", refusal=openshift) is not None
    return Found(sorted(kinds), openshift, is_on(text or "") if present else None, text, text), config_map


def is_on(text: str) -> bool:
    """Whether the YAML of the ConfigMap has the switch on; raises ModelMonitoringError."""
    return _load(text).get(SWITCH) is True


def with_switch(text: str) -> str:
    """The YAML with the switch on and all else as it was; raises ModelMonitoringError.

    Its text is kept too, with its comments, unless it is written in a way in which a line cannot be added.
    """
    before = _load(text)
    wanted = {**before, SWITCH: True}
    line = f"{SWITCH}: true"
    changed, found = re.subn(rf"^{SWITCH}[ \t]*:.*$", line, text, flags=re.MULTILINE)
    if SWITCH not in before:
        changed = f"{text.rstrip()}\n{line}\n".lstrip()
    try:
        if found == (SWITCH in before) and _load(changed) == wanted:
            return changed
    except ModelMonitoringError:
        pass
    return yaml.safe_dump(wanted, sort_keys=False)


def _load(text: str) -> dict[str, t.Any]:
    if YAML_IMPORT_ERROR is not None:
        raise ModelMonitoringError(f"Python package PyYAML is missing ({YAML_IMPORT_ERROR}): install it where the module runs.")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ModelMonitoringError(f"{CONFIG_MAP}: {KEY} is not YAML ({' '.join(str(error).split())}). Correct it; nothing was changed.") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ModelMonitoringError(f"{CONFIG_MAP}: {KEY} is not a mapping. Correct it; nothing was changed.")
    return content


def _read(kube: Kube, path: str, target: str, refusal: bool) -> dict[str, t.Any] | None:
    """An object, None where there is none. That it may not be read is an error only if it can be there (``refusal``)."""
    try:
        return kube.get(path, f"read {target}")
    except KubeError as error:
        if error.status == 404 or (error.status == 403 and not refusal):
            return None
        raise
