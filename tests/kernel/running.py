# SPDX-License-Identifier: Apache-2.0
"""Run programs on a kernel in a machine, and what came of it: by its channel and its console."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import pytest
from memplace_lab.machines.microvm import Machine, boot, console_of

from tests.support import tap
from tests.support.splats import splats

_LAST = 3000


class Run(Protocol):
    """Run these programs of the kernel under test on a machine, in a folder of its own."""

    def __call__(
        self, machine: Machine, programs: Sequence[Path], *commands: Sequence[str]
    ) -> Ran: ...


@dataclass(frozen=True)
class Ran:
    """What came of a machine.

    Attributes:
        wanted: The programs that it was to run.
        told: What came over its channel, as text.
        console: What the kernel said, and for people a copy of what the programs said.
        trouble: Why it did not switch itself off; "" if it did.
        report: What was told, read.
    """

    wanted: tuple[str, ...]
    told: str
    console: str
    trouble: str = ""
    report: tap.Report = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "report", tap.read(self.told))

    @property
    def cases(self) -> dict[str, tap.Case]:
        """The cases of all programs, by name."""
        return self.report.cases

    def check_whole(self) -> None:
        """Fail unless all programs said all that they announced, and the machine ended itself."""
        problems = self.report.problems(self.wanted)
        if problems or self.trouble:
            trouble = self.trouble.splitlines()[:1]
            told = f"the channel ends with:\n{self.told[-1000:]}"
            console = f"the console ends with:\n{self.console[-_LAST:]}"
            pytest.fail("\n".join((*trouble, *problems, told, console)), pytrace=False)

    def check_cases(self, subtests: pytest.Subtests) -> None:
        """Fail for each case that did, and if there was none."""
        for name, case in self.cases.items():
            with subtests.test(name):
                if not case.good:
                    pytest.fail(str(case), pytrace=False)
        if not self.cases:
            pytest.fail("there was no case: see the test of the whole", pytrace=False)

    def check_console(self) -> None:
        """Fail if the kernel complained, with what it said."""
        if found := splats(self.console):
            console = f"the console ends with:\n{self.console[-_LAST:]}"
            pytest.fail("\n".join(("the kernel complained:", *found, console)), pytrace=False)


def run(
    kernel: Path,
    init: Path,
    machine: Machine,
    workdir: Path,
    programs: Sequence[Path],
    *,
    commands: Sequence[Sequence[str]] = (),
) -> Ran:
    """Boot a machine that runs these programs.

    Args:
        kernel: A bzImage.
        init: init.c as a program.
        machine: The machine.
        workdir: A folder for what it says.
        programs: Static programs.
        commands: Names of programs with their arguments; each program alone, by name, if none.
    """
    channel = workdir / "channel.tap"
    words = " ".join(",".join(command) for command in commands)
    if words:
        machine = replace(machine, append=f"{machine.append} -- {words}")
    trouble = ""
    try:
        console = boot(kernel, init, machine, workdir, programs, channel=channel)
    except (TimeoutError, RuntimeError) as error:
        trouble, console = str(error), console_of(workdir / f"{init.name}.console")
    told = channel.read_text(errors="replace") if channel.exists() else ""
    wanted = tuple(command[0] for command in commands) or tuple(one.name for one in programs)
    return Ran(wanted, told, console, trouble)
