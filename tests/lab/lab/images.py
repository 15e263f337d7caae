# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Container images of the lab's programs: one layer each, written as blobs that the registry serves as they are.

`crane registry serve --disk` keeps blobs in the same way as an OCI image layout does (`sha256/<digest>`). So images are written
there once, at build time, and all that a new registry must be told is their manifests.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import tarfile
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from lab.build import Builder, binaries
from lab.programs import Program

MANIFEST, CONFIG, LAYER = (f"application/vnd.oci.image.{kind}" for kind in ("manifest.v1+json", "config.v1+json", "layer.v1.tar+gzip"))
USER = 65532
ACCOUNTS = {
    "etc/passwd": f"root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/home/nonroot:/sbin/nologin\n",
    "etc/group": f"root:x:0:\nnonroot:x:{USER}:\n",
}
PAUSE = "registry.k8s.io/pause:3.10"
OLM = "quay.io/operator-framework/olm:v0.38.0"
OPM = "quay.io/operator-framework/opm:v1.56.0"
COLLECTOR = "ghcr.io/open-telemetry/opentelemetry-collector-releases/opentelemetry-collector"
GRAFANA_OPERATOR = "ghcr.io/grafana/grafana-operator:v5.18.0"
GRAFANA_HOME = "/usr/share/grafana"


@dataclass(frozen=True)
class Kept:
    """The files that were kept of a program's module."""

    program: str


Source = str | Path | bytes | Kept


@dataclass(frozen=True)
class Image:
    """One image: `files` maps paths in it to files, folders or contents; programs of the lab are named by their binary."""

    reference: str  # as the cluster names it
    entrypoint: tuple[str, ...] = ()
    files: Mapping[str, Source] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


def of_program(reference: str, binary: str, *arguments: str, path: str | None = None) -> Image:
    """An image that runs one of the lab's programs."""
    path = path or f"/{binary}"
    return Image(reference, (path, *arguments), {path: binary})


#: All but catalog and bundles, which lab.olm makes. The references are those that the operators ask for by themselves.
IMAGES = (
    Image(PAUSE, ("/pause", "-P"), {"/pause": Path("/usr/bin/catatonit")}),
    of_program("registry.k8s.io/coredns/coredns:v1.15.0", "coredns"),
    of_program("quay.io/minio/minio:RELEASE.2026-02-12T20-18-48Z", "minio"),
    Image(
        OLM,
        # OLM's unpack job copies cpb out of this image with cp.
        files={f"/bin/{name}": name for name in ("olm", "catalog", "package-server", "copy-content", "cpb")} | {"/bin/cp": Path("/bin/busybox")},
    ),
    of_program(OPM, "opm", path="/bin/opm"),
    of_program("ghcr.io/grafana/tempo-operator/tempo-operator:v0.21.0", "tempo-operator", path="/manager"),
    # The operator wants 2.10.5, which is not to be had as a Go module; 2.9.0 takes the configuration that it writes.
    of_program("docker.io/grafana/tempo:2.10.5", "tempo"),
    of_program("docker.io/grafana/tempo-query:2.10.5", "tempo-query"),
    of_program("ghcr.io/open-telemetry/opentelemetry-operator/opentelemetry-operator:0.140.0", "opentelemetry-operator", path="/manager"),
    # The operator's default, and the distribution that has upstream all components that the collection's configurations name.
    *(of_program(f"{COLLECTOR}{distribution}:0.158.0", "otelcol") for distribution in ("", "-contrib")),
    of_program(GRAFANA_OPERATOR, "grafana-operator", path="/manager"),
    of_program("quay.io/prometheus-operator/prometheus-operator:v0.85.0", "prometheus-operator", path="/bin/operator"),
    of_program(
        "quay.io/prometheus-operator/prometheus-config-reloader:v0.85.0", "prometheus-config-reloader", path="/bin/prometheus-config-reloader"
    ),
    of_program("quay.io/prometheus/prometheus:v3.10.0", "prometheus", path="/bin/prometheus"),
    of_program("quay.io/prometheus/alertmanager:v0.28.1", "alertmanager", path="/bin/alertmanager"),
    of_program("quay.io/prometheus/pushgateway:v1.11.1", "pushgateway", path="/bin/pushgateway"),
    of_program("docker.io/kserve/kserve-controller:v0.15.2", "kserve-controller", path="/manager"),
    of_program("ghcr.io/llm-d/llm-d-inference-sim:v0.10.2", "llm-d-inference-sim", path="/app/llm-d-inference-sim"),
    of_program("lab.internal/load-generator:v1.47.0", "load-generator"),
    of_program("lab.internal/gpu-exporter:v1.47.0", "gpu-exporter"),
    # OpenShift's image with its command line client: here it has kubectl and a shell.
    Image(
        "image-registry.openshift-image-registry.svc:5000/openshift/cli:latest",
        files={"/bin/kubectl": "kubectl", "/bin/sh": Path("/bin/busybox")},
    ),
    # The operator's default version; what answers is the version that can be built.
    Image(
        "docker.io/grafana/grafana:11.3.0",
        (f"{GRAFANA_HOME}/bin/grafana", "server", f"-homepath={GRAFANA_HOME}"),
        # A shell, because there is one in Grafana's own image too.
        {f"{GRAFANA_HOME}/bin/grafana": "grafana", GRAFANA_HOME: Kept("grafana"), "/bin/sh": Path("/bin/busybox")},
    ),
)


