# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""2,000 spans at 200 a second on their way through a collector to Tempo, while a part of the way is killed.

KUBECONFIG names a lab where site.yml has run, on this machine. Each fault hits two collectors at once: that of role otel_collector with
its queue on a volume, of which all spans must be in Tempo at the end, and a plain one, whose losses are shown beside it. The sender does
what OTLP asks of it: it sends again what was not acknowledged.

An ingester of Tempo acknowledges spans that it has in memory only, and while it ends it refuses them with a status that OTLP forbids to send again
(gRPC Unknown). Against both no collector helps, but a replication factor of 3. So an ingester is killed with three copies of each span, where
nothing may be lost; with one copy it is told to end, as it is when a node is drained, and what the collector had to give up is counted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest
from trials import NAMES, SITE, TEMPO, Trial, processes, table, until

COUNT, RATE = 2000, 200
HEAD = ("fault", "collector", "sent", "accepted", "refused", "sent again", "given up", "in Tempo", "lost")
MINIO = ("minio", "model-storage")


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    trial = Trial()
    trial.remove()
    try:
        trial.make(tmp_path_factory.mktemp("trial"), otel_collector_queue_persistent=True)
        yield trial
    finally:
        trial.remove()


@pytest.fixture(scope="module")
def rows():
    """A row for each fault and collector; shown at the end."""
    rows: list[tuple] = []
    yield rows
    if rows:
        print("\n" + table(f"{COUNT} spans at {RATE}/s; collector `role` has its queue on a volume", HEAD, rows, "faults-collector.txt"))


def component_pods(trial: Trial, component: str) -> list:
    selector = f"app.kubernetes.io/instance={TEMPO},app.kubernetes.io/managed-by=tempo-operator,app.kubernetes.io/component={component}"
    return trial.core.list_namespaced_pod(SITE, label_selector=selector).items


def ready(pods: list) -> bool:
    return bool(pods) and all(any(item.type == "Ready" and item.status == "True" for item in pod.status.conditions or []) for pod in pods)


def replaced(trial: Trial, component: str, seconds: int | None, pods: list | None = None) -> None:
    """Delete pods of a component of Tempo (None: all), with this much time to end (None: their own), and wait for others."""
    pods = pods or component_pods(trial, component)
    old = {pod.metadata.uid for pod in pods}
    for pod in pods:
        trial.core.delete_namespaced_pod(pod.metadata.name, SITE, grace_period_seconds=seconds)

    def back() -> bool:
        pods = component_pods(trial, component)
        return not old & {pod.metadata.uid for pod in pods} and ready(pods)

    until(back, f"Tempo's {component} is back", 240)


def nothing(trial: Trial) -> None:
    """No fault: what both do on a good day."""


def distributor(trial: Trial) -> None:
    replaced(trial, "distributor", 0)


def ingester_ends(trial: Trial) -> None:
    replaced(trial, "ingester", None)


def ingester(trial: Trial) -> None:
    """One of three is shot."""
    pods = component_pods(trial, "ingester")
    assert len(pods) == 3
    (process,) = processes(pods[0])
    os.kill(process, signal.SIGKILL)
    replaced(trial, "ingester", 0, pods[:1])


def object_store(trial: Trial) -> None:
    """MinIO is away for 60 seconds."""

    def scale(replicas: int) -> None:
        trial.apps.patch_namespaced_deployment_scale(*MINIO, {"spec": {"replicas": replicas}})
        until(lambda: (trial.apps.read_namespaced_deployment(*MINIO).status.available_replicas or 0) == replicas, f"{replicas} pods of MinIO", 120)

    try:
        scale(0)
        time.sleep(60)
    finally:
        scale(1)


def collectors(trial: Trial) -> None:
    """The collectors' processes are shot, and then their pods deleted."""
    pods = [pod for name in NAMES for pod in trial.pods(name)]
    shot = [process for pod in pods for process in processes(pod)]
    assert len(shot) == len(NAMES), "a process of each collector is on this machine"
    for process in shot:
        os.kill(process, signal.SIGKILL)
    for pod in pods:
        with contextlib.suppress(Exception):
            trial.core.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace, grace_period_seconds=0)
    old = {pod.metadata.uid for pod in pods}
    for name in NAMES:
        until(
            lambda name=name: ready(trial.pods(name)) and not old & {pod.metadata.uid for pod in trial.pods(name)}, f"collector {name} is back", 120
        )


FAULTS = {
    "none": nothing,
    "distributor killed": distributor,
    "ingester ended, one copy": ingester_ends,
    "MinIO away for 60 s": object_store,
    "collector killed": collectors,
    "ingester killed, three copies": ingester,
}


@pytest.fixture
def copies(trial, fault):
    """As many copies of each span as the fault is about."""
    if fault is not ingester:
        yield
        return
    trial.copies(3)
    try:
        yield
    finally:
        trial.copies(1)


@pytest.mark.parametrize(("name", "fault"), FAULTS.items(), ids=[name.replace(" ", "-") for name in FAULTS])
@pytest.mark.usefixtures("copies")
def test_nothing_is_lost_with_a_queue_on_a_volume(trial, rows, name, fault):
    since = time.time()
    before = {collector: trial.given_up(collector) for collector in NAMES}
    runs = {collector: trial.start(collector, f"--count={COUNT}", f"--rate={RATE}", "--spans-per-trace=20", "--retry-for=3m") for collector in NAMES}
    for run in runs.values():
        trial.started(run)
    time.sleep(3)
    fault(trial)
    said = {collector: trial.outcome(run, 240) for collector, run in runs.items()}
    stored = {collector: trial.settled(runs[collector], since, said[collector].sent) for collector in NAMES}
    now = {collector: trial.given_up(collector) for collector in NAMES}
    given_up = {collector: now[collector] - min(now[collector], before[collector]) for collector in NAMES}  # it began anew if it was killed
    for collector in NAMES:
        outcome = said[collector]
        counts = (
            outcome.sent,
            outcome.accepted,
            outcome.refused,
            outcome.retries,
            given_up[collector],
            stored[collector],
            outcome.sent - stored[collector],
        )
        rows.append((name, collector, *counts))
    assert said["role"].sent == COUNT
    assert said["role"].refused == 0
    assert stored["role"] + (given_up["role"] if fault is ingester_ends else 0) == COUNT
