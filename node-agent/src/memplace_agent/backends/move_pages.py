# SPDX-License-Identifier: Apache-2.0
"""The backend of any kernel: moves pages that are there, and nothing keeps those to come.

Pages are looked up one by one (move_pages without nodes) in what the order names, 2 MiB at a
time, and those on wrong nodes are moved before the next are looked up. No page table is walked
as a whole but of ranges so vast that the pages in memory have to be found first.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NoReturn

from memplace.api.v1alpha1 import BackendName
from memplace.calls import MAX_MOVE_BYTES
from memplace.errors import FeatureUnavailable, MissingCapability, ProcessGone
from memplace.kinds import Capability
from memplace.spread import blocks, target

from memplace_agent.backends.protocol import Backend, Moving
from memplace_agent.errors import WITHOUT_MEMORY, CallFailed, TryAgain
from memplace_agent.hostfs import HostFs
from memplace_agent.procfs.present import Present
from memplace_agent.procfs.sample import PageNodes
from memplace_agent.syscalls import Kernel, PidFd, Ranges
from memplace_agent.syscalls.features import Features
from memplace_agent.syscalls.moves import NOT_TOLD, MovesPages

# As `procfs.sample`: calls are short and rest in between, for who waits for the mmap_lock.
_CALL = 128
_REST_S = 0.0001
# Of more address space than is moved in a turn, the kernel is asked what is in memory.
_DENSE_BYTES = MAX_MOVE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class MovePages(Backend):
    """See the module.

    Attributes:
        host: Where /proc is.
        kernel: Tells whether a process still lives.
        ask: Tells where pages are.
        call: Moves pages.
        present: Tells what is in memory of vast ranges.
        free: Reads what a move may take of each NUMA node, in bytes.
    """

    name: ClassVar[BackendName] = BackendName.MOVE_PAGES

    host: HostFs
    kernel: Kernel
    ask: PageNodes
    call: MovesPages
    present: Present
    free: Callable[[], Mapping[int, int]]

    @staticmethod
    def why_not(features: Features) -> FeatureUnavailable | None:
        """See `Backend.why_not`."""
        return features.move_error

    @staticmethod
    def offers(features: Features) -> frozenset[Capability]:  # noqa: ARG004
        """See `Backend.offers`."""
        return frozenset({Capability.MEASURES, Capability.MOVES})

    def move(self, pidfd: PidFd, order: Moving, ranges: Ranges, check: Callable[[], None]) -> int:
        """See `Backend.move`; ends between two arrays when the order is not wanted any more."""
        free = dict(self.free())
        left = MAX_MOVE_BYTES
        for done, (start, end) in enumerate(ranges):
            try:
                for pages in self._misplaced(pidfd, order, start, end):
                    size = len(pages) * order.page_size
                    if not order.may_go_on or size > left:
                        return max(1, done)
                    check()
                    node = target(
                        order.policy,
                        pages[0],
                        size,
                        free,
                        order.weights,
                        page_size=order.page_size,
                    )
                    self._move(pidfd, order, pages, node)
                    left -= size
                    free[node] = max(0, free.get(node, 0) - size)
            except (CallFailed, MissingCapability):
                # The next call begins with the range that failed, and gets the error.
                if not done:
                    raise
                return done
        return len(ranges)

    def _misplaced(self, pidfd: PidFd, order: Moving, start: int, end: int) -> Iterator[list[int]]:
        """Yield the addresses of pages on wrong nodes, by blocks of which each has one target."""
        parts: Ranges | None = None
        if end - start > _DENSE_BYTES:
            parts = self.present(self.host.pid(order.pid), [(start, end)])
        for first, last in blocks([(start, end)] if parts is None else parts, order.page_size):
            found: list[int] = []
            pages = range(first, last, order.page_size)
            for at in range(0, len(pages), _CALL):
                some = pages[at : at + _CALL]
                nodes = self._asked(pidfd, order, some)
                pairs = zip(some, nodes, strict=True)
                found += [
                    page for page, node in pairs if node >= 0 and node not in order.policy.nodes
                ]
                time.sleep(_REST_S)
            if found:
                yield found

    def _asked(self, pidfd: PidFd, order: Moving, pages: range) -> list[int]:
        try:
            return list(self.ask(order.pid, pages))
        except OSError as err:
            self._raise(pidfd, err)

    def _move(self, pidfd: PidFd, order: Moving, pages: list[int], node: int) -> None:
        # The call knows a process by its pid only. While it lives, the pid is its own.
        if not self.kernel.is_alive(pidfd):
            raise ProcessGone(errno.ESRCH, "move_pages: the process is gone")
        try:
            while pages:
                targets = [node] * len(pages)
                found = self.call(order.pid, pages, targets, move_all=order.move_all)
                # A page that does not move can end the call early; those behind it are not to
                # wait for it for ever.
                told = [at for at, status in enumerate(found) if status != NOT_TOLD]
                pages = pages[told[-1] + 1 :] if told else []
        except OSError as err:
            self._raise(pidfd, err)

    def _raise(self, pidfd: PidFd, err: OSError) -> NoReturn:
        number = err.errno or errno.EIO
        if not self.kernel.is_alive(pidfd):
            raise ProcessGone(errno.ESRCH, "move_pages: the process is gone") from err
        if number == errno.ESRCH:
            raise TryAgain(number, "move_pages: the process executes another program") from err
        if number == errno.EINVAL:  # nothing else about the call can be invalid
            raise TryAgain(errno.ESRCH, f"move_pages: {WITHOUT_MEMORY}") from err
        if number == errno.EPERM:
            raise MissingCapability(number, "move_pages: not allowed") from err
        if number in (errno.EACCES, errno.ENODEV):
            # What was planned is not so any more: the cpuset has changed, or a node went.
            text = "move_pages: the node is not there, or not for this process, any more"
            raise TryAgain(errno.ESTALE, text) from err
        raise CallFailed(number, f"move_pages: {err}") from err
