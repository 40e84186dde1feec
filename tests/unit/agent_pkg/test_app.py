# SPDX-License-Identifier: Apache-2.0
"""The worker's life around retirement, on a host of files."""

from __future__ import annotations

import pytest
from memplace_agent import seccomp
from memplace_agent.cluster.kinds import Kind
from memplace_agent.cluster.world import Cache
from memplace_agent.engine.build import Engine, open_ledger, running_system
from memplace_agent.engine.worker import Worker, WorkerParts
from memplace_agent.hostfs import HostFs
from memplace_agent.metrics import Metrics
from memplace_agent.settings import Settings
from memplace_agent.syscalls import RunningKernel
from memplace_agent.syscalls.features import Features
from memplace_agent.threads import Pulse

from tests.support.agent.node import Clock, shared_pool

META = {
    "name": "n",
    "uid": "u",
    "generation": 1,
    "creationTimestamp": "2026-01-01T00:00:00Z",
}


class Sink:
    def __init__(self):
        self.published = []

    def publish(self, status):
        self.published.append(status)


@pytest.fixture
def host(tmp_path):
    (tmp_path / "proc" / "1").mkdir(parents=True)
    (tmp_path / "proc" / "1" / "root").symlink_to("/")
    boot_id = tmp_path / "proc/sys/kernel/random/boot_id"
    boot_id.parent.mkdir(parents=True)
    boot_id.write_text("boot\n")
    for directory in ("sys/devices/system/node", "cgroup"):
        (tmp_path / directory).mkdir(parents=True)
    return HostFs(
        proc=tmp_path / "proc",
        sysfs=tmp_path / "sys",
        cgroup=tmp_path / "cgroup",
        journal=tmp_path / "journal",
        seccomp=tmp_path / "seccomp",
    )


@pytest.fixture
def cache():
    return Cache()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def worker(host, cache, clock):
    features, metrics = Features(900, 2), Metrics()
    system = running_system(host, RunningKernel(None), features)
    engine = Engine(
        Settings(node_name="n", host=host), system, features, metrics, pool=shared_pool()
    )
    found = Worker(
        WorkerParts(
            host=host,
            features=features,
            open_ledger=lambda: open_ledger(host),
            make_reconciler=engine.reconciler,
            metrics=metrics,
            source=cache,
            sink=Sink(),
            pulse=Pulse("worker", 120),
            version="0.9",
            clock=clock,
        )
    )
    for kind in Kind:
        cache.replace(kind, [])
    found.step()
    assert host.journal.is_dir()
    return found


@pytest.fixture
def tell(cache, worker, clock):
    """Takes events of the NodeMemory to the worker."""

    def tell(mode, type_="MODIFIED"):
        clock.now += 1
        cache.event(Kind.NODE_MEMORY, type_, {"metadata": META, "spec": {"agent": mode}})
        worker.step()

    return tell


def test_a_retired_agent_stays_so_when_its_node_memory_is_deleted(host, tell):
    """An uninstall that may not end the agents does so; nothing may be left on the host."""
    tell("Retired")
    assert not host.journal.exists()
    tell("Retired", "DELETED")
    assert not host.journal.exists()
    tell("Active")
    assert host.journal.is_dir()


def test_who_goes_back_to_work_can_be_restarted(host, tell):
    """The kubelet needs the profile for that, and init containers do not run again."""
    profile = host.seccomp / "agent.json"
    seccomp.install(host.seccomp, host)
    before = profile.read_bytes()
    tell("Retired")
    assert not host.seccomp.exists()
    tell("Active")
    assert profile.read_bytes() == before


def test_where_there_was_no_profile_none_comes(host, tell):
    for mode in ("Retired", "Active"):
        tell(mode)
    assert not host.seccomp.exists()


def test_a_profile_that_cannot_be_written_does_not_stop_the_work(host, tell, caplog):
    seccomp.install(host.seccomp, host)
    tell("Retired")
    host.seccomp.write_text("a file is in its place")
    tell("Active")
    assert host.journal.is_dir()
    assert "delete this pod" in caplog.text
