# SPDX-License-Identifier: Apache-2.0
"""One program with commands: its help lists each, and make calls those that are there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from memplace_lab.__main__ import COMMANDS
from memplace_lab.bench.commands import PROGRAMS

ROOT = Path(__file__).parents[3]
MAKEFILE = (ROOT / "Makefile").read_text()
PROMISED = ("up", "down", "shell", "demo", "build", "images", "matrix", "bench", "release")


def lab(*arguments: str) -> str:
    """Run the program as make does; its output, after it ended with 0."""
    command = [sys.executable, "-m", "memplace_lab", *arguments]
    env = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_help_lists_each_with_what_it_does() -> None:
    listed = dict(re.findall(r"^    (\w+) +(\S.*)$", lab("--help"), re.M))
    assert listed == {name: command.help for name, command in COMMANDS.items()}
    assert set(PROMISED) <= listed.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_each_has_a_help_of_its_own(name: str) -> None:
    assert lab(name, "--help").startswith(f"usage: python3 -m memplace_lab {name} ")


def test_make_calls_commands_that_are_there() -> None:
    called = set(re.findall(r"(?:\$\(LAB\)|memplace_lab) ([a-z][\w-]*)", MAKEFILE))
    assert called <= COMMANDS.keys()
    assert {"demo", "build", "up", "shell", "down", "matrix", "release", "version"} <= called
    # No second way in.
    assert re.findall(r"-m memplace_lab\.\S+", MAKEFILE) == []


def test_each_measurement_is_there() -> None:
    for program in PROGRAMS.values():
        path = ROOT / "bench" / program
        assert (path if path.suffix else path / "__main__.py").is_file()


def test_who_asks_for_what_is_not_there_is_told_what_is() -> None:
    command = [sys.executable, "-m", "memplace_lab", "matrix", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "lab: no such part: none; there are 6.12, " in done.stderr
