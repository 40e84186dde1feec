# SPDX-License-Identifier: Apache-2.0
"""The command that runs the programs of bench/, each with its own options."""

from __future__ import annotations

import argparse
import subprocess
import sys

from memplace_lab.base import store
from memplace_lab.base.commands import Command, Commands, Options, Parser

PROGRAMS = {
    "kernel": "kernel",
    "heap": "heap",
    "agent": "agent",
    "births": "agent/births.py",
    "first-pages": "first_pages",
    "operator": "operator_process",
}


def _bench(options: Options) -> int:
    program = store.REPO / "bench" / PROGRAMS[options.program]
    return subprocess.run([sys.executable, str(program), *options.rest], check=False).returncode


def _arguments(parser: Parser) -> None:
    parser.add_argument("program", choices=sorted(PROGRAMS), help="what to measure")
    rest = "its own options; --help lists them"
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help=rest)


COMMANDS: Commands = {"bench": Command("run a measurement of bench/", _bench, _arguments)}
