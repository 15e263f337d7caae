# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The lab's control-plane profile: idempotent, survives being killed, leaves nothing. Needs the lab's programs built."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from lab.build import Builder
from lab.control_plane import ControlPlane
from lab.programs import load


@pytest.fixture()
def control_plane(tmp_path):
    control_plane = ControlPlane(tmp_path / "state", load(), Builder(say=lambda line: None))
    yield control_plane
    control_plane.down()


def kubectl(control_plane, *words: str) -> str:
    command = [Builder().binary(load()["kubernetes"], "kubectl"), f"--kubeconfig={control_plane.kubeconfig}", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def processes_below(folder: Path) -> list[str]:
    """Command lines of the processes that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_text()
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def test_up_down(control_plane):
    control_plane.up()
    assert "subscriptions.operators.coreos.com" in kubectl(control_plane, "get", "crd", "-o=name")
    pids = (control_plane.etcd.pid(), control_plane.api_server.pid())
    started = time.monotonic()
    control_plane.up()
    assert (control_plane.etcd.pid(), control_plane.api_server.pid()) == pids
    assert time.monotonic() - started < 2
    assert processes_below(control_plane.state)
    control_plane.down()
    assert processes_below(control_plane.state) == []
    assert not control_plane.state.exists()
    control_plane.down()


def test_up_after_everything_was_killed(control_plane):
    control_plane.up()
    for process in (control_plane.etcd, control_plane.api_server):
        os.kill(process.pid(), signal.SIGKILL)
    while processes_below(control_plane.state):
        os.sched_yield()
    assert not control_plane.running()
    control_plane.up()
    assert "default" in kubectl(control_plane, "get", "namespaces", "-o=name")


def test_two_side_by_side(control_plane, tmp_path):
    other = ControlPlane(tmp_path / "other", load(), Builder(say=lambda line: None))
    try:
        control_plane.up()
        other.up()
        kubectl(control_plane, "create", "namespace", "only-here")
        assert "only-here" not in kubectl(other, "get", "namespaces", "-o=name")
    finally:
        other.down()


def test_secrets_are_for_the_owner_alone(control_plane):
    control_plane.up()
    assert control_plane.state.stat().st_mode & 0o077 == 0
