# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
name: mistyped_variables
short_description: Find variables with a role's prefix that the role does not have
version_added: 0.1.0
author:
  - private_ai.model_monitoring contributors (@private-ai)
description:
  - A role whose variable is mistyped would use its default without a word. This lookup compares the variables that begin with
    the role's name and an underscore with the options in the C(meta/argument_specs.yml) of the role, and returns a sentence for
    each that is not among them.
  - It is for the roles of this collection, which call it with their own C(role_path).
options:
  _terms:
    description:
      - Folder of the role.
    type: list
    elements: path
    required: true
seealso:
  - plugin: ansible.builtin.varnames
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Check that no variable is mistyped
  ansible.builtin.assert:
    that: mistyped | length == 0
    fail_msg: "{{ mistyped | join(' ') }}"
  vars:
    mistyped: "{{ query('private_ai.model_monitoring.mistyped_variables', role_path) }}"
"""

RETURN = r"""
_raw:
  description: One sentence for each variable that the role does not have, with the nearest name that it has.
  type: list
  elements: str
"""

import difflib
import os
import typing as t

import yaml
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase


def mistyped(role: str, known: t.Iterable[str], variables: t.Iterable[str]) -> list[str]:
    """Sentences about the variables that begin with the role's name and are not known."""
    known = sorted(known)
    sentences = []
    for name in sorted(str(name) for name in variables):
        if name.startswith(f"{role}_") and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            cure = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}."
            sentences.append(f"Role {role} has no variable {name}: {cure}")
    return sentences


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        sentences = []
        for path in terms:
            specification = os.path.join(path, "meta", "argument_specs.yml")
            try:
                with open(specification, encoding="utf-8") as file:
                    known = yaml.safe_load(file)["argument_specs"]["main"]["options"]
            except OSError as exc:
                raise AnsibleLookupError(f"mistyped_variables cannot read {specification}: {exc.strerror}") from exc
            sentences += mistyped(os.path.basename(os.path.normpath(path)), known, variables or {})
        return sentences
