# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""How soon a wait returns after its condition has become true: our modules, what people write without them, and kubectl.

Needs KUBECONFIG of the lab's profile control-plane (no controllers: what they would write is written here, by a second
client). Takes about four minutes and ends with 1 when the median reaction of one of our modules takes
more than 0.1 s and its own start-up.

- The clock starts just before the status is written that makes the condition true. A CRD is established by the API server
  itself: there it starts when a bare watch tells that it is.
- For modules it ends when Ansible has the task's result, for kubectl when the process has ended.
- Start-up is the same task, or command, on a condition that is already true. It is no part of a reaction, because who waits
  has started before; k8s_info starts once more for every look.
"""

from __future__ import annotations

import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.private_ai.model_monitoring.plugins.module_utils._kube import Kube, connect
from lab.build import Builder, binaries
from lab.programs import load

RUNS, STARTS = 20, 10
LIMIT = 0.1  # seconds
DELAY = 5  # seconds between two looks of `until`: Ansible's default
BOUND = 60  # seconds after which any single wait has gone wrong
OURS = "private_ai.model_monitoring."
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
OPERATORS = "/apis/operators.coreos.com/v1alpha1"


class Condition:
    """Something that becomes true, by number: 0 is true from the beginning, for the start-up."""

    title: str

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.id = f"bench-{secrets.token_hex(4)}"
        self.make(0)
        self.come_true(0)

    def close(self) -> None:
        """Remove what was made."""
        self.kube.delete(f"/api/v1/namespaces/{self.id}", "clean up")

    def make(self, number: int) -> None:
        """Make what is to be waited for, not ready."""
        raise NotImplementedError

    def come_true(self, number: int) -> float:
        """Make the condition true; returns when it was."""
        raise NotImplementedError

    def our_task(self, number: int) -> dict:
        raise NotImplementedError

    def k8s_info(self, number: int) -> tuple[dict, str]:
        """What kubernetes.core.k8s_info asks for, and what `until` says of the first object."""
        raise NotImplementedError

    def kubectl(self, number: int) -> list[str]:
        """The arguments of `kubectl wait`."""
        raise NotImplementedError

    def _write(self, path: str, body: dict) -> float:
        began = time.monotonic()
        self.kube.merge_patch(path, body, "write a status")
        return began


class Crd(Condition):
    """A CRD whose names another one holds: when that is deleted, the API server establishes it."""

    title = "CRD established"

    def _name(self, number: int) -> str:
        return f"widgets.{self.id}-{number}.example.com"

    def make(self, number: int) -> None:
        for plural in ("holders", "widgets") if number else ("widgets",):
            group = self._name(number).partition(".")[2]
            version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
            names = {"plural": plural, "singular": plural[:-1], "kind": "Widget", "listKind": "WidgetList"}
            spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
            body = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{plural}.{group}"}}
            self.kube.create(CRDS, {**body, "spec": spec}, "make a CRD")
            if plural == "holders":
                self._until_established(f"{plural}.{group}")

    def come_true(self, number: int) -> float:
        name = self._name(number)
        if number:
            self.kube.delete(f"{CRDS}/{name.replace('widgets', 'holders', 1)}", "make room for a CRD")
        return self._until_established(name)

    def _until_established(self, name: str) -> float:
        query = {"fieldSelector": f"metadata.name={name}"}
        for event in self.kube.watch(CRDS, "watch a CRD", BOUND, **query):
            seen = time.monotonic()
            conditions = (event["object"].get("status") or {}).get("conditions") or []
            if any((item["type"], item["status"]) == ("Established", "True") for item in conditions):
                return seen
        raise SystemExit(f"{name} has not been established within {BOUND} s")

    def our_task(self, number: int) -> dict:
        return {OURS + "crd_wait": {"crds": [{"name": self._name(number), "version": "v1"}], "timeout": BOUND}}

    def k8s_info(self, number: int) -> tuple[dict, str]:
        wanted = {"api_version": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "name": self._name(number)}
        return wanted, "status.conditions | selectattr('type', 'eq', 'Established') | selectattr('status', 'eq', 'True') | length == 1"

    def kubectl(self, number: int) -> list[str]:
        return ["--for=condition=Established", f"crd/{self._name(number)}"]

    def close(self) -> None:
        for item in self.kube.get(CRDS, "list CRDs")["items"]:
            if self.id in item["metadata"]["name"]:
                self.kube.delete(f"{CRDS}/{item['metadata']['name']}", "clean up")


class Deployment(Condition):
    """A Deployment that has no controller but us."""

    title = "Deployment available"

    def __init__(self, kube: Kube) -> None:
        self._generations: dict[int, int] = {}
        super().__init__(kube)

    def make(self, number: int) -> None:
        if not self._generations:
            self.kube.create("/api/v1/namespaces", {"metadata": {"name": self.id}}, "make a namespace")
        labels = {"app": f"web-{number}"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "example.invalid/none:1"}]}}
        body = {"metadata": {"name": f"web-{number}"}, "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}}
        made = self.kube.create(f"/apis/apps/v1/namespaces/{self.id}/deployments", body, "make a Deployment")
        self._generations[number] = made["metadata"]["generation"]

    def come_true(self, number: int) -> float:
        counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
        available = {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}
        status = {"observedGeneration": self._generations[number], **counts, "conditions": [available]}
        return self._write(f"/apis/apps/v1/namespaces/{self.id}/deployments/web-{number}/status", {"status": status})

    def _object(self, number: int) -> dict:
        return {"api_version": "apps/v1", "kind": "Deployment", "name": f"web-{number}", "namespace": self.id}

    def our_task(self, number: int) -> dict:
        return {OURS + "resource_wait": {"resources": [self._object(number)], "timeout": BOUND}}

    def k8s_info(self, number: int) -> tuple[dict, str]:
        return self._object(number), "status.availableReplicas | default(0) == 1"

    def kubectl(self, number: int) -> list[str]:
        return ["--for=condition=Available", f"deployment/web-{number}", f"--namespace={self.id}"]


class Subscription(Condition):
    """A Subscription that has no OLM but us; its last step is that its CSV succeeds."""

    title = "Subscription installed"

    def __init__(self, kube: Kube) -> None:
        kinds = ("Subscription", "CatalogSource", "ClusterServiceVersion")
        self._plurals = {kind: f"{kind.lower()}s" for kind in kinds}
        super().__init__(kube)

    def _create(self, kind: str, name: str, spec: dict, status: dict) -> None:
        collection = f"{OPERATORS}/namespaces/{self.id}/{self._plurals[kind]}"
        body = {"apiVersion": "operators.coreos.com/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.kube.create(collection, body, f"make a {kind}")
        self._write(f"{collection}/{name}/status", {"status": status})

    def make(self, number: int) -> None:
        if not number:
            self.kube.create("/api/v1/namespaces", {"metadata": {"name": self.id}}, "make a namespace")
            group = {"apiVersion": "operators.coreos.com/v1", "kind": "OperatorGroup", "metadata": {"name": "group"}, "spec": {}}
            self.kube.create(f"/apis/operators.coreos.com/v1/namespaces/{self.id}/operatorgroups", group, "make an OperatorGroup")
            self._create("CatalogSource", "lab", {"sourceType": "grpc", "image": "none"}, {"connectionState": {"lastObservedState": "READY"}})
        csv = f"operator.v0.0.{number}"
        spec = {"name": "operator", "channel": "stable", "source": "lab", "sourceNamespace": self.id}
        self._create("Subscription", f"operator-{number}", spec, {"lastUpdated": "2026-01-01T00:00:00Z", "currentCSV": csv, "installedCSV": csv})
        install = {"strategy": "deployment", "spec": {"deployments": []}}
        self._create("ClusterServiceVersion", csv, {"displayName": csv, "install": install}, {"phase": "Installing"})

    def come_true(self, number: int) -> float:
        path = f"{OPERATORS}/namespaces/{self.id}/clusterserviceversions/operator.v0.0.{number}/status"
        return self._write(path, {"status": {"phase": "Succeeded"}})

    def our_task(self, number: int) -> dict:
        return {OURS + "subscription_wait": {"subscriptions": [{"name": f"operator-{number}", "namespace": self.id}], "timeout": BOUND}}

    def k8s_info(self, number: int) -> tuple[dict, str]:
        version = "operators.coreos.com/v1alpha1"
        wanted = {"api_version": version, "kind": "ClusterServiceVersion", "name": f"operator.v0.0.{number}", "namespace": self.id}
        return wanted, "status.phase == 'Succeeded'"

    def kubectl(self, number: int) -> list[str]:
        return ["--for=jsonpath={.status.phase}=Succeeded", f"csv/operator.v0.0.{number}", f"--namespace={self.id}"]


class Measured:
    """Start-ups and reactions in seconds."""

    def __init__(self, starts: list[float], reactions: list[float]) -> None:
        self.start = statistics.median(starts)
        self.reaction = statistics.median(reactions)
        self.worst = max(reactions)


def when(begun: float, start: float, cycle: float, number: int) -> None:
    """Sleep until the condition shall come true: after the wait has begun, evenly spread over its cycle of looks."""
    time.sleep(max(0.0, begun + 1.5 * start + 0.1 + cycle * (number - 0.5) / RUNS - time.monotonic()))


def in_ansible(condition: Condition, task, first: int, cycle: float) -> Measured:
    """Tasks of one play: the first ones on what is true, then one wait after the other."""
    numbers = [0] * STARTS + list(range(first, first + RUNS))
    for number in numbers[STARTS:]:
        condition.make(number)
    interpreter = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    play = [{"hosts": "localhost", "gather_facts": False, "vars": interpreter, "tasks": [task(number) for number in numbers]}]
    here = Path(__file__).parent
    environment = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "timeline", "ANSIBLE_CALLBACK_PLUGINS": str(here / "callback_plugins")}
    starts, reactions = [], []
    with tempfile.TemporaryDirectory() as folder:
        book = Path(folder) / "play.json"
        book.write_text(json.dumps(play))
        with subprocess.Popen(
            [Path(sys.executable).parent / "ansible-playbook", "-i", "localhost,", str(book)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=here.parents[1], env=environment,
        ) as process:  # fmt: skip
            events = map(json.loads, process.stdout)
            for index, number in enumerate(numbers):
                begun, true = expect(next(events, {}), "start"), None
                if number:
                    when(begun, statistics.median(starts), cycle, index - STARTS + 1)
                    true = condition.come_true(number)
                ended = expect(next(events, {}), "end")
                (reactions if number else starts).append(ended - (true or begun))
    return Measured(starts, reactions)


def expect(event: dict, kind: str) -> float:
    if event.get("event") != kind:
        raise SystemExit(f"expected the {kind} of a task, not {event or 'the end of the play'}")
    return event["at"]


def ours(condition: Condition) -> Measured:
    return in_ansible(condition, condition.our_task, 1, 0.2)


def k8s_info(condition: Condition) -> Measured:
    def task(number: int) -> dict:
        wanted, until = condition.k8s_info(number)
        look = {"until": f"seen.resources[0].{until}", "retries": BOUND // DELAY, "delay": DELAY, "register": "seen"}
        return {"kubernetes.core.k8s_info": wanted, **look}

    return in_ansible(condition, task, 1 + RUNS, DELAY)


def kubectl(condition: Condition, binary: str) -> Measured:
    starts, reactions = [], []
    for index, number in enumerate([0] * STARTS + list(range(1 + 2 * RUNS, 1 + 3 * RUNS))):
        if number:
            condition.make(number)
        command = [binary, "wait", f"--timeout={BOUND}s", *condition.kubectl(number)]
        begun, true = time.monotonic(), None
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            if number:
                when(begun, statistics.median(starts), 0.2, index - STARTS + 1)
                true = condition.come_true(number)
            process.wait()
            ended = time.monotonic()
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        (reactions if number else starts).append(ended - (true or begun))
    return Measured(starts, reactions)


def main() -> int:
    kube = Kube(connect({}))
    binary = binaries(load(), Builder())("kubectl")
    began = time.monotonic()
    conditions: list[Condition] = []
    try:
        for kind in (Crd, Deployment, Subscription):
            conditions.append(kind(kube))
        print(f"reaction of waits: median of {RUNS} runs, seconds\n")
        measured = {}
        for condition in conditions:
            print(f"  {condition.title}: ours, then kubectl ...", file=sys.stderr, flush=True)
            measured[condition.title] = [ours(condition), kubectl(condition, binary)]
        print("  k8s_info with until ...", file=sys.stderr, flush=True)
        with ThreadPoolExecutor() as pool:  # they sleep nearly all the time
            for condition, each in zip(conditions, pool.map(k8s_info, conditions), strict=True):
                measured[condition.title].insert(1, each)
    finally:
        for condition in conditions:
            condition.close()
    print(f"{'condition':24}{'waited for by':26}{'start-up':>9}{'reaction':>10}{'worst':>8}{'ratio':>9}")
    late = []
    for condition in conditions:
        module = next(iter(condition.our_task(0))).removeprefix(OURS)
        rows = zip((module, f"k8s_info, until, delay {DELAY}", "kubectl wait"), measured[condition.title], strict=True)
        mine = measured[condition.title][0]
        for name, row in rows:
            print(f"{condition.title:24}{name:26}{row.start:9.3f}{row.reaction:10.3f}{row.worst:8.3f}{row.reaction / mine.reaction:8.1f}x")
        if mine.reaction > LIMIT + mine.start:
            late.append(f"{module} ({mine.reaction:.3f} s)")
    print(
        f"\nafter {time.monotonic() - began:.0f} s: "
        + (f"above {LIMIT} s and the start-up: {', '.join(late)}" if late else f"ours are within {LIMIT} s and their start-up")
    )
    return bool(late)


if __name__ == "__main__":
    sys.exit(main())
