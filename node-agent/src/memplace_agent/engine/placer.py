# SPDX-License-Identifier: Apache-2.0
"""Bring one process to what the rules want: all policies at once, pages later.

The default for mappings to come is first, so that nothing falls between it and what is mapped.
First the claim is on disk, then the calls are made, then the mappings are read again: what is
said of a process is what was seen after the last call. Pages that are elsewhere are told to
the caller, who has them moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from memplace.api.v1alpha1 import Placement, Rule
from memplace.backends import Act, within
from memplace.claim_view import View
from memplace.claims import DEFAULT, Claim, Process
from memplace.future import Future
from memplace.kinds import Policy
from memplace.ledger import admit, claim_for, is_rolled, record
from memplace.limits import UNLIMITED, Limited
from memplace.matching import Matcher
from memplace.nodes import NumaSet
from memplace.objects import Common, ObjectId
from memplace.policy import Move, Plan, RuleResult, Step, plan
from memplace.problems import Problem as RuleProblem
from memplace.problems import left_alone, policy_of
from memplace.reasons import Reason
from memplace.regions import Region

from memplace_agent.containers.pinning import Pinned
from memplace_agent.engine.hands import Hands
from memplace_agent.engine.holding import Holding, objects_in
from memplace_agent.engine.objects import Objects
from memplace_agent.engine.own import OwnPolicies
from memplace_agent.engine.seen import Seen
from memplace_agent.engine.sharing import in_place_of
from memplace_agent.engine.survey import Survey
from memplace_agent.engine.to_come import recorded, todo
from memplace_agent.engine.words import owned
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.node.forked import Others

# Policies keep mappings from merging, and a process that has as many as it may have dies of
# its own next mmap().
_MAPPINGS_SHARE = 0.8

_NOBODY = Process(0, frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a container is to have.

    Attributes:
        placement: The placement it follows; `matcher` has its rules, `container_id` its id.
        tiers: Tier name to NUMA nodes of this node; `known_tiers` are tiers somewhere.
        weights: Of WeightedInterleave, by NUMA node; None when not known.
        max_mappings: vm.max_map_count; 0 when not known.
        future: What its rules imply for mappings to come; None where the kernel can't keep it.
        act: How much of it is done here; `can_set`: whether policies can be set, done or not.
        limited: Which of its rules get nothing new, for its namespace has what it may have.
        instead_of: Of a dry run, the uid of the placement that it would take the container from.
    """

    placement: Placement
    matcher: Matcher
    container_id: str
    tiers: Mapping[str, NumaSet]
    known_tiers: frozenset[str]
    weights: Mapping[int, int] | None = None
    max_mappings: int = 0
    future: Future | None = None
    act: Act = Act.PLACE
    can_set: bool = True
    limited: Limited = UNLIMITED
    instead_of: str = ""

    @property
    def group(self) -> str:
        """Who pays for threads that its processes lose."""
        return self.placement.tenant


@dataclass(frozen=True, slots=True)
class Problem:
    """What kept something from being done in a process."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was seen in a process after everything was done.

    Attributes:
        identity: Which process.
        survey: As it was read last.
        plan: What would be done next, and what the rules hold: None if it could not be read, and
            `without_mappings` the latter alone.
        left: How many policies the plan would set or take away next.
        is_done: Nothing is left of the plan, nor for mappings to come; of the same program.
        moves: Of the plan, each with the policy that its range has.
        problems: What went wrong; `changed`: whether a call was made.
        carried: How many ranges carry a policy of memplace's.
        own: Mappings with a policy that the program has set itself.
        error: The share of the bytes that may be on another node than said, with 95 %.
        no_default: Why mappings to come do not have what is implied, for people, or empty.
        holding: Ranges that follow the rules.
        commons: What of their bytes other mappings may have as well.
        objects: What it has by a rule that others may map as well.
    """

    identity: int
    survey: Survey
    plan: Plan | None = None
    left: int = 0
    is_done: bool = False
    moves: tuple[tuple[Move, Policy], ...] = ()
    problems: tuple[Problem, ...] = ()
    changed: bool = False
    carried: int = 0
    own: OwnPolicies = field(default_factory=OwnPolicies)
    error: float = 0.0
    no_default: str = ""
    holding: Holding = field(default_factory=Holding)
    commons: tuple[Common, ...] = ()
    objects: frozenset[ObjectId] = frozenset()

    @property
    def results(self) -> tuple[RuleResult, ...]:
        """One result per rule, none if it could not be read."""
        return self.plan.rules if self.plan else ()

    @property
    def without_mappings(self) -> Outcome:
        """The same, small enough to be kept for each of thousands of processes."""
        rules = self.plan and Plan(rules=self.plan.rules, problems=self.plan.problems)
        return replace(self, survey=self.survey.without_mappings, plan=rules, moves=())


