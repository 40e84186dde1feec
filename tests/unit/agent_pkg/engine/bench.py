# SPDX-License-Identifier: Apache-2.0
"""A queue in front of the machine of text files; time is what the test says it is."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass, field
from typing import Any

from memplace.errors import ProcessGone
from memplace.kinds import Mode, Policy
from memplace.pacing import Limits, NodeState, Pacer, Room
from memplace_agent.backends.process_mbind import ProcessMbind
from memplace_agent.engine.mover import Mover
from memplace_agent.engine.orders import MoveOrder, MoveRange
from memplace_agent.engine.waiting import MOST

MIB = 1 << 20
CXL = Policy(Mode.PREFERRED_MANY, frozenset({1}))


@dataclass
class Senses:
    """What a test says of the machine."""

    room: Room = Room(total=1 << 50, free=1 << 49)  # noqa: RUF009  frozen
    node_pressure: float | None = 0.0
    pod_pressure: float | None = 0.0
    agent_allowed: frozenset[int] | None = None

    def node(self, now, *, fresh=False):  # noqa: ARG002
        return NodeState(
            rooms={0: self.room, 1: self.room},
            pressure=self.node_pressure,
            agent_allowed=self.agent_allowed,
            at=now,
        )

    def pressure(self, cgroup, now):  # noqa: ARG002
        return self.pod_pressure


@dataclass
class Clock:
    now: float = 1000.0
    step: float = 0.0  # by which it goes on whenever somebody looks

    def __call__(self):
        self.now += self.step
        return self.now


@dataclass
class Bench:
    """A machine and a mover on it."""

    machine: Any
    bandwidth: int = 1 << 45
    flags: int = 0xF7
    most: int = MOST
    senses: Senses = field(default_factory=Senses)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self):
        self.looks = 0
        self.finished = []
        self.mover = Mover(
            ProcessMbind(self.machine, flags=self.flags),
            self.look,
            self.senses,
            Pacer(Limits(bandwidth=self.bandwidth), self.clock.now),
            clock=self.clock,
            finished=self.finished.append,
            most=self.most,
        )

    def look(self, pidfd, order, ranges):
        self.looks += 1
        if not self.machine.is_alive(pidfd):
            raise ProcessGone(3, "gone")
        vmas = [v for v in self.machine.processes[order.pid].vmas if v.policy == order.policy]
        return [
            sum(
                count << 12
                for v in vmas
                if v.start < end and start < v.end
                for node, count in v.part(max(start, v.start), min(end, v.end)).pages.items()
                if node not in order.nodes
            )
            for start, end in ranges
        ]

    def order(self, pid, *ranges, container="a" * 64, **kwargs):
        @contextlib.contextmanager
        def pin():
            pidfd = self.machine.pidfd_open(pid)
            try:
                yield pidfd
            finally:
                os.close(pidfd)

        settings = {
            "namespace": "ns",
            "placement": "uid",
            "rule": "r",
            "policy": CXL,
            "cancel": threading.Event(),
            "cgroup": self.machine.host.cgroup,
        }
        return MoveOrder(
            identity=pid,
            pid=pid,
            pin=pin,
            container=container,
            ranges=tuple(
                MoveRange(*r) if len(r) == 3 else MoveRange(*r, r[1] - r[0]) for r in ranges
            ),
            **(settings | kwargs),
        )

    def queue(self, pid, *vmas, container="a" * 64, **kwargs):
        """Start a process whose pages are all on node 0, and order them to node 1."""
        self.machine.start(pid, container, *vmas)
        ranges = [(v.start, v.end, sum(v.pages.values()) << 12) for v in vmas]
        order = self.order(pid, *ranges, container=container, **kwargs)
        self.mover.submit(pid, [order])
        return order

    def run(self, seconds):
        """Let time pass, with all that is done in it."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + self.mover.step())

    @property
    def moved(self):
        return [
            (pid, start, end)
            for pid, ranges, _, flags in self.machine.calls
            if flags
            for start, end in ranges
        ]

    @property
    def progress(self):
        (only,) = self.mover.progress()
        return only


def vma(kit, start, size, **kwargs):
    return kit.anon(start, size, policy=CXL, **kwargs)
