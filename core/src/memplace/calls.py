# SPDX-License-Identifier: Apache-2.0
"""A plan as system calls: policy and move of a region in one, cut into pieces.

`actions` joins the two halves of a plan; `calls` cuts them into calls that do not stop the
process for long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from memplace.kinds import ExistingPages, Policy
from memplace.policy import Plan

__all__ = [
    "CUT_ALIGNMENT",
    "MAX_CALL_BYTES",
    "MAX_CALL_RANGES",
    "MAX_MOVE_BYTES",
    "Action",
    "Call",
    "actions",
    "calls",
]

# UIO_MAXIOV, the kernel's limit of one vector (linux include/uapi/linux/uio.h).
MAX_CALL_RANGES = 1024

# A call that sets policies only.
MAX_CALL_BYTES = 1 << 30

# A call that moves pages as well takes a while, and ends early for nothing but a signal.
MAX_MOVE_BYTES = 64 << 20

# A cut inside a transparent huge page would split its mapping. It is also the longest range
# that version 1 of process_mbind() may get for a move: that one walks a range as a whole
# with the target's mmap_lock held for writing, and page faults of the process wait as long.
CUT_ALIGNMENT = 2 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Set a policy on one region ``[start, end)`` and, with Move, move its pages.

    Attributes:
        rule: Name of the rule that wants it.
        start: First address.
        end: First address after it.
        policy: The policy to set.
        existing: Move or Leave the pages that are there.
        move_all: Move pages that other processes map as well (MPOL_MF_MOVE_ALL).
        previous: The policy before, for undo.
        page_size: Bytes of one page of the mapping; cuts keep to it.
    """

    rule: str
    start: int
    end: int
    policy: Policy
    existing: ExistingPages
    move_all: bool
    previous: Policy
    page_size: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The arguments of one process_mbind(): ranges are half-open ``(start, end)``."""

    policy: Policy
    existing: ExistingPages
    move_all: bool
    ranges: tuple[tuple[int, int], ...]


def actions(plan: Plan) -> tuple[Action, ...]:
    """Join the policies and moves of a plan, one action per region, ascending by address."""
    moves = {move.start: move for move in plan.moves}
    set_first = [
        Action(
            rule=step.rule,
            start=step.start,
            end=step.end,
            policy=step.policy,
            existing=ExistingPages.MOVE if step.start in moves else ExistingPages.LEAVE,
            move_all=step.start in moves and moves[step.start].move_all,
            previous=step.previous,
            page_size=step.page_size,
        )
        for step in plan.policies
    ]
    have_policy = {step.start for step in plan.policies}
    only_moved = [
        Action(
            rule=move.rule,
            start=move.start,
            end=move.end,
            policy=move.policy,
            existing=ExistingPages.MOVE,
            move_all=move.move_all,
            previous=move.policy,
            page_size=move.page_size,
        )
        for move in plan.moves
        if move.start not in have_policy
    ]
    return tuple(sorted([*set_first, *only_moved], key=lambda action: action.start))


def calls(actions: Iterable[Action], *, cut_moves: bool = False) -> Iterator[Call]:
    """Cut actions into calls: one policy and one set of flags each.

    Args:
        actions: What to do.
        cut_moves: Cut the ranges whose pages move to 2 MiB: the kernel walks a range as a
            whole. Later kernels go in steps of their own.

    Yields:
        Calls of at most MAX_CALL_RANGES ranges and MAX_CALL_BYTES in total, MAX_MOVE_BYTES
        where pages move, together exactly the actions' ranges. A range is cut only at a
        multiple of 2 MiB (or of its page size, if that is larger; a single page larger than
        a call may be goes alone).
    """
    groups: dict[tuple[Policy, ExistingPages, bool], list[Action]] = {}
    for action in actions:
        key = (action.policy, action.existing, action.move_all)
        groups.setdefault(key, []).append(action)
    for (policy, existing, move_all), group in groups.items():
        moves = existing is ExistingPages.MOVE and bool(policy.nodes)
        most = MAX_MOVE_BYTES if moves else MAX_CALL_BYTES
        longest = CUT_ALIGNMENT if moves and cut_moves else most
        for ranges in _batches(group, most, longest):
            yield Call(policy=policy, existing=existing, move_all=move_all, ranges=ranges)


def _batches(
    actions: Iterable[Action], most: int, longest: int
) -> Iterator[tuple[tuple[int, int], ...]]:
    batch: list[tuple[int, int]] = []
    room = most
    for action in actions:
        alignment = max(CUT_ALIGNMENT, action.page_size)
        start = action.start
        while start < action.end:
            stop = _cut(start, action.end, min(room, max(longest, alignment)), alignment)
            if stop == start and not batch:  # a page larger than a call may be
                stop = min(action.end, start + action.page_size)
            if stop > start:
                batch.append((start, stop))
                room -= stop - start
            if stop == start or len(batch) == MAX_CALL_RANGES or room <= 0:
                yield tuple(batch)
                batch, room = [], most
            start = stop
    if batch:
        yield tuple(batch)


def _cut(start: int, end: int, room: int, alignment: int) -> int:
    # The furthest address to go to with that much room; start when a cut would not align.
    if end - start <= room:
        return end
    return max(start, (start + room) // alignment * alignment)
