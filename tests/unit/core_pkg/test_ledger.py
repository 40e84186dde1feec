# SPDX-License-Identifier: Apache-2.0
"""The ledger, case by case; what holds always is in test_ledger_properties.py."""

from dataclasses import replace

import pytest
from memplace.claim_view import View
from memplace.claims import Footprint, Process
from memplace.forms import MAX_KEPT, MAX_OURS
from memplace.kinds import Mode, Policy
from memplace.ledger import (
    admit,
    images_of,
    prune,
    record,
    record_default,
    record_newborn,
)
from memplace.nodes import parse_cut_nodes

from tests.unit.core_pkg.ledgers import (
    BIND0,
    BIND1,
    BOTH,
    CXL,
    DEFAULT,
    EMPTY,
    ONE,
    OTHER,
    OURS,
    Step,
    given_back,
    placed,
    seen,
)
from tests.unit.core_pkg.memory import PAGE


def gone_from(claim, live):
    """The claim once two looks in a row have seen these images."""
    _, missed = prune(claim, live, ())
    return prune(claim, live, missed)[0]


def test_a_typical_program_is_remembered_by_one_policy():
    heap = [seen(at) for at in range(0, 4000, 8)]
    recorded, after = placed(*heap)
    (footprint,) = recorded.claim.footprints
    assert [ours.policy for ours in footprint.ours] == [OURS]
    assert not footprint.kept
    assert all(View(recorded.claim, ONE).carries(region) for region in after)
    assert given_back(recorded.claim, after) == [DEFAULT] * 500


def test_rules_see_a_policy_without_its_form():
    recorded, (after,) = placed(seen(0))
    view = View(recorded.claim, ONE)
    assert after.policy == OURS
    assert view.policy(after) == CXL
    assert view.policy(seen(8, policy=BIND0)) == BIND0


def test_rules_see_each_of_two_policies_as_it_is():
    first, (cxl,) = placed(seen(0))
    second, (bound,) = placed(seen(8), claim=first.claim, policy=BIND0)
    view = View(second.claim, ONE)
    assert [view.spelt(region) for region in (cxl, bound, cxl, bound)] == [CXL, BIND0] * 2
    assert view.spelt(seen(16)) is None


def test_planning_the_same_again_writes_nothing():
    recorded, after = placed(seen(0))
    again, _ = placed(*after, claim=recorded.claim)
    assert again.claim is recorded.claim
    assert admit(recorded.claim, ONE) is recorded.claim


def test_a_fork_needs_no_record_and_is_known():
    recorded, after = placed(seen(0))
    assert admit(recorded.claim, ONE) is recorded.claim  # the child: the same image
    assert given_back(recorded.claim, after) == [DEFAULT]


def test_after_exec_a_policy_is_the_programs():
    recorded, _ = placed(seen(0))
    assert not View(recorded.claim, OTHER).carries(seen(0, policy=OURS))
    assert not View(recorded.claim, Process(0, BOTH)).carries(seen(0, policy=OURS))
    assert gone_from(recorded.claim, {OTHER.image}).is_empty


def test_nothing_is_recorded_of_a_process_that_cannot_be_told_apart():
    with pytest.raises(ValueError, match="image"):
        record(EMPTY, Process(0, BOTH), [], [])
    with pytest.raises(ValueError, match="image"):
        record_default(EMPTY, Process(0, BOTH), CXL)


def test_a_policy_of_our_mode_and_nodes_stays_the_programs():
    mine = seen(8, policy=CXL)
    recorded = record(EMPTY, ONE, [Step(0, 4 * PAGE)], [seen(0), mine])
    assert not View(recorded.claim, ONE).carries(mine)
    assert View(recorded.claim, ONE).carries(seen(0, policy=OURS))


def test_a_program_that_uses_static_itself_leaves_the_plain_form():
    mine = seen(8, policy=OURS)
    recorded = record(EMPTY, ONE, [Step(0, 4 * PAGE)], [seen(0), mine])
    assert [c.policy for c in recorded.changes] == [CXL]
    assert not View(recorded.claim, ONE).carries(mine)
    assert View(recorded.claim, ONE).carries(seen(0, policy=CXL))


def test_a_program_that_uses_both_forms_is_remembered_by_range():
    own = [seen(8, policy=OURS), seen(16, policy=CXL)]
    recorded = record(EMPTY, ONE, [Step(0, 4 * PAGE)], [seen(0), *own])
    view = View(recorded.claim, ONE)
    assert [view.carries(region) for region in own] == [False, False]
    # The kernel merges ours with the program's neighbour: only our part comes back.
    merged = seen(0, 12, policy=OURS)
    assert [(c.start, c.end) for c in view.release([merged])] == [(0, 4 * PAGE)]


