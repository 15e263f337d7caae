# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The lab: builds real programs and runs them for the collection's own tests."""

from __future__ import annotations

import argparse
import sys

from lab import host
from lab.build import Builder, BuildError, binaries
from lab.cluster import Cluster
from lab.control_plane import ControlPlane, LabError
from lab.programs import ROOT, load

STATE = ROOT.parent.parent / ".lab"


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build what is not in the cache yet")
    build.add_argument("program", nargs="*", help="only these programs")
    commands.add_parser("prepare", help="install what the lab needs of this machine, on Debian as root; else say what is missing")
    path = commands.add_parser("path", help="print where a built binary is")
    path.add_argument("binary")
    programs = load()
    builder = Builder(say=say)
    full = Cluster(STATE / "full", programs, builder, say)
    profiles: dict[str, ControlPlane | Cluster] = {"control-plane": ControlPlane(STATE / "control-plane", programs, builder), "full": full}
    for name, text in (
        ("up", "start what does not run yet"),
        ("status", "say what runs; exit status 3 when nothing does"),
        ("down", "stop what up started and remove its data"),
    ):
        command = commands.add_parser(
            name, help=text, description=f"{text}. Profile control-plane: etcd and API server; full: a node with OLM, MinIO, KServe and monitoring"
        )
        command.add_argument("profile", nargs="?", choices=profiles, help="both if left out" if name != "up" else "full if left out")
    arguments = parser.parse_args()
    try:
        if arguments.command == "build":
            unknown = sorted(set(arguments.program) - set(programs))
            if unknown:
                raise BuildError(f"no program {', '.join(unknown)}; known are {', '.join(programs)}")
            if arguments.program:
                builder.build([programs[name] for name in arguments.program])
            else:
                full.build()
        elif arguments.command == "prepare":
            host.prepare(say)
        elif arguments.command == "path":
            print(binaries(programs, builder)(arguments.binary))
        elif arguments.command == "up":
            say(f"lab: {profiles[arguments.profile or 'full'].up()}")
        else:
            chosen = {arguments.profile: profiles[arguments.profile]} if arguments.profile else profiles
            if arguments.command == "down":
                for profile in chosen.values():
                    profile.down()
            for name, profile in chosen.items():
                say(f"lab: {name} is {f'up, KUBECONFIG={profile.kubeconfig}' if profile.running() else 'down'}")
            return 3 if arguments.command == "status" and not any(profile.running() for profile in chosen.values()) else 0
    except (BuildError, LabError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
