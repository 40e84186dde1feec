# SPDX-License-Identifier: Apache-2.0
"""Give the processes of a container back what they had.

A process may fork before its turn has come, and the child carries what its parent had at that
moment. So it goes on in rounds, until a look at all who are new finds nothing to give back:
then no parent had anything to pass on since the look before. Of each process the default for
mappings to come goes first, then what is mapped by then. The claim is dropped after that
look and not earlier. A ledger that can't be written does not stop it: what is on disk knows
of all that has to be given back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto

from memplace.claim_view import View
from memplace.claims import Claim
from memplace.errors import MemplaceError, ProcessGone
from memplace.ledger import admit
from memplace.regions import Region

from memplace_agent.containers.members import Unlisted, member_test, read_members
from memplace_agent.containers.pinning import Pinned, Pinner
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.engine.hands import Hands
from memplace_agent.engine.judge import problem_of
from memplace_agent.engine.meant import Meant
from memplace_agent.engine.survey import Survey
from memplace_agent.engine.to_come import taken_away
from memplace_agent.errors import told
from memplace_agent.ledger_store import LedgerStore

log = logging.getLogger(__name__)

# For a process that never stops forking; the next look goes on.
_ROUNDS = 8

_RESTS = (
    "policies could not be restored at once; this kernel tells them by a walk of page tables "
    "alone, and the processes rest until the next one"
)


@dataclass(frozen=True, slots=True)
class Undone:
    """What came of it.

    Attributes:
        whole: Nothing of memplace's is left in the container; its claim is dropped.
        message: What is in the way, for people; empty if there is nothing.
    """

    whole: bool
    message: str = ""


class _Result(Enum):
    NOTHING = auto()  # it carried nothing of memplace's
    GIVEN_BACK = auto()
    LEFT = auto()


@dataclass(frozen=True, slots=True)
class Undoer:
    """See the module; for one thread."""

    pinner: Pinner
    hands: Hands
    store: LedgerStore
    tick: Callable[[], None] = lambda: None
    # By container, whom the last try has met.
    _met: dict[str, set[int]] = field(default_factory=dict)

    @property
    def identities(self) -> frozenset[int]:
        """The processes of containers that are not given back yet, as of the last try."""
        return frozenset[int]().union(*self._met.values())

    def keep(self, container_ids: Collection[str]) -> None:
        """Forget all containers but these."""
        for container_id in self._met.keys() - set(container_ids):
            del self._met[container_id]

    def undo(self, claim: Claim, refs: Iterable[CgroupRef]) -> Undone:
        """Undo what was done in a container.

        Args:
            claim: What was done.
            refs: Its cgroups; none when it is gone, and all its processes with it.
        """
        refs = tuple(refs)
        if any(map(self._is_resting, refs)):
            # All of them at once: else some would rest whenever others do not.
            return Undone(whole=False, message=_RESTS)
        looked_at: set[int] = set()
        self._met[claim.container] = set()
        message = ""
        for _ in range(_ROUNDS):
            results: list[_Result] = []
            for ref in refs:
                pids, why = _members(ref)
                results += [_Result.LEFT] if why else []
                message = message or why
                for pid in sorted(pids):
                    self.tick()
                    result, why = self._process(claim.container, pid, ref, looked_at)
                    results.append(result)
                    message = message or why
            if any(result is _Result.LEFT for result in results):
                return Undone(whole=False, message=message)
            if all(result is _Result.NOTHING for result in results):
                self.store.drop(claim.container)
                return Undone(whole=True)
        return Undone(whole=False, message="its processes fork all the time")

    def _is_resting(self, ref: CgroupRef) -> bool:
        resting = self.hands.surveyor.resting()
        is_member = member_test(self.pinner.host, ref)
        for pid in sorted(_members(ref)[0]) if resting else ():
            with suppress(MemplaceError, OSError), self.pinner.pin(pid, is_member) as pinned:
                if pinned.identity in resting:
                    return True
        return False

    def _process(
        self, container: str, pid: int, ref: CgroupRef, looked_at: set[int]
    ) -> tuple[_Result, str]:
        is_member = member_test(self.pinner.host, ref)
        try:
            with self.pinner.pin(pid, is_member) as pinned:
                self._met[container].add(pinned.identity)
                if pinned.identity in looked_at:
                    return _Result.NOTHING, ""
                result, why = self._give_back(container, pinned)
        except ProcessGone:
            return _Result.NOTHING, ""
        except Exception as err:  # one process is no reason to leave the others as they are
            return _Result.LEFT, self._failed(pid, err)
        looked_at.add(pinned.identity)
        return result, why

    def _failed(self, pid: int, err: Exception) -> str:
        text = told(err)
        log.warning("undo failed", extra={"pid": pid, "error": text})
        return text

    def _give_back(self, container: str, pinned: Pinned) -> tuple[_Result, str]:
        claim = self.store.get(container)
        if claim is None:
            return _Result.NOTHING, ""
        group = claim.placement[1]
        survey = self.hands.read(pinned, group, audit=True)
        if survey.incomplete:
            return _of_incomplete(survey)
        if not survey.image:
            return _Result.LEFT, "a process can't be told from what it was before exec()"
        admitted = admit(claim, survey.process)
        before = survey
        if View(admitted, survey.process).default_is_ours:
            again, why = self._take_default_away(admitted, survey, pinned)
            if again is None:
                return _Result.LEFT, why
            admitted, survey = self.store.get(container) or admitted, again
        regions = _plain(survey)
        changes = View(admitted, survey.process).release(regions)
        if not changes and survey.is_partial:
            return _Result.LEFT, "its mappings change all the time"
        if not changes:
            return _Result.NOTHING if survey is before else _Result.GIVEN_BACK, ""
        self.store.put_for_undo(admitted)
        report = self.hands.set(pinned, group, (), Meant(survey.image, regions), undo=changes)
        if not report.complete:
            # What failed before and is put off is not told again.
            told_now = report.told(pinned.pid) if report.errors or report.astray else []
            return _Result.LEFT, next((text for _, text in told_now), "")
        if report.changed and self._carries(admitted, pinned, group):
            return _Result.LEFT, "it maps memory all the time"
        return _Result.GIVEN_BACK, ""

    def _take_default_away(
        self, claim: Claim, survey: Survey, pinned: Pinned
    ) -> tuple[Survey | None, str]:
        # Returns what is there afterwards, or what is in the way.
        status, group = survey.view.status, claim.placement[1]
        assert status is not None
        self.store.put_for_undo(claim)
        steps = taken_away(status, View(claim, survey.process))
        report = self.hands.set_future(pinned, group, steps)
        if not report.complete:
            return None, f"{report.error} {report.error.HELP}" if report.error else ""
        again = self.hands.read(pinned, group, audit=True)
        if again.incomplete or not again.image:
            return None, f"a process can't be read: {again.incomplete}"
        # A program that it executed just before has mappings that were born under it.
        had = survey.process.future or survey.process.future_brk
        self.store.put_for_undo(admit(claim, again.process._replace(future=had)))
        return again, ""

    def _carries(self, claim: Claim, pinned: Pinned, group: str) -> bool:
        # Something else is mapped by now where policies were read: look once more.
        survey = self.hands.read(pinned, group, audit=True)
        return bool(survey.incomplete or View(claim, survey.process).release(_plain(survey)))


def _members(ref: CgroupRef) -> tuple[frozenset[int], str]:
    # Those that are known, and why there may be others.
    try:
        return read_members(ref), ""
    except Unlisted as err:
        return err.found, told(err)


def _plain(survey: Survey) -> tuple[Region, ...]:
    # Objects have claims of their own.
    return tuple(region for region in survey.regions() if not region.in_object)


def _of_incomplete(survey: Survey) -> tuple[_Result, str]:
    incomplete = survey.incomplete
    if incomplete is None or incomplete.reason is incomplete.reason.PROCESS_GONE:
        return _Result.NOTHING, ""
    return _Result.LEFT, problem_of(incomplete).message
