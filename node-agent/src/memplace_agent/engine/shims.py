# SPDX-License-Identifier: Apache-2.0
"""Shims of the pods that are there: set, set anew, and given back.

A pod's shim has a default while all of the pod's containers are to have the same. It is taken
away as soon as that is no longer so: the pod, its placement or a rule is gone, or another one
means one of the containers. What the shim has started by then keeps what it has, and its
container gets a claim before the shim's is dropped; so it is given back, or followed, as any
other container's.

A shim whose pod can't be asked about any more, or that has another pod's child by now, is no
shim of ours: it is given back. One that ended needs nothing. The reconciler asks, as for a
container, once in a while.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from memplace.api.v1alpha1 import Placement
from memplace.claim_view import View
from memplace.claims import Claim
from memplace.errors import MemplaceError, ProcessGone
from memplace.ledger import claim_for, inherit

from memplace_agent.containers.finder import Finder
from memplace_agent.containers.members import Unlisted, read_members
from memplace_agent.containers.names import id_of
from memplace_agent.containers.pinning import Pinned, Pinner
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.containers.shim import (
    NoShim,
    Shim,
    find_shim,
    helpers,
    is_started,
    siblings,
)
from memplace_agent.engine.duelist import Outcome
from memplace_agent.engine.expected import Newborn, Table, process_of
from memplace_agent.engine.hands import Hands
from memplace_agent.engine.programs import DEADLINE_S, Programs
from memplace_agent.engine.shim_claims import claim_of_shim, inherited, shim_id
from memplace_agent.engine.to_come import taken_away
from memplace_agent.engine.undo import Undone
from memplace_agent.hostfs import read_proc
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.metrics import Metrics
from memplace_agent.procfs.status import Status, parse_status

log = logging.getLogger(__name__)

# For one that starts programs all the time; the next look goes on.
_ROUNDS = 8
# A sandbox is the child of what makes it for some 100 ms, of a slow machine for seconds.
_SOON = 8

_UNWRITTEN = (
    "the ledger can't be written: what the shim has started is given back first, and the ledger "
    "knows of that by the shim's claim"
)


@dataclass(slots=True)
class Shims:
    """See the module; for one thread.

    Attributes:
        enabled: Whether shims get defaults; if not, what they have is given back.
        found: Is told of containers that get a claim here, and where they are: the last walk
            through the tree of cgroups may be older than they are.
        deadline_s: How long to wait for what tells a shim from a sandbox.
    """

    pinner: Pinner
    hands: Hands
    store: LedgerStore
    metrics: Metrics
    enabled: bool = False
    found: Callable[[str, CgroupRef], None] = lambda _id, _ref: None
    deadline_s: float = DEADLINE_S
    _wanted: Mapping[str, Newborn] = field(default_factory=dict)
    _told: dict[str, str] = field(default_factory=dict)
    _tries: dict[str, int] = field(default_factory=dict)

    def expect(self, table: Table) -> list[str]:
        """Say what the containers of pods are to have from now on.

        Returns:
            What is to be looked at for it, by name.
        """
        expected = ((uid, each.of(None)) for uid, each in table.items() if self.enabled)
        now = {uid: newborn for uid, newborn in expected if newborn is not None}
        before, self._wanted = self._wanted, now
        uids = {uid for uid in before.keys() | now.keys() if not _is_same(before, now, uid)}
        claims = (each for each in self.store if each.process and each.process.pod in uids)
        self._told = {uid: why for uid, why in self._told.items() if uid in now}
        self._tries = {uid: count for uid, count in self._tries.items() if uid in now}
        return [*map(shim_id, uids), *(claim.container for claim in claims)]

    def due(self) -> Mapping[str, str]:
        """Return what there is to look at, besides claims: names, and their namespaces."""
        return {shim_id(uid): each.placement.tenant for uid, each in self._wanted.items()}

    def look(self, pod_uid: str, finder: Finder) -> tuple[Outcome, dict[str, str]]:
        """Bring the shim of a pod in line with what is expected of its containers.

        Args:
            pod_uid: The pod.
            finder: Finds its cgroups.

        Returns:
            How it went, and what is in the way of those that are to be given back, by name.
        """
        refs = finder.refs_of_pod(pod_uid)
        if not refs and not finder.is_whole:
            return Outcome.CHANGED, {}  # ask again soon
        newborn = self._wanted.get(pod_uid)
        containers = siblings(refs[0]) if refs else []
        shim = self._find(containers, newborn)
        if isinstance(shim, NoShim) and shim.is_unknown:  # what it has stays
            self._tell(pod_uid, shim.why)
            return self._not_yet(pod_uid, shim), {}
        outcome = Outcome.QUIET
        keeps = ""
        if newborn is not None and isinstance(shim, Shim):
            outcome, keeps = self._set(pod_uid, shim, newborn), shim_id(pod_uid, shim)
        elif newborn is not None and isinstance(shim, NoShim):
            self._tell(pod_uid, shim.why)
            outcome = self._not_yet(pod_uid, shim)
        in_the_way: dict[str, str] = {}
        for claim in self._claims(pod_uid):
            if claim.container != keeps:
                undone = self.undo(claim, refs)
                outcome = Outcome.CHANGED if undone.whole else Outcome.FAILED
                if not undone.whole:
                    in_the_way[claim.container] = undone.message
        self._claim_heirs(pod_uid, containers)
        self._count()
        return outcome, in_the_way

    def inherit(self, container_id: str, ref: CgroupRef, placement: Placement) -> None:
        """Have the claim of a container know of its pod's shim, before it is looked at.

        Raises:
            OSError: The ledger can't be written.
        """
        defaults = inherited(self.store, ref.pod_uid)
        known = self.store.get(container_id)
        names = placement.uid, placement.namespace, placement.name
        claim = inherit(known or claim_for(container_id, names, time.time()), defaults)
        if defaults and claim is not known:
            self.store.put(claim)

    def undo(self, claim: Claim, refs: Iterable[CgroupRef]) -> Undone:
        """Take a shim's default away, and leave what it has started to claims of its own.

        Args:
            claim: The shim's.
            refs: The cgroups of its pod.
        """
        assert claim.process is not None
        shim = Shim(claim.process.pid, claim.process.started)
        refs = tuple(refs)
        try:
            for _ in range(_ROUNDS):
                had = self._take_away(claim, shim)
                containers = siblings(refs[0]) if refs else []
                if not self._claim_heirs(claim.process.pod, containers):
                    return Undone(whole=False, message=_UNWRITTEN)
                if not had:
                    self.store.drop(claim.container)
                    self._count()
                    return Undone(whole=self.store.get(claim.container) is None)
        except MemplaceError as err:
            return Undone(whole=False, message=f"{err} {err.HELP}")
        except OSError as err:
            return Undone(whole=False, message=f"{err}")
        return Undone(whole=False, message="a shim is busy, or starts programs all the time")

    # --- one shim ---

    def _find(self, containers: Sequence[CgroupRef], newborn: Newborn | None) -> Shim | NoShim:
        if not containers or newborn is None:
            return NoShim("")
        guard = Programs(self.pinner.host, self.hands.pool, self.deadline_s)
        return find_shim(self.pinner.host, containers, newborn.placement.tenant, guard)

    def _claims(self, pod_uid: str) -> list[Claim]:
        return [each for each in self.store if each.process and each.process.pod == pod_uid]

    def _not_yet(self, pod_uid: str, found: NoShim) -> Outcome:
        # `ShimCradle` waits for it, if it has heard of the sandbox at all.
        self._tries[pod_uid] = tries = self._tries.get(pod_uid, 0) + 1
        return Outcome.QUIET if found.is_final or tries > _SOON else Outcome.CHANGED

    def _count(self) -> None:
        self.metrics.shim_defaults.set(sum(each.process is not None for each in self.store))

    def _set(self, pod_uid: str, shim: Shim, newborn: Newborn) -> Outcome:
        host = self.pinner.host
        try:
            with self.pinner.pin(shim.pid, is_started(host, shim)) as pinned:
                claim = claim_of_shim(self.store, pod_uid, shim, newborn.names)
                claim, steps = newborn.steps(claim, self._status(pinned))
                if not steps:
                    self._told.pop(pod_uid, None)
                    return Outcome.QUIET
                self.store.put(claim)
                report = self.hands.set_future(pinned, newborn.placement.tenant, steps)
        except ProcessGone:
            return Outcome.CHANGED
        if report.error is not None:
            self._tell(pod_uid, f"{report.error} {report.error.HELP}")
        return Outcome.CHANGED if report.complete else Outcome.FAILED

    def _take_away(self, claim: Claim, shim: Shim) -> bool:
        # Returns whether anybody had it: then look again at what was started meanwhile.
        host, had = self.pinner.host, False
        try:
            with self.pinner.pin(shim.pid, is_started(host, shim)) as pinned:
                had = self._clear(claim, pinned)
                for pid in helpers(host, shim):
                    had = self._clear_helper(claim, pid, shim) or had
        except ProcessGone:
            return False
        return had

    def _clear_helper(self, claim: Claim, pid: int, shim: Shim) -> bool:
        def is_still(pid: int) -> bool:
            return pid in helpers(self.pinner.host, shim)

        try:
            with self.pinner.pin(pid, is_still) as pinned:
                return self._clear(claim, pinned)
        except ProcessGone:
            return True  # what it has started may be in the pod by now

    def _clear(self, claim: Claim, pinned: Pinned) -> bool:
        status = self._status(pinned)
        steps = taken_away(status, View(claim, process_of(status)))
        if steps:
            report = self.hands.set_future(pinned, claim.placement[1], steps)
            if report.error is not None:
                raise report.error
        return bool(steps)

    def _status(self, pinned: Pinned) -> Status:
        return parse_status(read_proc(self.pinner.host.pid(pinned.pid) / "status"))

    # --- what it has started ---

    def _claim_heirs(self, pod_uid: str, containers: Iterable[CgroupRef]) -> bool:
        # Returns whether the ledger knows of all that the pod's shims have started.
        pairs = itertools.product(self._claims(pod_uid), tuple(containers))
        are_known = [self._claim_heir(claim, ref) for claim, ref in pairs]  # each of them
        return all(are_known)

    def _claim_heir(self, claim: Claim, ref: CgroupRef) -> bool:
        container_id = id_of(ref.path.name)
        if container_id is None:
            return True
        known = self.store.get(container_id)
        new = inherit(
            known or claim_for(container_id, claim.placement, time.time()), claim.defaults
        )
        if new is known:
            return self.store.put_for_undo(new)  # if it could not be written before
        if not self._has_heir(claim, ref):
            return True
        self.found(container_id, ref)
        return self.store.put_for_undo(new)

    def _has_heir(self, claim: Claim, ref: CgroupRef) -> bool:
        try:
            return any(self._carries(claim, pid) for pid in read_members(ref))
        except Unlisted:
            return True  # who is not listed may be one

    def _carries(self, claim: Claim, pid: int) -> bool:
        try:
            status = parse_status(read_proc(self.pinner.host.pid(pid) / "status"))
        except ProcessGone:
            return False
        return View(claim, process_of(status)).default_is_ours

    def _tell(self, pod_uid: str, why: str) -> None:
        if why and self._told.get(pod_uid) != why:
            extra = {"pod": pod_uid, "why": why}
            log.info("a pod's shim gets no default", extra=extra)
            self._told[pod_uid] = why


def _is_same(before: Mapping[str, Newborn], now: Mapping[str, Newborn], uid: str) -> bool:
    one, other = before.get(uid), now.get(uid)
    return one is not None and other is not None and one.means(other)
