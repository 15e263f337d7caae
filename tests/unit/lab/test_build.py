# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The lab's builder on a Go program of a few lines; needs Go, no network."""

from __future__ import annotations

import os
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from lab import programs
from lab.build import Builder, BuildError
from lab.programs import Program, load


@pytest.fixture()
def hello(tmp_path, monkeypatch, request):
    """A program `hello` that builds, as a Program and the folder of its sources."""
    # Go's runtime takes seconds to compile: once for all tests and runs, while the builder's own caches start empty.
    compiled = str(request.config.cache.mkdir("go-build"))
    environment = Builder._environment
    monkeypatch.setattr(Builder, "_environment", lambda self, *which: {**environment(self, *which), "GOCACHE": compiled})
    source = tmp_path / "lab" / "programs" / "hello"
    source.mkdir(parents=True)
    (source / "go.mod").write_text("module lab/hello\n\ngo 1.24\n")
    (source / "main.go").write_text('package main\n\nvar version = "none"\n\nfunc main() { print(version) }\n')
    monkeypatch.setattr(programs, "ROOT", tmp_path / "lab")
    return Program(name="hello", version="v1.0.0", packages={"hello": "."}, ldflags="-X main.version=1.0.0"), source


def test_builds_once_and_leaves_only_the_result(hello, tmp_path):
    program, source = hello
    said: list[str] = []
    builder = Builder(tmp_path / "cache", said.append)
    builder.build([program])
    assert subprocess.run([builder.binary(program, "hello")], check=True, capture_output=True, text=True).stderr == "1.0.0"
    assert {entry.name for entry in (tmp_path / "cache").iterdir()} == {".lock", builder.entry(program).name}
    assert "1 of 1 hello v1.0.0" in said[0]

    built = builder.binary(program, "hello").stat().st_mtime_ns
    builder.build([program])
    assert builder.binary(program, "hello").stat().st_mtime_ns == built
    assert said[-1] == "lab: all 1 programs are built"

    before = builder.entry(program)
    (source / "main.go").write_text('package main\n\nvar version = "none"\n\nfunc main() { print("changed ", version) }\n')
    assert builder.entry(program) != before


def test_sources_in_folders_count_and_what_is_not_built_does_not(hello):
    program, source = hello
    before = program.key("go1.24")
    (source / "README.md").write_text("How to call it.\n")
    (source / "main_test.go").write_text("package main\n")
    assert program.key("go1.24") == before
    (source / "inner").mkdir()
    (source / "inner" / "main.go").write_text("package main\n")
    inner = program.key("go1.24")
    (source / "inner" / "main.go").write_text("package main\n\nfunc main() {}\n")
    assert len({before, inner, program.key("go1.24")}) == 3


