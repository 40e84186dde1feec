# SPDX-License-Identifier: Apache-2.0
"""Read one process for people: what can be read, and in words what can't and why."""

from __future__ import annotations

import errno
import os
import pwd
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from memplace.claim_view import View
from memplace.claims import Claim
from memplace.errors import MemplaceError, ProcessGone
from memplace.explain import Facts, through_claim
from memplace.explained import Reading
from memplace.ledger import admit
from memplace.nodes import NumaSet
from memplace.regions import Region

from memplace_agent.cli.errors import CommandFailed, Exit
from memplace_agent.containers.pinning import Pinned, Pinner
from memplace_agent.engine.build import System, running_system
from memplace_agent.engine.measure import Measured, Sampler
from memplace_agent.engine.pool import Pool, Stuck, Turn
from memplace_agent.engine.survey import Survey, named
from memplace_agent.errors import DeadlinePassed
from memplace_agent.hostfs import HostFs, read_proc
from memplace_agent.procfs.image import parse_image
from memplace_agent.procfs.mapped import task_policy_of
from memplace_agent.procfs.process import Incomplete, ProcessView, Reader, Request
from memplace_agent.procfs.process import Reason as Why
from memplace_agent.procfs.query import Way
from memplace_agent.syscalls import PidFd, RunningKernel
from memplace_agent.syscalls.features import Features, procmap_query_size

