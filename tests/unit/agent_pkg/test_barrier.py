# SPDX-License-Identifier: Apache-2.0
"""A container's program is held back until its process has its default, and never for long."""

import threading
import time

import pytest
from memplace_agent.engine.barrier import Barrier
from memplace_agent.nri.messages import Starting
from memplace_agent.nri.plugin import Met

from tests.support.agent.live import PATIENCE_S, PAUSE, A, B, Live, plain, wanted


@pytest.fixture
def live(tmp_path):
    made = Live(tmp_path)
    yield made
    made.births.close()


def starting(container_id=A, pid=100, name="c0", uid="uid-p"):
    return Starting(uid, name, container_id, pid)


def took(call):
    began = time.monotonic()
    found = call()
    return found, time.monotonic() - began


def soon(holds):
    """Wait until it holds, and say whether it did."""
    end = time.monotonic() + PATIENCE_S
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


# Far less than the patience, and far more than a busy machine takes for what waits for nobody.
AT_ONCE_S = PATIENCE_S / 3


def test_containers_of_a_pod_get_what_each_of_them_is_to_have(live):
    live.expect()
    with live.running():
        for pid, container_id, name in ((100, A, "c0"), (101, B, "c1")):
            live.machine.start(pid, container_id)
            assert live.barrier.start(starting(container_id, pid, name)) is Met.READY
            assert plain(live.future(pid)) == wanted(name)
        assert soon(lambda: sum(live.counted("births").values()) == 2)
    assert not live.future(50)  # the sandbox
    # How fast, is another matter here.
    found = live.counted("births")
    assert sum(found.values()) == 2 and {source for _, source in found} == {"nri"}


def test_a_runtime_that_does_not_say_the_pid_is_answered_when_all_have_it(live):
    live.expect()
    live.machine.start(100, A)
    with live.running():
        assert live.barrier.start(starting(pid=0)) is Met.READY
    assert plain(live.future(100)) == wanted("c0")


def test_the_first_container_of_a_pod_without_a_sandbox_is_reached_too(live):
    live.machine.end(50)
    (live.machine.cgroup(PAUSE) / "cgroup.procs").unlink()
    live.machine.cgroup(PAUSE).rmdir()
    live.expect()
    with live.running():
        time.sleep(0.05)
        live.machine.start(100, A)
        assert live.barrier.start(starting()) is Met.READY
    assert plain(live.future(100)) == wanted("c0")


def test_one_that_was_made_before_anybody_watched_is_found(live):
    live.machine.start(100, A)
    live.expect()
    with live.running():
        assert live.barrier.start(starting(uid="uid_p")) is Met.READY


def test_the_claim_is_on_disk_before_the_call(live):
    seen = []
    path = live.machine.host.journal / f"{A}.v2.json"
    live.machine.on_future = lambda: seen.append(path.exists())
    live.expect()
    live.machine.start(100, A)
    with live.running():
        assert live.barrier.start(starting()) is Met.READY
    assert seen == [True]


@pytest.mark.parametrize("kwargs", [{"uid": "uid-q"}, {"name": "c2"}])
def test_what_nobody_expects_is_not_waited_for(live, kwargs):
    live.expect()
    live.machine.start(100, A)  # without the thread: nobody would answer
    found, seconds = took(lambda: live.barrier.start(starting(**kwargs)))
    assert found is Met.NOTHING and seconds < AT_ONCE_S


def test_nothing_is_waited_for_before_there_is_a_table_and_once_retired(live):
    live.machine.start(100, A)
    assert live.barrier.start(starting()) is Met.NOTHING
    live.expect()
    live.node.reconciler.undo_all()
    assert live.barrier.start(starting()) is Met.NOTHING


@pytest.mark.parametrize("container_id", [B, "", "a", "../" + "a" * 61, "a" * 65])
def test_a_container_that_has_no_cgroup_is_answered_at_once(live, container_id):
    live.expect()
    live.machine.start(100, A)
    with live.running():
        found, seconds = took(lambda: live.barrier.start(starting(container_id)))
    assert found is Met.MISSED and seconds < AT_ONCE_S and not live.machine.futures


def test_a_pid_of_somebody_else_gets_nothing(live):
    live.expect()
    live.machine.start(100, A)
    live.machine.start(200, B, pod="uid_q")
    with live.running():
        assert live.barrier.start(starting(pid=200)) is not Met.READY
        assert soon(lambda: plain(live.future(100)) == wanted("c0"))
    assert not live.future(200)


def test_a_call_that_hangs_delays_by_the_deadline_only(live):
    gate = threading.Event()
    live.machine.on_future = gate.wait
    live.expect()
    live.machine.start(100, A)
    with live.running():
        found, seconds = took(lambda: Barrier(live.births).start(starting()))
        gate.set()
    assert found is Met.LATE and 0.19 < seconds < AT_ONCE_S


def test_a_ledger_that_hangs_delays_by_the_deadline_only(live):
    live.expect()
    live.machine.start(100, A)
    with live.running(), live.node.store._lock:
        found, seconds = took(lambda: Barrier(live.births).start(starting()))
        assert found is Met.LATE and 0.19 < seconds < AT_ONCE_S and not live.machine.futures


def test_who_is_in_vain_twice_waits_for_nobody_for_a_while(live):
    now = [1000.0]
    barrier = Barrier(live.births, 1.0, clock=lambda: now[0])
    live.expect()  # and no thread
    assert [took(lambda: barrier.start(starting()))[1] > 0.9 for _ in range(2)] == [True, True]
    many, seconds = took(lambda: {barrier.start(starting()) for _ in range(30)})
    assert many == {Met.LATE} and seconds < AT_ONCE_S
    now[0] += 11
    assert took(lambda: barrier.start(starting()))[1] > 0.9
    assert took(lambda: barrier.start(starting()))[1] < 0.9
    live.machine.start(100, A)
    now[0] += 11
    barrier._at_most_s = PATIENCE_S
    with live.running():
        assert barrier.start(starting()) is Met.READY
        assert barrier.start(starting()) is Met.READY
