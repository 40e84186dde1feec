# SPDX-License-Identifier: Apache-2.0
"""A node with an agent on a machine of text files, and what is placed on it."""

from __future__ import annotations

import functools
from typing import Any

from memplace.api.convert import to_builtins
from memplace.api.objects import parse_cluster_placement, parse_placement
from memplace.assignment import PodRef
from memplace.pods import PodState
from memplace_agent.containers.identity import Identities
from memplace_agent.engine.build import Engine, System, open_ledger
from memplace_agent.engine.orders import follows_as_taken
from memplace_agent.engine.pool import Pool
from memplace_agent.errors import CallFailed
from memplace_agent.metrics import Metrics
from memplace_agent.node.senses import Senses
from memplace_agent.procfs.process import Reader
from memplace_agent.procfs.query import Way
from memplace_agent.settings import Settings
from memplace_agent.syscalls.features import Features
from memplace_agent.world import World

from tests.support.agent.machine import BIND, CXL, HEAP, MIB, Machine
from tests.support.agent.mappings import Vma

FLAGS = 0xF7  # all that version 2 has


@functools.cache
def shared_pool():
    """Share threads: those that wait for work do no harm, but a few per test add up."""
    return Pool()


def placement(name="mp", *, rules=None, uid=None, created="2026-01-01T00:00:00Z", **spec):
    rule = {
        "name": "heap",
        "regions": [{"type": "Brk"}, {"type": "Anonymous", "minSize": "1Mi"}],
        "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
    }
    return parse_placement(
        {
            "metadata": {
                "name": name,
                "namespace": "ns",
                "uid": uid or f"uid-{name}",
                "generation": 1,
                "creationTimestamp": created,
            },
            "spec": {"selector": {"matchLabels": {"app": "x"}}, "rules": rules or [rule], **spec},
        }
    )


def cluster_placement(name="cmp", *, means=None, enforced=False, **given):
    found = placement(name, **given)
    spec = to_builtins(found.spec) | {"namespaceSelector": {"matchLabels": means or {}}}
    created = f"{found.creation_timestamp:%Y-%m-%dT%H:%M:%SZ}"
    meta = {"name": name, "uid": found.uid, "generation": 1, "creationTimestamp": created}
    return parse_cluster_placement({"metadata": meta, "spec": spec | {"enforced": enforced}})


def pod(name="p", ids=("a",), namespace="ns", its_labels=None):
    names = {f"c{i}": letter * 64 for i, letter in enumerate(ids)}
    ref = PodRef(
        namespace=namespace,
        name=name,
        uid=f"uid-{name}",
        labels={"app": "x"},
        containers=tuple(names),
        namespace_labels=its_labels,
    )
    return PodState(ref, names)


def heap(pages=256, **kwargs):
    return Vma(HEAP, HEAP + MIB, "[heap]", pages={0: pages}, **kwargs)


def anon(start=0x20000000, size=MIB, **kwargs):
    return Vma(start, start + size, **({"pages": {0: size >> 12}} | kwargs))


def overriding():
    return {
        "name": "heap",
        "regions": [{"type": "Heap"}],
        "policy": {"mode": "PreferredMany", "tiers": ["cxl"]},
        "override": True,
    }


def rule(entry, mode, *tiers):
    return {"name": "r", "regions": [entry], "policy": {"mode": mode, "tiers": list(tiers)}}


def interleave():
    return {
        "name": "i",
        "regions": [{"type": "Brk"}],
        "policy": {"mode": "Interleave", "tiers": ["cxl", "dram"]},
    }


class Clock:
    """Time is what the test says it is."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Node:
    """A machine with an agent on it; `restart` starts another agent on the same ledger."""

    def __init__(self, root, machine=None, pool=None):
        self.machine: Any = machine or Machine(root)
        self.clock = Clock()
        self.unsupported = None
        self.no_moves = None
        self.future = 3
        self.flags = FLAGS
        self.way = Way.POLICY
        self.pool = pool or shared_pool()
        self.bandwidth = 1 << 45
        self.shims = False
        self.follows = follows_as_taken  # by what is known of the cluster, if by anything
        self.world = World()
        self.store: Any = None
        self.restart()

    def restart(self):
        if self.store is not None:
            self.store.close()
        self.store = open_ledger(self.machine.host)
        self.start()

    def start(self):
        """Make an agent that has the ledger."""
        machine, host = self.machine, self.machine.host
        self.metrics = Metrics()
        self.engine = Engine(
            Settings(
                node_name="n1",
                host=host,
                move_bandwidth=self.bandwidth,
                shim_default=self.shims,
            ),
            System(
                kernel=machine,
                reader=Reader(host, machine, self.way, ask=machine.read_vmas),
                identities=Identities(unique_inodes=True),
                senses=Senses(host),
                ask=machine.page_nodes,
                present=machine.present,
                move=machine.move_pages,
                exclusive=machine.exclusive,
                shares=machine.shares,
                internal=(0, 1),
                clock=self.clock,
                cost=lambda: 0.0,
            ),
            Features(
                473,
                machine.version,
                self.flags,
                self.future,
                error=self.unsupported,
                move_error=self.no_moves,
            ),
            self.metrics,
            pool=self.pool,
            follows=lambda *asked: self.follows(*asked),
        )
        self.mover = self.engine.mover
        self.reconciler = self.engine.reconciler(self.store)

    def full(self, *placements, pods=None, seconds=15.0, **world):
        """Let the agent work on this world for a while; returns how all of it fares."""
        pods = [pod()] if pods is None else pods
        self.world = World(placements=placements, pods=tuple(pods), **world)
        self.reconciler.take(self.world)
        return self.run(seconds)

    def run(self, seconds):
        """Let time pass, with all that is done in it."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            if self.reconciler.step():
                continue
            pause = self.mover.step()
            due_at = self.reconciler.next_at()
            due_in = end - self.clock.now if due_at is None else due_at - self.clock.now
            self.clock.now = min(end, self.clock.now + max(0.0, min(pause, due_in)))
            self.reconciler.audit()
        return self.reports()

    def reports(self):
        return {
            (placement.name, pod.name, container.name): container
            for placement in self.reconciler.reports.placements()
            for pod in placement.pods
            for container in pod.containers
        }

    @property
    def said(self):
        """What is said of placements, by name."""
        return {report.name: report for report in self.reconciler.reports.placements()}

    @property
    def claims(self):
        return tuple(self.store)


class Kit:
    """What the tests of this folder build things with."""

    Vma, MIB, HEAP, CXL, BIND = Vma, MIB, HEAP, CXL, BIND
    CallFailed = CallFailed
    placement = staticmethod(placement)
    cluster_placement = staticmethod(cluster_placement)
    pod = staticmethod(pod)
    heap = staticmethod(heap)
    anon = staticmethod(anon)
    interleave = staticmethod(interleave)
    rule = staticmethod(rule)
    overriding = staticmethod(overriding)
