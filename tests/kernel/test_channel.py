# SPDX-License-Identifier: Apache-2.0
"""What programs of a machine say comes through, and what they do not say is missed.

The programs (channel_test.c) fail, break off, are killed, and the last but one crashes the kernel.
"""

from __future__ import annotations

import shutil

import pytest
from memplace_lab.machines.microvm import Machine
from memplace_lab.machines.qemu import Hardware, Node

from tests.kernel.building import Build
from tests.kernel.running import Ran, Run

MACHINE = Machine(Hardware((Node(256, cpus="0-1"),)))
PROGRAMS = ("a_good", "b_failing", "c_cut", "d_killed", "e_leaving", "f_panic", "g_never")


@pytest.fixture(scope="module")
def ran(run_on: Run, build_init: Build) -> Ran:
    program = build_init("channel", "channel_test.c")
    copies = [program.with_name(name) for name in PROGRAMS]
    for copy in copies:
        shutil.copy(program, copy)
    return run_on(MACHINE, copies)


def test_what_was_said_before_the_kernel_crashed_is_there(ran: Ran) -> None:
    good = {name for name, case in ran.cases.items() if case.good}
    assert good == {"good.case", "failing.first", "cut.first", "leaving.case", "panic.first"}


def test_a_failure_comes_with_what_was_said_before_it(ran: Ran) -> None:
    case = ran.cases["failing.second"]
    assert not case.good and case.notes == ("# why it fails",)


def test_each_program_that_is_not_whole_is_told(ran: Ran) -> None:
    found = ran.report.problems(ran.wanted)
    assert found[0] == "7 cases were announced, 5 came (the last: e_leaving)"
    assert found[1:] == [
        "b_failing: exit status 1",
        "c_cut: 2 cases were announced, 1 came (the last: cut.first)",
        "d_killed: 1 cases were announced, 0 came (the last: none)",
        "d_killed: ended by signal 6",
        "f_panic: 2 cases were announced, 1 came (the last: panic.first)",
        "f_panic: it did not end; its last words: []",
        "g_never: it did not begin",
    ]


def test_the_failure_ends_with_the_console(ran: Ran) -> None:
    with pytest.raises(pytest.fail.Exception) as caught:
        ran.check_whole()
    text = str(caught.value)
    assert "g_never: it did not begin" in text
    assert "Kernel panic - not syncing: sysrq triggered crash" in text.partition("console ends")[2]


def test_the_crash_is_seen_on_the_console(ran: Ran) -> None:
    with pytest.raises(pytest.fail.Exception, match="sysrq triggered crash"):
        ran.check_console()
