# SPDX-License-Identifier: Apache-2.0
"""Read what processes are that nobody places: those that a runtime runs for a pod.

To tell what such a process is takes its cmdline and maps, which wait for whoever holds its
address space. So that is read through the pool, as all of the processes that are placed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memplace.errors import ProcessGone

from memplace_agent.engine.pool import Pool, PoolBusy, Stuck
from memplace_agent.hostfs import HostFs, read_proc
from memplace_agent.procfs.stat import parse_stat

# Each takes a fraction of a millisecond; the rest is for a busy node.
DEADLINE_S = 2.0


@dataclass(slots=True)
class Programs:
    """A `sandbox.Guard`; for any thread."""

    host: HostFs
    pool: Pool
    deadline_s: float = DEADLINE_S

    def __call__(self, pid: int, group: str, read: Callable[[], str]) -> str | None:
        """Return what is read; "" of a process that ended, None if it can't be read in time.

        Args:
            pid: The process.
            group: The namespace that pays for a thread that is lost with it.
            read: Reads it; works on nothing that others use.
        """
        try:
            started = parse_stat(read_proc(self.host.pid(pid) / "stat")).start_time
            return self.pool.run(
                lambda _: read(),
                target=("program", pid, started),
                group=group,
                deadline_s=self.deadline_s,
            )
        except ProcessGone:
            return ""
        except (Stuck, PoolBusy):
            return None
