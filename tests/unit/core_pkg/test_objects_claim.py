# SPDX-License-Identifier: Apache-2.0
"""What was done to an object comes back through any mapping, whatever that was given before.

The object here is the kernel's: ranges with policies, and mappings that remember what they were
given and do not give it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from memplace.claims import DEFAULT
from memplace.kinds import Mode, Policy, RegionKind
from memplace.ledger import claim_for
from memplace.objects import ObjectId, claim_name, object_of
from memplace.objects_claim import located, prepare, release, view_of
from memplace.policy import Step
from memplace.regions import Region

PAGE = 4096
FILE = ObjectId(0, 1, 77)
NODES = st.frozensets(st.integers(0, 3), min_size=1)
WITH_NODES = st.builds(
    Policy,
    st.sampled_from([Mode.BIND, Mode.PREFERRED_MANY, Mode.INTERLEAVE]),
    NODES,
    st.sampled_from([frozenset[str](), frozenset({"static"})]),
)
POLICIES = st.one_of(
    WITH_NODES,
    NODES.map(lambda nodes: Policy(Mode.PREFERRED, frozenset({min(nodes)}))),
    st.just(Policy(Mode.LOCAL)),
)
WANTED = POLICIES.map(lambda policy: replace(policy, flags=frozenset()))


@dataclass
class Kernel:
    """An object of 8 pages, and per mapping of all of it what each page was given."""

    pages: list[Policy] = field(default_factory=lambda: [DEFAULT] * 8)
    given: dict[int, list[Policy]] = field(default_factory=dict)

    def map(self, at):
        self.given[at] = [DEFAULT] * 8

    def call(self, at, changes):
        for change in changes:
            first, last = ((where - at) // PAGE for where in (change.start, change.end))
            for page in range(first, last):
                if self.given[at][page] != change.policy:
                    self.given[at][page] = self.pages[page] = change.policy

    def regions(self, at):
        # Mappings are cut where they were given another policy.
        mapped = self.given[at]
        cuts = [0, *(n for n in range(1, 8) if mapped[n] != mapped[n - 1]), 8]
        return [
            Region(
                start=at + low * PAGE,
                end=at + high * PAGE,
                kind=RegionKind.SHARED,
                shared=True,
                policy=self.pages[low],
                own=self.pages[low] != DEFAULT,
                object=FILE,
                offset=low * PAGE,
            )
            for low, high in pairwise(cuts)
        ]


def steps(regions, policy):
    return [
        Step(rule="r", start=r.start, end=r.end, policy=policy, previous=r.policy, own=r.own)
        for r in regions
    ]


def act(kernel, claim, at, policy):
    regions = kernel.regions(at)
    claim, way = prepare(claim, steps(regions, policy), regions)
    kernel.call(at, way.first)
    kernel.call(at, way.then)
    return claim, way


def undo(kernel, claim, at):
    way = release(claim, kernel.regions(at))
    kernel.call(at, way.first)
    kernel.call(at, way.then)


def new_claim():
    return claim_for(claim_name(FILE), ("u", "ns", "mp"), 0.0)


@given(st.one_of(st.none(), POLICIES), st.lists(WANTED, min_size=1, max_size=4), st.data())
def test_whatever_is_set_through_whomever_comes_back_through_anybody(had, wanted, data):
    kernel, claim = Kernel(), new_claim()
    for at in (1 << 20, 2 << 20, 3 << 20):
        kernel.map(at)
    which = st.sampled_from(sorted(kernel.given))
    if had is not None:
        kernel.pages = [had] * 8
    before = list(kernel.pages)
    for policy in wanted:
        at = data.draw(which)
        claim, way = act(kernel, claim, at, policy)
        if not way.refused and any(change.policy for change in way.then):
            shown = [view_of(claim).policy(located(r)) for r in kernel.regions(at)]
            assert all(replace(p, flags=frozenset()) == policy for p in shown)
        if data.draw(st.booleans()):
            undo(kernel, claim, data.draw(which))
            assert kernel.pages == before
    last = data.draw(which)
    undo(kernel, claim, last)
    assert kernel.pages == before
    assert not release(claim, kernel.regions(last)).then


@given(st.one_of(st.none(), POLICIES), WANTED, st.integers(0, 4), st.data())
def test_a_crash_between_any_two_calls_leaves_nothing(had, policy, done, data):
    kernel, claim = Kernel(), new_claim()
    kernel.map(1 << 20)
    kernel.map(2 << 20)
    kernel.pages = [had or DEFAULT] * 8
    before = list(kernel.pages)
    regions = kernel.regions(1 << 20)
    claim, way = prepare(claim, steps(regions, policy), regions)
    for change in (*way.first, *way.then)[:done]:
        kernel.call(1 << 20, [change])
    undo(kernel, claim, data.draw(st.sampled_from([1 << 20, 2 << 20])))
    assert kernel.pages == before


@given(st.builds(ObjectId, *[st.integers(0, 1 << 40)] * 3, st.booleans()))
def test_a_claim_has_its_objects_name(one):
    assert object_of(claim_name(one)) == one


def test_containers_are_no_objects():
    for name in ("a" * 64, "object-", "object-0.1", "object-0.1.2.v3", "xobject-0.1.2"):
        assert object_of(name) is None
