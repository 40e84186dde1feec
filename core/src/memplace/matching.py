# SPDX-License-Identifier: Apache-2.0
"""Which rule a region follows, or, rule by rule, why it does not.

`Matcher` is the one place that knows. Rules are compiled once; what does not depend on a
size is worked out once for all regions that look alike.

So each key of an entry is known here, too. `_Compiler._number` tells entries apart by it, and
`Matcher._sort` tells regions apart by what it is compared with: without that, a region gets the
answer of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, repeat
from typing import NamedTuple

from memplace.api.v1alpha1 import RegionEntry, Rule
from memplace.entries import CompiledEntry, Mismatch, Miss, ProcessName, compile_entry
from memplace.extents import extents
from memplace.quantity import format_quantity
from memplace.regions import Region

# Whether a region carries the policy that memplace set for that rule.
Held = Callable[[Rule, Region], bool]

# A program chooses its mappings' names: this many sorts of regions are kept.
_MAX_SORTS = 4096

_NOBODY = ProcessName("", "")


class WhyNot(NamedTuple):
    """Why a region does not follow a rule.

    Attributes:
        rule: The rule's name.
        reason: For machines.
        text: For people.
    """

    rule: str
    reason: Mismatch
    text: str


@dataclass(frozen=True, slots=True)
class Match:
    """The rule that a region follows, if any, and why it does not follow the others."""

    rule: Rule | None
    why_not: tuple[WhyNot, ...] = ()


NO_MATCH = Match(None)


@dataclass(frozen=True, slots=True)
class _CompiledRule:
    rule: Rule
    entries: tuple[CompiledEntry, ...]
    exclude: tuple[CompiledEntry, ...]


class _Compiler:
    # Numbers entries; those that differ in sizes only have the same number, for then they
    # mean the same extents.

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, ...], int] = {}

    def compile(self, entries: Iterable[RegionEntry]) -> tuple[CompiledEntry, ...]:
        return tuple(compile_entry(entry, self._number(entry)) for entry in entries)

    def _number(self, entry: RegionEntry) -> int:
        keys = (entry.type, entry.name, entry.path, entry.permissions, entry.process)
        return self._numbers.setdefault(keys, len(self._numbers))


@dataclass(frozen=True, slots=True)
class _Candidate:
    # A rule, seen from one sort of region: the entries that match if the size is right,
    # and, if there are none, what the nearest of them misses.
    rule: Rule
    entries: tuple[CompiledEntry, ...]
    exclude: tuple[CompiledEntry, ...]
    miss: Miss | None

    @property
    def sized(self) -> bool:
        return any(entry.sized for entry in (*self.entries, *self.exclude))

    def why_not(self, sizes: Mapping[int, int], slack: int = 1) -> WhyNot | None:
        # sizes: size of the extent, by the entry's number. None: the rule matches.
        if self.miss:
            return WhyNot(self.rule.name, self.miss.reason, self.miss.text)
        if not any(entry.fits(sizes.get(entry.number, 0), slack) for entry in self.entries):
            return self._wrong_size(self.entries[0], sizes)
        for entry in self.exclude:
            if entry.fits(sizes.get(entry.number, 0)):
                return WhyNot(self.rule.name, Mismatch.EXCLUDED, "exclude takes it out")
        return None

    def _wrong_size(self, entry: CompiledEntry, sizes: Mapping[int, int]) -> WhyNot:
        size = sizes[entry.number]
        if size < entry.min_bytes:
            bound = f"minSize is {format_quantity(entry.min_bytes)}"
            reason = Mismatch.TOO_SMALL
        else:
            bound = f"maxSize is {format_quantity(entry.max_bytes or 0)}"
            reason = Mismatch.TOO_LARGE
        return WhyNot(self.rule.name, reason, f"{bound}, its extent has {format_quantity(size)}")


@dataclass(slots=True)
class _Sort:
    # Regions that differ in address, size, policy and pages only.
    candidates: tuple[_Candidate, ...]
    open: frozenset[int] = field(init=False)  # numbers of entries that match but for the size
    match: Match | None = field(init=False)  # of all of them, when no size decides

    def __post_init__(self) -> None:
        self.open = frozenset(
            e.number for c in self.candidates for e in (*c.entries, *c.exclude) if e.sized
        )
        self.match = None if self.open else _decide(self.candidates, {})


class Matcher:
    """The rules of a placement, compiled.

    A rule matches a region when one of its ``regions`` matches and none of its ``exclude``;
    of the rules that match the first wins. An entry matches when all its keys hold:

    - ``type``: Heap is brk and private anonymous memory. Heap, Brk and Anonymous are never
      executable, unless the entry's ``permissions`` say so; Stack is main and thread stacks.
    - ``name``, ``path``, ``process`` are shell patterns for the whole text; ``*`` matches
      slashes too. ``process`` is compared with comm, with the executable's path and with
      its last part. Blanks at the begin of a name need not be in its pattern.
    - ``permissions`` are compared letter by letter.
    - ``minSize`` and ``maxSize`` are inclusive bounds of the extent: the adjacent regions of
      one kind and file that the entry's other keys mean as well.

    A region that is held keeps its rule down to half of minSize and up to twice maxSize,
    as long as no rule before it matches.

    Attributes:
        rules: What it was made from.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        compiler = _Compiler()
        self._rules = tuple(
            _CompiledRule(rule, compiler.compile(rule.regions), compiler.compile(rule.exclude))
            for rule in rules
        )
        self.rules = tuple(compiled.rule for compiled in self._rules)
        entries = [entry for rule in self._rules for entry in (*rule.entries, *rule.exclude)]
        self._process_entries = tuple(entry for entry in entries if entry.process)
        self._sorts: dict[tuple[object, ...], _Sort] = {}

    def match(
        self,
        regions: Sequence[Region],
        process: ProcessName | None = None,
        held: Held | None = None,
    ) -> list[Match]:
        """Find the rule of each region of one process.

        Args:
            regions: All that the process has, in any order: sizes are of extents.
            process: What it is called; None matches patterns that match anything only.
            held: Whether a region carries the policy that memplace set for a rule; by
                default none does.

        Returns:
            One match per region, in the order of `regions`; it does not depend on that.
        """
        meant = frozenset(
            e.number for e in self._process_entries if e.means_process(process or _NOBODY)
        )
        order = sorted(range(len(regions)), key=lambda index: regions[index].start)
        ascending = [regions[index] for index in order]
        sorts = [self._sort(region, meant) for region in ascending]
        if any(sort.match is None for sort in sorts):
            found = _sized_matches(ascending, sorts, held)
        else:
            found = [sort.match or NO_MATCH for sort in sorts]
        matches = [NO_MATCH] * len(regions)
        for index, match in zip(order, found, strict=True):
            matches[index] = match
        return matches

    def _sort(self, region: Region, meant: frozenset[int]) -> _Sort:
        key = (
            *(region.kind, region.shared, region.special, region.permissions),
            *(region.name, region.path, meant),
        )
        known = self._sorts.get(key)
        if known is None:
            if len(self._sorts) >= _MAX_SORTS:
                self._sorts.clear()
            known = _Sort(tuple(_candidate(rule, region, meant) for rule in self._rules))
            self._sorts[key] = known
        return known