def test_a_failed_build_says_what_failed_and_leaves_nothing(hello, tmp_path):
    program, source = hello
    (source / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    with pytest.raises(BuildError, match=r"(?s)^hello failed: go build .* ended with 1:.*undefined: undefined"):
        Builder(tmp_path / "cache", lambda line: None).build([program])
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_second_build_waits_for_the_first(hello, tmp_path):
    program, _source = hello
    said: list[str] = []
    builder = Builder(tmp_path / "cache", said.append)
    with ThreadPoolExecutor() as pool, Builder(tmp_path / "cache", said.append)._lock():
        second = pool.submit(builder.build, [program])
        while not said:
            os.sched_yield()
        assert said == ["lab: another build is under way; waiting for it"]
        assert not builder.entry(program).exists()
    second.result()
    assert builder.binary(program, "hello").exists()


def test_sources_that_a_script_generates_are_not_left_in_the_programs_folder(hello, tmp_path):
    program, source = hello
    (source / "prepare.py").write_text(
        "from pathlib import Path\nPath('generated.go').write_text('package main\\n\\nfunc init() { print(42) }\\n')\n"
    )
    builder = Builder(tmp_path / "cache", lambda line: None)
    builder.build([program])
    assert subprocess.run([builder.binary(program, "hello")], check=True, capture_output=True, text=True).stderr == "421.0.0"
    assert {path.name for path in source.iterdir()} == {"go.mod", "main.go", "prepare.py"}

    (source / "prepare.py").write_text("raise SystemExit('nothing was generated')")
    with pytest.raises(BuildError, match=r"(?s)^hello failed: .*prepare.py .*ended with 1:\nnothing was generated"):
        builder.build([program])


def test_a_program_with_c_code_is_linked_statically(hello, tmp_path):
    program, source = hello
    (source / "main.go").write_text('package main\n\n// #include <string.h>\nimport "C"\n\nfunc main() { print(C.strlen(C.CString("four"))) }\n')
    with pytest.raises(BuildError):  # without C
        Builder(tmp_path / "cache", lambda line: None).build([program])
    program = replace(program, cgo=True)
    builder = Builder(tmp_path / "cache", lambda line: None)
    builder.build([program])
    binary = builder.binary(program, "hello")
    assert subprocess.run([binary], check=True, capture_output=True, text=True).stderr == "4"
    assert b"/ld-linux" not in binary.read_bytes()


def test_a_binary_that_is_not_built_names_the_cure(hello, tmp_path):
    program, _source = hello
    with pytest.raises(BuildError, match="hello is not built yet. Cure: python -m lab build hello"):
        Builder(tmp_path, lambda line: None).binary(program, "hello")


@pytest.fixture()
def files_only(tmp_path, monkeypatch):
    """A program without packages, of a module that a folder serves."""
    proxy = tmp_path / "proxy" / "example.com" / "crds" / "@v"
    proxy.mkdir(parents=True)
    (proxy / "v1.0.0.info").write_text('{"Version": "v1.0.0"}')
    (proxy / "v1.0.0.mod").write_text("module example.com/crds\n")
    with zipfile.ZipFile(proxy / "v1.0.0.zip", "w") as archive:
        for name in ("go.mod", "config/crd/a.yaml", "config/crd/b.yaml", "config/other.yaml"):
            archive.writestr(f"example.com/crds@v1.0.0/{name}", "module example.com/crds\n" if name == "go.mod" else name)
    monkeypatch.setenv("GOPROXY", f"file://{tmp_path / 'proxy'}")
    monkeypatch.setenv("GOSUMDB", "off")
    source = tmp_path / "lab" / "programs" / "crds"
    source.mkdir(parents=True)
    (source / "go.mod").write_text("module lab/crds\n\ngo 1.24\n\nrequire example.com/crds v1.0.0\n")
    monkeypatch.setattr(programs, "ROOT", tmp_path / "lab")
    return Program(name="crds", version="v1.0.0", module="example.com/crds", keep=("config/crd/*.yaml",), crds=("a.yaml",))


def test_a_program_of_files_only(files_only, tmp_path):
    builder = Builder(tmp_path / "cache", lambda line: None)
    builder.build([files_only])
    files = builder.entry(files_only) / "files"
    assert sorted(str(path.relative_to(files)) for path in files.rglob("*.yaml")) == ["config/crd/a.yaml", "config/crd/b.yaml"]
    (definition,) = builder.definitions([files_only])
    assert definition.read_text() == "config/crd/a.yaml"
    with pytest.raises(BuildError, match=r"^crds: no kept file is named other\*$"):
        builder.definitions([replace(files_only, crds=("other*",))])


def test_files_that_the_module_does_not_have(files_only, tmp_path):
    with pytest.raises(BuildError, match="crds: module example.com/crds@v1.0.0 has no file nowhere/"):
        Builder(tmp_path / "cache", lambda line: None).build([replace(files_only, keep=("nowhere/*",))])


def test_without_go_the_message_says_what_to_install(hello, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="no Go on PATH. Cure: install Go"):
        Builder(tmp_path / "cache", lambda line: None).build([hello[0]])


@pytest.mark.parametrize("program", load().values(), ids=lambda program: program.name)
def test_the_list_of_programs_names_the_versions_of_their_modules(program):
    lines = (program.source / "go.mod").read_text().splitlines()
    if program.module:
        assert any(f"{program.module} {program.version}" in line for line in lines)
    else:
        assert any(line.endswith(program.version) for line in lines)
    assert (program.source / "go.sum").exists()
