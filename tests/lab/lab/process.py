# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Processes that outlive the command that started them, and are found again by pid and start time."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from pathlib import Path


def start_time(pid: int) -> str | None:
    """The kernel's start time of a process (clock ticks since boot), None when there is no such process or only its zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


class Process:
    """A named background process with a pid file and a log under `state`."""

    def __init__(self, state: Path, name: str) -> None:
        self.name = name
        self.log = state / "log" / f"{name}.log"
        self._file = state / "pid" / name

    def start(self, command: list[str]) -> None:
        for folder in (self.log.parent, self._file.parent):
            folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)  # noqa: S603
        self._file.write_text(f"{child.pid} {start_time(child.pid)}\n")

    def pid(self) -> int | None:
        """The process's id while it runs; a pid that another process has got since does not count."""
        try:
            pid, started = self._file.read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if start_time(int(pid)) == started else None

    def stop(self, grace: float = 10) -> None:
        """Ends the process: SIGTERM, and SIGKILL after `grace` seconds."""
        pid = self.pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                try:
                    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 10)):
                        signal.pidfd_send_signal(handle, number)
                        if select.select([handle], [], [], patience)[0]:
                            break
                finally:
                    os.close(handle)
        self._file.unlink(missing_ok=True)

    def last_lines(self, count: int = 5) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        except OSError:
            return ""
