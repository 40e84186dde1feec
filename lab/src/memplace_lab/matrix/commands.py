# SPDX-License-Identifier: Apache-2.0
"""Commands that run tests of the kernel for hours."""

from __future__ import annotations

from memplace_lab.base.commands import Command, Commands, Parser
from memplace_lab.matrix import full, neighbours


def _with_parts(parser: Parser) -> None:
    names = ", ".join(part.name for part in full.PARTS)
    parser.add_argument("part", nargs="*", help=f"of {names} (default: all)")


def _with_bases(parser: Parser) -> None:
    bases = ["6.12", "7.3"]
    parser.add_argument("base", nargs="*", default=bases, help=f"default: {' '.join(bases)}")


COMMANDS: Commands = {
    "matrix": Command(
        "run the kernel's tests on every base and in every debug flavour (hours)",
        lambda options: full.run(options.part),
        _with_parts,
        full.__doc__,
    ),
    "neighbours": Command(
        "run mm's own tests, numactl's and LTP's, with the series and without",
        lambda options: neighbours.run(options.base),
        _with_bases,
        neighbours.__doc__,
    ),
}
