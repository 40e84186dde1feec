# SPDX-License-Identifier: Apache-2.0
"""What a namespace may have of a tier: who gets the room, in which order, and what is counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.api.objects import parse_tier
from memplace.api.v1alpha1 import PolicySpec, RegionEntry, Rule
from memplace.kinds import Mode, RegionKind
from memplace.limits import Holder, Limited, Word, caps_on, held, is_closed, share_out
from memplace.objects import Common, ObjectId

GRANTED, AWAITED, WITHHELD = Word.GRANTED, Word.AWAITED, Word.WITHHELD
GIB = 1 << 30
CXL = frozenset({1})


def tier(*limits, name="cxl", **spec):
    entries = [{"namespace": ns, "perNode": size} for ns, size in limits]
    made = {"uid": "u", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    spec = {"numaNodes": [1], **spec} | ({"namespaceLimits": entries} if entries else {})
    return parse_tier({"metadata": {"name": name, **made}, "spec": spec})


def caps(*tiers, namespace="team-a", node="n1", labels=None):
    known = {"cxl": CXL, "far": frozenset({2, 3})}
    sizes = {1: 16 * GIB, 2: GIB, 3: GIB}
    found = caps_on(tiers, known, sizes, node, labels or {}).of(namespace)
    return {name: cap.bytes for name, cap in found.items()}


def test_a_namespaces_own_limit_comes_before_that_of_each_other():
    tiers = [tier(("*", "1%"), ("team-a", "25%"))]
    assert caps(*tiers) == {"cxl": 4 * GIB}
    assert caps(*tiers, namespace="team-b") == {"cxl": 16 * GIB // 100}


def test_without_a_limit_there_is_none():
    assert caps(tier()) == caps(tier(("team-b", "1Gi"))) == {}


def test_a_share_is_of_all_numa_nodes_of_the_tier():
    assert caps(tier(("*", "50%"), name="far")) == {"far": GIB}


def test_a_limit_holds_on_the_nodes_of_its_tier():
    named = tier(("*", "1Gi"), nodeNames=["n1"])
    assert caps(named) == {"cxl": GIB} and caps(named, node="n2") == {}
    pool = tier(("*", "1Gi"), nodeSelector={"pool": "x"})
    assert caps(pool) == {} and caps(pool, labels={"pool": "x"}) == {"cxl": GIB}
    assert caps(tier(("*", "1Gi"), name="nowhere")) == {}


def one(name, has=0, needs=0, order=None, **rest):
    return Holder(container=name, order=(order or name,), has=has, needs=needs, **rest)


def shared(limit, *holders, before=None):
    return share_out(limit, holders, CXL, before or {})


def test_who_sorts_first_has_the_room():
    assert shared(10, one("a", 0, 8), one("b", 0, 8)) == {"a": GRANTED, "b": WITHHELD}
    assert shared(10, one("a", 0, 8, order="z"), one("b", 0, 8)) == {"a": WITHHELD, "b": GRANTED}


def test_what_fits_beside_one_that_does_not_is_served():
    found = shared(10, one("a", 0, 20), one("b", 0, 8), one("c", 0, 3))
    assert found == {"a": WITHHELD, "b": GRANTED, "c": WITHHELD}


def test_what_is_there_comes_before_what_is_wanted():
    assert shared(10, one("a", 0, 5), one("b", 8, 0)) == {"a": WITHHELD, "b": GRANTED}


def test_over_the_limit_nobody_is_served_and_at_it_who_needs_nothing():
    assert shared(10, one("a", 11, 0), one("b", 0, 0)) == {"a": WITHHELD, "b": WITHHELD}
    assert shared(10, one("a", 10, 0), one("b", 0, 1)) == {"a": GRANTED, "b": WITHHELD}
    assert shared(0, one("a", 0, 0)) == {"a": WITHHELD}


def test_who_was_refused_has_to_fit_with_a_sixteenth_to_spare():
    def again(has):
        return shared(160, one("a", has, 0), before={"a": WITHHELD})["a"]

    assert [again(has) for has in (161, 151, 150)] == [WITHHELD, WITHHELD, GRANTED]
    assert shared(160, one("a", 151, 0), before={"a": GRANTED}) == {"a": GRANTED}


def test_while_somebody_is_not_known_nobody_begins_and_nobody_ends():
    unknown = one("c", 0, None)
    found = shared(10, one("a", 5, 0), one("b", 1, 0), unknown, before={"b": GRANTED})
    assert found == {"a": AWAITED, "b": GRANTED, "c": AWAITED}
    assert shared(10, one("a", 11, 0), unknown)["a"] is WITHHELD


def test_who_asks_for_nothing_keeps_what_it_has():
    gone = one("a", 8, None, asks=False)
    assert shared(10, gone, one("b", 0, 5)) == {"b": WITHHELD}
    assert shared(10, gone, one("b", 0, 2)) == {"b": GRANTED}


def test_shared_memory_counts_once():
    of = ObjectId(0, 1, 7)
    half = Common("r", of, 0, 100, {0: 3, 1: 50})
    whole = Common("q", of, 0, 100, {1: 50})
    assert held([one("a", 60, commons=(half,)), one("b", 55, commons=(whole,))], CXL) == 65
    other = Common("q", ObjectId(0, 1, 8), 0, 100, {1: 50})
    assert held([one("a", 60, commons=(half,)), one("b", 55, commons=(other,))], CXL) == 115
    # What one container maps twice it has told once already.
    assert held([one("a", 60, commons=(half, half)), one("b", 5)], CXL) == 65


def test_shared_memory_is_moved_once():
    of = Common("r", ObjectId(0, 1, 7), 0, 100, {0: 50})
    both = one("a", 0, 50, commons=(of,)), one("b", 0, 51, commons=(of,))
    assert shared(51, *both) == {"a": GRANTED, "b": GRANTED}
    assert shared(50, *both) == {"a": GRANTED, "b": WITHHELD}


def test_it_is_closed_to_who_comes_when_it_is_full_or_somebody_waits():
    assert is_closed(10, 10, {}) and is_closed(0, 0, {})
    assert is_closed(10, 5, {"a": WITHHELD})
    assert not is_closed(10, 9, {"a": GRANTED, "b": AWAITED})


def rule(*tiers):
    regions = (RegionEntry(type=RegionKind.HEAP),)
    policy = PolicySpec(mode=Mode.PREFERRED_MANY, tiers=tiers)
    return Rule(name="r", regions=regions, policy=policy)


@pytest.mark.parametrize(
    ("tiers", "word"),
    [
        (("dram",), GRANTED),
        (("far",), AWAITED),
        (("dram", "cxl"), WITHHELD),
        (("far", "cxl"), WITHHELD),
    ],
)
def test_a_rule_is_as_its_worst_tier(tiers, word):
    limited = Limited({"cxl": "why"}, frozenset({"far"}))
    assert limited.word(rule(*tiers)) is word
    assert limited.why(rule(*tiers)) == ("why" if word is WITHHELD else "")


sizes = st.integers(0, 40)
holders = st.lists(
    st.builds(
        one,
        st.uuids().map(str),
        sizes,
        st.none() | sizes,
        st.integers(0, 3).map(str),
        asks=st.booleans(),
    ),
    max_size=6,
)


@given(st.integers(0, 100), holders, st.data())
def test_whoever_asks_in_whatever_order_no_more_is_given_out_than_there_is(limit, all_, data):
    before = {each.container: data.draw(st.sampled_from(Word)) for each in all_}
    has = held(all_, CXL)
    words = share_out(limit, all_, CXL, before)
    given_out = sum(each.needs for each in all_ if words.get(each.container) is GRANTED)
    assert given_out <= max(0, limit - has)
    if has > limit or not limit:
        assert set(words.values()) <= {WITHHELD}
    mixed = data.draw(st.permutations(all_))
    if len({each.order for each in all_}) == len(all_):
        assert share_out(limit, mixed, CXL, before) == words
    assert words.keys() == {each.container for each in all_ if each.asks}
