# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The list of the lab's programs, read from programs.toml."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_BUILT = (".md", "_test.go")


@dataclass(frozen=True)
class Program:
    """One Go module with the binaries that the lab takes from it."""

    name: str
    version: str
    packages: dict[str, str] = field(default_factory=dict)  # name of the binary -> Go package path
    module: str = ""  # empty: the sources are in `source` itself
    tags: str = ""
    ldflags: str = ""
    keep: tuple[str, ...] = ()  # globs of the module's files that the lab needs
    crds: tuple[str, ...] = field(default=(), repr=False)  # globs of kept files; not part of the key
    cgo: bool = field(default=False, repr=False)  # with C code, linked statically

    @property
    def source(self) -> Path:
        return ROOT / "programs" / self.name

    @property
    def prepare(self) -> Path:
        """A script that, where there is one, generates sources; it runs in the copy of `source` that is compiled."""
        return self.source / "prepare.py"

    def key(self, go_version: str) -> str:
        """Name of the cache entry: follows from everything that goes into the build."""
        digest = hashlib.sha256(repr((self, go_version)).encode())
        if self.cgo:
            digest.update(b"cgo")
        for path in sorted(self.source.rglob("*")):
            if path.is_file() and not path.name.endswith(NOT_BUILT):
                digest.update(path.relative_to(self.source).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
        return f"{self.name}-{self.version}-{digest.hexdigest()[:16]}"


def load(path: Path = ROOT / "programs.toml") -> dict[str, Program]:
    """All programs by name, in the order in which they are built."""
    tables = tomllib.loads(path.read_text())
    return {name: Program(name=name, **{**table, **{key: tuple(table.get(key, ())) for key in ("keep", "crds")}}) for name, table in tables.items()}
