# SPDX-License-Identifier: Apache-2.0
"""Shared memory under placements: who may act on an object, and what was done to it.

An object follows one placement, and one rule of it: who comes later is told so. Its claim is
kept until no followed container maps it under a rule; then what it had comes back, through any
process that maps it, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from memplace.api.v1alpha1 import Placement, Rule, title_of
from memplace.claim_view import View
from memplace.claims import Claim
from memplace.errors import ProcessGone
from memplace.kinds import RegionKind
from memplace.ledger import claim_for
from memplace.matching import Matcher
from memplace.objects import ObjectId, claim_name, object_of
from memplace.objects_claim import Way, prepare, release, view_of
from memplace.policy import Step
from memplace.problems import Refusal, of_a_file_in_memory
from memplace.reasons import Reason
from memplace.regions import Region

from memplace_agent.containers.pinning import Pinned, Pinner
from memplace_agent.engine.apply import PolicyReport
from memplace_agent.engine.covering import Covering
from memplace_agent.engine.hands import Hands
from memplace_agent.engine.meant import Meant
from memplace_agent.engine.sharing import Sharing
from memplace_agent.engine.survey import Survey
from memplace_agent.engine.words import owned
from memplace_agent.errors import told
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.procfs.mounts import tmpfs_devices

# How old the index of mappings may be for a plan; before a call it is made anew.
_AGE_S = 30.0
# Who maps an object nobody maps any more has that long to come back: a container that starts
# again. After that nobody knows whether it still exists.
_UNMAPPED_S = 300.0

_OF_OBJECTS = " of shared memory"
_NO_POLICIES = "memory that others may map is placed by policy alone, and this node can't set any"
_NO_TMPFS = "pages of a file that is not in memory alone are page cache: no policy reaches them"


@dataclass(slots=True)
class Shared:
    """What of a process's shared memory may be placed, for one look at it."""

    objects: Objects
    placement: Placement
    rules: frozenset[str]
    devices: frozenset[tuple[int, int]]
    age_s: float
    can_set: bool = True
    taken: dict[ObjectId, str] = field(default_factory=dict)
    _foreign: dict[ObjectId, str] = field(default_factory=dict)
    _views: dict[ObjectId, View | None] = field(default_factory=dict)

    def view(self, region: Region) -> View | None:
        """Return how to see a region whose policy is in an object; None for all others."""
        if not region.in_object or region.object is None:
            return None
        if region.object not in self._views:
            claim = None if region.object in self.taken else self.objects.claim(region.object)
            nothing = self.objects.new_claim(region.object, self.placement)
            self._views[region.object] = view_of(claim or nothing)
        return self._views[region.object]

    def why_not(self, rule: Rule, region: Region) -> Refusal | None:
        """Return why a rule may not act on a region of an object; None if it may."""
        if not region.shared:
            return of_a_file_in_memory(region, self.devices)
        if not self.can_set:
            # Who moves it for one placement would do so for all, and nothing says who has it.
            return Reason.SHARED_NOT_SUPPORTED, _NO_POLICIES
        if region.object is None:
            return Reason.SHARED_NOT_SUPPORTED, "it can't be told what others map of it"
        if any(entry.process for entry in (*rule.regions, *rule.exclude)):
            text = "a rule that selects by process can't place what processes share"
            return Reason.SHARED_NOT_SUPPORTED, text
        if region.in_object and region.object[:2] not in self.devices:
            return Reason.SHARED_NOT_SUPPORTED, _NO_TMPFS
        taken = self.objects.taken(region.object, self.placement, rule, self.rules)
        if taken:
            return Reason.SHARED_WITH_OTHERS, taken
        why = self._others(region.object)
        return (Reason.SHARED_WITH_OTHERS, f"{_named(region)}: {why}") if why else None

    def ask(self, objects: Collection[ObjectId]) -> None:
        """Ask of several objects at once who maps them."""
        found = self.objects.sharing.why_not(objects, self.placement.tenant, self.age_s)
        self._foreign |= {one: found.get(one, "") for one in objects}

    def _others(self, one: ObjectId) -> str:
        if one not in self._foreign:
            self.ask((one,))
        return self._foreign[one]


def _title(claim: Claim) -> str:
    _, namespace, name = claim.placement
    return f"placement {name}" if namespace else title_of(namespace, name)


def _named(region: Region) -> str:
    return region.path[:200] or "shared memory"


