# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""OLM from its own chart, and a catalog of the operators' own bundles.

What is changed in the bundles, because images can only be what the lab builds: the side-car kube-rbac-proxy is left out, and the
Grafana operator's bundle, which its module carries in an old version, is made anew of the manifests beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from lab import images
from lab.build import Builder, binaries
from lab.control_plane import run
from lab.images import IMAGES, Image
from lab.programs import Program

NAMESPACE = "olm"
CATALOG = "lab-catalog"
CHANNEL = "stable"
REGISTRY = "quay.io/model-monitoring-lab"
CONTAINERS_LEFT_OUT = ("kube-rbac-proxy",)
OPERATORS = ("tempo-operator", "opentelemetry-operator", "grafana-operator")

Object = dict[str, Any]


class OLM:
    """Manifests and images of OLM and the catalog, made once into the cache."""

    def __init__(self, builder: Builder, programs: dict[str, Program]) -> None:
        self._builder = builder
        self._programs = programs
        self._binary = binaries(programs, builder)

    @cached_property
    def folder(self) -> Path:
        """Where everything is; the name follows from all that goes into it."""
        digest = hashlib.sha256(Path(__file__).read_bytes())
        digest.update(repr([image.reference for image in IMAGES]).encode())  # OLM's manifests name some of them
        for name in ("olm", "opm", "helm", *OPERATORS):
            digest.update(self._builder.entry(self._programs[name]).name.encode())
        return self._builder.cache / f"catalog-{digest.hexdigest()[:16]}"

    def build(self) -> None:
        """Makes what the cache does not hold yet."""
        if self.folder.exists():
            return
        self._builder.say("lab: catalog of the operators ...")
        work = self._builder.cache / f"catalog-{os.getpid()}.part"
        shutil.rmtree(work, ignore_errors=True)
        for bundle in self._bundles():
            name = bundle["package"]
            write_bundle(work / "bundles" / name, bundle)
            rendered = json.loads(run([self._binary("opm"), "render", str(work / "bundles" / name)]))
            catalog = work / "catalog" / name / "catalog.json"
            catalog.parent.mkdir(parents=True)
            catalog.write_text(
                "\n".join(json.dumps(entry) for entry in (*package(bundle), {**rendered, "image": bundle_image(self._programs[name])}))
            )
        run([self._binary("opm"), "validate", str(work / "catalog")])
        (work / "olm.yaml").write_text(self._chart())
        try:
            work.rename(self.folder)
        except OSError:
            shutil.rmtree(work)
            if not self.folder.exists():
                raise  # else another checkout has made the same meanwhile

    def images(self) -> tuple[Image, ...]:
        """Images of the catalog and of the bundles; named without reading a bundle, which takes a second."""
        serve = ("/bin/opm", "serve", "/configs", "--cache-dir=/tmp/cache", "--cache-enforce-integrity=false")
        return (
            Image(
                f"{REGISTRY}/catalog:latest",
                serve,
                {"/bin/opm": "opm", "/bin/grpc_health_probe": "grpc_health_probe", "/configs": self.folder / "catalog"},
            ),
            *(
                Image(
                    bundle_image(self._programs[name]),
                    files={f"/{part}": self.folder / "bundles" / name / part for part in ("manifests", "metadata")},
                    labels=annotations_of(name),
                )
                for name in OPERATORS
            ),
        )

    def manifests(self) -> Path:
        """File of everything but its CustomResourceDefinitions."""
        return self.folder / "olm.yaml"

    def _chart(self) -> str:
        chart = self._builder.entry(self._programs["olm"]) / "files/deploy/chart"
        values: Object = {
            "namespace": NAMESPACE,
            "catalog_namespace": NAMESPACE,
            "operator_namespace": "operators",
            **{part: {"image": {"ref": images.OLM, "pullPolicy": "IfNotPresent"}, "replicaCount": 1} for part in ("olm", "catalog", "package")},
        }
        values["catalog"]["opmImageArgs"] = f"--opmImage={images.OPM}"
        text = run([self._binary("helm"), "template", "olm", str(chart), "--values=-"], given=yaml.safe_dump(values))
        objects = [item for item in yaml.safe_load_all(text) if item and item["kind"] not in ("CatalogSource", "NetworkPolicy")]
        return yaml.safe_dump_all([*objects, catalog_source()])

    def _bundles(self) -> Iterator[Object]:
        """Each operator's bundle as {package, csv, others}."""
        for name in OPERATORS:
            files = self._builder.entry(self._programs[name]) / "files"
            if name == "grafana-operator":
                yield grafana_bundle(files / "config", self._programs[name].version)
            else:
                manifests = [yaml.safe_load(path.read_text()) for path in sorted((files / "bundle/community/manifests").glob("*.yaml"))]
                (csv,) = (item for item in manifests if item["kind"] == "ClusterServiceVersion")
                yield {"package": name, "csv": buildable(csv), "others": [item for item in manifests if item is not csv]}


