# SPDX-License-Identifier: Apache-2.0
"""What is sent to agents because they watch placements, in several ways at once.

Agents of a few nodes follow at the same API server what the operator of this checkout writes:

whole       all placements of the cluster, as agents did before docs/adr/0037
metadata    all of them, their metadata alone (as=PartialObjectMetadata), which would have to be
            followed by a GET for each change of a spec
namespaces  those of the namespaces that have pods on the node: what agents do

once with each field of a status owned separately, as before, and once with all of it owned as
one. What a whole cluster is sent is reckoned from that: see `projected`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from churn import Churn, beating
from churn import Server as Address
from etcd import fill
from memplace_agent.cluster.collections import collections
from memplace_agent.cluster.following import Following
from memplace_agent.cluster.kinds import Kind
from memplace_agent.cluster.world import Cache
from memplace_kube.client import ApiClient, Server, tls
from memplace_kube.watch import Watcher, as_mapping
from memplace_lab.product.apiserver import ADMIN, ApiServer
from memplace_lab.product.operating import API, Operator
from objects import Layout, node_name

WAYS = ("whole", "metadata", "namespaces")
AGENTS = 10
# What a cluster is reckoned for.
NODES, PLACEMENTS = 5_000, 10_000
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/memoryplacements.memplace.dev"


@dataclass
class Sent:
    """Bytes and events that agents of one way were sent, all together."""

    bytes: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    agents: Counter[str] = field(default_factory=Counter)
    phase: str = "list"

    def take(self, path: str, accept: str, size: int, *, is_event: bool) -> None:
        """Take an answer, or a line of one."""
        if not path.endswith("/memoryplacements"):
            return
        way = "metadata" if "as=" in accept else "namespaces" if "/namespaces/" in path else "whole"
        self.bytes[f"{self.phase} {way}"] += size
        self.events[f"{self.phase} {way}"] += is_event

    def per_agent(self, phase: str, way: str) -> float:
        """Return the bytes that one agent was sent."""
        return self.bytes[f"{phase} {way}"] / max(self.agents[way], 1)


@dataclass
class Measured:
    """One run.

    Attributes:
        is_granular: Whether each field of a status was owned separately.
        layout: Who is where.
        sent: What agents were sent.
        writes: Of statuses, by phase.
        seconds: Of the phases.
        namespaces: How many had pods on a node, on average.
    """

    is_granular: bool
    layout: Layout
    sent: Sent
    writes: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    namespaces: float = 0.0

    def projected(self, phase: str, way: str) -> float:
        """Return the bytes that all agents of NODES and PLACEMENTS are sent in a phase.

        Who watches all is sent more where there are more placements. Who watches its
        namespaces is not: in a larger cluster of this form a node has pods of as many.
        """
        scale = 1.0 if way == "namespaces" else PLACEMENTS / self.layout.placements
        return self.sent.per_agent(phase, way) * scale * NODES


def measure(size: str, seconds: float, grant: Any) -> Iterator[Measured]:
    """Measure both forms of ownership, at NODES/PLACEMENTS, with so many seconds of change."""
    nodes, placements = map(int, size.split("/"))
    for is_granular in (1, 0):
        yield _measure(Layout(nodes, placements), seconds, grant, is_granular=is_granular)


def _measure(layout: Layout, seconds: float, grant: Any, *, is_granular: int) -> Measured:
    found = Measured(bool(is_granular), layout, Sent())
    with tempfile.TemporaryDirectory() as folder:
        option = "--disable-admission-plugins=ServiceAccount"
        with ApiServer(Path(folder), option, users=("operator",)).running() as api:
            api.install_crds()
            if is_granular:
                _own_each_field(api)
            grant(api)
            _say(f"{layout.nodes}/{layout.placements}: filling etcd")
            asyncio.run(fill(api._client, layout))
            # A kind that was just defined is served anew for some seconds (429).
            time.sleep(15)
            _wait(lambda: _written(api) == 0)
            with beating(api._client, layout.nodes):
                _phases(found, api, Operator(api, Path(folder) / "log"), seconds)
    return found


def _own_each_field(api: ApiServer) -> None:
    crd = api.call("GET", CRD).body
    status = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    del status["x-kubernetes-map-type"]
    assert api.call("PUT", CRD, crd).ok


def _phases(found: Measured, api: ApiServer, operator: Operator, seconds: float) -> None:
    stop, sent = threading.Event(), found.sent
    server = Server(
        host="127.0.0.1", port=int(api.url.rpartition(":")[2]), context=tls(api.ca), bearer=ADMIN
    )
    with _counting(sent):
        caches = list(_agents(server, found, stop))
        _wait(lambda: all(cache.is_synced for cache in caches))
        counts = [len(cache.namespaces or ()) for cache in caches]
        found.namespaces = sum(counts) / len(counts)
        try:
            with _phase(found, "fill"):
                operator.start()
                _wait(lambda: _written(api) == found.layout.placements)
            address = Address(api.url, str(api.ca), ADMIN, api._client)
            with _phase(found, "steady"):
                asyncio.run(Churn(address, found.layout, 0.01).run(seconds))
        finally:
            stop.set()
            operator.stop()


class _phase:  # noqa: N801  reads as a statement
    def __init__(self, found: Measured, name: str) -> None:
        self._found, self._name = found, name
        self._began = time.monotonic()

    def __enter__(self) -> None:
        self._found.sent.phase = self._name

    def __exit__(self, *_: object) -> None:
        time.sleep(2)  # what is on its way
        found, name = self._found, self._name
        found.seconds[name] = time.monotonic() - self._began
        found.writes[name] = round(
            found.sent.events[f"{name} whole"] / max(found.sent.agents["whole"], 1)
        )
        found.sent.phase = "after"
        _say(f"{name}: {found.writes[name]} writes in {found.seconds[name]:.0f} s")


def _agents(server: Server, found: Measured, stop: threading.Event) -> Iterator[Cache]:
    numbers = range(0, found.layout.nodes, max(1, found.layout.nodes // AGENTS))
    for number in numbers[:AGENTS]:
        node, cache = node_name(number), Cache(node_name(number))
        followed = {each.kind: each for each in collections(node)}
        for kind in (Kind.CLUSTER_PLACEMENT, Kind.TIER, Kind.NODE, Kind.NODE_MEMORY):
            cache.replace(kind, ())
        _start(Watcher(server, cache, followed[Kind.POD], as_mapping).run, stop)
        _start(Following(server, cache, followed[Kind.PLACEMENT]).run, stop)
        found.sent.agents["namespaces"] += 1
        yield cache
    # All of these are sent the same.
    what = followed[Kind.PLACEMENT]
    for way, each in ("whole", what), ("metadata", replace(what, metadata_only=True)):
        _start(Watcher(server, _Forgets(), each, lambda raw: raw).run, stop)
        found.sent.agents[way] += 1


class _Forgets:
    def replace(self, _: Kind, objects: Any) -> None:
        for _each in objects:
            pass

    def event(self, *_: Any) -> None:
        pass


def _start(run: Any, stop: threading.Event) -> None:
    threading.Thread(target=run, args=(stop, lambda: None), daemon=True).start()


class _counting:  # noqa: N801  reads as a statement
    """Counts what clients of this process are sent while the block runs."""

    def __init__(self, sent: Sent) -> None:
        self._sent = sent
        self._get, self._lines = ApiClient.get, ApiClient.lines

    def __enter__(self) -> None:
        sent, get, lines = self._sent, self._get, self._lines

        def counted_get(self: ApiClient, path: str, *args: Any, **kwargs: Any) -> bytes:
            answer = get(self, path, *args, **kwargs)
            sent.take(path, kwargs.get("accept", ""), len(answer), is_event=False)
            return answer

        def counted_lines(self: ApiClient, path: str, *args: Any, **kwargs: Any) -> Iterator[bytes]:
            for line in lines(self, path, *args, **kwargs):
                is_event = not line.startswith(b'{"type":"BOOKMARK"')
                sent.take(path, kwargs.get("accept", ""), len(line) + 1, is_event=is_event)
                yield line

        ApiClient.get, ApiClient.lines = counted_get, counted_lines  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        ApiClient.get, ApiClient.lines = self._get, self._lines  # type: ignore[method-assign]


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def _written(api: ApiServer) -> int:
    answer = api.call("GET", f"{API}/memoryplacements", resourceVersion="0")
    if not answer.ok:
        return -1
    return sum("conditions" in item.get("status", {}) for item in answer.body["items"])


def _wait(holds: Any, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(1)


def table(results: list[Measured]) -> str:
    """Return what was measured, and what is reckoned from it, as Markdown."""
    lines = [
        "| owned | watched | an event: bytes | one agent: list, first fill, steady "
        f"| all of {NODES:,} agents, {PLACEMENTS:,} placements: list, first fill, steady |",
        "|---|---|---:|---:|---:|",
    ]
    for each in results:
        owned = "each field" if each.is_granular else "as one"
        for way in WAYS:
            steady = each.seconds["steady"]
            events = sum(each.sent.events[f"{p} {way}"] for p in ("fill", "steady"))
            size = sum(each.sent.bytes[f"{p} {way}"] for p in ("fill", "steady")) / max(events, 1)
            one = [each.sent.per_agent(p, way) for p in ("list", "fill", "steady")]
            all_ = [each.projected(p, way) for p in ("list", "fill", "steady")]
            lines.append(
                f"| {owned} | {way} | {size:,.0f} "
                f"| {one[0] / 1e3:,.0f} KB, {one[1] / 1e3:,.0f} KB, "
                f"{one[2] / steady / 1e3:.1f} KB/s | {all_[0] / 1e9:.1f} GB, "
                f"{all_[1] / 1e9:.1f} GB, {all_[2] / steady / 1e6:,.0f} MB/s |"
            )
    last = results[-1]
    said = ", ".join(f"{n} writes in {last.seconds[p]:.0f} s ({p})" for p, n in last.writes.items())
    lines += [
        "",
        f"{last.layout.placements:,} placements: {said}; pods of "
        f"{last.namespaces:.0f} namespaces on a node.",
    ]
    return "\n".join(lines)
