# SPDX-License-Identifier: Apache-2.0
"""Pressure and room, read often enough and no more often."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

from memplace.pacing import NodeState

from memplace_agent.hostfs import HostFs
from memplace_agent.node.memory import read_node_state
from memplace_agent.node.psi import cgroup_pressure

_TICK_S = 1.0


class SensesLike(Protocol):
    """Reads what moves depend on."""

    def node(self, now: float, *, fresh: bool = False) -> NodeState:
        """Return what was read of the machine within the last second, or just now."""

    def pressure(self, cgroup: Path, now: float) -> float | None:
        """Return ``some avg10`` of a cgroup in percent; None without PSI."""


class Senses:
    """The real ones: reads files, each at most once per second; for several threads."""

    def __init__(self, host: HostFs) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._node: NodeState | None = None
        self._pressures: dict[Path, tuple[float, float | None]] = {}

    def node(self, now: float, *, fresh: bool = False) -> NodeState:
        """Return what was read of the machine within the last second, or just now."""
        with self._lock:
            if self._node is None or fresh or now - self._node.at >= _TICK_S:
                self._node = read_node_state(self._host, now)
                self._pressures = {
                    path: (at, value)
                    for path, (at, value) in self._pressures.items()
                    if at > now - _TICK_S
                }
            return self._node

    def pressure(self, cgroup: Path, now: float) -> float | None:
        """Return ``some avg10`` of a cgroup in percent; None without PSI."""
        with self._lock:
            at, value = self._pressures.get(cgroup, (float("-inf"), None))
            if now - at >= _TICK_S:
                value = cgroup_pressure(cgroup)
                self._pressures[cgroup] = (now, value)
            return value
