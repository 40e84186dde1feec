# SPDX-License-Identifier: Apache-2.0
"""A node with the whole agent, behind what breaks."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from memplace_lab.product.apiserver import ApiServer
from memplace_lab.product.operating import API

from tests.operator_process.faulty import Proxy
from tests.operator_process.whole_agent import WholeAgent, whole_agent
from tests.operator_process.wire import Wire
from tests.support.cluster import Cluster, eventually

_COLLECTIONS = frozenset(
    {
        *("memoryplacements", "clustermemoryplacements", "memorytiers", "nodememories"),
        *("pods", "namespaces"),
    }
)
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


class Node:
    """A node whose agent reaches the API server by a wire and a proxy only.

    Attributes:
        healths: How often /healthz said what.
        was_ready: What /readyz said last.
    """

    def __init__(self, api: ApiServer, name: str) -> None:
        self.cluster = Cluster(api, name)
        self.node = self.cluster.node
        self.memory = f"{API}/nodememories/{self.node}"
        self.cluster.made(self.memory, f"{_LEASES}/{self.node}")
        self.cluster.apply("mp")
        self.cluster.run_pod("redis-0")
        self.healths: Counter[int] = Counter()
        self.was_ready = True
        self._renewed, self._fds = "", [""]
        self.agent: WholeAgent
        self.proxy: Proxy
        self.wire: Wire

    @contextlib.contextmanager
    def running(self, api: ApiServer, place: Path, spread_s: float = 30.0) -> Iterator[Node]:
        with contextlib.ExitStack() as stack:
            stack.callback(self.cluster.clean)
            self.proxy = stack.enter_context(Proxy(api).running())
            behind = int(self.proxy.url.rpartition(":")[2])
            self.wire = stack.enter_context(Wire(behind).running())
            self.agent = stack.enter_context(
                whole_agent(api, self.node, place, at=self.wire.port, plain=True, spread_s=spread_s)
            )
            eventually(lambda: self.agent.is_ready, timeout_s=60)
            eventually(self.follows, timeout_s=60)
            eventually(self.renewed, timeout_s=60)
            yield self

    def change(self) -> None:
        """Have somebody edit the placement."""
        path = self.cluster.placement_path("mp")
        priority = self.cluster.get("mp")["spec"].get("priority", 0) + 1
        assert self.cluster.api.call("PATCH", path, {"spec": {"priority": priority}}).ok

    def renewed_again(self) -> bool:
        """Tell whether the Lease was renewed since `away`."""
        return self.renewed() > self._renewed

    def away(self) -> None:
        """Note how all is, right before the API server is away."""
        # A watch that ends begins anew: at any one moment it may have no connection.
        for _ in range(20):
            time.sleep(0.1)
            self._fds = max(self._fds, self.agent.fds, key=len)
        self._renewed = self.renewed()
        self.proxy.asked.clear()

    def has_no_more_open(self) -> bool:
        """Tell whether the agent has no more files open than before `away`."""
        return len(self.agent.fds) <= len(self._fds)

    def follows(self) -> bool:
        """Tell whether the agent has reported of the placement as it is."""
        answer = self.cluster.api.call("GET", self.memory)
        status = answer.body.get("status", {}) if answer.ok else {}
        found = {each["name"]: each for each in status.get("placements", ())}
        generation = self.cluster.get("mp")["metadata"]["generation"]
        seen: bool = found.get("mp", {}).get("observedGeneration") == generation
        return seen

    def renewed(self) -> str:
        """Return when the Lease was renewed last."""
        lease = self.cluster.api.call("GET", f"{_LEASES}/{self.node}").body
        found: str = lease.get("spec", {}).get("renewTime", "")  # not of one that is not there
        return found

    def is_ready(self) -> bool:
        """Tell whether the agent says that it knows what the cluster wants."""
        return self.agent.is_ready

    def look(self) -> None:
        """Note how the agent says it is."""
        self.healths[self.agent.get("/healthz")[0]] += 1
        self.was_ready = self.agent.is_ready

    def heard_s(self) -> dict[str, float]:
        """Return for how long it has heard nothing, by kind."""
        pairs = re.findall(
            r'^memplace_agent_watch_age_seconds\{kind="(\w+)"\} (\S+)$',
            self.agent.get("/metrics")[1],
            re.M,
        )
        return {kind: float(age) for kind, age in pairs}

    def lists(self) -> Counter[str]:
        """Return how often each collection was listed since `away`."""
        gets = (each.removeprefix("GET ") for each in self.proxy.asked)
        paths = (each.partition("?")[0] for each in gets if "watch=true" not in each)
        return Counter(path for path in paths if path.rpartition("/")[2] in _COLLECTIONS)
