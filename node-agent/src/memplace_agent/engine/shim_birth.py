# SPDX-License-Identifier: Apache-2.0
"""A new pod between its sandbox and its first container: its shim gets the pod's default.

The sandbox is the child of the program that makes it, until that ends; from then on it is the
shim's. So who its parent is is asked again and again. What is not found in time the worker
finds (`shims`), as it finds all shims that are there when the agent starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from memplace.errors import ProcessGone

from memplace_agent.containers.events import Born
from memplace_agent.containers.shim import NoShim, find_shim, is_started, siblings
from memplace_agent.engine.callers import Call
from memplace_agent.engine.cradle import LEDGER_S, Reached, Source, Tools
from memplace_agent.engine.expected import Newborn
from memplace_agent.engine.shim_claims import claim_of_shim
from memplace_agent.hostfs import read_proc
from memplace_agent.procfs.status import parse_status

# runc makes a sandbox in 30 to 100 ms, and kubelet asks for a container some 50 ms later. All
# pods that are made take turns: it is the thread that containers wait for.
_AGAIN_S = 0.005
_AT_MOST_S = 5.0


@dataclass(slots=True)
class ShimCradle:
    """See the module; looks to `Births` like a `Cradle`.

    Attributes:
        born: The pod's first cgroup of a container.
        newborn: What the pod's containers are to have.
        began: When it was heard of.
        due_at: When the next round is.
        claim_id: Under which name its claim is; "" before there is one.
        error: Why the call failed, if that is no matter of time.
    """

    born: Born
    newborn: Newborn
    began: float
    due_at: float = field(init=False)
    claim_id: str = ""
    error: Exception | None = None
    # As of a container: neither is counted of a shim.
    reached: Reached | None = None
    source: Source = Source.CGROUP
    in_force: float | None = None
    _call: Call | None = None

    def __post_init__(self) -> None:
        self.due_at = self.began

    @property
    def is_calling(self) -> bool:
        """Whether a call on the shim has not returned."""
        return self._call is not None and self._call.ended is None

    def round(self, tools: Tools) -> bool:
        """Look once; returns whether more rounds are to follow."""
        now = tools.clock()
        if now - self.began > _AT_MOST_S or not tools.still(self.born, self.newborn):
            return False
        self.due_at = now + _AGAIN_S * max(1, tools.shims)
        if self.is_calling:
            return True
        if self._call is not None and self._call.error is not None:
            self.error = self._call.error
            return False
        try:
            return self._try(tools)
        except ProcessGone:
            return True

    def _try(self, tools: Tools) -> bool:
        host, pod_uid = tools.pinner.host, self.born.ref.pod_uid
        group = self.newborn.placement.tenant
        shim = find_shim(host, siblings(self.born.ref), group, tools.guard)
        if isinstance(shim, NoShim):
            return not shim.is_final
        with tools.pinner.pin(shim.pid, is_started(host, shim)) as pinned:
            status = parse_status(read_proc(host.pid(shim.pid) / "status"))
            claim = claim_of_shim(tools.store, pod_uid, shim, self.newborn.names)
            claim, steps = self.newborn.steps(claim, status)
            if not steps:
                return False
            if tools.store.put_newborn(claim, LEDGER_S):
                self.claim_id = claim.container
                self._call = tools.callers.submit(pinned.pidfd, group, steps) or self._call
        return True
