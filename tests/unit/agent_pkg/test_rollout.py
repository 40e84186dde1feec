# SPDX-License-Identifier: Apache-2.0
"""A placement whose roll-out has not come to the node: it waits, whoever is away."""

import copy
from typing import Any

import pytest
from memplace.api.objects import parse_placement
from memplace.rollout import change_of, position
from memplace_agent.cluster.kinds import Kind
from memplace_agent.cluster.world import Cache

from tests.support.agent.build import HEAP_RULE, new_pod
from tests.unit.agent_pkg.shim_ward import SHIM, ShimWard
from tests.unit.agent_pkg.test_birth import CXL_BOTH, A, B
from tests.unit.agent_pkg.test_paused import ONE, done, ledger

NODE = "n1"
HERE = position("uid-mp", NODE)
DRAM_RULE = HEAP_RULE | {"policy": {"mode": "Bind", "tiers": ["dram"]}}
POD = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "uid-p", "labels": {"app": "x"}},
    "spec": {"nodeName": NODE},
    "status": {
        "containerStatuses": [
            {"name": "c0", "containerID": f"containerd://{A}", "state": {"running": {}}}
        ]
    },
}


class Gate:
    """A placement at an API server, an operator that writes its status, and the agent's cache."""

    def __init__(self):
        self.cache = Cache(NODE)
        for kind in Kind:
            self.cache.replace(kind, [])
        self.cache.event(Kind.POD, "ADDED", POD)
        self.obj: Any = {
            "metadata": {
                "name": "mp",
                "namespace": "ns",
                "uid": "uid-mp",
                "generation": 0,
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "status": {},
        }
        self.apply()

    def apply(self, **spec):
        whole = {"selector": {"matchLabels": {"app": "x"}}, "rules": [HEAP_RULE]}
        self.obj = copy.deepcopy(self.obj)
        self.obj["spec"] = whole | {"rollout": {"maxNodes": 1}} | spec
        self.obj["metadata"]["generation"] += 1
        return self._told()

    def release(self, *, through=HERE, state="Rolling"):
        """Be the operator: release nodes of what is there now."""
        self.obj = copy.deepcopy(self.obj)
        self.obj["status"]["rollout"] = {
            "generation": self.obj["metadata"]["generation"],
            "change": change_of(parse_placement(self.obj).spec),
            "state": state,
            "releasedThrough": through,
        }
        return self._told()

    def write(self, **status):
        self.obj = copy.deepcopy(self.obj)
        self.obj["status"] |= status
        return self._told()

    def _told(self):
        self.cache.changed.clear()
        self.cache.event(Kind.PLACEMENT, "MODIFIED", self.obj)
        return self.cache.changed.is_set()

    @property
    def placement(self):
        (found,) = self.cache.snapshot().placements
        return found


@pytest.fixture
def gate():
    return Gate()


def before_it(text):
    """A position just before one."""
    return f"{int(text, 16) - 1:016x}"


# --- what the agent hears of it ---


def test_it_wakes_for_its_own_turn_and_for_nobody_elses(gate):
    assert gate.placement.waits
    assert not gate.release(through="")
    assert not gate.release(through=before_it(HERE))
    assert not gate.write(matchedPods=7, summary="7 pods")
    assert gate.placement.waits
    assert gate.release() and not gate.placement.waits
    assert not gate.release(through="f" * 16)
    assert not gate.release(state="Holding"), "what was released goes on"
    assert not gate.release(state="Done") and not gate.placement.waits
    assert gate.apply(rules=[DRAM_RULE]) and gate.placement.waits


def test_nothing_else_of_a_status_is_kept(gate):
    gate.write(matchedPods=7)
    assert gate.placement.status == type(gate.placement.status)()


def test_a_status_that_is_lost_waits_again(gate):
    gate.release()
    assert gate.write(rollout=None) and gate.placement.waits


def test_without_a_rollout_there_is_nothing_to_wait_for(gate):
    gate.obj["spec"].pop("rollout")
    assert gate._told() and not gate.placement.waits


# --- what it does ---


def test_waiting_does_nothing_and_released_acts(started, kit, gate):
    report = started.full(gate.placement, seconds=300)[ONE]
    assert (report.state, report.reason) == ("AwaitingRollout", "AwaitingRollout")
    assert report.rules[0].misplaced_bytes == report.rules[0].bytes > 0
    assert "has not reached this node" in report.message
    assert done(started) == (0, 0, 0) and not started.claims
    gate.release()
    assert started.full(gate.placement)[ONE].state == "Placed"
    assert started.machine.policies(100)["[heap]"] == kit.CXL


def test_with_the_operator_away_a_change_stops_where_it_is(started, gate):
    gate.release()
    started.full(gate.placement)
    before, kept = done(started), ledger(started)
    gate.apply(rules=[DRAM_RULE])
    assert started.full(gate.placement, seconds=600)[ONE].state == "AwaitingRollout"
    started.restart()
    assert started.full(gate.placement, seconds=600)[ONE].state == "AwaitingRollout"
    assert (done(started), ledger(started)) == (before, kept)
    # Back to what was released: there is nothing to wait for.
    gate.apply()
    assert started.full(gate.placement)[ONE].state == "Placed"
    gate.apply(rules=[DRAM_RULE])
    gate.release()
    assert started.full(gate.placement)[ONE].state == "Placed"
    assert started.machine.policies(100)["[heap]"].mode == "Bind"


def test_an_edit_of_how_it_is_rolled_out_begins_nothing_anew(started, gate):
    gate.release()
    started.full(gate.placement)
    calls = done(started)
    gate.apply(rollout={"maxNodes": "50%", "holdOn": []})
    assert not gate.placement.waits
    assert started.full(gate.placement, seconds=0)[ONE].state == "Placed"
    started.run(30)
    assert done(started) == calls
    assert started.said["mp"].observed_generation == 2


def test_moves_end_when_what_they_are_for_waits(node, kit, gate):
    node.bandwidth = 64 << 20
    node.restart()
    node.machine.start(100, A, kit.heap(), kit.anon(0x100000000, 1 << 30))
    gate.release()
    assert node.full(gate.placement, seconds=5)[ONE].state == "Moving"
    moved = done(node)
    gate.apply(rules=[DRAM_RULE])
    node.full(gate.placement, seconds=0)
    assert node.mover.step() > 0 and node.mover.progress() == ()
    assert node.run(120)[ONE].state == "AwaitingRollout" and done(node) == moved


def test_one_that_is_deleted_is_undone_as_always(started, gate):
    gate.release()
    started.full(gate.placement)
    gate.apply(rules=[DRAM_RULE])
    started.full(gate.placement)
    started.full(seconds=30)
    assert not started.claims and set(started.machine.policies(100).values()) == {None}


def test_a_pod_that_it_selects_no_more_keeps_what_it_has_until_then(started, gate):
    gate.release()
    started.full(gate.placement)
    gate.apply(selector={"matchLabels": {"app": "y"}})
    started.full(gate.placement, seconds=300)
    assert started.claims and started.machine.policies(100)["[heap]"] is not None
    gate.release()
    started.full(gate.placement, seconds=30)
    assert not started.claims and set(started.machine.policies(100).values()) == {None}


def test_paused_is_said_before_waiting(started, gate):
    gate.apply(paused=True)
    assert started.full(gate.placement, seconds=60)[ONE].state == "Paused"


def test_a_dry_run_tells_at_once_and_gives_back_when_it_was_heard_of(started, gate):
    gate.release()
    started.full(gate.placement)
    gate.apply(mode="DryRun")
    assert started.full(gate.placement, seconds=60)[ONE].state == "DryRun"
    assert started.claims
    gate.release(through="", state="Done")
    assert started.full(gate.placement, seconds=60)[ONE].state == "DryRun"
    assert not started.claims


# --- new containers ---


def test_what_is_born_meanwhile_gets_nothing(node, kit, gate):
    ward = ShimWard(node, kit)
    ward.sandbox()
    ward.looked(gate.placement)
    assert ward.future(SHIM) == {} and not ward.births.is_watching
    gate.release()
    ward.looked(gate.placement)
    assert ward.future(SHIM) == CXL_BOTH
    gate.apply(rules=[DRAM_RULE])
    ward.looked(gate.placement)
    ward.machine.fork(SHIM, 100, B)
    pods = [new_pod("c0", ids=[B])]
    assert ward.looked(gate.placement, pods=pods)[ONE].state == "AwaitingRollout"
    assert ward.future(SHIM) == CXL_BOTH, "what is in place stays"
    ward.births.close()
