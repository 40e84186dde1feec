# SPDX-License-Identifier: Apache-2.0
"""What an answer of process_mbind() means for what is left to do."""

from __future__ import annotations

import errno
from enum import Enum

from memplace.errors import MissingCapability, ProcessGone

from memplace_agent.errors import CallFailed, HoleInRange


class Answer(Enum):
    """Whom an error is about, and what becomes of it."""

    GONE = "the process ended: nothing is left to do"
    BUSY = "the process is in the middle of something: all of it a little later"
    REFUSED = "the kernel refuses this process: all of it much later"
    CHANGED = "something else is mapped there by now: that range is left to the next plan"
    FAILED = "that range alone fails: it is put off, those behind it are not"


# Errors that are about the process, whichever range comes first in the call.
_BUSY = (errno.EBUSY, errno.ESRCH, errno.EINTR)


def answer_of(error: Exception) -> Answer:
    """Tell what an error of a call means.

    ESRCH of a process that lives is BUSY (a thread of it executes another program), of one
    that does not GONE. ENOMEM (it has as many mappings as it may have, or the kernel has no
    memory), EIO (pages that stay) and EINVAL (a range that cannot be split there) are about
    one range. EPERM and EACCES are about the process, ENOSYS about the kernel.

    Source: process_mbind(2), ERRORS.
    """
    if isinstance(error, ProcessGone):
        return Answer.GONE
    if isinstance(error, HoleInRange):
        return Answer.CHANGED
    if isinstance(error, MissingCapability):
        return Answer.REFUSED
    if isinstance(error, CallFailed):
        if error.errno == errno.ESTALE:
            return Answer.CHANGED
        if error.errno in _BUSY:
            return Answer.BUSY
        if error.errno == errno.ENOSYS:
            return Answer.REFUSED
        return Answer.FAILED
    return Answer.REFUSED
