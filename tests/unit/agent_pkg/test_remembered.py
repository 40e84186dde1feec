# SPDX-License-Identifier: Apache-2.0
"""What is remembered of policies between two looks that tell them."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from memplace.claims import DEFAULT, Change
from memplace.kinds import Mode, Policy, RegionKind
from memplace.regions import Region
from memplace_agent.engine.remembered import Remembered

PAGE = 4096
POLICIES = (DEFAULT, Policy(Mode.BIND, frozenset({0})), Policy(Mode.LOCAL))

changes = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 8), st.sampled_from(POLICIES)).map(
        lambda drawn: Change(
            start=drawn[0] * PAGE,
            end=(drawn[0] + drawn[1]) * PAGE,
            policy=drawn[2],
            page_size=PAGE,
        )
    ),
    max_size=12,
)


@given(st.lists(changes, max_size=3))
def test_each_page_has_what_was_set_on_it_last(rounds):
    remembered, pages = Remembered(), {}
    for batch in rounds:
        remembered = remembered.note(batch)
        for change in batch:
            pages |= dict.fromkeys(range(change.start, change.end, PAGE), change.policy)
    single = [
        Region(start=at, end=at + PAGE, kind=RegionKind.ANONYMOUS)
        for at in range(0, 30 * PAGE, PAGE)
    ]
    found = {r.start: (r.policy, r.own) for r in remembered.recall(single)}
    assert found == {
        r.start: (pages.get(r.start, DEFAULT), pages.get(r.start, DEFAULT) != DEFAULT)
        for r in single
    }
    assert all(a[1] <= b[0] for a, b in zip(remembered.ranges, remembered.ranges[1:], strict=False))


def test_very_many_changes_at_once_take_no_longer_than_they_are_many():
    many = [
        Change(start=at, end=at + PAGE, policy=POLICIES[1], page_size=PAGE)
        for at in range(0, 2 * 30_000 * PAGE, 2 * PAGE)
    ]
    begin = time.thread_time()
    remembered = Remembered().note(many).note(many)
    assert time.thread_time() - begin < 2
    assert len(remembered.ranges) == len(many)
