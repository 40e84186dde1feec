# SPDX-License-Identifier: Apache-2.0
"""When a status is worth a write."""

from __future__ import annotations

import pytest
from memplace.api.v1alpha1 import (
    ContainerReport,
    ContainerState,
    NodeMemoryStatus,
    NumaBytes,
    PlacementReport,
    PodReport,
    RuleReport,
)
from memplace.kinds import Pressure
from memplace_agent.cluster.pace import is_due

GIB, MIB = 1 << 30, 1 << 20


def status(
    size: int = GIB,
    *,
    state: str = "Placed",
    message: str = "",
    misplaced: int = 0,
    regions: int = 9,
    pressure: Pressure = Pressure.LOW,
) -> NodeMemoryStatus:
    rule = RuleReport(
        name="r",
        regions=regions,
        bytes=size,
        numa_nodes=(NumaBytes(id=1, bytes=size),),
        misplaced_bytes=misplaced,
    )
    container = ContainerReport(
        name="c",
        state=ContainerState(state),
        message=message,
        memory_pressure=pressure,
        rules=(rule,),
    )
    pod = PodReport(uid="p", name="p", containers=(container,))
    return NodeMemoryStatus(
        placements=(PlacementReport(uid="u", namespace="n", name="m", pods=(pod,)),)
    )


@pytest.mark.parametrize(
    ("new", "since_s", "due"),
    [
        (status(), 1000, False),
        (status(state="Failed"), 2, True),
        (status(state="Failed"), 1.9, False),
        (status(2 * GIB), 9, False),
        (status(2 * GIB), 10, True),
        (status(GIB + 10 * MIB), 1000, False),
        (status(GIB + 11 * MIB), 1000, True),
        (status(misplaced=1), 1000, True),
        (status(message="12 of 40 GiB"), 9, False),
        (status(message="12 of 40 GiB"), 10, True),
        (status(regions=10), 10, True),
        (status(pressure=Pressure.HIGH), 2, True),
        (status(pressure=Pressure.HIGH), 1.9, False),
        (NodeMemoryStatus(), 2, True),
    ],
)
def test_by_what_differs_and_how_long_ago(
    new: NodeMemoryStatus, since_s: float, *, due: bool
) -> None:
    assert is_due(status(), new, since_s) is due


def test_the_first_one_is_due_at_once() -> None:
    assert is_due(None, NodeMemoryStatus(), 0)


@pytest.mark.parametrize("size", [64 * MIB, GIB])
def test_small_steps_are_written_when_they_add_up(size: int) -> None:
    written, writes = status(size), 0
    for second in range(1, 601):
        new = status(size + second * MIB // 10)
        if is_due(written, new, 1000):
            written, writes = new, writes + 1
    assert 1 <= writes <= 60


def test_a_figure_that_goes_to_and_fro_is_not_written() -> None:
    written = status(GIB)
    assert not any(is_due(written, status(GIB + wobble * MIB), 1000) for wobble in range(-9, 10))


def test_bytes_that_move_between_nodes_are_seen() -> None:
    def on(*nodes: NumaBytes) -> NodeMemoryStatus:
        rule = RuleReport(name="r", bytes=GIB, numa_nodes=nodes)
        container = ContainerReport(name="c", state=ContainerState.PLACED, rules=(rule,))
        pod = PodReport(uid="p", name="p", containers=(container,))
        report = PlacementReport(uid="u", namespace="n", name="m", pods=(pod,))
        return NodeMemoryStatus(placements=(report,))

    zero, one = NumaBytes(id=0, bytes=GIB), NumaBytes(id=1, bytes=GIB)
    assert is_due(on(zero), on(one), 10)
