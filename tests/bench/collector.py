# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""10,000 spans a second for a minute through the collector of role otel_collector, and through a plain one, on a lab where site.yml has run.

CPU and memory are what the collector says of its own process, and what the kubelet says of its container. Refused spans were not
acknowledged; dropped ones were, and then given up; waiting ones have not left two minutes after the end, which says more of Tempo on this
machine than of the collector. Ends with 1 if any was dropped or refused, or if memory went over the container's limit.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
import threading
import time
import typing as t
from pathlib import Path

from kubernetes.utils.quantity import parse_quantity
from trials import NAMES, NAMESPACE, Trial, table, until

RATE, SECONDS = 10_000, 60
MIB = 1024 * 1024
HEAD = ("collector", "spans/s", "refused", "dropped", "waiting", "CPU s", "us/span", "cores", "RSS MiB", "container MiB", "limit MiB", "restarts")


class Figures(t.NamedTuple):
    """Of one collector: spans, seconds of CPU, bytes."""

    rate: float
    refused: int
    dropped: int
    waiting: int
    cpu: float
    accepted: int
    seconds: float
    rss: float
    container: float
    limit: float
    restarts: int

    def row(self, name: str) -> tuple:
        per_span = self.cpu / max(self.accepted, 1) * 1e6
        sizes = (f"{size / MIB:.0f}" for size in (self.rss, self.container, self.limit))
        return (
            name,
            f"{self.rate:.0f}",
            self.refused,
            self.dropped,
            self.waiting,
            f"{self.cpu:.1f}",
            f"{per_span:.1f}",
            f"{self.cpu / self.seconds:.2f}",
            *sizes,
            self.restarts,
        )


class Watch(threading.Thread):
    """Looks at a collector every second; ``rss`` and ``container`` are the most that was seen."""

    def __init__(self, trial: Trial, collector: str) -> None:
        super().__init__(daemon=True)
        self.rss = self.container = 0.0
        self._trial, self._collector = trial, collector
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(1):
            with contextlib.suppress(Exception):  # it may be too busy to answer
                self.rss = max(self.rss, metric(self._trial, self._collector, "otelcol_process_memory_rss(?:_bytes)?"))
            with contextlib.suppress(Exception):
                self.container = max(self.container, working_set(self._trial, self._collector))

    def end(self) -> None:
        self._ended.set()
        self.join()


def metric(trial: Trial, collector: str, pattern: str) -> float:
    """The sum of one of the collector's own metrics."""
    found = re.findall(rf"^{pattern}(?:{{.*}})? (\S+)$", trial.own_metrics(collector), re.MULTILINE)
    return sum(map(float, found))


def working_set(trial: Trial, collector: str) -> float:
    """Bytes that the collector's container holds, as the kubelet has it."""
    names = {pod.metadata.name for pod in trial.pods(collector)}
    total = 0.0
    for node in trial.core.list_node().items:
        summary = json.loads(trial.core.connect_get_node_proxy_with_path(node.metadata.name, "stats/summary", _preload_content=False).data)
        for pod in summary["pods"]:
            if pod["podRef"]["namespace"] == NAMESPACE and pod["podRef"]["name"] in names:
                total += sum(container["memory"]["workingSetBytes"] for container in pod["containers"])
    return total


def measure(trial: Trial, collector: str) -> Figures:
    (pod,) = trial.pods(collector)
    limit = float(parse_quantity(pod.spec.containers[0].resources.limits["memory"]))
    cpu = metric(trial, collector, "otelcol_process_cpu_seconds(?:_total)?")
    watch = Watch(trial, collector)
    watch.start()
    try:
        flags = (f"--rate={RATE}", f"--count={RATE * SECONDS}", "--spans-per-trace=10", "--retry-for=0")
        outcome = trial.outcome(trial.start(collector, *flags), SECONDS * 4)

        def gone() -> float:
            return metric(trial, collector, "otelcol_exporter_sent_spans(?:_total)?")

        with contextlib.suppress(AssertionError):
            until(lambda: gone() + trial.given_up(collector) >= outcome.accepted, "all spans have left", 120)
    finally:
        watch.end()
    (pod,) = trial.pods(collector)
    return Figures(
        rate=outcome.accepted / outcome.seconds,
        refused=outcome.refused,
        dropped=trial.given_up(collector),
        waiting=int(outcome.accepted - gone()) - trial.given_up(collector),
        cpu=metric(trial, collector, "otelcol_process_cpu_seconds(?:_total)?") - cpu,
        accepted=outcome.accepted,
        seconds=outcome.seconds,
        rss=watch.rss,
        container=watch.container,
        limit=limit,
        restarts=sum(status.restart_count for status in pod.status.container_statuses),
    )


def main() -> int:
    trial = Trial()
    trial.remove()
    try:
        with tempfile.TemporaryDirectory() as folder:
            trial.make(Path(folder))
        measured = {}
        for collector in reversed(NAMES):
            print(f"  {collector}: {RATE} spans/s for {SECONDS} s ...", file=sys.stderr, flush=True)
            measured[collector] = measure(trial, collector)
            time.sleep(10)
    finally:
        trial.remove()
    print(table(f"{RATE} spans/s for {SECONDS} s", HEAD, [figures.row(name) for name, figures in measured.items()], "bench-collector.txt"))
    role, plain = measured["role"], measured["plain"]
    print(f"role / plain: CPU {role.cpu / plain.cpu:.2f}, RSS {role.rss / plain.rss:.2f}, rate {role.rate / plain.rate:.2f}")
    bad = [name for name in ("refused", "dropped", "restarts") if getattr(role, name)] + (["memory"] if role.container >= role.limit else [])
    print(f"role: {'nothing refused, nothing dropped, memory within its limit' if not bad else 'NOT as it shall be: ' + ', '.join(bad)}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
