# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The lab's own promises: `down` leaves nothing, a killed lab comes up again, and two checkouts do not disturb each other.

The lab of this test is a second one, beside the one of this checkout if that is up.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab.build import Builder
from lab.cluster import Cluster
from lab.control_plane import LabError
from lab.namespace import Namespace, command_of
from lab.process import start_time
from lab.programs import ROOT, load


def machine() -> dict[str, set[str]]:
    """What processes with namespaces of their own, mounts, network and cgroups this machine has."""
    namespaces = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            namespaces |= {f"{process.name} {os.readlink(process / 'ns' / kind)}" for kind in ("mnt", "net", "pid")}
    mine = {os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "pid")}
    return {
        "processes": {line for line in namespaces if line.split()[1] not in mine},
        "mounts": {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
        "links": {line.split()[1] for line in output("ip", "-o", "link").splitlines()},
        "routes": set(output("ip", "route", "show", "table", "all").splitlines()),
        "network namespaces": set(output("ip", "netns", "list").splitlines()),
        "iptables": {line for line in output("iptables-save").splitlines() if not line.startswith("#")},
        "cgroups": {folder for folder, _folders, _files in os.walk("/sys/fs/cgroup")},
    }


def output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def lab_of(checkout: Path) -> Cluster:
    return Cluster(checkout / ".lab" / "full", load(), Builder(say=lambda line: None), print)


@pytest.fixture
def cluster(tmp_path):
    """The lab of another checkout."""
    cluster = lab_of(tmp_path / "checkout")
    yield cluster
    cluster.down()


def kubectl(cluster: Cluster, *words: str) -> str:
    binary = Builder().binary(load()["kubernetes"], "kubectl")
    return output(str(binary), f"--kubeconfig={cluster.kubeconfig}", "--request-timeout=5s", *words)


def node_uid(cluster: Cluster) -> str:
    return kubectl(cluster, "get", "node", "lab", "-o=jsonpath={.metadata.uid}")


def pids(cluster: Cluster) -> list[int]:
    """All processes of a lab: those in the process namespace of its node."""
    first = cluster._namespace.process.pid()
    inside = os.readlink(f"/proc/{first}/ns/pid_for_children")
    found = [first]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(process / "ns" / "pid") == inside:
                found.append(int(process.name))
    return found


def everything(cluster: Cluster) -> list[str]:
    """Objects with their resource versions, but those that controllers write by themselves."""
    kinds = "namespaces,secrets,configmaps,operatorgroups,clusterroles,customresourcedefinitions"
    return kubectl(
        cluster, "get", kinds, "-A", "-o=jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.resourceVersion}{'\\n'}{end}"
    ).splitlines()


def check_mode(cluster: Cluster) -> str:
    """What `site.yml --check --diff` prints."""
    root = ROOT.parent.parent
    credentials = dict(line.split("=", 1) for line in cluster.credentials.read_text().splitlines())
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "site.yml", "-i", "inventories/lab", "--check", "--diff"],
        cwd=root,
        env={**os.environ, **credentials, "KUBECONFIG": str(cluster.kubeconfig), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.mark.parametrize("alive", [True, False], ids=["running", "killed"])
def test_what_is_left_of_a_lab_whose_folder_was_removed(tmp_path, alive):
    state = tmp_path / "checkout" / ".lab" / "full"
    lab = Namespace(state)

    def remains() -> set[str]:
        return {line for found in machine().values() for line in found if lab.name in line}

    state.mkdir(parents=True)
    lab.create()
    lab.start({"sleeper": ["sleep", "600"]}, {})
    deadline = time.monotonic() + 10
    while not any(command_of(pid)[:1] == ["sleep"] for pid in lab._pids()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first = lab.process.pid()
    if not alive:
        lab.process.stop(grace=0)
    shutil.rmtree(tmp_path / "checkout")
    assert remains()

    # Another checkout of the same slot takes nothing away from one that runs.
    other = Namespace(tmp_path / "other" / ".lab" / "full")
    other.name = lab.name
    if alive:
        other.remove()
        assert start_time(first)
        assert remains()

    Namespace(state).remove()
    assert start_time(first) is None
    assert remains() == set()


def test_a_second_lab_that_is_killed_and_stopped(cluster, tmp_path):
    here = lab_of(ROOT.parent.parent)
    ours = node_uid(here) if here.running() else None
    before = machine()
    cluster.up()
    first = node_uid(cluster)
    assert first != ours
    assert "already" not in cluster.up()  # up is up: nothing is done

    # A third one whose slot is taken by chance refuses, and takes nothing away.
    third = lab_of(tmp_path / "third")
    third._namespace.name = cluster._namespace.name
    with pytest.raises(LabError, match=f"network {cluster._namespace.name} is there already and not of this lab. Cure:"):
        third.up()
    third.down()
    assert node_uid(cluster) == first

    # A program that is killed is started again.
    etcd = next(pid for pid in pids(cluster) if Path(f"/proc/{pid}/comm").read_text() == "etcd\n")
    os.kill(etcd, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(subprocess.CalledProcessError):
            if node_uid(cluster) == first and etcd not in pids(cluster):
                break
        assert time.monotonic() < deadline
        time.sleep(0.5)

    # After the end of all of it, up makes a new one.
    for pid in reversed(pids(cluster)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while cluster.running():  # the kernel takes a moment
        assert time.monotonic() < deadline
        time.sleep(0.05)
    cluster.up()
    assert node_uid(cluster) not in (first, ours)

    # Nothing is on it yet: the place to see what check mode says of an empty cluster.
    before_check = everything(cluster)
    said = check_mode(cluster)
    for target in ("Namespace tempo-operator", "Subscription tempo-operator/tempo-operator", "TempoStack private-ai-demo/tempo"):
        assert f"+++ after: {target}\n" in said
    assert "changed=0" not in said
    assert everything(cluster) == before_check

    cluster.down()
    assert not cluster.state.exists()
    after = machine()
    assert {what: after[what] - before[what] for what in before} == {what: set() for what in before}
    if ours:
        assert node_uid(here) == ours
