# SPDX-License-Identifier: Apache-2.0
"""A tier goes while pods run: its node is taken offline, or nothing says any more that it is one.

What is in place stays as it is: the kernel takes pages off a node that goes, and a tier that was
misnamed for a moment must move nothing. Nothing new is done until it is back.
"""

import pytest
from memplace.api.objects import parse_tier

A, ONE = "a" * 64, ("mp", "p", "c0")
BASE = 0x40000000


def far(**spec):
    made = {"name": "far", "uid": "t", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return parse_tier({"metadata": made, "spec": {"numaNodes": [1], **spec}})


class Offline:
    """NUMA node 1 goes, as daxctl offline-memory takes it."""

    def __init__(self, node, kit):
        self.node, self.wanted = node, kit.placement()
        self.path = node.machine.host.numa_nodes / "node1"

    def begin(self):
        return self.node.full(self.wanted)

    def take(self):
        self.path.rename(self.path.with_name("gone"))
        return self.node.run(60)

    def bring(self):
        self.path.with_name("gone").rename(self.path)
        return self.node.run(60)


class Label:
    """The node loses the label by which a MemoryTier is about it."""

    def __init__(self, node, kit):
        self.node = node
        self.wanted = kit.placement(rules=[kit.rule({"type": "Heap"}, "PreferredMany", "far")])

    def full(self, **labels):
        tiers = (far(nodeSelector={"pool": "cxl"}),)
        return self.node.full(self.wanted, tiers=tiers, labels=labels, seconds=60)

    def begin(self):
        return self.full(pool="cxl")

    def take(self):
        return self.full(pool="other")

    def bring(self):
        return self.full(pool="cxl")


@pytest.mark.parametrize("way", [Offline, Label])
def test_what_is_in_place_stays_and_what_comes_meanwhile_waits(started, kit, way):
    tier, machine = way(started, kit), started.machine
    assert tier.begin()[ONE].state == "Placed"
    calls, futures = len(machine.calls), len(machine.futures)
    found = tier.take()[ONE]
    assert (found.state, found.reason) == ("Failed", "TierNotOnNode")
    machine.start(200, A, kit.anon(BASE))
    started.run(60)
    assert machine.policies(100)["[heap]"] == kit.CXL
    assert machine.policies(200)[hex(BASE)] is None
    assert (len(machine.calls), len(machine.futures)) == (calls, futures)
    assert tier.bring()[ONE].state == "Placed"
    assert machine.policies(200)[hex(BASE)] == kit.CXL


@pytest.mark.parametrize("way", [Offline, Label])
def test_a_placement_that_ends_meanwhile_is_undone_all_the_same(started, kit, way):
    tier = way(started, kit)
    tier.begin()
    tier.take()
    started.full(seconds=60)
    assert started.machine.policies(100)["[heap]"] is None
    assert not started.claims
