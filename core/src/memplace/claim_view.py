# SPDX-License-Identifier: Apache-2.0
"""One process seen through its container's claim: which of its policies are memplace's."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import accumulate

from memplace.claims import DEFAULT, Change, Claim, Footprint, Kept, Mapped, Ours, Process
from memplace.kinds import Mode, Policy
from memplace.rebind import STATIC, rebind, roll, settable


class View:
    """Tells memplace's policies in one process from its own.

    Args:
        claim: The container's claim, `admit`ted or not.
        process: The process; nothing is ours while its image is 0.
    """

    def __init__(self, claim: Claim, process: Process) -> None:
        footprint = footprint_of(claim, process)
        self._now = process.allowed
        self._defaults = frozenset(_shown_defaults(claim, process))
        self._default_is_ours = default_is_ours(claim, process)
        self._ours: dict[Policy, Ours] = {}
        for ours in footprint.ours:
            self._ours.setdefault(self._shown(ours), ours)
        self._kept: dict[Policy, list[Kept]] = {}
        for kept in footprint.kept:
            self._kept.setdefault(self._shown(kept.ours), []).append(kept)
        # Policies that look alike by now may have ranges within each other's: up to where each
        # range and those before it reach ascends, as their ends may not.
        self._reach = {
            policy: list(accumulate((kept.end for kept in ranges), max))
            for policy, ranges in self._kept.items()
        }
        # What `spelt` returns: one object for all mappings that have it.
        self._spelt: dict[int, Policy] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no mapping at all can carry anything of memplace's."""
        return not self._ours and not self._kept

    @property
    def default_is_ours(self) -> bool:
        """Whether a default for mappings to come is memplace's: undo takes it away first."""
        return self._default_is_ours

    def is_our_default(self, default: Policy | None) -> bool:
        """Return whether a default that the process has for mappings to come is memplace's."""
        return default in self._defaults

    def carries(self, region: Mapped) -> bool:
        """Return whether a mapping, or a part of it, carries a policy that memplace set."""
        return next(self.parts(region), None) is not None

    def policy(self, region: Mapped) -> Policy:
        """Return the policy of a mapping as rules spell it: whole, and without the form."""
        return self.spelt(region) or region.policy

    def spelt(self, region: Mapped) -> Policy | None:
        """Return what `policy` does; None for what does not carry anything of memplace's."""
        for _, _, ours in self.parts(region):
            known = self._spelt.get(id(ours))  # this view keeps the object
            if known is None:
                shown = self._shown(ours)
                known = self._spelt[id(ours)] = replace(shown, flags=shown.flags - {STATIC})
            return known
        return None

    def parts(self, region: Mapped) -> Iterator[tuple[int, int, Ours]]:
        """Yield the parts of a mapping that carry ours: first address, end, and what it is."""
        whole = self._carried(region)
        at = region.start
        for kept in self._kept_in(region):
            start, end = max(at, kept.start), min(region.end, kept.end)
            if start >= end:
                continue
            if whole and at < start:
                yield at, start, whole
            yield start, end, kept.ours
            at = end
        if whole and at < region.end:
            yield at, region.end, whole

    def release(self, regions: Iterable[Mapped]) -> tuple[Change, ...]:
        """Return the changes that give mappings back what they had before memplace.

        As it would be by now: after changes of the cpuset, a previous policy comes back with
        the nodes that the kernel would have given it. Nothing is returned for mappings that
        carry nothing. The ranges are those of `regions`; what has grown meanwhile is seen by
        the next look. Holes do no harm.
        """
        parts = (
            (region, start, end, settable(ours.previous, ours.allowed, self._now))
            for region in regions
            for start, end, ours in self.parts(region)
        )
        # No policy can't be taken away: a call would change nothing, and undo would not end.
        return tuple(
            Change(start=start, end=end, policy=policy, page_size=region.page_size)
            for region, start, end, policy in parts
            if region.own or policy != DEFAULT
        )

    def _shown(self, ours: Ours) -> Policy:
        return rebind(ours.policy, ours.allowed, self._now)

    def _carried(self, region: Mapped) -> Ours | None:
        if not region.own:
            return None
        if region.policy_is_whole:
            return self._ours.get(_form(region.policy))
        return next((o for p, o in self._ours.items() if _begins(p, region.policy)), None)

    def _kept_in(self, region: Mapped) -> Iterator[Kept]:
        for policy, ranges in self._kept.items():
            if not region.own:
                same = policy == DEFAULT
            elif region.policy_is_whole:
                same = policy == _form(region.policy)
            else:
                same = _begins(policy, region.policy)
            if same:
                first = bisect_right(self._reach[policy], region.start)
                last = bisect_left(ranges, region.end, key=lambda kept: kept.start)
                yield from (kept for kept in ranges[first:last] if kept.end > region.start)


def find_footprint(claim: Claim, image: int) -> Footprint | None:
    """Return what was done in an image, or None."""
    return next((f for f in claim.footprints if image in f.images), None)


def footprint_of(claim: Claim, process: Process) -> Footprint:
    """Return what was done in the image of a process, written down or not.

    If the default of a new image is ours, mappings carry that, or one before it, before anybody
    wrote it down. So they do if a call came just after exec(). In an image that is known it is
    written down what they can carry; what else is a default of ours somewhere in the container,
    this program may have set itself.
    """
    known = find_footprint(claim, process.image) if process.image else Footprint()
    if known is not None:
        return known
    born = claim.defaults if default_is_ours(claim, process) else ()
    return Footprint(ours=(*born, *_late(claim, process, born)))


def _late(claim: Claim, process: Process, known: Iterable[Ours]) -> Iterator[Ours]:
    # A call can reach a process just after it has executed another program, and sets there what
    # was meant for the one before. That had no policy yet; and what it sets itself from then on
    # is rather in the plain form than in ours.
    former, seen = find_footprint(claim, process.former), {ours.policy for ours in known}
    for ours in former.ours if former else ():
        policy = roll(ours.policy, ours.allowed, process.allowed)
        if STATIC in policy.flags and policy not in seen:
            seen.add(policy)
            yield Ours(policy, process.allowed)


def default_is_ours(claim: Claim, process: Process) -> bool:
    """Return whether one of the defaults of a process for mappings to come is ours."""
    return any(
        shown in (process.future, process.future_brk) for shown in _shown_defaults(claim, process)
    )


def _shown_defaults(claim: Claim, process: Process) -> Iterator[Policy]:
    # As the process would show them.
    return (rebind(ours.policy, ours.allowed, process.allowed) for ours in claim.defaults)


def _form(shown: Policy) -> Policy:
    # The program may have given a home node to ours: the flag that it does not use tells it. One
    # of its own with a home node is not taken for ours.
    return shown.without_home if STATIC in shown.flags else shown


def _begins(whole: Policy, cut: Policy) -> bool:
    # Whether the text of a policy, cut off behind these nodes, could be that of a whole one.
    same = whole.mode is cut.mode and whole.flags == cut.flags and whole.mode is not Mode.DEFAULT
    last = max(cut.nodes, default=-1)
    return same and cut.nodes == {n for n in whole.nodes if n <= last} and cut.nodes != whole.nodes
