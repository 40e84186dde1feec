# SPDX-License-Identifier: Apache-2.0
"""Who takes turns with memplace, over the looks at a process."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from memplace.kinds import Mode, Policy
from memplace.policy import Move, Plan, Step
from memplace_agent.engine.contention import Contention
from memplace_agent.engine.flapping import Flapping

MIB = 1 << 20
CXL = Policy(Mode.PREFERRED_MANY, frozenset({1}))
ONE = 7


def move(number, size=8 * MIB):
    start = number * 16 * MIB
    return Move(
        rule="r",
        start=start,
        end=start + size,
        nodes=CXL.nodes,
        policy=CXL,
        move_all=True,
        bytes=size,
    )


class Everything:
    """The same, but all that was ever to be done is seen at each look."""

    def __init__(self):
        self.flapping, self.known, self.contended = Flapping(), {}, set()

    def see(self, item, now, misplaced):
        self.known[item.start] = item
        verdict = self.flapping.see(
            item.start,
            wanted=item.policy,
            found=item.policy,
            own=True,
            misplaced=misplaced,
            size=item.end - item.start,
            now=now,
        )
        self.contended.discard(item.start)
        if verdict.contended:
            self.contended.add(item.start)
        return verdict.act

    def after(self, moves, now):
        due = {item.start for item in moves}
        for start, item in list(self.known.items()):
            if start not in due:
                self.see(item, now, 0)
        return tuple(item for item in moves if self.see(item, now, item.bytes))


looks = st.lists(
    st.tuples(st.sampled_from([1.0, 70.0, 400.0, 7300.0]), st.frozensets(st.integers(0, 3))),
    max_size=30,
)


@given(looks)
def test_what_is_in_its_place_need_not_be_seen_again(looks):
    contention, everything, now = Contention(), Everything(), 0.0
    for pause, numbers in looks:
        now += pause
        moves = tuple(move(number) for number in sorted(numbers))
        assert contention.after(ONE, Plan(moves=moves), now) == everything.after(moves, now)
        assert bool(contention.message) == bool(everything.contended)


def contended():
    contention = Contention()
    for now in range(0, 20 * 5000, 5000):
        contention.after(ONE, Plan(moves=(move(0),)), now)
        contention.after(ONE, Plan(), now + 1)
    assert contention.message
    return contention, now


def test_who_has_stopped_is_not_called_contended_any_more():
    contention, now = contended()
    contention.after(ONE, Plan(), now + 7000)
    assert contention.message
    contention.after(ONE, Plan(), now + 7300)
    assert not contention.message


def test_who_is_gone_is_forgotten():
    contention, _ = contended()
    contention.keep([])
    assert not contention.message


class Regions:
    """Regions that are put in their place as soon as they may be, and how often that was."""

    def __init__(self):
        self.contention, self.now, self.moved = Contention(), 0.0, Counter()

    def look(self, moves):
        due = self.contention.after(ONE, Plan(moves=tuple(moves)), self.now)
        self.moved.update(item.start for item in due)
        return due

    def disturbed(self, numbers, times, pause=65.0):
        """Let somebody move these away so often, each time after a while."""
        left = {}
        for _ in range(times):
            left |= {item.start: item for item in map(move, numbers)}
            for item in self.look(left.values()):
                del left[item.start]
            self.look(left.values())
            self.now += pause

    def settled(self, numbers):
        self.disturbed(numbers, 1)


LIMIT = 1024


def test_a_region_that_came_after_many_others_is_contended_as_well():
    regions = Regions()
    regions.settled(range(1, LIMIT + 1))
    regions.disturbed([0], 60)
    assert regions.moved[move(0).start] <= 7
    assert "1 regions were done again" in regions.contention.message


def test_a_region_is_contended_while_others_never_come_to_their_place():
    regions, stuck = Regions(), [move(number) for number in range(LIMIT)]
    for _ in range(60):
        regions.look([*stuck, move(LIMIT)])
        regions.look(stuck)
        regions.now += 65
    assert regions.moved[move(LIMIT).start] <= 7
    assert regions.contention.message


def test_more_regions_than_are_remembered_are_not_fought_over_for_ever():
    regions = Regions()
    regions.disturbed(range(2000), 60)
    assert regions.moved.total() <= 7 * 2000
    assert max(regions.moved.values()) <= 7
    assert "1024 regions were done again" in regions.contention.message
    assert "976 other regions are left where they are" in regions.contention.message


def test_the_programs_own_policies_are_bounded_in_the_same_way():
    own, contention, taken, now = Policy(Mode.BIND, frozenset({0})), Contention(), 0, 0.0
    steps = [
        Step(rule="r", start=each.start, end=each.end, policy=CXL, previous=own, own=True)
        for each in map(move, range(2000))
    ]
    for _ in range(60):
        may_take = contention.taker(ONE, now)
        due = [step for step in steps if may_take(step)]
        taken += len(due)
        contention.after(ONE, Plan(policies=()), now)
        now += 65
    assert taken <= 7 * 2000
    assert "the program sets another policy" in contention.message
    assert "other regions are left where they are" in contention.message


def test_who_was_disturbed_once_makes_room_after_a_while():
    regions = Regions()
    regions.settled(range(LIMIT))
    regions.disturbed(range(LIMIT), 1)
    assert regions.look([move(LIMIT)]) == ()
    assert regions.contention.message
    regions.now += 600
    assert regions.look([move(LIMIT)]) == (move(LIMIT),)
    assert not regions.contention.message


def test_what_is_remembered_of_a_process_is_bounded():
    regions = Regions()
    for first in range(0, 20 * LIMIT, 3 * LIMIT):
        regions.settled(range(first, first + 3 * LIMIT))
    process = regions.contention._processes[ONE]
    assert len(process.known) == len(regions.contention._flapping._known) == LIMIT
    assert len(process.new) + len(process.open) <= 2 * LIMIT


def test_who_was_quiet_for_longest_makes_room_first():
    regions = Regions()
    regions.settled(range(LIMIT))
    regions.disturbed([0], 1)
    regions.now += 600
    regions.settled([LIMIT])
    regions.disturbed([0], 2)
    assert "done again 3 times" in regions.contention.message
