# SPDX-License-Identifier: Apache-2.0
"""Whatever programs, forks, cpusets and crashes do: what comes back is exactly what was there."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from memplace.claim_view import View
from memplace.claims import Claim
from memplace.forms import form_class
from memplace.kinds import Mode, Policy
from memplace.ledger import admit, claim_for, images_of, prune, record, record_default

from tests.unit.core_pkg.memory import PAGE, REBOUND, Memory, mbind

SIZE = 24
pages = st.integers(0, SIZE - 1)
sizes = st.integers(1, 6)
picks = st.integers(0, 5)
modes = st.sampled_from([*REBOUND, Mode.PREFERRED, Mode.PREFERRED_MANY])
flags = st.sampled_from([(), (), ("static",), ("relative",)])
cpusets = st.sampled_from([{0, 1}, {0, 1, 2}, {1, 2}, {0}, {2, 3}, {0, 3}])
rules = st.sampled_from(
    [(Mode.PREFERRED_MANY, 1), (Mode.PREFERRED_MANY, 0), (Mode.BIND, 1), (Mode.LOCAL, 0)]
)


@dataclass
class Step:
    start: int
    end: int
    policy: Policy


class Container(RuleBasedStateMachine):
    """One container, its programs, its cpuset, and an agent that is killed now and then."""

    @initialize(
        away=st.sampled_from([False, False, False, True]),
        own=st.lists(st.tuples(pages, sizes, modes, flags, picks), max_size=3),
    )
    def begin(self, away, own):
        self.away = away  # whether the agent may miss changes of the cpuset in a row
        self.memory = Memory({0, 1})
        self.claim: Claim = claim_for("c" * 64, ("uid", "ns", "name"), 1.5)
        self.absent = frozenset()  # images that the last census missed
        self.was_whole = True  # it had all processes
        self.missed = 0  # changes of the cpuset that the agent has not seen
        self.lost = False  # two at once: what the kernel made of it can't be computed
        self.memory.map(self.memory.start(), range(SIZE // 2))
        for at, size, mode, flags, node in own:
            self.bind(pick=0, at=at, size=size, mode=mode, flags=flags, node=node)

    def pid(self, pick):
        pids = sorted(self.memory.pages)
        return pids[pick % len(pids)]

    # --- what programs do ---

    @rule(pick=picks, at=pages, size=sizes)
    def map(self, pick, at, size):
        pid = self.pid(pick)
        new = [p for p in range(at, min(SIZE, at + size)) if not self.is_kept(pid, p)]
        self.memory.map(pid, [p for p in new if p not in self.memory.pages[pid]])

    @rule(pick=picks, at=pages, size=sizes)
    def unmap(self, pick, at, size):
        for page in range(at, at + size):
            self.memory.pages[self.pid(pick)].pop(page, None)

    @rule(pick=picks, at=pages, size=sizes, mode=modes, flags=flags, node=st.integers(0, 3))
    def bind(self, *, pick, at, size, mode, flags, node):
        pid, allowed = self.pid(pick), sorted(self.memory.allowed)
        node = node % len(allowed) if "relative" in flags else allowed[node % len(allowed)]
        policy = Policy(mode, frozenset({node}), frozenset(flags))
        # The limit that the ledger states: our own form, after memplace came to use it.
        if form_class(policy) not in self.classes(pid):
            self.memory.bind(pid, range(at, at + size), policy)

    @rule(pick=picks, at=pages, size=sizes)
    def bind_local(self, pick, at, size):
        if Policy(Mode.LOCAL) not in self.classes(self.pid(pick)):
            self.memory.bind(self.pid(pick), range(at, at + size), Policy(Mode.LOCAL))

    @rule(pick=picks, start=pages, size=sizes, to=pages)
    def move(self, pick, start, size, to):
        pid = self.pid(pick)
        spans = {*range(start, start + size), *range(to, to + size)}
        # The other limit: kept ranges do not move along.
        if abs(start - to) >= size and not any(self.is_kept(pid, page) for page in spans):
            self.memory.move(pid, start, size, to)

    @precondition(lambda self: len(self.memory.pages) < 6)
    @rule(pick=picks)
    def fork(self, pick):
        self.memory.fork(self.pid(pick))

    @rule(pick=picks)
    def exec(self, pick):
        self.memory.exec(self.pid(pick))

    @precondition(lambda self: len(self.memory.pages) > 1)
    @rule(pick=picks)
    def end(self, pick):
        self.memory.end(self.pid(pick))

    @rule(allowed=cpusets)
    def change_cpuset(self, allowed):
        if self.missed and not self.away:
            self.look()
        if allowed != self.memory.allowed:
            self.memory.change_cpuset(allowed)
            self.missed += 1
            self.lost = self.lost or self.missed > 1

    # --- what the agent does ---

    @rule(left_out=st.none() | picks)
    def look(self, left_out=None):
        """After each look a census, which may leave a process out, but not twice in a row."""
        for pid in self.memory.pages:
            self.claim = admit(self.claim, self.memory.process(pid))
        self.missed = 0
        found = dict(self.memory.images)
        if left_out is not None and self.was_whole:
            del found[self.pid(left_out)]
        self.was_whole = len(found) == len(self.memory.images)
        self.claim, self.absent = prune(self.claim, found.values(), self.absent)

    @rule(pick=picks, wanted=rules, override=st.booleans(), at=pages, size=sizes, stop=picks)
    def place(self, *, pick, wanted, override, at, size, stop):
        self.look()
        pid = self.pid(pick)
        policy = self.policy(wanted)
        view = View(self.claim, self.memory.process(pid))
        steps = [
            Step(max(r.start, at * PAGE), min(r.end, (at + size) * PAGE), policy)
            for r in self.memory.regions(pid)
            if override or not r.own or view.carries(r)
        ]
        recorded = record(
            self.claim,
            self.memory.process(pid),
            [step for step in steps if step.start < step.end],
            self.memory.regions(pid),
            self.relatives(pid),
        )
        self.claim = recorded.claim
        for change in recorded.changes[: stop if stop < 3 else None]:
            assert change.policy != Policy(Mode.DEFAULT)
            self.set(pid, change)
            if stop == 1 and len(self.memory.pages) < 6:
                self.memory.fork(pid)

    @rule(pick=picks, wanted=rules)
    def place_to_come(self, pick, wanted):
        self.look()
        pid = self.pid(pick)
        process = self.memory.process(pid)
        if process.future is None or View(self.claim, process).default_is_ours:
            self.claim, form = record_default(
                self.claim,
                process,
                self.policy(wanted),
                self.memory.regions(pid),
                self.relatives(pid),
            )
            if form is not None:
                self.memory.set_future(pid, form)

    @rule(pick=picks, at=pages)
    def withdraw(self, pick, at):
        self.look()
        pid = self.pid(pick)
        self.give_back(pid, [r for r in self.memory.regions(pid) if at <= r.start // PAGE])

    @rule()
    def restart(self):
        text = msgspec.json.encode(self.claim)
        read = msgspec.json.decode(text, type=Claim)
        assert read == self.claim
        self.claim = read

    # --- what holds ---

    @invariant()
    def nothing_of_the_programs_is_ours(self):
        for pid, mapped in self.memory.pages.items():
            view = View(self.claim, self.memory.process(pid))
            carried = {
                page
                for region in self.memory.regions(pid)
                for start, end, _ in view.parts(region)
                for page in range(start // PAGE, end // PAGE)
            }
            ours = {page for page, state in mapped.items() if state.ours}
            assert carried <= ours
            if not self.lost and self.missed <= 1:
                assert carried == ours

    @invariant()
    def a_fork_needs_no_record(self):
        images = set(self.memory.images.values())
        live, _ = prune(self.claim, images, images_of(self.claim))
        assert images_of(live) <= images

    def teardown(self):
        if not hasattr(self, "memory"):
            return
        self.look()
        for pid in tuple(self.memory.pages):
            if View(self.claim, self.memory.process(pid)).default_is_ours:
                self.memory.futures[pid] = None
            self.give_back(pid, self.memory.regions(pid))
        for pid, mapped in self.memory.pages.items():
            view = View(self.claim, self.memory.process(pid))
            assert not view.release(self.memory.regions(pid))
            assert self.lost or not any(page.ours for page in mapped.values())
            for page in mapped.values():
                assert page.ours or shown(page.policy) == shown(page.truth)

    # --- helpers ---

    def set(self, pid, change):
        """Where a rule wants what was there before, memplace has nothing there any more."""
        for page in range(change.start // PAGE, change.end // PAGE):
            was = self.memory.pages[pid][page]
            back = was.ours and shown(was.truth) == change.policy
            span = page * PAGE, (page + 1) * PAGE
            self.memory.set(pid, *span, change.policy, ours=not back)

    def give_back(self, pid, regions):
        view = View(self.claim, self.memory.process(pid))
        for change in view.release(regions):
            for page in range(change.start // PAGE, change.end // PAGE):
                was = self.memory.pages[pid][page].truth
                now = mbind(change.policy, self.memory.allowed)
                assert self.lost or shown(now) == self.as_it_can_be(was)
            self.memory.set(pid, change.start, change.end, change.policy, ours=False)

    def policy(self, wanted):
        mode, node = wanted
        allowed = sorted(self.memory.allowed)
        return Policy(
            mode, frozenset({allowed[node % len(allowed)]}) if mode.takes_nodes else frozenset()
        )

    def relatives(self, pid):
        images = self.memory.images
        others = (p for p in images if p != pid and images[p] == images[pid])
        return [region for other in others for region in self.memory.regions(other)]

    def footprint(self, pid):
        image = self.memory.images[pid]
        return next((f for f in self.claim.footprints if image in f.images), None)

    def classes(self, pid):
        found = self.footprint(pid)
        entries = [*found.ours, *(kept.ours for kept in found.kept)] if found else []
        if found is None and self.memory.futures[pid]:  # before the first look at an image
            entries += self.claim.defaults
        return {form_class(ours.policy) for ours in entries}

    def is_kept(self, pid, page):
        found = self.footprint(pid)
        kept = found.kept if found else ()
        return any(k.start <= page * PAGE < k.end for k in kept)

    def as_it_can_be(self, truth):
        """A policy none of whose nodes may be used any more can't be set again."""
        policy = shown(truth)
        if not policy.mode.takes_nodes:
            return policy
        nodes = policy.nodes & self.memory.allowed
        return Policy(policy.mode, nodes, policy.flags) if nodes else Policy(Mode.DEFAULT)


def shown(policy):
    return policy.shown if policy else Policy(Mode.DEFAULT)


TestContainer = Container.TestCase
TestContainer.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
