# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Roles as Ansible sees them, without a play: their variables, with those of an inventory over them, templated by Ansible itself."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import typing as t
from pathlib import Path

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[2]


class Role:
    """A role of this collection."""

    def __init__(self, name: str) -> None:
        self._folder = ROOT / "roles" / name
        self._loader = DataLoader()
        self._loader.set_basedir(str(self._folder))
        self._variables: dict[str, t.Any] = {}
        for part in ("defaults", "vars"):
            self._variables |= self._loader.load_from_file(str(self._folder / part / "main.yml"), trusted_as_template=True)

    def value(self, variable: str, **inventory: t.Any) -> t.Any:
        """What a variable comes to."""
        return json.loads(json.dumps(self._templar(inventory).template(self._variables[variable])))  # without Ansible's own types

    def text(self, name: str, **inventory: t.Any) -> str:
        """What a template comes to."""
        templar = self._templar(inventory).copy_with_new_env(searchpath=[str(self._folder / "templates")])
        return str(templar.template(trust_as_template((self._folder / "templates" / name).read_text())))

    def manifests(self, **inventory: t.Any) -> list[dict]:
        """The objects that the role applies, in its order."""
        texts = [self.text(name, **inventory) for name in self.value(f"__{self._folder.name}_templates", **inventory)]
        return [document for text in texts for document in yaml.safe_load_all(text) if document]

    def checks(self, **inventory: t.Any) -> list[str]:
        """What the role says of these variables before it touches anything: its assertions on variables alone that fail."""
        tasks = self._loader.load_from_file(str(self._folder / "tasks" / "check.yml"), trusted_as_template=True)
        rows = next(task["loop"] for task in tasks if "loop" in task and "ansible.builtin.assert" in task)
        templar = self._templar(inventory)
        return [str(templar.template(row["say"])).strip() for row in rows if not templar.evaluate_conditional(row["that"])]

    def applies(self, part: str, task: str, **inventory: t.Any) -> bool:
        """Whether a task of a file of tasks is run: raises what Ansible would say of its condition."""
        tasks = self._loader.load_from_file(str(self._folder / "tasks" / part), trusted_as_template=True)
        (found,) = [item for item in _flat(tasks) if item["name"] == task]
        return self._templar(inventory).evaluate_conditional(found["when"])

    def _templar(self, inventory: dict[str, t.Any]) -> Templar:
        return Templar(self._loader, self._variables | trusted(inventory))


@contextlib.contextmanager
def evaluating(role: str, **always: t.Any) -> t.Iterator[t.Callable[..., t.Any]]:
    """A function that gives the value of an expression with a role's variables; those given win, ``always`` and with each expression.

    For expressions that use the collection's own plugins, which :class:`Role` does not load: see evaluate.py.
    """
    command = [sys.executable, Path(__file__).with_name("evaluate.py"), ROOT / "roles" / role, ROOT / ".ansible" / "collections"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        asked, answers = t.cast("t.IO[str]", process.stdin), t.cast("t.IO[str]", process.stdout)

        def evaluate(expression: str, **given: t.Any) -> t.Any:
            asked.write(json.dumps({"expression": expression, "given": {**always, **given}}) + "\n")
            asked.flush()
            answer = json.loads(answers.readline())
            assert "error" not in answer, answer["error"]
            return answer["value"]

        yield evaluate
        asked.close()


def _flat(tasks: list[dict]) -> t.Iterator[dict]:
    for task in tasks:
        yield task
        yield from _flat(task.get("block", []))


def trusted(value: t.Any) -> t.Any:
    """A value as if it were from an inventory, where templates are templates."""
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [trusted(item) for item in value]
    return trust_as_template(value) if isinstance(value, str) else value
