# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What is said on a machine that cannot carry the lab, and which addresses a checkout gets."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from lab import host
from lab.control_plane import LabError
from lab.namespace import Namespace


@pytest.fixture
def machine(monkeypatch):
    """A Linux machine of root's that has everything; a test takes away."""

    def machine(platform="linux", user=0, without=()):
        monkeypatch.setattr("sys.platform", platform)
        monkeypatch.setattr("os.geteuid", lambda: user)
        monkeypatch.setattr("shutil.which", lambda program, path=None: None if program in without else program)

    return machine


def test_nothing_is_missing(machine):
    machine()
    host.check()
    host.prepare(lambda line: pytest.fail(line))


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ({"platform": "darwin"}, "the lab needs Linux; or use docker with kind"),
        ({"user": 1000}, "the lab needs root, for its network namespace and containers; or use docker with kind"),
        (
            {"without": ("runc", "containerd")},
            "missing on this machine: containerd, runc. Cure on Debian: apt-get install containerd runc; or use docker with kind",
        ),
        ({"without": ("/usr/lib/cni/bridge",)}, "missing on this machine: containernetworking-plugins. Cure"),
    ],
)
def test_a_machine_that_cannot(machine, there, words):
    machine(**there)
    with pytest.raises(LabError, match="docker with kind") as caught:
        host.check()
    assert str(caught.value).startswith(words)


def test_missing_packages_are_not_installed_where_that_cannot_be(machine):
    machine(without=("runc", "apt-get"))
    with pytest.raises(LabError, match="Cure on Debian: apt-get install runc"):
        host.prepare(lambda line: pytest.fail(line))


def test_addresses_follow_from_the_folder():
    one, again, other = (Namespace(Path("/checkout") / name) for name in ("one", "one", "other"))
    assert (one.name, one.address) == (again.name, again.address)
    assert one.name != other.name
    assert ipaddress.ip_network(f"{one.host_address}/30", strict=False) == ipaddress.ip_network(f"{one.address}/30", strict=False)
    assert ipaddress.ip_address(one.address) in ipaddress.ip_network("10.192.0.0/16")
    assert len(one.name) <= 15, "Linux allows no longer names of links"


def test_a_checkout_below_a_folder_that_the_node_hides(tmp_path, monkeypatch):
    monkeypatch.setattr("lab.namespace.HIDDEN", (str(tmp_path),))
    with pytest.raises(LabError, match="Cure: move the checkout"):
        Namespace(tmp_path / "state").create()
