# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Real programs on loopback, named by environment variables, for tests that need no Kubernetes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import yaml


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """A program of its own with a configuration file, stopped at the end of a ``with`` block.

    :param variable: the environment variable that names the program.
    :param ready: a URL that answers 200 when it is.
    """

    def __init__(self, variable: str, folder: Path, arguments: list[str], config: dict, ready: str) -> None:
        binary = os.environ.get(variable)
        if not binary:
            pytest.fail(f"{variable} is not set: build the lab (make lab-build) and name its program", pytrace=False)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        self._command = [binary, *arguments, str(folder / "config.yaml")]
        self._folder, self._ready_url = folder, ready
        self.start()

    def start(self) -> None:
        self._log = (self._folder / "log").open("w+")
        self._process = subprocess.Popen(self._command, cwd=self._folder, stdout=self._log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 40
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.fail(f"{self._command[0]} does not start:\n{self.log()[-4000:]}", pytrace=False)
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            return urllib.request.urlopen(self._ready_url, timeout=2).status == 200
        except OSError:
            return False

    def log(self) -> str:
        return (self._folder / "log").read_text()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        if self._process.poll() is None:
            self.signal(signal.SIGCONT)
            self._process.kill()
        self._process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


class TempoServer(Server):
    """Tempo as one process with local storage. ``otlp``: host and port of its receiver; ``url``: of its query API."""

    def __init__(self, folder: Path, ingester: dict | None = None, multitenancy: bool = False) -> None:
        http, grpc, otlp = free_port(), free_port(), free_port()
        self.url, self.otlp = f"http://127.0.0.1:{http}", f"127.0.0.1:{otlp}"
        ring = {"kvstore": {"store": "inmemory"}, "instance_addr": "127.0.0.1"}
        config = {
            "multitenancy_enabled": multitenancy,
            "usage_report": {"reporting_enabled": False},
            "server": {
                "http_listen_address": "127.0.0.1",
                "http_listen_port": http,
                "grpc_listen_address": "127.0.0.1",
                "grpc_listen_port": grpc,
            },
            "distributor": {"ring": ring, "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": self.otlp}}}}},
            "ingester": {
                "lifecycler": {
                    "address": "127.0.0.1",
                    "min_ready_duration": "0s",
                    "ring": {"kvstore": {"store": "inmemory"}, "replication_factor": 1},
                },
                **({"trace_idle_period": "1s", "flush_check_period": "1s"} if ingester is None else ingester),
            },
            "compactor": {"ring": {**ring, "wait_stability_min_duration": "0s"}},
            "metrics_generator": {"ring": ring},
            "querier": {"frontend_worker": {"frontend_address": f"127.0.0.1:{grpc}"}},
            "memberlist": {"bind_addr": ["127.0.0.1"], "bind_port": free_port()},
            "storage": {"trace": {"backend": "local", "wal": {"path": str(folder / "wal")}, "local": {"path": str(folder / "blocks")}}},
        }
        super().__init__("TEMPO_BINARY", folder, ["-target=all", "-config.file"], config, f"{self.url}/ready")
