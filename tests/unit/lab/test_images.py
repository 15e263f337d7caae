# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Images as blobs: whole, the same every time, and as the registry wants them."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import re
import tarfile
import threading

import pytest
from lab.build import Builder
from lab.images import IMAGES, MANIFEST, Image, Images, Kept
from lab.programs import ROOT, load


@pytest.fixture
def said():
    return []


@pytest.fixture
def images(tmp_path, said):
    return Images(Builder(tmp_path / "cache", said.append), {})


@pytest.fixture
def image(tmp_path):
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("content")
    return Image("registry.example.com/group/name:v1", ("/program", "-x"), {"/program": program, "/configs": folder, "/etc/hello": b"hi"}, {"a": "b"})


def blob(images, descriptor):
    content = (images.blobs / "sha256" / descriptor["digest"].removeprefix("sha256:")).read_bytes()
    assert hashlib.sha256(content).hexdigest() == descriptor["digest"].removeprefix("sha256:")
    assert len(content) == descriptor["size"]
    return content


def test_an_image(images, image):
    images.build([image])
    manifest = json.loads(images._manifest(image).read_text())
    config = json.loads(blob(images, manifest["config"]))
    assert config["config"]["Entrypoint"] == ["/program", "-x"]
    assert config["config"]["User"] == "65532"
    assert config["config"]["Labels"] == {"a": "b"}
    layer = gzip.decompress(blob(images, manifest["layers"][0]))
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        modes = {member.name: oct(member.mode) for member in archive}
        assert modes == {
            "tmp": "0o1777", "etc/passwd": "0o644", "etc/group": "0o644", "program": "0o755", "configs/deep/file": "0o644", "etc/hello": "0o644",
        }  # fmt: skip
        assert archive.extractfile("program").read() == b"\x7fELF"
        assert archive.extractfile("configs/deep/file").read() == b"content"
        assert {member.mtime for member in archive} == {0}
    assert not list(images.blobs.glob("part-*"))


def test_is_written_once(images, image, said):
    images.build([image])
    images.build([image])
    assert said == ["lab: 1 container images ..."]


def test_is_written_anew_when_a_file_changes(images, image):
    images.build([image])
    before = images._manifest(image)
    image.files["/program"].write_bytes(b"\x7fELF2")
    assert images._manifest(image) != before
    assert not images._manifest(image).exists()


def test_an_interrupted_one_is_written_again(images, image, monkeypatch):
    monkeypatch.setattr("lab.images.write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        images.build([image])
    monkeypatch.undo()
    assert not images._manifest(image).exists()
    images.build([image])
    assert images._manifest(image).exists()


def test_push_tells_a_registry_the_manifests(images, image):
    images.build([image])
    put = []

    class Registry(http.server.BaseHTTPRequestHandler):
        def do_PUT(self):
            put.append((self.path, self.headers["Content-Type"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        images.push(f"127.0.0.1:{server.server_port}", [image])
    assert put == [("/v2/group/name/manifests/v1", MANIFEST, images._manifest(image).read_bytes())]


def test_files_kept_of_a_module(tmp_path, said):
    builder, program = Builder(tmp_path / "cache", said.append), load()["kserve"]
    home = builder.entry(program) / "files" / "conf"
    home.mkdir(parents=True)
    (home / "defaults.ini").write_text("[server]")
    images = Images(builder, {"kserve": program})
    image = Image("registry.example.com/web:v1", files={"/usr/share/web": Kept("kserve")})
    images.build([image])
    manifest = json.loads(images._manifest(image).read_text())
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob(images, manifest["layers"][0])))) as archive:
        assert archive.extractfile("usr/share/web/conf/defaults.ini").read() == b"[server]"


def test_every_program_of_an_image_is_one_of_the_labs():
    binaries = {name for program in load().values() for name in program.packages}
    named = {source for image in IMAGES for source in image.files.values() if isinstance(source, str)}
    assert named <= binaries
    kept = {source.program for image in IMAGES for source in image.files.values() if isinstance(source, Kept)}
    assert kept <= {program.name for program in load().values() if program.keep}
    assert len({image.reference for image in IMAGES}) == len(IMAGES)


@pytest.mark.parametrize("path", sorted((ROOT / "manifests").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_image_of_a_manifest_is_one_of_the_labs(path):
    named = set(re.findall(r"\bimage: (\S+)", path.read_text()))
    assert named <= {image.reference for image in IMAGES}
