# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Real programs on loopback for the tests of probes, and the probes as Ansible runs them: processes of their own with arguments as JSON."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _otlp, _probe
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SERVICE_HOST = "otel-collector-collector.private-ai-demo.svc"
MODULES = "ansible_collections.private_ai.model_monitoring.plugins.modules"


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


class Collector(Server):
    """A collector that exports to a Tempo. Its endpoints are in ``parameters``, as the module takes them."""

    def __init__(
        self,
        folder: Path,
        exporter: dict | str,
        memory_limiter: dict | None = None,
        batch: bool = True,
        tls: dict | None = None,
        reader: dict | None = None,
        metrics_exporters: dict | None = None,
        exporter_page: bool = True,
    ) -> None:
        """:param exporter: of traces: its address, or more of its configuration. ``tls``: of both receivers. ``reader``: of its own metrics.

        :param metrics_exporters: of a metrics pipeline, beside the page for Prometheus, whose URL is ``page``; None for no such pipeline.
        :param exporter_page: whether that page is in the pipeline.
        """
        grpc, http, metrics, health, shown = (free_port() for _ in range(5))
        self.page = f"http://127.0.0.1:{shown}"
        if metrics_exporters is not None and exporter_page:
            metrics_exporters = {"prometheus": {"endpoint": f"127.0.0.1:{shown}"}, **metrics_exporters}
        scheme = "https" if tls else "http"
        self.parameters = {
            "otlp_grpc_endpoint": f"{scheme}://127.0.0.1:{grpc}",
            "otlp_http_endpoint": f"{scheme}://127.0.0.1:{http}",
            "collector_metrics_endpoint": f"http://127.0.0.1:{metrics}",
        }
        exporter = {"endpoint": exporter} if isinstance(exporter, str) else exporter
        protocols = {name: {"endpoint": f"127.0.0.1:{port}", **({"tls": tls} if tls else {})} for name, port in (("grpc", grpc), ("http", http))}
        prometheus = {"host": "127.0.0.1", "port": metrics, **(reader or {})}
        config = {
            "receivers": {"otlp": {"protocols": protocols}},
            "processors": {
                "memory_limiter": memory_limiter or {"check_interval": "1s", "limit_mib": 400, "spike_limit_mib": 100},
                "batch": {},
            },
            "exporters": {"otlp/tempo": {"tls": {"insecure": True}, **exporter}, **(metrics_exporters or {})},
            "extensions": {"health_check": {"endpoint": f"127.0.0.1:{health}"}},
            "service": {
                "extensions": ["health_check"],
                "pipelines": {
                    "traces": {
                        "receivers": ["otlp"],
                        "processors": ["memory_limiter", *(["batch"] if batch else [])],
                        "exporters": ["otlp/tempo"],
                    },
                    **(
                        {"metrics": {"receivers": ["otlp"], "processors": ["batch"], "exporters": list(metrics_exporters)}}
                        if metrics_exporters
                        else {}
                    ),
                },
                "telemetry": {"metrics": {"readers": [{"pull": {"exporter": {"prometheus": prometheus}}}]}},
            },
        }
        super().__init__("OTELCOL_BINARY", folder, ["--config"], config, f"http://127.0.0.1:{health}")

    def counters(self) -> _probe.Counters:
        body = urllib.request.urlopen(self.parameters["collector_metrics_endpoint"] + "/metrics", timeout=5).read()
        return _probe.parse_counters(body.decode(), _otlp.TRACES)


class PrometheusServer(Server):
    """Prometheus that scrapes every second, and takes remote writes. ``url``: of its API.

    :param scrapes: jobs and the URLs that they scrape. ``labels``: of the targets, by job; by default a namespace.
    :param rules: of one group. ``web``: its web configuration (TLS, basic authentication).
    """

    def __init__(
        self, folder: Path, scrapes: dict[str, str], labels: dict | None = None, rules: list[dict] | None = None, web: dict | None = None
    ) -> None:
        port = free_port()
        folder.mkdir(parents=True)
        (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "test", "rules": rules or []}]}))
        (folder / "web.yaml").write_text(yaml.safe_dump(web or {}))
        self.url = f"{'https' if web and 'tls_server_config' in web else 'http'}://127.0.0.1:{port}"
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [url.partition("//")[2]], "labels": (labels or {}).get(job, {"namespace": "demo"})}]}
                for job, url in scrapes.items()
            ],
        }
        arguments = [
            f"--web.listen-address=127.0.0.1:{port}",
            f"--web.config.file={folder / 'web.yaml'}",
            "--web.enable-remote-write-receiver",
            f"--storage.tsdb.path={folder / 'data'}",
            "--config.file",
        ]
        super().__init__("PROMETHEUS_BINARY", folder, arguments, config, f"{self.url}/-/ready")

    def _ready(self) -> bool:
        """Also with TLS and authentication: its log says it."""
        return "Server is ready to receive web requests" in self.log()

    def ask(self, promql: str) -> list[dict]:
        """The result of a query, not by the modules' own client."""
        url = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': promql})}"
        return json.load(urllib.request.urlopen(url, timeout=5))["data"]["result"]

    def scraping(self) -> PrometheusServer:
        """Itself, when it has scraped something (or tried to): that takes it some seconds after its start."""
        deadline = time.monotonic() + 60
        while not self.ask("up"):
            assert time.monotonic() < deadline, "Prometheus scrapes nothing"
            time.sleep(0.1)
        return self


