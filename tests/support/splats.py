# SPDX-License-Identifier: Apache-2.0
"""What a kernel says on its console that it should not have to say."""

from __future__ import annotations

import re

_SPLAT = re.compile(r"BUG:|WARNING: |Oops:|Kernel panic|possible recursive locking|Call Trace:")


def splats(console: str) -> list[str]:
    """Return the lines by which the kernel complains about itself."""
    return [line for line in console.splitlines() if _SPLAT.search(line)]
