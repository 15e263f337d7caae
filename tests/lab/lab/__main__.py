# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The lab: builds real programs and runs them for the collection's own tests."""

from __future__ import annotations

import argparse
import sys

from lab.build import Builder, BuildError
from lab.control_plane import ControlPlane, LabError
from lab.programs import ROOT, load

STATE = ROOT.parent.parent / ".lab"


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build the programs that are not in the cache yet")
    build.add_argument("program", nargs="*", help="only these programs")
    path = commands.add_parser("path", help="print where a built binary is")
    path.add_argument("binary")
    commands.add_parser("up", help="start etcd and the API server; nothing happens when they run")
    commands.add_parser("status", help="say what runs; exit status 3 when nothing does")
    commands.add_parser("down", help="stop what up started and remove its data")
    arguments = parser.parse_args()
    programs = load()
    builder = Builder()
    control_plane = ControlPlane(STATE / "control-plane", programs, builder)
    try:
        if arguments.command == "build":
            unknown = sorted(set(arguments.program) - set(programs))
            if unknown:
                raise BuildError(f"no program {', '.join(unknown)}; known are {', '.join(programs)}")
            builder.build([programs[name] for name in arguments.program or programs])
        elif arguments.command == "up":
            print(f"lab: {control_plane.up()}")
        elif arguments.command == "status":
            if not control_plane.running():
                print("lab: control-plane is down")
                return 3
            print(f"lab: control-plane is up, KUBECONFIG={control_plane.kubeconfig}")
        elif arguments.command == "down":
            control_plane.down()
            print("lab: control-plane is down")
        else:
            owners = [program for program in programs.values() if arguments.binary in program.packages]
            if not owners:
                raise BuildError(f"no program has a binary {arguments.binary}")
            print(builder.binary(owners[0], arguments.binary))
    except (BuildError, LabError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
