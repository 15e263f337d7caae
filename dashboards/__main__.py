# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Renders the dashboards to ``roles/grafana/files/dashboards``, or to the folder that is given."""

from __future__ import annotations

import sys
from pathlib import Path

from . import ai_ml_performance, model_quality, parts, stack_health, tempo_trace_explorer

FOLDER = Path(__file__).resolve().parents[1] / "roles" / "grafana" / "files" / "dashboards"
DASHBOARDS = (ai_ml_performance, model_quality, tempo_trace_explorer, stack_health)


def rendered() -> dict[str, str]:
    """The JSON of each dashboard by the name of its file."""
    return {f"{one.uid}.json": parts.render(one) for one in (module.dashboard() for module in DASHBOARDS)}


def main(folder: Path = FOLDER) -> None:
    """Write what has changed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in rendered().items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"dashboards: {path} written")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
