# SPDX-License-Identifier: Apache-2.0
"""Where pages are, by sampling: of regions for a report, of ranges for the mover."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from memplace.errors import ProcessGone
from memplace.residency import Ranged, Residency, Span

from memplace_agent.containers.pinning import Pinned
from memplace_agent.engine.orders import MoveOrder
from memplace_agent.engine.pool import Pool, Turn
from memplace_agent.hostfs import read_proc
from memplace_agent.node.forked import Others
from memplace_agent.procfs.exclusive import Exclusive, exclusive
from memplace_agent.procfs.numa_maps import parse_numa_maps
from memplace_agent.procfs.present import Present, present
from memplace_agent.procfs.process import Reader
from memplace_agent.procfs.query import Way
from memplace_agent.procfs.sample import PageNodes, sample
from memplace_agent.procfs.smaps import SMALL, Shares, shares
from memplace_agent.procfs.vmas import Vmas
from memplace_agent.syscalls import PidFd, Ranges
from memplace_agent.syscalls.views import Ended, page_nodes

_DEADLINE_S = 5.0

# numa_maps takes 8 ms for each GiB in pages of 4 KiB, whatever the size of the mappings.
_WALK_ERROR, _WALK_BYTES = 0.05, 128 << 20
# Who is alone may fork, and its child may be looked at first: what that has is the same then.
_ALL = 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Where pages of regions are, and how exact that is.

    Attributes:
        pages: By first address, the bytes per NUMA node of those that have any.
        error: The share of their bytes that may be on another node than said, with 95 %.
        common: By first address, the share of their bytes that something else maps as well;
            empty where that is not known.
        forked: Of what is private, where it is not known: what it is on average.
    """

    pages: Mapping[int, Mapping[int, int]]
    error: float = 0.0
    common: Mapping[int, float] = field(default_factory=dict)
    forked: float = 0.0


