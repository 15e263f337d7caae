# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Evaluates expressions with a role's variables, as Ansible does: a JSON object in, a JSON object out, line by line.

A process of its own, because Ansible's loader of plugins replaces what the tests have imported of the collection.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template


def main(role: Path, collections: str) -> None:
    init_plugin_loader([collections])
    loader = DataLoader()
    variables = {"role_path": str(role), "ansible_search_path": [str(role)]}
    for name in ("defaults", "vars"):
        variables |= loader.load_from_file(str(role / name / "main.yml"), trusted_as_template=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            value = Templar(loader, variables=variables | asked["given"]).template(trust_as_template("{{ " + asked["expression"] + " }}"))
            answer = {"value": value}
        except Exception as error:  # whatever it is, the test shall see it
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
