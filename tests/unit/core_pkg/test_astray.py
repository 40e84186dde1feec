# SPDX-License-Identifier: Apache-2.0
"""What a call has set on something that it was not meant for: another program, another mapping."""

from dataclasses import replace

from memplace.astray import withdraw
from memplace.claim_view import View
from memplace.claims import Change, Process
from memplace.ledger import (
    admit,
)

from tests.unit.core_pkg.ledgers import (
    BIND0,
    CXL,
    DEFAULT,
    ONE,
    OTHER,
    OURS,
    given_back,
    placed,
    seen,
)
from tests.unit.core_pkg.memory import PAGE


def test_what_a_call_set_just_after_exec_is_ours():
    """The claim speaks of the program before; the call has reached the next one."""
    recorded, (late,) = placed(seen(0))
    new = OTHER._replace(former=ONE.image)
    assert given_back(recorded.claim, [late], new) == [DEFAULT]
    # Written down, it needs nobody who has seen the program before.
    admitted = admit(recorded.claim, new)
    assert given_back(admitted, [late], OTHER) == [DEFAULT]
    assert not given_back(recorded.claim, [late], OTHER)


def test_what_the_next_program_sets_in_the_plain_form_is_its_own():
    recorded, _ = placed(seen(0), seen(8, policy=BIND0))
    new = OTHER._replace(former=ONE.image)
    assert {ours.policy for ours in recorded.claim.footprints[0].ours} == {OURS, CXL}
    assert not View(recorded.claim, new).carries(seen(0, policy=CXL))
    assert View(recorded.claim, new).carries(seen(0, policy=OURS))


def test_what_hit_something_else_is_taken_away_and_nothing_but_that():
    process = Process(9, frozenset({0, 1}))
    changes = [
        Change(start=0, end=4 * PAGE, policy=replace(CXL, nodes=frozenset({1, 5}))),
        Change(start=8 * PAGE, end=12 * PAGE, policy=BIND0),
        Change(start=16 * PAGE, end=20 * PAGE, policy=DEFAULT),
    ]
    shown = [
        seen(0, policy=CXL),
        seen(8, policy=replace(BIND0, nodes=frozenset({1}))),
        seen(16, policy=BIND0),
    ]
    none = Change(start=0, end=4 * PAGE, policy=DEFAULT)
    assert withdraw(changes, process, shown) == (none,)
    assert withdraw(changes, process._replace(image=0), shown) == (none,)
    assert withdraw(changes, process, [seen(0)]) == ()
