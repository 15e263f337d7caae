# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""From API version and kind to the path of a resource, by the discovery of that one API version.

The discovery of the whole API server costs a request per group (a hundred on OpenShift), and a cached one goes stale the
moment an operator brings its kinds.
"""

from __future__ import annotations

import typing as t

from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import Kube, KubeError


class NotServed(KubeError):
    """The API server does not know this API version or this kind (yet); ``status`` is 404."""


class Resources:
    """The resources of the API versions that were asked for; each is read once, unless it was not there."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._known: dict[str, list[dict[str, t.Any]]] = {}

    def collection(self, api_version: str, kind: str, namespace: str, target: str) -> str:
        """The path of the collection that ``target`` (the object in words) is in.

        Raises NotServed, ModelMonitoringError where a namespace is needed and not given, KubeError.
        """
        base = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        if api_version not in self._known:
            try:
                answer = self._kube.get(base, f"read the discovery of {api_version}")
            except KubeError as error:
                if error.status != 404:
                    raise
                raise NotServed(
                    f"{target}: the API server does not serve {api_version}. Install what brings this API (the role operators,"
                    f" for an operator's), or correct the API version.",
                    status=404,
                ) from error
            self._known[api_version] = answer.get("resources") or []
        for resource in self._known[api_version]:
            if resource["kind"] == kind and "/" not in resource["name"]:
                if resource["namespaced"] and not namespace:
                    raise ModelMonitoringError(f"{target}: {kind} is namespaced; give its namespace.")
                within = f"/namespaces/{namespace}" if resource["namespaced"] else ""
                return f"{base}{within}/{resource['name']}"
        del self._known[api_version]  # its CRD may come while we live
        raise NotServed(f"{target}: {api_version} has no kind {kind}. Correct kind or API version, or install what brings it.", status=404)


def guess(kind: str) -> str:
    """The plural that a kind most probably has, by the rule that the Kubernetes libraries use for it."""
    singular = kind.lower()
    if singular.endswith("s"):
        return f"{singular}es"
    return f"{singular[:-1]}ies" if singular.endswith("y") else f"{singular}s"
