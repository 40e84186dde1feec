# SPDX-License-Identifier: Apache-2.0
"""What the mover is asked for, what is left of it, and what it says of its progress."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Protocol

from memplace.api.v1alpha1 import Placement
from memplace.calls import CUT_ALIGNMENT, MAX_CALL_RANGES
from memplace.kinds import Policy
from memplace.nodes import NumaSet
from memplace.pacing import Wait, WaitReason
from memplace.setbacks import Setbacks

from memplace_agent.syscalls import PidFd, Ranges

# A process, a rule, and what else has to be the same for pages to go into one call.
JobKey = tuple[int, str, Policy, int, bool, bool]

# Of address space in one call, where next to nothing is resident.
_SPARSE_BYTES = 1 << 30

_UNITS = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


@dataclass(frozen=True, slots=True)
class MoveRange:
    """A range ``[start, end)`` with so many bytes, as last measured, on wrong nodes."""

    start: int
    end: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOrder:
    """Pages of one process to be moved for one rule; its policies are set already, if any are.

    Attributes:
        identity: What tells the process from all others: the inode of its pidfd.
        pid: Its id, as long as it is pinned.
        pin: Pins the process for one call, as `containers.pinning.Pinner` does; raises
            ProcessGone.
        namespace: Of the pods that follow it; namespaces have equal shares of the bandwidth.
        container: The container's id; containers of a namespace have equal shares of its.
        placement: The placement's uid.
        rule: Name of the rule.
        policy: The policy that the ranges have, or would have if it could be set.
        has_policy: They have it.
        ranges: What to move, not overlapping.
        cancel: Set by whoever does not want it any more; at most the call that is under way
            at that moment is still finished.
        is_wanted: Whether it is wanted by what the cluster says at this moment, which whoever
            sets `cancel` may learn later. It waits while it is not.
        move_all: Move pages that other processes map, too.
        private_anonymous: The ranges are private anonymous memory.
        page_size: Bytes of one page; a multiple of it is moved.
        weights: By NUMA node, those of a policy that interleaves; empty if they are alike.
        cgroup: Of the container, for its memory pressure; None if that is not to count.
        limit: migration.maxBandwidth in bytes per second.
    """

    identity: int
    pid: int
    pin: Callable[[], AbstractContextManager[PidFd]]
    namespace: str
    container: str
    placement: str
    rule: str
    policy: Policy
    ranges: tuple[MoveRange, ...]
    cancel: Event
    is_wanted: Callable[[], bool] = lambda: True
    move_all: bool = False
    private_anonymous: bool = False
    page_size: int = 4096
    has_policy: bool = True
    weights: Mapping[int, int] = field(default_factory=dict)
    cgroup: Path | None = None
    limit: int | None = None

    @property
    def key(self) -> JobKey:
        """What orders of different plans of the process have in common."""
        return (
            self.identity,
            self.rule,
            self.policy,
            self.page_size,
            self.move_all,
            self.private_anonymous,
        )

    @property
    def may_go_on(self) -> bool:
        """Whether the next call may be made."""
        return not self.cancel.is_set() and self.is_wanted()

    @property
    def nodes(self) -> NumaSet:
        """Where the pages belong."""
        return self.policy.nodes


class Look(Protocol):
    """Looks where pages are, without holding locks of the process for long."""

    def __call__(self, pidfd: PidFd, order: MoveOrder, ranges: Ranges) -> Sequence[int]:
        """Return for each range the bytes that are not on the nodes of the policy.

        0 for a range that is not what the order is about any more: unmapped, or with another
        policy by now; that one is then left alone.

        Raises:
            ProcessGone: The process ended.
        """


# Whether a container, by its id, follows a placement by now as that was when it was taken; with
# None whether what was done in it is to be given back.
Follows = Callable[[str, Placement | None], bool]


def follows_as_taken(_container_id: str, _placement: Placement | None) -> bool:
    """Say that nothing has changed."""
    return True


# Runs something with a pidfd of the order's process, and a check before each change.
Work = Callable[[PidFd, Callable[[], None]], None]
Guard = Callable[[MoveOrder, PidFd, Work], None]


def unguarded(_order: MoveOrder, pidfd: PidFd, work: Work) -> None:
    """Do some work in the calling thread."""
    work(pidfd, lambda: None)


@dataclass(slots=True)
class Part:
    """A range that is still to be moved."""

    start: int
    end: int
    bytes: int

    def split(self, at: int) -> tuple[Part, Part]:
        """Cut it in two at an address inside; bytes are taken to be spread evenly."""
        first = self.bytes * (at - self.start) // (self.end - self.start)
        return Part(self.start, at, first), Part(at, self.end, self.bytes - first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the moves for a rule in a container are, over all its processes.

    Attributes:
        namespace: Of the placement.
        container: The container's id.
        placement: The placement's uid.
        rule: The rule.
        done: Bytes that arrived since there was nothing queued for the rule, as measured.
        total: These and what is left.
        stuck: Bytes of what is left that were tried at least twice, and stayed.
        wait: What the moves wait for; None while they go on.
        message: About the wait, or the last error.
    """

    namespace: str
    container: str
    placement: str
    rule: str
    done: int
    total: int
    stuck: int = 0
    wait: WaitReason | None = None
    message: str = ""

    @property
    def text(self) -> str:
        """For people, such as ``Moving: 12 of 40 GiB``; rounded down, never up."""
        return f"Moving: {label(self.done, self.total)}"


def label(done: int, total: int) -> str:
    """Say how much of a whole is done, in the unit that suits the whole."""
    for unit, size in _UNITS:
        if total >= size:
            return f"{done // size} of {total // size} {unit}"
    return f"{done} of {total} bytes"


