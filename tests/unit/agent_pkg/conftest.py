# SPDX-License-Identifier: Apache-2.0
"""A node with an agent on a machine of text files, and what tests of this folder build with."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.agent.node import Kit, Node, shared_pool


@pytest.fixture(autouse=True)
def _commands_share_it(monkeypatch):
    """What is a program of its own elsewhere ends, and its threads with it."""
    monkeypatch.setattr("memplace_agent.cli.reading.Pool", shared_pool)


@pytest.fixture
def kit():
    return Kit


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


@pytest.fixture
def machine(node):
    return node.machine


@pytest.fixture
def started(node, kit):
    node.machine.start(100, "a" * 64, kit.heap(), kit.anon())
    return node


_LEADERLESS = """
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
print(flush=True)
ctypes.CDLL(None).syscall(60, 0)  # exit(2) of this thread alone, x86_64
"""


@pytest.fixture
def leaderless():
    """A process whose first thread has ended, and another runs on."""
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", _LEADERLESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    child.stdout.readline()
    deadline = time.monotonic() + 10
    while "Z" not in Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2][:3]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield child
    child.communicate()
