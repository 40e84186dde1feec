# SPDX-License-Identifier: Apache-2.0
"""The lab's program: ``python3 -m memplace_lab COMMAND``; each wing has its own commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from memplace_lab.base.commands import add_commands
from memplace_lab.base.steps import LabError
from memplace_lab.bench.commands import COMMANDS as BENCH
from memplace_lab.matrix.commands import COMMANDS as MATRIX
from memplace_lab.product.commands import COMMANDS as PRODUCT
from memplace_lab.release.commands import COMMANDS as RELEASE
from memplace_lab.show.commands import COMMANDS as SHOW

COMMANDS = {**SHOW, **PRODUCT, **MATRIX, **BENCH, **RELEASE}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python3 -m memplace_lab",
        description="A real cluster with memory tiers on one machine, and what is built for it.",
    )
    add_commands(parser, COMMANDS)
    options = parser.parse_args(arguments)
    try:
        return options.run(options) or 0
    except LabError as error:
        print(f"\nlab: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
