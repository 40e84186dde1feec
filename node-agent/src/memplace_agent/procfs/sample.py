# SPDX-License-Identifier: Apache-2.0
"""Where the pages of a process are, by asking for some of them (move_pages(2) without nodes).

Reading numa_maps or smaps walks all page tables with the target's mmap_lock held. This looks
up single pages, 16 under one lock, so an mmap() of the target waits for microseconds.
"""

from __future__ import annotations

import errno
import mmap
import random
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from memplace.errors import MissingCapability, ProcessGone
from memplace.residency import (
    POINTS,
    Ranged,
    Residency,
    Sample,
    Span,
    choose,
    common_shares,
    estimate,
    more,
)

from memplace_agent.errors import WITHOUT_MEMORY, CallFailed, DeadlinePassed, TryAgain
from memplace_agent.syscalls.views import page_nodes

# The look at so many takes some 0.1 s; an error of two points where a 16th is resident.
MOST_POINTS = 65536
# A call takes the target's mmap_lock once for 16 pages, again and again; a writer that sleeps
# is overtaken by who takes it so. So calls are short, some 20 us, and rest in between: then
# whoever waits is next.
_CALL = 128
_REST_S = 0.0001
_PAGE = mmap.PAGESIZE
# Of which it is asked whether others map them, too: an error of 3 points.
_MOST_ASKED = 1024

PageNodes = Callable[[int, Sequence[int]], "array[int]"]
# Ascending ranges to those parts of them that are in memory; None if that can't be told.
Narrow = Callable[[Sequence[tuple[int, int]]], "list[tuple[int, int]] | None"]
# Addresses of pages to whether each is mapped once only; None if that can't be told.
Alone = Callable[[Sequence[int]], "list[bool] | None"]


def _nowhere(_: Sequence[tuple[int, int]]) -> None:
    return None


def sample(
    pid: int,
    spans: Sequence[Ranged],
    deadline: float,
    *,
    is_alive: Callable[[], bool],
    draw: random.Random | None = None,
    points: int = POINTS,
    most: int = MOST_POINTS,
    ask: PageNodes = page_nodes,
    narrow: Narrow = _nowhere,
    alone: Alone | None = None,
) -> Residency:
    """Tell on which nodes the pages of some ranges of a process are.

    Args:
        pid: The process.
        spans: The ranges, with the page size of hugetlb.
        deadline: As of `time.monotonic`. One call that the kernel keeps waiting for the
            target's mmap_lock does not end by it: see `memplace_agent.engine.pool`.
        is_alive: Asks the pidfd, after the last call: if the process still lives, the pid
            has been this process's all the time.
        draw: Where chance comes from.
        points: How many of the pages that are looked at should be resident.
        most: How many are looked at at most where few are resident.
        ask: Makes the call.
        narrow: Tells what is in memory of ranges so vast that `most` looks find too little.
        alone: Tells what nobody else maps, for `Residency.common`; None to leave that out.

    Raises:
        ProcessGone: It ended.
        TryAgain: It has no memory any more: it is about to end, or its first thread has.
        MissingCapability: EPERM or EACCES.
        DeadlinePassed: So late that nothing can be told.
        CallFailed: Another errno.
    """
    draw = draw or random.Random()
    try:
        # An eighth more: where nearly all is resident, the first look is enough.
        chosen = choose(spans, draw, points + points // 8)
        found = _look(pid, chosen, deadline, ask, alone)
        again = more(found, most, points)
        parts = _Parts.of(spans, narrow) if again >= most else None
        if parts is not None:
            chosen = choose(parts.spans, draw, points + points // 8)
            found = parts.summed(_look(pid, chosen, deadline, ask, alone), found.total)
        elif again:
            found = _look(pid, choose(spans, draw, again), deadline, ask, alone)
    except OSError as err:
        if isinstance(err, CallFailed):
            raise
        _raise(err, alive=is_alive())
    if not is_alive():
        raise ProcessGone("the process ended while its pages were looked at")
    return found


def _look(
    pid: int, chosen: Sample, deadline: float, ask: PageNodes, alone: Alone | None
) -> Residency:
    statuses = array("i")
    for first in range(0, len(chosen.addresses), _CALL):
        if time.monotonic() >= deadline:
            raise DeadlinePassed(errno.ETIMEDOUT, "move_pages: the deadline passed")
        if first:
            time.sleep(_REST_S)
        statuses.extend(ask(pid, chosen.addresses[first : first + _CALL]))
    found = estimate(chosen, statuses)
    return replace(found, common=_common(chosen, statuses, alone)) if alone else found


def _common(chosen: Sample, statuses: Sequence[int], alone: Alone) -> dict[int, float] | None:
    hits = [index for index, status in enumerate(statuses) if status >= 0]
    hits = hits[:: 1 + len(hits) // _MOST_ASKED]
    found = alone([chosen.addresses[index] for index in hits])
    return None if found is None else common_shares([chosen.span_of[i] for i in hits], found)


class _Parts:
    """What is in memory of some spans."""

    def __init__(self, spans: list[Span], of: list[int]) -> None:
        self.spans = spans
        self._of = of  # of each the index of the span it is a part of

    @classmethod
    def of(cls, spans: Sequence[Ranged], narrow: Narrow) -> _Parts | None:
        # Huge pages of a pool are few, and looked at by their size.
        small = sorted(
            (span.start, span.end, index)
            for index, span in enumerate(spans)
            if span.page_size <= _PAGE
        )
        found = narrow([(start, end) for start, end, _ in small])
        if found is None:
            return None
        starts = [start for start, _, _ in small]
        indices = [small[bisect_right(starts, start) - 1][2] for start, _ in found]
        large = [i for i, span in enumerate(spans) if span.page_size > _PAGE]
        parts = [Span(start, end) for start, end in found]
        parts += [Span(spans[i].start, spans[i].end, spans[i].page_size) for i in large]
        return cls(parts, indices + large)

    def summed(self, found: Residency, total: int) -> Residency:
        """Sum the same by the spans they are parts of."""
        by_span: dict[int, dict[int, int]] = {}
        for number, pages in found.by_span.items():
            _add(by_span.setdefault(self._of[number], {}), pages)
        return replace(found, by_span=by_span, total=total, common=self._common(found))

    def _common(self, found: Residency) -> dict[int, float] | None:
        if found.common is None:
            return None
        whole = found.common.get(-1, 1.0)
        sizes: dict[int, list[float]] = {}
        for number, pages in found.by_span.items():
            size, both = sum(pages.values()), sizes.setdefault(self._of[number], [0.0, 0.0])
            both[0] += size * found.common.get(number, whole)
            both[1] += size
        return {-1: whole} | {span: part / all_ for span, (part, all_) in sizes.items() if all_}


def _add(pages: dict[int, int], more_pages: Mapping[int, int]) -> None:
    for node, size in more_pages.items():
        pages[node] = pages.get(node, 0) + size


def _raise(err: OSError, *, alive: bool) -> NoReturn:
    number = err.errno or errno.EIO
    if not alive or number == errno.ESRCH:
        raise ProcessGone(number, "move_pages: the process is gone") from err
    if number == errno.EINVAL:  # nothing else about the call can be invalid
        raise TryAgain(errno.ESRCH, f"move_pages: {WITHOUT_MEMORY}") from err
    if number in (errno.EPERM, errno.EACCES):
        raise MissingCapability(number, "move_pages: not allowed") from err
    raise CallFailed(number, "move_pages: it failed") from err
