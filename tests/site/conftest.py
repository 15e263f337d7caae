# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs of site.yml on the cluster of KUBECONFIG, with MINIO_ACCESS_KEY and MINIO_SECRET_KEY of its object store; `make site-test` sets them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import kubernetes
import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Kinds that the site could touch.
TOUCHED = (
    ("v1", "Namespace"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("operators.coreos.com/v1", "OperatorGroup"),
    ("operators.coreos.com/v1alpha1", "Subscription"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("tempo.grafana.com/v1alpha1", "TempoStack"),
    ("opentelemetry.io/v1beta1", "OpenTelemetryCollector"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("v1", "PersistentVolumeClaim"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("monitoring.coreos.com/v1", "PodMonitor"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("grafana.integreatly.org/v1beta1", "Grafana"),
    ("grafana.integreatly.org/v1beta1", "GrafanaDatasource"),
    ("grafana.integreatly.org/v1beta1", "GrafanaFolder"),
    ("grafana.integreatly.org/v1beta1", "GrafanaDashboard"),
)


@dataclass
class Run:
    """A finished run of ansible-playbook."""

    status: int
    output: str

    @property
    def errors(self) -> list[str]:
        """What the failed task said."""
        return [json.loads(found)["msg"] for found in re.findall(r"^(?:fatal|failed): .*? => (\{.*\})$", self.output, re.MULTILINE)]

    @property
    def changed(self) -> int:
        return int(re.search(r"changed=(\d+)", self.output).group(1))


@pytest.fixture(scope="session")
def play(tmp_path_factory):
    """Runs site.yml in an empty folder; `environment` replaces variables, None takes them away."""

    def play(*words: str, **environment: str | None) -> Run:
        folder = tmp_path_factory.mktemp("play")
        values = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
            "ANSIBLE_NOCOLOR": "1",
            "HOME": str(folder),
            **environment,
        }
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), ROOT / "site.yml", "-i", ROOT / "inventories" / "lab", *words],
            cwd=folder,
            env={name: value for name, value in values.items() if value is not None},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        return Run(done.returncode, done.stdout + done.stderr)

    return play


@pytest.fixture(scope="session")
def shared(tmp_path_factory, testrun_uid):
    """Opens a file that all processes have in which the tests of this run are; returns it with its lock held."""

    @contextlib.contextmanager
    def locked(name: str, how: int):
        with (tmp_path_factory.getbasetemp().parent / f"{name}-{testrun_uid}").open("a+") as file:
            fcntl.flock(file, how)
            yield file

    return locked


@pytest.fixture(autouse=True)
def turn(request, shared):
    """Tests beside each other, but one that is marked to change the cluster alone."""
    with shared("turn", fcntl.LOCK_EX if request.node.get_closest_marker("changes") else fcntl.LOCK_SH):
        yield


@pytest.fixture(scope="session")
def converged(play, shared):
    """The site has been applied, with all that Ansible can print; once for all processes."""
    with shared("converged", fcntl.LOCK_EX) as kept:
        kept.seek(0)
        output = kept.read()
        if not output:
            run = play("-vvv")
            assert run.status == 0, run.output[-3000:]
            kept.write(run.output)
    return Run(0, output or run.output)


@pytest.fixture(scope="session")
def api():
    return kubernetes.config.new_client_from_config(os.environ["KUBECONFIG"])


@pytest.fixture
def objects(api, converged):
    """A function that returns what there is, each object with what changes when somebody changes it.

    Not what is in namespace default, where tests that run at the same time have what they need.
    """

    def objects() -> dict[str, str]:
        client, found = kubernetes.dynamic.DynamicClient(api), {}
        # What another test has removed may still be on its way out.
        leaving = {
            item.metadata.name for item in client.resources.get(api_version="v1", kind="Namespace").get().items if item.metadata.deletionTimestamp
        }
        for api_version, kind in TOUCHED:
            try:
                items = client.resources.get(api_version=api_version, kind=kind).get().items
            except kubernetes.dynamic.exceptions.ResourceNotFoundError:
                continue
            for item in items:
                meta = item.metadata
                if leaving & {meta.name, meta.namespace} or meta.namespace == "default":
                    continue
                # Controllers write status all the time; the generation is that of what people want. Kinds without status have none.
                found[f"{kind} {meta.namespace}/{meta.name} {meta.uid}"] = str(meta.generation or meta.resourceVersion)
        return found

    return objects
