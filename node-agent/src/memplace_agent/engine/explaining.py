# SPDX-License-Identifier: Apache-2.0
"""Look at a container for somebody who asks why its memory is where it is.

Changes nothing, and remembers nothing but what any look does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from memplace.api.v1alpha1 import ContainerReport
from memplace.assignment import Assignment
from memplace.backends import foreseen
from memplace.claim_view import View
from memplace.claims import Claim
from memplace.errors import ProcessGone
from memplace.explain import Facts, Wish, explain
from memplace.explained import (
    ContainerExplained,
    ContainerListed,
    ProcessExplained,
    Reading,
)
from memplace.ledger import admit
from memplace.policy import plan
from memplace.problems import left_alone
from memplace.regions import Region

from memplace_agent.containers.finder import Finder
from memplace_agent.containers.members import member_test, read_members
from memplace_agent.containers.pinning import Pinned
from memplace_agent.engine import said
from memplace_agent.engine.judge import problem_of
from memplace_agent.engine.known import State, subject_of
from memplace_agent.engine.lesser import PLANS
from memplace_agent.engine.look import Looker
from memplace_agent.engine.objects import Objects
from memplace_agent.engine.placer import Wanted
from memplace_agent.engine.seen import Seen
from memplace_agent.engine.survey import Survey
from memplace_agent.hostfs import HostFs, read_proc
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.procfs.mapped import task_policy_of
from memplace_agent.procfs.query import Way
from memplace_agent.report import Subject

# What one answer may cost, and say: others wait for their turn.
_BUDGET_S = 1.0
_MOST_PROCESSES = 8
_MOST_REGIONS = 200


class HasParts(Protocol):
    """What it takes from the reconciler's parts."""

    @property
    def looker(self) -> Looker:
        """Reads processes."""

    @property
    def objects(self) -> Objects:
        """Knows who maps what it shares."""

    @property
    def store(self) -> LedgerStore:
        """Knows what of their policies is memplace's."""


@dataclass(frozen=True, slots=True)
class Explaining:
    """What the reconciler knows, for the `explainer.Explainer`. For one thread.

    Attributes:
        state: Which containers there are.
        report_of: How one fares.
        wanted_of: What one is to have.
        finder: Finds its cgroup.
        parts: Of the reconciler.
    """

    state: State
    report_of: Callable[[str, Subject], ContainerReport]
    wanted_of: Callable[[str, Assignment], Wanted]
    finder: Finder
    parts: HasParts

    def listed(self) -> list[ContainerListed]:
        """Return the containers that follow a placement."""
        return [
            self._about(container_id, assignment)
            for container_id, assignment in self.state.view.assignments.items()
        ]

    def explained(self, container_id: str) -> ContainerExplained | None:
        """Look at one; None if it follows no placement, or is none."""
        listed = self.state.listed.get(container_id)
        if listed is None or listed.assignment is None:
            return None
        about = self._about(container_id, listed.assignment)
        ref = self.finder.find(container_id, listed.pod)
        if ref is None:
            return ContainerExplained(about=about, problems=("it has no cgroup here",))
        host, pinner = self.parts.looker.pinner.host, self.parts.looker.pinner
        wanted = self.wanted_of(container_id, listed.assignment)
        is_member = member_test(host, ref)
        pids = _largest_first(host, read_members(ref))
        found: list[ProcessExplained] = []
        problems: list[str] = []
        until = self.parts.looker.cost() + _BUDGET_S
        for pid in pids[:_MOST_PROCESSES]:
            if found and self.parts.looker.cost() > until:
                break
            self.parts.looker.tick()
            try:
                with pinner.pin(pid, is_member) as pinned:
                    found.append(self._process(pinned, wanted))
            except ProcessGone:
                continue
            except Exception as err:  # one process is no reason to say nothing of the others
                problems.append(f"process {pid}: {err}")
        left_out = len(pids) - len(found) - len(problems)
        return ContainerExplained(
            about=about,
            processes=tuple(found),
            left_out=max(0, left_out),
            problems=tuple(problems),
        )

    def _about(self, container_id: str, assignment: Assignment) -> ContainerListed:
        subject = subject_of(container_id, self.state.listed[container_id], assignment)
        return said.listed(subject, self.report_of(container_id, subject))

    def _process(self, pinned: Pinned, wanted: Wanted) -> ProcessExplained:
        survey = self.parts.looker.hands.read(pinned, wanted.group)
        if survey.incomplete:
            raise ValueError(problem_of(survey.incomplete).message)
        objects = self.parts.objects
        shared = objects.of(survey, wanted.matcher, wanted.placement, can_set=wanted.can_set)
        seen = Seen(survey, self._view(survey, wanted), shared)
        status = survey.view.status
        measured = self.parts.looker.hands.measure(
            pinned,
            wanted.group,
            [region for region in seen.mapped if not region.special],
            status.resident if status else 0,
        )
        regions = tuple(r.holding(measured.pages.get(r.start, {})) for r in seen.regions)
        reading = Reading(
            policies=_policies(survey),
            bytes="Sampled" if measured.error else "Exact",
            error=measured.error,
        )
        return _explained(seen, wanted, regions, reading)

    def _view(self, survey: Survey, wanted: Wanted) -> View:
        placement = wanted.placement
        names = (placement.uid, placement.namespace, placement.name)
        nothing = Claim(container=wanted.container_id, placement=names, since=time.time())
        claim = self.parts.store.get(wanted.container_id) or nothing
        return View(admit(claim, survey.process), survey.process)


def _explained(
    seen: Seen, wanted: Wanted, regions: tuple[Region, ...], reading: Reading
) -> ProcessExplained:
    survey = seen.survey
    status = survey.view.status
    allowed = status.allowed if status else frozenset()
    facts = Facts(
        pid=survey.pid,
        name=survey.name,
        regions=regions,
        allowed=allowed,
        tiers=wanted.tiers,
        reading=reading,
        task_policy=task_policy_of(survey.view),
        carried=frozenset(seen.carried),
    )
    whole = plan(
        wanted.matcher,
        tiers=wanted.tiers,
        allowed=allowed,
        regions=regions,
        known_tiers=wanted.known_tiers,
        process=survey.name,
        ours=facts.ours,
        weights=wanted.weights,
        sharing=seen.shared.why_not if seen.shared else left_alone,
        limited=wanted.limited,
    )
    planned, note = foreseen(wanted.act, whole), PLANS.get(wanted.act, "")
    wish = Wish(wanted.placement.handle, wanted.matcher, planned, note)
    return explain(facts, wish, _MOST_REGIONS)


def _policies(survey: Survey) -> str:
    if survey.view.way is Way.POLICY:
        return "ProcmapQuery"
    return "NumaMaps" if survey.view.numa is not None else "Remembered"


def _largest_first(host: HostFs, pids: Iterable[int]) -> list[int]:
    return sorted(pids, key=lambda pid: (-_resident_pages(host, pid), pid))


def _resident_pages(host: HostFs, pid: int) -> int:
    try:
        return int(read_proc(host.pid(pid) / "statm").split()[1])
    except (ProcessGone, OSError, ValueError, IndexError):
        return 0
