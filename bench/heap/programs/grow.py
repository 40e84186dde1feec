# SPDX-License-Identifier: Apache-2.0
"""A Python program whose heap grows by 64 MiB when it is told to.

"ready VERSION", a line on its input, "grown", the end of its input.
"""

from __future__ import annotations

import platform
import sys

SIZE = 400  # of an object's content; up to 512 bytes come from pymalloc's arenas
BEFORE = 1 << 20
GROWTH = 64 << 20


def objects(total: int) -> list[bytes]:
    """Make objects that add up to about this many bytes, each with a content of its own."""
    return [index.to_bytes(8, "little") * (SIZE // 8) for index in range(total // SIZE)]


def check(everything: list[bytes]) -> None:
    """Exit with status 1 if an object is not what it was."""
    for index, content in enumerate(everything):
        if content[:8] != index.to_bytes(8, "little") or content[:8] != content[-8:]:
            sys.exit("memory changed")


def main() -> None:
    """Do as the module's text says."""
    old = objects(BEFORE)
    print("ready", platform.python_version(), flush=True)
    if not sys.stdin.readline():
        sys.exit(1)
    grown = objects(GROWTH)
    check(old)
    check(grown)
    print("grown", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
