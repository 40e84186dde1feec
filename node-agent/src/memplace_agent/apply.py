# SPDX-License-Identifier: Apache-2.0
"""Carry out a plan on a pinned process. What came of it is measured by others, afterwards."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from memplace.calls import Action, Call, calls
from memplace.kinds import ExistingPages

from memplace_agent.errors import CallFailed, HoleInRange, MissingCapability, TryAgain
from memplace_agent.syscalls import MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, Kernel, PidFd

__all__ = ["ApplyReport", "apply"]

log = logging.getLogger(__name__)

# A process where this many ranges fail has one cause for all of them.
_MAX_ERRORS = 8

# The first version of process_mbind() that walks a range in short steps.
_STEPS_SINCE = 2


@dataclass(slots=True)
class ApplyReport:
    """What the calls answered.

    Attributes:
        again: Ranges left to the next pass because the process was busy: normal.
        errors: Other failures, at most a few; the ranges behind them were still tried.
    """

    again: int = 0
    errors: list[CallFailed | MissingCapability] = field(default_factory=list)


def apply(
    kernel: Kernel,
    pidfd: PidFd,
    actions: Sequence[Action],
    *,
    move_all: bool,
    progress: Callable[[], None] = lambda: None,
) -> ApplyReport:
    """Set the policies of a plan and move the pages it says.

    Args:
        kernel: Makes the calls.
        pidfd: The process.
        actions: What to do; those that are done already do no harm.
        move_all: Whether pages that other processes map too may be moved where the plan
            says so; otherwise only the others are.
        progress: Called before each call, for a watchdog.

    Raises:
        ProcessGone: The process ended; what was done is gone with it.
    """
    report = ApplyReport()
    for call in calls(actions, cut_moves=kernel.version < _STEPS_SINCE):
        flags = _flags(call, move_all)
        rest = call.ranges
        while rest and len(report.errors) + report.again < _MAX_ERRORS:
            progress()
            rest = rest[_one_call(kernel, pidfd, call, rest, flags, report) :]
    return report


def _flags(call: Call, move_all: bool) -> int:
    if call.existing is ExistingPages.LEAVE or not call.policy.nodes:
        return 0
    return MPOL_MF_MOVE_ALL if call.move_all and move_all else MPOL_MF_MOVE


def _one_call(
    kernel: Kernel,
    pidfd: PidFd,
    call: Call,
    ranges: Sequence[tuple[int, int]],
    flags: int,
    report: ApplyReport,
) -> int:
    # Returns how many ranges are behind us. A call that stops half way does not say why;
    # the next one begins with the range that stopped it and gets the errno.
    try:
        done = kernel.process_mbind(pidfd, ranges, call.policy, flags)
    except HoleInRange:  # not wholly mapped any more: normal
        return 1
    except TryAgain as err:
        log.debug("process_mbind of %x-%x: %s", *ranges[0], err)
        report.again += 1
        return 1
    except (CallFailed, MissingCapability) as err:
        log.debug("process_mbind of %x-%x: %s", *ranges[0], err)
        report.errors.append(err)
        return 1
    return _finished(ranges, done)


def _finished(ranges: Sequence[tuple[int, int]], done: int) -> int:
    for index, (start, end) in enumerate(ranges):
        done -= end - start
        if done < 0:
            return index
    return len(ranges)


def errno_name(err: OSError) -> str:
    """Return the name of an errno, as a metric's label."""
    return errno.errorcode.get(err.errno or 0, "none")
