# SPDX-License-Identifier: Apache-2.0
"""A process that holds its own address space keeps one thread, and nobody else."""

import errno
import os
import threading
import time
from typing import Any

import pytest
from memplace.errors import ProcessGone
from memplace.kinds import RegionKind
from memplace_agent.backends.process_mbind import ProcessMbind
from memplace_agent.engine.apply import PolicySetter, SetFuture
from memplace_agent.engine.callers import Callers
from memplace_agent.errors import CallFailed, TryAgain
from memplace_agent.syscalls import PidFd
from memplace_agent.threads import hurry

from tests.support.agent.machine import CXL

STEPS = (SetFuture(kinds=frozenset({RegionKind.BRK, RegionKind.ANONYMOUS}), policy=CXL),)


class Kernel:
    """Answers what the test says, or not before it says so."""

    def __init__(self):
        self.may_go = threading.Event()
        self.may_go.set()
        self.error = None
        self.pidfds = []

    def set_future(self, pidfd, *_):
        self.pidfds.append(pidfd)
        assert self.may_go.wait(10)
        if self.error:
            raise self.error


class Desk:
    """Callers with a clock of the test's."""

    def __init__(self):
        kernel: Any = Kernel()
        self.kernel = kernel
        self.now = 100.0
        setter = PolicySetter(ProcessMbind(kernel, flags=0xFF))
        self.callers = Callers(setter, 2, lambda: self.now)
        self.pidfd = PidFd(os.open("/dev/null", os.O_RDONLY))

    def call(self, group="ns"):
        return self.callers.submit(self.pidfd, group, STEPS)

    def ended(self, call):
        until = time.monotonic() + 10
        while call.ended is None and time.monotonic() < until:
            time.sleep(0.001)
        return call.ended is not None


@pytest.fixture
def desk():
    made = Desk()
    yield made
    made.kernel.may_go.set()
    made.callers.close()
    os.close(made.pidfd)


def test_a_call_is_made_on_a_descriptor_of_its_own(desk):
    call = desk.call()
    assert desk.ended(call) and call.is_set and call.error is None
    (used,) = desk.kernel.pidfds
    assert used != desk.pidfd
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(used)
    os.fstat(desk.pidfd)


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        (CallFailed(errno.EINVAL, "no"), True),
        (RuntimeError("what nobody thought of"), True),
        (TryAgain(errno.EBUSY, "vfork"), False),
        (ProcessGone(errno.ESRCH, "gone"), False),
    ],
)
def test_one_that_fails_leaves_the_thread_to_the_next(desk, error, is_told):
    desk.kernel.error = error
    for _ in range(5):
        call = desk.call()
        assert desk.ended(call) and not call.is_set and bool(call.error) is is_told


def test_one_that_does_not_come_back_leaves_no_thread_to_its_namespace(desk):
    desk.kernel.may_go.clear()
    stuck = desk.call("theirs")
    desk.now += 2
    assert desk.callers.lost == 1 and desk.call("theirs") is None
    others = [desk.call("ours"), desk.call("others")]  # as many as there were
    assert all(others) and desk.call("more") is None
    desk.kernel.may_go.set()
    assert all(desk.ended(each) for each in (stuck, *others)) and desk.callers.lost == 0
    assert desk.call("theirs") is not None


def births():
    """Return the threads of this test that wait or call."""
    return [each for each in threading.enumerate() if each.name.startswith("births-")]


def test_what_many_namespaces_lose_is_no_loss_to_another(desk):
    before = len(births()) - 2
    desk.kernel.may_go.clear()
    stuck = []
    for number in range(20):
        stuck.append(desk.call(f"ns{number}"))
        desk.now += 2
    assert all(stuck) and desk.callers.lost == 20
    last = desk.call("ours")
    assert last is not None and len(births()) == before + 22
    desk.kernel.may_go.set()
    assert all(desk.ended(each) for each in (*stuck, last))
    until = time.monotonic() + 10
    while len(births()) > before + 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert len(births()) == before + 2, "those that were replaced end"
    assert desk.ended(desk.call("ns0"))


def test_where_no_thread_can_be_started_it_goes_on_with_those_that_are_there(desk, monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    desk.kernel.may_go.clear()
    assert desk.call("a") and desk.call("b")
    desk.now += 2
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        assert desk.call("c") is None
    assert desk.call("c") is not None
    desk.kernel.may_go.set()


@pytest.mark.needs_root("raises a priority")
def test_a_thread_that_hurries_is_the_only_one():
    found = {}

    def run(name, before):
        before()
        found[name] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    usual = os.getpriority(os.PRIO_PROCESS, 0)
    for name, before in (("hurried", hurry), ("other", lambda: None)):
        thread = threading.Thread(target=run, args=(name, before))
        thread.start()
        thread.join()
    assert found == {"hurried": -20, "other": usual}
