# SPDX-License-Identifier: Apache-2.0
"""The agent's threads: watches fill a cache, one worker acts, one thread reports."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from threading import Event
from typing import Any

from memplace import __version__
from memplace_kube.client import Server, in_cluster
from memplace_kube.server import SecureServer
from memplace_kube.serving import ServerTls
from memplace_kube.watch import WATCH_S, Watcher

from memplace_agent.backends.choice import choose
from memplace_agent.cluster.following import WAITS_S, Follower, followers
from memplace_agent.cluster.kinds import Kind
from memplace_agent.cluster.lease import Heartbeat
from memplace_agent.cluster.publish import Publisher
from memplace_agent.cluster.world import Cache
from memplace_agent.engine.barrier import Barrier
from memplace_agent.engine.build import Engine, open_ledger, running_system
from memplace_agent.engine.explainer import Explainer
from memplace_agent.engine.pool import Pool
from memplace_agent.engine.pulse import raise_open_files
from memplace_agent.engine.worker import Worker, WorkerParts
from memplace_agent.http import HttpServer, LoopbackServer
from memplace_agent.metrics import Metrics
from memplace_agent.nri.plugin import NriPlugin
from memplace_agent.procfs.query import Way
from memplace_agent.settings import Settings
from memplace_agent.syscalls import RunningKernel
from memplace_agent.syscalls.features import Features, probe
from memplace_agent.threads import Pulse, Threads

log = logging.getLogger(__name__)

_Run = Callable[[Event, Callable[[], None]], None]

# One call on a process is given up after 30 s at most, and each of them ticks.
_HANGS_AFTER_S = 120.0
# A watch that is older says nothing any more of what the cluster wants.
_WATCH_TOO_OLD_S = 2 * WATCH_S

# How often to look whether namespaces are to be followed or all ends.
_LOOK_S = 1.0

_END_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _Cluster:
    """The threads that talk to the API server."""

    def __init__(self, server: Server, settings: Settings, threads: Threads) -> None:
        name = settings.node_name
        self.cache = Cache(name, settings.pod_uid)
        self.watchers = followers(server, self.cache, name)
        self.heartbeat = Heartbeat(
            server, name, is_alive=lambda: threads.is_alive, owner=lambda: self.cache.own_uid
        )
        self.publisher = Publisher(server, name, self.heartbeat.beats_in_report)
        self._threads = threads

    def start(self) -> None:
        """Begin to talk."""
        for watcher in self.watchers:
            run: _Run = watcher.run
            if watcher.kind is Kind.NAMESPACE and isinstance(watcher, Watcher):
                run = self._when_needed(watcher)
            self._threads.start(run, Pulse(f"watch {watcher.kind}", WAITS_S))
        self._threads.start(self.publisher.run, Pulse("publisher", WAITS_S))
        self._threads.start(self.heartbeat.run, Pulse("heartbeat", WAITS_S))

    def _when_needed(self, watcher: Watcher[Kind, Mapping[str, Any]]) -> _Run:
        # Most clusters have no placement that asks for labels of namespaces: then thousands of
        # agents need not be told of each change of one. From the first one on they are followed.
        def run(stop: Event, tick: Callable[[], None]) -> None:
            while not self.cache.needs_namespaces.wait(_LOOK_S):
                tick()
                watcher.rest()
                if stop.is_set():
                    return
            watcher.run(stop, tick)

        return run

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
    raise_open_files()
    metrics, threads = Metrics(), Threads()
    cluster = _Cluster(in_cluster(os.environ), settings, threads)
    found = _probe(settings, metrics)
    for watcher in cluster.watchers:
        metrics.watch_age.labels(watcher.kind.value).set_function(partial(_age, watcher))
    pool, secure = Pool(), settings.metrics_tls
    HttpServer(
        settings.http_port,
        health=threads.problems,
        readiness=lambda: [*cluster.not_ready(), *filter(None, [pool.problem])],
        metrics=None if secure else metrics.text,
    ).start()
    if secure:
        SecureServer(secure.port, metrics.text, ServerTls(secure)).start()
    worker_pulse, mover_pulse = Pulse("worker", _HANGS_AFTER_S), Pulse("mover", _HANGS_AFTER_S)
    system = running_system(settings.host, RunningKernel(found.nr, found.version), found)
    features = replace(found, walks=system.reader.way is not Way.POLICY)
    engine = Engine(
        settings,
        system,
        features,
        metrics,
        pool=pool,
        tick=worker_pulse.tick,
        move_tick=mover_pulse.tick,
        explainer=_explain_server(settings),
        follows=cluster.cache.follows,
    )
    metrics.lost_threads.set_function(lambda: engine.lost)
    worker = Worker(
        WorkerParts(
            host=settings.host,
            features=features,
            open_ledger=partial(open_ledger, settings.host),
            make_reconciler=engine.reconciler,
            metrics=metrics,
            source=cluster.cache,
            sink=cluster.publisher,
            pulse=worker_pulse,
            version=__version__,
        )
    )
    cluster.start()
    threads.start(lambda stop, _: worker.run(stop), worker_pulse)
    threads.start(lambda stop, _: engine.mover.run(stop), mover_pulse)
    threads.start(engine.births.run, Pulse("births", _HANGS_AFTER_S))
    if settings.nri_socket is not None:
        barrier = Barrier(engine.births, settings.nri_timeout_s)
        plugin = NriPlugin(settings.nri_socket, barrier.start, metrics)
        threads.start(plugin.run, Pulse("nri", _HANGS_AFTER_S))
    signal.sigwait(_END_SIGNALS)
    threads.stop.set()
    cluster.cache.changed.set()
    engine.mover.wake()
    engine.births.wake()
    # What a call of the worker has not finished is in the ledger, the next agent goes on.
    # Threads that wait for the API server need not be waited for.
    threads.join(1)
    logging.shutdown()
    os._exit(0)


def _explain_server(settings: Settings) -> Explainer:
    explainer = Explainer()
    if settings.explain_port is not None:
        LoopbackServer(settings.explain_port, explainer.route).start()
    return explainer


def _age(watcher: Follower) -> float:
    return watcher.age_s


def _probe(settings: Settings, metrics: Metrics) -> Features:
    metrics.build(__version__)
    features = probe(settings.host)
    chosen = choose(features)
    for kind, error in (("process_mbind", features.error), ("move_pages", features.move_error)):
        metrics.feature_supported.labels(kind).set(0 if error else 1)
    log.info(
        "probed",
        extra={"backend": chosen.name, "reason": features.reason, "detail": chosen.message},
    )
    if features.warning:
        log.warning(features.warning)
    return features
