# SPDX-License-Identifier: Apache-2.0
"""How many ranges may wait to be moved, and whose do. Pure.

A tier that is full keeps moves waiting for as long as it is. A tenant that has hundreds of
processes with thousands of ranges each is to fill neither the agent's memory nor the queue of
others: what is left out comes with a later plan of its process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from memplace_agent.engine.orders import Job, JobKey

# Ranges of all processes, some 160 bytes each.
MOST = 1 << 16

# Of a job, however many others there are.
LEAST = 64


def leave_out(
    jobs: Iterable[Job], begins: Callable[[Job], dict[JobKey, int]], most: int = MOST
) -> None:
    """Leave out what is too much: namespaces have equal shares, and jobs of a namespace.

    Args:
        jobs: All that wait.
        begins: Of a job's process, from which address on it is the turn of a job's ranges.
        most: Ranges that may wait in all, if no job is below `LEAST` for it.
    """
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.order.namespace, []).append(job)
    for group in groups.values():
        level = max(LEAST, _level([len(job.parts) for job in group], most // len(groups)))
        for job in group:
            if len(job.parts) > level:
                turns, key = begins(job), job.order.key
                turns[key] = job.leave_out(level, turns.get(key, 0))


def share(processes: int, most: int = MOST) -> int:
    """Return of how many ranges of a job it is remembered that they did not move."""
    return max(LEAST, most // max(1, processes))


def _level(sizes: Sequence[int], most: int) -> int:
    # The most that each may have, so that all have no more than that together.
    left, count = most, len(sizes)
    for size in sorted(sizes):
        if size * count > left:
            return left // count
        left, count = left - size, count - 1
    return most
