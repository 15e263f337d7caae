# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Two collectors beside each other in a cluster where site.yml has run, and what is sent through them to the site's Tempo.

One is made by role otel_collector; the other, `plain`, is what a first page on collectors shows: OTLP, batch, OTLP, and defaults.
Both are in a namespace of their own, which goes with the trial.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
import time
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

from kubernetes import client, config
from kubernetes.dynamic import DynamicClient
from urllib3.exceptions import HTTPError

ROOT = Path(__file__).resolve().parents[2]
SITE = os.environ.get("MODEL_MONITORING_NAMESPACE", "private-ai-demo")
NAMESPACE = "collector-trial"
TEMPO = "tempo"
GENERATOR = "lab.internal/load-generator:v1.47.0"
QUERY = f"tempo-{TEMPO}-query-frontend:3200"
NAMES = ("role", "plain")
#: What a busy or restarting server answers, or fails to.
PASSING = (client.ApiException, HTTPError)

PLAIN = {
    "apiVersion": "opentelemetry.io/v1beta1",
    "kind": "OpenTelemetryCollector",
    "metadata": {"name": "plain", "namespace": NAMESPACE},
    "spec": {
        "image": "{{ otel_collector_image }}",
        "resources": {"limits": {"memory": "512Mi"}},
        "config": {
            "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": "0.0.0.0:4317"}}}},
            "processors": {"batch": {}},
            "exporters": {"otlp": {"endpoint": f"tempo-{TEMPO}-distributor.{SITE}.svc:4317", "tls": {"insecure": True}}},
            "service": {
                "pipelines": {"traces": {"receivers": ["otlp"], "processors": ["batch"], "exporters": ["otlp"]}},
                "telemetry": {"metrics": {"readers": [{"pull": {"exporter": {"prometheus": {"host": "0.0.0.0", "port": 8888}}}}]}},
            },
        },
    },
}


class Outcome(t.NamedTuple):
    """What a sender says at its end, in spans."""

    sent: int
    accepted: int
    refused: int
    retries: int
    seconds: float


