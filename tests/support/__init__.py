# SPDX-License-Identifier: Apache-2.0
"""What several suites share. It imports no suite, and no suite another."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
