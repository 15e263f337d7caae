# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Profile `control-plane`: etcd and the API server on loopback, with the CRDs of what the full lab runs; for tests of modules."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

from lab.build import Builder, binaries
from lab.process import Process
from lab.programs import Program

PROGRAMS = ("etcd", "kubernetes")
SERVICES = "10.96.0.0/16"
READY_WITHIN = 60  # seconds


class LabError(Exception):
    """The lab could not be started; the message is for people."""


class ControlPlane:
    """etcd and kube-apiserver; everything they keep is below `state`."""

    def __init__(self, state: Path, programs: dict[str, Program], builder: Builder) -> None:
        self.state = state
        self.kubeconfig = state / "kubeconfig"
        self._programs = programs
        self._builder = builder
        self._binary = binaries(programs, builder)
        self.etcd = Process(state, "etcd")
        self.api_server = Process(state, "kube-apiserver")

    def up(self) -> str:
        """Starts what does not run; returns a line that says what there is now."""
        self._builder.build([program for program in self._programs.values() if program.name in PROGRAMS or program.crds])
        started = time.monotonic()
        if self.running():
            return f"control-plane is up, KUBECONFIG={self.kubeconfig}"
        self.down()
        self.state.mkdir(parents=True, mode=0o700)
        address = "127.0.0.1"
        api_port, client_port, peer_port = free_ports(3)
        certificates(self.state, self._programs["kubernetes"].version, self._binary("kubeadm"), address, api_port, "super-admin")
        self.etcd.start([self._binary("etcd"), *etcd_flags(self.state, client_port, peer_port)])
        command = [
            self._binary("kube-apiserver"),
            *api_server_flags(self.state, address, api_port, client_port),
            # The API server refuses to announce a loopback address as the endpoint of Service kubernetes; nobody needs it here.
            "--endpoint-reconciler-type=none",
            # No controller manager runs in this profile, so nothing makes the default service accounts.
            "--disable-admission-plugins=ServiceAccount",
        ]
        # Tests stop and start the API server by this command.
        (self.state / "kube-apiserver.json").write_text(json.dumps(command))
        self.api_server.start(command)
        until_ready(f"https://{address}:{api_port}", self.state / "pki" / "ca.crt", (self.etcd, self.api_server))
        define(self._kubectl, self._builder.definitions(self._programs.values()))
        (self.state / "super-admin.conf").rename(self.kubeconfig)  # only now: its presence means readiness
        return f"control-plane is up after {time.monotonic() - started:.1f} s, KUBECONFIG={self.kubeconfig}"

    def down(self) -> None:
        """Stops both programs and removes what they kept."""
        self.api_server.stop()
        self.etcd.stop()
        shutil.rmtree(self.state, ignore_errors=True)

    def running(self) -> bool:
        return self.kubeconfig.exists() and self.etcd.pid() is not None and self.api_server.pid() is not None

    def _kubectl(self, *words: str) -> None:
        run([self._binary("kubectl"), f"--kubeconfig={self.state / 'super-admin.conf'}", *words])


def until_ready(api_server: str, ca: Path, processes: Iterable[Process]) -> None:
    """Asks /readyz until it says ok. LabError when a process has ended or it takes too long."""
    context = ssl.create_default_context(cafile=ca)
    deadline = time.monotonic() + READY_WITHIN
    while True:
        try:
            with urllib.request.urlopen(f"{api_server}/readyz", context=context, timeout=5):
                return
        except OSError as error:  # URLError among them
            for process in processes:
                if process.pid() is None:
                    raise LabError(f"{process.name} ended at once; its last lines:\n{process.last_lines()}") from None
            if time.monotonic() > deadline:
                raise LabError(f"the API server is not ready after {READY_WITHIN} s: {error}") from None
            time.sleep(0.05)


