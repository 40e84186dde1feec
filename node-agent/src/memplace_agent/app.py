# SPDX-License-Identifier: Apache-2.0
"""The agent's threads: watches fill a cache, one worker acts, one thread reports."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from memplace.api.conditions import Condition
from memplace.api.v1alpha1 import AgentMode, NodeMemoryStatus
from memplace.reasons import Reason

from memplace_agent import __version__
from memplace_agent.cluster.client import Server, in_cluster
from memplace_agent.cluster.lease import Heartbeat
from memplace_agent.cluster.publish import Publisher
from memplace_agent.cluster.watch import WATCH_S, Watcher, collections
from memplace_agent.cluster.world import Cache
from memplace_agent.hostfs import HostFs
from memplace_agent.http import HttpServer
from memplace_agent.journal import Journal
from memplace_agent.metrics import Metrics
from memplace_agent.place import Placer
from memplace_agent.reconcile import Reconciler
from memplace_agent.report import Retirement, node_status
from memplace_agent.retire import journal_directory, remove_host_files
from memplace_agent.settings import Settings
from memplace_agent.syscalls import Kernel, RunningKernel
from memplace_agent.syscalls.features import Features, probe
from memplace_agent.threads import Pulse, Threads
from memplace_agent.world import NotUnderstood, World

__all__ = ["Worker", "run"]

log = logging.getLogger(__name__)

# A pass over a big process moves memory for a while between two ticks; one call moves at
# most 64 MiB, or sets the policy of 1 GiB.
_HANGS_AFTER_S = 120.0
# All others wait for the API server at most: 90 s for a watch, 60 s for an answer, up to 30 s
# of pause after an error and as much before a new list.
_WAITS_S = 240.0
# A watch that is older says nothing any more of what the cluster wants.
_WATCH_TOO_OLD_S = 2 * WATCH_S

_END_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_ACTIVE = Retirement(False, Reason.ACTIVE)


class Sink(Protocol):
    """Takes the status of this node."""

    def publish(self, status: NodeMemoryStatus) -> None:
        """Take a status; returns at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a worker works with."""

    host: HostFs
    features: Features
    journal: Journal
    reconciler: Reconciler
    metrics: Metrics
    cache: Cache
    sink: Sink
    health: Pulse
    version: str


class Worker:
    """The one thread that acts: decides when which pass is due."""

    def __init__(self, parts: Parts, *, resync_s: float, scan_s: float) -> None:
        self._parts = parts
        self._resync_s = resync_s
        self._scan_s = scan_s
        self._resynced_at = float("-inf")
        self._retirement = _ACTIVE
        self._conditions: tuple[Condition, ...] = ()
        self._not_understood: tuple[NotUnderstood, ...] = ()

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; an error of a pass is logged and the next one is made."""
        while not stop.is_set():
            self._parts.cache.changed.wait(self._scan_s)
            if stop.is_set():
                return
            self._parts.health.tick()
            try:
                self.step()
            except Exception:
                log.exception("pass failed")
                # Else what changed would wait for the next resync, or fail without a pause.
                self._resynced_at = float("-inf")
                self._publish_rest()
                stop.wait(self._scan_s)

    def step(self) -> None:
        """Do what is due now; nothing before the caches are whole."""
        cache = self._parts.cache
        if not cache.is_synced:
            cache.changed.clear()
            return
        changed = cache.changed.is_set()
        cache.changed.clear()
        due = changed or time.monotonic() - self._resynced_at >= self._resync_s
        world = cache.snapshot()
        self._not_understood = world.not_understood
        if self._is_to_retire(world):
            self._retire()
        else:
            self._return_to_work()
            self._work(world, full=due)

    def _is_to_retire(self, world: World) -> bool:
        # An uninstall deletes the NodeMemory before it ends a retired agent, which must not
        # take up its work again and leave files on the host.
        was_retired = self._retirement is not _ACTIVE
        return world.mode is AgentMode.RETIRED or (world.mode is None and was_retired)

    def _work(self, world: World, *, full: bool) -> None:
        reconciler = self._parts.reconciler
        if full:
            reconciler.full_pass(world)
            self._resynced_at = time.monotonic()
            self._parts.metrics.last_success.set_to_current_time()
        else:
            container_ids = reconciler.scan()
            if not container_ids:
                return
            reconciler.partial_pass(world, container_ids)
        self._publish()

    def _retire(self) -> None:
        if self._retirement.done:
            return
        if not self._parts.reconciler.undo_all():
            self._retirement = Retirement(False, Reason.UNDOING, "policies are being given back")
        else:
            self._retirement = self._cleaned()
        self._publish()

    def _cleaned(self) -> Retirement:
        try:
            remove_host_files(self._parts.host)
        except OSError as err:
            return Retirement(False, Reason.FAILED, f"files on the host can't be removed: {err}")
        return Retirement(True, Reason.RETIRED, "everything is undone and the host is clean")

    def _return_to_work(self) -> None:
        if self._retirement is _ACTIVE:
            return
        self._parts.journal.open(journal_directory(self._parts.host))
        self._retirement = _ACTIVE
        self._resynced_at = float("-inf")

    def _publish_rest(self) -> None:
        # What was done before the error is done, and others should hear of it.
        try:
            if self._parts.cache.is_synced:
                self._publish()
        except Exception:
            log.exception("no report")

    def _publish(self) -> None:
        status = node_status(
            self._parts.reconciler.reports,
            self._parts.features,
            self._retirement,
            before=self._conditions,
            version=self._parts.version,
            now=datetime.now(UTC),
            not_understood=self._not_understood,
        )
        self._conditions = status.conditions
        self._parts.sink.publish(status)