@dataclass(frozen=True, slots=True)
class Sampler:
    """Looks at pages of processes.

    Attributes:
        reader: Tells the policies of ranges, where the kernel does.
        pool: Threads for calls that may not come back.
        ask: Makes the call.
        present: Tells what is in memory of vast reservations.
        exclusive: Tells which pages nobody else maps.
        shares: Tells it of small processes, where that may not be asked.
    """

    reader: Reader
    pool: Pool
    ask: PageNodes = page_nodes
    present: Present = present
    exclusive: Exclusive = exclusive
    shares: Shares = shares

    def measure(
        self,
        pinned: Pinned,
        group: str,
        regions: Sequence[Ranged],
        resident: int,
        *,
        others: Others | None = None,
    ) -> Measured:
        """Tell where the pages of regions are.

        Args:
            pinned: The process.
            group: The namespace that pays for threads that are lost with it.
            regions: Which; ranges will do.
            resident: Bytes in memory of the process. Where a sample finds next to nothing,
                since the regions are vast reservations, the kernel can't tell what is in memory
                of them, and a walk of its page tables takes less than a millisecond, that is
                made instead; and a walk tells what others map, of a small process that
                another user than root has.
            others: Others may map the same pages: tell how many they do. This tells the share
                on average, where the kernel does not say it page by page.

        Raises:
            ProcessGone: The process ended.
            Stuck: It did not let itself be looked at in time.
            CallFailed: The kernel refuses.
        """
        if not regions:
            return Measured({})
        found = self.pool.run(
            partial(
                self._sample,
                pinned.pid,
                regions,
                with_others=others is not None,
                is_small=resident <= SMALL,
            ),
            target=pinned.identity,
            group=group,
            deadline_s=_DEADLINE_S,
            pidfd=pinned.pidfd,
        )
        if found.error > _WALK_ERROR and resident <= _WALK_BYTES:
            pages = self._walked(pinned, group, regions)
            return Measured(pages, forked=others() if others else _ALL)
        pages = {regions[index].start: pages for index, pages in found.by_span.items()}
        told = found.common or {}
        common = {
            regions[index].start: told.get(index, told[-1])
            for index in (found.by_span if told else ())
        }
        if others is None:
            return Measured(pages, found.error, forked=_ALL)
        forked = others() if found.common is None else 0.0
        return Measured(pages, found.error, common, forked)

    def _walked(
        self, pinned: Pinned, group: str, regions: Sequence[Ranged]
    ) -> dict[int, Mapping[int, int]]:
        file = self.reader.host.pid(pinned.pid) / "numa_maps"
        text = self.pool.run(
            lambda _: read_proc(file),
            target=pinned.identity,
            group=group,
            deadline_s=_DEADLINE_S,
        )
        if not self.reader.kernel.is_alive(pinned.pidfd):
            raise ProcessGone("the process ended while its pages were looked at")
        asked = {region.start for region in regions}
        return {one.start: one.pages for one in parse_numa_maps(text) if one.start in asked}

    def _sample(
        self, pid: int, spans: Sequence[Ranged], turn: Turn, *, with_others: bool, is_small: bool
    ) -> Residency:
        alive = partial(self.reader.kernel.is_alive, PidFd(turn.pidfd))
        found = self._sampled(pid, spans, alive, with_others=with_others)
        if with_others and found.common is None and is_small:
            return replace(found, common=self.shares(self.reader.host.pid(pid), spans))
        return found

    def _sampled(
        self,
        pid: int,
        spans: Sequence[Ranged],
        alive: Callable[[], bool],
        *,
        with_others: bool = False,
    ) -> Residency:
        directory = self.reader.host.pid(pid)
        return sample(
            pid,
            spans,
            time.monotonic() + _DEADLINE_S,
            is_alive=alive,
            ask=self.ask,
            narrow=partial(self.present, directory),
            alone=partial(self.exclusive, directory) if with_others else None,
        )

    def look(self, pidfd: PidFd, order: MoveOrder, ranges: Ranges) -> Sequence[int]:
        """Return for each range the bytes on wrong nodes, as the mover wants to know it.

        In the calling thread, and as long as the process takes. Where the kernel tells
        policies, a range that has another one by now has nothing to move; without a policy,
        one that is shared by now, or of a file, has not.
        """
        alive = partial(self.reader.kernel.is_alive, pidfd)
        is_meant = self._test(order)
        spans = [Span(start, end, order.page_size) for start, end in ranges]
        found = self._sampled(order.pid, spans, alive)
        return [
            sum(size for node, size in pages.items() if node not in order.nodes)
            if is_meant(span)
            else 0
            for span, pages in ((s, found.by_span.get(i, {})) for i, s in enumerate(spans))
        ]

    def _test(self, order: MoveOrder) -> Callable[[Span], bool]:
        if order.has_policy and self.reader.way is not Way.POLICY:
            return lambda _: True
        deadline = time.monotonic() + _DEADLINE_S
        directory = self.reader.host.pid(order.pid)
        found = self.reader.ask(directory, self.reader.way, deadline, self.reader.limit)
        if found.ended is not Ended.COMPLETE:
            raise ProcessGone("the mappings of the process can't be read any more")
        vmas = found.vmas
        if not order.has_policy:
            return lambda span: _is_private(vmas, span, anonymous=order.private_anonymous)

        def has_policy(span: Span) -> bool:
            index = vmas.at(span.start)
            return index is not None and vmas[index].of.whole_policy == order.policy

        return has_policy


def _is_private(vmas: Vmas, span: Span, *, anonymous: bool) -> bool:
    # Whether all of a range, or what is mapped of it, is still of the kind that was planned.
    for index in range(bisect_right(vmas.ends, span.start), len(vmas)):
        if vmas.starts[index] >= span.end:
            break
        one = vmas.classes[vmas.class_of[index]]
        if one.shared or (anonymous and one.inode):
            return False
    return True
