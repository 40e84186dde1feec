# SPDX-License-Identifier: Apache-2.0
"""Read one process through the pool: what it is, what it has mapped, which policies that has.

The read is given up at its deadline, and the process quarantined; whoever waits for it gets
`Stuck`. Only when mappings came or went its threads are asked for their stacks as well, since
the new mapping may be one.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import partial

from memplace.claims import Change, Process
from memplace.entries import ProcessName
from memplace.errors import ProcessGone
from memplace.regions import Region

from memplace_agent.containers.pinning import Pinned
from memplace_agent.engine.pool import Pool, Turn
from memplace_agent.engine.remembered import Remembered
from memplace_agent.hostfs import HostFs, read_proc
from memplace_agent.procfs.audit import next_audit
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
    """

    pid: int
    identity: int
    view: ProcessView
    image: int = 0
    name: ProcessName = field(default_factory=lambda: ProcessName("", ""))
    policies: Remembered | None = None

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
        )


@dataclass(slots=True)
class _Known:
    # What is remembered of a process between two looks.
    layout: int | None = None
    stacks: frozenset[int] = frozenset()
    policies: Remembered | None = None
    audit_at: float = 0.0


@dataclass(slots=True)
class Surveyor:
    """Reads processes, and remembers what a look alone does not tell. For one thread."""

    host: HostFs
    reader: Reader
    pool: Pool
    deadline_s: float = DEADLINE_S
    _known: dict[int, _Known] = field(default_factory=dict)

    def read(self, pinned: Pinned, group: str, *, audit: bool = False) -> Survey:
        """Read a process.

        Args:
            pinned: The process.
            group: The namespace that pays for threads that are lost with it.
            audit: Read policies from numa_maps, if nothing else tells them, now rather than
                when it is due: before an undo.

        Raises:
            Stuck: It did not let itself be read in time.
            PoolBusy: Too many others did not.
        """
        known = self._known.setdefault(pinned.identity, _Known())
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
        return survey if survey.incomplete else self._remember(known, survey)

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
        return known.policies is None or time.monotonic() >= known.audit_at

    def _remember(self, known: _Known, survey: Survey) -> Survey:
        view = survey.view
        known.layout, known.stacks = view.vmas.layout, view.stacks
        if view.way is Way.POLICY:
            return survey
        if view.numa is not None:
            known.policies = Remembered(tuple(own_policies(view)))
            known.audit_at = next_audit(time.monotonic(), view.numa_took)
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
        image = self.image(pid)
        if not view.incomplete and image != before:
            # It has executed another program, and nobody knows whose mappings these are.
            view = ProcessView(pid=pid, way=view.way, incomplete=Incomplete(Reason.CUT))
        if view.incomplete:
            return Survey(pid=pid, identity=identity, view=view)
        return Survey(
            pid=pid,
            identity=identity,
            view=view,
            image=image,
            name=self._name(pid, view),
        )

    def _name(self, pid: int, view: ProcessView) -> ProcessName:
        try:
            exe = str((self.host.pid(pid) / "exe").readlink())
        except OSError:  # it ended, or it is none of a user's
            exe = ""
        return ProcessName(view.status.name if view.status else "", exe)