@dataclass(slots=True)
class _Work:
    # One process on its way.
    pinned: Pinned
    wanted: Wanted
    relatives: Sequence[OwnPolicies]
    may_take: Callable[[Step], bool]
    problems: list[Problem] = field(default_factory=list)
    changed: bool = False
    # About mappings to come: the default that was taken away, why there is none, and whether
    # to try again.
    had: Policy | None = None
    no_default: str = ""
    is_busy: bool = False


class Placer:
    """Works on processes, one at a time. For one thread."""

    def __init__(
        self,
        hands: Hands,
        store: LedgerStore,
        clock: Callable[[], float],
        objects: Objects | None = None,
    ) -> None:
        self._hands = hands
        self._store = store
        self._clock = clock
        self._objects = objects

    def forget(self, identity: int) -> None:
        """Forget a process that ended."""
        if self._objects is not None:
            self._objects.covering.forget(identity)

    def keep(self, identities: frozenset[int]) -> None:
        """Forget all processes but these."""
        if self._objects is not None:
            self._objects.covering.keep(identities)

    def place(
        self,
        pinned: Pinned,
        survey: Survey,
        wanted: Wanted,
        relatives: Sequence[OwnPolicies] = (),
        may_take: Callable[[Step], bool] = lambda _: True,
        *,
        others: Others | None = None,
    ) -> Outcome:
        """Make a process follow its placement; sets nothing that is set already.

        Args:
            pinned: What to work on.
            survey: What was just read of it, whole.
            wanted: What it is to have.
            relatives: What other processes of the same image have as `Outcome.own`.
            may_take: Whether to override, now, a policy that the program has set itself.
            others: Other processes of the container may map the same pages; see `measure`.

        Raises:
            ProcessGone: It ended meanwhile.
            Stuck: It did not let a call finish in time.
            OSError: The ledger can't be written; nothing was done.
        """
        work = _Work(pinned, wanted, relatives, may_take)
        seen = self._seen(survey, wanted)
        is_stale = self._set_default(work, seen)
        before, seen = seen, self._set(work, seen, self._plan(wanted, seen))
        if is_stale and seen is before:
            seen = self._seen_again(work)
        if seen.survey.incomplete:
            return Outcome(identity=pinned.identity, survey=seen.survey, changed=True)
        following, resident = seen.following(wanted.matcher), seen.survey.resident
        measured = self._hands.measure(pinned, wanted.group, following, resident, others=others)
        planned = self._plan(wanted, seen, measured.pages)
        # Only their pages tell of mappings that show the wanted policy without having it.
        again = self._set(work, seen, planned)
        if again.survey.incomplete:
            return Outcome(identity=pinned.identity, survey=again.survey, changed=True)
        if again is not seen:
            seen, planned = again, self._plan(wanted, again, measured.pages)
        holding = Holding.of(planned.following)
        moves = tuple(seen.settled(planned.moves, wanted.act))
        if self._objects is not None:
            self._objects.covering.cover(pinned, wanted.group, seen.meant, moves)
        return Outcome(
            identity=pinned.identity,
            survey=again.survey,
            plan=planned,
            left=len(planned.policies) + len(planned.released),
            is_done=planned.is_done and not work.is_busy and again.survey.former == survey.former,
            moves=moves,
            problems=tuple(work.problems),
            changed=work.changed,
            carried=len(seen.carried),
            own=seen.own_policies,
            error=measured.error,
            no_default=work.no_default,
            holding=holding,
            commons=holding.commons(measured.pages, measured.common, survey.image, measured.forked),
            objects=objects_in(planned.following, wanted.limited),
        )

    def _set_default(self, work: _Work, seen: Seen) -> bool:
        # Returns whether a call was made: what was mapped before it is to be read again.
        survey, wanted, status = seen.survey, work.wanted, seen.survey.view.status
        if wanted.future is None or status is None:
            return False

        def of_rule(rule: Rule) -> Policy | RuleProblem:
            return policy_of(rule, wanted.tiers, status.allowed, wanted.known_tiers)

        found = todo(wanted.future, of_rule, status, seen.view, wanted.limited)
        if is_near_limit(survey, wanted):
            found = found.without_new
        claim = admit(self._claim(wanted), survey.process)
        claim, found = recorded(found, claim, survey.process, seen.plain, work.relatives)
        work.no_default = found.why_not
        if not found.steps:
            return False
        if any(step.policy == DEFAULT for step in found.steps):
            work.had = survey.process.future or survey.process.future_brk
        # Before the call, as for ranges.
        self._store.put(claim)
        report = self._hands.set_future(work.pinned, wanted.group, found.steps)
        work.is_busy = report.busy
        if report.error is not None:
            work.no_default = f"{report.error}"
        work.changed = True
        return True

    def _claim(self, wanted: Wanted) -> Claim:
        return owned(self._store.get(wanted.container_id) or self._new(wanted), wanted.placement)

    def _seen(self, survey: Survey, wanted: Wanted) -> Seen:
        stored = self._store.get(wanted.container_id)
        claim = admit(stored or self._new(wanted), survey.process)
        if stored is not None and is_rolled(stored, claim, survey.image):
            self._store.put_for_undo(claim)  # after another change nothing else would tell
        elif survey.former and stored not in (None, claim):
            self._store.put(claim)  # the next agent can't know of the program before
        shared = None
        if self._objects is not None:
            of = in_place_of(wanted.placement, wanted.instead_of)
            shared = self._objects.of(survey, wanted.matcher, of, can_set=wanted.can_set)
        return Seen(survey, View(claim, survey.process), shared)

    def _new(self, wanted: Wanted) -> Claim:
        of = wanted.placement
        return claim_for(wanted.container_id, (of.uid, of.namespace, of.name), self._clock())

    def _plan(
        self, wanted: Wanted, seen: Seen, pages: Mapping[int, Mapping[int, int]] | None = None
    ) -> Plan:
        whole = plan(
            wanted.matcher,
            tiers=wanted.tiers,
            allowed=seen.survey.allowed,
            regions=seen.regions if pages is None else seen.holding(pages),
            known_tiers=wanted.known_tiers,
            process=seen.survey.name,
            ours=seen.ours,
            weights=wanted.weights,
            sharing=seen.shared.why_not if seen.shared else left_alone,
            limited=wanted.limited,
        )
        return within(wanted.act, whole)

    def _set(self, work: _Work, seen: Seen, planned: Plan) -> Seen:
        # Returns what is there afterwards; the same if there was nothing to do.
        survey, wanted = seen.survey, work.wanted
        given_back = [r for each in planned.released if (r := seen.mapped_at(each.start))]
        released = seen.view.release(region for region in given_back if not region.in_object)
        asked = [
            (step, region)
            for step in planned.policies
            if not step.own or step.start in seen.carried or work.may_take(step)
            if (region := seen.mapped_at(step.start))
        ]
        if asked and is_near_limit(survey, wanted):
            work.problems.append(_too_many(survey, wanted))
            asked = []
        steps = tuple(step for step, region in asked if not region.in_object)
        if self._set_objects(work, seen, asked, given_back):
            return self._seen_again(work)
        if not steps and not released:
            return seen
        written = record(
            self._claim(wanted),
            survey.process,
            steps,
            seen.plain,
            chain.from_iterable(work.relatives),
        )
        work.problems += [
            Problem(Reason.NO_FORM, f"a region can't be given back later ({refused.reason})")
            for refused in written.refused[:1]
        ]
        if not written.changes and not released:
            return seen
        # Before the calls: whoever comes after a crash has to know what they may have done.
        self._store.put(written.claim)
        report = self._hands.set(
            work.pinned, wanted.group, written.changes, seen.meant, undo=released
        )
        work.problems += [Problem(*each) for each in report.told(work.pinned.pid)]
        if not report.calls:
            return seen
        work.changed = True
        return self._seen_again(work)

    def _set_objects(
        self, work: _Work, seen: Seen, asked: Sequence[tuple[Step, Region]], back: Sequence[Region]
    ) -> bool:
        # What is private waits for the next plan then: one that knows what came of this.
        steps = [(step, region) for step, region in asked if region.in_object]
        released = [region for region in back if region.in_object]
        if self._objects is None or not (steps or released):
            return False
        of = work.wanted.placement
        calls, problems = self._objects.set(work.pinned, of, seen.meant, steps, released)
        work.problems += [Problem(reason, text) for reason, text in problems]
        work.changed |= bool(calls)
        return bool(calls)

    def _seen_again(self, work: _Work) -> Seen:
        survey = self._hands.read(work.pinned, work.wanted.group)
        if survey.incomplete:
            return Seen(survey, View(self._new(work.wanted), _NOBODY))
        if work.had is not None:
            # A program that it executed just before has mappings that were born under it.
            heir = survey.process._replace(future=work.had)
            self._store.put(admit(self._claim(work.wanted), heir))
        return self._seen(survey, work.wanted)


def is_near_limit(survey: Survey, wanted: Wanted) -> bool:
    """Return whether a process has nearly as many mappings as it may have."""
    # A step covers whole mappings, so it splits none.
    return 0 < wanted.max_mappings * _MAPPINGS_SHARE < len(survey.view.vmas)


def _too_many(survey: Survey, wanted: Wanted) -> Problem:
    return Problem(
        Reason.TOO_MANY_MAPPINGS,
        f"a process has {len(survey.view.vmas)} mappings of the {wanted.max_mappings} it may "
        "have (vm.max_map_count): no policy is set on more of them",
    )
