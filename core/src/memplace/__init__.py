# SPDX-License-Identifier: Apache-2.0
"""Decides where the memory of pods goes, without touching the world."""

# The version of all that is released together; RELEASE.md says how it is raised.
__version__ = "0.1.0"
