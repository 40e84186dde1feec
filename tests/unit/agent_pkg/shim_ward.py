# SPDX-License-Identifier: Apache-2.0
"""A node of text on which a pod's sandbox is made by a shim."""

from memplace_agent.world import World

from tests.support.agent.build import HEAP_RULE, new_pod
from tests.unit.agent_pkg.test_birth import PAUSE, Ward

SHIM, POD, DRAM_RULE = 40, "uid-p", {**HEAP_RULE, "policy": {"mode": "Local"}}
NAME = f"shim-{POD}_{SHIM}_900"


class ShimWard(Ward):
    """A node of which a pod's sandbox is made; its shim is 40, and pause 50."""

    def __init__(self, node, kit):
        node.shims = True
        node.restart()
        self.node, self.kit, self.machine = node, kit, node.machine
        self.births = node.engine.births
        (self.machine.host.cgroup / "kubepods.slice").mkdir()
        self.machine.daemon(1, "init", comm="systemd", ppid=0)
        self.machine.daemon(SHIM, comm="containerd-shim", start_time=900)

    def sandbox(self, parent=SHIM):
        self.machine.start(50, PAUSE, comm="pause", ppid=parent)

    def looked(self, *placements, pods=None, **world):
        """As `full`, without births."""
        pods = [new_pod()] if pods is None else pods
        self.node.reconciler.take(World(placements=placements, pods=tuple(pods), **world))
        return self.node.run(15)

    @property
    def placement(self):
        return self.kit.placement(rules=[HEAP_RULE])

    @property
    def shims(self):
        return [claim for claim in self.node.claims if claim.process]
