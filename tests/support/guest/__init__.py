# SPDX-License-Identifier: Apache-2.0
"""Tests that run in a virtual machine, and what they work with there."""
