# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What the lab's node has of this machine's kernel: a network namespace with one link, cgroups, and a first process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from lab.control_plane import LabError, run
from lab.node import HIDDEN
from lab.process import Process
from lab.programs import ROOT

CGROUPS = Path("/sys/fs/cgroup")
SLOTS = 1 << 14  # networks of four addresses in 10.192.0.0/16


class Namespace:
    """The node of one checkout: its names and addresses follow from the folder, so that checkouts do not meet."""

    def __init__(self, state: Path) -> None:
        self._state = state
        slot = int.from_bytes(hashlib.sha256(str(state).encode()).digest()[:2]) % SLOTS
        self.name = f"mmlab{slot}"
        self.host_address, self.address = (f"10.192.{slot >> 6}.{(slot & 63) * 4 + last}" for last in (1, 2))
        self.process = Process(state, "node")
        self._config = state / "node.json"  # on the command line of the node's first process
        self._mark = state / "namespace"  # there is something to remove

    def create(self) -> None:
        """Makes network namespace, link and cgroups. Raises LabError when another checkout has them, or cannot be told from one."""
        for path in HIDDEN:
            if self._state.is_relative_to(path):
                raise LabError(f"{self._state} is below {path}, which the lab's node has for itself. Cure: move the checkout")
        if self._exists():
            raise LabError(f"network {self.name} is there already and not of this lab. Cure: stop the other one, or move this checkout")
        self._mark.touch()
        run(["ip", "netns", "add", self.name])
        run(["ip", "link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name])
        run(["ip", "addr", "add", f"{self.host_address}/30", "dev", self.name])
        run(["ip", "link", "set", self.name, "up"])
        for words in (
            "link set lo up",
            f"addr add {self.address}/30 dev eth0",
            "link set eth0 up",
            # The node needs a default route to find its own address; this machine forwards nothing for it.
            f"route add default via {self.host_address}",
        ):
            run(["ip", "-n", self.name, *words.split()])
        for controller in self._controllers():
            folder = controller / self.name
            folder.mkdir(exist_ok=True)
            if controller.name == "cpuset":
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (folder / file).write_text((controller / file).read_text())

    def start(self, commands: dict[str, list[str]], folders: dict[str, str]) -> None:
        """Starts the node's first process, which keeps the commands running. `folders` of the node are kept where the mapping says."""
        logs = self._state / "log"
        logs.mkdir(exist_ok=True)
        self._config.write_text(json.dumps({"logs": str(logs), "folders": folders, "commands": commands}))
        # Not `ip netns exec`: it mounts /sys anew and so hides the cgroups.
        self.process.start([
            "nsenter", f"--net=/run/netns/{self.name}", "unshare", "--mount", "--pid", "--fork", "--kill-child",
            "env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "lab.node", str(self._config),
        ])  # fmt: skip

    def remove(self) -> None:
        """Ends every process of the node and removes what it had in the kernel, even if its folder is gone."""
        self.process.stop(grace=0)
        if not self._mark.exists() and not self._abandoned():
            return
        deadline = time.monotonic() + 10
        while self._pids() and time.monotonic() < deadline:
            time.sleep(0.02)
        run(["ip", "link", "delete", self.name], check=False)  # gone already when an earlier removal was cut off
        run(["ip", "netns", "delete", self.name], check=False)
        for controller in self._controllers():
            _remove_cgroups(controller / self.name)
        self._mark.unlink(missing_ok=True)

    def _exists(self) -> bool:
        return any((folder / self.name).exists() for folder in (Path("/run/netns"), Path("/sys/class/net")))

    def _abandoned(self) -> bool:
        """Whether the network of this name has no process, or the node of this very folder, which is ended then."""
        if not self._exists():
            return False
        pids = self._pids()
        ours = [int(pid) for pid in pids if str(self._config) in command_of(pid)]
        for pid in ours:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(ours) or not pids

    def _pids(self) -> list[str]:
        return run(["ip", "netns", "pids", self.name], check=False).split()

    @staticmethod
    def _controllers() -> list[Path]:
        if (CGROUPS / "cgroup.controllers").exists():
            return [CGROUPS]
        return [path for path in CGROUPS.iterdir() if not path.is_symlink() and (path / "cgroup.procs").exists()]


def command_of(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:  # it has ended meanwhile
        return []


def _remove_cgroups(root: Path) -> None:
    """Removes a cgroup and all below it, deepest first."""
    if not root.exists():
        return
    deadline = time.monotonic() + 10
    for folder, _folders, _files in os.walk(root, topdown=False):
        while True:
            try:
                os.rmdir(folder)
                break
            except OSError:  # busy until the kernel has taken the last process away
                if time.monotonic() > deadline:
                    raise LabError(f"cgroup {folder} has processes still: {(Path(folder) / 'cgroup.procs').read_text().split()}") from None
                for pid in (Path(folder) / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                time.sleep(0.02)
