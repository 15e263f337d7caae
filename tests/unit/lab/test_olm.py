# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What is made of the operators' bundles."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import yaml
from lab.build import Builder
from lab.images import IMAGES
from lab.olm import OLM, OPERATORS, annotations_of, buildable, grafana_bundle, package, write_bundle
from lab.programs import load


@pytest.fixture
def olm(tmp_path):
    """OLM of a cache that holds nothing."""
    builder = Builder(tmp_path / "cache", lambda line: None)
    builder.go_version = "go1.26.8"
    return OLM(builder, load())


def csv(*containers):
    pod = {"spec": {"containers": [{"name": name, "image": f"example.com/{name}:1"} for name in containers]}}
    return {
        "kind": "ClusterServiceVersion",
        "metadata": {"name": "a.v1.0.0"},
        "spec": {
            "version": "1.0.0",
            "relatedImages": [{"image": "example.com/a@sha256:0"}],
            "install": {"spec": {"deployments": [{"name": "a", "spec": {"template": pod}}]}},
        },
    }


def test_side_cars_that_cannot_be_built_are_left_out():
    made = buildable(csv("manager", "kube-rbac-proxy"))
    (deployment,) = made["spec"]["install"]["spec"]["deployments"]
    assert [container["name"] for container in deployment["spec"]["template"]["spec"]["containers"]] == ["manager"]
    assert "relatedImages" not in made["spec"]


def test_catalog_of_a_package():
    assert package({"package": "a", "csv": csv("manager")}) == [
        {"schema": "olm.package", "name": "a", "defaultChannel": "stable"},
        {"schema": "olm.channel", "package": "a", "name": "stable", "entries": [{"name": "a.v1.0.0"}]},
    ]


def test_a_bundle_on_disk(tmp_path):
    bundle = {"package": "a", "csv": csv("manager"), "others": [{"kind": "Service", "metadata": {"name": "s"}}]}
    write_bundle(tmp_path, bundle)
    assert sorted(path.name for path in (tmp_path / "manifests").iterdir()) == ["clusterserviceversion-a.v1.0.0.yaml", "service-s.yaml"]
    assert yaml.safe_load((tmp_path / "metadata" / "annotations.yaml").read_text()) == {"annotations": annotations_of("a")}


def test_the_grafana_operators_bundle(tmp_path):
    files = {
        "crd/bases/b.yaml": [
            {"metadata": {"name": "grafanas.example.com"}, "spec": {"names": {"kind": "Grafana"}, "versions": [{"name": "v1beta1"}]}}
        ],
        "manager/manager.yaml": [
            {"kind": "Namespace"},
            {"kind": "Deployment", "spec": {"template": {"spec": {"containers": [{"image": "controller:latest", "args": ["--leader-elect"]}]}}}},
        ],
        "rbac/role.yaml": [{"rules": [{"verbs": ["get"]}]}],
        "rbac/leader_election_role.yaml": [{"rules": [{"verbs": ["create"]}]}],
    }
    for name, items in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(yaml.safe_dump_all(items))
    bundle = grafana_bundle(tmp_path, "v5.18.0")
    assert bundle["csv"]["metadata"]["name"] == "grafana-operator.v5.18.0"
    assert bundle["csv"]["spec"]["customresourcedefinitions"]["owned"] == [{"name": "grafanas.example.com", "kind": "Grafana", "version": "v1beta1"}]
    install = bundle["csv"]["spec"]["install"]["spec"]
    pod = install["deployments"][0]["spec"]["template"]["spec"]
    assert pod["containers"] == [{"image": "ghcr.io/grafana/grafana-operator:v5.18.0", "args": ["--leader-elect"], "imagePullPolicy": "IfNotPresent"}]
    assert pod["serviceAccountName"] == install["clusterPermissions"][0]["serviceAccountName"] == install["permissions"][0]["serviceAccountName"]
    assert install["clusterPermissions"][0]["rules"] == [{"verbs": ["get"]}]


def test_images_are_named_without_reading_bundles(olm):
    assert [image.reference.rpartition("/")[2] for image in olm.images()] == [
        "catalog:latest",
        *(f"{name}-bundle:{load()[name].version}" for name in OPERATORS),
    ]


def test_made_anew_when_an_image_is_named_differently(olm, monkeypatch):
    before = olm.folder
    monkeypatch.setattr("lab.olm.IMAGES", tuple(replace(image, reference=f"{image.reference}-1") for image in IMAGES))
    assert OLM(olm._builder, load()).folder != before


def test_another_checkout_may_make_the_same_meanwhile(olm, monkeypatch):
    def other_is_first(self):
        (self._builder.cache / f"catalog-{os.getpid()}.part").mkdir(parents=True)
        self.folder.mkdir()
        (self.folder / "olm.yaml").write_text("of the other")
        return ""

    monkeypatch.setattr(OLM, "_bundles", lambda _self: iter(()))
    monkeypatch.setattr("lab.olm.run", lambda *_: "")
    monkeypatch.setattr(olm, "_binary", str)
    monkeypatch.setattr(OLM, "_chart", other_is_first)
    olm.build()
    assert (olm.folder / "olm.yaml").read_text() == "of the other"
    assert [path.name for path in olm._builder.cache.iterdir()] == [olm.folder.name]
