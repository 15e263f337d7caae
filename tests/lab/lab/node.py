# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""First process of the lab's node: `python -m lab.node <node.json>`.

It runs in network, mount and process namespaces of the lab's own. So the folders where containerd, CNI and kubelet keep state at
fixed paths are the node's own too, whatever they mount is gone with them, and the end of this process is the end of every
process of the lab, pods included.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HIDDEN = ("/run", "/var/lib", "/var/log")
RESTART_AFTER = 1  # seconds


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def main() -> None:
    node = json.loads(Path(sys.argv[1]).read_text())
    mount("--make-rprivate", "/")
    for folder in HIDDEN:
        mount("-t", "tmpfs", "-o", "mode=755", "lab", folder)
    for folder, kept in node["folders"].items():
        for path in (folder, kept):
            Path(path).mkdir(parents=True, exist_ok=True)
        mount("--bind", kept, folder)
    mount("-t", "proc", "proc", "/proc")
    logs = Path(node["logs"])
    commands: dict[str, list[str]] = node["commands"]
    names: dict[int, str] = {}
    due = dict.fromkeys(commands, 0.0)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # the kernel ends the rest
    while True:
        now = time.monotonic()
        for name in [name for name, when in due.items() if when <= now]:
            del due[name]
            with (logs / f"{name}.log").open("ab") as log:
                names[subprocess.Popen(commands[name], stdin=subprocess.DEVNULL, stdout=log, stderr=log).pid] = name
        # Orphans of containerd's come here as well: all are reaped, only ours are started again.
        try:
            pid, status = os.waitpid(-1, os.WNOHANG if due else 0)
        except ChildProcessError:
            pid = 0
        if pid == 0:
            time.sleep(0.1)
        elif pid in names:
            name = names.pop(pid)
            print(f"{name} ended with status {os.waitstatus_to_exitcode(status)}, starting it again", flush=True)
            due[name] = time.monotonic() + RESTART_AFTER


if __name__ == "__main__":
    main()
