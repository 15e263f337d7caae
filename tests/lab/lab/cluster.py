# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Profile `full`: a single-node Kubernetes with what there is before model monitoring: OLM, MinIO, KServe, monitoring."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import host, kserve
from lab.build import Builder, binaries
from lab.control_plane import SERVICES, LabError, api_server_flags, certificates, define, etcd_flags, run, until_ready
from lab.images import IMAGES, PAUSE, Images
from lab.namespace import Namespace
from lab.olm import CATALOG, OLM
from lab.programs import ROOT, Program

PODS = "10.244.0.0/24"
DNS = "10.96.0.10"
API_PORT, REGISTRY_PORT = 6443, 5000
VOLUMES = 64
READY_WITHIN = 180  # seconds
MANIFESTS = ROOT / "manifests"
PLATFORM = MANIFESTS / "platform"  # has kinds of custom resources
MODELS = MANIFESTS / "models"  # goes through KServe's webhook
CONTAINERD = """\
version = 2

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# Root without CAP_SYS_RESOURCE cannot lower its oom_score_adj.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{state}/cni"

[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{state}/registries"
"""


class Cluster:
    """The node and what runs on it; everything it keeps is below `state`."""

    def __init__(self, state: Path, programs: dict[str, Program], builder: Builder, say: Callable[[str], None]) -> None:
        self.state = state
        self.kubeconfig = state / "kubeconfig"
        self.credentials = state / "minio.env"
        self._programs = programs
        self._builder = builder
        self._binary = binaries(programs, builder)
        self._namespace = Namespace(state)
        self._images = Images(builder, programs)
        self._olm = OLM(builder, programs)
        self._say = say

    def up(self) -> str:
        """Starts what does not run; returns a line that says what there is now."""
        host.check()
        self.build()
        if self.running():
            return f"full is up, KUBECONFIG={self.kubeconfig}"
        self._started = time.monotonic()
        self.down()
        self.state.mkdir(parents=True, mode=0o700)
        address = self._namespace.address
        certificates(self.state, self._programs["kubernetes"].version, self._binary("kubeadm"), address, API_PORT, "all")
        self._configure()
        self._namespace.create()
        # On disk, but under the paths that programs expect: those of sockets may not be long.
        kept = {"/var/lib/kubelet": "kubelet", "/var/lib/containerd": "containerd", "/var/log/pods": "pods"}
        self._namespace.start(self._commands(), {folder: str(self.state / name) for folder, name in kept.items()})
        until_ready(f"https://{address}:{API_PORT}", self.state / "pki" / "ca.crt", [self._namespace.process])
        self._done("API server ready")
        self._images.push(f"{address}:{REGISTRY_PORT}", (*IMAGES, *self._olm.images()))
        self._done("images in the registry")
        with ThreadPoolExecutor() as pool:
            applied = pool.submit(self._objects)
            self._wait("create", "node/lab")
            self._wait("condition=Ready", "node/lab")
            self._done("node ready")
            applied.result()
        self._done("everything applied")
        self._wait("condition=Available", "deployment/kserve-controller-manager", "kserve")
        self._done("kserve ready")
        self._apply([MODELS])
        self._wait("create", "deployment/packageserver", "olm")  # by OLM
        self._wait("jsonpath={.status.connectionState.lastObservedState}=READY", f"catalogsource/{CATALOG}", "olm")
        self._done("catalog ready")
        for kind, condition in {"deployments": "Available", "alertmanagers,prometheuses": "Available", "inferenceservices": "Ready"}.items():
            self._kubectl("wait", f"--for=condition={condition}", kind, "--all", "--all-namespaces", f"--timeout={READY_WITHIN}s")
            self._done(f"{kind} ready")
        shutil.copy(self.state / "super-admin.conf", self.state / "kubeconfig.new")
        (self.state / "kubeconfig.new").rename(self.kubeconfig)  # only now: its presence means readiness
        seconds = time.monotonic() - self._started
        return f"full is up after {seconds:.0f} s, KUBECONFIG={self.kubeconfig}, MinIO's credentials in {self.credentials}"

    def build(self) -> None:
        """Builds programs, images and catalog that the cache does not hold yet."""
        self._builder.build(list(self._programs.values()))
        self._olm.build()
        self._images.build((*IMAGES, *self._olm.images()))

    def down(self) -> None:
        """Stops everything and removes what it kept."""
        self._namespace.remove()
        shutil.rmtree(self.state, ignore_errors=True)

    def running(self) -> bool:
        return self.kubeconfig.exists() and self._namespace.process.pid() is not None

    def _done(self, what: str) -> None:
        self._say(f"lab: {what}, {time.monotonic() - self._started:.1f} s")

    def _kubectl(self, *words: str, given: str = "") -> None:
        try:
            run([self._binary("kubectl"), f"--kubeconfig={self.state}/super-admin.conf", *words], given=given)
        except LabError as error:
            raise LabError(f"{error}\nlogs of the node's programs: {self.state / 'log'}") from None

    def _wait(self, condition: str, what: str, namespace: str = "default") -> None:
        self._kubectl("wait", f"--for={condition}", what, f"--namespace={namespace}", f"--timeout={READY_WITHIN}s")

    def _objects(self) -> None:
        """Applies everything that the lab runs but models: first what starts slowly and needs few definitions."""
        credentials = {"MINIO_ACCESS_KEY": secrets.token_hex(8), "MINIO_SECRET_KEY": secrets.token_hex(20)}
        self.credentials.touch(mode=0o600)
        self.credentials.write_text("".join(f"{key}={value}\n" for key, value in credentials.items()))
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "minio", "namespace": "model-storage"},
            "stringData": {"MINIO_ROOT_USER": credentials["MINIO_ACCESS_KEY"], "MINIO_ROOT_PASSWORD": credentials["MINIO_SECRET_KEY"]},
        }
        olm = self._programs["olm"]
        define(self._kubectl, self._builder.definitions([olm]))
        self._apply([MANIFESTS, self._olm.manifests()], [secret, *(self._volume(number) for number in range(VOLUMES))])
        define(self._kubectl, self._builder.definitions(program for program in self._programs.values() if program is not olm))
        kept = {name: self._builder.entry(self._programs[name]) / "files" for name in ("kserve", "prometheus-operator")}
        roles = [
            kept["kserve"] / "config/rbac/role.yaml",
            kept["prometheus-operator"] / "example/rbac/prometheus-operator/prometheus-operator-cluster-role.yaml",
        ]
        self._apply([PLATFORM, *roles], kserve.objects(kept["kserve"] / "config"))

    def _apply(self, files: Sequence[Path], objects: Sequence[object] = ()) -> None:
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        self._kubectl("apply", "--server-side", *(f"--filename={path}" for path in files), "--filename=-", given=items)

    def _volume(self, number: int) -> dict[str, object]:
        folder = self.state / "volumes" / str(number)
        folder.mkdir(parents=True)
        folder.chmod(0o777)  # nobody changes the owner of a host's folder to a pod's group
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"lab-{number}"},
            "spec": {
                "storageClassName": "lab", "capacity": {"storage": "20Gi"}, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": str(folder), "type": "Directory"},
            },
        }  # fmt: skip

    def _commands(self) -> dict[str, list[str]]:
        """The node's processes by name."""
        pki, address = self.state / "pki", self._namespace.address
        front_proxy = [
            f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt", "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        ]  # fmt: skip
        return {
            "registry": [self._binary("crane"), "registry", "serve", f"--disk={self._images.blobs}", f"--address={address}:{REGISTRY_PORT}"],
            "etcd": [self._binary("etcd"), *etcd_flags(self.state, 2379, 2380)],
            "kube-apiserver": [
                self._binary("kube-apiserver"), *api_server_flags(self.state, address, API_PORT, 2379), *front_proxy,
                "--requestheader-allowed-names=front-proxy-client",
                f"--proxy-client-cert-file={pki}/front-proxy-client.crt", f"--proxy-client-key-file={pki}/front-proxy-client.key",
                f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt", f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
                "--kubelet-preferred-address-types=InternalIP", "--enable-aggregator-routing", "--enable-admission-plugins=NodeRestriction",
            ],
            "kube-controller-manager": [
                self._binary("kube-controller-manager"), *self._kubeconfig_flags("controller-manager"), *front_proxy, "--bind-address=127.0.0.1",
                f"--client-ca-file={pki}/ca.crt", f"--root-ca-file={pki}/ca.crt", f"--service-account-private-key-file={pki}/sa.key",
                f"--cluster-signing-cert-file={pki}/ca.crt", f"--cluster-signing-key-file={pki}/ca.key", "--use-service-account-credentials",
                "--allocate-node-cidrs=false", f"--service-cluster-ip-range={SERVICES}", "--leader-elect=false",
            ],
            "kube-scheduler": [
                self._binary("kube-scheduler"), *self._kubeconfig_flags("scheduler"), "--bind-address=127.0.0.1", "--leader-elect=false",
            ],
            "containerd": ["containerd", f"--config={self.state}/containerd.toml"],
            "kubelet": [
                self._binary("kubelet"), f"--config={self.state}/kubelet.json", f"--kubeconfig={self.state}/kubelet.conf", "--hostname-override=lab",
                f"--node-ip={address}",
            ],
            "kube-proxy": [self._binary("kube-proxy"), f"--config={self.state}/kube-proxy.json", "--hostname-override=lab"],
        }  # fmt: skip

    def _kubeconfig_flags(self, name: str) -> list[str]:
        return [f"--{purpose}kubeconfig={self.state}/{name}.conf" for purpose in ("", "authentication-", "authorization-")]

    def _configure(self) -> None:
        """Writes the configuration files of containerd, CNI, kubelet and kube-proxy."""
        state = self.state
        registry = f"http://{self._namespace.address}:{REGISTRY_PORT}"
        (state / "containerd.toml").write_text(CONTAINERD.format(state=state, pause=PAUSE, plugins=host.CNI_PLUGINS))
        # Whatever registry an image names, it is asked for here.
        mirror = state / "registries" / "_default" / "hosts.toml"
        mirror.parent.mkdir(parents=True)
        mirror.write_text(f'server = "{registry}"\n[host."{registry}"]\ncapabilities = ["pull", "resolve"]\n')
        self._write("cni/10-lab.conflist", {
            "cniVersion": "1.0.0",
            "name": "lab",
            "plugins": [
                {
                    "type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True,
                    "ipam": {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]},
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        })  # fmt: skip
        self._write("kubelet.json", {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"x509": {"clientCAFile": f"{state}/pki/ca.crt"}},
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._namespace.name}",
            "failCgroupV1": False,
            "enforceNodeAllocatable": [],
            "clusterDNS": [DNS],
            "clusterDomain": "cluster.local",
            "resolvConf": "",  # pods know the cluster's names only
            "failSwapOn": False,
            "registryPullQPS": 0,
            "serializeImagePulls": False,
            "syncFrequency": "5s",  # how soon pods see a changed Secret: Prometheus its configuration
            "imageGCHighThresholdPercent": 100,
            "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        })  # fmt: skip
        self._write("kube-proxy.json", {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": f"{state}/super-admin.conf"},
            "clusterCIDR": PODS,
            "mode": "iptables",
            "iptables": {"minSyncPeriod": "200ms"},
            # The tables' sizes belong to the machine, not to a network namespace.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        })  # fmt: skip

    def _write(self, name: str, content: object) -> None:
        path = self.state / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1))