def _candidate(compiled: _CompiledRule, region: Region, meant: frozenset[int]) -> _Candidate:
    if region.special:
        return _Candidate(compiled.rule, (), (), Miss(Mismatch.SPECIAL, "it is the kernel's"))
    misses = [(entry, entry.miss(region, meant)) for entry in compiled.entries]
    fitting = tuple(entry for entry, miss in misses if miss is None)
    return _Candidate(
        rule=compiled.rule,
        entries=fitting,
        exclude=tuple(e for e in compiled.exclude if e.miss(region, meant) is None),
        # The entry that failed last was the nearest; it tells most.
        miss=None if fitting else max((m for _, m in misses if m), key=lambda m: m.reason.rank),
    )


def _decide(
    candidates: Sequence[_Candidate], sizes: Mapping[int, int], winner: _Candidate | None = None
) -> Match:
    # The first candidate that matches wins, or the one that is given.
    why_not: list[WhyNot] = []
    won: Rule | None = None
    for candidate in candidates:
        reason = candidate.why_not(sizes)
        if candidate is winner or (winner is None and won is None and reason is None):
            won = candidate.rule
        else:
            why_not.append(reason or _earlier(candidate.rule, winner.rule if winner else won))
    return Match(won, tuple(why_not))


def _earlier(rule: Rule, won: Rule | None) -> WhyNot:
    name = won.name if won else ""
    return WhyNot(rule.name, Mismatch.EARLIER_RULE, f"rule {name} before it has it")


@dataclass(frozen=True, slots=True)
class _Part:
    # Adjacent regions of one extent of which the same entries mean the extent.
    open: frozenset[int]
    start: int
    end: int
    regions: int


def _sizes(regions: Sequence[Region], sorts: Sequence[_Sort]) -> list[Mapping[int, int]]:
    # For each region, by number of the entry, the size of the extent it means there; regions in
    # ascending order. Regions between which no entry tells share one mapping.
    found: list[Mapping[int, int]] = []
    for extent in extents(regions):
        first, last = len(found), len(found) + len(extent.regions)
        parts = [
            _part(opened, regions, list(run))
            for opened, run in groupby(range(first, last), key=lambda index: sorts[index].open)
        ]
        for sizes, part in zip(_part_sizes(parts), parts, strict=True):
            found.extend(repeat(sizes, part.regions))
    return found


def _part(opened: frozenset[int], regions: Sequence[Region], run: Sequence[int]) -> _Part:
    return _Part(opened, regions[run[0]].start, regions[run[-1]].end, len(run))


def _part_sizes(parts: Sequence[_Part]) -> list[dict[int, int]]:
    # For each part of an extent, by number, the size of the run of parts that an entry means.
    sizes: list[dict[int, int]] = [{} for _ in parts]
    for number in frozenset[int]().union(*(part.open for part in parts)):
        for is_meant, indices in groupby(
            range(len(parts)), key=lambda index: number in parts[index].open
        ):
            run = list(indices)
            size = parts[run[-1]].end - parts[run[0]].start
            for index in run if is_meant else ():
                sizes[index][number] = size
    return sizes


def _sized_matches(
    regions: Sequence[Region], sorts: Sequence[_Sort], held: Held | None
) -> list[Match]:
    strict: dict[tuple[object, ...], Match] = {}
    return [
        sort.match or _sized_match(sort, region, sizes, held, strict)
        for region, sort, sizes in zip(regions, sorts, _sizes(regions, sorts), strict=True)
    ]


def _sized_match(
    sort: _Sort,
    region: Region,
    sizes: Mapping[int, int],
    held: Held | None,
    known: dict[tuple[object, ...], Match],
) -> Match:
    # known: what was decided without `held`, by sort and sizes.
    key = (id(sort), *sizes.items())
    strict = known.get(key)
    if strict is None:
        strict = known[key] = _decide(sort.candidates, sizes)
    if held is None or (strict.rule is not None and held(strict.rule, region)):
        return strict
    for candidate in sort.candidates:
        if candidate.rule is strict.rule:
            break
        if candidate.why_not(sizes, slack=2) is None and held(candidate.rule, region):
            return _decide(sort.candidates, sizes, winner=candidate)
    return strict
