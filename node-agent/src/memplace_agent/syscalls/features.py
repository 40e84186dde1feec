# SPDX-License-Identifier: Apache-2.0
"""Whether this node has process_mbind() for us, and if not, why not.

The number comes from the kernel's announcement in sysfs and from nowhere else: on a
foreign kernel it may be any system call. With an announcement, six calls that can't do
harm check that the number is what it claims to be.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from memplace.errors import (
    FeatureUnavailable,
    KernelWithoutProcessMbind,
    MissingCapability,
    SeccompFiltered,
)
from memplace.reasons import Reason

from memplace_agent._memplace_sys import ffi
from memplace_agent.hostfs import HostFs
from memplace_agent.syscalls import (
    MPOL_ARGS_SIZE,
    MPOL_ARGS_SIZE_FUTURE,
    MPOL_FUTURE_BRK,
    MPOL_FUTURE_MMAP,
    MPOL_MF_FUTURE,
    MPOL_MF_FUTURE_EXEC,
    MPOL_MF_MOVE,
    MPOL_MF_MOVE_ALL,
    raw_call,
)
from memplace_agent.syscalls.moves import why_no_moves

# linux include/uapi/linux/capability.h
_CAPABILITIES = {"SYS_PTRACE": 19, "SYS_NICE": 23}

# What all versions accept: MPOL_MF_MOVE and MPOL_MF_MOVE_ALL.
_FLAGS_OF_VERSION_1 = MPOL_MF_MOVE | MPOL_MF_MOVE_ALL

_EACH = MPOL_FUTURE_BRK | MPOL_FUTURE_MMAP

RawCall = Callable[..., int]


@dataclass(frozen=True, slots=True)
class Features:
    """What the probe found.

    Attributes:
        nr: The number of process_mbind(); None unless everything is in order.
        version: Its version; 0 without a number.
        flags: The mask of MPOL_MF_* that it accepts; 0 without a number.
        future: The mask of MPOL_FUTURE_* that it accepts; 0 if defaults for mappings to come
            can't be set, each for itself and to be kept by execve().
        error: What is in the way, None when nothing is.
        move_error: What is in the way of move_pages(), None when nothing is.
        look_error: What is in the way of reading processes at all, None when nothing is.
        warning: What is not in the way, but makes others wait; empty when nothing does.
        procmap_query_size: Bytes of struct procmap_query that the kernel announces, 0 if it
            announces nothing: see `memplace_agent.procfs.query.best_way`.
        walks: Policies of other processes are told by numa_maps alone.
    """

    nr: int | None
    version: int = 0
    flags: int = 0
    future: int = 0
    error: FeatureUnavailable | None = None
    warning: str = ""
    procmap_query_size: int = 0
    move_error: FeatureUnavailable | None = None
    look_error: FeatureUnavailable | None = None
    walks: bool = False

    @property
    def keeps_defaults(self) -> bool:
        """Whether the kernel keeps a default for brk() and one for mmap()."""
        return self.future & _EACH == _EACH

    @property
    def reason(self) -> Reason:
        """The reason of the condition Supported."""
        return self.error.reason if self.error else Reason.PROCESS_MBIND_AVAILABLE

    @property
    def message(self) -> str:
        """What was found, and what to do about it."""
        if self.error is None:
            found = f"process_mbind() is system call {self.nr} of this kernel"
            return f"{found}; {self.warning}" if self.warning else found
        return f"{self.error} {self.error.HELP}"


def probe(
    host: HostFs,
    call: RawCall = raw_call,
    try_move: Callable[[], FeatureUnavailable | None] = why_no_moves,
    missing: Collection[str] | None = None,
) -> Features:
    """Find out what can be used of process_mbind() and move_pages(); touches no other process.

    Args:
        host: Where sysfs and the agent's own /proc/self/status are.
        call: Makes the call; a test on a kernel without it gives another.
        try_move: Tries move_pages().
        missing: Capabilities to do without; default: those that we do run without.
    """
    if missing is None:
        missing = missing_capabilities((host.proc / "self/status").read_text())
    look_error = _without(missing, "SYS_PTRACE")
    move_error = _without(missing, *missing) or try_move()
    try:
        nr, version, args_size = _announced(host.announcement)
        _check_signature(nr, call)
        if lacking := _without(missing, *missing):
            raise lacking
    except FeatureUnavailable as err:
        return Features(
            None,
            error=err,
            procmap_query_size=procmap_query_size(host),
            move_error=move_error,
            look_error=look_error,
        )
    flags = _mask(host.announcement / "flags", _FLAGS_OF_VERSION_1)
    to_come = MPOL_MF_FUTURE | MPOL_MF_FUTURE_EXEC
    has_future = args_size >= MPOL_ARGS_SIZE_FUTURE and flags & to_come == to_come
    return Features(
        nr,
        version,
        flags=flags,
        future=_mask(host.announcement / "future", 0) if has_future else 0,
        warning=_cpu_limit(host.own_cgroup / "cpu.max"),
        procmap_query_size=procmap_query_size(host),
        move_error=move_error,
    )


def blocked(features: Features, error: FeatureUnavailable) -> Features:
    """Return what a node has where something is in the way of whatever the agent could do."""
    return replace(features, nr=None, error=error, move_error=error, look_error=error)


def procmap_query_size(host: HostFs) -> int:
    """Return the size of struct procmap_query that the kernel announces, 0 without a word.

    It is worth asking for without process_mbind(), too: a node may be able to look only.
    """
    try:
        return int((host.announcement / "procmap_query_size").read_text())
    except (OSError, ValueError):
        return 0


def missing_capabilities(status: str) -> list[str]:
    """Return which capabilities the agent needs and /proc/self/status does not show."""
    effective = next(
        (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0
    )
    return [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]


def _without(missing: Collection[str], *needed: str) -> MissingCapability | None:
    lacks = [name for name in needed if name in missing]
    return MissingCapability(f"the agent runs without {' and '.join(lacks)}.") if lacks else None


def _cpu_limit(file: Path) -> str:
    # Linux 6.12 takes the CPU away in the middle of a system call, with the target's lock held
    # and its pages unmapped. Source: Documentation/admin-guide/cgroup-v2.rst, cpu.max.
    try:
        quota, period = file.read_text().split()
    except (OSError, ValueError):  # no container, no cgroup v2 or no cpu controller
        return ""
    if quota == "max":
        return ""
    return (
        f"but the agent is limited to {int(quota) / int(period):g} CPUs: a throttled mover keeps "
        "its victims waiting; take the CPU limit off (a LimitRange may have added it)"
    )


def _announced(directory: Path) -> tuple[int, int, int]:
    names = ("nr", "version", "args_size")
    try:
        numbers = {name: int((directory / name).read_text()) for name in names}
    except FileNotFoundError as err:
        raise KernelWithoutProcessMbind("this kernel does not announce process_mbind().") from err
    except ValueError as err:
        raise KernelWithoutProcessMbind("the kernel's announcement has no number.") from err
    if numbers["args_size"] < MPOL_ARGS_SIZE:
        raise KernelWithoutProcessMbind("the kernel announces a process_mbind() unknown here.")
    return numbers["nr"], numbers["version"], numbers["args_size"]


def _mask(file: Path, otherwise: int) -> int:
    # An odd mask is no reason to do without the call: fewer of its flags are used then.
    try:
        return int(file.read_text(), 16)
    except (OSError, ValueError):
        return otherwise


def _check_signature(nr: int, call: RawCall) -> None:
    # Larger than a page: the kernel may read as much as the size that is given.
    room = ffi.new("char[]", _page_size() + 1)
    zeroed = ffi.cast("struct memplace_mpol_args *", room)
    own = os.pidfd_open(os.getpid())
    # Each says something of the order in which the call looks at its arguments.
    expected = (
        ((-1, ffi.NULL, 0, ffi.NULL, 0, 0xFFFFFFFF), errno.EINVAL),
        ((-1, ffi.NULL, 0, zeroed, _page_size() + 1, 0), errno.E2BIG),
        ((-1, ffi.NULL, 0, ffi.NULL, MPOL_ARGS_SIZE - 1, 0), errno.EINVAL),
        ((-1, ffi.NULL, 0, ffi.NULL, MPOL_ARGS_SIZE, 0), errno.EFAULT),
        ((-1, ffi.NULL, 0, zeroed, MPOL_ARGS_SIZE, 0), errno.EBADF),
        ((own, ffi.NULL, 0, zeroed, MPOL_ARGS_SIZE, 0), 0),
    )
    try:
        for args, want in expected:
            _compare(-call(nr, *args), want)
    finally:
        os.close(own)


def _compare(got: int, want: int) -> None:
    if got == want:
        return
    # runc lets numbers beyond a profile's largest answer ENOSYS, other refused ones EPERM.
    if got in (errno.ENOSYS, errno.EPERM):
        name = errno.errorcode[got]
        raise SeccompFiltered(got, f"the kernel has process_mbind(), but answers {name}.")
    raise KernelWithoutProcessMbind(
        f"the announced number is another call: errno {got} instead of {want}."
    )


def _page_size() -> int:
    return os.sysconf("SC_PAGE_SIZE")
