# SPDX-License-Identifier: Apache-2.0
"""The agent's metrics, in a registry of their own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["Metrics"]


class Metrics:
    """What the agent counts; NUMA and Kubernetes nodes are no labels."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        common = {"namespace": "memplace", "subsystem": "agent", "registry": self.registry}
        self.apply = Counter(
            "apply", "Processes that were worked on.", ["result", "reason"], **common
        )
        self.apply_duration = Histogram(
            "apply_duration_seconds",
            "Time to change one process and read it back.",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
            **common,
        )
        self.apply_bytes = Counter(
            "apply_bytes", "Bytes that a change brought to a tier, measured.", ["tier"], **common
        )
        self.managed_containers = Gauge(
            "managed_containers", "Containers that follow a placement.", **common
        )
        self.region_policies = Gauge(
            "region_policies", "Ranges that have their policy from memplace.", **common
        )
        self.syscall_errors = Counter(
            "syscall_errors", "Failed calls, but for processes gone.", ["call", "errno"], **common
        )
        self.processes_gone = Counter(
            "processes_gone", "Processes that ended while worked on: normal.", **common
        )
        self.feature_supported = Gauge(
            "feature_supported", "1 when the node has the feature.", ["feature"], **common
        )
        self.last_success = Gauge(
            "last_success_timestamp_seconds", "End of the last whole pass.", **common
        )
        self._build = Gauge(
            "memplace_build_info", "Always 1.", ["version"], registry=self.registry
        )

    def build(self, version: str) -> None:
        """Say which version this is."""
        self._build.labels(version).set(1)

    def text(self) -> bytes:
        """Return all of it in the Prometheus text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