@dataclass(slots=True)
class Objects:
    """See the module; for one thread."""

    store: LedgerStore
    hands: Hands
    sharing: Sharing
    pinner: Pinner
    internal: tuple[int, int] | None
    clock: Callable[[], float]
    _rule_of: dict[str, str] = field(default_factory=dict)
    _unmapped: dict[str, float] = field(default_factory=dict)
    _is_new: bool = False
    covering: Covering = field(init=False)

    def __post_init__(self) -> None:
        self.covering = Covering(self.hands)

    def claim(self, one: ObjectId) -> Claim | None:
        """Return what was done to an object, None for nothing."""
        return self.store.get(claim_name(one))

    def new_claim(self, one: ObjectId, of: Placement) -> Claim:
        """Return the claim of an object that nothing was done to yet."""
        return claim_for(claim_name(one), (of.uid, of.namespace, of.name), time.time())

    def take_new(self) -> bool:
        """Return whether an object has got a claim since this was asked last."""
        is_new, self._is_new = self._is_new, False
        return is_new

    def of(
        self,
        survey: Survey,
        matcher: Matcher,
        placement: Placement,
        age_s: float = _AGE_S,
        *,
        can_set: bool = True,
    ) -> Shared:
        """Look at what a process shares under the rules of a placement.

        Args:
            survey: The process.
            matcher: The rules.
            placement: Whose they are.
            age_s: How old the index of who maps what may be, in seconds.
            can_set: Whether policies can be set here; if not nobody is asked for.
        """
        directory = self.pinner.host.pid(survey.pid)
        rules = frozenset(rule.name for rule in matcher.rules)
        shared = Shared(self, placement, rules, frozenset(), age_s, can_set)
        is_any = any(one.shared or one.inode for one in survey.view.vmas.classes)
        if not can_set or not is_any or not _may_share(matcher):
            return shared
        regions = survey.regions()
        matches = matcher.match(regions, survey.name)
        meant: list[Region] = []
        for region, match in zip(regions, matches, strict=True):
            if not (match.rule and region.object):
                continue
            meant.append(region)
            if region.shared:
                taken = self.taken(region.object, placement, match.rule, rules)
                shared.taken |= {region.object: taken} if taken else {}
        if not meant:
            return shared
        asked = {r.object for r in meant if r.object is not None and r.shared}
        internal = frozenset() if self.internal is None else frozenset({self.internal})
        # A file that is not in memory alone is refused whoever maps it.
        on_disk = {r.object[:2] for r in meant if r.object and r.in_object} - internal
        # tmpfs has no device with a major number; nor have btrfs and overlayfs.
        look = on_disk or any(r.object and not r.object.major for r in meant if not r.shared)
        shared.devices = internal | (tmpfs_devices(directory) if look else frozenset())
        shared.ask({one for one in asked if one[:2] in shared.devices or one[:2] not in on_disk})
        return shared

    def taken(self, one: ObjectId, of: Placement, rule: Rule, rules: frozenset[str]) -> str:
        """Return who has an object already, for people; empty for nobody else."""
        name = claim_name(one)
        claim = self.store.get(name)
        if claim is None or claim.is_left:
            return ""
        if claim.placement[0] != of.uid:
            return f"it follows {_title(claim)} already"
        owner = self._rule_of.get(name, rule.name)
        if owner != rule.name and owner in rules:
            return f"it follows rule {owner} in another process"
        return ""

    # --- to set and to give back ---

    def set(
        self,
        pinned: Pinned,
        placement: Placement,
        meant: Meant,
        steps: Iterable[tuple[Step, Region]],
        released: Iterable[Region],
    ) -> tuple[int, list[tuple[Reason, str]]]:
        """Set policies of objects through a process, and give back those of others.

        Args:
            pinned: The process.
            placement: Whose rules want it.
            meant: What it has mapped, as the kernel shows it.
            steps: Each with the mapping that it is for.
            released: Mappings that carry ours though no rule means them, or may.

        Returns:
            How many calls were made, and what is in the way.

        Raises:
            OSError: The ledger can't be written; nothing was done.
        """
        group = placement.tenant
        claims = ((self.claim(one), r) for one, r in _by_object(released).items())
        way = _joined(release(claim, regions) for claim, regions in claims if claim)
        report = self._go(pinned, group, meant, way, undo=True)
        calls, problems = report.calls, report.told(pinned.pid, _OF_OBJECTS)
        by_object: dict[ObjectId, list[tuple[Step, Region]]] = {}
        for step, region in steps:
            if region.object is not None:
                by_object.setdefault(region.object, []).append((step, region))
        # Somebody may have mapped it since the plan was made, and until the calls are done.
        foreign = self.sharing.why_not(by_object.keys(), group, 0.0)
        mine = {one: pairs for one, pairs in by_object.items() if one not in foreign}
        ways = {
            one: way
            for one, pairs in mine.items()
            if (way := self._prepared(placement, one, pairs, problems)).then
        }
        # All at once: what it has mapped is read again for each of these.
        report = self._go(pinned, group, meant, _joined(ways.values()))
        problems += report.told(pinned.pid, _OF_OBJECTS)
        late = self.sharing.why_not(ways.keys(), group, 0.0) if report.calls else {}
        for one in late:
            self._give_up(pinned, group, one, [region for _, region in mine[one]])
        problems += [
            (Reason.SHARED_WITH_OTHERS, why) for why in (*foreign.values(), *late.values())
        ]
        return calls + report.calls, problems

    def _give_up(
        self, pinned: Pinned, group: str, one: ObjectId, regions: Sequence[Region]
    ) -> None:
        # What they show by now is what was just set.
        claim, mapped = self.claim(one), self._mapped(pinned, group, one)
        starts = {region.start for region in regions}
        shown = [region for region in mapped.regions if region.start in starts]
        if claim is not None:
            self._go(pinned, group, mapped, release(claim, shown), undo=True)

    def _prepared(
        self,
        placement: Placement,
        one: ObjectId,
        pairs: Sequence[tuple[Step, Region]],
        problems: list[tuple[Reason, str]],
    ) -> Way:
        name = claim_name(one)
        before = self.store.get(name)
        claim = owned(before or self.new_claim(one, placement), placement)
        claim, way = prepare(claim, [s for s, _ in pairs], [r for _, r in pairs])
        if way.refused:
            text = f"shared memory can't be given back later ({way.refused})"
            problems.append((Reason.NO_FORM, text))
        if way.then:
            self._is_new |= before is None
            self.store.put(claim)
            self._rule_of[name] = pairs[0][0].rule
        return way

    def _go(
        self, pinned: Pinned, group: str, meant: Meant, way: Way, *, undo: bool = False
    ) -> PolicyReport:
        # What is there may be refused (another's nodes): then the second tells.
        report = PolicyReport()
        for changes in (way.first, way.then) if way.then else ():
            before, back = report.calls, changes if undo else ()
            on = () if undo else changes
            report = self.hands.set(pinned, group, on, meant, undo=back)
            report.calls += before
        return report

    # --- a claim that has to end ---

    def undo(self, claim: Claim) -> tuple[bool, str]:
        """Give an object back what it had; returns whether it is done, and what is in the way."""
        name = claim.container
        one = object_of(name)
        if one is None:
            raise ValueError(f"not the claim of an object: {name}")
        mappers, doubt = self.sharing.mappers(one)
        if not mappers and not doubt:
            return self._nobody(claim)
        self._unmapped.pop(name, None)
        found = [self._give_back(claim, one, mapper.pid) for mapper in mappers]
        left = next((why for is_done, why in found if not is_done), doubt)
        if left:
            return False, left
        self._drop(name)
        return True, ""

    def is_gone(self, claim: Claim) -> bool:
        """Return whether nobody has mapped an object for a while; then its claim is dropped."""
        one = object_of(claim.container)
        mappers, doubt = self.sharing.mappers(one, _AGE_S) if one else ([], "")
        if mappers or doubt:
            self._unmapped.pop(claim.container, None)
            return False
        return self._nobody(claim)[0]

    def keep(self, names: Collection[str]) -> None:
        """Forget all objects but these."""
        for known in (self._rule_of, self._unmapped):
            for name in known.keys() - set(names):
                del known[name]

    def _nobody(self, claim: Claim) -> tuple[bool, str]:
        now = self.clock()
        since = self._unmapped.setdefault(claim.container, now)
        if now - since < _UNMAPPED_S:
            return False, (
                f"{claim.container} is mapped by no process: if it still exists, its former "
                f"policy is restored when a process maps it within {_UNMAPPED_S:g} s"
            )
        self._drop(claim.container)
        return True, ""

    def _drop(self, name: str) -> None:
        self.store.drop(name)
        self._rule_of.pop(name, None)
        self._unmapped.pop(name, None)

    def _give_back(self, claim: Claim, one: ObjectId, pid: int) -> tuple[bool, str]:
        group = claim.placement[1]
        try:
            with self.pinner.pin(pid, lambda _: True) as pinned:
                mapped = self._mapped(pinned, group, one)
                way = release(claim, mapped.regions)
                if not way.then:
                    return True, ""
                report = self._go(pinned, group, mapped, way, undo=True)
                problems = report.told(pinned.pid, _OF_OBJECTS)
                if problems:
                    return False, problems[0][1]
                if release(claim, self._mapped(pinned, group, one).regions).then:
                    return False, "an object keeps its policy"
        except ProcessGone:
            return True, ""
        except Exception as err:  # who maps it through another process may give it back
            return False, told(err)
        return True, ""

    def _mapped(self, pinned: Pinned, group: str, one: ObjectId) -> Meant:
        survey = self.hands.read(pinned, group, audit=True)
        if survey.incomplete:
            raise OSError(survey.incomplete.errno, f"process {pinned.pid} can't be read")
        found = [r for r in survey.regions() if r.object == one and r.shared]
        return Meant(survey.image, found)


def _may_share(matcher: Matcher) -> bool:
    private = (RegionKind.HEAP, RegionKind.BRK, RegionKind.ANONYMOUS, RegionKind.STACK)
    entries = (entry for rule in matcher.rules for entry in rule.regions)
    return any(entry.type not in private for entry in entries)


def _by_object(regions: Iterable[Region]) -> dict[ObjectId, list[Region]]:
    found: dict[ObjectId, list[Region]] = {}
    for region in regions:
        if region.object is not None:
            found.setdefault(region.object, []).append(region)
    return found


def _joined(ways: Iterable[Way]) -> Way:
    ways = tuple(ways)
    first = chain.from_iterable(way.first for way in ways)
    return Way(tuple(first), tuple(chain.from_iterable(way.then for way in ways)))
