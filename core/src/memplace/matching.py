# SPDX-License-Identifier: Apache-2.0
"""Which rule a region follows, or, rule by rule, why it does not.

`Matcher` is the one place that knows. Rules are compiled once; what does not depend on a
size is worked out once for all regions that look alike. A tenant writes the rules, and a program
of the tenant's makes the mappings: what both cost together is counted, and bounded.

So each key of an entry is known here, too. `_Compiler._number` tells entries apart by it, and
`Matcher._sort` tells regions apart by what it is compared with: without that, a region gets the
answer of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, repeat

from memplace.api.v1alpha1 import RegionEntry, Rule
from memplace.entries import Bits, CompiledEntry, Mismatch, ProcessName, compile_entry
from memplace.extents import extents
from memplace.globs import Globs, Work
from memplace.matches import NO_MATCH, Decision, Match, Miss
from memplace.quantity import format_quantity
from memplace.regions import Region

# Whether a region carries the policy that memplace set for that rule.
Held = Callable[[Rule, Region], bool]

# So many sorts of regions are kept; a program chooses what it has.
_MAX_SORTS = 1024

# What one call may cost, in units of `Work`: about half a second of processor time.
_MOST_WORK = 300_000_000
# What an entry costs for each sort of regions, and for each region where sizes decide.
_PER_ENTRY = 500
_PER_SIZE = 500

_NOBODY = ProcessName("", "")


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
        self.names, self.paths, self.processes = Globs(), Globs(), Globs()

    def compile(self, entries: Iterable[RegionEntry]) -> tuple[CompiledEntry, ...]:
        return tuple(
            compile_entry(entry, self._number(entry), self._patterns(entry)) for entry in entries
        )

    def _number(self, entry: RegionEntry) -> int:
        keys = (entry.type, entry.name, entry.path, entry.permissions, entry.process)
        return self._numbers.setdefault(keys, len(self._numbers))

    def _patterns(self, entry: RegionEntry) -> Bits:
        return Bits(
            self.names.bit(entry.name),
            self.paths.bit(entry.path),
            self.processes.bit(entry.process),
        )

    def process(self, process: ProcessName, work: Work) -> int:
        # The bits of the patterns that mean a process.
        bits = 0
        for name in (process.comm, process.exe, process.exe.rpartition("/")[2]):
            bits |= self.processes.matching(name, work)
        return bits

    def name(self, name: str, work: Work) -> int:
        # Go and glibc begin theirs with a blank, which nobody sees in [anon: Go: heap].
        bits = self.names.matching(name, work)
        return bits | self.names.matching(name.lstrip(" "), work) if name[:1] == " " else bits


@dataclass(frozen=True, slots=True)
class _Candidate:
    # A rule, seen from one sort of region: the entries that match if the size is right,
    # and, if there are none, what the nearest of them misses.
    rule: Rule
    entries: tuple[CompiledEntry, ...]
    exclude: tuple[CompiledEntry, ...]
    miss: Miss | None

    def why_not(self, sizes: Mapping[int, int], slack: int = 1) -> Miss | None:
        # sizes: size of the extent, by the entry's number. None: the rule matches.
        if self.miss:
            return self.miss
        if not any(entry.fits(sizes.get(entry.number, 0), slack) for entry in self.entries):
            return self._wrong_size(self.entries[0], sizes)
        for entry in self.exclude:
            if entry.fits(sizes.get(entry.number, 0)):
                return _missed(self.rule, Mismatch.EXCLUDED, "exclude takes it out")
        return None

    def _wrong_size(self, entry: CompiledEntry, sizes: Mapping[int, int]) -> Miss:
        size = sizes[entry.number]
        is_small = size < entry.min_bytes
        bytes_ = entry.min_bytes if is_small else entry.max_bytes or 0

        def tell(_: Region) -> str:
            bound = f"{'minSize' if is_small else 'maxSize'} is {format_quantity(bytes_)}"
            return f"{bound}, its extent has {format_quantity(size)}"

        return Miss(self.rule.name, Mismatch.TOO_SMALL if is_small else Mismatch.TOO_LARGE, tell)


@dataclass(slots=True)
class _Sort:
    # Regions that differ in address, size, policy and pages only.
    candidates: tuple[_Candidate, ...]
    entries: int = field(init=False)  # how many match but for the size
    open: frozenset[int] = field(init=False)  # numbers of those to which the size matters
    decision: Decision | None = field(init=False)  # of all of them, when no size decides

    def __post_init__(self) -> None:
        entries = [e for c in self.candidates for e in (*c.entries, *c.exclude)]
        self.entries = len(entries)
        self.open = frozenset(e.number for e in entries if e.sized)
        self.decision = None if self.open else _decide(self.candidates, {})


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
        self._compiler = compiler
        self._entries = sum(len(rule.entries) + len(rule.exclude) for rule in self._rules)
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
        work = Work(
            _MOST_WORK,
            f"mappings: {len(regions)}, entries of regions and exclude: {self._entries}",
        )
        meant = self._compiler.process(process or _NOBODY, work)
        order = sorted(range(len(regions)), key=lambda index: regions[index].start)
        ascending = [regions[index] for index in order]
        sorts = self._sorts_of(ascending, meant, work)
        if any(sort.decision is None for sort in sorts):
            found = _sized_decisions(ascending, sorts, held, work)
        else:
            found = [sort.decision or _UNDECIDED for sort in sorts]
        matches = [NO_MATCH] * len(regions)
        for index, region, decision in zip(order, ascending, found, strict=True):
            matches[index] = Match(*decision, region)
        return matches

    def _sorts_of(self, regions: Sequence[Region], meant: int, work: Work) -> list[_Sort]:
        # Most regions of a process are like one of a few; a program chooses how many it has.
        known: dict[tuple[object, ...], _Sort] = {}
        found: list[_Sort] = []
        for region in regions:
            facts = (region.kind, region.shared, region.special)
            key = (facts, region.permissions, region.name, region.path)
            sort = known.get(key)
            if sort is None:
                sort = self._sort(region, meant, work)
                if len(known) < _MAX_SORTS:
                    known[key] = sort
            found.append(sort)
        return found

    def _sort(self, region: Region, meant: int, work: Work) -> _Sort:
        names, paths = self._compiler.name(region.name, work), self._compiler.paths
        bits = Bits(names, paths.matching(region.path, work), meant)
        key = (region.kind, region.shared, region.special, region.permissions, bits)
        known = self._sorts.get(key)
        if known is None:
            work.spend(self._entries * _PER_ENTRY)
            if len(self._sorts) >= _MAX_SORTS:
                self._sorts.clear()
            known = _Sort(tuple(_candidate(rule, region, bits) for rule in self._rules))
            self._sorts[key] = known
        return known


_UNDECIDED = Decision(None)


def _candidate(compiled: _CompiledRule, region: Region, bits: Bits) -> _Candidate:
    if region.special:
        miss = _missed(compiled.rule, Mismatch.SPECIAL, "it is the kernel's")
        return _Candidate(compiled.rule, (), (), miss)
    misses = [(entry, entry.miss(region, bits)) for entry in compiled.entries]
    fitting = tuple(entry for entry, miss in misses if miss is None)
    return _Candidate(
        rule=compiled.rule,
        entries=fitting,
        exclude=tuple(e for e in compiled.exclude if e.miss(region, bits) is None),
        miss=None if fitting else _nearest(compiled.rule, misses),
    )


def _nearest(rule: Rule, misses: Iterable[tuple[CompiledEntry, Mismatch | None]]) -> Miss:
    # The entry that failed last was the nearest; it tells most.
    failed = [(entry, miss) for entry, miss in misses if miss is not None]
    entry, miss = max(failed, key=lambda pair: pair[1].rank)
    return Miss(rule.name, miss, partial(entry.tell, miss))


def _missed(rule: Rule, reason: Mismatch, text: str) -> Miss:
    return Miss(rule.name, reason, lambda _: text)


def _decide(
    candidates: Sequence[_Candidate], sizes: Mapping[int, int], winner: _Candidate | None = None
) -> Decision:
    # The first candidate that matches wins, or the one that is given.
    misses: list[Miss] = []
    won: Rule | None = None
    for candidate in candidates:
        reason = candidate.why_not(sizes)
        if candidate is winner or (winner is None and won is None and reason is None):
            won = candidate.rule
        else:
            misses.append(reason or _earlier(candidate.rule, winner.rule if winner else won))
    return Decision(won, tuple(misses))


def _earlier(rule: Rule, won: Rule | None) -> Miss:
    name = won.name if won else ""
    return _missed(rule, Mismatch.EARLIER_RULE, f"rule {name} before it has it")


@dataclass(frozen=True, slots=True)
class _Part:
    # Adjacent regions of one extent of which the same entries mean the extent.
    open: frozenset[int]
    start: int
    end: int
    regions: int


def _sizes(
    regions: Sequence[Region], sorts: Sequence[_Sort], work: Work
) -> list[Mapping[int, int]]:
    # For each region, by number of the entry, the size of the extent it means there; regions in
    # ascending order. Regions between which no entry tells share one mapping.
    found: list[Mapping[int, int]] = []
    for extent in extents(regions):
        first, last = len(found), len(found) + len(extent.regions)
        parts = [
            _part(opened, regions, list(run))
            for opened, run in groupby(range(first, last), key=lambda index: sorts[index].open)
        ]
        for sizes, part in zip(_part_sizes(parts, work), parts, strict=True):
            found.extend(repeat(sizes, part.regions))
    return found


def _part(opened: frozenset[int], regions: Sequence[Region], run: Sequence[int]) -> _Part:
    return _Part(opened, regions[run[0]].start, regions[run[-1]].end, len(run))


def _part_sizes(parts: Sequence[_Part], work: Work) -> list[dict[int, int]]:
    # For each part of an extent, by number, the size of the run of parts that an entry means.
    sizes: list[dict[int, int]] = [{} for _ in parts]
    numbers = frozenset[int]().union(*(part.open for part in parts))
    work.spend(len(numbers) * len(parts) * _PER_SIZE)
    for number in numbers:
        for is_meant, indices in groupby(
            range(len(parts)), key=lambda index: number in parts[index].open
        ):
            run = list(indices)
            size = parts[run[-1]].end - parts[run[0]].start
            for index in run if is_meant else ():
                sizes[index][number] = size
    return sizes


def _sized_decisions(
    regions: Sequence[Region], sorts: Sequence[_Sort], held: Held | None, work: Work
) -> list[Decision]:
    work.spend(sum(sort.entries for sort in sorts if sort.decision is None) * _PER_SIZE)
    strict: dict[tuple[object, ...], Decision] = {}
    return [
        sort.decision or _sized_decision(sort, region, sizes, held, strict)
        for region, sort, sizes in zip(regions, sorts, _sizes(regions, sorts, work), strict=True)
    ]


def _sized_decision(
    sort: _Sort,
    region: Region,
    sizes: Mapping[int, int],
    held: Held | None,
    known: dict[tuple[object, ...], Decision],
) -> Decision:
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
