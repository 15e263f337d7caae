# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""Errors of the collection.

Everything that can be foreseen (no API server, no rights, a condition that cannot heal, a time-out) is raised as a
subclass of :class:`ModelMonitoringError`, whose text is one line that names the object and the cure. A module has one
``except ModelMonitoringError`` around its logic and hands the text to ``fail_json``: users see no traceback for
foreseeable trouble, and whatever else escapes is a defect of ours and shall look like one.
"""

from __future__ import annotations


class ModelMonitoringError(Exception):
    """Base of all foreseeable errors; ``str(error)`` is one line for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
