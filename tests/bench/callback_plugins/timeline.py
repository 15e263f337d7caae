# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""What the benchmark sees of a play: one JSON line when a task starts and one when its result is back."""

from __future__ import annotations

DOCUMENTATION = r"""
name: timeline
type: stdout
short_description: Start and end of each task as JSON lines
description: Time is the system's monotonic clock, the same in every process.
"""

import json
import time

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "timeline"

    def _tell(self, event, **more):
        print(json.dumps({"at": time.monotonic(), "event": event, **more}), flush=True)

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._tell("start")

    def v2_runner_on_ok(self, result):
        self._tell("end")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._tell("failed", why=str(result._result.get("msg")))