def test_what_a_relative_uses_is_not_ours_either():
    theirs = seen(40, policy=OURS)
    recorded, _ = placed(seen(0), relatives=[theirs])
    assert not View(recorded.claim, ONE).carries(theirs)


def test_moving_pages_of_a_mapping_that_has_the_policy_itself_is_no_change():
    recorded, after = placed(seen(0, policy=CXL))
    assert not recorded.changes
    assert not after
    assert given_back(recorded.claim, [seen(0, policy=CXL)]) == []


def test_a_policy_set_beneath_an_equal_policy_of_the_task_is_taken_away_again():
    recorded, after = placed(seen(0, policy=CXL, own=False))
    assert given_back(recorded.claim, after) == [DEFAULT]


def test_a_changed_cpuset_does_not_take_a_programs_own_policy():
    mine = seen(8, policy=BIND0)
    recorded = record(EMPTY, ONE, [Step(0, 4 * PAGE, BIND1)], [seen(0), mine])
    wide = ONE._replace(allowed=frozenset({0, 1, 2}))
    claim = admit(recorded.claim, wide)
    assert given_back(claim, [mine], wide) == []
    assert not View(claim, wide).carries(mine)


@pytest.mark.parametrize("agent_saw_it", [True, False])
def test_after_a_change_of_the_cpuset_ours_is_what_the_kernel_makes_of_it(agent_saw_it):
    taken = seen(8, policy=replace(BIND0, flags=frozenset({"static"})))
    recorded = record(EMPTY, ONE, [Step(0, 4 * PAGE, BIND1)], [seen(0), taken])
    assert [c.policy for c in recorded.changes] == [BIND1]  # plain: the kernel translates it
    now = ONE._replace(allowed=frozenset({0, 2}))
    claim = admit(recorded.claim, now) if agent_saw_it else recorded.claim
    moved = seen(0, policy=Policy(Mode.BIND, frozenset({2})))
    assert View(claim, now).carries(moved)
    assert not View(claim, now).carries(seen(0, policy=BIND1))
    assert given_back(claim, [moved], now) == [DEFAULT]


def test_what_a_mapping_had_before_moves_along_with_mremap():
    recorded, (after,) = placed(seen(0, policy=BIND0))
    assert given_back(recorded.claim, [replace(after, start=90 * PAGE, end=94 * PAGE)]) == [BIND0]


def test_undo_does_not_give_an_old_policy_to_a_new_mapping():
    claim, form = record_default(EMPTY, ONE, CXL)
    assert form is not None
    recorded, (after,) = placed(seen(0, policy=BIND0), claim=claim)
    new = replace(after, policy=form)  # at the same place, with the default for mappings to come
    assert given_back(recorded.claim, [new]) == [DEFAULT]
    assert given_back(recorded.claim, [after]) == [BIND0]


def test_ours_in_place_of_ours_remembers_what_was_there_first():
    recorded, after = placed(seen(0), seen(8, policy=BIND0))
    local, after = placed(*after, claim=recorded.claim, policy=Policy(Mode.INTERLEAVE, BOTH))
    assert given_back(local.claim, after) == [DEFAULT, BIND0]


def test_a_second_previous_policy_is_remembered_by_range():
    recorded, after = placed(seen(0, policy=BIND0), seen(8, policy=BIND1), seen(16))
    assert given_back(recorded.claim, after) == [BIND0, BIND1, DEFAULT]
    (footprint,) = recorded.claim.footprints
    assert len(footprint.kept) == 1


def test_two_meanings_never_come_to_look_alike():
    local = Policy(Mode.LOCAL)
    first, (one,) = placed(seen(0, policy=local), policy=BIND0)
    second, (two,) = placed(seen(8, policy=CXL), policy=BIND1, claim=first.claim)
    assert (one.policy.flags, two.policy.flags) == (frozenset(), frozenset({"static"}))
    # With one form for the two, a cpuset of one node would make both of them bind:1.
    narrow = ONE._replace(allowed=frozenset({1}))
    after = [replace(one, policy=BIND1), two]
    assert given_back(second.claim, after, narrow) == [local, CXL]


