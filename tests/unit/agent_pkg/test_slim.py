# SPDX-License-Identifier: Apache-2.0
"""What a look leaves in memory, and what it does not make: a process has a million mappings."""

from __future__ import annotations

import gc
import time

import pytest
from memplace.kinds import Mode, Policy, RegionKind
from memplace.regions import Region
from memplace_agent.engine.own import OwnPolicies
from memplace_agent.procfs import mapped
from memplace_agent.procfs.numa_maps import NumaMapping
from memplace_agent.procfs.query import Way

UNIQUE = 0x123456000000
PAGE = 4096


def left(kind):
    gc.collect()
    return [o for o in gc.get_objects() if isinstance(o, kind) and o.start == UNIQUE]


def test_a_look_at_what_is_as_it_was_makes_no_region(started, kit, monkeypatch):
    made, regions_of = [], mapped.regions_of
    monkeypatch.setattr(
        "memplace_agent.engine.survey.regions_of", lambda view: made.append(1) or regions_of(view)
    )
    started.full(kit.placement(), seconds=30)
    assert made
    made.clear()
    looks, read = [], started.machine.read_vmas
    monkeypatch.setattr(started.machine, "read_vmas", lambda *a: looks.append(1) or read(*a))
    started.start()
    started.full(kit.placement(), seconds=20)
    looks.clear(), made.clear()
    started.run(20)
    assert looks and not made


@pytest.mark.parametrize(("mode", "tiers"), [("PreferredMany", ["cxl"]), ("Default", [])])
def test_nothing_of_the_mappings_is_kept_between_looks(node, kit, mode, tiers):
    """With a policy to be set there are several looks, without one the first tells all."""
    node.way = Way.MAPS
    node.start()
    node.machine.start(100, "a" * 64, kit.anon(UNIQUE), kit.anon(0x20000000, policy=kit.BIND))
    rule = kit.rule({"type": "Anonymous"}, mode, *tiers)
    node.full(kit.placement(rules=[rule]), seconds=30)
    end = time.monotonic() + 10
    while (found := [*left(Region), *left(NumaMapping)]) and time.monotonic() < end:
        time.sleep(0.01)  # a thread of the pool may not have ended its round
    assert not found
    assert node.reports()["mp", "p", "c0"].rules[0].regions == 1


def test_own_policies_are_what_was_given():
    cut = Policy(Mode.BIND, frozenset({0, 1}))
    regions = [
        Region(
            start=at * PAGE,
            end=(at + 1) * PAGE,
            kind=RegionKind.ANONYMOUS,
            policy=policy,
            own=True,
            policy_is_whole=policy is not cut,
            page_size=PAGE << at % 2,
        )
        for at, policy in enumerate([cut, Policy(Mode.LOCAL), cut, cut, Policy(Mode.LOCAL)])
    ]
    kept = OwnPolicies.of(regions)
    for _ in range(2):  # it can be gone through again
        assert [
            (o.start, o.end, o.policy, o.own, o.policy_is_whole, o.page_size) for o in kept
        ] == [(r.start, r.end, r.policy, r.own, r.policy_is_whole, r.page_size) for r in regions]
