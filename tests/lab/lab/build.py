# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Builds the lab's programs into a per-user cache.

Every program has module and build caches of its own, which are dropped when it is built: a shared cache for all of them
would grow to tens of gigabytes. Only the standard library, the same for all, is compiled once and linked into each.
While one program compiles, the modules of the next are downloaded.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from lab.programs import Program

LAST_LINES = 15


class BuildError(Exception):
    """A program could not be built; the message is for people."""


def cache_folder() -> Path:
    """Where built programs are kept: $XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "private_ai.model_monitoring" / "lab"


class Builder:
    """Builds programs that the cache does not hold yet."""

    def __init__(self, cache: Path | None = None, say: Callable[[str], None] = lambda line: print(line, flush=True)) -> None:
        self.cache = cache or cache_folder()
        self.say = say

    @cached_property
    def go_version(self) -> str:
        try:
            return subprocess.run(["go", "env", "GOVERSION"], check=True, capture_output=True, text=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            raise BuildError("no Go on PATH. Cure: install Go 1.26.8 or newer; or use docker with kind, which needs no build") from None

    def entry(self, program: Program) -> Path:
        return self.cache / program.key(self.go_version)

    def binary(self, program: Program, name: str) -> Path:
        """Path of a built binary; BuildError names the command that builds it."""
        path = self.entry(program) / "bin" / name
        if not path.exists():
            raise BuildError(f"{name} is not built yet. Cure: python -m lab build {program.name}")
        return path

    def definitions(self, programs: Iterable[Program]) -> list[Path]:
        """Files of the programs' CustomResourceDefinitions; BuildError when one has none of that name."""
        found: list[Path] = []
        for program in programs:
            for pattern in program.crds:
                files = sorted((self.entry(program) / "files").rglob(pattern))
                if not files:
                    raise BuildError(f"{program.name}: no kept file is named {pattern}")
                found += files
        return found

    def build(self, programs: Sequence[Program]) -> None:
        """Builds what is missing, one program after the other; another build on the same cache is waited for."""
        if self._missing(programs):
            with self._lock():
                missing = self._missing(programs)
                if missing:
                    self._build(missing)
        self.say(f"lab: all {len(programs)} programs are built")

    def _missing(self, programs: Sequence[Program]) -> list[Program]:
        return [program for program in programs if not self.entry(program).exists()]

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self.cache.mkdir(parents=True, exist_ok=True)
        with (self.cache / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say("lab: another build is under way; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _build(self, missing: Sequence[Program]) -> None:
        work = self.cache / "work"
        _remove(work)  # what an interrupted build left
        (work / "std" / "build").mkdir(parents=True)
        started = time.monotonic()
        try:
            if len(missing) > 1:
                self._standard_library(work)
            with ThreadPoolExecutor(max_workers=1) as downloads:
                ahead = downloads.submit(self._download, missing[0], work)
                for index, program in enumerate(missing):
                    begun = time.monotonic()
                    ahead.result()
                    if index + 1 < len(missing):
                        ahead = downloads.submit(self._download, missing[index + 1], work)
                    self.say(f"lab: {index + 1} of {len(missing)} {program.name} {program.version} ...")
                    self._compile(program, work)
                    now = time.monotonic()
                    self.say(f"lab: {index + 1} of {len(missing)} {program.name} built in {now - begun:.0f} s, {now - started:.0f} s in all")
        finally:
            _remove(work)

    def _standard_library(self, work: Path) -> None:
        self._run("the standard library", ["go", "build", "-trimpath", "std"], work, self._environment(work / "std"))

    def _download(self, program: Program, work: Path) -> None:
        """Downloads just the modules that the program's packages need, not the whole module graph."""
        shutil.copytree(work / "std" / "build", work / program.name / "build", copy_function=os.link)
        if not program.packages:
            return
        command = ["go", "list", "-mod=readonly", f"-tags={program.tags}", "-deps", "-f", "{{.ImportPath}}", *program.packages.values()]
        self._run(program.name, command, program.source, self._environment(work / program.name, program.cgo))

    def _compile(self, program: Program, work: Path) -> None:
        area = work / program.name
        environment = self._environment(area, program.cgo)
        result = area / "result"
        (result / "bin").mkdir(parents=True)
        source = self._prepared(program, area, environment)
        ldflags = f"-s -w {program.ldflags}{' -linkmode external -extldflags -static' if program.cgo else ''}"
        build = ["go", "build", "-mod=readonly", "-trimpath", f"-tags={program.tags}", f"-ldflags={ldflags}"]
        # One command for all: packages they share are compiled once. Go names a binary after its package's folder.
        bulk = [path for name, path in program.packages.items() if path.rsplit("/", 1)[-1] == name]
        if bulk:
            self._run(program.name, [*build, "-o", f"{result / 'bin'}/", *bulk], source, environment)
        for name, path in program.packages.items():
            if path not in bulk:
                self._run(program.name, [*build, "-o", str(result / "bin" / name), path], source, environment)
        self._keep(program, result, environment)
        entry = self.entry(program)
        result.rename(entry)  # whole or not at all
        _remove(area)

    def _prepared(self, program: Program, area: Path, environment: dict[str, str]) -> Path:
        """The folder to build in: the program's own, or a copy of it to which its script has added what it generates."""
        if not program.prepare.exists():
            return program.source
        source = area / "source"
        shutil.copytree(program.source, source)
        self._run(program.name, [sys.executable, program.prepare.name], source, environment)
        return source

    def _keep(self, program: Program, result: Path, environment: dict[str, str]) -> None:
        if not program.keep:
            return
        listing = self._run(program.name, ["go", "mod", "download", "-json", f"{program.module}@{program.version}"], program.source, environment)
        folder = Path(json.loads(listing)["Dir"])
        for pattern in program.keep:
            files = [path for path in folder.glob(pattern if not pattern.endswith("**") else f"{pattern}/*") if path.is_file()]
            if not files:
                raise BuildError(f"{program.name}: module {program.module}@{program.version} has no file {pattern}")
            for path in files:
                target = result / "files" / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)

    def _environment(self, area: Path, cgo: bool = False) -> dict[str, str]:
        return {
            **os.environ,
            "CGO_ENABLED": str(int(cgo)),
            # No debug data, which the linker would drop anyway, and few garbage collections: together a third less CPU.
            "GOFLAGS": "-buildvcs=false -gcflags=all=-dwarf=false",
            "GOGC": "800",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
            "GOMODCACHE": str(area / "mod"),
            "GOCACHE": str(area / "build"),
        }

    @staticmethod
    def _run(what: str, command: list[str], folder: Path, environment: dict[str, str]) -> str:
        done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            last = "\n".join((done.stderr or done.stdout).splitlines()[-LAST_LINES:])
            raise BuildError(f"{what} failed: {' '.join(command)} (in {folder}) ended with {done.returncode}:\n{last}")
        return done.stdout


def binaries(programs: Mapping[str, Program], builder: Builder) -> Callable[[str], str]:
    """A function that gives the path of a built binary by its name; it raises BuildError for one that is not there."""
    owners = {name: program for program in programs.values() for name in program.packages}

    def binary(name: str) -> str:
        if name not in owners:
            raise BuildError(f"no program has a binary {name}")
        return str(builder.binary(owners[name], name))

    return binary


def _remove(path: Path) -> None:
    """Removes a tree of Go's, whose module cache is read-only."""
    if not path.exists():
        return
    for folder, _folders, _files in os.walk(path):
        os.chmod(folder, 0o755)
    shutil.rmtree(path)
