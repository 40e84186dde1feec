# SPDX-License-Identifier: Apache-2.0
"""Have pages moved back before policies are: what onDelete RestorePages is about.

First each range that is memplace's gets a policy that prefers the nodes where the pages belong
without memplace: those of the policy that comes back, or where that names none the nodes with
CPUs. The ledger knows it as one of ours, with the same policy to be given back. So pages to
come are right from then on, pages that are there move as for any rule, and an agent that starts
in the middle of it finds what is left to do. The undo that gives policies back comes after.

What is shared, of files or of huge pages is not waited for. It ends when nothing is left, or
nothing has moved for a while.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event

from memplace.claim_view import View
from memplace.claims import DEFAULT, Change, Claim
from memplace.errors import ProcessGone
from memplace.kinds import Mode, Policy
from memplace.ledger import admit, record
from memplace.nodes import NumaSet
from memplace.rebind import STATIC
from memplace.regions import Region
from memplace.residency import Span

from memplace_agent.containers.members import known_pids, member_test
from memplace_agent.containers.pinning import IsMember, Pinned
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.engine.look import Looker
from memplace_agent.engine.meant import Meant
from memplace_agent.engine.orders import MoveOrder, MoveRange, label
from memplace_agent.engine.survey import Survey
from memplace_agent.engine.to_come import taken_away
from memplace_agent.errors import told
from memplace_agent.ledger_store import LedgerStore

log = logging.getLogger(__name__)

# Pages that are locked, or for which there is no room, do not keep a policy from coming back.
_PATIENCE_S = 600.0


@dataclass(slots=True)
class _Way:
    # How far a container is.
    moved_at: float
    cancel: Event = field(default_factory=Event)
    identities: set[int] = field(default_factory=set)
    most: int = 0
    left: int | None = None
    is_over: bool = False


@dataclass(slots=True)
class GoingBack:
    """See the module; for one thread.

    Attributes:
        looker: Has what acts on processes.
        store: The ledger.
    """

    looker: Looker
    store: LedgerStore
    _ways: dict[str, _Way] = field(default_factory=dict)

    @property
    def identities(self) -> frozenset[int]:
        """The processes whose pages are moved back."""
        return frozenset[int]().union(*(way.identities for way in self._ways.values()))

    def look(self, claim: Claim, refs: Iterable[CgroupRef], near: NumaSet) -> str:
        """Go on with a container.

        Args:
            claim: What was done in it.
            refs: Its cgroups.
            near: NUMA nodes with CPUs.

        Returns:
            How far it is, for people; empty when it is over, and policies are to come back.
        """
        now = self.looker.clock()
        way = self._ways.setdefault(claim.container, _Way(now))
        if way.is_over:
            return ""
        queued = [p for p in self.looker.mover.progress() if p.container == claim.container]
        left = (
            sum(p.total - p.done for p in queued) if queued else self._order(claim, refs, near, way)
        )
        if way.left is None or left < way.left:
            way.left, way.moved_at = left, now
        way.most = max(way.most, left)
        if left and now - way.moved_at < _PATIENCE_S:
            return f"pages are moved back first: {label(way.most - left, way.most)}"
        self._end(claim, way, left)
        return ""

    def end(self, container_id: str) -> None:
        """Move nothing more in a container whose policies are to come back."""
        way = self._ways.get(container_id)
        if way is not None and not way.is_over:
            way.is_over = True
            self._end_moves(way)

    def stop(self, container_id: str) -> None:
        """Forget a container, and end its moves: somebody else has it now, or it is done."""
        self.end(container_id)
        self._ways.pop(container_id, None)

    def _end(self, claim: Claim, way: _Way, left: int) -> None:
        self.end(claim.container)
        extra = {"container": claim.container, "moved": way.most - left, "left": left}
        if not left:
            log.info("pages are back", extra=extra)
            return
        self.looker.metrics.pages_left.inc(left)
        log.warning("some pages could not be moved back; they stay", extra=extra)

    def _end_moves(self, way: _Way) -> None:
        way.cancel.set()
        for identity in way.identities:
            self.looker.mover.forget(identity)
        self.looker.mover.wake()

    def _order(self, claim: Claim, refs: Iterable[CgroupRef], near: NumaSet, way: _Way) -> int:
        # Returns how many bytes are to be moved.
        found = 0
        for ref in refs:
            is_member = member_test(self.looker.pinner.host, ref)
            # Of those that nobody can list policies can't come back either: undo says so.
            for pid in sorted(known_pids(ref.path)):
                self.looker.tick()
                try:
                    with self.looker.pinner.pin(pid, is_member) as pinned:
                        work = _Process(self, claim.container, pinned, near)
                        found += self._submit(work, claim, ref, is_member, way)
                except ProcessGone:
                    continue
                except Exception as err:
                    # Its policies come back all the same; that tells what is wrong.
                    log.warning("pages stay", extra={"pid": pid, "error": told(err)})
        return found

    def _submit(
        self, work: _Process, claim: Claim, ref: CgroupRef, is_member: IsMember, way: _Way
    ) -> int:
        pinned, mover = work.pinned, self.looker.mover
        to_move = work.prepared()
        pin = partial(self.looker.pinner.pidfd, pinned.pid, is_member, pinned.identity)
        uid, namespace, _ = claim.placement
        way.identities.add(pinned.identity)
        mover.submit(
            pinned.identity,
            [
                MoveOrder(
                    identity=pinned.identity,
                    pid=pinned.pid,
                    pin=pin,
                    namespace=namespace,
                    container=claim.container,
                    placement=uid,
                    rule="",
                    policy=policy,
                    ranges=tuple(ranges),
                    cancel=way.cancel,
                    is_wanted=partial(self.looker.follows, claim.container, None),
                    # What KSM merged may be another pod's, too.
                    move_all=not self.looker.merges_pages(),
                    private_anonymous=True,
                    cgroup=ref.path,
                )
                for policy, ranges in to_move.items()
            ],
        )
        return sum(move.bytes for ranges in to_move.values() for move in ranges)


@dataclass(slots=True)
class _Process:
    # One process on its way.
    of: GoingBack
    container: str
    pinned: Pinned
    near: NumaSet

    def prepared(self) -> dict[Policy, list[MoveRange]]:
        """Set the policies that prefer where pages belong; returns what is elsewhere, by policy."""
        claim = self.of.store.get(self.container)
        survey = self._read(claim)
        if claim is None or survey is None:
            return {}
        claim = admit(claim, survey.process)
        if View(claim, survey.process).default_is_ours:
            again = self._without_default(claim, survey)
            if again is None:
                return {}
            claim, survey = admit(self.of.store.get(self.container) or claim, again.process), again
        regions = _private(survey)
        steps = [
            Change(start=start, end=end, policy=wanted)
            for _, start, end, wanted, has in self._wanted(View(claim, survey.process), regions)
            if not has
        ]
        if steps:
            written = record(claim, survey.process, steps, regions)
            # Before the calls, as for a rule.
            self.of.store.put(written.claim)
            hands = self.of.looker.hands
            meant = Meant(survey.image, regions)
            hands.set(self.pinned, claim.placement[1], written.changes, meant)
            after = self._read(claim)
            if after is None:
                return {}
            claim, survey, regions = written.claim, after, _private(after)
        return self._elsewhere(claim, survey, regions)

    def _read(self, claim: Claim | None) -> Survey | None:
        if claim is None:
            return None
        survey = self.of.looker.hands.read(self.pinned, claim.placement[1], audit=True)
        return None if survey.incomplete or not survey.image else survey

    def _without_default(self, claim: Claim, survey: Survey) -> Survey | None:
        status = survey.view.status
        assert status is not None
        self.of.store.put(claim)
        steps = taken_away(status, View(claim, survey.process))
        report = self.of.looker.hands.set_future(self.pinned, claim.placement[1], steps)
        again = self._read(claim) if report.complete else None
        if again is not None:
            # As in undo: what it executed just before has mappings that were born under it.
            had = survey.process.future or survey.process.future_brk
            self.of.store.put(admit(claim, again.process._replace(future=had)))
        return again

    def _wanted(
        self, view: View, regions: Sequence[Region]
    ) -> Iterator[tuple[Region, int, int, Policy, bool]]:
        # Ranges of ours, what is wanted there, and whether they have it.
        task = next((r.policy for r in regions if not r.own), DEFAULT)
        for region in regions:
            for start, end, ours in view.parts(region):
                previous = task if ours.previous == DEFAULT else ours.previous
                wanted = _prefers(previous, self.near & ours.allowed)
                if wanted is not None:
                    shown = replace(ours.policy, flags=ours.policy.flags - {STATIC})
                    yield region, start, end, wanted, shown == wanted

    def _elsewhere(
        self, claim: Claim, survey: Survey, regions: Sequence[Region]
    ) -> dict[Policy, list[MoveRange]]:
        spans = [
            (Span(start, end), region.policy)
            for region, start, end, _, has in self._wanted(View(claim, survey.process), regions)
            if has
        ]
        measured = self.of.looker.hands.measure(
            self.pinned, claim.placement[1], [span for span, _ in spans], survey.resident
        )
        found: dict[Policy, list[MoveRange]] = {}
        for span, policy in spans:
            pages = measured.pages.get(span.start, {})
            size = sum(bytes_ for node, bytes_ in pages.items() if node not in policy.nodes)
            if size:
                found.setdefault(policy, []).append(MoveRange(span.start, span.end, size))
        return found


def _private(survey: Survey) -> tuple[Region, ...]:
    return tuple(region for region in survey.regions() if region.private_anonymous)


def _prefers(previous: Policy, near: NumaSet) -> Policy | None:
    # Where pages belong under a policy, as one that memplace may set; None for nobody knows.
    if "relative" in previous.flags:
        return None
    nodes = previous.nodes if previous.mode.takes_nodes else near
    policy = Policy(Mode.PREFERRED_MANY, nodes)
    if policy == previous:
        policy = Policy(Mode.PREFERRED, frozenset({min(nodes)}))
    return policy if nodes else None
