# SPDX-License-Identifier: Apache-2.0
"""What is undone again and again is said, and not fought."""

from itertools import pairwise

import pytest
from memplace.kinds import Mode, Policy
from memplace_agent.engine.flapping import CONTENDED_AFTER, Cause, Flapping

CXL = Policy(Mode.PREFERRED_MANY, frozenset({1}))
OTHER = Policy(Mode.BIND, frozenset({0}))
DEFAULT = Policy(Mode.DEFAULT)
MIB = 1 << 20


class Passes:
    """A pass every 30 s over one region; what is put right is in place in the next one."""

    def __init__(self):
        self.flapping, self.now, self.acts, self.verdict = Flapping(), 0.0, 0, None
        self.look()

    def look(self, *, found=CXL, misplaced=0, own=True, wanted=CXL):
        self.verdict = self.flapping.see(
            "k",
            wanted=wanted,
            found=found,
            own=own,
            misplaced=misplaced,
            size=64 * MIB,
            now=self.now,
        )
        self.now += 30
        return self.verdict

    def is_calm(self, seconds):
        """Return whether it is so many seconds later."""
        return self.flapping.is_calm("k", self.now + seconds)

    def disturbed(self, passes, **how):
        for _ in range(passes):
            if self.look(**how).act:
                self.acts += 1
                self.look()


@pytest.mark.parametrize(
    ("how", "cause"),
    [({"found": OTHER}, Cause.POLICY), ({"misplaced": 32 * MIB}, Cause.PAGES)],
)
def test_who_takes_turns_is_found_out(how, cause):
    passes = Passes()
    passes.disturbed(40, **how)
    assert CONTENDED_AFTER <= passes.acts <= 6
    assert passes.verdict.contended
    assert passes.verdict.cause is cause
    assert str(cause) in passes.verdict.message


def test_turns_in_no_time_at_all_are_one():
    passes = Passes()
    for _ in range(20):
        passes.now = 0.0
        passes.disturbed(1, misplaced=32 * MIB)
    assert passes.acts <= 1


def test_what_is_being_put_right_is_not_put_off_meanwhile():
    """A move of an hour is one thing to do, however often it is looked at."""
    passes = Passes()
    verdicts = [passes.look(misplaced=(120 - n) * MIB) for n in range(120)]
    assert all(verdict.act for verdict in verdicts)
    assert verdicts[-1].times == 1


def test_a_new_mapping_at_the_same_address_is_no_turn():
    passes = Passes()
    passes.disturbed(40, found=DEFAULT, own=False)
    assert passes.acts == 40
    assert not passes.verdict.contended


def test_a_placement_that_changes_is_no_turn():
    passes = Passes()
    for n in range(20):
        wanted, found = (CXL, OTHER) if n % 2 else (OTHER, CXL)
        assert passes.look(wanted=wanted, found=found).act
        passes.look(wanted=wanted, found=wanted)
    assert passes.verdict.times == 0


def test_what_a_running_program_allocates_is_no_turn():
    passes = Passes()
    passes.disturbed(40, misplaced=MIB // 2)
    assert passes.verdict.times == 0


def test_peace_is_noticed():
    passes = Passes()
    passes.disturbed(40, found=OTHER)
    while passes.verdict.contended:
        passes.look()
        assert passes.now < 6 * 3600
    assert passes.look(found=OTHER).act


def test_delays_grow_and_end():
    passes, begins = Passes(), []
    for _ in range(3000):
        if passes.look(found=OTHER).act:
            begins.append(passes.now)
            passes.look()
    gaps = [b - a for a, b in pairwise(begins)]
    assert gaps == sorted(gaps)
    assert 3600 <= max(gaps) <= 3720


def test_who_takes_turns_is_not_calm_before_it_is_forgotten():
    passes = Passes()
    assert passes.is_calm(0)
    passes.disturbed(1, misplaced=8 * MIB)
    assert not passes.is_calm(500) and passes.is_calm(600)
    passes.disturbed(CONTENDED_AFTER + 10, misplaced=8 * MIB)
    passes.look()
    assert passes.verdict.contended
    assert not passes.is_calm(6000) and passes.is_calm(7300)


def test_what_is_not_in_its_place_is_not_calm():
    passes = Passes()
    passes.look(misplaced=8 * MIB)
    assert not passes.is_calm(6000)
