# SPDX-License-Identifier: Apache-2.0
"""Bring one pinned process to what the rules want, or back to what it had."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import msgspec
from memplace.api.v1alpha1 import Placement, Rule
from memplace.calls import Action, actions
from memplace.matching import Matcher, ProcessName
from memplace.nodes import NodeSet, format_nodes
from memplace.policy import Plan, RuleResult, plan
from memplace.results import bytes_per_tier, merge_results

from memplace_agent import records
from memplace_agent.apply import ApplyReport, apply, errno_name
from memplace_agent.containers.processes import Pinned, may_move_all, read_address_space
from memplace_agent.errors import ProcessGone
from memplace_agent.hostfs import HostFs, read_proc
from memplace_agent.journal import Entry, Journal, Key
from memplace_agent.metrics import Metrics
from memplace_agent.procfs.regions import AddressSpace
from memplace_agent.syscalls import Kernel

__all__ = ["Outcome", "Placer", "Undone", "Wanted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a container is to have.

    Attributes:
        placement: The placement it follows.
        container_id: Its id.
        tiers: Tier name to NUMA nodes of this node.
        known_tiers: Names that are tiers somewhere.
        allowed: Its cpuset.mems.effective.
    """

    placement: Placement
    container_id: str
    tiers: Mapping[str, NodeSet]
    known_tiers: frozenset[str]
    allowed: NodeSet

    @property
    def rules(self) -> Sequence[Rule]:
        """The placement's rules."""
        return self.placement.spec.rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was measured in a process after everything was done.

    Attributes:
        plan: The plan that would come next; without actions when all is in place.
        layout: The layout (see `read_layout`) it was measured at.
        errors: What went wrong, for people.
    """

    plan: Plan
    layout: int
    errors: tuple[str, ...] = ()

    @property
    def results(self) -> tuple[RuleResult, ...]:
        """One result per rule."""
        return self.plan.rules


class Undone(StrEnum):
    """What came of giving a process back what it had."""

    NOTHING = "nothing"  # it carried nothing of memplace's
    WHOLLY = "wholly"
    PARTLY = "partly"  # some of it could not be given back, or not be seen


class Placer:
    """Works on processes, one at a time."""

    def __init__(
        self,
        host: HostFs,
        kernel: Kernel,
        journal: Journal,
        metrics: Metrics,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._host = host
        self._kernel = kernel
        self._journal = journal
        self._metrics = metrics
        self._progress = progress

    def place(self, process: Pinned, wanted: Wanted, relatives: Iterable[Entry]) -> Outcome:
        """Make a process follow its placement; does nothing when it does already.

        Args:
            process: What to work on.
            wanted: What it is to have.
            relatives: The entries that the processes of its container had when these were
                listed; a process not known yet has inherited from one of them.

        Raises:
            ProcessGone: It ended meanwhile.
        """
        space = read_address_space(self._host, self._kernel, process)
        entry = self._entry(process, wanted, relatives)
        entry = records.settle(entry, space, wanted.allowed)
        matcher = Matcher(wanted.rules)
        name = _process_name(self._host, process.pid) if matcher.needs_process else None
        before = _plan(matcher, name, wanted, space, entry)
        if before.is_done:
            self._journal.put(entry)
            return Outcome(plan=before, layout=space.layout)
        todo = actions(before)
        undone = records.release(entry, space, before.released, wanted.allowed)
        entry = records.record(entry, todo, space, wanted.allowed)
        report, space = self._change(process, entry, [*todo, *undone])
        after = _plan(matcher, name, wanted, space, records.settle(entry, space, wanted.allowed))
        self._count_bytes(before, after, wanted.tiers)
        errors = tuple(str(error) for error in report.errors)
        return Outcome(plan=after, layout=space.layout, errors=errors)

    def undo(self, process: Pinned, relatives: Sequence[Entry], allowed: NodeSet) -> Undone:
        """Give a process back what it had before a placement.

        Args:
            process: What to work on.
            relatives: As for `place`, at least one; the process's own entry may be among them.
            allowed: Its cpuset.mems.effective.

        Raises:
            ProcessGone: It ended meanwhile, and everything with it.
        """
        space = read_address_space(self._host, self._kernel, process)
        known = self._journal.get(Key(process.pid, process.start_time)) or _inherited(
            process, relatives[0], relatives
        )
        entry = records.settle(known, space, allowed)
        if not entry.records:
            return Undone.NOTHING
        undone = records.release(entry, space, space.regions, allowed)
        _, space = self._change(process, entry, undone)
        left = records.settle(entry, space, allowed).records
        return Undone.PARTLY if left else Undone.WHOLLY

    def _entry(self, process: Pinned, wanted: Wanted, relatives: Iterable[Entry]) -> Entry:
        placement = wanted.placement
        named = Entry(
            key=Key(process.pid, process.start_time),
            container_id=wanted.container_id,
            placement=(placement.uid, placement.namespace, placement.name),
            allowed=format_nodes(wanted.allowed),
        )
        known = self._journal.get(named.key)
        if known is None:
            return _inherited(process, named, relatives)
        return msgspec.structs.replace(
            named, allowed=known.allowed, foreign=known.foreign, records=known.records
        )

    def _change(
        self, process: Pinned, entry: Entry, todo: Iterable[Action]
    ) -> tuple[ApplyReport, AddressSpace]:
        with self._timed():
            # Before the calls: whoever comes after a crash has to know what they may have done.
            # And not brought in line afterwards, but by the next pass: a child forked
            # meanwhile may carry what was just given back, and learns of it from here.
            self._journal.put(entry)
            report = apply(
                self._kernel,
                process.pidfd,
                sorted(todo, key=lambda action: action.start),
                move_all=may_move_all(self._host, process),
                progress=self._progress,
            )
            space = read_address_space(self._host, self._kernel, process)
        for error in report.errors:
            self._metrics.syscall_errors.labels("process_mbind", errno_name(error)).inc()
        return report, space

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        except ProcessGone:
            self._metrics.apply.labels("gone", ProcessGone.reason).inc()
            raise
        self._metrics.apply.labels("success", "").inc()
        self._metrics.apply_duration.observe(time.monotonic() - start)

    def _count_bytes(self, before: Plan, after: Plan, tiers: Mapping[str, NodeSet]) -> None:
        old, new = (_tier_bytes(p, tiers) for p in (before, after))
        for name, size in new.items():
            self._metrics.apply_bytes.labels(name).inc(max(0, size - old.get(name, 0)))


def _inherited(process: Pinned, fresh: Entry, relatives: Iterable[Entry]) -> Entry:
    # A child has its parent's policies since fork(). The parent may have ended by now; so
    # any process of the container will do, the parent first.
    entry = msgspec.structs.replace(
        fresh, key=Key(process.pid, process.start_time), foreign=frozenset(), records=()
    )
    return records.inherit(entry, sorted(relatives, key=lambda e: e.key.pid != process.ppid))


def _process_name(host: HostFs, pid: int) -> ProcessName:
    # A kernel thread has no executable, and nobody's rule means it.
    directory = host.pid(pid)
    try:
        exe = str((directory / "exe").readlink())
    except OSError:
        exe = ""
    return ProcessName(read_proc(directory / "comm").removesuffix("\n"), exe)


def _plan(
    matcher: Matcher,
    name: ProcessName | None,
    wanted: Wanted,
    space: AddressSpace,
    entry: Entry,
) -> Plan:
    return plan(
        matcher,
        tiers=wanted.tiers,
        allowed=wanted.allowed,
        regions=space.regions,
        known_tiers=wanted.known_tiers,
        process=name,
        ours=lambda region: records.carried(entry, region),
    )


def _tier_bytes(plan_: Plan, tiers: Mapping[str, NodeSet]) -> dict[str, int]:
    total: dict[int, int] = {}
    for result in merge_results([plan_.rules]):
        for node, size in result.numa_bytes.items():
            total[node] = total.get(node, 0) + size
    return {tier.name: tier.bytes for tier in bytes_per_tier(total, tiers)}
