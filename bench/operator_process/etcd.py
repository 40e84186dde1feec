# SPDX-License-Identifier: Apache-2.0
"""Objects straight into etcd: what the API server then serves is the same, and it is quick.

Built-in kinds are stored as JSON, which the API server's storage reads as well as protobuf.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterable, Iterator
from itertools import islice

import aiohttp
import applied
import objects
from objects import Layout, Object

_OURS = "/registry/memplace.dev"


class Etcd:
    """Puts objects."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}/v3/kv/txn"

    async def put(self, pairs: Iterable[tuple[str, Object]]) -> None:
        """Put all of them at once, by key."""
        puts = [{"requestPut": {"key": _b64(k), "value": _b64(_json(o))}} for k, o in pairs]
        async with self._session.post(self._url, json={"success": puts}) as response:
            text = await response.text()
            assert response.status == 200, text[:500]

    async def node_memory(self, number: int, obj: Object) -> None:
        """Put a node's report."""
        await self.put([(f"{_OURS}/nodememories/{objects.node_name(number)}", obj)])

    async def leases(self, numbers: Iterable[int]) -> None:
        """Renew the Leases of agents."""
        await self.put([_lease(number) for number in numbers])


async def fill(port: int, layout: Layout) -> None:
    """Put all that a layout says."""
    async with aiohttp.ClientSession() as session:
        etcd, gate = Etcd(session, port), asyncio.Semaphore(4)

        async def send(batch: list[tuple[str, Object]]) -> None:
            async with gate:
                await etcd.put(batch)

        # Reports are larger, and etcd takes 1.5 MiB at a time.
        for pairs, size in ((_small(layout), 100), (_reports(layout), 40)):
            while batches := list(_batches(pairs, size, 20)):
                await asyncio.gather(*map(send, batches))


def _batches(
    pairs: Iterator[tuple[str, Object]], size: int, count: int
) -> Iterator[list[tuple[str, Object]]]:
    for _ in range(count):
        if batch := list(islice(pairs, size)):
            yield batch


def _small(layout: Layout) -> Iterator[tuple[str, Object]]:
    for ns in dict.fromkeys(ns for ns, _ in layout.names()):
        yield f"/registry/namespaces/{ns}", objects.namespace(ns)
    for owned, node in layout.items():
        yield f"/registry/pods/{owned.namespace}/{owned.name}", objects.pod(owned, node)
    for ns, name in layout.names():
        yield f"{_OURS}/memoryplacements/{ns}/{name}", applied.placement(ns, name)
    for number in range(layout.nodes):
        yield f"/registry/minions/{objects.node_name(number)}", objects.node(number)
        yield _lease(number)


def _reports(layout: Layout) -> Iterator[tuple[str, Object]]:
    for number, pods in enumerate(layout.on_nodes()):
        yield f"{_OURS}/nodememories/{objects.node_name(number)}", objects.node_memory(number, pods)


def _lease(number: int) -> tuple[str, Object]:
    return f"/registry/leases/default/{objects.node_name(number)}", objects.lease(number)


def _json(obj: Object) -> str:
    return json.dumps(obj, separators=(",", ":"))


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
