# SPDX-License-Identifier: Apache-2.0
"""The type of a command of the lab's program. Each wing lists its commands in ``commands.py``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Parser = argparse.ArgumentParser
Options = argparse.Namespace


def add_nothing(_parser: Parser) -> None:
    """Add no arguments."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        help: One line, for the list of commands.
        run: Does it; returns the exit status, None for 0. Without, it has commands of its own.
        add_arguments: Adds its arguments to its parser.
        description: More than one line, for its own help.
    """

    help: str
    run: Callable[[Options], int | None] | None
    add_arguments: Callable[[Parser], None] = add_nothing
    description: str | None = None


Commands = Mapping[str, Command]


def add_commands(parser: Parser, commands: Commands) -> None:
    """Make a parser take one of these commands; ``options.run`` is then what to call."""
    those = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in commands.items():
        about = command.description or f"{command.help}."
        raw = argparse.RawDescriptionHelpFormatter
        one = those.add_parser(name, help=command.help, description=about, formatter_class=raw)
        command.add_arguments(one)
        if command.run:
            one.set_defaults(run=command.run)
