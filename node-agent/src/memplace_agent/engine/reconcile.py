# SPDX-License-Identifier: Apache-2.0
"""What should be is compared with what is, container by container, as each is due.

The one owner of the ledger and of the reports: it takes worlds, asks the due list whose turn
it is, and has that container looked at or given back. An error stops nothing else.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Mapping

from memplace.api.v1alpha1 import ContainerReport, ContainerState
from memplace.assignment import Assignment, PlacementIndex, View, delta
from memplace.backends import Act
from memplace.errors import MemplaceError
from memplace.nodes import NumaSet
from memplace.objects import object_of
from memplace.pods import PodState
from memplace.reasons import Reason

from memplace_agent.containers.finder import Finder
from memplace_agent.containers.members import is_populated
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.engine import said
from memplace_agent.engine.allotments import Allotments, Allotted
from memplace_agent.engine.chores import each_by_itself
from memplace_agent.engine.duelist import Look, Outcome
from memplace_agent.engine.ending import Ending
from memplace_agent.engine.expected import paused_pods
from memplace_agent.engine.explaining import Explaining
from memplace_agent.engine.forgetting import Forgetting
from memplace_agent.engine.judge import judge
from memplace_agent.engine.known import Followed, Listed, News, State, news_of, subject_of
from memplace_agent.engine.lesser import LEFT, SETTLED
from memplace_agent.engine.look import Container
from memplace_agent.engine.parts import Parts
from memplace_agent.engine.placer import Wanted
from memplace_agent.engine.programs import Programs
from memplace_agent.engine.reporting import reports_of
from memplace_agent.engine.shim_claims import is_shim_id, pod_of_id
from memplace_agent.engine.trials import Trials, room_for
from memplace_agent.engine.wanting import Wants
from memplace_agent.errors import told
from memplace_agent.node.machine import read_machine
from memplace_agent.report import Reports, Subject
from memplace_agent.usage_store import UsageStore
from memplace_agent.world import World

log = logging.getLogger(__name__)

# NUMA nodes and their tiers may change without an event.
_MACHINE_AGAIN_S = 30.0

# New memory has this long to get to its place before a placement is called unplaced again.
_FRESH_S = 15.0


class Reconciler:
    """See the module; used by one thread only."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._state = State()
        guard = Programs(parts.host, parts.looker.hands.pool)
        self._finder = Finder(parts.host, parts.clock, guard=guard)
        parts.shims.found = self._finder.told
        self._ending = Ending(parts, self._state, self._finder, self._set_due)
        self._wants = Wants(parts.can)
        usage, gauge = UsageStore(parts.store.directory), parts.metrics.namespace_limited
        self._allotments = Allotments(parts.act_for, gauge, usage, parts.host.cgroup)
        self._trials = Trials(parts, self._state, self._allotments)
        self._forgetting = Forgetting(parts, self._state, self._finder, self._ending, self._trials)
        # Filled by other threads.
        self._moved, self._born = deque[str](), deque[str]()
        self._news = News.NONE
        self._unfinished: set[str] = set()  # containers not seen whole by the last look

    @property
    def tiers(self) -> Mapping[str, NumaSet]:
        """The tiers of this node, by name, and their NUMA nodes."""
        return self._state.machine.tiers

    # --- what should be ---

    def take(self, world: World) -> None:
        """Take what the cluster wants now; containers it concerns are due at once."""
        state, parts = self._state, self._parts
        state.world, state.is_synced = world, True
        self._ending.know()
        parts.objects.sharing.know(world.pods)
        self._read_machine()
        state.paused = frozenset(each.uid for each in world.existing if each.is_frozen)
        state.given_back = frozenset(p.uid for p in world.existing if p.gives_back)
        state.placements = PlacementIndex(world.placements)
        state.list_containers()
        state.paused_pods = paused_pods(world, state.placements)
        allotted = self._allotments.take(world, state.machine, parts.node_name, state.listed)
        tried = self._trials.take()
        shims = self._expect()
        acts = parts.acts(state.view)
        for container_id in state.followed.keys() - acts.keys():
            self._state.followed.pop(container_id).end(self._parts.looker.mover)
        self._wants.keep({each.winner.uid for each in state.view.assignments.values()})
        self._set_due()
        # What was kept for a placement that was paused may have to end now.
        is_over = bool(state.whole.paused - state.paused)
        objects = (c.container for c in parts.store if is_over or object_of(c.container))
        changed = delta(state.whole.view, state.view) | allotted.containers
        self._follow_anew(changed & state.followed.keys())
        parts.due.changed(changed.union(shims, objects, tried), parts.clock())
        parts.metrics.managed_containers.set(sum(act.changes for act in acts.values()))
        state.settle()

    def _expect(self) -> list[str]:
        closed, state = self._allotments.closed, self._state
        return self._parts.expect(state.world, state.placements, state.machine, closed)

    def _allot(self, allotted: Allotted) -> None:
        # The next looks do what follows; moves that are not wanted any more end at once.
        due = set(allotted.containers)
        self._follow_anew(allotted.containers & self._state.followed.keys())
        if allotted.is_about_births:
            due.update(self._expect())
        if due:
            self._set_due()
            self._parts.due.changed(due, self._parts.clock())

    def _set_due(self) -> None:
        # Who can set no policies can't give any back.
        claims = self._parts.store if self._parts.unsupported is None else ()
        namespaces = {claim.container: claim.placement[1] for claim in claims}
        for container_id in self._parts.acts(self._state.view):
            namespaces[container_id] = self._state.listed[container_id].pod.ref.namespace
        namespaces |= self._parts.shims.due()
        self._parts.due.update(namespaces, self._parts.clock())
        self._forgetting.containers(namespaces)

    def _read_machine(self) -> None:
        state, parts = self._state, self._parts
        try:
            world = state.world
            state.machine = read_machine(parts.host, world.tiers, parts.node_name, world.labels)
            state.machine_at = parts.clock()
        except (OSError, ValueError) as err:
            log.warning("NUMA nodes can't be read", extra={"error": str(err)})

    # --- one step ---

    def step(self) -> bool:
        """Look at the container whose turn it is; returns whether there was one."""
        parts = self._parts
        look = parts.due.take(parts.clock())
        if look is None:
            return False
        before = self._said(look.container_id)
        begin, outcome = parts.cost(), Outcome.FAILED
        try:
            outcome = self._look(look)
        except Exception as err:  # whatever it is, it is about this container
            self._failed(look, err)
        finally:
            took = parts.cost() - begin
            parts.due.done(look, outcome, took_s=took, now=parts.clock())
        followed = self._state.followed.get(look.container_id)
        trial = self._trials.of(look.container_id)
        self._allot(self._allotments.looked(look.container_id, followed, trial))
        if parts.objects.take_new():
            self._set_due()
        if look.container_id in self._unfinished:
            parts.due.changed((look.container_id,), parts.clock())
        self._unfinished.clear()
        news = news_of(before, self._said(look.container_id))
        self._news = max(self._news, news, self._trials.take_news())
        return True

    def take_news(self) -> News:
        """Return what the steps since the last time have changed of `reports`."""
        news, self._news = self._news, News.NONE
        return news

    def _said(self, container_id: str) -> tuple[ContainerReport | None, str | None]:
        followed = self._state.followed.get(container_id)
        return followed.report if followed else None, self._state.undoing.get(container_id)

    def moved(self, container_id: str) -> None:
        """Take the news that moves in a container have ended; from any thread."""
        self._moved.append(container_id)

    def begun(self, container_id: str, ref: CgroupRef) -> None:
        """Take the news where a container is that is being made; from any thread."""
        self._finder.told(container_id, ref)

    def born(self, container_id: str) -> None:
        """Take the news that a container may have a claim by now; from any thread."""
        self._born.append(container_id)

    def next_at(self) -> float | None:
        """Return when a container is due next; None if none will be."""
        return self._parts.due.next_at()

    def audit(self) -> bool:
        """Do what no event asks for: feel who has changed, read the node, forget who is gone.

        What fails of it keeps nothing else from its turn; returns whether nothing did.
        """
        felt = self._hear, self._feel, self._press
        # Who is gone is not forgotten with the node's own: a world that changes all the time
        # has that read by `take`.
        forget = self._forgetting.processes
        return each_by_itself(*felt, self._count_left, self._explain, forget, self._read_anew)

    def _hear(self) -> None:
        moved = {self._moved.popleft() for _ in range(len(self._moved))}
        self._parts.due.follow_up(moved, self._parts.clock())
        if born := len(self._born):
            self._set_due()
            for _ in range(born):
                self._born.popleft()

    def _feel(self) -> None:
        felt = self._parts.pulse.beat(self._state.refs)
        self._parts.due.felt(felt, self._parts.clock())

    def _count_left(self) -> None:
        self._allot(self._allotments.audit(self._parts.clock()))

    def _press(self) -> None:
        if self._parts.pressures.beat(self._state.refs):
            self._news = News.STATE

    def _explain(self) -> None:
        known = self._report_of, self._wanted_of, self._finder, self._parts
        self._parts.explainer.serve(Explaining(self._state, *known))

    def _read_anew(self) -> None:
        parts, state = self._parts, self._state
        if parts.clock() - state.machine_at < _MACHINE_AGAIN_S:
            return
        self._read_machine()
        state.machine_at, now, taken = parts.clock(), state.machine, state.whole.machine
        if state.is_synced and (now.tiers, now.sizes) != (taken.tiers, taken.sizes):
            self.take(state.world)

    def _look(self, look: Look) -> Outcome:
        container_id = look.container_id
        if is_shim_id(container_id):
            return self._ending.look_at_shim(pod_of_id(container_id))
        listed = self._state.listed.get(container_id)
        if container_id in self._state.world.held:
            return Outcome.QUIET
        claim = self._parts.store.get(container_id)
        if listed is not None and listed.assignment is not None:
            ended = Outcome.QUIET
            if claim is not None and listed.assignment.winner.gives_back:
                ended = self._ending.look(claim)
            if ended is not Outcome.QUIET:
                return ended
            self._state.undoing.pop(container_id, None)
            return self._follow(container_id, listed, listed.assignment)
        if claim is None:
            self._set_due()
            return Outcome.QUIET
        return self._ending.look(claim)

    def _failed(self, look: Look, err: Exception) -> None:
        text = told(err)
        reason = err.reason if isinstance(err, MemplaceError) else Reason.FAILED
        followed = self._state.followed.get(look.container_id)
        if followed is None or followed.report.message != text:
            log.warning(
                "container failed",
                extra={"container": look.container_id, "error": text},
                exc_info=not isinstance(err, MemplaceError | OSError),
            )
        listed = self._state.listed.get(look.container_id)
        if listed is None or listed.assignment is None:
            return
        followed = self._followed(look.container_id, listed, listed.assignment)
        followed.placed = None
        subject = subject_of(look.container_id, listed, listed.assignment)
        followed.report = said.failed(subject, reason, text)

    # --- a container that follows a placement ---

    def _followed(self, container_id: str, listed: Listed, assignment: Assignment) -> Followed:
        wanted = self._wanted_of(container_id, assignment)
        subject = subject_of(container_id, listed, assignment)
        known = self._state.followed.get(container_id)
        if known is None:
            report = said.not_yet(subject)
            known = self._state.followed[container_id] = Followed(Container(wanted), report)
            return known
        before = known.container.wanted.placement
        if known.container.follow(wanted):
            self._parts.looker.mover.wake()
            # Placed means seen: what was seen was wanted by another spec, or another placement.
            is_same = before.uid == assignment.winner.uid
            known.report = said.not_yet(subject, known.report.rules if is_same else ())
        return known

    def _follow_anew(self, container_ids: Iterable[str]) -> None:
        # Moves that are not wanted any more end with their call, not with the next look.
        for container_id in container_ids:
            listed = self._state.listed[container_id]
            if listed.assignment is not None:
                self._followed(container_id, listed, listed.assignment)

    def _wanted_of(self, container_id: str, assignment: Assignment) -> Wanted:
        limited = self._allotments.limited(container_id)
        return self._wants.of(container_id, assignment.winner, self._state.machine, limited)

    def _follow(self, container_id: str, listed: Listed, assignment: Assignment) -> Outcome:
        self._ending.begin(self._parts.store.get(container_id), assignment.winner)
        followed = self._followed(container_id, listed, assignment)
        subject = subject_of(container_id, listed, assignment)
        ref = followed.ref = self._finder.find(container_id, listed.pod)
        if ref is None or not is_populated(ref.path):
            return self._absent(followed, subject, listed.pod)
        self._parts.shims.inherit(container_id, ref, assignment.winner)
        seen = self._parts.looker.look(followed.container, ref)
        self._parts.census.take(container_id, lambda: {ref, *self._finder.refs(container_id)})
        self._ending.take_over(seen.outcomes, assignment.winner)
        if seen.is_empty:
            return self._absent(followed, subject, listed.pod, has_unseen=True)
        self._finder.seen(container_id)
        spec = (assignment.winner.uid, assignment.winner.generation)
        now = self._parts.clock()
        mover = self._parts.looker.mover
        followed.report = judge(
            subject.container,
            container_id,
            seen.outcomes,
            unseen=seen.unseen,
            progress=(p for p in mover.progress() if p.container == container_id),
            contended=followed.container.contention.message,
            was_placed=followed.placed == spec,
            is_fresh=now - (followed.unsettled_at or now) <= _FRESH_S,
            future=followed.container.wanted.future,
            act=followed.container.wanted.act,
            room=room_for(followed.container.wanted.act, self._parts.senses, now),
            refused=self._allotments.refused(container_id, assignment.winner),
        )
        misplaced = any(rule.misplaced_bytes for rule in followed.report.rules)
        if seen.is_whole and not seen.unseen and not misplaced:
            followed.unsettled_at = None
        else:
            followed.unsettled_at = followed.unsettled_at or now
        if not self._trials.look(container_id, ref) or not seen.is_whole:
            self._unfinished.add(container_id)
        state = followed.report.state
        followed.placed = spec if state in SETTLED else None
        if seen.changed or (misplaced and state not in LEFT):
            return Outcome.CHANGED
        if state is ContainerState.MOVING:
            return Outcome.CHANGED
        return Outcome.FAILED if seen.failed else Outcome.QUIET

    def _absent(
        self, followed: Followed, subject: Subject, pod: PodState, *, has_unseen: bool = False
    ) -> Outcome:
        absence = self._finder.absence(
            subject.container_id, pod, followed.ref, has_unseen=has_unseen
        )
        followed.report, followed.placed = said.absent(subject, absence), None
        self._trials.absent(subject, absence)
        return Outcome.CHANGED if absence.reason is Reason.PENDING else Outcome.QUIET

    def undo_all(self) -> tuple[bool, str]:
        """Give everything back; returns whether nothing is left, and else what is in the way."""
        self._parts.expect_nothing()
        for container_id in tuple(self._state.followed):
            self._state.followed.pop(container_id).end(self._parts.looker.mover)
        self._state.view = View(PlacementIndex([]), [], {})
        self._state.listed.clear()
        self._state.settle()
        self._read_machine()
        self._finder.look_again()
        if self._parts.unsupported is None:
            self._ending.undo_all()
        return not tuple(self._parts.store), next(iter(self._state.undoing.values()), "")

    # --- what is said ---

    @property
    def reports(self) -> Reports:
        """How everything fares now."""
        self._parts.pressures.beat(self._state.refs)
        return reports_of(self._state, self._parts, self._report_of, self._trials.report_of)

    def _report_of(self, container_id: str, subject: Subject) -> ContainerReport:
        why = self._parts.unsupported
        if why is not None and self._parts.act_for(subject.placement) is Act.LEAVE:
            return said.unsupported(subject, why)
        followed = self._state.followed.get(container_id)
        if followed is None:
            return said.not_yet(subject)
        return said.pressed(followed.report, self._parts.pressures.of(container_id))
