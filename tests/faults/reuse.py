# SPDX-License-Identifier: Apache-2.0
"""Pins a pid over and over, and lets another process have it between any two steps of that.

    python3 -m tests.faults.reuse TRIES     as process 1 of a pid namespace, as root

All processes are real, and so are their cgroups; clone3() gives a process the pid we name.
A process is told by what it has open as its descriptor MARK, which does not depend on pids.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from memplace.errors import ProcessGone
from memplace_agent.containers.identity import probe_identities
from memplace_agent.containers.members import member_test
from memplace_agent.containers.pinning import Pinner
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.hostfs import HostFs
from memplace_agent.syscalls import RunningKernel

from tests.support.cgroups import tree

PID, MARK = 300, 100
_CLONE3, _PIDFD_GETFD = 435, 438
_CLONE_INTO_CGROUP = 0x2_0000_0000
_LIBC = ctypes.PyDLL(None, use_errno=True)  # holds the GIL: the child has one thread and needs it


class CloneArgs(ctypes.Structure):
    """As struct clone_args of linux/sched.h."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack"),
            *("stack_size", "tls", "set_tid", "set_tid_size", "cgroup"),
        )
    ]


def call(number, *args):
    done = _LIBC.syscall(ctypes.c_long(number), *args)
    if done < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return done


def inode_of_mark(pidfd):
    """Which process this is, by what it has open."""
    copy = call(_PIDFD_GETFD, ctypes.c_int(pidfd), ctypes.c_int(MARK), ctypes.c_uint(0))
    try:
        return os.fstat(copy).st_ino
    finally:
        os.close(copy)


def start(cgroup):
    """Start a process with the pid PID in a cgroup; returns the inode of its mark."""
    mark = os.memfd_create("mark")
    os.dup2(mark, MARK)
    os.close(mark)
    group = os.open(cgroup, os.O_RDONLY)
    number = (ctypes.c_int * 1)(PID)
    args = CloneArgs(
        flags=_CLONE_INTO_CGROUP,
        exit_signal=signal.SIGCHLD,
        set_tid=ctypes.addressof(number),
        set_tid_size=1,
        cgroup=group,
    )
    if call(_CLONE3, ctypes.byref(args), ctypes.c_size_t(ctypes.sizeof(args))) == 0:
        while True:
            _LIBC.pause()
    os.close(group)
    inode = os.fstat(MARK).st_ino
    os.close(MARK)
    return inode


def end():
    os.kill(PID, signal.SIGKILL)
    os.waitpid(PID, 0)


STEPS = ("open", "identity", "member", "alive", "use")


@dataclass
class Swap:
    """What becomes of the pid: before which step, and whose it is then."""

    step: str
    cgroup: Path | None  # None: it stays as it is
    at: int | None = field(default=None, init=False)  # the inode of who has the pid now

    def reach(self, step):
        if step == self.step and self.cgroup is not None:
            end()
            self.at = start(self.cgroup)


class Kernel(RunningKernel):
    """The running one, that tells before which step we are."""

    swap = Swap("", None)

    def pidfd_open(self, pid):
        Kernel.swap.reach("open")
        pidfd = RunningKernel.pidfd_open(self, pid)
        Kernel.swap.reach("identity")
        return pidfd

    def is_alive(self, pidfd):
        Kernel.swap.reach("alive")
        return RunningKernel.is_alive(self, pidfd)


def pin_once(pinner, is_member, swap, first, identity):
    """Returns whether a process was pinned; fails if it is a wrong one."""
    Kernel.swap = swap

    def asked(pid):
        swap.reach("member")
        return is_member(pid)

    try:
        with pinner.pin(PID, asked, identity) as pinned:
            swap.reach("use")
            try:
                found = inode_of_mark(pinned.pidfd)
            except ProcessLookupError:
                found = None  # it ended while it was pinned, and nobody else is meant
    except ProcessGone:
        return False
    finally:
        Kernel.swap = Swap("", None)
    if swap.step == "use" and swap.cgroup is not None:
        assert found is None, "the new owner of the pid is reached"
    elif identity is not None or swap.at is None:
        assert found == first, f"another process is pinned: {swap}"
    else:
        # Whoever has it by now is in the container: found by its cgroup, and not mixed up.
        assert (swap.step, found) == ("open", swap.at), f"another process is pinned: {swap}"
    return True


def one_try(pinner, is_member, groups, chance):
    ours, others = groups
    first = start(ours)
    try:
        identity = None
        if chance.random() < 0.5:
            with pinner.pin(PID, is_member) as pinned:
                identity = pinned.identity
        swap = Swap(chance.choice(STEPS), chance.choice([ours, others, others, None]))
        pinned_one = pin_once(pinner, is_member, swap, first, identity)
    finally:
        end()
    if swap.cgroup is None:
        assert pinned_one, "a process that stayed is not found"
    if swap.cgroup == others and swap.step != "use":
        assert not pinned_one, f"a process of another container is pinned: {swap}"
    return swap.cgroup is not None, pinned_one


def main(tries):
    seed = random.randrange(1 << 32)
    print("seed", seed, flush=True)
    chance = random.Random(seed)
    host = HostFs()
    kernel = Kernel(None)
    with tree() as top:
        groups = [top / "ours", top / "others"]
        for group in groups:
            group.mkdir()
        ref = CgroupRef(top.parent, groups[0], "uid")
        start(groups[1])
        with contextlib.ExitStack() as stack:
            stack.callback(end)
            identities = probe_identities(host, kernel)
        if not identities.unique_inodes:
            # Start times are counted in hundredths of a second: two of ours can have the same.
            raise SystemExit("needs pidfds with inodes of their own, Linux 6.9")
        pinner = Pinner(host, kernel, identities)
        done = [one_try(pinner, member_test(host, ref), groups, chance) for _ in range(tries)]
    print("swapped", sum(s for s, _ in done), "pinned", sum(p for _, p in done))


if __name__ == "__main__":
    main(int(sys.argv[1]))
