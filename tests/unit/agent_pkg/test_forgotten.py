# SPDX-License-Identifier: Apache-2.0
"""Pods come and go, and what failed in them goes with them: no table grows with time."""

import errno
import string
from dataclasses import replace

import pytest
from memplace.claims import Ours
from memplace.ledger import claim_for
from memplace_agent.world import World

from tests.support.agent.tables import tables
from tests.unit.agent_pkg.ledger_files import BIND, BOTH, CXL
from tests.unit.agent_pkg.test_to_come import A

BAD, RANGES, STEP = 0x30000000, 20, 0x200000
SETBACKS = "hands.setter._setbacks["


def failing(node, kit):
    """Some ranges get no policy, in any process; returns what ends that."""
    real = node.machine.process_mbind

    def is_bad(each):
        return BAD <= each[0] < BAD + RANGES * STEP

    def fail(pidfd, ranges, policy, flags):
        if is_bad(ranges[0]):
            raise kit.CallFailed(errno.EIO, "no")
        good = next((n for n, each in enumerate(ranges) if is_bad(each)), len(ranges))
        return real(pidfd, ranges[:good], policy, flags)

    node.machine.process_mbind = fail
    return lambda: setattr(node.machine, "process_mbind", real)


def start(node, kit, number, letter):
    bad = (kit.anon(BAD + n * STEP) for n in range(RANGES))
    name = f"p{number}"
    node.machine.start(100 + number, letter * 64, kit.heap(), kit.anon(), *bad, pod=f"uid_{name}")
    return kit.pod(name, (letter,))


def lives(node, kit, letters, busy_s):
    """Pods live and are deleted, one after the other, while the world changes every so often."""
    mine = kit.placement()
    others = kit.placement("other", mode="DryRun", priority=7)
    for number, letter in enumerate(letters):
        pods = [start(node, kit, number, letter)]
        for _ in range(int(40 / busy_s)):
            node.full(mine, others, pods=pods, seconds=busy_s)
        node.machine.end(100 + number)
        node.full(mine, others, pods=[], seconds=1)
    for _ in range(int(60 / busy_s)):
        node.full(mine, others, pods=[], seconds=busy_s)


def known_setbacks(node):
    """Of how many processes it is known what failed."""
    return sum(n for place, n in tables(node.engine).items() if SETBACKS in place)


@pytest.mark.parametrize("busy_s", [5, 40])
def test_no_table_grows_with_the_pods_that_were_there(node, kit, busy_s):
    failing(node, kit)
    lives(node, kit, "a", busy_s)
    once = tables(node.engine)
    lives(node, kit, string.ascii_lowercase[1:13], busy_s)
    after = tables(node.engine)
    assert not node.claims and not node.machine.processes
    assert after == once, sorted(after.items() ^ once.items())
    assert known_setbacks(node) == 0


def test_what_fails_is_known_as_long_as_its_process_lives(node, kit):
    failing(node, kit)
    pods = [start(node, kit, 0, "a")]
    node.full(kit.placement(), pods=pods, seconds=300)
    assert known_setbacks(node) == 1


def test_what_an_undo_fails_at_is_known_until_that_is_done(node, kit):
    pods = [start(node, kit, 0, "a")]
    node.full(kit.placement(), pods=pods, seconds=60)
    node.run(60)
    assert known_setbacks(node) == 0
    mend = failing(node, kit)
    node.full(pods=pods, seconds=300)
    assert node.claims and known_setbacks(node) == 1
    mend()
    node.run(8000)
    assert not node.claims and known_setbacks(node) == 0
    assert set(node.machine.policies(100).values()) == {None}
    assert not tables(node.engine)["._reconciler._parts.undoer._met"]


def test_a_container_that_ends_during_its_undo_is_forgotten(node, kit):
    pods = [start(node, kit, 0, "a")]
    node.full(kit.placement(), pods=pods, seconds=60)
    failing(node, kit)
    node.full(pods=pods, seconds=100)
    assert tables(node.engine)["._reconciler._parts.undoer._met"] == 1
    node.machine.end(100)
    node.full(pods=[], seconds=400)
    assert not node.claims and known_setbacks(node) == 0
    assert not tables(node.engine)["._reconciler._parts.undoer._met"]


def test_a_pod_that_is_deleted_during_a_move_is_forgotten_behind_it(started, kit):
    calls = []

    def delete():
        # Policies are set before anything is queued: with a queue, this is a move.
        if started.mover.progress():
            started.machine.on_call = None
            calls.append(len(started.machine.calls))
            started.reconciler.take(World(placements=(kit.placement(),)))

    started.machine.on_call = delete
    started.full(kit.placement(), seconds=2)
    assert calls
    started.machine.end(100)
    started.full(kit.placement(), pods=[], seconds=60)
    assert tables(started.engine)[".mover._processes"] == 0


def test_a_birth_that_cannot_be_written_leaves_nothing(node, monkeypatch):
    def full(_name, _data):
        raise OSError(errno.ENOSPC, "no room")

    claim = claim_for(A, ("uid", "ns", "mp"), 1.5)
    born = replace(claim, defaults=(Ours(CXL, BOTH),))
    with monkeypatch.context() as patched:
        patched.setattr(node.store.directory, "replace", full)
        with pytest.raises(OSError, match="no room"):
            node.store.put_newborn(born, 1.0)
    assert not node.claims and not any(tables(node.store).values())
    # What was put before stays, whatever fails later.
    node.store.put_newborn(born, 1.0)
    with monkeypatch.context() as patched:
        patched.setattr(node.store.directory, "replace", full)
        with pytest.raises(OSError, match="no room"):
            node.store.put_newborn(replace(claim, defaults=(Ours(BIND, BOTH),)), 1.0)
    node.store.put(claim)
    assert node.store.get(A).defaults == born.defaults
