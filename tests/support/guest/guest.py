# SPDX-License-Identifier: Apache-2.0
"""Process 1 of a guest with two NUMA nodes: pytest, which tells of each test over the channel.

    init=/usr/bin/python3 -- -u -m tests.support.guest.guest FILE

FILE has the ids of the tests, one a line. What goes over the channel, the second serial port, is
JSON, one object a line: ``{"began": ID}``, pytest's own form of each report, and in the end
``{"ended": STATUS}``. Whoever reads it is in booting.py. The console has what pytest prints, for
people, beside what the kernel says.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import termios
import tty
from pathlib import Path
from typing import Any

import pytest

from tests.support.guest.harness import (
    AGENT,
    HARNESS,
    HERE,
    keep_capabilities,
    leave_nothing,
    prepare,
)

PORT = "/dev/ttyS1"
ROOT = Path(__file__).parents[3]


class Channel:
    """Tells of each test what there is to tell; a line is through before the test goes on."""

    def __init__(self) -> None:
        self._port = os.open(PORT, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._port)

    def tell(self, facts: dict[str, Any]) -> None:
        rest = json.dumps(facts, default=repr).encode() + b"\n"
        while rest:
            rest = rest[os.write(self._port, rest) :]
        termios.tcdrain(self._port)

    def pytest_configure(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.tell({"began": nodeid})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._tell_report(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._tell_report(report)

    def _tell_report(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        hook = self._config.hook.pytest_report_to_serializable
        self.tell(hook(config=self._config, report=report))

    @pytest.fixture(autouse=True)
    def _nothing_is_left(self):
        """Each test finds the guest as the first one did."""
        # The program to place belongs to another user, and nothing helps against modes.
        keep_capabilities(*HARNESS, *AGENT)
        yield
        keep_capabilities(*HARNESS, *AGENT)
        leave_nothing()


def main() -> None:
    """Be process 1."""
    prepare()
    os.chdir(ROOT)
    channel = Channel()
    try:
        # No conftest: those are for the pytest outside, which builds what is missing.
        options = ("--noconftest", "-p", "no:cacheprovider", "--basetemp=/run/pytest")
        where = ("-c", str(HERE / "guest.ini"), "--rootdir", str(ROOT))
        status = int(pytest.main([*options, *where, f"@{sys.argv[1]}"], plugins=[channel]))
        channel.tell({"ended": status})
    finally:
        # QEMU runs with -no-reboot: this ends it.
        ctypes.CDLL(None).reboot(ctypes.c_int(0x01234567))


if __name__ == "__main__":
    main()
