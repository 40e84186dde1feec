# SPDX-License-Identifier: Apache-2.0
"""An agent in a process of its own, which can be killed, on a machine that lives on.

The test's process keeps the machine of text files, as the kernel outlives an agent. Each agent
is forked from it; its system calls come over a pipe, and one that has come is carried out
whether or not its agent lives to hear of it.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import dataclass

from memplace_agent import locked_directory
from memplace_agent.engine.pool import Pool

from tests.support.agent.node import Node

_FORK = multiprocessing.get_context("fork")
_PATIENCE_S = 120


class Remote:
    """The machine as an agent sees it: files are the real ones, calls go over the pipe."""

    def __init__(self, machine, pipe):
        self.host, self.version = machine.host, machine.version
        self._pipe, self._lock = pipe, threading.Lock()

    def _ask(self, name, *args):
        with self._lock:
            self._pipe.send((name, args))
            answer, error = self._pipe.recv()
        if error:
            raise error
        return answer

    def step(self):
        self._ask("step")

    def make_container(self):
        """Have a runtime make one more container of the pod, with a process in it."""
        self._ask("make_container")

    def pidfd_open(self, pid):
        return os.open(self._ask("pidfd_file", pid), os.O_RDONLY)

    def is_alive(self, pidfd):
        return self._ask("is_alive", os.fstat(pidfd).st_ino)

    def process_mbind(self, pidfd, *args):
        return self._ask("process_mbind", os.fstat(pidfd).st_ino, *args)

    def set_future(self, pidfd, *args):
        return self._ask("set_future", os.fstat(pidfd).st_ino, *args)

    def read_vmas(self, *args):
        return self._ask("read_vmas", *args)

    def page_nodes(self, *args):
        return self._ask("page_nodes", *args)

    def move_pages(self, pid, addresses, nodes, *, move_all):
        return self._ask("move_pages", pid, addresses, nodes, move_all)

    def present(self, *args):
        return self._ask("present", *args)

    def exclusive(self, *args):
        return self._ask("exclusive", *args)

    def shares(self, *args):
        return self._ask("shares", *args)


@dataclass(frozen=True)
class Kill:
    """When an agent is killed: after a time, or at its n-th call on a process, and then either
    before the call is carried out or before the agent hears of it, or before the n-th thing
    that it does to a file of its ledger."""

    seconds: float = _PATIENCE_S
    call: int = 0
    before: bool = False
    step: int = 0


class Seat:
    """Where agents sit, one after the other."""

    def __init__(self, machine, make_container=lambda: None):
        self.machine, self._make_container = machine, make_container
        # Of the last agent; steps are what it did to files of its ledger.
        self.calls = self.steps = 0

    def agent(self, goal, kill=Kill()):
        """Start an agent that works until `goal(node)` returns; tells whether it was killed."""
        ours, theirs = _FORK.Pipe()
        process = _FORK.Process(target=_be_agent, args=(self.machine, theirs, goal))
        process.start()
        theirs.close()
        self.calls = self.steps = 0
        try:
            finished = self._serve(ours, kill)
        finally:
            process.kill()
            process.join()
            ours.close()
        assert finished or process.exitcode == -signal.SIGKILL, "the agent failed by itself"
        return not finished

    def _serve(self, pipe, kill):
        until = time.monotonic() + kill.seconds
        while pipe.poll(max(0.0, until - time.monotonic())):
            try:
                name, args = pipe.recv()
            except EOFError:
                return False
            if name == "finished":
                return True
            is_call = name in ("process_mbind", "set_future", "move_pages")
            self.calls += is_call
            if name == "step":
                self.steps += 1
                if self.steps == kill.step:
                    return False
            last = is_call and self.calls == kill.call
            if last and kill.before:
                return False
            answer = self._answer(name, args)
            if last:
                return False
            pipe.send(answer)
        assert kill.seconds < _PATIENCE_S, "the agent hangs"
        return False

    def _answer(self, name, args):
        try:
            return getattr(self, f"_{name}")(*args), None
        except OSError as err:
            return None, err

    def _step(self):
        """The agent waits for the answer: it is killed here or it goes on."""

    def _pidfd_file(self, pid):
        os.close(self.machine.pidfd_open(pid))
        return self.machine.processes[pid].pidfd_file

    @contextlib.contextmanager
    def _pidfd(self, inode):
        pidfd = os.open(self.machine.by_inode[inode][1].pidfd_file, os.O_RDONLY)
        try:
            yield pidfd
        finally:
            os.close(pidfd)

    def _is_alive(self, inode):
        with self._pidfd(inode) as pidfd:
            return self.machine.is_alive(pidfd)

    def _process_mbind(self, inode, *args):
        with self._pidfd(inode) as pidfd:
            return self.machine.process_mbind(pidfd, *args)

    def _set_future(self, inode, *args):
        with self._pidfd(inode) as pidfd:
            return self.machine.set_future(pidfd, *args)

    def _read_vmas(self, *args):
        return self.machine.read_vmas(*args)

    def _present(self, *args):
        return self.machine.present(*args)

    def _exclusive(self, *args):
        return self.machine.exclusive(*args)

    def _shares(self, *args):
        return self.machine.shares(*args)

    def _move_pages(self, pid, addresses, nodes, move_all):
        return self.machine.move_pages(pid, addresses, nodes, move_all=move_all)

    def _page_nodes(self, *args):
        return self.machine.page_nodes(*args)


class Stepping:
    """The module os as the ledger's directory sees it: what changes a file is announced before."""

    _CHANGES = frozenset({"open", "write", "fchmod", "fsync", "rename", "replace", "unlink"})

    def __init__(self, announce):
        self._announce = announce

    def __getattr__(self, name):
        real = getattr(os, name)
        return functools.partial(self._do, real) if name in self._CHANGES else real

    def _do(self, real, *args, **kwargs):
        self._announce()
        return real(*args, **kwargs)

    def fdopen(self, *args):
        file = os.fdopen(*args)
        if file.writable():
            file = _Halves(file, self._announce)
        return file


class _Halves:
    """A file that is written in two halves, as write(2) may."""

    def __init__(self, file, announce):
        self._file, self._announce = file, announce

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        for half in (data[: len(data) // 2], data[len(data) // 2 :]):
            self._announce()
            self._file.write(half)
            self._file.flush()


def _be_agent(machine, pipe, goal):
    remote = Remote(machine, pipe)
    vars(locked_directory)["os"] = Stepping(remote.step)
    goal(Node(None, remote, Pool()))
    pipe.send(("finished", ()))
    # The one at the other end kills; whatever Python does at its end is no part of an agent.
    time.sleep(_PATIENCE_S)
