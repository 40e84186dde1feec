# SPDX-License-Identifier: Apache-2.0
"""The error tree: each class has a reason for machines and help for people.

``reason`` is PascalCase and goes into conditions, events and metric labels.
``HELP`` says what an admin can change; it is never part of the message, so
that a log line stays one line. Domain errors also are the stdlib's error of
the same meaning, so callers may catch either.
"""

from __future__ import annotations

from typing import ClassVar

from memplace.reasons import Reason


class MemplaceError(Exception):
    """The root of everything memplace raises on purpose."""

    reason: ClassVar[Reason] = Reason.FAILED
    HELP: ClassVar[str] = "Look at the log of the component that reports this."


class ParseError(MemplaceError, ValueError):
    """Some text does not have the form it should have.

    Attributes:
        what: What was to be read, for example ``node list``.
        text: The offending text as it was read.
        path: The file it came from, empty when there is none.
        line_no: The line in that file, from 1; 0 when there is none.
    """

    reason = Reason.PARSE_ERROR
    HELP = "The text came from the kernel or from a manifest; compare it with the form named."

    def __init__(self, what: str, text: str, *, path: str = "", line_no: int = 0) -> None:
        self.what = what
        self.text = text
        self.path = path
        self.line_no = line_no
        where = f"{path}:{line_no}: " if path else ""
        super().__init__(f"{where}not a {what}: {text!r}")


class ValidationError(MemplaceError, ValueError):
    """An object of the API makes no sense.

    Attributes:
        field: Where, for example ``spec.rules[0].policy``; may be empty.
        problem: What is wrong and what to write instead.
    """

    reason = Reason.INVALID
    HELP = "Change the named field of the object as the message says and apply it again."

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        self.problem = problem
        super().__init__(f"{field}: {problem}" if field else problem)


class ProcessGone(MemplaceError, ProcessLookupError):  # noqa: N818  says what happened
    """The process ended between two steps (ESRCH, or ENOENT below /proc): normal."""

    reason = Reason.PROCESS_GONE
    HELP = "Nothing to do: the next pass sees the processes that exist then."


class RulesTooCostly(MemplaceError):  # noqa: N818  says what happened
    """To compare the rules with the mappings of a process would keep the others waiting.

    Attributes:
        about: How much there is to compare, for people.
    """

    reason = Reason.RULES_TOO_COSTLY
    HELP = (
        "Write fewer entries, and patterns with fewer *, ? and [...]: a path that begins with "
        "letters and ends with * costs least."
    )

    def __init__(self, about: str) -> None:
        self.about = about
        super().__init__(f"to compare the rules with a process would take too long: {about}")


class FeatureUnavailable(MemplaceError, OSError):  # noqa: N818  says what happened
    """The node can't do what was asked; the subclasses say why."""

    reason = Reason.FEATURE_UNAVAILABLE
    HELP = "See the conditions of this node's NodeMemory object."


class KernelWithoutProcessMbind(FeatureUnavailable):
    """The kernel does not announce process_mbind() in sysfs (ENOSYS if called)."""

    reason = Reason.KERNEL_WITHOUT_PROCESS_MBIND
    HELP = (
        "Boot a kernel built from kernel/ of memplace; it announces the call in "
        "/sys/kernel/mm/mempolicy/process_mbind/."
    )


class KernelWithoutMovePages(FeatureUnavailable):
    """The kernel has no move_pages(): it is built without NUMA or without migration (ENOSYS)."""

    HELP = "Boot a kernel with CONFIG_NUMA and CONFIG_MIGRATION, as distributions build it."


class SeccompFiltered(FeatureUnavailable):
    """A seccomp filter of the agent's own container refuses the call (ENOSYS, EPERM)."""

    reason = Reason.SECCOMP_FILTERED
    HELP = (
        "Run the agent with the seccomp profile that its chart installs "
        "(localhostProfile memplace/agent.json), not with RuntimeDefault."
    )


class MissingCapability(FeatureUnavailable):
    """The agent lacks CAP_SYS_NICE or may not read the target (EPERM)."""

    reason = Reason.MISSING_CAPABILITY
    HELP = "Give the agent's container the capabilities SYS_NICE and SYS_PTRACE."