def catalog_source() -> Object:
    return {
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "CatalogSource",
        "metadata": {"name": CATALOG, "namespace": NAMESPACE},
        "spec": {
            "displayName": "The lab's operators",
            "sourceType": "grpc",
            "image": f"{REGISTRY}/catalog:latest",
            "grpcPodConfig": {"securityContextConfig": "restricted"},
        },
    }


def buildable(csv: Object) -> Object:
    """A CSV that asks for no more images than the lab has: without the side-cars that cannot be built."""
    for deployment in csv["spec"]["install"]["spec"]["deployments"]:
        pod = deployment["spec"]["template"]["spec"]
        pod["containers"] = [container for container in pod["containers"] if container["name"] not in CONTAINERS_LEFT_OUT]
    csv["spec"].pop("relatedImages", None)
    return csv


def grafana_bundle(config: Path, version: str) -> Object:
    """The Grafana operator's bundle from its CustomResourceDefinitions, roles and Deployment."""

    def read(path: str) -> list[Object]:
        return [item for item in yaml.safe_load_all((config / path).read_text()) if item]

    crds = [read(f"crd/bases/{path.name}")[0] for path in sorted((config / "crd/bases").glob("*.yaml"))]
    (deployment,) = (item for item in read("manager/manager.yaml") if item["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    pod["containers"][0] |= {"image": images.GRAFANA_OPERATOR, "imagePullPolicy": "IfNotPresent"}
    pod["serviceAccountName"] = account = "grafana-operator-controller-manager"
    csv = {
        "apiVersion": "operators.coreos.com/v1alpha1",
        "kind": "ClusterServiceVersion",
        "metadata": {"name": f"grafana-operator.{version}", "annotations": {"capabilities": "Basic Install"}},
        "spec": {
            "displayName": "Grafana Operator",
            "version": version.removeprefix("v"),
            "installModes": [
                {"type": kind, "supported": kind != "MultiNamespace"}
                for kind in ("OwnNamespace", "SingleNamespace", "MultiNamespace", "AllNamespaces")
            ],
            "customresourcedefinitions": {
                "owned": [
                    {"name": crd["metadata"]["name"], "kind": crd["spec"]["names"]["kind"], "version": crd["spec"]["versions"][0]["name"]}
                    for crd in crds
                ]
            },
            "install": {
                "strategy": "deployment",
                "spec": {
                    "deployments": [{"name": "grafana-operator-controller-manager-v5", "spec": deployment["spec"]}],
                    "clusterPermissions": [{"serviceAccountName": account, "rules": read("rbac/role.yaml")[0]["rules"]}],
                    "permissions": [{"serviceAccountName": account, "rules": read("rbac/leader_election_role.yaml")[0]["rules"]}],
                },
            },
        },
    }
    return {"package": "grafana-operator", "csv": csv, "others": crds}


def annotations_of(name: str) -> dict[str, str]:
    """What a bundle says of itself, in its metadata and in the labels of its image."""
    prefix = "operators.operatorframework.io.bundle"
    return {
        f"{prefix}.mediatype.v1": "registry+v1",
        f"{prefix}.manifests.v1": "manifests/",
        f"{prefix}.metadata.v1": "metadata/",
        f"{prefix}.package.v1": name,
        f"{prefix}.channels.v1": CHANNEL,
        f"{prefix}.channel.default.v1": CHANNEL,
    }


def bundle_image(operator: Program) -> str:
    return f"{REGISTRY}/{operator.name}-bundle:{operator.version}"


def package(bundle: Object) -> list[Object]:
    """The catalog's entries of a package, besides the bundle itself."""
    name = bundle["package"]
    return [
        {"schema": "olm.package", "name": name, "defaultChannel": CHANNEL},
        {"schema": "olm.channel", "package": name, "name": CHANNEL, "entries": [{"name": bundle["csv"]["metadata"]["name"]}]},
    ]


def write_bundle(folder: Path, bundle: Object) -> None:
    """Writes a bundle's folder as `operator-sdk` would."""
    for part in ("manifests", "metadata"):
        (folder / part).mkdir(parents=True)
    for item in (bundle["csv"], *bundle["others"]):
        (folder / "manifests" / f"{item['kind']}-{item['metadata']['name']}.yaml".lower()).write_text(yaml.safe_dump(item))
    (folder / "metadata" / "annotations.yaml").write_text(yaml.safe_dump({"annotations": annotations_of(bundle["package"])}))
