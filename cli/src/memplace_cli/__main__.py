# SPDX-License-Identifier: Apache-2.0
"""``kubectl memplace``, ``memplace`` and ``python -m memplace_cli``."""

from __future__ import annotations

import sys

from memplace_cli.app import main


def entry() -> None:
    """Run the program."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    entry()
