# SPDX-License-Identifier: Apache-2.0
"""The sentence about all pods of a placement, and the list of the worst."""

from __future__ import annotations

from memplace.api.v1alpha1 import ContainerState, TierBytes
from memplace_operator.summing import WORST

from tests.unit.operator_pkg.worlds import (
    measured,
    node,
    placement,
    pod,
    pod_report,
    report,
    verdict,
)

S = ContainerState
GIB = 1 << 30


def test_a_sentence_says_how_many_and_where() -> None:
    agent = node(
        report(
            pod_report(rules=(measured(n0=GIB, n1=3 * GIB),)),
            pod_report("redis-1", state=S.MOVING, rules=(measured(n1=GIB, n7=GIB),)),
        )
    )
    status = verdict(placement(), [pod(), pod("redis-1")], [agent])
    assert status.summary == "1 of 2 pods placed; 4.0 GiB on cxl, 1.0 GiB on dram, 1.0 GiB on other"
    assert verdict(placement(), [], [agent]).summary == "no running pods"
    assert verdict(placement(), [pod()], []).summary == "0 of 1 pod placed"


def test_the_worst_pods_come_first_with_what_they_have_and_why() -> None:
    agent = node(
        report(
            pod_report("a", state=S.MOVING),
            pod_report("b"),
            pod_report(
                "c",
                state=S.FAILED,
                reason="TierFull",
                message="x" * 900,
                rules=(measured(n0=5, n1=7),),
            ),
        )
    )
    status = verdict(placement(), [pod("a"), pod("b"), pod("c")], [agent])
    worst, better = status.pods
    assert [(each.name, each.reason) for each in status.pods] == [
        ("c", "TierFull"),
        ("a", "Moving"),
    ]
    assert worst.tiers == (TierBytes(name="cxl", bytes=7), TierBytes(name="dram", bytes=5))
    assert worst.node == "a" and len(worst.message) == 256 and worst.message.endswith("…")
    assert better.message.startswith("container redis of pod a")


def test_of_many_there_are_as_many_as_the_crd_allows_and_they_do_not_change_places() -> None:
    names = [f"redis-{n:02}" for n in range(30)]
    pods = [pod(name) for name in names]
    agent = node(report(*(pod_report(name, state=S.PENDING) for name in names)))
    found = verdict(placement(), pods, [agent]).pods
    assert [each.name for each in found] == names[:WORST]
    assert verdict(placement(), pods[::-1], [agent]).pods == found


def test_placed_pods_are_not_listed() -> None:
    assert verdict(placement(), [pod()], [node(report(pod_report()))]).pods == ()