@dataclass(slots=True)
class Job:
    """An order, and what is left of it. The mover's own.

    Attributes:
        order: What was asked for, without its ranges.
        parts: What is left, and may be tried.
        later: Bytes that are left to the next plan, since too many ranges wait.
        not_before: When it is worth a look again.
        wait: What it waited for when it was last looked at; None if it was at work.
        proven: A batch has moved something: pages of it do move.
        fails: Probes in a row that moved nothing.
        dropped: Nobody wants it any more, or a newer order has taken its place.
        error: The last error, for people.
    """

    order: MoveOrder
    parts: deque[Part] = field(default_factory=deque)
    later: int = 0
    not_before: float = 0.0
    wait: Wait | None = None
    proven: bool = False
    fails: int = 0
    dropped: bool = False
    error: str = ""

    @classmethod
    def of(cls, order: MoveOrder) -> Job:
        """Begin with an order."""
        parts = (Part(move.start, move.end, move.bytes) for move in order.ranges)
        kept = deque(part for part in parts if part.bytes > 0 and part.start < part.end)
        return cls(replace(order, ranges=()), kept)

    @property
    def left(self) -> int:
        """Bytes that are still to be moved."""
        return sum(part.bytes for part in self.parts) + self.later

    def leave_out(self, most: int, begin: int) -> int:
        """Keep so many parts, and leave others to later; returns the address of the first of them.

        Those from an address on come first: so with each plan it is the turn of others, and what
        does not move is in the way of nothing.
        """
        parts, left = self.parts, self.left
        turn = [part for part in parts if part.start >= begin]
        turn += [part for part in parts if part.start < begin]
        self.parts = deque(turn[:most])
        self.later = left - sum(part.bytes for part in self.parts)
        return turn[most].start

    def take(
        self, most: int, setbacks: Setbacks[JobKey], now: float, *, longest: int | None = None
    ) -> list[Part]:
        """Take parts of about `most` bytes off that may be tried now, ascending at first.

        Args:
            most: Bytes to move.
            setbacks: Ranges that are put off stay.
            now: The time.
            longest: Bytes of address space a part may have, for a kernel that walks each as
                a whole.
        """
        taken: list[Part] = []
        for _ in range(len(self.parts)):
            part = self.parts.popleft()
            for piece, is_open in self._by_setbacks(part, setbacks, now):
                if not is_open or most <= 0 or len(taken) == MAX_CALL_RANGES:
                    self.parts.append(piece)
                    continue
                rest: Part | None = piece
                while rest is not None and most > 0 and len(taken) < MAX_CALL_RANGES:
                    first, rest = self._window(rest, most, longest)
                    taken.append(first)
                    most -= max(first.bytes, 1)
                if rest is not None:
                    self.parts.appendleft(rest)
            if most <= 0 or len(taken) == MAX_CALL_RANGES:
                break
        return taken

    def put_back(self, parts: Sequence[Part], *, last: bool = False) -> None:
        """Put parts back, to be the next or the last to be taken."""
        if last:
            self.parts.extend(parts)
        else:
            self.parts.extendleft(reversed(parts))

    def look_elsewhere(self) -> None:
        """Let the next probe look at another place: the middle of the longest part."""
        longest = max(self.parts, key=lambda part: part.end - part.start, default=None)
        if longest is None:
            return
        self.parts.remove(longest)
        first, *second = reversed(self.halves(longest) or (longest,))
        self.parts.appendleft(first)
        self.parts.extend(second)

    def halves(self, part: Part) -> tuple[Part, Part] | None:
        """Cut a part in two where no page is cut; None if it is too short for that."""
        middle = self._align((part.start + part.end) // 2)
        return part.split(middle) if part.start < middle < part.end else None

    def _by_setbacks(
        self, part: Part, setbacks: Setbacks[JobKey], now: float
    ) -> list[tuple[Part, bool]]:
        pieces: list[tuple[Part, bool]] = []
        for start, end in setbacks.open_parts(self.order.key, part.start, part.end, now):
            if part.start < start:
                held, part = part.split(start)
                pieces.append((held, False))
            if end < part.end:
                opened, part = part.split(end)
                pieces.append((opened, True))
            else:
                return [*pieces, (part, True)]
        return [*pieces, (part, False)]

    def _window(self, part: Part, most: int, longest: int | None) -> tuple[Part, Part | None]:
        size = part.end - part.start
        if part.bytes > most or size > _SPARSE_BYTES:
            size = min(_SPARSE_BYTES, size * most // max(1, part.bytes))
        size = min(size, longest) if longest else size
        end = self._align(part.start + size)
        if end <= part.start:
            end = self._align(part.start) + max(CUT_ALIGNMENT, self.order.page_size)
        if end >= part.end:
            return part, None
        return part.split(end)

    def _align(self, address: int) -> int:
        step = max(CUT_ALIGNMENT, self.order.page_size)
        return address // step * step


def progress_of(jobs: Sequence[Job], done: int, stuck: int) -> Progress:
    """Sum up the jobs for one rule in one container, with what is known of them besides."""
    order, waits = jobs[0].order, [job.wait for job in jobs]
    wait = None if None in waits else next(iter(waits))
    error = next((job.error for job in jobs if job.error), "")
    return Progress(
        namespace=order.namespace,
        container=order.container,
        placement=order.placement,
        rule=order.rule,
        done=done,
        total=done + sum(job.left for job in jobs),
        stuck=stuck,
        wait=wait.reason if wait else None,
        message=error or (wait.message if wait else ""),
    )
