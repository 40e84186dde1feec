# SPDX-License-Identifier: Apache-2.0
"""Names of the objects that a test makes at an API server that others use too."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_DIGITS = 6


def of_test(path: Path, name: str, *, longest: int = 40) -> str:
    """Return a name that no other test has, a DNS label.

    Two long names may begin and end alike, and what has one of them takes its time to go.

    Args:
        path: The file of the test.
        name: What pytest calls it, with its parameters.
        longest: How many characters it may have.
    """
    whole = f"{path.stem}-{name}".replace("test_", "")
    label = re.sub("[^a-z0-9]+", "-", whole.lower()).strip("-")
    if len(label) <= longest:
        return label
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_DIGITS]
    return f"{label[: longest - _DIGITS - 1].strip('-')}-{digest}"
