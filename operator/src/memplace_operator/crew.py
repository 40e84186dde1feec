# SPDX-License-Identifier: Apache-2.0
"""The operator's threads, and whether all is well with them."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial

from memplace_kube.client import Server
from memplace_kube.watch import Watcher

from memplace_operator.beats import Beats
from memplace_operator.controller import Controller
from memplace_operator.election import Election
from memplace_operator.feeds import COLLECTIONS, NODE_LABELS, Feeds, News, reader
from memplace_operator.kinds import Kind
from memplace_operator.listening import Listener
from memplace_operator.metrics import Metrics
from memplace_operator.tiering import TierTeller
from memplace_operator.world import World
from memplace_operator.writer import WORKERS, Outcome, Write, Writer

# The loop ticks each second, and for each placement it judges.
HUNG_AFTER_S = 60.0
STOP_S = 5.0
# There is one operator: it need not keep out of the way of thousands.
PATIENCE_S = 5.0


class Crew:
    """Everything that runs beside the main thread.

    Attributes:
        feeds: What is known.
        controller: Who judges.
        election: Whether we write.
    """

    def __init__(self, server: Server, metrics: Metrics, *, stale_s: float) -> None:
        """Take the API server, what is counted, and how long an agent may be silent."""
        self.feeds = Feeds(World(), Beats(stale_s=stale_s))
        self.election = Election(server, _identity())
        self._listener = Listener(
            server, self.feeds, stale_s=stale_s, may_write=lambda: self.election.is_leader
        )
        self._tiers = TierTeller(server, self.feeds, may_write=lambda: self.election.is_leader)
        self._writer = Writer(server, may_write=lambda: self.election.is_leader, done=self._done)
        self.controller = Controller(
            self.feeds,
            metrics,
            put=self._writer.put,
            has_room=lambda: self._writer.has_room,
            may_judge=self._may_judge,
        )
        self._watchers: list[Watcher[Kind, News]] = [
            Watcher(server, self.feeds, each, reader(each.kind), patience_s=PATIENCE_S)
            for each in COLLECTIONS
        ]
        self._labels: Watcher[Kind, News] = Watcher(
            server, self.feeds, NODE_LABELS, reader(Kind.LABELS), patience_s=PATIENCE_S
        )
        self._metrics = metrics
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._observe(metrics)

    def start(self) -> None:
        """Start all threads."""
        self._start("controller", self.controller.run)
        for watcher in self._watchers:
            self._start(f"watch {watcher.kind.value[1]}", partial(_follow, watcher))
        self._start("watch nodes", self._follow_labels)
        self._start("agents", self._listener.run)
        self._start("tiers", self._tiers.run)
        self._start("election", self.election.run)
        for number in range(WORKERS):
            self._start(f"writer {number}", self._writer.run)

    def stop(self) -> None:
        """End all threads but those that wait for the API server, then let others write."""
        self._stop.set()
        self.feeds.changed.set()
        deadline = time.monotonic() + STOP_S
        for thread in self._threads:
            if not thread.name.startswith("watch"):
                thread.join(max(0.0, deadline - time.monotonic()))
        if not any(t.is_alive() for t in self._threads if t.name.startswith("writer")):
            self.election.release()

    def problems(self) -> str:
        """Return why the process had better be started anew; empty when all is well."""
        dead = [thread.name for thread in self._threads if not thread.is_alive()]
        if dead:
            return f"ended: {', '.join(dead)}"
        age = time.monotonic() - self.controller.last_tick
        return f"last tick {age:.0f} s ago" if age > HUNG_AFTER_S and self._threads else ""

    def not_ready(self) -> str:
        """Return what there is to wait for; empty when all is known and the loop goes on."""
        missing = [kind.value[1] for kind in Kind if kind in self.feeds.missing]
        if missing:
            return f"not listed yet: {', '.join(missing)}"
        if not self._listener.has_heard:
            return "agents not heard yet"
        return self.problems()

    def _may_judge(self) -> bool:
        known = self.feeds.is_synced and self._listener.has_heard
        return known and self.election.is_leader

    def _done(self, write: Write, outcome: Outcome) -> None:
        self.controller.done(write, outcome)

    def _start(self, name: str, run: Callable[[threading.Event], None]) -> None:
        thread = threading.Thread(target=run, args=(self._stop,), name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _follow_labels(self, stop: threading.Event) -> None:
        # Most clusters need none, and with 5,000 nodes there is one that changes each moment.
        while not stop.is_set():
            if self.feeds.needs_labels.wait(1.0):
                self._observe_age(self._labels)
                _follow(self._labels, stop)

    def _observe_age(self, watcher: Watcher[Kind, News]) -> None:
        age = self._metrics.watch_age.labels(watcher.kind.value[1])
        age.set_function(partial(getattr, watcher, "age_s"))

    def _observe(self, metrics: Metrics) -> None:
        for watcher in self._watchers:
            self._observe_age(watcher)
        metrics.leader.set_function(lambda: float(self.election.is_leader))
        metrics.due.set_function(lambda: float(self.controller.waiting))


def _follow(watcher: Watcher[Kind, News], stop: threading.Event) -> None:
    watcher.run(stop, _nothing)


def _nothing() -> None:
    pass


def _identity() -> str:
    # The pod's name, and who of its lives: a container that starts anew is another.
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4()}"
