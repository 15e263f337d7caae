# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations


class ModuleDocFragment:
    """What a module needs that speaks with the Kubernetes API."""

    DOCUMENTATION = r"""
options: {}
requirements:
  - python >= 3.10
  - kubernetes >= 28.1.0
"""
