# SPDX-License-Identifier: Apache-2.0
"""A report stays small, and no namespace pays for another."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.api.v1alpha1 import (
    ContainerReport,
    ContainerState,
    NodeMemoryStatus,
    NumaBytes,
    PlacementReport,
    PodReport,
    RuleReport,
    Truncated,
)
from memplace_agent.cluster.bounded import BUDGET, PLACEMENTS_MAX, bounded, fair_shares
from memplace_agent.report import Retirement, node_status
from memplace_agent.syscalls.features import Features


def pod(name: str, *, rules: int = 1, nodes: int = 2, state: str = "Placed", text: str = ""):
    numa = tuple(NumaBytes(id=id_, bytes=1 << 33) for id_ in range(nodes))
    container = ContainerReport(
        name="c",
        state=ContainerState(state),
        container_id="a" * 64,
        message=text,
        rules=tuple(RuleReport(name=f"r{i}", numa_nodes=numa) for i in range(rules)),
    )
    return PodReport(uid=f"uid-{name}", name=name, containers=(container,))


def report(namespace: str, number: int, *pods: PodReport) -> PlacementReport:
    return PlacementReport(
        uid=f"{namespace}-{number}", namespace=namespace, name=f"mp{number}", pods=pods
    )


def size(status: NodeMemoryStatus) -> int:
    return len(msgspec.json.encode(status))


def test_a_report_that_fits_is_left_as_it_is() -> None:
    status = NodeMemoryStatus(placements=(report("a", 1, pod("p")),))
    assert bounded(status) is status


def test_the_reports_of_a_tenant_with_600_placements_fit_the_crd(started, kit) -> None:
    placements = [
        kit.placement(
            f"mp{i:04}", uid=f"uid{i:04}", created=f"2026-01-01T00:{i // 60:02}:{i % 60:02}Z"
        )
        for i in range(600)
    ]
    started.full(*placements)
    status = bounded(status_of(started))
    assert len(status.placements) <= PLACEMENTS_MAX
    assert len(status.placements) + status.truncated.placements == 600
    assert size(status) <= BUDGET
    winner = next(r for r in status.placements if r.pods)
    assert winner.name == "mp0000"


def test_a_long_message_fits_the_crd(started, kit, monkeypatch) -> None:
    def fail(_ref):
        raise OSError(13, "Permission denied", "/host/sys/fs/cgroup/" + "x/" * 1500)

    monkeypatch.setattr("memplace_agent.engine.look.read_members", fail)
    found = started.full(kit.placement())["mp", "p", "c0"]
    assert found.state == "Failed" and len(found.message) <= 1024


def status_of(node) -> NodeMemoryStatus:
    from datetime import UTC, datetime

    from memplace.reasons import Reason

    return node_status(
        node.reconciler.reports,
        Features(473, 2),
        Retirement(Reason.ACTIVE),
        before=(),
        version="0",
        now=datetime.now(UTC),
    )


def test_one_namespace_with_much_does_not_push_out_one_with_little() -> None:
    loud = [
        report("loud", i, *(pod(f"p{i}-{j}", rules=16, nodes=34) for j in range(20)))
        for i in range(100)
    ]
    quiet = report("quiet", 1, pod("q", rules=4))
    status = bounded(NodeMemoryStatus(placements=(*loud, quiet)))
    assert size(status) <= BUDGET
    assert quiet in status.placements
    assert sum(r.namespace == "loud" for r in status.placements) == 100


def test_states_come_before_figures_and_trouble_before_the_rest() -> None:
    pods = [pod(f"p{i}", rules=16, nodes=34) for i in range(300)]
    bad = pod("bad", rules=16, nodes=34, state="Failed", text="x" * 1000)
    status = bounded(NodeMemoryStatus(placements=(report("a", 1, *pods, bad),)))
    (found,) = status.placements
    assert len(found.pods) == 301
    assert next(p for p in found.pods if p.name == "bad") == bad
    without = [p for p in found.pods if not p.containers[0].rules]
    assert status.truncated == Truncated(details=len(without))
    assert {c.state for p in found.pods for c in p.containers} == {"Placed", "Failed"}


@st.composite
def any_status(draw):
    reports = []
    for namespace in range(draw(st.integers(1, 6))):
        for number in range(draw(st.integers(0, 8))):
            pods = [
                pod(
                    f"{namespace}-{number}-{i}",
                    rules=draw(st.integers(0, 4)),
                    text="x" * draw(st.integers(0, 400)),
                    state=draw(st.sampled_from(["Placed", "Failed"])),
                )
                for i in range(draw(st.integers(0, 5)))
            ]
            reports.append(report(f"ns{namespace}", number, *pods))
    return NodeMemoryStatus(placements=tuple(reports))


@given(status=any_status(), budget=st.integers(1_000, 20_000))
def test_whatever_there_is_to_say_it_fits_and_what_is_missing_is_counted(status, budget) -> None:
    found = bounded(status, budget)
    assert size(found) <= budget
    assert len(found.placements) + found.truncated.placements == len(status.placements)
    before = {r.uid: r for r in status.placements}
    missing = sum(len(before[r.uid].pods) - len(r.pods) for r in found.placements)
    assert missing == found.truncated.pods
    changed = sum(p not in before[r.uid].pods for r in found.placements for p in r.pods)
    assert changed <= found.truncated.details


@given(wants=st.lists(st.integers(0, 1000)), total=st.integers(0, 5000))
def test_nobody_gets_less_than_another_unless_they_want_less(wants, total) -> None:
    shares = fair_shares(wants, total)
    assert sum(shares) <= total
    most = max(shares, default=0)
    for want, share in zip(wants, shares, strict=True):
        assert share <= want
        assert share == want or share >= most - len(wants)


@pytest.mark.parametrize(
    ("wants", "total", "shares"),
    [([10, 10], 100, [10, 10]), ([1000, 10], 100, [90, 10]), ([50, 50, 50], 90, [30, 30, 30])],
)
def test_shares(wants, total, shares) -> None:
    assert fair_shares(wants, total) == shares