class GrafanaServer(Server):
    """Grafana with a database of its own. ``url``: of its API; ``password``: of its user admin."""

    def __init__(self, folder: Path) -> None:
        binary = os.environ.get("GRAFANA_BINARY")
        if not binary:
            pytest.fail("GRAFANA_BINARY is not set: build the lab (make lab-build) and name its program", pytrace=False)
        port = free_port()
        self.url, self.password = f"http://127.0.0.1:{port}", secrets.token_urlsafe(12)
        folder.mkdir(parents=True)
        (folder / "grafana.ini").write_text(
            f"[paths]\ndata = {folder}\nlogs = {folder}\nplugins = {folder}/plugins\nprovisioning = {folder}/provisioning\n"
            f"[server]\nhttp_addr = 127.0.0.1\nhttp_port = {port}\n[security]\nadmin_password = {self.password}\n"
            "[analytics]\nreporting_enabled = false\ncheck_for_updates = false\n[auth.anonymous]\nenabled = false\n"
        )
        # The lab keeps the files that Grafana reads beside its program.
        home = Path(binary).parents[1] / "files"
        self._command = [binary, "server", "-homepath", str(home), "-config", str(folder / "grafana.ini")]
        self._folder, self._ready_url = folder, f"{self.url}/api/health"
        self.start()

    def call(self, method: str, path: str, body: dict | None = None) -> dict:
        """A request of the administrator's."""
        pair = base64.b64encode(f"admin:{self.password}".encode()).decode()
        request = urllib.request.Request(
            self.url + path,
            json.dumps(body).encode() if body is not None else None,
            {"Authorization": f"Basic {pair}", "Content-Type": "application/json"},
            method=method,
        )
        return json.loads(urllib.request.urlopen(request, timeout=30).read())

    def add_source(self, uid: str, kind: str, url: str, **settings) -> None:
        """Add a data source, or change it."""
        body = {"uid": uid, "name": uid, "type": kind, "access": "proxy", "url": url, "jsonData": settings, "isDefault": uid == "prometheus"}
        try:
            self.call("PUT", f"/api/datasources/uid/{uid}", body)
        except urllib.error.HTTPError as error:
            assert error.code == 404, error.read()
            self.call("POST", "/api/datasources", body)

    def add_dashboard(self, model: dict, folder: str = "") -> str:
        """Import a dashboard; returns its UID."""
        return self.call("POST", "/api/dashboards/db", {"dashboard": {**model, "id": None}, "folderUid": folder, "overwrite": True})["uid"]


def issue_certificates(folder: Path) -> None:
    """A CA (``ca.pem``), another CA, and keys and certificates of the first for 127.0.0.1 (``ip``) and the name of a Service (``service``)."""
    now = datetime.datetime.now(datetime.timezone.utc)

    def issue(name: str, issuer: tuple | None, *extensions) -> tuple:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder(
            issuer_name=issuer[0] if issuer else subject, subject_name=subject, public_key=key.public_key(), serial_number=x509.random_serial_number()
        )
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=1))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        made = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return subject, key

    authority = x509.BasicConstraints(ca=True, path_length=None)
    ca = issue("ca", None, authority)
    issue("other-ca", None, authority)
    issue("ip", ca, x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]))
    issue("service", ca, x509.SubjectAlternativeName([x509.DNSName(SERVICE_HOST)]))


class Run:
    """One run of a module: ``result`` as it printed it, ``seconds`` that it took, ``output`` all that it said.

    Without ``cluster`` it sees no kubeconfig.
    """

    def __init__(self, module: str, arguments: dict, check: bool = False, cluster: bool = False) -> None:
        hidden = ("K8S_AUTH_", "OTEL_") if cluster else ("K8S_AUTH_", "OTEL_", "KUBE")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
        begin = time.monotonic()
        process = subprocess.run(
            [sys.executable, "-c", f"import runpy; runpy.run_module('{MODULES}.{module}', run_name='__main__')"],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check, "_ansible_verbosity": 3}}),
            env={**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        self.seconds = time.monotonic() - begin
        self.output = process.stdout + process.stderr
        assert "Traceback" not in self.output, self.output
        self.result = json.loads(process.stdout)
        assert process.returncode == (1 if self.result.get("failed") else 0)
        assert not self.result["changed"] if "changed" in self.result else self.result["failed"]

    @property
    def proofs(self) -> dict:
        """By protocol, of a run that proved everything."""
        assert not self.result.get("failed"), self.result
        return {proof["protocol"]: proof for proof in self.result["proofs"]}

    def lost(self, hop: str, *words: str) -> None:
        """Check that all that was sent was lost at this hop, and that the message, one line, has these words."""
        assert self.result.get("failed"), self.result
        assert {proof["hop"] for proof in self.result["proofs"]} == {self.result["hop"]} == {hop}, self.result
        self.failed(*words)

    def failed(self, *words: str) -> None:
        """Check that it failed with one line that has these words."""
        assert self.result.get("failed"), self.result
        assert "\n" not in self.result["msg"]
        for word in words:
            assert word in self.result["msg"], self.result["msg"]


def play(*arguments: str, **variables) -> subprocess.CompletedProcess:
    """One run of playbooks/verify.yml on this machine, without Grafana where no variable says otherwise."""
    root = Path(__file__).parents[2]
    return subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "playbooks/verify.yml",
            "-e",
            json.dumps({"verify_grafana": False, **variables}),
            *arguments,
        ],
        cwd=root,
        env={**os.environ, "ANSIBLE_SHOW_CUSTOM_STATS": "1", "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
