# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The collection's Grafana dashboards as code, and nothing else: ``python -m dashboards`` renders them into the role grafana.

Each module below has one function ``dashboard()``. What all dashboards have in common (data sources, variables, kinds of panels,
the grid) is in ``parts``, so that a panel here is its title, its question in words and its queries.
"""
