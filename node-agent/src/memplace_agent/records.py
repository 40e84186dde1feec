# SPDX-License-Identifier: Apache-2.0
"""Which ranges of a process carry a policy of memplace's, and what they had before.

Pure. Address spaces change under the agent: stacks grow, mremap() carries a policy to
another address, fork() copies it, exec() drops it all. So records are compared with what
is mapped each time: `settle` drops what no longer carries our policy and adopts what came
to carry it.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec
from memplace.calls import Action
from memplace.kinds import ExistingPages, Policy
from memplace.nodes import format_nodes
from memplace.regions import Region

from memplace_agent.journal import Entry, Record
from memplace_agent.procfs.numa_maps import format_policy, parse_policy
from memplace_agent.procfs.regions import AddressSpace

__all__ = ["UNDO", "carried", "inherit", "record", "release", "settle"]

# The rule name of actions that give something back; no rule of the API is called so.
UNDO = ""

_NO_POLICY = "default"

_S = TypeVar("_S", Region, Action, Record)
_R = TypeVar("_R", Action, Record)


def settle(entry: Entry, space: AddressSpace, allowed: frozenset[int]) -> Entry:
    """Bring the records of a process in line with what it has mapped now.

    Args:
        entry: What was recorded.
        space: What is mapped.
        allowed: cpuset.mems.effective now.

    Returns:
        The entry with exactly the ranges that carry a policy memplace set. A range that
        carries one unrecorded, and not by the process's own doing, is adopted with the
        policy that its neighbour had before, or the default policy. What can't be seen this
        time (`AddressSpace.unknown`) keeps the record it has.
    """
    match = _Carries(entry, space, allowed)
    carrying = [region for region in space.regions if not region.special and match(region)]
    known = list(_overlaps(entry.records, carrying))
    kept = [
        record
        for record, region in known
        if match.one(record.applied, region.policy) and not _is_back(record, region, space)
    ]
    covered = [record for record, _ in known]
    adopted = [
        Record(start, end, _neighbour(entry.records, start, end), (format_policy(region.policy),))
        for region in carrying
        for start, end in _gaps(region.start, region.end, covered)
    ]
    unseen = [
        record for start, end in space.unknown for record in _within(entry.records, start, end)
    ]
    return msgspec.structs.replace(entry, records=_merge([*kept, *adopted, *unseen]))


def carried(entry: Entry, region: Region) -> bool:
    """Return whether a region carries a policy that memplace set, by a settled entry."""
    return any(True for _ in _within(entry.records, region.start, region.end))


def inherit(entry: Entry, relatives: Iterable[Entry]) -> Entry:
    """Start the records of a process that may be forked from one of these.

    `settle` has to follow: it drops what the process does not carry.
    """
    for relative in relatives:
        taken = [r for r in relative.records if not list(_overlaps(entry.records, [r]))]
        entry = msgspec.structs.replace(
            entry,
            allowed=relative.allowed,
            foreign=entry.foreign | relative.foreign,
            records=_merge([*entry.records, *taken]),
        )
    return entry


def record(
    entry: Entry, actions: Sequence[Action], space: AddressSpace, allowed: frozenset[int]
) -> Entry:
    """Add what is about to be done to the (settled) records of a process.

    What a record already has as the previous policy stays: the present one is then ours.
    """
    # Moving pages only, of a mapping that has the policy by itself, leaves nothing to undo.
    spans = [a for a in actions if a.rule != UNDO and a.previous != a.policy]
    grown = list(_grown(entry.records, spans))
    fresh = [
        Record(start, end, format_policy(space.own_policy(a.previous)), (format_policy(a.policy),))
        for a in spans
        for start, end in _gaps(a.start, a.end, entry.records)
    ]
    return msgspec.structs.replace(
        entry,
        allowed=format_nodes(allowed),
        foreign=entry.foreign | _foreign(entry, spans, space),
        records=_merge([*grown, *fresh]),
    )


def release(
    entry: Entry, space: AddressSpace, regions: Iterable[Region], allowed: frozenset[int]
) -> list[Action]:
    """Return the actions that give regions back what they had before memplace.

    Existing pages stay where they are. A previous policy none of whose nodes the container
    may use any more becomes the default policy.
    """
    wanted = {region.start for region in regions}
    here = [region for region in space.regions if region.start in wanted]
    return [
        Action(
            rule=UNDO,
            start=part.start,
            end=part.end,
            policy=_possible(parse_policy(part.previous), allowed),
            existing=ExistingPages.LEAVE,
            move_all=False,
            previous=region.policy,
            page_size=region.page_size,
        )
        for part, region in _overlaps(entry.records, here)
    ]


def _is_back(record: Record, region: Region, space: AddressSpace) -> bool:
    # A mapping that shows what it had before needs nothing, even if that is our policy too.
    return parse_policy(record.previous) in (region.policy, space.own_policy(region.policy))


def _possible(policy: Policy, allowed: frozenset[int]) -> Policy:
    if not policy.nodes:
        return policy
    nodes = policy.nodes & allowed
    return Policy(policy.mode, nodes, policy.flags) if nodes else parse_policy(_NO_POLICY)


class _Carries:
    # Whether a region carries a policy that memplace set in this process.

    def __init__(self, entry: Entry, space: AddressSpace, allowed: frozenset[int]) -> None:
        self._space = space
        self._remapped = entry.allowed != format_nodes(allowed)
        applied = {text for record in entry.records for text in record.applied}
        self._applied = tuple(applied - entry.foreign - {_NO_POLICY})
        self._recorded = tuple(entry.records)

    def __call__(self, region: Region) -> bool:
        return self.one(self._applied, region.policy) or any(
            self.one(record.applied, region.policy)
            for record, _ in _overlaps(self._recorded, [region])
        )

    def one(self, applied: tuple[str, ...], policy: Policy) -> bool:
        return any(self._same(parse_policy(text), policy) for text in applied)

    def _same(self, ours: Policy, theirs: Policy) -> bool:
        if self._remapped and ours.mode is theirs.mode and ours.flags == theirs.flags:
            return True
        return ours in (theirs, self._space.own_policy(theirs))


def _foreign(entry: Entry, actions: Sequence[Action], space: AddressSpace) -> frozenset[str]:
    used = {text for record in entry.records for text in record.applied}
    new = {format_policy(a.policy) for a in actions} - used
    return frozenset(new & {format_policy(region.policy) for region in space.regions})


def _grown(records: Sequence[Record], actions: Sequence[Action]) -> Iterator[Record]:
    # The parts of records under an action learn its policy, the other parts stay.
    for part, action in _overlaps(records, actions):
        text = format_policy(action.policy)
        applied = (*(p for p in part.applied if p != text), text)
        yield msgspec.structs.replace(part, applied=applied)
    for old in records:
        for start, end in _gaps(old.start, old.end, actions):
            yield msgspec.structs.replace(old, start=start, end=end)


def _neighbour(records: Sequence[Record], start: int, end: int) -> str:
    touching = (r for r in records if r.end == start or r.start == end)
    return next((record.previous for record in touching), _NO_POLICY)


def _overlaps(records: Sequence[Record], spans: Iterable[_S]) -> Iterator[tuple[Record, _S]]:
    # The parts of the (ascending) records within spans, each with its span.
    for span in spans:
        for part in _within(records, span.start, span.end):
            yield part, span


def _within(records: Sequence[Record], start: int, end: int) -> Iterator[Record]:
    for old in _from(records, start):
        if old.start >= end:
            break
        yield msgspec.structs.replace(old, start=max(old.start, start), end=min(old.end, end))


def _gaps(start: int, end: int, taken: Sequence[_R]) -> Iterator[tuple[int, int]]:
    # The parts of [start, end) that none of the taken ranges, which ascend, covers.
    for other in _from(taken, start):
        if other.start >= end:
            break
        if other.start > start:
            yield start, other.start
        start = other.end
    if start < end:
        yield start, end


def _from(ranges: Sequence[_R], address: int) -> Iterator[_R]:
    # The ranges that end after an address.
    first = bisect_right(ranges, address, key=lambda item: item.end)
    return itertools.islice(ranges, first, None)


def _merge(records: Iterable[Record]) -> tuple[Record, ...]:
    merged: list[Record] = []
    for new in sorted(records, key=lambda item: item.start):
        last = merged[-1] if merged else None
        joins = last and last.end == new.start
        if last and joins and (last.previous, last.applied) == (new.previous, new.applied):
            merged[-1] = msgspec.structs.replace(last, end=new.end)
        else:
            merged.append(new)
    return tuple(merged)
