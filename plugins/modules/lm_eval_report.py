#!/usr/bin/python
# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Module lm_eval_report: a page about evaluations."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lm_eval_report
short_description: Write a page about evaluations
version_added: 0.1.0
description:
  - Writes what M(private_ai.model_monitoring.lm_eval_results_info) has returned as one HTML page that needs nothing else, with the verdict in
    words, tables and a plot of the scores with their intervals, and the same as JSON.
  - The same results make the same files.
options:
  path:
    description: Folder for the files C(evaluations.html) and C(evaluations.json), where the module runs; it must exist.
    type: path
    required: true
  title:
    description: Title of the page.
    type: str
    default: Evaluations of models
  evaluations:
    description: RV(private_ai.model_monitoring.lm_eval_results_info#module:evaluations).
    type: list
    elements: dict
    required: true
  comparisons:
    description: RV(private_ai.model_monitoring.lm_eval_results_info#module:comparisons).
    type: list
    elements: dict
    default: []
requirements:
  - python >= 3.10
  - matplotlib >= 3.7
attributes:
  check_mode:
    description: Tells whether the files would change, and writes nothing.
    support: full
  diff_mode:
    description: Shows what changed.
    support: none
    details: The page is long; RV(verdict) says what it says.
seealso:
  - module: private_ai.model_monitoring.lm_eval_results_info
author:
  - private_ai.model_monitoring contributors (@private-ai)
"""

EXAMPLES = r"""
- name: Read the results
  private_ai.model_monitoring.lm_eval_results_info:
    namespace: private-ai-demo
    baselines: {mistral-24b-quantized: mistral-24b}
  register: found

- name: Write the page
  private_ai.model_monitoring.lm_eval_report:
    path: /tmp
    evaluations: "{{ found.evaluations }}"
    comparisons: "{{ found.comparisons }}"
"""

RETURN = r"""
files:
  description: The files.
  returned: success
  type: list
  elements: str
  sample: [/tmp/evaluations.html, /tmp/evaluations.json]
verdict:
  description: Whether a model is worse than its baseline, in words.
  returned: success
  type: str
  sample: mistral-24b-quantized is not worse than mistral-24b, in none of 4 comparisons by more than the margin and chance.
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _lm_eval_report
from ansible_collections.private_ai.model_monitoring.plugins.module_utils._errors import ModelMonitoringError


def argument_spec():
    """The module's options."""
    return {
        "path": {"type": "path", "required": True},
        "title": {"type": "str", "default": "Evaluations of models"},
        "evaluations": {"type": "list", "elements": "dict", "required": True},
        "comparisons": {"type": "list", "elements": "dict", "default": []},
    }


def write(path, content, dry):
    """Write a file that is not what it shall be; whether it was not. Raises OSError."""
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == content:
                return False
    except FileNotFoundError:
        pass
    if not dry:
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
    return True


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    params = module.params
    try:
        content = {
            "evaluations.html": _lm_eval_report.page(params["title"], params["evaluations"], params["comparisons"]),
            "evaluations.json": _lm_eval_report.data(params["evaluations"], params["comparisons"]),
        }
        files = {os.path.join(params["path"], name): text for name, text in content.items()}
        if not os.path.isdir(params["path"]):
            raise ModelMonitoringError(f"path: {params['path']} is no folder: create it, or correct the path.")
        changed = [path for path, text in files.items() if write(path, text, module.check_mode)]
    except ModelMonitoringError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"path: {error.filename} cannot be written: {error.strerror}. Correct the path, or the rights on it.")
    module.exit_json(changed=bool(changed), files=list(files), verdict=_lm_eval_report.verdict(params["comparisons"])[1])


if __name__ == "__main__":
    main()
