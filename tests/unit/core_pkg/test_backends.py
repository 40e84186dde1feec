# SPDX-License-Identifier: Apache-2.0
"""What a placement gets where not everything can be done."""

import pytest
from memplace.api.v1alpha1 import LabelSelector, PlacementSpec
from memplace.backends import Act, act_for, act_of, within
from memplace.kinds import Capability, Enforcement, Mode, OnUnsupported, Policy, RegionKind
from memplace.policy import Move, Plan, RuleResult, Step
from memplace.regions import Region
from msgspec.structs import replace

C, ASKED = Capability, OnUnsupported
NOTHING: set[Capability] = set()
OBSERVE, MOVE = {C.MEASURES}, {C.MEASURES, C.MOVES}
INJECT, MBIND = MOVE | {C.POLICIES}, set(C)


@pytest.mark.parametrize(
    ("can", "fail", "best_effort", "observe"),
    [
        (NOTHING, Act.LEAVE, Act.LEAVE, Act.LEAVE),
        (OBSERVE, Act.LEAVE, Act.OBSERVE, Act.OBSERVE),
        (MOVE, Act.LEAVE, Act.MOVE, Act.OBSERVE),
        (INJECT, Act.PLACE, Act.PLACE, Act.PLACE),
        (MBIND, Act.PLACE, Act.PLACE, Act.PLACE),
    ],
)
def test_what_is_done(can, fail, best_effort, observe):
    found = [act_of(asked, can) for asked in (ASKED.FAIL, ASKED.BEST_EFFORT, ASKED.OBSERVE)]
    assert found == [fail, best_effort, observe]


def test_who_says_nothing_asks_for_nothing_by_halves():
    assert PlacementSpec(LabelSelector(), ()).unsupported is ASKED.FAIL


@pytest.mark.parametrize(
    ("can", "asked", "act"),
    [
        (MBIND, ASKED.FAIL, Act.PAUSE),
        (MOVE, ASKED.BEST_EFFORT, Act.PAUSE),
        (OBSERVE, ASKED.OBSERVE, Act.PAUSE),
        (MOVE, ASKED.FAIL, Act.LEAVE),
        (NOTHING, ASKED.OBSERVE, Act.LEAVE),
    ],
)
def test_what_is_paused_is_measured_where_anything_is_done(can, asked, act):
    spec = PlacementSpec(LabelSelector(), (), on_unsupported=asked, paused=True)
    assert act_for(spec, can) is act and not act.changes
    dry = replace(spec, mode=Enforcement.DRY_RUN)
    assert act_for(dry, can) is act and not dry.gives_back
    trying = replace(dry, paused=False)
    assert act_for(trying, can) is (act if act is Act.LEAVE else Act.TRY) and trying.gives_back
    running = PlacementSpec(LabelSelector(), (), on_unsupported=asked)
    assert act_for(running, can) is act_of(asked, can)


CXL = Policy(Mode.PREFERRED_MANY, frozenset({1}))
STEP = Step(rule="r", start=0, end=4096, policy=CXL, previous=Policy(Mode.DEFAULT))
MOVES = Move(rule="r", start=0, end=4096, nodes=CXL.nodes, policy=CXL, move_all=True, bytes=4096)
RESULT = RuleResult(rule="r", bytes=4096, numa_bytes={0: 4096}, misplaced_bytes=4096)
OLD = Region(start=0, end=4096, kind=RegionKind.BRK)
WHOLE = Plan(policies=(STEP,), moves=(MOVES,), rules=(RESULT,), released=(OLD,))


@pytest.mark.parametrize(
    ("act", "policies", "moves", "released"),
    [
        (Act.PLACE, 1, 1, 1),
        (Act.MOVE, 0, 1, 0),
        (Act.OBSERVE, 0, 0, 0),
        (Act.PAUSE, 0, 0, 0),
        (Act.TRY, 0, 0, 0),
    ],
)
def test_a_plan_is_done_as_far_as_that_goes(act, policies, moves, released):
    done = within(act, WHOLE)
    assert [len(done.policies), len(done.moves), len(done.released)] == [policies, moves, released]
    assert done.rules == WHOLE.rules
    assert done.is_done is not act.changes
