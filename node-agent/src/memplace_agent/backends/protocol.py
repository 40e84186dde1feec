# SPDX-License-Identifier: Apache-2.0
"""What a backend is: a name, what it can, why a node can't have it, and three verbs.

The seam is where something is carried out on a process that is pinned. What is to be done, when
and in which portions is decided above it, for all backends alike. `choice` says which backend a
node has; `engine.build` makes it, and gives it its fields.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import ClassVar, NoReturn, Protocol

from memplace.api.v1alpha1 import BackendName
from memplace.errors import FeatureUnavailable
from memplace.kinds import Capability, Policy, RegionKind

from memplace_agent.syscalls import PidFd, Ranges
from memplace_agent.syscalls.features import Features


class Moving(Protocol):
    """What of an order to move pages a backend has to know; see `engine.orders.MoveOrder`."""

    @property
    def pid(self) -> int: ...  # noqa: D102
    @property
    def policy(self) -> Policy: ...  # noqa: D102
    @property
    def weights(self) -> Mapping[int, int]: ...  # noqa: D102
    @property
    def page_size(self) -> int: ...  # noqa: D102
    @property
    def move_all(self) -> bool: ...  # noqa: D102
    @property
    def private_anonymous(self) -> bool: ...  # noqa: D102
    @property
    def may_go_on(self) -> bool: ...  # noqa: D102


class Backend(Protocol):
    """One way to act on processes. What it has no capability for, it refuses.

    Attributes:
        name: As NodeMemory spells it.
        longest: Bytes of address space that a range of a move may have; None for any.
        knows_private: Whether `set_policy` can tell private anonymous memory from all else.
    """

    name: ClassVar[BackendName]

    @property
    def longest(self) -> int | None:  # noqa: D102
        return None

    @property
    def knows_private(self) -> bool:  # noqa: D102
        return False

    @staticmethod
    def why_not(features: Features) -> FeatureUnavailable | None:
        """Return what keeps a node from having it, None if nothing does.

        Args:
            features: What was tried on the node: facts, never a version.
        """

    @staticmethod
    def offers(features: Features) -> frozenset[Capability]:
        """Return what it can on a node that has it. Moves without policies are not sticky."""

    def set_policy(
        self, pidfd: PidFd, ranges: Ranges, policy: Policy, *, private_anonymous: bool
    ) -> int:
        """Set a policy on ranges, and move nothing; returns how many were done, at least 1.

        Args:
            pidfd: The process.
            ranges: Half-open, at most MAX_CALL_RANGES.
            policy: The policy.
            private_anonymous: Leave a range alone that is something else by now, if it can be
                told.

        Raises:
            ProcessGone: It ended.
            CallFailed: The first range can't be done; `engine.answers` says what that means.
            MissingCapability: The kernel refuses this process.
        """
        self._refuse(pidfd, ranges, policy, private_anonymous)

    def set_default(
        self, pidfd: PidFd, policy: Policy, kinds: Collection[RegionKind], least: int
    ) -> None:
        """Set the default of mappings to come, or take it away; raises as `set_policy`.

        Args:
            pidfd: The process.
            policy: The policy; the default policy takes the default away.
            kinds: BRK for what brk() adds, ANONYMOUS for what mmap() makes.
            least: Bytes of the smallest mmap() that gets it.
        """
        self._refuse(pidfd, policy, kinds, least)

    def move(self, pidfd: PidFd, order: Moving, ranges: Ranges, check: Callable[[], None]) -> int:
        """Move pages of ranges to where an order wants them; raises as `set_policy`.

        Pages that can't be moved stay: whoever asks looks again afterwards.

        Args:
            pidfd: The process.
            order: Why, and where to.
            ranges: Half-open, at most MAX_CALL_RANGES.
            check: Called before each change; what it raises ends the rest.

        Returns:
            How many ranges were done, at least 1.
        """
        self._refuse(pidfd, order, ranges, check)

    def _refuse(self, *_: object) -> NoReturn:
        raise FeatureUnavailable(f"the backend {self.name} can't do that.")
