# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations


class ModuleDocFragment:
    """How a module reaches endpoints that may be Services of the cluster."""

    DOCUMENTATION = r"""
options:
  via:
    description:
      - How to reach the endpoints.
      - V(direct) connects to the URL's host.
      - V(port_forward) goes through the Kubernetes API to a Ready pod of the Service that the URL's host names.
      - V(auto) uses V(port_forward) for hosts that end in C(.svc) or C(.svc.<cluster domain>), and V(direct) for all others.
    type: str
    choices: [auto, direct, port_forward]
    default: auto
"""