def certificates(state: Path, version: str, kubeadm: str, address: str, api_port: int, kubeconfigs: str) -> None:
    """Makes <state>/pki and kubeconfigs (`super-admin` or `all`), as kubeadm makes them for a control plane at the address."""
    config = state / "kubeadm.json"
    init = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        # kubeadm takes no loopback address here. For kubeconfigs of the control plane it takes this one, for others controlPlaneEndpoint.
        "localAPIEndpoint": {"advertiseAddress": "192.0.2.1" if address == "127.0.0.1" else address, "bindPort": api_port},
        "nodeRegistration": {"name": "lab", "criSocket": "unix:///run/containerd/containerd.sock"},
    }
    cluster = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "kubernetesVersion": version,
        "controlPlaneEndpoint": f"{address}:{api_port}",
        "apiServer": {"certSANs": [address]},
        "certificatesDir": str(state / "pki"),
        "encryptionAlgorithm": "ECDSA-P256",
        "networking": {"serviceSubnet": SERVICES},
    }
    config.write_text(f"{json.dumps(init)}\n---\n{json.dumps(cluster)}")
    run([kubeadm, "init", "phase", "certs", "all", f"--config={config}"])
    run([kubeadm, "init", "phase", "kubeconfig", kubeconfigs, f"--config={config}", f"--kubeconfig-dir={state}"])


def etcd_flags(state: Path, client_port: int, peer_port: int) -> list[str]:
    """Flags of an etcd on loopback with the certificates of `certificates`."""
    pki = state / "pki" / "etcd"
    client, peer = (f"https://127.0.0.1:{port}" for port in (client_port, peer_port))
    return [
        "--name=lab", f"--data-dir={state / 'etcd'}", "--unsafe-no-fsync",
        f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=lab={peer}",
        "--client-cert-auth", f"--trusted-ca-file={pki}/ca.crt", f"--cert-file={pki}/server.crt", f"--key-file={pki}/server.key",
        "--peer-client-cert-auth", f"--peer-trusted-ca-file={pki}/ca.crt", f"--peer-cert-file={pki}/peer.crt", f"--peer-key-file={pki}/peer.key",
    ]  # fmt: skip


def api_server_flags(state: Path, address: str, api_port: int, etcd_port: int) -> list[str]:
    """Flags of a kube-apiserver at the address, with the certificates of `certificates`."""
    pki = state / "pki"
    return [
        f"--bind-address={address}", f"--advertise-address={address}", f"--secure-port={api_port}",
        f"--etcd-servers=https://127.0.0.1:{etcd_port}", f"--etcd-cafile={pki}/etcd/ca.crt",
        f"--etcd-certfile={pki}/apiserver-etcd-client.crt", f"--etcd-keyfile={pki}/apiserver-etcd-client.key",
        f"--client-ca-file={pki}/ca.crt", f"--tls-cert-file={pki}/apiserver.crt", f"--tls-private-key-file={pki}/apiserver.key",
        f"--service-account-key-file={pki}/sa.pub", f"--service-account-signing-key-file={pki}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-cluster-ip-range={SERVICES}", "--authorization-mode=Node,RBAC",
    ]  # fmt: skip


def define(kubectl: Callable[..., None], files: Iterable[Path]) -> None:
    """Applies files of CustomResourceDefinitions and waits until all of them are served."""
    kubectl("apply", "--server-side", "--validate=false", *(f"--filename={file}" for file in files))
    deadline = time.monotonic() + READY_WITHIN
    while True:
        try:
            kubectl("wait", "--for=condition=Established", "customresourcedefinitions", "--all", f"--timeout={READY_WITHIN}s")
            return
        except LabError as error:
            # One that was taken a moment ago has no conditions yet, which kubectl takes for an error.
            if "accessor error" not in str(error) or time.monotonic() > deadline:
                raise


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def run(command: list[str], check: bool = True, given: str = "") -> str:
    """What a command prints, with `given` as its input; LabError with what it said when it fails, unless `check` is off."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise LabError(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout
