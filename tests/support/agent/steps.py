# SPDX-License-Identifier: Apache-2.0
"""Number what an agent does with the machine of text files, and have something happen before it.

A step is a call on a process, or a file that is opened, listed, renamed or removed. A process
may end, and everything else may happen, between any two of them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys

from tests.support.agent.machine import Machine
from tests.support.agent.shown import page_of

_FILES = frozenset({"open", "os.listdir", "os.scandir", "os.rename", "os.remove"})


class Steps:
    """Counts the steps of an agent, which takes one at a time, though not all in one thread.

    Attributes:
        names: Which there were.
        last: What the agent was about to do when the event came; empty before.
    """

    def __init__(self, root):
        self._root = str(root)
        self._begun = self._is_busy = False
        self._at, self._event = 0, None
        self.names, self.last = [], ""

    @contextlib.contextmanager
    def counted(self, at=0, event=None):
        """Count while the block runs; the event comes before the step `at`, or at the end."""
        global _listens
        self.names, self.last, self._at, self._event = [], "", at, event
        self._begun, _listens = True, self
        try:
            yield self
        finally:
            self._begun, _listens = False, None
        self._happen("the end")

    def step(self, name):
        if not self._begun or self._is_busy:
            return
        self.names.append(name)
        if len(self.names) == self._at:
            self._happen(name)

    def _happen(self, name):
        event, self._event = self._event, None
        self.last = self.last or name
        with self.paused():
            if event is not None:
                event()

    @contextlib.contextmanager
    def paused(self):
        """What the machine does, or the test, is no step."""
        was, self._is_busy = self._is_busy, True
        try:
            yield
        finally:
            self._is_busy = was

    def on_file(self, name, path):
        """Take a file that somebody in this process is about to use."""
        if isinstance(path, os.PathLike | str):
            path = os.fspath(path)
            # Those of the ledger are named below its directory.
            if path.startswith(self._root) or not path.startswith("/"):
                self.step(f"{name} {path.removeprefix(self._root)}")


# Whoever counts at the moment. A hook can't be removed.
_listens: Steps | None = None


def _hook(name, args):
    if _listens is not None and name in _FILES:
        _listens.on_file(name, args[0])


sys.addaudithook(_hook)


def _numbered(name):
    real = getattr(Machine, name)

    @functools.wraps(real)
    def call(self, *args, **kwargs):
        self.steps.step(name)
        with self.steps.paused():
            return real(self, *args, **kwargs)

    return call


def _never_raises(name):
    # No process makes these raise: of one that ended they tell nothing.
    numbered = _numbered(name)

    @functools.wraps(numbered)
    def call(self, directory, *args):
        try:
            return numbered(self, directory, *args)
        except KeyError:
            assert int(directory.name) not in self.processes
            return None

    return call


class SteppedMachine(Machine):
    """The machine; its calls are steps.

    Attributes:
        steps: Counts them.
        touched: The processes in which something was set or moved.
    """

    def __init__(self, root):
        super().__init__(root)
        self.steps = Steps(root)
        self.touched = []

    pidfd_open = _numbered("pidfd_open")
    is_alive = _numbered("is_alive")
    read_vmas = _numbered("read_vmas")
    page_nodes = _numbered("page_nodes")
    present = _never_raises("present")
    exclusive = _never_raises("exclusive")
    shares = _never_raises("shares")
    _mbind = _numbered("process_mbind")
    _future = _numbered("set_future")
    _move = _numbered("move_pages")

    def mappers(self, pid, address):
        # Something else may be mapped by now, or nothing.
        return super().mappers(pid, address) if page_of(self.processes[pid], address) else 0

    def process_mbind(self, pidfd, *args):
        done = self._mbind(pidfd, *args)
        self.touched.append(self._of(pidfd)[1])
        return done

    def set_future(self, pidfd, *args):
        self._future(pidfd, *args)
        self.touched.append(self._of(pidfd)[1])

    def move_pages(self, pid, *args, move_all):
        found = self._move(pid, *args, move_all=move_all)
        self.touched.append(self.processes[pid])
        return found
