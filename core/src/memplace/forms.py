# SPDX-License-Identifier: Apache-2.0
"""In which form to set a policy, so that it can be told from the program's own.

A form is a policy with or without `static`. A program that uses one of the two by itself keeps
it: the other is taken. What a form means, that is what its mappings had before, is the same for
all policies of one mode and flags, so that no change of node ids can mix them up.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

from memplace.claims import DEFAULT, Footprint, Kept, Ours
from memplace.errors import MemplaceError
from memplace.kinds import Policy
from memplace.nodes import NumaSet
from memplace.reasons import Reason
from memplace.rebind import RELATIVE, STATIC

# Bounds of what one program can make the agent remember.
MAX_KEPT = 4096
MAX_OURS = 256


class NoForm(MemplaceError):  # noqa: N818  says what happened
    """A policy could not be given back later.

    Attributes:
        why: The reason of a `ledger.Refused`.
    """

    reason = Reason.NO_FORM
    HELP = "Leave out `override: true` for these regions, or let the program set fewer policies."

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


def form_class(policy: Policy) -> Policy:
    """Return what tells forms apart: mode and flags, as a policy without nodes."""
    return Policy(policy.mode, frozenset(), policy.flags)


class Elsewhere(NamedTuple):
    """What a mapping of another process with the image has, or would have after undo.

    Attributes:
        start: First address.
        end: First address after it.
        kind: Class of its policy; of the default policy if it has none.
        previous: What it had before memplace if it is ours, None if it is the program's.
    """

    start: int
    end: int
    kind: Policy
    previous: Policy | None = None


class Forms:
    """The forms in the images of one footprint; grows with each choice.

    Args:
        footprint: What is there.
        allowed: Mems_allowed_list of the process; that of all entries of the footprint.
        used: The classes of the policies that the program has set itself; what it gets back
            is used too, and needs no mention.
        elsewhere: What other processes with the image have mapped, see `Elsewhere`.
    """

    def __init__(
        self,
        footprint: Footprint,
        allowed: NumaSet,
        used: Collection[Policy],
        elsewhere: Iterable[Elsewhere] = (),
    ) -> None:
        self._footprint = footprint
        self._elsewhere = _union(elsewhere)
        self._allowed = allowed
        # What is given back is the program's own again: our forms must not be taken for it.
        entries = (*footprint.ours, *(kept.ours for kept in footprint.kept))
        self._used = {*used, *(form_class(o.previous) for o in entries)}
        self._ours = {ours.policy: ours for ours in footprint.ours}
        self._meaning = {form_class(o.policy): o.previous for o in footprint.ours}
        self._theirs = set(footprint.theirs)
        self._kept: dict[Policy, list[Kept]] = {}
        for kept in footprint.kept:
            self._kept.setdefault(kept.ours.policy, []).append(kept)
        self._count = len(footprint.kept)

    @property
    def footprint(self) -> Footprint:
        """What was there, and what was chosen since."""
        kept = (item for ranges in self._kept.values() for item in ranges)
        return replace(
            self._footprint,
            ours=tuple(self._ours.values()),
            theirs=tuple(sorted(self._theirs, key=lambda p: (p.mode, sorted(p.flags)))),
            kept=tuple(sorted(kept, key=lambda item: item.start)),
        )

    def choose(self, wanted: Policy, previous: Policy | None, start: int, end: int) -> Policy:
        """Return the form in which to set a policy on a range.

        What was there before is given back as it was: it is no policy of memplace's.

        Args:
            wanted: The policy.
            previous: What is to be given back; None if that can't be read.
            start: First address.
            end: First address after it.

        Raises:
            NoForm: It could not be given back.
        """
        if previous is None:
            raise NoForm("PolicyCutOff")
        if wanted == previous:
            return wanted
        if RELATIVE in previous.flags:
            # The kernel does not show the mask that was asked for, and starts from that at each
            # change of the cpuset: what it would be by then can't be told.
            raise NoForm("RelativePolicy")
        form = self.claim(wanted, previous)
        if form is None:
            form = _unlike(wanted, previous)
            self._keep(form, previous, start, end)
        elif self._is_kept(Ours(form, self._allowed, previous), start, end):
            # The range would tell of what the program has replaced meanwhile.
            raise NoForm("ExceptionsAmbiguous")
        return form

    def claim(self, wanted: Policy, previous: Policy) -> Policy | None:
        """Return a form that tells by itself what was there before, or None.

        Raises:
            NoForm: There are too many policies.
        """
        for form in _candidates(wanted, previous):
            if self._means(form, previous):
                if form not in self._ours and len(self._ours) >= MAX_OURS:
                    raise NoForm("TooManyPolicies")
                self._ours[form] = Ours(form, self._allowed, previous)
                return form
        return None

    def _means(self, form: Policy, previous: Policy) -> bool:
        if form in self._ours:
            return self._ours[form].previous == previous
        kind = form_class(form)
        if kind in self._used:
            self._theirs.add(kind)
        if kind in self._theirs:
            return False
        return self._meaning.setdefault(kind, previous) == previous

    def _is_kept(self, ours: Ours, start: int, end: int) -> bool:
        # Whether a part is kept for something else, under any nodes: a cpuset can change them.
        kind = form_class(ours.policy)
        for ranges in (r for policy, r in self._kept.items() if form_class(policy) == kind):
            first = bisect_right(ranges, start, key=lambda kept: kept.end)
            last = bisect_left(ranges, end, key=lambda kept: kept.start)
            if any(kept.ours.previous != ours.previous for kept in ranges[first:last]):
                return True
        return False

    def _keep(self, form: Policy, previous: Policy, start: int, end: int) -> None:
        ours = Ours(form, self._allowed, previous)
        if self._is_kept(ours, start, end) or self._is_elsewhere(ours, start, end):
            raise NoForm("ExceptionsAmbiguous")
        ranges = self._kept.setdefault(form, [])
        first = bisect_left(ranges, start, key=lambda kept: kept.end)
        last = bisect_right(ranges, end, key=lambda kept: kept.start)
        touched = ranges[first:last]
        others = [kept for kept in touched if kept.ours != ours]
        same = [kept for kept in touched if kept.ours == ours]
        if not same and self._count >= MAX_KEPT:
            raise NoForm("TooManyExceptions")
        start = min([start, *(kept.start for kept in same)])
        end = max([end, *(kept.end for kept in same)])
        merged = sorted([*others, Kept(start, end, ours)], key=lambda kept: kept.start)
        ranges[first:last] = merged
        self._count += len(merged) - len(touched)

    def _is_elsewhere(self, ours: Ours, start: int, end: int) -> bool:
        # Whether a range would be taken for ours, or for another of ours, in a relative.
        for previous, spans in self._elsewhere.get(form_class(ours.policy), {}).items():
            at = bisect_right(spans, start, key=lambda span: span[1])
            if previous != ours.previous and at < len(spans) and spans[at][0] < end:
                return True
        return False


def _union(spans: Iterable[Elsewhere]) -> dict[Policy, dict[Policy | None, list[tuple[int, int]]]]:
    # By class and what was there before; ascending and disjoint.
    joined: dict[Policy, dict[Policy | None, list[tuple[int, int]]]] = {}
    for start, end, kind, previous in sorted(spans, key=lambda span: span.start):
        ranges = joined.setdefault(kind, {}).setdefault(previous, [])
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = ranges[-1][0], max(end, ranges[-1][1])
        else:
            ranges.append((start, end))
    return joined


def _unlike(wanted: Policy, previous: Policy) -> Policy:
    # A form of another class than what comes back: else undo would find it again, for ever.
    static, *plain = (*_candidates(wanted, DEFAULT), wanted)
    return plain[0] if plain and form_class(static) == form_class(previous) else static


def _candidates(wanted: Policy, previous: Policy) -> tuple[Policy, ...]:
    # Default and Local take no flags. `static` is left to mappings that had no policy, like
    # those to come, with which they then merge.
    if not wanted.mode.takes_nodes:
        return (wanted,) if wanted != DEFAULT and previous == DEFAULT else ()
    static = replace(wanted, flags=wanted.flags | {STATIC})
    plain = replace(wanted, flags=wanted.flags - {STATIC})
    return (static, plain) if previous == DEFAULT else (plain,)