def test_the_default_policy_can_override_too():
    recorded, (after,) = placed(seen(0, policy=BIND0), policy=DEFAULT)
    after = replace(after, own=False)
    assert given_back(recorded.claim, [after]) == [BIND0]
    unchanged, _ = placed(seen(0), policy=DEFAULT)
    assert not unchanged.changes


def test_a_home_node_is_given_back():
    home = replace(BIND0, home_node=0)
    recorded, after = placed(seen(0, policy=home))
    assert given_back(recorded.claim, after) == [home]


def test_what_differs_from_what_is_wanted_by_its_home_node_alone_is_left():
    recorded, _ = placed(seen(0, policy=replace(BIND0, home_node=0)), policy=BIND0)
    assert not recorded.changes and not recorded.refused


def test_a_policy_whose_text_is_cut_off_is_known_again():
    nodes = frozenset(range(1, 60, 2))
    process = Process(7, frozenset(range(61)))
    policy = Policy(Mode.PREFERRED_MANY, nodes)
    recorded, (after,) = placed(seen(0), policy=policy, process=process)
    text = ",".join(map(str, sorted(nodes)))[:40]
    cut = replace(
        after,
        policy=Policy(Mode.PREFERRED_MANY, parse_cut_nodes(text), frozenset({"static"})),
        policy_is_whole=False,
    )
    view = View(recorded.claim, process)
    assert view.policy(cut) == policy
    assert given_back(recorded.claim, [cut], process) == [DEFAULT]
    others = [
        replace(cut, policy=replace(cut.policy, nodes=cut.policy.nodes | {2})),
        replace(cut, policy=replace(cut.policy, flags=frozenset())),
        replace(cut, policy=replace(cut.policy, mode=Mode.BIND)),
    ]
    assert not any(view.carries(other) for other in others)


def test_a_relative_policy_is_not_overridden():
    """What the kernel would make of it after a change of the cpuset can't be told."""
    relative = replace(BIND0, flags=frozenset({"relative"}))
    recorded, after = placed(seen(0, policy=relative), seen(8))
    assert [r.reason for r in recorded.refused] == ["RelativePolicy"]
    assert [region.start for region in after] == [8 * PAGE]


def test_a_policy_that_cannot_be_read_is_not_overridden():
    recorded, after = placed(seen(0, policy=BIND0, policy_is_whole=False), seen(8))
    assert [r.reason for r in recorded.refused] == ["PolicyCutOff"]
    assert [region.start for region in after] == [8 * PAGE]


