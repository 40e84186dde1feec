# SPDX-License-Identifier: Apache-2.0
"""Typed wrappers of the calls the agent makes on other processes.

Only this package imports the C module. `Kernel` is what the rest of the agent sees; tests
put something else in its place where the machine has no process_mbind().
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NewType, Protocol

from memplace.errors import ProcessGone
from memplace.kinds import Mode, Policy
from memplace.nodes import WORD_BITS, to_words

from memplace_agent._memplace_sys import ffi, lib
from memplace_agent.errors import TryAgain, raise_errno

PidFd = NewType("PidFd", int)
Ranges = Sequence[tuple[int, int]]

# linux include/uapi/linux/mempolicy.h
MPOL_MF_MOVE = 1 << 1
MPOL_MF_MOVE_ALL = 1 << 2
MPOL_MF_HOME_NODE = 1 << 4
MPOL_MF_FUTURE = 1 << 5
MPOL_MF_FUTURE_EXEC = 1 << 6
MPOL_MF_PRIVATE_ANON = 1 << 7
MPOL_FUTURE_BRK = 1 << 0
MPOL_FUTURE_MMAP = 1 << 1
MPOL_ARGS_SIZE = 24
MPOL_ARGS_SIZE_FUTURE = 40
_MODES = {
    Mode.DEFAULT: 0,
    Mode.PREFERRED: 1,
    Mode.BIND: 2,
    Mode.INTERLEAVE: 3,
    Mode.LOCAL: 4,
    Mode.PREFERRED_MANY: 5,
    Mode.WEIGHTED_INTERLEAVE: 6,
}
_FLAGS = {"static": 1 << 15, "relative": 1 << 14, "balancing": 1 << 13}


class Kernel(Protocol):
    """What the agent asks of the kernel about one process."""

    @property
    def version(self) -> int:
        """The version of process_mbind(); from 2 on a long range stops nobody for long."""

    def pidfd_open(self, pid: int) -> PidFd:
        """Return a pidfd, which the caller closes; raises ProcessGone."""

    def is_alive(self, pidfd: PidFd) -> bool:
        """Return whether the process has not ended; a zombie has."""

    def process_mbind(self, pidfd: PidFd, ranges: Ranges, policy: Policy, flags: int) -> int:
        """Set a policy on ranges; returns the bytes of the ranges that were done."""

    def set_future(self, pidfd: PidFd, policy: Policy, future: int, least: int) -> None:
        """Set the default of mappings to come; the default policy takes it away."""


def raw_call(  # noqa: PLR0917  in the order of the system call
    nr: int, pidfd: int, vec: Any, vlen: int, args: Any, usize: int, flags: int
) -> int:
    """Make the call with anything at all; returns its result or the negative errno."""
    done = lib.memplace_process_mbind(nr, pidfd, vec, vlen, args, usize, flags)
    return done if done >= 0 else -ffi.errno


@dataclass(frozen=True, slots=True)
class RunningKernel:
    """The kernel this runs on.

    Attributes:
        nr: The number it announces for process_mbind(), None without the call.
        version: The version it announces.
    """

    nr: int | None
    version: int = 0

    def pidfd_open(self, pid: int) -> PidFd:
        """Return a pidfd, which the caller closes.

        Raises:
            ProcessGone: ESRCH, or EINVAL for the id of a thread that leads no process.
        """
        try:
            return PidFd(os.pidfd_open(pid))
        except OSError as err:
            if err.errno in (errno.ESRCH, errno.EINVAL):
                raise ProcessGone(err.errno, "pidfd_open: the process is gone") from err
            raise

    def is_alive(self, pidfd: PidFd) -> bool:
        """Return whether the process has not ended: a pidfd polls readable from then on."""
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return not poll.poll(0)

    def process_mbind(self, pidfd: PidFd, ranges: Ranges, policy: Policy, flags: int) -> int:
        """Set a policy on ranges of a process.

        Args:
            pidfd: The process.
            ranges: Half-open ``(start, end)``, page aligned, at most 1024.
            policy: The policy; its nodes are clipped to the process's cpuset by the kernel.
            flags: MPOL_MF_*; 0 leaves existing pages where they are. MPOL_MF_HOME_NODE is added
                for a policy that has one.

        Returns:
            Bytes of the ranges that were fully processed; less than their sum when a later
            one failed.

        Raises:
            ProcessGone: ESRCH.
            TryAgain: EBUSY, ESTALE; ESRCH, but the process lives.
            HoleInRange: EFAULT at the first range.
            MissingCapability: EPERM, EACCES.
            CallFailed: Another errno at the first range; ENOSYS without an announced number.

        Source: process_mbind(2) of memplace's kernel patches.
        """
        vec = ffi.new("struct iovec[]", len(ranges))
        for entry, (start, end) in zip(vec, ranges, strict=True):
            entry.iov_base = ffi.cast("void *", start)
            entry.iov_len = end - start
        flags |= 0 if policy.home_node is None else MPOL_MF_HOME_NODE
        with _mpol_args(policy) as args:
            return self._call(pidfd, vec, len(ranges), args, usize=MPOL_ARGS_SIZE, flags=flags)

    def set_future(self, pidfd: PidFd, policy: Policy, future: int, least: int) -> None:
        """Set the default of private anonymous mappings that a process makes from now on.

        Programs that it executes keep it, unless they gain privileges by that.

        Args:
            pidfd: The process.
            policy: The policy; the default policy takes the default away.
            future: MPOL_FUTURE_*: what brk() adds, what mmap() makes, or both.
            least: Bytes of the smallest mmap() that gets it; 0 is any, and has to be for others.

        Raises:
            ProcessGone: ESRCH.
            TryAgain: EBUSY, it uses the memory of its parent; ESRCH, but the process lives.
            MissingCapability: EPERM, EACCES.
            CallFailed: Another errno; ENOSYS without an announced number.

        Source: process_mbind(2) of memplace's kernel patches.
        """
        is_set = policy.mode is not Mode.DEFAULT
        flags = MPOL_MF_FUTURE | (MPOL_MF_FUTURE_EXEC if is_set else 0)
        with _mpol_args(policy) as args:
            args.future, args.future_min = future, least
            self._call(pidfd, ffi.NULL, 0, args, usize=MPOL_ARGS_SIZE_FUTURE, flags=flags)

    def _call(self, pidfd: PidFd, vec: Any, vlen: int, args: Any, *, usize: int, flags: int) -> int:
        if self.nr is None:
            raise_errno(errno.ENOSYS, "process_mbind")
        done = raw_call(self.nr, pidfd, vec, vlen, args, usize, flags)
        if done == -errno.ESRCH and self.is_alive(pidfd):
            # A thread that does not lead the process executes a program: the old leader, which
            # the pidfd still names, has no memory any more. Or the new program has begun.
            raise TryAgain(errno.ESRCH, "process_mbind: the process executes another program")
        if done < 0:
            raise_errno(-done, "process_mbind")
        return done


@contextlib.contextmanager
def _mpol_args(policy: Policy) -> Iterator[Any]:
    # A context, because the mask has to outlive the call that follows a bare pointer to it.
    args = ffi.new("struct memplace_mpol_args *")
    args.mode = _MODES[policy.mode]
    args.mode_flags = sum(_FLAGS[flag] for flag in policy.flags)
    args.home_node = policy.home_node or 0
    words = to_words(policy.nodes)
    mask = ffi.new("uint64_t[]", words)
    if policy.nodes:
        args.maxnode = len(words) * WORD_BITS
        args.nodes = int(ffi.cast("uintptr_t", mask))
    yield args
    del mask
