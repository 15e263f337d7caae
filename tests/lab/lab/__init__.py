# Copyright: private_ai.model_monitoring contributors
# SPDX-License-Identifier: Apache-2.0
"""The lab: real programs, built from Go modules at pinned versions, for the collection's own tests."""
