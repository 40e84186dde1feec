# SPDX-License-Identifier: Apache-2.0
"""On which nodes the bytes of some ranges are, from a look at a few of their pages.

All pages are looked at where they are few; then the answer is exact. Otherwise the ranges,
laid end to end, are cut into as many equal pieces as there are points, and a point is drawn
in each, at random: not at equal steps, for interleaved memory repeats itself at equal steps,
too. A point stands for the bytes of its piece and takes the page it falls into, whatever its
size: a huge page is hit as often as it is large. So each share of the result has the error of
a random sample of as many points, or less.
"""

from __future__ import annotations

import errno
import math
import random
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

# 64 MiB in pages of 4 KiB.
EXACT_PAGES = 16384

# The shares of a sample of n are all at once within 1.13 / sqrt(n) of the truth with 95 %,
# whatever the truth is and however many shares there are (S. K. Thompson, "Sample Size for
# Estimating Multinomial Proportions", The American Statistician 41, 1987: d2n = 1.27359).
# The rest is for pages that move while they are looked at.
_REACH = 1.28

# 1.28 / sqrt(4096) = 0.02: two points.
POINTS = 4096

# Two-sided 97.5 % of the normal distribution: Wilson's interval with 95 % comes short of 95 %
# where a share is nearly nothing.
_Z = 2.2414


