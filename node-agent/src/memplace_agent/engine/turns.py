# SPDX-License-Identifier: Apache-2.0
"""Whose moves are next: namespaces, containers and rules take turns by what they have had."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from memplace.shares import Shares

from memplace_agent.engine.orders import Job, JobKey


@dataclass(frozen=True, slots=True)
class Turns:
    """See the module; for one thread."""

    _namespaces: Shares[str] = field(default_factory=Shares[str])
    _containers: Shares[str] = field(default_factory=Shares[str])
    _jobs: Shares[JobKey] = field(default_factory=Shares[JobKey])

    def order(self, jobs: Iterable[Job]) -> list[Job]:
        """Return jobs in the order in which they are due."""
        jobs = list(jobs)
        namespaces = self._namespaces.ranks(job.order.namespace for job in jobs)
        containers = self._containers.ranks(job.order.container for job in jobs)
        turns = self._jobs.ranks(job.order.key for job in jobs)

        def rank(job: Job) -> tuple[float, float, float]:
            order = job.order
            return namespaces[order.namespace], containers[order.container], turns[order.key]

        return sorted(jobs, key=rank)

    def charge(self, job: Job, size: int) -> None:
        """Count bytes that a job had its turn for."""
        self._namespaces.charge(job.order.namespace, size)
        self._containers.charge(job.order.container, size)
        self._jobs.charge(job.order.key, size)
