# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Writes injector.go, which puts Grafana's services together and which Grafana does not ship.

Run by the lab's builder in a copy of this folder. Wire generates it of the declarations in Grafana's package `server`, with more beside it
that would not compile elsewhere; what is needed of it becomes part of our own package `main`.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

PACKAGE = "github.com/grafana/grafana/pkg/server"
WANTED = ("Initialize", "InitializeForCLI")


def generate() -> str:
    """What Wire generates. It can only be told a prefix of the file's name; one with a path leads out of the module cache."""
    package = subprocess.run(["go", "list", "-f", "{{.Dir}}", PACKAGE], check=True, capture_output=True, text=True).stdout.strip()
    prefix = f"{os.path.relpath(Path.cwd(), package)}/"
    environment = {**os.environ, "CGO_ENABLED": "0"}  # types are the same without C, and sooner known
    subprocess.run(["go", "tool", "wire", "gen", "-tags", "oss", "-output_file_prefix", prefix, PACKAGE], check=True, env=environment)
    generated = Path("wire_gen.go")
    text = generated.read_text()
    generated.unlink()
    return text


def names(paths: list[str]) -> dict[str, str]:
    """The packages' names, which need not be the last part of their paths."""
    listing = subprocess.run(["go", "list", "-f", "{{.ImportPath}} {{.Name}}", *paths], check=True, capture_output=True, text=True)
    return dict(line.split() for line in listing.stdout.splitlines())


def cut(text: str) -> str:
    """The wanted functions as a file of package main, with the imports that they use."""
    functions = [re.search(rf"^func {name}\(.*?^}}\n", text, re.MULTILINE | re.DOTALL) for name in WANTED]
    body = "\n".join(function.group() for function in functions if function)
    if not all(functions):
        raise SystemExit(f"Wire has not generated {' and '.join(WANTED)} of {PACKAGE}")
    imports = re.findall(r'^(\t(?:(\w+) )?"(.+)")$', text, re.MULTILINE)
    known = names([path for _line, alias, path in imports if not alias])
    used = [line for line, alias, path in imports if re.search(rf"\b{alias or known[path]}\.", body)]
    return "\n".join(["package main", "", "import (", f'\t. "{PACKAGE}"', *used, ")", "", body])


if __name__ == "__main__":
    Path("injector.go").write_text(cut(generate()))
