# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Command line of the lab: `python -m lab build [program ...]`, `python -m lab path <binary>`."""

from __future__ import annotations

import argparse
import sys

from lab.build import Builder, BuildError
from lab.programs import load


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build the programs that are not in the cache yet")
    build.add_argument("program", nargs="*", help="only these programs")
    path = commands.add_parser("path", help="print where a built binary is")
    path.add_argument("binary")
    arguments = parser.parse_args()
    programs = load()
    builder = Builder()
    try:
        if arguments.command == "build":
            unknown = sorted(set(arguments.program) - set(programs))
            if unknown:
                raise BuildError(f"no program {', '.join(unknown)}; known are {', '.join(programs)}")
            builder.build([programs[name] for name in arguments.program or programs])
        else:
            owners = [program for program in programs.values() if arguments.binary in program.packages]
            if not owners:
                raise BuildError(f"no program has a binary {arguments.binary}")
            print(builder.binary(owners[0], arguments.binary))
    except BuildError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