def test_a_step_over_several_mappings_remembers_each():
    regions = [seen(0), seen(4, policy=BIND0), seen(8, 4)]
    recorded = record(EMPTY, ONE, [Step(2 * PAGE, 10 * PAGE)], regions)
    made = [(c.start // PAGE, c.end // PAGE, c.policy) for c in recorded.changes]
    assert made == [(2, 4, OURS), (4, 8, CXL), (8, 10, OURS)]


def test_mappings_to_come_survive_exec_and_are_written_down_before_the_default_goes():
    claim, form = record_default(EMPTY, ONE, CXL)
    assert form == OURS
    child = Process(OTHER.image, BOTH, future=form)  # MPOL_MF_FUTURE_EXEC
    mapped = seen(0, policy=form)
    assert View(claim, child).default_is_ours
    assert View(claim, child).carries(mapped)
    claim = admit(claim, child)
    gone = child._replace(future=None)  # undo was cut off behind the first call
    assert not View(claim, gone).default_is_ours
    assert given_back(claim, [mapped], gone) == [DEFAULT]


def test_a_default_that_the_program_set_is_not_ours():
    claim, _ = record_default(EMPTY, ONE, CXL)
    theirs = Process(OTHER.image, BOTH, future=CXL)
    assert not View(claim, theirs).default_is_ours
    assert not View(claim, theirs).carries(seen(0, policy=CXL))


def test_no_default_that_could_not_be_told_from_the_programs_own():
    own = [seen(8, policy=OURS), seen(16, policy=CXL)]
    claim, form = record_default(EMPTY, ONE, CXL, own)
    assert form is None
    assert claim is EMPTY


def test_programs_that_look_alike_share_a_footprint():
    claim = EMPTY
    for image in range(1, 200):
        claim = placed(seen(0), claim=claim, process=Process(image, BOTH))[0].claim
    (footprint,) = claim.footprints
    assert footprint.images == frozenset(range(1, 200))
    assert gone_from(claim, {5}).footprints == (replace(footprint, images=frozenset({5})),)
    assert gone_from(claim, {5, 900}) == gone_from(claim, {5})
    assert gone_from(claim, {900}).is_empty


def test_an_image_is_forgotten_when_it_was_missed_twice_in_a_row():
    claim = EMPTY
    for image in (1, 2, 3):
        claim = placed(seen(0), claim=claim, process=Process(image, BOTH))[0].claim
    once, missed = prune(claim, {1}, ())
    assert once is claim and missed == {2, 3}
    # One of them was left out, and is there again: it counts anew.
    twice, missed = prune(once, {1, 2}, missed)
    assert images_of(twice) == {1, 2} and not missed
    again, missed = prune(twice, {1}, missed)
    assert again is twice and missed == {2}
    assert images_of(prune(again, {1}, missed)[0]) == {1}


def test_what_came_after_the_last_time_was_not_missed_then():
    claim = placed(seen(0), process=Process(1, BOTH))[0].claim
    _, missed = prune(claim, {7}, ())
    claim = placed(seen(0), claim=claim, process=Process(2, BOTH))[0].claim
    left, missed = prune(claim, {7}, missed)
    assert images_of(left) == {2} == missed


def test_defaults_hang_on_no_image_and_stay():
    claim, _ = record_default(EMPTY, ONE, CXL)
    left = gone_from(claim, {900})
    assert not left.footprints and left.defaults == claim.defaults


def test_what_one_program_can_make_the_agent_remember_is_bounded():
    many = [seen(at, 1, policy=BIND1) for at in range(0, 2 * MAX_KEPT + 10, 2)]
    recorded = record(EMPTY, ONE, [Step(r.start, r.end, BIND0) for r in many], many)
    (footprint,) = recorded.claim.footprints
    assert len(footprint.kept) == len(recorded.changes) == MAX_KEPT
    assert [refused.reason for refused in recorded.refused] == ["TooManyExceptions"] * 5


def test_how_often_a_rule_changes_is_bounded_too():
    process, claim = Process(9, frozenset(range(1000))), EMPTY
    for node in range(MAX_OURS + 1):
        step = Step(0, PAGE, Policy(Mode.BIND, frozenset({node})))
        recorded = record(claim, process, [step], [seen(0)])
        claim = recorded.claim
    assert [refused.reason for refused in recorded.refused] == ["TooManyPolicies"]


def test_a_place_that_a_relative_remembers_otherwise_is_refused():
    recorded, _ = placed(seen(0, policy=BIND1), policy=DEFAULT)
    other, _ = placed(seen(0, policy=BIND0), claim=recorded.claim, policy=DEFAULT)
    assert [r.reason for r in other.refused] == ["ExceptionsAmbiguous"]
    assert given_back(other.claim, [seen(0)]) == [BIND1]


def test_a_range_is_not_kept_where_a_relative_set_the_same_itself():
    local = Policy(Mode.LOCAL)
    theirs = seen(0, policy=local)
    recorded, _ = placed(seen(0), seen(8), relatives=[theirs], policy=local)
    assert [(r.start, r.reason) for r in recorded.refused] == [(0, "ExceptionsAmbiguous")]
    assert not View(recorded.claim, ONE).carries(theirs)
    without, _ = placed(seen(0, policy=BIND0), relatives=[seen(2)], policy=DEFAULT)
    assert [r.reason for r in without.refused] == ["ExceptionsAmbiguous"]


def test_an_image_without_anything_done_takes_no_room():
    assert admit(EMPTY, ONE) is EMPTY
    assert Footprint().images == frozenset()


def test_the_default_of_a_birth_is_ours_in_programs_nobody_has_seen():
    claim, form = record_newborn(EMPTY, CXL, BOTH)
    assert form.flags == {"static"} and not claim.footprints
    program = Process(7, frozenset({1}), form, form)  # the runtime has set a cpuset meanwhile
    born = admit(claim, program)
    assert View(born, program).default_is_ours
    assert find_ours(born, 7) == {form}


def test_it_is_in_the_claim_once_whatever_cpuset_it_was_set_under():
    claim, form = record_newborn(EMPTY, CXL, BOTH)
    again, same = record_newborn(claim, CXL, frozenset({1}))
    assert again == claim and same == form


def test_the_default_policy_is_no_default_of_a_birth():
    with pytest.raises(ValueError, match="no default"):
        record_newborn(EMPTY, DEFAULT, BOTH)


def find_ours(claim, image):
    (footprint,) = [each for each in claim.footprints if image in each.images]
    return {ours.policy for ours in footprint.ours}
