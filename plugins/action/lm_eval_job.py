# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Shows how far evaluations are while the module of this name runs them: a module's own output is seen only at its end."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

#: Seconds between two lines.
INTERVAL = 30

display = Display()


class ActionModule(ActionBase):
    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        arguments = {"interval": INTERVAL, **self._task.args}
        while True:
            outcome = self._execute_module(module_args=arguments, task_vars=task_vars)
            if outcome.get("failed") or outcome.get("finished", True):
                return {**result, **outcome}
            display.display(outcome["progress"])
            arguments["memory"] = outcome["memory"]