# A walk of half a TiB in small pages takes 4 s; whoever asked can press ^C before that.
_DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look found.

    Attributes:
        survey: The process.
        regions: With pages, and policies as rules see them.
        carried: First addresses of those whose policy memplace set.
        reading: How it was found out.
        notes: What could not be read.
    """

    survey: Survey
    regions: tuple[Region, ...]
    carried: frozenset[int]
    reading: Reading
    notes: tuple[str, ...]

    def facts(self, tiers: dict[str, NumaSet]) -> Facts:
        """Return it in the form that is explained."""
        status = self.survey.view.status
        return Facts(
            pid=self.survey.pid,
            name=self.survey.name,
            regions=self.regions,
            allowed=status.allowed if status else frozenset(),
            tiers=tiers,
            reading=self.reading,
            task_policy=task_policy_of(self.survey.view),
            notes=self.notes,
            carried=self.carried,
        )


@dataclass(slots=True)
class Process:
    """A process that is looked at, held by its pidfd: never another with the same id."""

    host: HostFs
    pid: int
    walk: bool = True
    features: Features | None = None
    pool: Pool = field(default_factory=lambda: Pool())
    system: System = field(init=False)
    sampler: Sampler = field(init=False)
    pinner: Pinner = field(init=False)

    def __post_init__(self) -> None:
        # A node may be able to look only; that needs no probe.
        found = self.features or Features(None, procmap_query_size=procmap_query_size(self.host))
        kernel = RunningKernel(found.nr, found.version)
        self.system = running_system(self.host, kernel, found)
        self.sampler = Sampler(self.system.reader, self.pool, self.system.ask)
        self.pinner = Pinner(self.host, self.system.kernel, self.system.identities)

    @property
    def reader(self) -> Reader:
        """Reads it."""
        return self.system.reader

    @contextmanager
    def pinned(self) -> Iterator[Pinned]:
        """Hold the process.

        Raises:
            CommandFailed: There is none, or it ended meanwhile.
        """
        self._check()
        try:
            with self.pinner.pin(self.pid, lambda _: True) as pinned:
                yield pinned
        except ProcessGone as err:
            raise CommandFailed(Exit.NO_PROCESS, f"process {self.pid} has ended") from err
        except Stuck as err:
            raise CommandFailed(
                Exit.FAILED, f"process {self.pid} can't be read: {err}. {err.HELP}"
            ) from err

    def look(self, pinned: Pinned, claim: Claim | None = None) -> Look:
        """Read it.

        Args:
            pinned: The process.
            claim: What was done to it by --apply.

        Raises:
            CommandFailed: It can't be read.
        """
        survey = self._survey(pinned)
        if survey.incomplete:
            raise self._unreadable(survey.incomplete)
        if claim is not None:
            claim = admit(claim, survey.process)
        view = View(claim or Claim(container="", placement=("", "", ""), since=0), survey.process)
        seen = survey.regions()
        notes = list(self._notes(survey, seen))
        measured, how = self._measure(pinned, survey, seen, notes)
        regions, carried = through_claim(view, seen, measured.pages)
        reading = Reading(policies=_policies(survey.view), bytes=how, error=measured.error)
        return Look(
            survey=survey,
            regions=regions,
            carried=carried,
            reading=reading,
            notes=tuple(notes),
        )

    # --- what there is to read ---

    def _check(self) -> None:
        # What a pidfd does not tell apart: nobody, a thread, a zombie.
        try:
            text = read_proc(self.host.pid(self.pid) / "status")
        except ProcessGone as err:
            raise CommandFailed(Exit.NO_PROCESS, f"there is no process {self.pid}") from err
        except PermissionError as err:
            raise CommandFailed(Exit.NOT_PERMITTED, self._denied()) from err
        fields = dict(line.partition(":\t")[::2] for line in text.splitlines())
        leader = fields.get("Tgid", str(self.pid)).strip()
        if leader != str(self.pid):
            raise CommandFailed(
                Exit.NO_PROCESS, f"{self.pid} is a thread of process {leader}: ask for that one"
            )
        if "VmSize" in fields:
            return
        if fields.get("State", "")[:1] in ("Z", "X"):
            if int(fields.get("Threads", "1")) > 1:
                return  # the read says more
            message = f"process {self.pid} is a zombie: it has ended, and its memory is gone"
        else:
            message = f"process {self.pid} is a thread of the kernel: it has no memory of its own"
        raise CommandFailed(Exit.NO_PROCESS, message)

    def _survey(self, pinned: Pinned) -> Survey:
        view = self.pool.run(
            partial(self._read, pinned.pid),
            target=pinned.identity,
            group="",
            deadline_s=_DEADLINE_S,
            pidfd=pinned.pidfd,
        )
        view, name = named(self.reader, view, pinned.pidfd)
        return Survey(
            pid=pinned.pid,
            identity=pinned.identity,
            view=view,
            image=parse_image(read_proc(self.host.pid(pinned.pid) / "stat")),
            name=name,
        )

    def _read(self, pid: int, turn: Turn) -> ProcessView:
        until = time.monotonic() + _DEADLINE_S
        request = Request(stacks=True, numa_maps=self._walks)
        return self.reader.read(pid, PidFd(turn.pidfd), until, request)

    @property
    def _walks(self) -> bool:
        # A kernel without NUMA has no such file.
        return (
            self.walk
            and self.reader.way is not Way.POLICY
            and (self.host.proc / "self/numa_maps").exists()
        )

    def _measure(
        self, pinned: Pinned, survey: Survey, regions: tuple[Region, ...], notes: list[str]
    ) -> tuple[Measured, str]:
        if survey.view.numa is not None:
            pages = {region.start: region.pages for region in regions if region.pages}
            return Measured(pages), "Exact"
        wanted = [region for region in regions if not region.special]
        status = survey.view.status
        # Without a walk: 0 bytes resident would ask for one.
        resident = status.resident if status and self.walk else 1 << 62
        try:
            measured = self._sampled(pinned, wanted, resident)
        except ProcessGone:
            raise
        except (MemplaceError, OSError) as err:
            notes.append(f"where its bytes are can't be told: {err}. {_ptrace_help()}")
            return Measured({}), "Unknown"
        return measured, "Sampled" if measured.error else "Exact"

    def _sampled(self, pinned: Pinned, regions: Sequence[Region], resident: int) -> Measured:
        try:
            return self.sampler.measure(pinned, "", regions, resident)
        except DeadlinePassed:  # the machine is busy; whoever asked can wait once more
            return self.sampler.measure(pinned, "", regions, resident)

    # --- what can't be read ---

    def _notes(self, survey: Survey, regions: tuple[Region, ...]) -> Iterator[str]:
        view = survey.view
        if not view.knows_policies and not self.walk:
            yield "policies were not read (--no-walk): a plan takes it that there are none"
        elif not view.knows_policies:
            yield "this kernel has no numa_maps: policies are not known"
        left_out = len(view.vmas) - len(regions)
        if left_out > 0:
            yield f"{left_out:,} mappings changed while they were read, and are left out"
        if self._hides_stack_pointers():
            yield (
                "stacks of threads can't be told from other anonymous memory: the kernel does "
                f"not show where they are. {_ptrace_help()}"
            )
        if view.way is not Way.POLICY and not survey.image:
            yield f"the kernel hides where the program was loaded. {_ptrace_help()}"

    def _hides_stack_pointers(self) -> bool:
        try:
            fd = os.open(self.host.pid(self.pid) / f"task/{self.pid}/syscall", os.O_RDONLY)
        except OSError as err:
            return err.errno in (errno.EACCES, errno.EPERM)
        try:
            os.read(fd, 1)
        except OSError as err:
            return err.errno in (errno.EACCES, errno.EPERM)
        finally:
            os.close(fd)
        return False

    def _unreadable(self, incomplete: Incomplete) -> CommandFailed:
        if incomplete.reason is Why.DENIED:
            return CommandFailed(Exit.NOT_PERMITTED, self._denied())
        if incomplete.reason is Why.PROCESS_GONE:
            return CommandFailed(Exit.NO_PROCESS, f"process {self.pid} has ended")
        if incomplete.reason is Why.LEADER_EXITED:
            return CommandFailed(
                Exit.NO_PROCESS,
                f"the first thread of process {self.pid} has ended and others run on: the kernel "
                "shows nothing of their memory",
            )
        if incomplete.reason is Why.TOO_LONG:
            return CommandFailed(
                Exit.FAILED,
                f"process {self.pid} is so large that reading its policies would make it wait for "
                "a second or more: this kernel tells them only by a walk of its page tables. "
                "--no-walk leaves them out",
            )
        return CommandFailed(Exit.FAILED, f"process {self.pid} can't be read: {incomplete}")

    def _denied(self) -> str:
        return f"may not read process {self.pid}{self._owner()}. {_ptrace_help()}"

    def _owner(self) -> str:
        try:
            uid = self.host.pid(self.pid).stat().st_uid
            return f", which is {pwd.getpwuid(uid).pw_name}'s"
        except (OSError, KeyError):
            return ""


def _policies(view: ProcessView) -> str:
    if view.way is Way.POLICY:
        return "ProcmapQuery"
    return "NumaMaps" if view.numa is not None else "Unknown"


def _ptrace_help() -> str:
    if os.geteuid() == 0:
        return "It takes CAP_SYS_PTRACE; a security module (AppArmor, SELinux) can refuse it, too."
    return "Run it as root (sudo), or with CAP_SYS_PTRACE."
