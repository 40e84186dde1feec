# SPDX-License-Identifier: Apache-2.0
"""Read one process through the pool: what it is, what it has mapped, which policies that has.

The read is given up at its deadline, and the process quarantined; whoever waits for it gets
`Stuck`. Only when mappings came or went its threads are asked for their stacks as well, since
the new mapping may be one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import partial

from memplace.claims import Change, Process
from memplace.entries import ProcessName
from memplace.errors import ProcessGone
from memplace.nodes import NumaSet
from memplace.regions import Region

from memplace_agent.containers.pinning import Pinned
from memplace_agent.engine.pool import Pool, Turn
from memplace_agent.engine.remembered import Remembered
from memplace_agent.hostfs import HostFs, read_proc
from memplace_agent.metrics import Metrics
from memplace_agent.procfs.audit import next_audit, rest
from memplace_agent.procfs.image import parse_image
from memplace_agent.procfs.mapped import own_policies, regions_of
from memplace_agent.procfs.process import Incomplete, ProcessView, Reader, Reason, Request
from memplace_agent.procfs.query import Way
from memplace_agent.procfs.vmas import EMPTY
from memplace_agent.syscalls import PidFd

# A process of 65,530 mappings is read in 30 ms; most of this is for a busy node.
DEADLINE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A process as it was at one moment.

    Attributes:
        pid: Its id.
        identity: What no other process has.
        view: What was read; look at `incomplete` first.
        image: What fork() copies and exec() changes; 0 if it could not be read.
        name: What it is called.
        policies: Which policies it has, where the view does not tell; None where it does.
        former: The image that it had at an earlier read, if that was another one; else 0.
    """

    pid: int
    identity: int
    view: ProcessView
    image: int = 0
    name: ProcessName = field(default_factory=lambda: ProcessName("", ""))
    policies: Remembered | None = None
    former: int = 0

    def regions(self) -> tuple[Region, ...]:
        """Return what it has mapped, with policies and without pages; ascending.

        They are made anew by each call, and by none if nothing is to be done: a process has
        65,530 mappings, or many more. Who needs them twice keeps them, and not for long.
        """
        regions = regions_of(self.view)
        return self.policies.recall(regions) if self.policies else regions

    @property
    def incomplete(self) -> Incomplete | None:
        """Why nothing may be concluded from it, None if it is a whole view."""
        return self.view.incomplete

    @property
    def without_mappings(self) -> Survey:
        """The same, with nothing of the mappings but whether they change."""
        vmas = replace(EMPTY, layout=self.view.vmas.layout)
        view = replace(self.view, vmas=vmas, numa=None)
        return replace(self, view=view, policies=None)

    def is_like(self, before: Survey) -> bool:
        """Return whether nothing that a plan depends on differs from an earlier survey."""
        return (
            self.view.vmas.layout == before.view.vmas.layout
            and self.view.stacks == before.view.stacks
            and self.view.numa is None
            and self.name == before.name
            and self.process == before.process
        )

    @property
    def is_partial(self) -> bool:
        """Whether mappings changed while their policies were read; those are missing."""
        numa = self.view.numa
        return numa is not None and any(start not in numa for start in self.view.vmas.starts)

    @property
    def resident(self) -> int:
        """Bytes of it in memory; 0 when that is not known."""
        return self.view.status.resident if self.view.status else 0

    @property
    def allowed(self) -> NumaSet:
        """The NUMA nodes it may use; none when that is not known."""
        return self.view.status.allowed if self.view.status else frozenset()

    @property
    def process(self) -> Process:
        """What the ledger has to know of it."""
        status = self.view.status
        assert status is not None
        mmap, brk = status.future_mmap, status.future_brk
        return Process(
            self.image,
            status.allowed,
            future=mmap.whole_policy if mmap else None,
            future_brk=brk.whole_policy if brk else None,
            former=self.former,
        )


@dataclass(slots=True)
class _Known:
    # What is remembered of a process between two looks.
    layout: int | None = None
    stacks: frozenset[int] = frozenset()
    policies: Remembered | None = None
    image: int = 0
    former: int = 0
    audit_at: float = 0.0
    # An undo that does not end begins no other time before.
    rests_until: float = float("-inf")
    # What the last walk came to if it failed: so it is taken to be until the next one.
    failed: Survey | None = None


