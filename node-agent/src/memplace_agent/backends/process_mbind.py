# SPDX-License-Identifier: Apache-2.0
"""The backend of a kernel with process_mbind(): policies, moves, and defaults where it has them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import ClassVar

from memplace.api.v1alpha1 import BackendName
from memplace.calls import CUT_ALIGNMENT
from memplace.errors import FeatureUnavailable
from memplace.kinds import Capability, Policy, RegionKind

from memplace_agent.backends.protocol import Backend, Moving
from memplace_agent.errors import CallFailed
from memplace_agent.syscalls import (
    MPOL_FUTURE_BRK,
    MPOL_FUTURE_MMAP,
    MPOL_MF_MOVE,
    MPOL_MF_MOVE_ALL,
    MPOL_MF_PRIVATE_ANON,
    Kernel,
    PidFd,
    Ranges,
)
from memplace_agent.syscalls.features import Features

_FUTURE = {RegionKind.BRK: MPOL_FUTURE_BRK, RegionKind.ANONYMOUS: MPOL_FUTURE_MMAP}

# The first version of process_mbind() that walks a range in short steps.
_STEPS_SINCE = 2


class ProcessMbind(Backend):
    """See the module."""

    name: ClassVar[BackendName] = BackendName.PROCESS_MBIND

    def __init__(self, kernel: Kernel, *, flags: int) -> None:
        """Make one.

        Args:
            kernel: Makes the calls.
            flags: The mask of MPOL_MF_* that the kernel announces.
        """
        self._kernel = kernel
        self._private = flags & MPOL_MF_PRIVATE_ANON

    @property
    def longest(self) -> int | None:
        """Version 1 walks a range as a whole, with the target's mmap_lock held for writing."""
        return CUT_ALIGNMENT if self._kernel.version < _STEPS_SINCE else None

    @property
    def knows_private(self) -> bool:
        """Version 1 has no MPOL_MF_PRIVATE_ANON."""
        return bool(self._private)

    @staticmethod
    def why_not(features: Features) -> FeatureUnavailable | None:
        """See `Backend.why_not`."""
        return features.error

    @staticmethod
    def offers(features: Features) -> frozenset[Capability]:
        """Offer all but defaults, which not every version keeps; see `Backend.offers`."""
        known = frozenset(Capability)
        return known if features.keeps_defaults else known - {Capability.DEFAULTS}

    def set_policy(
        self, pidfd: PidFd, ranges: Ranges, policy: Policy, *, private_anonymous: bool
    ) -> int:
        """See `Backend.set_policy`."""
        return self._mbind(pidfd, ranges, policy, self._private if private_anonymous else 0)

    def set_default(
        self, pidfd: PidFd, policy: Policy, kinds: Collection[RegionKind], least: int
    ) -> None:
        """See `Backend.set_default`."""
        self._kernel.set_future(pidfd, policy, sum(_FUTURE[kind] for kind in kinds), least)

    def move(self, pidfd: PidFd, order: Moving, ranges: Ranges, check: Callable[[], None]) -> int:
        """Set the policy that the ranges have once more, with moves; see `Backend.move`."""
        check()
        flags = MPOL_MF_MOVE_ALL if order.move_all else MPOL_MF_MOVE
        flags |= self._private if order.private_anonymous else 0
        return self._mbind(pidfd, ranges, order.policy, flags)

    def _mbind(self, pidfd: PidFd, ranges: Ranges, policy: Policy, flags: int) -> int:
        # A call that stops half way does not say why; the next one begins with the range that
        # stopped it and gets the errno.
        done = _finished(ranges, self._kernel.process_mbind(pidfd, ranges, policy, flags))
        if not done:
            raise CallFailed(0, "process_mbind: did nothing, and did not say why")
        return done


def _finished(ranges: Sequence[tuple[int, int]], size: int) -> int:
    # How many of the ranges a call has done that returned a size in bytes.
    for index, (start, end) in enumerate(ranges):
        size -= end - start
        if size < 0:
            return index
    return len(ranges)
