# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What the lab takes from the machine it runs on."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable

from lab.control_plane import LabError, run

CNI_PLUGINS = "/usr/lib/cni"
#: Program or file, and the Debian package that has it.
NEEDED = {
    "containerd": "containerd", "runc": "runc", f"{CNI_PLUGINS}/bridge": "containernetworking-plugins", "iptables": "iptables",
    "conntrack": "conntrack", "ip": "iproute2", "nsenter": "util-linux", "mount": "mount",
    # for programs with C code
    "gcc": "gcc", "gencat": "libc6-dev",
    # for images
    "catatonit": "catatonit", "/bin/busybox": "busybox-static",
}  # fmt: skip
OTHER_WAY = "or use docker with kind, which needs none of it"


def missing_packages() -> list[str]:
    """Debian packages that are needed and not installed."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    return sorted({package for program, package in NEEDED.items() if shutil.which(program, path=path) is None})


def check() -> None:
    """LabError when this machine cannot carry the lab; the message says what is missing and what else can be done."""
    if sys.platform != "linux":
        raise LabError(f"the lab needs Linux; {OTHER_WAY}")
    if os.geteuid() != 0:
        raise LabError(f"the lab needs root, for its network namespace and containers; {OTHER_WAY}")
    missing = missing_packages()
    if missing:
        raise LabError(f"missing on this machine: {', '.join(missing)}. Cure on Debian: apt-get install {' '.join(missing)}; {OTHER_WAY}")


def prepare(say: Callable[[str], None]) -> None:
    """Installs what is missing, where that can be done with apt-get; LabError as `check` otherwise."""
    missing = missing_packages()
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"lab: installing Debian packages {' '.join(missing)}")
        run(["apt-get", "update", "--quiet"])
        run(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing])
    check()
