# SPDX-License-Identifier: Apache-2.0
"""Passes over the containers of this node: what should be is compared with what is.

Level-triggered. A full pass looks at every process of every container that follows a
placement. Between full passes a scan reads only what is cheap and names the containers
where something changed; a pass is then made over those. Nothing a container does keeps the
pass from the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from memplace.api.v1alpha1 import ContainerReport, ContainerState, Placement
from memplace.assignment import Assignment, assign
from memplace.errors import FeatureUnavailable, MemplaceError
from memplace.nodes import NodeSet
from memplace.pods import PodState
from memplace.policy import Plan
from memplace.reasons import Reason
from memplace.topology import BUILTIN_TIERS, NumaNode, resolve_tiers

from memplace_agent.containers.cgroups import Cgroups
from memplace_agent.containers.processes import pin, read_layout, read_stat
from memplace_agent.errors import ProcessGone
from memplace_agent.hostfs import HostFs
from memplace_agent.journal import Entry, Journal, Key
from memplace_agent.judge import SETTLING_TRIES, judge
from memplace_agent.metrics import Metrics
from memplace_agent.place import Outcome, Placer, Undone, Wanted
from memplace_agent.report import Reports, Subject
from memplace_agent.syscalls import Kernel
from memplace_agent.sysfs import free_bytes, read_numa_nodes
from memplace_agent.world import World

__all__ = ["Reconciler"]

log = logging.getLogger(__name__)

# How often the processes of a container are looked at in one go to give everything back.
_UNDO_ROUNDS = 8


@dataclass(slots=True)
class _Watched:
    # What the last pass found in a container, for the scan to compare with.
    subject: Subject
    layouts: dict[int, int | None] = field(default_factory=dict)
    tries: int = 0
    settled: bool = False
    # The spec, as uid and generation of its placement, that it was last called Placed under.
    placed: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class _Node:
    numa_nodes: tuple[NumaNode, ...]
    tiers: Mapping[str, NodeSet]
    known_tiers: frozenset[str]

    @property
    def memory(self) -> NodeSet:
        return frozenset(node.id for node in self.numa_nodes if node.total_bytes)


class Reconciler:
    """Keeps what one pass has to know of the one before; used by one thread only."""

    def __init__(
        self,
        *,
        node_name: str,
        host: HostFs,
        kernel: Kernel,
        journal: Journal,
        placer: Placer,
        metrics: Metrics,
        unsupported: FeatureUnavailable | None,
    ) -> None:
        self._node_name = node_name
        self._host = host
        self._kernel = kernel
        self._journal = journal
        self._placer = placer
        self._metrics = metrics
        self._unsupported = unsupported
        self._cgroups = Cgroups(host.cgroup)
        self._watched: dict[str, _Watched] = {}
        self._reports = Reports()

    def full_pass(self, world: World) -> Reports:
        """Look at everything and do what is to be done; returns how all of it fares."""
        node = self._node(world)
        dead = self._dead()
        subjects = list(_subjects(world))
        self._forget({subject.container_id for subject in subjects})
        self._reports = Reports(numa_nodes=node.numa_nodes, tiers=node.tiers)
        for pod in world.pods:
            self._report_losers(pod, assign(world.placements, pod.ref))
        for subject in subjects:
            self._reports.put(subject, self._container(subject, node))
        if self._unsupported is None:
            self._undo_others({subject.container_id for subject in subjects}, node)
            self._collect(dead)
        self._metrics.managed_containers.set(len(subjects) if self._unsupported is None else 0)
        return self._reports

    def scan(self) -> frozenset[str]:
        """Return the ids of containers that a pass should look at now; touches nothing."""
        return frozenset(
            container_id
            for container_id, watched in self._watched.items()
            if self._needs_pass(container_id, watched)
        )

    def partial_pass(self, world: World, container_ids: Iterable[str]) -> Reports:
        """Make a pass over some of the containers of the last full pass."""
        node = self._node(world)
        for container_id in container_ids:
            subject = self._watched[container_id].subject
            self._reports.put(subject, self._container(subject, node))
        return self._reports

    def undo_all(self) -> bool:
        """Give every process back what it had; returns whether all of them have it."""
        self._watched.clear()
        self._reports = Reports(numa_nodes=read_numa_nodes(self._host), tiers={})
        if self._unsupported is None:
            self._undo_others(set(), self._node(World()))
        self._collect(self._dead())
        return not tuple(self._journal)

    @property
    def reports(self) -> Reports:
        """How everything fared at the last pass."""
        return self._reports

    # --- one container ---------------------------------------------------------------

    def _container(self, subject: Subject, node: _Node) -> ContainerReport:
        if self._unsupported is not None:
            return _report(
                subject,
                ContainerState.UNSUPPORTED,
                self._unsupported.reason,
                f"{self._unsupported} {self._unsupported.HELP}",
            )
        watched = self._watched.setdefault(subject.container_id, _Watched(subject))
        watched.subject = subject
        placed_before, watched.placed = watched.placed, None
        try:
            return self._place_container(watched, node, placed_before)
        except (MemplaceError, OSError) as err:
            log.warning("container failed", extra={"object": subject.log, "error": str(err)})
            watched.settled, watched.tries = False, watched.tries + 1
            return _report(subject, ContainerState.FAILED, Reason.FAILED, str(err))

    def _place_container(
        self, watched: _Watched, node: _Node, placed_before: tuple[str, int] | None
    ) -> ContainerReport:
        subject = watched.subject
        cgroup = self._cgroups.find(subject.container_id)
        if cgroup is None:
            watched.tries += 1
            return _report(
                subject, ContainerState.PENDING, Reason.PENDING, "the container has no cgroup"
            )
        wanted = Wanted(
            placement=subject.placement,
            container_id=subject.container_id,
            tiers=node.tiers,
            known_tiers=node.known_tiers,
            allowed=self._cgroups.allowed_nodes(cgroup) or node.memory,
        )
        pids = sorted(self._cgroups.pids(cgroup))
        relatives = self._journal.of_container(subject.container_id)
        outcomes = {pid: self._process(pid, wanted, relatives) for pid in pids}
        alive = {pid: outcome for pid, outcome in outcomes.items() if outcome is not None}
        done = bool(alive) and not any(not o.plan.is_done or o.errors for o in alive.values())
        watched.layouts = {pid: o.layout if o else None for pid, o in outcomes.items()}
        watched.settled = done
        watched.tries = 0 if done else watched.tries + 1
        spec = (subject.placement.uid, subject.placement.generation)
        report = judge(
            subject.container,
            subject.container_id,
            tuple(alive.values()),
            tries=watched.tries,
            was_placed=placed_before == spec,
            free=free_bytes(self._host),
        )
        watched.placed = spec if report.state is ContainerState.PLACED else None
        return report

    def _process(self, pid: int, wanted: Wanted, relatives: tuple[Entry, ...]) -> Outcome | None:
        cgroup = self._cgroups.find(wanted.container_id)
        try:
            start = read_stat(self._host, pid).start_time
            with pin(
                self._host,
                self._kernel,
                pid,
                expected_start=start,
                is_member=lambda pid: cgroup is not None and pid in self._cgroups.pids(cgroup),
            ) as process:
                return self._placer.place(process, wanted, relatives)
        except ProcessGone:
            self._metrics.processes_gone.inc()
            log.debug("process gone", extra={"pid": pid})
            return None
        except (MemplaceError, OSError) as err:
            log.warning("process failed", extra={"pid": pid, "error": str(err)})
            self._metrics.apply.labels("failed", getattr(err, "reason", Reason.FAILED)).inc()
            return Outcome(plan=Plan(), layout=0, errors=(str(err),))

    def _needs_pass(self, container_id: str, watched: _Watched) -> bool:
        # What does not settle is tried again at once a few times, then by full passes only.
        if not watched.settled and watched.tries <= SETTLING_TRIES:
            return True
        cgroup = self._cgroups.find(container_id)
        if cgroup is None:
            return False
        pids = self._cgroups.pids(cgroup)
        return pids != watched.layouts.keys() or any(
            self._layout(pid) != watched.layouts[pid] for pid in pids
        )

    def _layout(self, pid: int) -> int | None:
        try:
            return read_layout(self._host, pid)
        except ProcessGone:
            return None

    # --- what no longer follows a placement --------------------------------------------

    def _undo_others(self, kept: set[str], node: _Node) -> None:
        placements = {entry.container_id: entry.placement for entry in self._journal}
        for container_id, placement in placements.items():
            if container_id not in kept and not self._undo_container(container_id, node):
                self._reports.undoing(placement)

    def _undo_container(self, container_id: str, node: _Node) -> bool:
        # Returns whether all processes have everything back. A process may fork before its
        # turn has come; so this goes on until a look at all new ones finds nothing to do:
        # then no parent had anything to pass on since the look before.
        relatives = self._journal.of_container(container_id)
        clean: set[Key] = set()
        for _ in range(_UNDO_ROUNDS):
            found = {
                key: self._undone(key, relatives, node)
                for key in self._keys(container_id, relatives) - clean
            }
            clean |= {key for key, undone in found.items() if undone is not Undone.PARTLY}
            if all(undone is Undone.NOTHING for undone in found.values()):
                for entry in self._journal.of_container(container_id):
                    self._journal.drop(entry.key)
                return True
        return False

    def _keys(self, container_id: str, entries: Iterable[Entry]) -> set[Key]:
        # Its cgroup can be gone before its processes are.
        keys = {entry.key for entry in entries}
        cgroup = self._cgroups.find(container_id)
        for pid in self._cgroups.pids(cgroup) if cgroup else ():
            try:
                keys.add(Key(pid, read_stat(self._host, pid).start_time))
            except ProcessGone:
                continue
        return keys

    def _undone(self, key: Key, relatives: tuple[Entry, ...], node: _Node) -> Undone:
        cgroup = self._cgroups.find(relatives[0].container_id)
        allowed = cgroup and self._cgroups.allowed_nodes(cgroup)
        try:
            with pin(
                self._host,
                self._kernel,
                key.pid,
                expected_start=key.start_time,
                # Its cgroup can be gone before it is; pid and start time name it still.
                is_member=lambda pid: cgroup is None or pid in self._cgroups.pids(cgroup),
            ) as process:
                return self._placer.undo(process, relatives, allowed or node.memory)
        except ProcessGone:
            return Undone.NOTHING
        except (MemplaceError, OSError) as err:
            log.warning("undo failed", extra={"pid": key.pid, "error": str(err)})
            return Undone.PARTLY

    def _dead(self) -> tuple[Key, ...]:
        return tuple(entry.key for entry in self._journal if not self._is_alive(entry.key))

    def _is_alive(self, key: Key) -> bool:
        try:
            return read_stat(self._host, key.pid).start_time == key.start_time
        except ProcessGone:
            return False

    def _collect(self, dead: Iterable[Key]) -> None:
        # Those that were dead before the pass listed who is there: a child that is new in
        # this pass has learned from its parent's entry by now.
        for key in dead:
            self._journal.drop(key)
        self._metrics.region_policies.set(sum(len(entry.records) for entry in self._journal))

    # --- helpers -----------------------------------------------------------------------

    def _node(self, world: World) -> _Node:
        numa_nodes = read_numa_nodes(self._host)
        return _Node(
            numa_nodes,
            resolve_tiers(numa_nodes, world.tiers, self._node_name),
            BUILTIN_TIERS | {tier.name for tier in world.tiers},
        )

    def _forget(self, kept: set[str]) -> None:
        for container_id in self._watched.keys() - kept:
            del self._watched[container_id]

    def _report_losers(self, pod: PodState, assigned: Mapping[str, Assignment]) -> None:
        for container, assignment in assigned.items():
            winner = assignment.winner
            for loser in assignment.losers:
                subject = _subject(pod, container, loser)
                message = f"follows the older placement {winner.namespace}/{winner.name}"
                report = _report(subject, ContainerState.CONFLICT, Reason.CONFLICT, message)
                self._reports.put(subject, report)


def _subjects(world: World) -> Iterable[Subject]:
    for pod in world.pods:
        for container, assignment in assign(world.placements, pod.ref).items():
            yield _subject(pod, container, assignment.winner)


def _subject(pod: PodState, container: str, placement: Placement) -> Subject:
    return Subject(placement, pod.ref, container, pod.container_ids[container])


def _report(
    subject: Subject, state: ContainerState, reason: Reason, message: str
) -> ContainerReport:
    return ContainerReport(
        name=subject.container,
        state=state,
        container_id=subject.container_id,
        reason=reason,
        message=message,
    )
