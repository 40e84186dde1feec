# SPDX-License-Identifier: Apache-2.0
"""A real cluster with memory tiers on one machine."""