class Ranged(Protocol):
    """What a range of addresses has: a `Span`, or a region."""

    @property
    def start(self) -> int: ...  # noqa: D102
    @property
    def end(self) -> int: ...  # noqa: D102
    @property
    def page_size(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Span:
    """A range of addresses, ``[start, end)``, with pages of at least ``page_size`` bytes.

    Transparent huge pages need nothing: their page size is that of the mapping. The page size
    of hugetlb has to be given.
    """

    start: int
    end: int
    page_size: int = 4096


@dataclass(frozen=True, slots=True)
class Sample:
    """Which pages to look at.

    Attributes:
        addresses: Where they begin. A large page can be among them several times.
        span_of: For each, the index of its span.
        weights: For each, the bytes it stands for.
        total: Bytes of all spans.
        exact: All pages are among them, each once.
    """

    addresses: array[int]
    span_of: array[int]
    weights: array[float]
    total: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Residency:
    """Where the bytes are.

    Attributes:
        pages: Resident bytes per node, each more than 0; estimated unless ``exact``.
        total: Bytes of the spans.
        exact: Each page was looked at.
        error: The share of the resident bytes that is on a node is known to within this, for
            all nodes at once, with 95 %: 0.02 are two points. 0 if exact, 1 if nothing was seen.
        resident_error: So many bytes more or less than ``resident`` may be resident, with 95 %.
        points: How many pages were looked at.
        hits: How many of these were resident.
        unknown: How many could not be looked at, such as pages of a device.
        by_span: As ``pages``, for each span (by its index) in which something was seen. The
            error is that of the whole; what a small span has to itself, few points tell.
        common: For each span in `by_span`, the share of its bytes that something else maps as
            well; None if that was not looked at.
    """

    pages: Mapping[int, int]
    total: int
    exact: bool
    error: float
    resident_error: int
    points: int
    hits: int
    unknown: int = 0
    by_span: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    common: Mapping[int, float] | None = None

    @property
    def resident(self) -> int:
        """Bytes that are in memory, on any node: neither swapped out nor never touched."""
        return sum(self.pages.values())

    def share(self, nodes: frozenset[int]) -> float:
        """Return which part of the resident bytes is on these nodes; 0 if there are none."""
        there = sum(size for node, size in self.pages.items() if node in nodes)
        return there / self.resident if self.resident else 0.0


def choose(spans: Sequence[Ranged], draw: random.Random, points: int = POINTS) -> Sample:
    """Choose the pages to look at.

    Args:
        spans: In any order, not overlapping.
        draw: Where chance comes from.
        points: How many pages, unless all are not more than `EXACT_PAGES`.
    """
    total = sum(span.end - span.start for span in spans)
    if sum(-(-(span.end - span.start) // span.page_size) for span in spans) <= EXACT_PAGES:
        return _all(spans, total)
    ends = array("Q", accumulate(span.end - span.start for span in spans))
    addresses, span_of, piece = array("Q"), array("L"), total / points
    for number in range(points):
        at = min(int((number + draw.random()) * piece), total - 1)
        index = bisect_right(ends, at)
        span = spans[index]
        offset = at - (ends[index] - (span.end - span.start))
        addresses.append(span.start + offset // span.page_size * span.page_size)
        span_of.append(index)
    return Sample(addresses, span_of, array("d", [piece]) * points, total, exact=False)


def _all(spans: Sequence[Ranged], total: int) -> Sample:
    addresses, span_of, weights = array("Q"), array("L"), array("d")
    for index, span in enumerate(spans):
        for start in range(span.start, span.end, span.page_size):
            addresses.append(start)
            span_of.append(index)
            weights.append(min(span.page_size, span.end - start))
    return Sample(addresses, span_of, weights, total, exact=True)


def estimate(sample: Sample, statuses: Sequence[int]) -> Residency:
    """Tell where the bytes are from what move_pages(2) answered without target nodes.

    Args:
        sample: What was looked at.
        statuses: For each address its node, or a negative errno: ENOENT is a page that is not
            there; EFAULT is no mapping any more, or the page of zeros that reading alone
            gives. Both are not resident: nothing of this process is on a node there.
            Anything else is unknown, and takes part in nothing.

    Source: move_pages(2); linux ``mm/migrate.c:do_pages_stat_array()``.
    """
    by_span: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    hits = unknown = 0
    for index, weight, status in zip(sample.span_of, sample.weights, statuses, strict=True):
        if status >= 0:
            by_span[index][status] += weight
            hits += 1
        elif status not in (-errno.ENOENT, -errno.EFAULT):
            unknown += 1
    pages: dict[int, float] = defaultdict(float)
    for nodes in by_span.values():
        for node, size in nodes.items():
            pages[node] += size
    exact = sample.exact and not unknown
    return Residency(
        pages=_whole(pages),
        total=sample.total,
        exact=exact,
        error=0.0 if exact else _error(hits),
        resident_error=0 if exact else _resident_error(hits, len(statuses), sample.total),
        points=len(statuses),
        hits=hits,
        unknown=unknown,
        by_span={index: _whole(nodes) for index, nodes in by_span.items()},
    )


def common_shares(spans: Sequence[int], is_alone: Sequence[bool]) -> dict[int, float]:
    """Return which share of each span's bytes something else maps as well.

    Args:
        spans: Of some pages that are in memory, the span of each, by its index.
        is_alone: For each, whether it is mapped once only.

    Returns:
        For each of these spans; under -1 for all of them together, which is the best guess for
        the others.
    """
    seen: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for span, alone in zip(spans, is_alone, strict=True):
        for counted in (seen[span], seen[-1]):
            counted[0] += not alone
            counted[1] += 1
    return {span: common / pages for span, (common, pages) in seen.items()}


def _whole(pages: Mapping[int, float]) -> dict[int, int]:
    return {node: round(size) for node, size in sorted(pages.items())}


def _error(hits: int) -> float:
    return min(1.0, _REACH / math.sqrt(hits)) if hits else 1.0


def _resident_error(hits: int, points: int, total: int) -> int:
    # Wilson's interval, the further of its ends.
    share, z2 = hits / points, _Z * _Z
    middle = (share + z2 / (2 * points)) / (1 + z2 / points)
    half = _Z / (1 + z2 / points) * math.sqrt(share * (1 - share) / points + z2 / (4 * points**2))
    return math.ceil(total * max(middle + half - share, share - (middle - half)))


def more(found: Residency, most: int, wanted: int = POINTS) -> int:
    """Return how many points another sample needs so that as many as wanted are resident.

    Where little of the address space is resident, most points say nothing, and the error is
    that of the others. The other sample replaces the first: to join them after a look at the
    first one would bend the result.

    Args:
        found: What a first sample showed.
        most: No more points than these: they may not be enough, the error says so.
        wanted: Resident points, 4096 for an error of two points.

    Returns:
        0 if the first one is enough or nothing better can be had.
    """
    if found.exact or found.hits >= wanted or found.points >= most:
        return 0
    # A tenth more, since the next sample hits somewhat less or more.
    return min(most, math.ceil(found.points * wanted * 1.1 / max(found.hits, 1)))
