# SPDX-License-Identifier: Apache-2.0
"""Dry runs of containers that follow another placement: what would be, were each of them meant.

A process is looked at once more under the rules of the dry run, and nothing is done. The same
ledger tells what memplace set for the other placement, so it is not taken for the program's own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from memplace.api.conditions import shorten
from memplace.api.v1alpha1 import ContainerReport
from memplace.assignment import forecast
from memplace.backends import Act
from memplace.errors import MemplaceError
from memplace.pacing import room_bytes
from memplace.reasons import Reason
from msgspec import structs

from memplace_agent.containers.absence import Absence
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.engine import said
from memplace_agent.engine.allotments import Allotments
from memplace_agent.engine.backoff import Backoffs
from memplace_agent.engine.judge import judge
from memplace_agent.engine.known import Followed, News, State, news_of
from memplace_agent.engine.look import Container, Looker, Seen
from memplace_agent.engine.parts import Parts
from memplace_agent.engine.put_off import PutOff
from memplace_agent.engine.wanting import Wants
from memplace_agent.errors import told
from memplace_agent.node.senses import SensesLike
from memplace_agent.report import Subject

log = logging.getLogger(__name__)


def room_for(act: Act, senses: SensesLike, now: float) -> Mapping[int, int]:
    """Return how many bytes would fit on each NUMA node, of a dry run only."""
    if act is not Act.TRY:
        return {}
    return {node: room_bytes(room) for node, room in senses.node(now).rooms.items()}


def _looker(of: Looker) -> Looker:
    # What one look fails at, the other may not.
    backoffs = Backoffs[int](first_s=2.0, limit_s=300.0)
    return replace(of, _backoffs=backoffs, _put_off=PutOff())


@dataclass(slots=True)
class Trials:
    """See the module; for the reconciler's thread only."""

    parts: Parts
    state: State
    allotments: Allotments
    _wants: Wants = field(init=False)
    _looker: Looker = field(init=False)
    _tried: dict[str, Followed] = field(default_factory=dict)
    _news: News = News.NONE

    def __post_init__(self) -> None:
        self._wants = Wants(self.parts.can)
        self._looker = _looker(self.parts.looker)

    def of(self, container_id: str) -> Followed | None:
        """Return the dry run of a container, and what the last look made of it."""
        return self._tried.get(container_id)

    def take(self) -> frozenset[str]:
        """Take what is listed by now; returns the containers that have something new to try."""
        before, self._tried = self._tried, {}
        new = set()
        for container_id, listed in self.state.listed.items():
            placement = listed.trial(self.parts.act_for)
            if placement is None or listed.assignment is None:
                continue
            subject = Subject(placement, listed.pod.ref, listed.name, container_id)
            known = before.get(container_id)
            wanted = self._wants.of(container_id, placement, self.state.machine)
            wanted = replace(wanted, instead_of=listed.assignment.winner.uid)
            if known is None:
                known = Followed(Container(wanted), said.not_yet(subject))
                new.add(container_id)
            elif known.container.follow(wanted):
                known.report = said.not_yet(subject)
                new.add(container_id)
            self._tried[container_id] = known
        self._wants.keep({each.container.wanted.placement.uid for each in self._tried.values()})
        return frozenset(new)

    def look(self, container_id: str, ref: CgroupRef) -> bool:
        """Look at a container for its dry run; returns whether all of it was seen.

        Whatever fails is about the dry run alone.
        """
        tried = self._tried.get(container_id)
        if tried is None:
            return True
        tried.ref = ref
        try:
            seen = self._looker.look(tried.container, ref)
            self._put(tried, self._judged(container_id, tried, seen))
        except Exception as err:  # the placement that it follows has nothing to do with it
            self._failed(container_id, tried, err)
            return True
        return seen.is_whole

    def absent(self, subject: Subject, absence: Absence) -> None:
        """Take that a container is not there."""
        tried = self._tried.get(subject.container_id)
        if tried is not None:
            self._put(tried, said.absent(subject, absence))

    def keep(self, identities: frozenset[int]) -> None:
        """Forget all processes but these."""
        self._looker.keep(identities)

    def take_news(self) -> News:
        """Return what has changed of the reports since the last time."""
        news, self._news = self._news, News.NONE
        return news

    def report_of(self, lost: Subject) -> ContainerReport:
        """Say to a placement what becomes of a container that it does not follow."""
        assignment = self.state.view.assignments[lost.container_id]
        tried = self._tried.get(lost.container_id)
        if tried is not None and tried.container.wanted.placement.uid == lost.placement.uid:
            return said.pressed(tried.report, self.parts.pressures.of(lost.container_id))
        return said.conflict(lost, assignment)

    def _judged(self, container_id: str, tried: Followed, seen: Seen) -> ContainerReport:
        listed, wanted = self.state.listed[container_id], tried.container.wanted
        report = judge(
            listed.name,
            container_id,
            seen.outcomes,
            unseen=seen.unseen,
            act=wanted.act,
            room=room_for(wanted.act, self.parts.senses, self.parts.clock()),
            refused=self.allotments.refused(container_id, wanted.placement),
        )
        assert listed.assignment is not None
        who = forecast(wanted.placement, listed.assignment.winner)
        return structs.replace(report, message=shorten(f"{who}; {report.message}"))

    def _failed(self, container_id: str, tried: Followed, err: Exception) -> None:
        text = told(err)
        reason = err.reason if isinstance(err, MemplaceError) else Reason.FAILED
        if tried.report.message != text:
            log.warning("dry run failed", extra={"container": container_id, "error": text})
        listed, placement = self.state.listed[container_id], tried.container.wanted.placement
        subject = Subject(placement, listed.pod.ref, listed.name, container_id)
        self._put(tried, said.failed(subject, reason, text))

    def _put(self, tried: Followed, report: ContainerReport) -> None:
        self._news = max(self._news, news_of((tried.report, None), (report, None)))
        tried.report = report
