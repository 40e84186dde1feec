# SPDX-License-Identifier: Apache-2.0
"""Errors of the agent's own: what process_mbind() answers."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

from memplace.errors import MemplaceError, MissingCapability, ProcessGone
from memplace.reasons import Reason

# move_pages() fails with EINVAL of a process that lives.
WITHOUT_MEMORY = "the process has no memory any more: it ends, or its first thread has ended"


class CallFailed(MemplaceError, OSError):  # noqa: N818  says what happened
    """A system call on a process failed; ``errno`` says how."""

    reason = Reason.FAILED
    HELP = "The errno is explained in process_mbind(2)."


class HoleInRange(CallFailed):
    """A range is not wholly mapped any more (EFAULT): the process unmapped it meanwhile."""

    HELP = "Nothing to do: the next pass sees the mappings that exist then."


class TryAgain(CallFailed):
    """The process is in the middle of something that passes.

    It has just been made by vfork() (EBUSY), executes a program or ends (ESRCH, but it lives),
    or maps something else by now (ESTALE).
    """

    reason = Reason.TRY_AGAIN
    HELP = "Nothing to do: the next pass tries again."


class DeadlinePassed(CallFailed):
    """It was not done when its deadline passed (ETIMEDOUT)."""

    reason = Reason.DEADLINE
    HELP = "The process is asked again later; it, or the node, may be busy."


def raise_errno(number: int, call: str) -> NoReturn:
    """Raise the error that an errno of a call on a process means.

    Raises:
        ProcessGone: ESRCH, no such process, zombie, or its address space is going away.
        HoleInRange: EFAULT, the first range has a hole.
        TryAgain: EBUSY, it still uses the memory of its parent; ESTALE, the first range is
            not private anonymous memory any more.
        MissingCapability: EPERM or EACCES, the kernel refuses this process.
        CallFailed: Anything else.
    """
    text = f"{call}: {os.strerror(number)}"
    if number == errno.ESRCH:
        raise ProcessGone(number, text)
    if number == errno.EFAULT:
        raise HoleInRange(number, text)
    if number in (errno.EBUSY, errno.ESTALE):
        raise TryAgain(number, text)
    if number in (errno.EPERM, errno.EACCES):
        raise MissingCapability(number, text)
    raise CallFailed(number, text)


def errno_name(err: OSError) -> str:
    """Return the name of an errno, as a metric's label."""
    return errno.errorcode.get(err.errno or 0, "none")


def told(err: Exception) -> str:
    """Return an error for people: with what they can do about it, if anybody thought of it."""
    return f"{err} {err.HELP}" if isinstance(err, MemplaceError) else repr(err)