class Images:
    """Writes images into the cache, and tells a registry of them."""

    def __init__(self, builder: Builder, programs: dict[str, Program]) -> None:
        self.blobs = builder.cache / "images"
        self._builder = builder
        self._programs = programs
        self._binary = binaries(programs, builder)

    def build(self, images: Iterable[Image]) -> None:
        """Writes the images that the cache does not hold yet."""
        missing = [image for image in images if not self._manifest(image).exists()]
        if missing:
            self._builder.say(f"lab: {len(missing)} container images ...")
            (self.blobs / "sha256").mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor() as pool:  # compression releases the interpreter
                list(pool.map(self._write, missing))

    def push(self, registry: str, images: Iterable[Image]) -> None:
        """Puts the manifests of all images into the registry at host:port, which serves the folder `blobs`."""
        for image in images:
            repository, tag = image.reference.partition("/")[2].rsplit(":", 1)
            request = urllib.request.Request(
                f"http://{registry}/v2/{repository}/manifests/{tag}",
                self._manifest(image).read_bytes(),
                {"Content-Type": MANIFEST},
                method="PUT",
            )
            urllib.request.urlopen(request, timeout=30).close()

    def _source(self, source: Source) -> Path | bytes:
        if isinstance(source, Kept):
            return self._builder.entry(self._programs[source.program]) / "files"
        return Path(self._binary(source)) if isinstance(source, str) else source

    def _manifest(self, image: Image) -> Path:
        """Where the image's manifest is; the name follows from all that goes into the image."""
        digest = hashlib.sha256(Path(__file__).read_bytes() + repr((image.reference, image.entrypoint, image.labels)).encode())
        for path, source in image.files.items():
            source = self._source(source)
            # A built program's path names its content; a file of this machine is known by size and time.
            state = "" if isinstance(source, bytes) or source.is_dir() else f"{source.stat().st_size} {source.stat().st_mtime_ns}"
            digest.update(f"{path} {source!r} {state}\n".encode())
        return self.blobs / "manifests" / f"{digest.hexdigest()}.json"

    def _write(self, image: Image) -> None:
        layer, unpacked = self._layer(image)
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        config = {
            "architecture": machine,
            "os": "linux",
            "config": {"Entrypoint": list(image.entrypoint) or None, "User": str(USER), "Labels": image.labels, "Env": ["PATH=/bin:/"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{unpacked}"]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **self._blob(json.dumps(config).encode())},
            "layers": [layer],
        }
        path = self._manifest(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, json.dumps(manifest).encode())  # last: its presence means that all of the image is there

    def _layer(self, image: Image) -> tuple[dict[str, object], str]:
        """Writes the layer's blob; returns its descriptor and the digest of what is in it."""
        part = self.blobs / f"part-{os.getpid()}-{hashlib.sha256(image.reference.encode()).hexdigest()}"
        with part.open("wb") as file:
            packed = Digesting(file)
            with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as zipped:
                unpacked = Digesting(zipped)
                with tarfile.open(fileobj=cast("IO[bytes]", unpacked), mode="w|", format=tarfile.PAX_FORMAT) as archive:
                    for member, content in self._members(image):
                        archive.addfile(member, content)
        part.rename(self.blobs / "sha256" / packed.digest.hexdigest())
        return {"mediaType": LAYER, "digest": f"sha256:{packed.digest.hexdigest()}", "size": packed.size}, unpacked.digest.hexdigest()

    def _members(self, image: Image) -> Iterator[tuple[tarfile.TarInfo, io.BufferedIOBase | None]]:
        tmp = tarfile.TarInfo("tmp")
        tmp.type, tmp.mode = tarfile.DIRTYPE, 0o1777
        yield tmp, None
        for path, source in [*((path, text.encode()) for path, text in ACCOUNTS.items()), *image.files.items()]:
            source = self._source(source)
            member = tarfile.TarInfo(path.lstrip("/"))
            if isinstance(source, bytes):
                member.size, member.mode = len(source), 0o644
                yield member, io.BytesIO(source)
            elif source.is_dir():
                for file in sorted(path for path in source.rglob("*") if path.is_file()):
                    inner = tarfile.TarInfo(f"{member.name}/{file.relative_to(source)}")
                    inner.size, inner.mode = file.stat().st_size, 0o644
                    with file.open("rb") as content:
                        yield inner, content
            else:
                member.size, member.mode = source.stat().st_size, 0o755
                with source.open("rb") as content:
                    yield member, content

    def _blob(self, content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        write(self.blobs / "sha256" / digest, content)
        return {"digest": f"sha256:{digest}", "size": len(content)}


class Digesting:
    """A file to write to that knows the digest and size of what was written."""

    def __init__(self, file: io.BufferedIOBase | gzip.GzipFile) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def write(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.rename(path)
