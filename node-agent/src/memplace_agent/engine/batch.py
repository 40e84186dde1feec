# SPDX-License-Identifier: Apache-2.0
"""One call that moves pages: what it is made for, and what came of it, as measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from memplace.errors import MissingCapability, ProcessGone

from memplace_agent.backends.protocol import Backend
from memplace_agent.engine.orders import Job, Look, Part
from memplace_agent.errors import CallFailed
from memplace_agent.syscalls import PidFd, Ranges


@dataclass(slots=True)
class Batch:
    """Parts of a job, and what becomes of each of them.

    Attributes:
        job: Whose they are.
        parts: What was taken off it.
        most: Bytes the call may move.
        untried: Parts that were not reached.
        emptied: Parts of which nothing is left to move.
        stayed: Parts with bytes that did not move; their bytes are these.
        failed: The part whose errno `error` is, or none.
        cost: Bytes the call was made for; 0 if none was made.
        moved: Bytes that arrived.
        error: What went wrong, if something did.
    """

    job: Job
    parts: list[Part]
    most: int
    untried: list[Part] = field(default_factory=list)
    emptied: list[Part] = field(default_factory=list)
    stayed: list[Part] = field(default_factory=list)
    failed: list[Part] = field(default_factory=list)
    cost: int = 0
    moved: int = 0
    error: Exception | None = None


def carry_out(
    batch: Batch,
    backend: Backend,
    look: Look,
    pidfd: PidFd,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Look, move what is to be moved, and look again; `check` is asked before each change.

    Raises:
        ProcessGone: The process ended.
    """
    order = batch.job.order
    parts = _fitting(batch, look, pidfd)
    # Looks take a moment, too; this is the last one before the pages are taken.
    if not parts or not order.may_go_on or batch.job.dropped:
        batch.untried[:0] = parts
        return
    try:
        done = backend.move(pidfd, order, _ranges(parts), check)
    except ProcessGone:
        raise
    except (CallFailed, MissingCapability) as error:
        # It may have moved pages of the range all the same.
        batch.cost = parts[0].bytes
        batch.error, batch.failed = error, parts[:1]
        batch.untried[:0] = parts[1:]
        return
    # Where it stopped half way, the next call begins, and gets the errno.
    batch.untried[:0] = parts[done:]
    _measure(batch, look, pidfd, parts[:done])


def _fitting(batch: Batch, look: Look, pidfd: PidFd) -> list[Part]:
    # What a plan knows of a range is some time old, and no more than an average.
    rest, fitting, size = batch.parts, list[Part](), 0
    for part, found in zip(rest, look(pidfd, batch.job.order, _ranges(rest)), strict=True):
        part.bytes = found
        if not found:
            batch.emptied.append(part)
        elif batch.untried or (fitting and size + found > batch.most):
            batch.untried.append(part)
        else:
            first = part if fitting else _shortened(batch, look, pidfd, part)
            fitting.append(first)
            size += first.bytes
    return fitting


def _shortened(batch: Batch, look: Look, pidfd: PidFd, part: Part) -> Part:
    # The first piece of it that has something to move, and not too much.
    while part.bytes > batch.most and (halves := batch.job.halves(part)):
        total, (first, second) = part.bytes, halves
        first.bytes = min(total, look(pidfd, batch.job.order, _ranges([first]))[0])
        second.bytes = total - first.bytes
        if first.bytes:
            batch.untried.insert(0, second)
            part = first
        else:
            batch.emptied.append(first)
            part = second
    return part


def _measure(batch: Batch, look: Look, pidfd: PidFd, parts: Sequence[Part]) -> None:
    batch.cost = sum(part.bytes for part in parts)
    left = look(pidfd, batch.job.order, _ranges(parts))
    for part, after in zip(parts, left, strict=True):
        batch.moved += max(0, part.bytes - after)
        if after:
            batch.stayed.append(Part(part.start, part.end, after))
        else:
            batch.emptied.append(part)


def _ranges(parts: Sequence[Part]) -> Ranges:
    return [(part.start, part.end) for part in parts]
