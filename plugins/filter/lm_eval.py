# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Filters of role lmeval. What they do is documented beside this file."""

from __future__ import annotations

import typing as t

from ansible_collections.private_ai.model_monitoring.plugins.module_utils import _lm_eval_gate, _lm_eval_spec


class FilterModule:
    def filters(self) -> dict[str, t.Any]:
        return {
            "lm_eval_critical": lambda confidence: _lm_eval_gate.Gate(confidence=confidence).critical,
            "lm_eval_evaluations": _lm_eval_spec.evaluations,
            "lm_eval_needs": _lm_eval_spec.needs,
            "lm_eval_problems": _lm_eval_spec.problems,
        }
