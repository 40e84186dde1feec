# SPDX-License-Identifier: Apache-2.0
"""Processes whose memory has policies as the kernel keeps them, and the truth beside it.

Each page knows what policy it would have had memplace never come (`truth`): it goes through
the same changes of the cpuset. What the kernel does is written down here a second time, from
linux mm/mempolicy.c and lib/bitmap.c, and not taken from what is tested.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

from memplace.claims import Process
from memplace.kinds import Mode, Policy

PAGE = 4096
REBOUND = (Mode.BIND, Mode.INTERLEAVE, Mode.WEIGHTED_INTERLEAVE)


@dataclass(frozen=True)
class Kernel:
    """struct mempolicy: `user` is w.user_nodemask, `cpuset` is w.cpuset_mems_allowed."""

    mode: Mode
    nodes: frozenset[int]
    flags: frozenset[str]
    user: frozenset[int]
    cpuset: frozenset[int]

    @property
    def shown(self) -> Policy:
        return Policy(self.mode, self.nodes, self.flags)


def onto(places, allowed):
    ordered = sorted(allowed)
    return frozenset(ordered[place % len(ordered)] for place in places)


def mbind(policy: Policy, allowed) -> Kernel | None:
    """mpol_new() and mpol_set_nodemask(); None is no policy."""
    if policy.mode is Mode.DEFAULT:
        return None
    nodes = policy.nodes & allowed
    if "relative" in policy.flags:
        nodes = onto(policy.nodes, allowed)
    assert nodes or policy.mode is Mode.LOCAL, f"EINVAL: {policy} under {set(allowed)}"
    if policy.mode is Mode.PREFERRED:
        nodes = frozenset({min(nodes)})
    return Kernel(policy.mode, nodes, policy.flags, policy.nodes, allowed)


def readable(policy: Kernel | None) -> Kernel | None:
    """What can be known of a policy: the kernel shows its nodes, and not what was asked for."""
    if policy is None or policy.mode is Mode.LOCAL:
        return policy
    ordered = sorted(policy.cpuset)
    places = frozenset(ordered.index(node) for node in policy.nodes if node in policy.cpuset)
    return replace(policy, user=places if "relative" in policy.flags else policy.nodes)


def rebound(policy: Kernel | None, new) -> Kernel | None:
    """mpol_rebind_policy()."""
    if policy is None:
        return None
    policy, before = replace(policy, cpuset=new), policy.cpuset
    if policy.mode not in REBOUND:
        return policy
    if "static" in policy.flags:
        nodes = policy.user & new
    elif "relative" in policy.flags:
        nodes = onto(policy.user, new)
    else:
        old = sorted(before)
        nodes = frozenset(
            sorted(new)[old.index(n) % len(new)] if n in old else n for n in policy.nodes
        )
    return replace(policy, nodes=nodes or new)


@dataclass(frozen=True)
class Page:
    policy: Kernel | None = None
    truth: Kernel | None = None
    ours: bool = False


@dataclass(frozen=True)
class Seen:
    """A mapping as it is read."""

    start: int
    end: int
    policy: Policy = field(default_factory=lambda: Policy(Mode.DEFAULT))
    own: bool = True
    policy_is_whole: bool = True
    page_size: int = PAGE


class Memory:
    """The processes of one container; addresses are numbers of pages."""

    def __init__(self, allowed) -> None:
        self.allowed = frozenset(allowed)
        self.numbers = itertools.count(1)
        self.images: dict[int, int] = {}
        self.futures: dict[int, Kernel | None] = {}
        self.pages: dict[int, dict[int, Page]] = {}

    def start(self, future: Kernel | None = None) -> int:
        pid = next(self.numbers)
        self.pages[pid] = {}
        self.futures[pid] = future
        self.images[pid] = 1000 + next(self.numbers)
        return pid

    def fork(self, parent: int) -> int:
        pid = next(self.numbers)
        self.pages[pid] = dict(self.pages[parent])
        self.futures[pid] = self.futures[parent]
        self.images[pid] = self.images[parent]
        return pid

    def exec(self, pid: int) -> None:
        """The default stays, as under MPOL_MF_FUTURE_EXEC."""
        self.pages[pid] = {}
        self.images[pid] = 1000 + next(self.numbers)

    def end(self, pid: int) -> None:
        del self.pages[pid], self.futures[pid], self.images[pid]

    def map(self, pid: int, at) -> None:
        future = self.futures[pid]
        for page in at:
            self.pages[pid][page] = Page(future, None, future is not None)

    def bind(self, pid: int, at, policy: Policy) -> None:
        """The program sets a policy itself."""
        made = mbind(policy, self.allowed)
        self.pages[pid].update({p: Page(made, made) for p in at if p in self.pages[pid]})

    def set(self, pid: int, start: int, end: int, policy: Policy, *, ours: bool) -> None:
        """memplace sets a policy; what it gives back is the truth from then on."""
        made = mbind(policy, self.allowed)
        pages = self.pages[pid]
        for at in range(start // PAGE, end // PAGE):
            if at in pages:
                truth = pages[at].truth if pages[at].ours else readable(pages[at].truth)
                pages[at] = Page(made, truth if ours else made, ours)

    def set_future(self, pid: int, policy: Policy) -> None:
        """memplace sets the default for mappings to come."""
        self.futures[pid] = mbind(policy, self.allowed)

    def move(self, pid: int, start: int, size: int, to: int) -> None:
        """mremap(MREMAP_FIXED)."""
        pages = self.pages[pid]
        moved = {to + n: pages.pop(start + n) for n in range(size) if start + n in pages}
        pages.update(moved)

    def change_cpuset(self, allowed) -> None:
        """mpol_rebind_mm() of all of them."""
        self.allowed = frozenset(allowed)
        for pid, pages in self.pages.items():
            self.futures[pid] = rebound(self.futures[pid], self.allowed)
            self.pages[pid] = {
                at: replace(
                    page,
                    policy=rebound(page.policy, self.allowed),
                    truth=rebound(page.truth, self.allowed),
                )
                for at, page in pages.items()
            }

    def process(self, pid: int) -> Process:
        future = self.futures[pid]
        return Process(self.images[pid], self.allowed, future.shown if future else None)

    def regions(self, pid: int) -> list[Seen]:
        """Neighbours with equal policies are one mapping, whoever set them."""
        found: list[Seen] = []
        last: Kernel | None = None
        for at, page in sorted(self.pages[pid].items()):
            policy = page.policy
            if found and found[-1].end == at * PAGE and last == policy:
                found[-1] = replace(found[-1], end=(at + 1) * PAGE)
            else:
                shown = policy.shown if policy else Policy(Mode.DEFAULT)
                found.append(Seen(at * PAGE, (at + 1) * PAGE, shown, policy is not None))
            last = policy
        return found
