# SPDX-License-Identifier: Apache-2.0
"""Read all that the agent wants to know of one process, in one go, or say what is missing."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from memplace.errors import ParseError, ProcessGone

from memplace_agent.hostfs import HostFs, read_proc
from memplace_agent.procfs.audit import MOST_WALK_S, walk_seconds
from memplace_agent.procfs.kinds import DELETED, thread_stacks
from memplace_agent.procfs.numa_maps import NumaMapping, parse_numa_maps
from memplace_agent.procfs.query import ReadVmas, Way, read_vmas
from memplace_agent.procfs.stacks import StackPointers, read_stack_pointers
from memplace_agent.procfs.status import Status, parse_status
from memplace_agent.procfs.vmas import EMPTY, MAX_VMAS, Vmas
from memplace_agent.syscalls import Kernel, PidFd
from memplace_agent.syscalls.views import Ended

# Of a text that is not understood, so many characters say which it is.
_SHOWN = 80


class Reason(StrEnum):
    """Why a view is not complete."""

    LEADER_EXITED = (
        "LeaderExited"  # the first thread has ended, and /proc shows nothing of the rest
    )
    PROCESS_GONE = "ProcessGone"
    DENIED = "Denied"  # EACCES or EPERM
    CUT = "Cut"  # its address space changed under the read (execve), or a text was not whole
    BAD_TEXT = "BadText"  # a text has another form than the agent knows, as of a newer kernel
    TOO_LARGE = "TooLarge"  # more mappings than `MAX_VMAS`
    TOO_LONG = "TooLong"  # a walk of its page tables would take longer than `MOST_WALK_S`
    DEADLINE = "Deadline"  # the kernel did not answer in time
    FAILED = "Failed"  # another errno


@dataclass(frozen=True, slots=True)
class Incomplete:
    """What is the matter with a view.

    Attributes:
        reason: What.
        errno: Of the call that failed; 0 where none did.
        text: Which text has another form than it should, the begin of it.
    """

    reason: Reason
    errno: int = 0
    text: str = ""

    def __str__(self) -> str:
        if self.text:
            return f"{self.reason} ({self.text})"
        return f"{self.reason} ({os.strerror(self.errno)})" if self.errno else self.reason.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to read of a process besides its mappings and its status.

    Attributes:
        stacks: Ask its threads for their stack pointers.
        numa_maps: Walk its page tables for the policies where no other way tells them (see
            `memplace_agent.procfs.audit`).
        seen_stacks: What the last view had as ``stacks``.
        seen_layout: What the last view had as ``vmas.layout``: if it is the same, no mapping
            came that may be a stack, and no thread is asked.
    """

    stacks: bool = True
    numa_maps: bool = False
    seen_stacks: frozenset[int] = frozenset()
    seen_layout: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessView:
    """What a process was at one moment.

    Attributes:
        pid: Its id.
        way: How the mappings were read; POLICY means that they have policies.
        vmas: Its mappings; none if ``incomplete``, never a part of them.
        status: None if it could not be read.
        stacks: First addresses of the mappings that are stacks of threads, or their guards.
        numa: By first address, what numa_maps said of the mappings that did not change
            meanwhile. None if it was not read, so without policies it is not known which
            there are.
        took: Seconds that the read took; of numa_maps, for `next_audit`, as ``numa_took``: also
            of a walk that came to nothing, and 0 without one.
        incomplete: Why this is no view of the process, None if it is one. A process without
            mappings is never complete.
    """

    pid: int
    way: Way
    vmas: Vmas = EMPTY
    status: Status | None = None
    stacks: frozenset[int] = frozenset()
    numa: Mapping[int, NumaMapping] | None = None
    took: float = 0.0
    numa_took: float = 0.0
    incomplete: Incomplete | None = None

    @property
    def knows_policies(self) -> bool:
        """Whether the mappings' policies are known."""
        return self.way is Way.POLICY or self.numa is not None


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads processes.

    Attributes:
        host: Where /proc is.
        kernel: Tells whether a process lives.
        way: What `best_way` found on this node.
        limit: More mappings than this are too many.
        ask: Reads mappings; `query.read_vmas`, where the kernel is real.
    """

    host: HostFs
    kernel: Kernel
    way: Way
    limit: int = MAX_VMAS
    ask: Callable[[Path, Way, float, int], ReadVmas] = read_vmas

    def read(
        self, pid: int, pidfd: PidFd, deadline: float, request: Request = Request()
    ) -> ProcessView:
        """Read a process, as long as that takes: see `memplace_agent.engine.pool`.

        Args:
            pid: The process's id.
            pidfd: The process; what is read is of this one, or PROCESS_GONE.
            deadline: As of `time.monotonic`. It ends the read between two parts of it; the
                kernel may keep one part waiting for as long as the target's mmap_lock is held.
            request: What to read.

        Returns:
            A view; no process makes this raise.
        """
        view = partial(ProcessView, pid=pid, way=self.way)
        begin = time.monotonic()
        alive = partial(self.kernel.is_alive, pidfd)
        try:
            status = parse_status(read_proc(self.host.pid(pid) / "status"))
            found = self._vmas(pid, deadline)
            problem = _problem(found, status, alive)
            if problem:
                return view(status=status, incomplete=problem, took=time.monotonic() - begin)
            stacks = self._stacks(pid, found.vmas, deadline, request)
        except (ProcessGone, ParseError, OSError) as err:
            return view(incomplete=_of_error(err, alive))
        walked_at = time.monotonic()
        if self._walks(request) and _walk_seconds(status) > MOST_WALK_S:
            return view(status=status, incomplete=Incomplete(Reason.TOO_LONG))
        try:
            numa, took = self._numa(pid, found.vmas, deadline, request)
        except (ProcessGone, ParseError, OSError) as err:
            took = time.monotonic() - walked_at
            return view(incomplete=_of_error(err, alive), numa_took=took)
        if not alive():
            return view(incomplete=Incomplete(Reason.PROCESS_GONE))
        return view(
            vmas=found.vmas,
            status=status,
            stacks=stacks,
            numa=numa,
            numa_took=took,
            took=time.monotonic() - begin,
        )

    def executable(self, pid: int, pidfd: PidFd) -> str | Incomplete:
        """Return what a process runs: the file's path as the process sees it.

        Args:
            pid: The process's id.
            pidfd: The process.

        Returns:
            The path, without `` (deleted)``: who replaces the file by a newer one changes
            nothing for the process. Empty if the path is longer than the kernel tells. Else why
            nobody can tell.
        """
        try:
            path = str((self.host.pid(pid) / "exe").readlink())
        except OSError as err:
            if err.errno == errno.ENAMETOOLONG:
                return ""
            found = _of_error(err, partial(self.kernel.is_alive, pidfd))
            # Between two programs of an execve(), or before its end: it lives.
            is_changing = err.errno == errno.ENOENT and self.kernel.is_alive(pidfd)
            return Incomplete(Reason.CUT, err.errno or 0) if is_changing else found
        return path.removesuffix(DELETED)

    def _vmas(self, pid: int, deadline: float) -> ReadVmas:
        return self.ask(self.host.pid(pid), self.way, deadline, self.limit)

    def _stacks(self, pid: int, vmas: Vmas, deadline: float, request: Request) -> frozenset[int]:
        if vmas.layout == request.seen_layout:
            return request.seen_stacks
        pointers = StackPointers(frozenset())
        if request.stacks:
            pointers = read_stack_pointers(self.host, pid, deadline)
        return stacks_of(vmas, pointers, request.seen_stacks)

    def _walks(self, request: Request) -> bool:
        return request.numa_maps and self.way is not Way.POLICY

    def _numa(
        self, pid: int, vmas: Vmas, deadline: float, request: Request
    ) -> tuple[Mapping[int, NumaMapping] | None, float]:
        if not self._walks(request):
            return None, 0.0
        begin = time.monotonic()
        numa = parse_numa_maps(read_proc(self.host.pid(pid) / "numa_maps"))
        took = time.monotonic() - begin
        after = self._vmas(pid, deadline)
        if after.ended is not Ended.COMPLETE:
            raise OSError(after.errno or errno.EAGAIN, "maps changed while numa_maps was read")
        return _of_stable({one.start: one for one in numa}, vmas, after.vmas), took


def _of_stable(
    numa: Mapping[int, NumaMapping], before: Vmas, after: Vmas
) -> dict[int, NumaMapping]:
    """Return the mappings that were there before and after numa_maps was read."""
    if before.layout == after.layout:
        return {start: numa[start] for start in before.starts if start in numa}
    kept = set(after)
    return {vma.start: numa[vma.start] for vma in before if vma.start in numa and vma in kept}


def _walk_seconds(status: Status) -> float:
    return walk_seconds(status.resident, status.page_tables)


def _problem(found: ReadVmas, status: Status, alive: Callable[[], bool]) -> Incomplete | None:
    if not alive():
        return Incomplete(Reason.PROCESS_GONE)
    if found.ended is Ended.COMPLETE and len(found.vmas):
        return None
    no_memory = not len(found.vmas) and (
        found.errno == errno.ESRCH or found.ended in (Ended.COMPLETE, Ended.CUT)
    )
    if no_memory and status.leader_exited:
        return Incomplete(Reason.LEADER_EXITED)
    if found.ended is Ended.BAD_TEXT:
        return Incomplete(Reason.BAD_TEXT, text="maps")
    if no_memory or found.ended is Ended.CUT:
        # execve() is between two programs, or exit() between memory and end.
        return Incomplete(Reason.CUT, found.errno)
    if found.ended is Ended.LATE:
        return Incomplete(Reason.DEADLINE)
    if found.ended is Ended.TOO_MANY:
        return Incomplete(Reason.TOO_LARGE)
    return _of_errno(found.errno)


def _of_error(err: Exception, alive: Callable[[], bool]) -> Incomplete:
    if isinstance(err, ProcessGone) or not alive():
        return Incomplete(Reason.PROCESS_GONE)
    if isinstance(err, OSError) and err.errno:
        return _of_errno(err.errno)
    if isinstance(err, ParseError):
        return Incomplete(Reason.BAD_TEXT, text=f"not a {err.what}: {err.text[:_SHOWN]!r}")
    return Incomplete(Reason.CUT)


def _of_errno(number: int) -> Incomplete:
    if number in (errno.EACCES, errno.EPERM):
        return Incomplete(Reason.DENIED, number)
    if number in (errno.ENOENT, errno.ESRCH):
        return Incomplete(Reason.PROCESS_GONE, number)
    return Incomplete(Reason.CUT if number == errno.EAGAIN else Reason.FAILED, number)


def stacks_of(vmas: Vmas, pointers: StackPointers, seen: Collection[int]) -> frozenset[int]:
    """Return the first addresses of thread stacks and their guards.

    Only mappings that may be one are looked at, each with the one below it.
    """
    maybe = vmas.of_classes(
        number for number, one in enumerate(vmas.classes) if "nh" in one.flags or "gu" in one.flags
    )
    held = (vmas.at(address) for address in (*pointers.pointers, *seen))
    chosen = {*maybe, *(index for index in held if index is not None)}
    chosen |= {index - 1 for index in chosen if index}
    return thread_stacks([vmas[index] for index in sorted(chosen)], pointers.pointers, seen)
