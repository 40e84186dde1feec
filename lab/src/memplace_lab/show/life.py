# SPDX-License-Identifier: Apache-2.0
"""The life of a pod that is created after its placement, and where its bytes are allocated.

It starts, its heap grows, it forks, somebody runs a program in it by ``kubectl exec``, and its
container is restarted. Nothing of it is moved at any time (see ``newborn``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from memplace_lab.base.steps import LabError, step, wait_for
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.show import newborn, scenario
from memplace_lab.show.newborn import WORKER, Born, container, pod, spec
from memplace_lab.show.scenario import CXL, DRAM, Pod
from memplace_lab.show.witness import Observation

NAME = "newborn"
MIB = 1 << 20
# What the pod's program touches at once, what it maps later, and what another one touches.
START_MIB, GROWTH_MIB, EXEC_MIB = 16, 16, 8
GOAL = 0.01

STARTED = "it starts and touches 16 MiB"
GREW = "its heap grows by 16 MiB"
FORKED = "the child that it forks"
EXECUTED = "kubectl exec, 8 MiB"
RESTARTED = "its container is restarted"


@dataclass(slots=True)
class Life:
    """See the module.

    Attributes:
        cluster: The running cluster.
        rows: What has happened so far, and where the bytes of it were afterwards.
    """

    cluster: Cluster
    rows: dict[str, Born] = field(default_factory=dict)
    _first: str = ""

    def create(self) -> None:
        """Create the placement, and then the pod."""
        newborn.apply_example(self.cluster)
        inside = container("main", "touch", str(START_MIB))
        newborn.create(self.cluster, [pod(NAME, spec(inside))])

    def live(self) -> None:
        """Let it start, grow and fork, run a program in it, and end the first of its programs.

        Raises:
            LabError: It did not come to it.
        """
        key = (NAME, "main")
        with step("a pod that is born on its tier: start, growth, fork, kubectl exec"):
            self.rows[STARTED] = newborn.touched(self.cluster, [key])[key]
            found = scenario.find_pod(self.cluster, NAME)
            self._first = found.container_id
            self.rows[GREW] = _grown(found)
            self.rows[FORKED] = _forked(found)
            said = newborn.told(found.exec("/workload", "touch", str(EXEC_MIB), "100"))
            self.rows[EXECUTED] = said or Born(0, 0)
            self.cluster.ssh(WORKER, f"kill -9 {min(found.observe().pids)}")

    def live_again(self) -> None:
        """Wait until the container runs again, and look at it.

        Raises:
            LabError: It does not, or a page was on the wrong tier that should not be.
        """

        def is_another() -> bool:
            return scenario.find_pod(self.cluster, NAME).container_id != self._first

        with step("the same pod after a restart of its container"):
            wait_for("another container", is_another, timeout_s=60)
            key = (NAME, "main")
            self.rows[RESTARTED] = newborn.touched(self.cluster, [key])[key]
        for name, born in self.rows.items():
            if name != EXECUTED and (not born.right or born.share >= GOAL):
                raise LabError(f"{name}: {born}")

    def facts(self) -> list[str]:
        """Say it as text, with the bytes on the wrong tier."""
        kept = [born for name, born in self.rows.items() if name != EXECUTED]
        wrong, size = sum(b.wrong for b in kept), sum(b.wrong + b.right for b in kept)
        lines = [
            f"pod {NAME}, created after its placement, none of its pages ever moved: of "
            f"{size:,} bytes {wrong:,} were first on the wrong tier"
        ]
        executed = self.rows[EXECUTED]
        lines.append(f"a program that kubectl exec ran in it: {executed}")
        if executed.share >= GOAL:
            lines[-1] += "; the next look finds it"
        return lines


def _data(observation: Observation) -> Born:
    return newborn.seen(observation)


def _grown(found: Pod) -> Born:
    before = _size(_data(found.observe()))
    found.exec("/workload", "map")
    after = [Born(0, 0)]

    def has_grown() -> bool:
        after[:] = [_data(found.observe())]
        return _size(after[0]) >= before + GROWTH_MIB * MIB

    wait_for("a larger heap", has_grown, timeout_s=60, interval_s=0.3)
    return after[0]


def _forked(found: Pod) -> Born:
    known = found.observe().pids
    found.exec("/workload", "fork")
    child = [Born(0, 0)]

    def is_there() -> bool:
        nodes = found.observe().where(lambda m: m.pid not in known and newborn.keeps_data(m))
        child[:] = [Born(nodes.get(DRAM, 0), nodes.get(CXL, 0))]
        return _size(child[0]) >= (START_MIB + GROWTH_MIB) * MIB

    wait_for("a child", is_there, timeout_s=60, interval_s=0.3)
    return child[0]


def _size(born: Born) -> int:
    return born.wrong + born.right
