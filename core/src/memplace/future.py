# SPDX-License-Identifier: Apache-2.0
"""Which default for mappings to come the rules of a placement imply, or why none.

The kernel keeps two defaults per address space (process_mbind(2), MPOL_MF_FUTURE): one for what
brk() adds to the heap, one for private anonymous mmap() from a smallest size on. It knows no
names, no neighbours and no other rules. So a default is given only if all that can be born
under it follows the very rule that it comes from; for the rest a look at the process decides,
as without one.

A mapping that is born is private anonymous memory, not executable, without a policy, and as
large as the mmap() that made it. Its name comes later, its permissions and its neighbours can
be any, and so can the name of its process: exec() and prctl() change that.

    future = implied_future(placement.spec.rules)
    match future.mmap:
        case Implied(rule, least): ...     # from `least` bytes on
        case FutureNotPossible() as why: ...
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product
from types import MappingProxyType

from memplace.api.v1alpha1 import RegionEntry, Rule
from memplace.entries import CompiledEntry, compile_entry
from memplace.kinds import Mode, Policy, RegionKind
from memplace.quantity import format_quantity

# The kinds of memory that can be born under a default, and what people call its birth.
BORN: Mapping[RegionKind, str] = MappingProxyType(
    {RegionKind.BRK: "brk()", RegionKind.ANONYMOUS: "mmap()"}
)

_BORN_PERMISSIONS = tuple("".join(letters) + "-" for letters in product("r-", "w-"))


class Cause(StrEnum):
    """Why rules imply no default; ``sentence`` has a place for the rule's name."""

    sentence: str

    NO_RULE = "NoRule", "no rule means it"
    NO_POLICY = "NoPolicy", "rule {rule} asks for no policy"
    NAME = "Name", "rule {rule} selects by name"
    PROCESS = "Process", "rule {rule} selects by process"
    PERMISSIONS = "Permissions", "rule {rule} selects by permissions"
    MAX_SIZE = "MaxSize", "rule {rule} has a maxSize"
    MIN_SIZE = "MinSize", "rule {rule} has a minSize, which brk() has not"
    EXCLUDE = "Exclude", "rule {rule} has an exclude that may mean a part"

    def __new__(cls, value: str, sentence: str = "") -> Cause:
        """Make a member; a lookup by value does not come here."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member


@dataclass(frozen=True, slots=True)
class Implied:
    """A default that a rule implies.

    Attributes:
        rule: The rule that all that is born under it follows.
        least: Bytes of the smallest mmap() that gets it; 0 is any.
    """

    rule: Rule
    least: int = 0


@dataclass(frozen=True, slots=True)
class FutureNotPossible:
    """Why there is no default.

    Attributes:
        cause: For machines.
        rule: Name of the rule it is about, empty for NO_RULE.
    """

    cause: Cause
    rule: str = ""

    @property
    def text(self) -> str:
        """The same for people."""
        return self.cause.sentence.format(rule=self.rule)


@dataclass(frozen=True, slots=True)
class Future:
    """What rules imply for memory that brk() and mmap() give."""

    brk: Implied | FutureNotPossible
    mmap: Implied | FutureNotPossible

    def of(self, kind: RegionKind) -> Implied | FutureNotPossible:
        """Return what is implied for a kind of `BORN`."""
        return self.brk if kind is RegionKind.BRK else self.mmap


def implied_future(rules: Iterable[Rule]) -> Future:
    """Find the defaults that rules imply; see the module.

    Args:
        rules: Of one placement, in order: per mapping the first that means it wins.
    """
    rules = tuple(rules)
    return Future(*(_implied(rules, kind) for kind in (RegionKind.BRK, RegionKind.ANONYMOUS)))


def future_policy(policy: Policy) -> Policy:
    """Return the policy of the default for a rule with that policy.

    Bind becomes PreferredMany on the same nodes: a default reaches memory that nobody has
    looked at, and with Bind a tier that fills ends in an OOM kill of anybody on the node. The
    next look sets Bind on what was born meanwhile, as the rule wants it.
    """
    return replace(policy, mode=Mode.PREFERRED_MANY) if policy.mode is Mode.BIND else policy


def explain_future(future: Future) -> str:
    """Say in one sentence what is placed from the first page on, and why the rest is not."""
    brk, mmap = future.brk, future.mmap
    if isinstance(brk, FutureNotPossible) and brk == mmap:
        return f"not from the first page: {brk.text} (FutureNotPossible)"
    parts = []
    for kind, birth in BORN.items():
        each = future.of(kind)
        if isinstance(each, Implied):
            parts.append(f"{_of_implied(kind, each)} from the first page")
        else:
            parts.append(f"{birth} not: {each.text} (FutureNotPossible)")
    return "; ".join(parts)


def _of_implied(kind: RegionKind, implied: Implied) -> str:
    size = f" of {format_quantity(implied.least)} or more" if implied.least else ""
    return f"{BORN[kind]}{size} by rule {implied.rule.name}"


def _implied(rules: tuple[Rule, ...], kind: RegionKind) -> Implied | FutureNotPossible:
    # The first rule that means anything of what is born decides: where it leaves some of that
    # to a later one, no default can be right for both.
    for rule in rules:
        meant = [entry for entry in _compiled(rule.regions) if _may_mean_born(entry, kind)]
        if meant:
            return _of_rule(rule, meant, kind)
    return FutureNotPossible(Cause.NO_RULE)


def _of_rule(
    rule: Rule, meant: list[CompiledEntry], kind: RegionKind
) -> Implied | FutureNotPossible:
    causes = [cause for entry in meant if (cause := _narrows(entry))]
    if len(causes) == len(meant):
        return FutureNotPossible(causes[0], rule.name)
    if any(_may_mean_born(entry, kind) for entry in _compiled(rule.exclude)):
        return FutureNotPossible(Cause.EXCLUDE, rule.name)
    # The extent of a mapping is no smaller than the mapping: what the kernel gives the default
    # from `least` on is large enough for the rule. What becomes so by its neighbours is found
    # by the next look.
    least = min(entry.min_bytes for entry in meant if not _narrows(entry))
    if least and kind is RegionKind.BRK:
        return FutureNotPossible(Cause.MIN_SIZE, rule.name)
    if rule.policy.mode is Mode.DEFAULT:
        return FutureNotPossible(Cause.NO_POLICY, rule.name)
    return Implied(rule, least)


def _compiled(entries: Iterable[RegionEntry]) -> list[CompiledEntry]:
    return [compile_entry(entry) for entry in entries]


def _may_mean_born(entry: CompiledEntry, kind: RegionKind) -> bool:
    # Sizes and patterns aside: there is always an extent and a name that they mean.
    return any(entry.may_mean(kind, permissions) for permissions in _BORN_PERMISSIONS)


def _narrows(entry: CompiledEntry) -> Cause | None:
    # What keeps the entry from meaning all that is born from its minSize on.
    wanted = entry.entry
    if not (_is_any(wanted.name) and _is_any(wanted.path)):
        return Cause.NAME
    if not _is_any(wanted.process):
        return Cause.PROCESS
    if entry.permissions:
        return Cause.PERMISSIONS
    return Cause.MAX_SIZE if entry.max_bytes is not None else None


def _is_any(pattern: str) -> bool:
    return not pattern.strip("*")
