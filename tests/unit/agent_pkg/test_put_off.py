# SPDX-License-Identifier: Apache-2.0
"""What another plan does not mend is planned ever more rarely, however often it is looked at."""

import errno

import pytest

A = "a" * 64
ONE = ("mp", "p", "c0")
AT = 0x20000000
STEP = 1 << 24


@pytest.fixture
def limited(node):
    """A node where a process may have 10 mappings."""
    limit = node.machine.host.proc / "sys/vm/max_map_count"
    limit.parent.mkdir(parents=True)
    limit.write_text("10\n")
    return node


@pytest.fixture
def plans(node):
    """When process 100 was planned."""
    placer = node.reconciler._parts.looker.placer
    times, real = [], placer.place

    def place(*args, **kwargs):
        times.append(node.clock.now)
        return real(*args, **kwargs)

    placer.place = place
    return times


def keep_busy(node, kit, seconds):
    """The process maps and unmaps something, and each time that is felt."""
    for _ in range(int(seconds)):
        node.machine.map(100, kit.anon(0x700000000, 0x1000))
        node.reconciler._parts.due.changed([A], node.clock.now)
        node.run(0.5)
        node.machine.unmap(100, 0x700000000)
        node.reconciler._parts.due.changed([A], node.clock.now)
        node.run(0.5)
    return node.reports()[ONE]


def test_a_process_near_its_limit_of_mappings_gets_no_more_policies(limited, kit):
    limited.machine.start(100, A, *(kit.anon(AT + i * STEP) for i in range(9)))
    assert limited.full(kit.placement())[ONE].reason == "TooManyMappings"
    assert not limited.machine.calls


def test_a_process_near_its_limit_is_planned_ever_more_rarely(limited, kit, plans):
    limited.machine.start(100, A, *(kit.anon(AT + i * STEP) for i in range(9)))
    limited.full(kit.placement(), seconds=1)
    assert keep_busy(limited, kit, 120).reason == "TooManyMappings"
    assert 3 <= len(plans) <= 8
    assert plans[-1] - plans[-2] > plans[1] - plans[0]


def test_once_it_has_fewer_it_is_placed_at_once(limited, kit):
    limited.machine.start(100, A, *(kit.anon(AT + i * STEP) for i in range(9)))
    limited.full(kit.placement(), seconds=120)
    for i in range(4):
        limited.machine.unmap(100, AT + i * STEP)
    limited.reconciler._parts.due.changed([A], limited.clock.now)
    assert limited.run(1)[ONE].state == "Placed"


def test_another_placement_is_tried_at_once(limited, kit, plans):
    limited.machine.start(100, A, *(kit.anon(AT + i * STEP) for i in range(9)))
    limited.full(kit.placement(), seconds=120)
    before = len(plans)
    other = kit.rule({"type": "Anonymous", "name": "x"}, "PreferredMany", "cxl")
    assert limited.full(kit.placement(rules=[other]), seconds=1)[ONE].state == "Placed"
    assert len(plans) > before


def test_a_range_that_fails_is_not_planned_again_as_long_as_nothing_changes(node, kit, plans):
    node.machine.start(100, A, kit.anon(AT))

    def refuse():
        raise kit.CallFailed(errno.ENOMEM, "no memory")

    node.machine.on_call = refuse
    node.full(kit.placement(), seconds=1)
    for _ in range(120):
        node.reconciler._parts.due.changed([A], node.clock.now)
        node.run(1)
    assert node.reports()[ONE].state == "Failed"
    assert len(plans) <= 8
    node.machine.on_call = None
    assert node.run(600)[ONE].state == "Placed"


def test_nothing_is_moved_to_a_policy_that_could_not_be_set(limited, kit):
    submitted, real = [], limited.mover.submit
    limited.mover.submit = lambda who, orders: real(who, submitted.extend(orders) or orders)
    limited.machine.start(100, A, *(kit.anon(AT + i * STEP) for i in range(9)))
    limited.full(kit.placement(), seconds=60)
    assert not submitted


def test_orders_of_a_process_that_is_put_off_stay(limited, kit):
    limited.bandwidth = 1 << 20
    limited.start()
    limited.machine.start(100, A, *(kit.anon(AT + i * STEP, 32 << 20) for i in (0, 4, 8)))
    limited.full(kit.placement(), seconds=4)
    for i in range(6):
        limited.machine.map(100, kit.anon(0x700000000 + i * STEP, 0x1000))
    limited.reconciler._parts.due.changed([A], limited.clock.now)
    limited.run(1)
    left = sum(progress.total - progress.done for progress in limited.mover.progress())
    assert left > 0
    keep_busy(limited, kit, 60)
    assert sum(p.total - p.done for p in limited.mover.progress()) < left
