# SPDX-License-Identifier: Apache-2.0
"""Decides where the memory of pods goes, without touching the world."""
