# SPDX-License-Identifier: Apache-2.0
"""The worker between the cache and the reports, on the machine of text files."""

from __future__ import annotations

import threading

import pytest
from memplace_agent import hostfs
from memplace_agent.app import Parts, Worker
from memplace_agent.cluster.world import Cache, Kind
from memplace_agent.containers import processes
from memplace_agent.syscalls.features import Features
from memplace_agent.threads import Pulse

from tests.unit.agent_pkg.test_app import Sink
from tests.unit.agent_pkg.test_watch import eventually
from tests.unit.agent_pkg.test_world import RUNNING, newer, placement, pod


@pytest.fixture
def at_work(started):
    """A worker that has placed the heap of process 100."""
    cache, sink = Cache("n1"), Sink()
    for kind in Kind:
        cache.replace(kind, [])
    cache.event(Kind.PLACEMENT, "ADDED", placement())
    cache.event(Kind.POD, "ADDED", pod(RUNNING))
    parts = Parts(
        host=started.machine.host,
        features=Features(473, 2),
        journal=started.journal,
        reconciler=started.reconciler,
        metrics=started.metrics,
        cache=cache,
        sink=sink,
        health=Pulse("worker", 120),
        version="0.9",
    )
    worker = Worker(parts, resync_s=30, scan_s=0.05)
    worker.step()
    return worker, parts


def test_a_placement_of_a_newer_version_is_kept_and_said(at_work, started, kit) -> None:
    worker, parts = at_work
    assert started.machine.policies(100)["[heap]"] == kit.CXL
    parts.cache.event(Kind.PLACEMENT, "MODIFIED", newer(placement()))
    worker.step()
    worker._resynced_at = float("-inf")
    worker.step()
    assert started.machine.policies(100)["[heap]"] == kit.CXL
    (report,) = parts.sink.published[-1].placements
    assert (report.reason, report.observed_generation) == ("NotUnderstood", 1)
    assert "0.9" in report.message and "fromTheFuture" in report.message
    assert report.pods[0].containers[0].state == "Placed"


def test_events_that_concern_nobody_read_no_page_tables(at_work, monkeypatch) -> None:
    worker, parts = at_work
    reads = []
    real = hostfs.read_proc

    def read(path):
        reads.append(path.name)
        return real(path)

    monkeypatch.setattr(processes, "read_proc", read)
    for generation in range(20):
        other = placement("other", namespace="elsewhere", app=str(generation))
        parts.cache.event(Kind.PLACEMENT, "MODIFIED", other)
        worker.step()
    assert "numa_maps" not in reads


def test_a_pass_that_fails_at_its_end_is_reported_all_the_same(at_work, monkeypatch) -> None:
    worker, parts = at_work

    def broken(self, dead):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(type(parts.reconciler), "_collect", broken)
    before, stop = len(parts.sink.published), threading.Event()
    worker._resynced_at = float("-inf")
    parts.cache.changed.set()
    threading.Thread(target=worker.run, args=(stop,), daemon=True).start()
    eventually(lambda: len(parts.sink.published) > before)
    stop.set()
