# SPDX-License-Identifier: Apache-2.0
"""A client of the Redis pod: fills it, checks its data, and sends requests all the time."""

from __future__ import annotations

import ctypes
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar, cast

import redis

from memplace_lab.cluster.cluster import Cluster

_CLONE_NEWNET = 0x40000000
_VALUE_BYTES = 4096
T = TypeVar("T")


def _join_network(pid: int) -> None:
    """Move the calling thread into the network namespace of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Answers:
    """What asking all the time has seen."""

    count: int
    errors: int
    median_ms: float
    longest_ms: float


@dataclass
class RedisLoad:
    """A Redis at an address of the lab's network; all connections are made from inside it."""

    cluster: Cluster
    address: str
    _pool: ThreadPoolExecutor = field(init=False)
    _stop: threading.Event = field(default_factory=threading.Event)
    _times_ms: list[float] = field(default_factory=list)
    _errors: int = 0

    def __post_init__(self) -> None:
        pid = self.cluster.processes.expect("network")
        self._pool = ThreadPoolExecutor(2, initializer=_join_network, initargs=(pid,))

    def _do(self, work: Callable[[redis.Redis], T]) -> T:
        return self._pool.submit(lambda: work(self._client())).result()

    def _client(self) -> redis.Redis:
        return redis.Redis(self.address, 6379, socket_timeout=30, socket_connect_timeout=30)

    def fill(self, keys: int) -> None:
        """Set ``keys`` keys to 4 KiB of reproducible noise each."""

        def work(client: redis.Redis) -> None:
            noise = random.Random(20231122)
            for first in range(0, keys, 256):
                with client.pipeline(transaction=False) as batch:
                    for number in range(first, min(first + 256, keys)):
                        batch.set(f"key:{number:07d}", noise.randbytes(_VALUE_BYTES))
                    batch.execute()

        self._do(work)

    def digest(self, keys: int) -> str:
        """Return a checksum over all keys and values."""

        def work(client: redis.Redis) -> str:
            state = hashlib.sha256(str(client.dbsize()).encode())
            for first in range(0, keys, 256):
                names = [f"key:{n:07d}" for n in range(first, min(first + 256, keys))]
                for value in cast(list[bytes | None], client.mget(names)):
                    state.update(value or b"-")
            return state.hexdigest()

        return self._do(work)

    def keep_asking(self) -> None:
        """Start to GET random keys in the background, some 50 times a second."""
        self._pool.submit(self._ask)

    def _ask(self) -> None:
        client, choose = self._client(), random.Random(1)
        while not self._stop.is_set():
            start = time.monotonic()
            try:
                client.get(f"key:{choose.randrange(1000):07d}")
                self._times_ms.append((time.monotonic() - start) * 1000)
            except redis.RedisError:
                self._errors += 1
            time.sleep(0.02)

    def answers(self) -> Answers:
        """Stop asking and return what was seen."""
        self._stop.set()
        self._pool.shutdown()
        times = sorted(self._times_ms) or [0.0]
        return Answers(len(self._times_ms), self._errors, times[len(times) // 2], times[-1])
