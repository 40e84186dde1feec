# SPDX-License-Identifier: Apache-2.0
"""Who takes turns with memplace, over the looks at a process."""

from hypothesis import given
from hypothesis import strategies as st
from memplace.kinds import Mode, Policy
from memplace.policy import Move, Plan
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
