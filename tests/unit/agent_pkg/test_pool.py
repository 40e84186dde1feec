# SPDX-License-Identifier: Apache-2.0
"""Calls that do not come back: real threads, real descriptors, short deadlines."""

import contextlib
import gc
import os
import threading
import time
import weakref
from pathlib import Path

import pytest
from memplace_agent.engine.pool import NoThreads, Pool, PoolBusy, Stuck
from memplace_agent.engine.quarantine import Quarantine


class Hang:
    """Calls that come back when they are told to."""

    def __init__(self):
        self.release = threading.Event()
        self.turns = []
        self.saw = []

    def __call__(self, turn):
        self.turns.append(turn)
        self.release.wait(60)
        self.saw.append(
            (turn.is_given_up, os.fstat(turn.pidfd).st_ino if turn.pidfd >= 0 else None)
        )


@pytest.fixture
def hang():
    hang = Hang()
    yield hang
    hang.release.set()


def make(**kwargs):
    quarantine = Quarantine(**({"group_limit": 2, "first_s": 0.0} | kwargs))
    return Pool(size=2, quarantine=quarantine)


def run(pool, call, target=1, group="ns", deadline_s=20, **kwargs):
    return pool.run(call, target=target, group=group, deadline_s=deadline_s, **kwargs)


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def switches():
    """Return how often each of the process's threads has waited."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        text = (task / "status").read_text()
        found[int(task.name)] = int(text.split("nonvoluntary")[0].split()[-1])
    return found


def test_a_call_wakes_one_thread_of_many():
    pool, calls = Pool(size=16), 400
    run(pool, lambda _: None)
    time.sleep(0.2)  # all of them wait
    before = switches()
    for _ in range(calls):
        run(pool, lambda _: None)
    # Each waits for a task, and for the lock and the interpreter now and then.
    waited = sum(count - before.get(task, 0) for task, count in switches().items())
    assert waited < 10 * calls


def test_a_call_returns_what_it_returns_and_raises_what_it_raises():
    pool = make()
    assert run(pool, lambda _: 42) == 42
    with pytest.raises(ZeroDivisionError):
        run(pool, lambda _: 1 // 0)
    with pytest.raises(SystemExit):
        run(pool, lambda _: exit(1))
    assert run(pool, lambda _: 43) == 43


def test_a_call_that_does_not_return_is_given_up_and_the_others_go_on(hang):
    pool = make()
    start = time.monotonic()
    with pytest.raises(Stuck):
        run(pool, hang, deadline_s=0.05)
    assert time.monotonic() - start < 10
    assert pool.lost == 1
    assert [run(pool, lambda _, n=n: n, target=2) for n in range(20)] == list(range(20))


def test_a_target_that_holds_a_thread_is_not_tried_again(hang):
    pool = make()
    for _ in range(5):
        with pytest.raises(Stuck):
            run(pool, hang, deadline_s=0.05)
    assert len(hang.turns) == 1
    hang.release.set()
    wait_for(lambda: pool.lost == 0)
    assert run(pool, lambda _: "well again") == "well again"


def test_a_group_that_lost_its_threads_takes_no_more_and_others_do(hang):
    pool = make()
    for target in range(4):
        with pytest.raises(Stuck):
            run(pool, hang, target=target, group="bad", deadline_s=0.05)
    assert pool.lost == 2 and len(hang.turns) == 2
    assert run(pool, lambda _: 1, target=9, group="good") == 1


def test_each_thread_that_is_lost_is_replaced_and_none_is_left_over(hang):
    pool = make(group_limit=1)
    for target in range(30):
        with pytest.raises(Stuck):
            run(pool, hang, target=target, group=f"g{target}", deadline_s=0.01)
    assert pool.lost == 30 and pool.problem == ""
    assert run(pool, lambda _: 1, target=99, group="g99") == 1
    threads = threading.active_count()
    hang.release.set()
    wait_for(lambda: pool.lost == 0)
    wait_for(lambda: threading.active_count() <= threads - 30)
    assert run(pool, lambda _: 1, target=0, group="g0") == 1


def test_two_calls_on_one_target_that_both_come_back_late_are_both_forgotten(hang):
    """The mover and the worker may call the same process at the same time."""
    pool = make(group_limit=2)

    def call():
        with contextlib.suppress(Stuck):
            run(pool, hang, deadline_s=0.3)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)
    assert pool.lost == 2 and len(hang.turns) == 2
    with pytest.raises(Stuck):
        run(pool, lambda _: 1, target=2)
    hang.release.set()
    wait_for(lambda: pool.lost == 0)
    assert run(pool, lambda _: 1, target=2) == 1
    assert run(pool, lambda _: 1) == 1


def test_without_a_thread_it_says_so_until_one_can_be_started(hang, monkeypatch):
    pool = make(group_limit=1)
    real = threading.Thread.start

    def refuse(thread):
        if thread.name.startswith("pool-"):
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for target in range(2):
        assert pool.problem == ""
        with pytest.raises(Stuck):
            run(pool, hang, target=target, group=f"g{target}", deadline_s=0.05)
    start = time.monotonic()
    with pytest.raises(NoThreads, match="can't start new thread"):
        run(pool, lambda _: 1, target=9, group="g9")
    assert time.monotonic() - start < 10  # nobody waits for what can't come
    assert pool.problem == "2 threads are lost, and no thread can be started: " + (
        "can't start new thread"
    )
    hang.release.set()
    wait_for(lambda: pool.problem == "")
    assert run(pool, lambda _: 1, target=9, group="g9") == 1


def test_a_pool_whose_threads_are_all_busy_says_nothing_about_the_target(hang):
    pool = make()
    threads = [
        threading.Thread(target=lambda n=n: run(pool, hang, target=n, deadline_s=30))
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(hang.turns) == 2)
    with pytest.raises(PoolBusy):
        run(pool, lambda _: 1, target=3, deadline_s=0.05)
    hang.release.set()
    for thread in threads:
        thread.join(20)
    assert run(pool, lambda _: 1, target=3) == 1


def test_a_call_that_was_given_up_keeps_the_descriptor_it_was_given(hang, tmp_path):
    # The caller closes its own, and the number is another process's by then.
    (tmp_path / "mine").write_text("")
    mine = os.open(tmp_path / "mine", os.O_RDONLY)
    inode = os.fstat(mine).st_ino
    pool = make()
    with pytest.raises(Stuck):
        run(pool, hang, deadline_s=0.05, pidfd=mine)
    os.close(mine)
    taken = [os.open("/", os.O_RDONLY) for _ in range(8)]
    hang.release.set()
    wait_for(lambda: hang.saw)
    assert hang.saw == [(True, inode)]
    with pytest.raises(Stuck):
        hang.turns[0].check()
    for fd in taken:
        os.close(fd)


def test_no_descriptor_is_left_open(tmp_path):
    pool = make()
    gc.collect()  # what tests before this one left behind
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Path(os.devnull).open() as file:
        for _ in range(50):
            run(pool, lambda turn: os.fstat(turn.pidfd), pidfd=file.fileno())
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- whom to leave alone ------------------------------------------------------------------------


def test_a_target_that_came_back_late_is_left_alone_longer_each_time():
    quarantine = Quarantine(first_s=30, limit_s=3600)
    now, waits = 0.0, []
    for _ in range(10):
        quarantine.missed("t", "g", now)
        quarantine.returned("t", "g")
        began = now
        while quarantine.refusal("t", "g", now):
            now += 1
        waits.append(now - began)
    assert waits[:4] == [30, 60, 120, 240] and waits[-1] == 3600
    quarantine.succeeded("t")
    quarantine.missed("t", "g", now)
    quarantine.returned("t", "g")
    assert quarantine.refusal("t", "g", now + 30) is None


def test_what_others_have_lost_takes_nothing_from_a_group():
    quarantine = Quarantine(group_limit=2)
    for number in range(100):
        quarantine.missed(f"t{number}", f"g{number}", 0)
    assert quarantine.refusal("other", "g0", 0) is None
    quarantine.missed("other", "g0", 0)
    assert quarantine.refusal("third", "g0", 0)
    assert quarantine.refusal("third", "g1", 0) is None
    quarantine.returned("other", "g0")
    assert quarantine.lost == 100 and quarantine.refusal("third", "g0", 0) is None


def test_those_that_are_gone_are_forgotten_but_not_what_holds_a_thread():
    quarantine = Quarantine()
    quarantine.missed("held", "g", 0)
    quarantine.missed("back", "g", 0)
    quarantine.returned("back", "g")
    quarantine.keep(set())
    assert quarantine.refusal("back", "g", 1) is None
    assert quarantine.refusal("held", "g", 1e6)


def test_it_tells_what_calls_have_cost_that_count() -> None:
    def work(_turn: object) -> None:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass

    pool = Pool()
    pool.run(work, target=1, group="ns", deadline_s=5)
    assert 0.02 <= pool.spent_s < 0.2
    before = pool.spent_s
    pool.run(work, target=1, group="ns", deadline_s=5, counts=False)
    pool.run(lambda _turn: time.sleep(0.05), target=1, group="ns", deadline_s=5)
    assert pool.spent_s - before < 0.02


def test_an_idle_thread_keeps_nothing_of_its_last_call():
    """A view of a process with very many mappings, say, and all that was asked of it."""

    class Large:
        pass

    pool = make()
    asked = Large()
    refs = [weakref.ref(asked), weakref.ref(run(pool, lambda _turn, _asked=asked: Large()))]
    del asked
    wait_for(lambda: not any(ref() for ref in refs))
