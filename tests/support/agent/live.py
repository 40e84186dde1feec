# SPDX-License-Identifier: Apache-2.0
"""A node of text whose births are a thread and whose clock goes: for those who wait for them."""

from __future__ import annotations

import contextlib
import threading
import time

from memplace.kinds import Policy
from memplace.rebind import STATIC
from memplace_agent.engine.barrier import Barrier
from memplace_agent.world import World

from tests.support.agent.build import HEAP_RULE, new_pod, rule
from tests.support.agent.machine import CXL
from tests.support.agent.node import Node, placement

PAUSE, A, B = "5" * 64, "a" * 64, "b" * 64
DRAM = Policy(CXL.mode, frozenset({0}))
# Of the pod's containers: what each placement implies for its own.
WANTED = {"c0": CXL, "c1": DRAM}
# Whoever is answered at all is answered before, however busy the machine is.
PATIENCE_S = 30.0


class Live:
    """See the module. The pod ns/p has two containers that follow two placements.

    Its barrier is patient: tests that are about the wait make one of their own.
    """

    def __init__(self, root):
        self.node = Node(root)
        self.node.clock = time.monotonic  # type: ignore[assignment]
        self.node.start()
        self.machine, self.births = self.node.machine, self.node.engine.births
        self.machine.start(50, PAUSE, comm="pause")
        self.barrier = Barrier(self.births, PATIENCE_S)

    def expect(self):
        """Have the engine publish what it expects of the pod."""
        first = placement("first", rules=[HEAP_RULE], containers=["c0"])
        second = placement(
            "second", rules=[rule({"type": "Heap"}, tiers=("dram",))], containers=["c1"]
        )
        world = World(placements=(first, second), pods=(new_pod("c0", "c1"),))
        self.node.reconciler.take(world)

    @contextlib.contextmanager
    def running(self):
        """Run the thread of births."""
        stop = threading.Event()
        thread = threading.Thread(target=self.births.run, args=(stop, lambda: None))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            self.births.wake()
            thread.join()

    def future(self, pid):
        """Return the policies that a process has as its defaults."""
        return {policy for policy, _ in self.machine.processes[pid].future.values()}

    def counted(self, name):
        """Return a counter of the agent's, by the values of its labels."""
        (family,) = getattr(self.node.metrics, name).collect()
        samples = [each for each in family.samples if each.name.endswith("_total")]
        return {tuple(each.labels.values()): int(each.value) for each in samples}


def plain(policies):
    return {(policy.mode, policy.nodes, policy.flags - {STATIC}) for policy in policies}


def wanted(name):
    return plain([WANTED[name]])
