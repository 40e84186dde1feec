# SPDX-License-Identifier: Apache-2.0
"""Where pages are, by sampling: of regions for a report, of ranges for the mover."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from memplace.regions import Region
from memplace.residency import Residency, Span

from memplace_agent.containers.pinning import Pinned
from memplace_agent.engine.orders import MoveOrder
from memplace_agent.engine.pool import Pool, Turn
from memplace_agent.errors import ProcessGone
from memplace_agent.procfs.process import Reader
from memplace_agent.procfs.query import Way
from memplace_agent.procfs.sample import PageNodes, sample
from memplace_agent.syscalls import PidFd, Ranges
from memplace_agent.syscalls.views import Ended, page_nodes

__all__ = ["Measured", "Sampler"]

_DEADLINE_S = 5.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Regions with their pages, and how exact that is.

    Attributes:
        regions: Those that were asked for, in their order.
        residency: Of all of them together; None for no region.
    """

    regions: tuple[Region, ...]
    residency: Residency | None = None


@dataclass(frozen=True, slots=True)
class Sampler:
    """Looks at pages of processes.

    Attributes:
        reader: Tells the policies of ranges, where the kernel does.
        pool: Threads for calls that may not come back.
        ask: Makes the call.
    """

    reader: Reader
    pool: Pool
    ask: PageNodes = page_nodes

    def measure(self, pinned: Pinned, group: str, regions: Sequence[Region]) -> Measured:
        """Tell where the pages of regions are.

        Raises:
            ProcessGone: The process ended.
            Stuck: It did not let itself be looked at in time.
            CallFailed: The kernel refuses.
        """
        if not regions:
            return Measured(())
        spans = [Span(region.start, region.end, region.page_size) for region in regions]
        found = self.pool.run(
            partial(self._sample, pinned.pid, spans),
            target=pinned.identity,
            group=group,
            deadline_s=_DEADLINE_S,
            pidfd=pinned.pidfd,
        )
        with_pages = (
            replace(region, pages=found.by_span.get(index, {}))
            for index, region in enumerate(regions)
        )
        return Measured(tuple(with_pages), found)

    def _sample(self, pid: int, spans: Sequence[Span], turn: Turn) -> Residency:
        alive = partial(self.reader.kernel.is_alive, PidFd(turn.pidfd))
        deadline = time.monotonic() + _DEADLINE_S
        return sample(pid, spans, deadline, is_alive=alive, ask=self.ask)

    def look(self, pidfd: PidFd, order: MoveOrder, ranges: Ranges) -> Sequence[int]:
        """Return for each range the bytes on wrong nodes, as the mover wants to know it.

        In the calling thread, and as long as the process takes. Where the kernel tells
        policies, a range that has another one by now has nothing to move.
        """
        alive = partial(self.reader.kernel.is_alive, pidfd)
        has_policy = self._policy_test(order)
        spans = [Span(start, end, order.page_size) for start, end in ranges]
        deadline = time.monotonic() + _DEADLINE_S
        found = sample(order.pid, spans, deadline, is_alive=alive, ask=self.ask)
        return [
            sum(size for node, size in pages.items() if node not in order.nodes)
            if has_policy(span)
            else 0
            for span, pages in ((s, found.by_span.get(i, {})) for i, s in enumerate(spans))
        ]

    def _policy_test(self, order: MoveOrder) -> Callable[[Span], bool]:
        if self.reader.way is not Way.POLICY:
            return lambda _: True
        deadline = time.monotonic() + _DEADLINE_S
        directory = self.reader.host.pid(order.pid)
        found = self.reader.ask(directory, self.reader.way, deadline, self.reader.limit)
        if found.ended is not Ended.COMPLETE:
            raise ProcessGone("the mappings of the process can't be read any more")
        vmas = found.vmas

        def has_policy(span: Span) -> bool:
            index = vmas.at(span.start)
            return index is not None and vmas[index].of.policy == order.policy

        return has_policy