@dataclass(slots=True)
class Surveyor:
    """Reads processes, and remembers what a look alone does not tell. For one thread."""

    host: HostFs
    reader: Reader
    pool: Pool
    metrics: Metrics
    clock: Callable[[], float] = time.monotonic
    deadline_s: float = DEADLINE_S
    _known: dict[int, _Known] = field(default_factory=dict)

    def read(self, pinned: Pinned, group: str, *, audit: bool = False) -> Survey:
        """Read a process.

        Args:
            pinned: The process.
            group: The namespace that pays for threads that are lost with it.
            audit: Read policies from numa_maps, if nothing else tells them, now rather than
                when it is due: before an undo. Not so if that has just failed.

        Raises:
            Stuck: It did not let itself be read in time.
            PoolBusy: No thread was free, or there is none.
        """
        known = self._known.setdefault(pinned.identity, _Known())
        if known.failed is not None and self.clock() < known.audit_at:
            return known.failed
        walk = self.reader.way is not Way.POLICY and (audit or self._is_audit_due(known))
        survey = self.pool.run(
            partial(
                self._read,
                pinned.pid,
                pinned.identity,
                layout=known.layout,
                stacks=known.stacks,
                walk=walk,
            ),
            target=pinned.identity,
            group=group,
            deadline_s=self.deadline_s,
            pidfd=pinned.pidfd,
        )
        if survey.incomplete:
            if survey.view.numa_took:
                # A walk is no cheaper for having failed.
                known.failed = survey
                known.audit_at = next_audit(self.clock(), survey.view.numa_took, least=0.0)
            return survey
        if not audit:
            known.rests_until = float("-inf")
        elif survey.view.numa is not None:
            now = self.clock()
            known.rests_until = max(now, known.rests_until) + rest(survey.view.numa_took)
        return self._remember(known, survey)

    def resting(self) -> frozenset[int]:
        """Return which processes are to be left alone after audits that were asked for.

        They take 1 % of the time at most, too. The first one is at once, and all of them are
        wherever audits walk no page tables.
        """
        now = self.clock()
        return frozenset(i for i, known in self._known.items() if known.rests_until > now)

    def image(self, pid: int) -> int:
        """Return the image of a process, 0 if it can't be read; threads may share this."""
        try:
            return parse_image(read_proc(self.host.pid(pid) / "stat"))
        except ProcessGone:
            return 0

    def note(self, identity: int, changes: Collection[Change]) -> None:
        """Take up what was set in a process, where its mappings don't tell."""
        known = self._known.get(identity)
        if known is not None and known.policies is not None:
            known.policies = known.policies.note(changes)

    def keep(self, identities: Collection[int]) -> None:
        """Forget all processes but these."""
        self._known = {i: known for i, known in self._known.items() if i in identities}

    def _is_audit_due(self, known: _Known) -> bool:
        return known.policies is None or self.clock() >= known.audit_at

    def _remember(self, known: _Known, survey: Survey) -> Survey:
        view = survey.view
        known.layout, known.stacks, known.failed = view.vmas.layout, view.stacks, None
        if survey.image not in (0, known.image):
            known.image, known.former = survey.image, known.image
        survey = replace(survey, former=known.former)
        if view.way is Way.POLICY:
            return survey
        if view.numa is not None:
            self.metrics.walks.inc()
            self.metrics.walk_seconds.inc(view.numa_took)
            known.policies = Remembered(tuple(own_policies(view)))
            known.audit_at = next_audit(self.clock(), view.numa_took)
            return survey
        return replace(survey, policies=known.policies)

    # In a thread of the pool: works on nothing that others use.
    def _read(
        self,
        pid: int,
        identity: int,
        turn: Turn,
        *,
        layout: int | None,
        stacks: frozenset[int],
        walk: bool,
    ) -> Survey:
        pidfd = PidFd(turn.pidfd)
        until = time.monotonic() + self.deadline_s
        request = Request(numa_maps=walk, seen_stacks=stacks, seen_layout=layout)
        before = self.image(pid)
        view = self.reader.read(pid, pidfd, until, request)
        view, name = named(self.reader, view, pidfd)
        image = self.image(pid)
        if not view.incomplete and image != before:
            # It has executed another program, and nobody knows whose mappings these are.
            view = ProcessView(pid=pid, way=view.way, incomplete=Incomplete(Reason.CUT))
        if view.incomplete:
            return Survey(pid=pid, identity=identity, view=view)
        return Survey(pid=pid, identity=identity, view=view, image=image, name=name)


def named(reader: Reader, view: ProcessView, pidfd: PidFd) -> tuple[ProcessView, ProcessName]:
    """Return a view, incomplete if nobody can tell what the process runs, and what it is called.

    A rule may be about the name: without it the process would follow no rule for a moment, and
    all its policies would be taken away.
    """
    comm, exe = view.status.name if view.status else "", ""
    if view.incomplete is None:
        found = reader.executable(view.pid, pidfd)
        if isinstance(found, Incomplete):
            view = replace(view, vmas=EMPTY, numa=None, incomplete=found)
        else:
            exe = found
    return view, ProcessName(comm, exe)
