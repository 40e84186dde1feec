# SPDX-License-Identifier: Apache-2.0
"""When containers are due: on a clock that the tests turn."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace_agent.engine.backoff import Backoffs
from memplace_agent.engine.duelist import DueList, Outcome, Pace

PACE = Pace()


class Planner:
    """A due list and one thread that works it off; each look takes `took_s`."""

    def __init__(self, **containers):
        self.now = 0.0
        self.due = DueList()
        self.containers = containers
        self.due.update(containers, 0.0)
        self.looks = []  # (when, container)
        self.outcome = lambda _: Outcome.QUIET
        self.took_s = 0.001

    def run(self, until):
        """Work until a time; returns the containers looked at on the way."""
        first = len(self.looks)
        while True:
            look = self.due.take(self.now) if self.now <= until else None
            if self.now > until:
                return [container for _, container in self.looks[first:]]
            if look is None:
                due_at = self.due.next_at()
                if due_at is None or due_at > until:
                    self.now = max(self.now, until)
                    return [container for _, container in self.looks[first:]]
                assert due_at > self.now
                self.now = due_at
                continue
            self.looks.append((self.now, look.container_id))
            self.now += self.took_s
            outcome = self.outcome(look.container_id)
            self.due.done(look, outcome, took_s=self.took_s, now=self.now)

    def change(self, *containers):
        self.due.changed(containers, self.now)


def test_what_is_new_is_looked_at_once_in_the_time_it_takes_to_gather_changes():
    planner = Planner(a="ns")
    assert planner.run(0.19) == []
    assert planner.run(0.21) == ["a"]


def test_what_changes_is_looked_at_again_soon_however_long_a_look_takes():
    planner = Planner(a="ns")
    planner.took_s = 0.2
    planner.outcome = lambda _: Outcome.CHANGED
    planner.run(30)
    gaps = [later - sooner for (sooner, _), (later, _) in itertools.pairwise(planner.looks)]
    assert max(gaps) < 1.2 * PACE.fast_s + planner.took_s


def test_changes_that_come_together_are_one_look():
    planner = Planner(a="ns")
    planner.run(100)
    for _ in range(10):
        planner.change("a")
        planner.run(planner.now + 0.015)
    assert planner.run(planner.now + 0.5) == ["a"]


def test_a_change_during_a_look_is_looked_at_again():
    planner = Planner(a="ns")
    planner.run(100)
    planner.change("a")
    look = planner.due.take(100.2)
    assert look is not None
    planner.due.changed(["a"], 100.25)
    assert planner.due.take(101) is None  # not to two threads at once
    planner.due.done(look, Outcome.QUIET, took_s=0.01, now=100.3)
    assert planner.due.take(100.44) is None
    assert planner.due.take(100.46) == look


def test_a_change_before_its_turn_is_seen_by_that_look():
    due = DueList()
    due.update({"a": "m", "b": "n"}, 0)
    first = due.take(1)  # both are due, the other waits for its turn
    due.changed(["a", "b"], 1)
    second = due.take(1.1)
    assert first is not None and second is not None and first != second
    assert due.take(2) is None


def test_quiet_containers_are_looked_at_less_and_less():
    planner = Planner(a="ns")
    planner.run(300)
    times = [when for when, _ in planner.looks]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert 1.8 <= gaps[0] <= 2.3
    assert gaps == pytest.approx(sorted(gaps), abs=0.01)
    assert 27 <= gaps[-1] <= 33.1


def test_after_a_change_they_are_looked_at_soon_again():
    planner = Planner(a="ns")
    planner.run(300)
    planner.change("a")
    planner.outcome = lambda _: Outcome.CHANGED
    assert len(planner.run(planner.now + 10)) in (5, 6)


def test_one_that_fails_waits_longer_each_time_and_delays_nobody():
    planner = Planner(bad="ns", good="ns")
    planner.outcome = lambda c: Outcome.FAILED if c == "bad" else Outcome.CHANGED
    looks = planner.run(100)
    assert looks.count("bad") <= 7
    assert looks.count("good") >= 40
    assert planner.due.failures("bad") == looks.count("bad")


def test_a_change_may_mend_a_failure_so_it_is_tried_at_once():
    planner = Planner(a="ns")
    planner.outcome = lambda _: Outcome.FAILED
    planner.run(1000)
    planner.change("a")
    planner.outcome = lambda _: Outcome.QUIET
    assert planner.run(planner.now + 0.21) == ["a"]
    assert planner.due.failures("a") == 0


def test_the_last_backoff_is_the_longest():
    planner = Planner(a="ns")
    planner.outcome = lambda _: Outcome.FAILED
    planner.run(5000)
    times = [when for when, _ in planner.looks]
    assert times[-1] - times[-2] == pytest.approx(300, abs=1)


@pytest.mark.parametrize(("outcome", "share"), [(Outcome.QUIET, 0.01), (Outcome.CHANGED, 0.1)])
def test_a_container_that_is_costly_to_look_at_is_left_alone_in_proportion(outcome, share):
    planner = Planner(big="ns")
    planner.took_s = 1.0
    planner.outcome = lambda _: outcome
    assert len(planner.run(1000)) <= share * 1000 + 1


def test_edits_without_end_cost_a_bounded_share():
    planner = Planner(a="ns")
    planner.took_s = 0.1
    while planner.now < 100:
        planner.change("a")
        planner.run(planner.now + 0.05)
    assert len(planner.looks) * planner.took_s <= 0.11 * 100


def test_a_namespace_with_a_thousand_changes_delays_another_by_one_look():
    crowd = {f"c{i}": "crowd" for i in range(1000)}
    planner = Planner(**crowd, single="other")
    planner.run(300)
    planner.took_s = 0.05  # 50 s of work
    planner.change(*crowd)
    planner.run(planner.now + 5)
    planner.change("single")
    asked = planner.now
    planner.run(planner.now + 5)
    done = next(when for when, c in reversed(planner.looks) if c == "single")
    assert 0 < done - asked <= PACE.coalesce_s + 2 * planner.took_s


def test_what_is_gone_is_forgotten_even_while_it_is_looked_at():
    planner = Planner(a="ns", b="ns")
    look = planner.due.take(1.0)
    assert look
    planner.due.update({}, 1.0)
    assert planner.due.take(10) is None
    planner.due.update({"a": "ns", "b": "ns"}, 11)
    planner.due.done(look, Outcome.QUIET, took_s=0, now=12)  # of the one before
    assert {planner.due.take(13).container_id for _ in range(2)} == {"a", "b"}


def test_changes_of_unknown_containers_are_nothing():
    planner = Planner()
    planner.change("who")
    assert planner.due.next_at() is None


def test_changes_without_end_do_not_pile_up():
    due = DueList()
    due.update({"a": "ns"}, 0)
    for step in range(10_000):
        due.changed(["a"], step * 1e-6)
        due.update({"a": "ns", f"x{step % 7}": "ns"}, step * 1e-6)
    assert len(due._heap) < 200


steps = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.sampled_from("abcd")),
        st.tuples(st.just("feel"), st.sampled_from("abcd")),
        st.tuples(st.just("follow"), st.sampled_from("abcd")),
        st.tuples(st.just("wait"), st.floats(0.01, 40)),
        st.tuples(st.just("take"), st.none()),
        st.tuples(st.just("done"), st.sampled_from(list(Outcome))),
        st.tuples(st.just("gone"), st.sampled_from("abcd")),
        st.tuples(st.just("back"), st.sampled_from("abcd")),
    ),
    max_size=60,
)


class Hands:
    """Planners that hold containers, and the containers there are."""

    def __init__(self):
        self.due, self.now, self.out = DueList(), 0.0, []
        self.there = {"a": "n", "b": "n", "c": "m", "d": "k"}
        self.due.update(self.there, self.now)

    def change(self, container):
        self.due.changed([container], self.now)

    def feel(self, container):
        self.due.felt([container], self.now)

    def follow(self, container):
        self.due.follow_up([container], self.now)

    def wait(self, seconds):
        self.now += seconds

    def take(self, _):
        look = self.due.take(self.now)
        if look:
            assert look not in self.out
            assert look.container_id in self.there
            self.out.append(look)

    def done(self, outcome):
        if self.out:
            self.due.done(self.out.pop(0), outcome, took_s=0.01, now=self.now)

    def gone(self, container):
        self.there.pop(container, None)
        self.due.update(self.there, self.now)
        self.out = [look for look in self.out if look.container_id != container]

    def back(self, container):
        self.there.setdefault(container, "n")
        self.due.update(self.there, self.now)


@given(steps)
def test_nothing_is_handed_out_twice_or_forgotten(steps):
    hands = Hands()
    for what, value in steps:
        getattr(hands, what)(value)
    while hands.out:
        hands.done(Outcome.QUIET)
    # Whatever happened: within the longest wait each container has its turn.
    found = set()
    while (look := hands.due.take(hands.now + 400)) is not None:
        found.add(look.container_id)
    assert found == set(hands.there)


# --- backoffs ---------------------------------------------------------------------------------


@given(st.floats(0.1, 10), st.floats(10, 1000), st.integers(1, 2000))
def test_backoffs_double_up_to_a_limit(first, limit, times):
    backoffs = Backoffs[int](first_s=first, limit_s=limit)
    for n in range(times):
        until = backoffs.failed(1, now=0.0)
        assert until == pytest.approx(min(limit, first * 2.0 ** min(n, 40)))
    assert not backoffs.is_ready(1, now=until * 0.999)
    assert backoffs.is_ready(1, now=until)
    assert backoffs.is_ready(2, now=0.0)


def test_backoffs_forget_who_is_gone():
    backoffs = Backoffs[int](first_s=1, limit_s=10)
    for pid in range(100):
        backoffs.failed(pid, 0)
    backoffs.keep({7})
    assert (len(backoffs), backoffs.times(7), backoffs.times(8)) == (1, 1, 0)
    backoffs.succeeded(7)
    assert len(backoffs) == 0


def test_what_is_felt_of_many_containers_costs_a_bounded_share_in_all():
    planner = Planner(**{f"c{i}": "ns" for i in range(200)})
    planner.run(100)
    planner.took_s, planner.outcome = 0.01, lambda _: Outcome.CHANGED
    start, first = planner.now, len(planner.looks)
    while planner.now < start + 100:
        planner.due.felt(planner.containers, planner.now)
        planner.run(planner.now + 1)
    spent = (len(planner.looks) - first) * planner.took_s
    # Behind: all are due when it begins, and audited once or twice meanwhile.
    assert 3 <= spent <= 0.04 * 100 + 2 * 200 * planner.took_s


def test_what_is_felt_is_looked_at_at_once_when_little_is():
    planner = Planner(a="ns", b="ns")
    planner.run(100)
    for _ in range(5):
        planner.due.felt(["a"], planner.now)
        assert planner.run(planner.now + 0.3) == ["a"]
        planner.run(planner.now + 0.7)


def test_what_is_asked_for_does_not_wait_for_what_is_felt():
    planner = Planner(a="ns", b="ns")
    planner.run(100)
    planner.took_s = 1.0
    planner.due.felt(["a"], planner.now)
    planner.run(planner.now + 2)
    planner.took_s = 0.001
    planner.change("b")
    assert planner.run(planner.now + 0.3) == ["b"]


def test_what_follows_from_what_is_felt_is_in_the_same_share():
    """Each look at a container that changes all the time sets something, and pages move then."""
    planner = Planner(**{f"c{i}": "ns" for i in range(100)})
    planner.run(100)
    planner.took_s = 0.01
    follow_up = planner.due.follow_up
    planner.outcome = lambda c: follow_up([c], planner.now) or Outcome.CHANGED
    start, first = planner.now, len(planner.looks)
    while planner.now < start + 300:
        planner.due.felt(planner.containers, planner.now)
        planner.run(planner.now + 1)
    spent = (len(planner.looks) - first) * planner.took_s
    audits = 300 / (0.9 * PACE.slow_s) * 100 * planner.took_s
    assert 0.025 * 300 <= spent <= 0.03 * 300 + audits


def test_what_is_felt_at_once_is_looked_at_one_after_the_other():
    planner = Planner(**{f"c{i}": "ns" for i in range(100)})
    planner.run(100)
    planner.took_s = 0.02
    planner.due.felt(planner.containers, planner.now)
    assert 6 <= len(planner.run(planner.now + 5)) <= 5 / (34 * planner.took_s) + 3


def test_what_is_felt_but_not_paid_for_is_audited_in_time():
    planner = Planner(**{f"c{i}": "ns" for i in range(100)}, last="ns")
    planner.run(100)
    planner.took_s = 0.1
    before = next(when for when, c in reversed(planner.looks) if c == "last")
    planner.due.felt([*planner.containers], planner.now)
    planner.run(planner.now + 60)
    after = next(when for when, c in planner.looks if c == "last" and when > before)
    assert after - before <= 1.1 * PACE.slow_s + 100 * planner.took_s


def test_what_follows_from_what_was_asked_is_as_urgent():
    planner = Planner(**{f"c{i}": "ns" for i in range(100)}, asked="ns")
    planner.run(100)
    planner.took_s = 0.1
    planner.due.felt([f"c{i}" for i in range(100)], planner.now)
    planner.run(planner.now + 1)
    planner.change("asked")
    assert "asked" in planner.run(planner.now + 0.5)
    planner.run(planner.now + 1)
    planner.due.follow_up(["asked"], planner.now)
    assert "asked" in planner.run(planner.now + 0.5)


def test_who_changes_seldom_does_not_wait_for_those_who_always_do():
    planner = Planner(**{f"c{i}": "ns" for i in range(100)}, seldom="ns")
    planner.run(100)
    planner.took_s, planner.outcome = 0.02, lambda _: Outcome.CHANGED
    for _ in range(30):
        planner.due.felt([f"c{i}" for i in range(100)], planner.now)
        planner.run(planner.now + 1)
    for _ in range(3):
        planner.due.felt(planner.containers, planner.now)
        assert "seldom" in planner.run(planner.now + 2)
        planner.run(planner.now + 18)


def test_a_change_now_and_then_does_not_wait_for_a_hundred_at_once():
    planner = Planner(**{f"c{i}": "ns" for i in range(100)}, single="ns")
    planner.run(100)
    planner.took_s = 0.1
    planner.due.felt([f"c{i}" for i in range(100)], planner.now)
    planner.run(planner.now + 1)
    for _ in range(3):
        planner.due.felt(["single"], planner.now)
        assert "single" in planner.run(planner.now + 3)
        planner.run(planner.now + 2)
