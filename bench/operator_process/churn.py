# SPDX-License-Identifier: Apache-2.0
"""Play the agents: all renew their Leases, a few report something new.

Of a node that reports something new all bytes change, and one pod begins or ends to move: the
time from that report to a watcher of placements who sees it is the lag.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import aiohttp
import objects
from etcd import Etcd
from objects import Layout, Owned

PERIOD_S = 10.0
HEARTBEAT_S = 30.0
# After the end, for what is still on its way.
GRACE_S = 15.0

Key = tuple[str, str]


@dataclass
class Server:
    """Where the API server and its etcd are."""

    url: str
    ca: str
    token: str
    etcd: int


@dataclass
class Seen:
    """What was done, and what was seen of it.

    Attributes:
        changed: Placements whose reports changed, those that changed twice counted twice.
        lags: Seconds until a placement's condition said what its report did.
        missed: How many never did.
        events: Events of placements that a watcher got.
    """

    changed: int = 0
    lags: list[float] = field(default_factory=list)
    missed: int = 0
    events: int = 0


class Churn:
    """The agents of a cluster, and somebody who watches its placements."""

    def __init__(
        self, server: Server, layout: Layout, fraction: float, *, is_spread: bool = False
    ) -> None:
        """Take whom to tell, who is where, and how much changes.

        Args:
            server: The API server.
            layout: Nodes and pods.
            fraction: Of the nodes, that report something new each PERIOD_S.
            is_spread: They do so one after the other all of that time, as agents that started
                at any time; else all at once.
        """
        self._server = server
        self._layout = layout
        self._fraction = fraction
        self._is_spread = is_spread
        self._pods = layout.on_nodes()
        self._moving: dict[int, Owned] = {}
        self._seeds: dict[int, int] = {}
        self._expected: dict[Key, tuple[str, float]] = {}
        self._seen = Seen()

    async def run(self, seconds: float) -> Seen:
        """Play for so many seconds, and a few more for what is on its way."""
        context = ssl.create_default_context(cafile=self._server.ca)
        headers = {"Authorization": f"Bearer {self._server.token}"}
        connector = aiohttp.TCPConnector(ssl=context)
        async with (
            aiohttp.ClientSession() as plain,
            aiohttp.ClientSession(connector=connector, headers=headers) as session,
        ):
            etcd = Etcd(plain, self._server.etcd)
            end = time.monotonic() + seconds
            watch = asyncio.create_task(self._watch(session))
            await asyncio.sleep(1)
            while (begin := time.monotonic()) < end:
                await self._change(etcd, begin)
                await asyncio.sleep(max(0.0, begin + PERIOD_S - time.monotonic()))
            late = time.monotonic() + GRACE_S
            while self._expected and time.monotonic() < late:
                await asyncio.sleep(0.1)
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        self._seen.missed = len(self._expected)
        return self._seen

    async def _change(self, etcd: Etcd, begin: float) -> None:
        share = round(self._layout.nodes * self._fraction)
        if self._fraction:
            share = max(1, share)
        touched: set[Key] = set()
        for at, number in enumerate(random.sample(range(self._layout.nodes), share)):
            if self._is_spread:
                due = begin + PERIOD_S * at / share
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            pods = self._pods[number]
            was = self._moving.pop(number, None)
            pod = was or random.choice(pods)
            if was is None:
                self._moving[number] = pod
            self._seeds[number] = seed = self._seeds.get(number, 0) + 17
            report = objects.node_memory(number, pods, seed, self._moving.get(number))
            key = pod.namespace, pod.placement
            # Only where no other pod of the placement moves it is clear what it has to say.
            others = any((p.namespace, p.placement) == key for p in self._moving.values())
            if was is None and sum(_key(p) == key for p in self._moving.values()) == 1:
                self._expected[key] = "Moving", time.monotonic()
            elif was is not None and not others:
                self._expected[key] = "Placed", time.monotonic()
            await etcd.node_memory(number, report)
            touched |= {_key(each) for each in pods}
        self._seen.changed += len(touched)

    async def _watch(self, session: aiohttp.ClientSession) -> None:
        path = f"{self._server.url}/apis/memplace.dev/v1alpha1/memoryplacements"
        async with session.get(path, params={"limit": "1"}) as response:
            version = (await response.json())["metadata"]["resourceVersion"]
        query = {"watch": "true", "resourceVersion": version, "timeoutSeconds": "3000"}
        forever = aiohttp.ClientTimeout(total=None)
        async with session.get(path, params=query, timeout=forever, read_bufsize=1 << 22) as answer:
            async for line in answer.content:
                self._take(json.loads(line)["object"])

    def _take(self, obj: objects.Object) -> None:
        self._seen.events += 1
        key = obj["metadata"]["namespace"], obj["metadata"]["name"]
        if key not in self._expected:
            return
        reason, since = self._expected[key]
        ready = [c for c in obj["status"]["conditions"] if c["type"] == "Ready"]
        if ready and ready[0]["reason"] == reason:
            self._seen.lags.append(time.monotonic() - since)
            del self._expected[key]


@contextlib.contextmanager
def beating(port: int, nodes: int) -> Iterator[None]:
    """Have all agents renew their Leases while the block runs."""
    over = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_beat(port, nodes, over)), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def _beat(port: int, nodes: int, over: threading.Event) -> None:
    # Evenly, as agents that started at any time do, ten at a time.
    numbers = list(range(nodes))
    random.shuffle(numbers)
    async with aiohttp.ClientSession() as session:
        etcd = Etcd(session, port)
        while not over.is_set():
            begin = time.monotonic()
            for start in range(0, len(numbers), 10):
                await etcd.leases(numbers[start : start + 10])
                due = begin + HEARTBEAT_S * (start + 10) / len(numbers)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if over.is_set():
                    break


def _key(pod: Owned) -> Key:
    return pod.namespace, pod.placement
