# SPDX-License-Identifier: Apache-2.0
"""How often a fault is tried: less in ``make test`` than in ``make test-long``."""

from __future__ import annotations

import os


def tries(short: int, long: int) -> int:
    return long if os.environ.get("MEMPLACE_LONG") else short