def build_worker(
    settings: Settings,
    *,
    kernel: Kernel,
    features: Features,
    cache: Cache,
    sink: Sink,
    health: Pulse,
    metrics: Metrics,
) -> Worker:
    """Wire a worker; opens the journal."""
    journal = Journal(settings.host.journal)
    journal.open(journal_directory(settings.host))
    placer = Placer(settings.host, kernel, journal, metrics, progress=health.tick)
    reconciler = Reconciler(
        node_name=settings.node_name,
        host=settings.host,
        kernel=kernel,
        journal=journal,
        placer=placer,
        metrics=metrics,
        unsupported=features.error,
    )
    parts = Parts(
        host=settings.host,
        features=features,
        journal=journal,
        reconciler=reconciler,
        metrics=metrics,
        cache=cache,
        sink=sink,
        health=health,
        version=__version__,
    )
    return Worker(parts, resync_s=settings.resync_s, scan_s=settings.scan_s)


class _Cluster:
    """The threads that talk to the API server."""

    def __init__(self, server: Server, settings: Settings, threads: Threads) -> None:
        name = settings.node_name
        self.cache = Cache(name)
        self.watchers = [Watcher(server, self.cache, each) for each in collections(name)]
        self.heartbeat = Heartbeat(
            server, name, is_alive=lambda: threads.is_alive, owner=lambda: self.cache.own_uid
        )
        self.publisher = Publisher(server, name, self.heartbeat.beats_in_report)
        self._threads = threads

    def start(self) -> None:
        """Begin to talk."""
        for watcher in self.watchers:
            self._threads.start(watcher.run, Pulse(f"watch {watcher.kind}", _WAITS_S))
        self._threads.start(self.publisher.run, Pulse("publisher", _WAITS_S))
        self._threads.start(self.heartbeat.run, Pulse("heartbeat", _WAITS_S))

    def not_ready(self) -> Sequence[str]:
        """Return what keeps the agent from knowing what the cluster wants."""
        old = [w for w in self.watchers if w.age_s > _WATCH_TOO_OLD_S]
        problems = [f"watch of {w.kind}: nothing heard for {w.age_s:.0f} s" for w in old]
        return problems if self.cache.is_synced else ["not everything is listed yet", *problems]


def run(settings: Settings) -> None:
    """Run the agent until SIGTERM or SIGINT; ends within 2 s of it.

    Raises:
        LoginFailed: There are no credentials.
    """
    # Blocked here and in each thread to come, and waited for below: a handler that sets an
    # Event can deadlock with a wait for that Event.
    signal.pthread_sigmask(signal.SIG_BLOCK, _END_SIGNALS)
    metrics, threads = Metrics(), Threads()
    cluster = _Cluster(in_cluster(os.environ), settings, threads)
    features = _probe(settings, metrics)
    for watcher in cluster.watchers:
        metrics.watch_age.labels(watcher.kind.value).set_function(partial(_age, watcher))
    HttpServer(
        settings.http_port,
        health=threads.problems,
        readiness=cluster.not_ready,
        metrics=metrics.text,
    ).start()
    pulse = Pulse("worker", _HANGS_AFTER_S)
    worker = build_worker(
        settings,
        kernel=RunningKernel(features.nr, features.version),
        features=features,
        cache=cluster.cache,
        sink=cluster.publisher,
        health=pulse,
        metrics=metrics,
    )
    cluster.start()
    threads.start(lambda stop, _: worker.run(stop), pulse)
    signal.sigwait(_END_SIGNALS)
    threads.stop.set()
    cluster.cache.changed.set()
    # What a call of the worker has not finished is in the journal, the next agent goes on.
    # Threads that wait for the API server need not be waited for.
    threads.join(1)
    logging.shutdown()
    os._exit(0)


def _age(watcher: Watcher) -> float:
    return watcher.age_s


def _probe(settings: Settings, metrics: Metrics) -> Features:
    metrics.build(__version__)
    features = probe(settings.host)
    metrics.feature_supported.labels("process_mbind").set(0 if features.error else 1)
    log.info("probed", extra={"reason": features.reason, "detail": features.message})
    if features.warning:
        log.warning(features.warning)
    return features
