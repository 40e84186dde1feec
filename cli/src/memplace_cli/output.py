# SPDX-License-Identifier: Apache-2.0
"""Print what was found, in the form that was asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import yaml
from rich.console import Console

from memplace_cli.errors import CommandFailed, Exit
from memplace_cli.picture import Picture
from memplace_cli.svg import svg

STDOUT = "-"
# Where nobody says how wide a line may be.
_WIDTH = 120
_T = TypeVar("_T", bound=msgspec.Struct)


def put(found: _T, form: str, show: Callable[[_T, Console], None]) -> None:
    """Print a struct as json or yaml, or by `show` as a table of at most 120 columns."""
    if form == "json":
        text = msgspec.json.format(msgspec.json.encode(found)).decode()
        print(text)
    elif form == "yaml":
        plain = msgspec.to_builtins(found)
        yaml.safe_dump(plain, sys.stdout, sort_keys=False, allow_unicode=True, width=_WIDTH)
    else:
        console = _console()
        with console.capture() as caught:
            show(found, console)
        # Tables fill their last column with blanks.
        print("\n".join(line.rstrip() for line in caught.get().splitlines()))


def drawn(where: str, picture: Picture) -> bool:
    """Draw a picture into a file; nothing if no file is named.

    Returns:
        Whether standard output has it, instead of anything else.

    Raises:
        CommandFailed: The file can't be written.
    """
    if where == STDOUT:
        print(svg(picture), end="")
    elif where:
        try:
            Path(where).write_text(svg(picture), encoding="utf-8")
        except OSError as err:
            said = err.strerror or type(err).__name__
            raise CommandFailed(Exit.WRONG, f"{where} can't be written: {said}") from err
    return where == STDOUT


def _console() -> Console:
    if not sys.stdout.isatty():
        return Console(width=_WIDTH, highlight=False, color_system=None)
    return Console(highlight=False, width=min(os.get_terminal_size().columns or _WIDTH, _WIDTH))


def close_output() -> None:
    """Have nothing written any more, after whoever read it has gone: not even at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
