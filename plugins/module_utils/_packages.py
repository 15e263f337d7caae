# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""When a catalog of OLM can be subscribed to: it is READY, and offers the package in the channel.

To be known before a Subscription is made: OLM backs off for minutes from a Subscription whose catalog is not ready yet
(operator-lifecycle-manager issue 901), and what is not offered can be said while nothing has been touched. Packages are read
from OLM's package server, an aggregated API without watch; so after READY it is asked again until it has caught up.
"""

from __future__ import annotations

import difflib
import typing as t
from dataclasses import dataclass, replace

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _olm, _wait
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import Kube, KubeError

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Object = dict[str, t.Any]

API = "/apis/packages.operators.coreos.com/v1"
#: Seconds between two looks at the package server.
AGAIN = 0.5


@dataclass(frozen=True)
class Wanted:
    """A package in a channel of a catalog; ``starting_csv``: a ClusterServiceVersion that the channel must have."""

    package: str
    channel: str
    source: str
    source_namespace: str
    starting_csv: str = ""

    @property
    def target(self) -> str:
        """The name in messages and results."""
        return f"package {self.package}"

    @property
    def catalog(self) -> str:
        """The catalog in messages."""
        return f"CatalogSource {self.source_namespace}/{self.source}"


def explain(wanted: Wanted, catalog: Object | None, pods: Sequence[Object], packages: Sequence[Object]) -> _wait.State:
    """How far it is. ``pods`` are the catalog's, ``packages`` those of it that the package server has."""
    tell = _olm.Teller(wanted)
    source = {"spec": {"source": wanted.source, "sourceNamespace": wanted.source_namespace}}
    unhealthy = _olm.explain_catalog(tell, source, _olm.Scene(None, catalog=catalog, pods=pods))
    if unhealthy:
        return unhealthy

    def failing(text: str, cure: str, cause: str) -> _wait.State:
        return replace(tell.failing(text, cure, cause, _olm.SETTLE_SECONDS), again=AGAIN)

    manifest = next((item for item in packages if item["metadata"]["name"] == wanted.package), None)
    if manifest is None:
        if not packages:
            return replace(
                tell.waiting(f"OLM's package server knows no package of {wanted.catalog} yet", "Look at the log of OLM's packageserver"), again=AGAIN
            )
        names = sorted(item["metadata"]["name"] for item in packages)
        return failing(f"{wanted.catalog} has no package {wanted.package}", f"Correct package; {_offer(wanted.package, names)}", "package")
    channels = {channel["name"]: channel for channel in manifest["status"].get("channels") or []}
    channel = channels.get(wanted.channel)
    if channel is None:
        return failing(
            f"package {wanted.package} of {wanted.catalog} has no channel {wanted.channel}",
            f"Correct channel; {_offer(wanted.channel, sorted(channels))}",
            "channel",
        )
    versions = [entry["name"] for entry in channel.get("entries") or []] or [channel["currentCSV"]]
    if wanted.starting_csv and wanted.starting_csv not in versions:
        return failing(
            f"channel {wanted.channel} of package {wanted.package} has no {wanted.starting_csv}",
            f"Correct starting_csv; {_offer(wanted.starting_csv, versions)}",
            "csv",
        )
    return _wait.State(wanted.target, _wait.READY, f"is offered by {wanted.catalog}", facts={"csv": wanted.starting_csv or channel["currentCSV"]})


def _offer(name: str, names: Sequence[str], most: int = 5) -> str:
    """What there is instead, the nearest first."""
    near = difflib.get_close_matches(name, names, n=most, cutoff=0.3)
    shown = [*near, *(name for name in names if name not in near)][:most]
    return f"there is {', '.join(shown)}{f' and {len(names) - most} more' if len(names) > most else ''}"


def judge(kube: Kube, wanted: Sequence[Wanted]) -> Callable[[_wait.Viewer], list[_wait.State]]:
    """The judge for :func:`_wait.wait_for`."""

    def one(view: _wait.Viewer, item: Wanted) -> _wait.State:
        path = f"{_olm.API}/namespaces/{item.source_namespace}/catalogsources"
        catalog = _wait.first(view.items(_wait.Selection.named(path, item.source, absent=_olm.NOT_INSTALLED)))
        if catalog is None or _olm.connection(catalog) == "READY":
            return explain(item, catalog, (), offered(kube, item) if catalog else ())
        served = _wait.Selection(f"/api/v1/namespaces/{item.source_namespace}/pods", labels=f"olm.catalogSource={item.source}", optional=True)
        return explain(item, catalog, view.items(served), ())

    return lambda view: [one(view, item) for item in wanted]


def offered(kube: Kube, wanted: Wanted) -> list[Object]:
    """PackageManifests of the catalog: just the wanted one if there is one, else all. Raises KubeError."""
    what = f"list the packages of {wanted.catalog}"
    labels = {"labelSelector": f"catalog={wanted.source},catalog-namespace={wanted.source_namespace}"}
    path = f"{API}/namespaces/{wanted.source_namespace}/packagemanifests"
    try:
        found = kube.get(path, what, fieldSelector=f"metadata.name={wanted.package}", **labels).get("items") or []
        return found or kube.get(path, what, **labels).get("items") or []
    except KubeError as error:
        if error.status in (404, 503):  # the package server is just starting
            return []
        raise