class Trial:
    """What the trials do to the cluster. ``api`` is the client for whatever else they need."""

    def __init__(self) -> None:
        if not os.environ.get("KUBECONFIG"):
            raise SystemExit("KUBECONFIG is not set: start the lab (make lab-up), run site.yml, and name its kubeconfig")
        self.api = config.new_client_from_config()
        self.core = client.CoreV1Api(self.api)
        self.apps = client.AppsV1Api(self.api)
        self._batch = client.BatchV1Api(self.api)
        self._dynamic = DynamicClient(self.api, discoverer=lambda client, cache_file: None)

    # Collectors

    def make(self, folder: Path, **role: t.Any) -> None:
        """Make both collectors; ``role`` are variables of the role."""
        variables = {
            "model_monitoring_namespace": NAMESPACE,
            "otel_collector_name": "role",
            "otel_collector_tempo_namespace": SITE,
            "otel_collector_tempo_name": TEMPO,
            **role,
        }
        wanted = {"api_version": PLAIN["apiVersion"], "kind": PLAIN["kind"], **PLAIN["metadata"]}
        play = [
            {
                "hosts": "localhost",
                "gather_facts": False,
                "vars": variables,
                "roles": ["private_ai.model_monitoring.otel_collector"],
                "tasks": [
                    {"private_ai.model_monitoring.manifests": {"manifests": [PLAIN]}},
                    {"private_ai.model_monitoring.resource_wait": {"resources": [wanted], "timeout": 300}},
                ],
            }
        ]
        (folder / "play.json").write_text(json.dumps(play))
        self._play(folder / "play.json")

    def copies(self, count: int) -> None:
        """Have Tempo keep each span on this many ingesters; returns when it does."""
        self._play(ROOT / "site.yml", "--tags=tempo_storage", f"--extra-vars=tempo_storage_replication_factor={count}")

    @staticmethod
    def _play(playbook: Path, *words: str) -> None:
        command = [Path(sys.executable).with_name("ansible-playbook"), "-i", ROOT / "inventories" / "lab", playbook, *words]
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode:
            raise AssertionError(f"{playbook.name} fails:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")

    def remove(self) -> None:
        """Remove the namespace and wait until it is gone."""
        with contextlib.suppress(client.ApiException):
            self.core.delete_namespace(NAMESPACE)
        until(lambda: not [item for item in self.core.list_namespace().items if item.metadata.name == NAMESPACE], "the namespace is gone", 180)

    def pods(self, collector: str) -> list[client.V1Pod]:
        selector = f"app.kubernetes.io/instance={NAMESPACE}.{collector},app.kubernetes.io/component=opentelemetry-collector"
        return self.core.list_namespaced_pod(NAMESPACE, label_selector=selector).items

    def own_metrics(self, collector: str) -> str:
        """The page of a collector's own metrics."""
        return self.read(NAMESPACE, f"{collector}-collector-monitoring:8888", "/metrics").decode()

    def given_up(self, collector: str) -> int:
        """Spans that a collector has dropped since it started: refused by Tempo for good, or without a place in its queue."""
        pattern = r"^otelcol_exporter_(?:send|enqueue)_failed_spans(?:_total)?(?:{.*})? (\S+)$"
        page = until(lambda: self.own_metrics(collector), f"{collector}'s own metrics", 60)
        return int(sum(map(float, re.findall(pattern, page, re.MULTILINE))))

    # Senders

    def start(self, collector: str, *flags: str, namespace: str = NAMESPACE, labels: dict[str, str] | None = None) -> str:
        """Start sending spans to a collector, from a pod with these labels; returns the run's name, which is in every span as ``lab.run``."""
        run = f"{collector}-{secrets.token_hex(4)}"
        container = {
            "name": "sender",
            "image": GENERATOR,
            "args": ["spans", f"--endpoint={collector}-collector.{namespace}.svc:4317", f"--run={run}", *flags],
            "securityContext": {"runAsNonRoot": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        pod = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container]}
        template = {"metadata": {"labels": {**(labels or {}), "run": run}}, "spec": pod}
        spec = {"backoffLimit": 0, "ttlSecondsAfterFinished": 600, "template": template}
        self._batch.create_namespaced_job(namespace, {"metadata": {"name": run}, "spec": spec})
        return run

    def started(self, run: str) -> None:
        """Wait until a sender sends."""
        until(lambda: self._sender(run) and self._sender(run).status.phase in ("Running", "Succeeded", "Failed"), f"{run} sends", 120)

    def outcome(self, run: str, seconds: float) -> Outcome:
        """Wait until a sender has ended, and read what it says."""
        until(lambda: self._sender(run) and self._sender(run).status.phase in ("Succeeded", "Failed"), f"{run} has ended", seconds)
        sender = self._sender(run).metadata
        lines = self.core.read_namespaced_pod_log(sender.name, sender.namespace, _preload_content=False).data.decode().splitlines()
        said = json.loads(next(line for line in reversed(lines) if line.startswith("{")))
        return Outcome(*(said[field] for field in Outcome._fields))

    def _sender(self, run: str) -> client.V1Pod | None:
        return next(iter(self.core.list_pod_for_all_namespaces(label_selector=f"run={run}").items), None)

    # Tempo

    def stored(self, run: str, since: float) -> set[int]:
        """Which of a run's spans Tempo shows now, by ``lab.index``: its traces by TraceQL, their spans by trace ID."""
        try:
            return {index for trace in self.traces(run, since) for index in _indices(trace, run)}
        except PASSING:
            return set()

    def traces(self, run: str, since: float) -> list[dict]:
        """A run's traces."""
        query = {"q": f'{{ span.lab.run = "{run}" }}', "limit": 1000, "spss": 1, "start": int(since) - 60, "end": int(time.time()) + 60}
        found = json.loads(self.read(SITE, QUERY, "/api/search", query)).get("traces") or []
        return [json.loads(self.read(SITE, QUERY, f"/api/traces/{trace['traceID']}")) for trace in found]

    def settled(self, run: str, since: float, expected: int, patience: float = 40, most: float = 240) -> int:
        """How many of a run's spans are stored, when it is all, or when nothing has come for a while.

        With several copies Tempo asks as many ingesters as make a quorum, and one that has just restarted may be among them: what was seen
        once counts.
        """
        seen: set[int] = set()
        moved = begun = time.monotonic()
        while len(seen) < expected and time.monotonic() - begun < most and time.monotonic() - moved < patience:
            now = self.stored(run, since) - seen
            if now:
                seen |= now
                moved = time.monotonic()
            time.sleep(2)
        return len(seen)

    def read(self, namespace: str, service: str, path: str, query: dict | None = None) -> bytes:
        """The answer of a Service of the cluster, through the API server."""
        path = f"/api/v1/namespaces/{namespace}/services/{service}/proxy{path}"
        return self._dynamic.request("get", path, serialize=False, query_params=list((query or {}).items()), _request_timeout=30).data


def _indices(trace: dict, run: str) -> Iterator[int]:
    for resource in trace.get("batches") or trace.get("resourceSpans") or []:
        for scope in resource.get("scopeSpans") or []:
            for span in scope["spans"]:
                values = {item["key"]: item["value"] for item in span.get("attributes") or []}
                if values.get("lab.run", {}).get("stringValue") == run:
                    yield int(values["lab.index"]["intValue"])


def processes(pod: client.V1Pod) -> list[int]:
    """The processes of a pod on this machine, by their cgroup; the sandbox's own is not among them."""
    wanted = [status.container_id.rpartition("/")[2] for status in pod.status.container_statuses or [] if status.container_id]
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                groups = (folder / "cgroup").read_text()
                if any(name in groups for name in wanted):
                    found.append(int(folder.name))
    return found


def until(look: Callable[[], t.Any], what: str, seconds: float) -> t.Any:
    """What ``look`` returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(*PASSING):
            if found := look():
                return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.5)


def table(title: str, head: tuple[str, ...], rows: list[tuple], file: str) -> str:
    """A table for people, which is also left in tests/output."""
    cells = [tuple(str(cell) for cell in row) for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]
    text = "\n".join([title, "", *(line.rstrip() for line in lines), ""])
    folder = ROOT / "tests" / "output"
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(text)
    return text
