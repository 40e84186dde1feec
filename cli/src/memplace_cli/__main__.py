# SPDX-License-Identifier: Apache-2.0
"""``kubectl memplace``, ``memplace`` and ``python -m memplace_cli``."""

from __future__ import annotations

import sys

from memplace_cli import completing


def entry() -> None:
    """Run the program."""
    if sys.argv[1:2] == ["__complete"]:
        sys.exit(completing.main(sys.argv[2:]))
    # What is typed is completed without what this imports.
    from memplace_cli.app import main

    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    entry()
