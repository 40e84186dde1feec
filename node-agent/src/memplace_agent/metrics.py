# SPDX-License-Identifier: Apache-2.0
"""The agent's metrics, in a registry of their own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["Metrics"]


class Metrics:
    """What the agent counts; NUMA and Kubernetes nodes are no labels."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.apply = Counter(
            "memplace_agent_apply_total",
            "Processes that were changed, or ended while they were.",
            ["result", "reason"],
            registry=registry,
        )
        self.apply_duration = Histogram(
            "memplace_agent_apply_duration_seconds",
            "Time to set the policies of one process.",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
            registry=registry,
        )
        self.apply_bytes = Counter(
            "memplace_agent_apply_bytes_total",
            "Bytes that moves brought to a tier, measured.",
            ["tier"],
            registry=registry,
        )
        self.pages_left = Counter(
            "memplace_agent_pages_not_returned_bytes_total",
            "Bytes that onDelete RestorePages was to move back, and could not.",
            registry=registry,
        )
        self.managed_containers = Gauge(
            "memplace_agent_managed_containers",
            "Containers that follow a placement.",
            registry=registry,
        )
        self.memory_pressure = Gauge(
            "memplace_agent_container_memory_pressure",
            "Containers that follow a placement, by how much they stall on memory.",
            ["pressure"],
            registry=registry,
        )
        self.region_policies = Gauge(
            "memplace_agent_region_policies",
            "Mappings with a policy of memplace's.",
            registry=registry,
        )
        self.namespace_limited = Gauge(
            "memplace_agent_namespace_limited_containers",
            "Containers that get nothing new of a tier, for their namespace has its limit of it.",
            ["tier"],
            registry=registry,
        )
        self.syscall_errors = Counter(
            "memplace_agent_syscall_errors_total",
            "Failed calls, but for processes and mappings that are gone.",
            ["call", "errno"],
            registry=registry,
        )
        self.processes_gone = Counter(
            "memplace_agent_processes_gone_total",
            "Processes that ended while they were looked at: normal.",
            registry=registry,
        )
        self.feature_supported = Gauge(
            "memplace_agent_feature_supported",
            "1 when the node has the feature.",
            ["feature"],
            registry=registry,
        )
        self.last_success = Gauge(
            "memplace_agent_last_success_timestamp_seconds",
            "When nothing was overdue.",
            registry=registry,
        )
        self.lost_threads = Gauge(
            "memplace_agent_lost_threads",
            "Threads in calls on processes that have not come back.",
            registry=registry,
        )
        self.watch_age = Gauge(
            "memplace_agent_watch_age_seconds",
            "Since the API server last said something about a kind.",
            ["kind"],
            registry=registry,
        )
        self.births = Counter(
            "memplace_agent_births_total",
            "Containers that were to have a default before their first page.",
            ["reached", "source"],
            registry=registry,
        )
        self.birth_duration = Histogram(
            "memplace_agent_birth_duration_seconds",
            "From the event of a container's cgroup to the default in a first process.",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2),
            registry=registry,
        )
        self.shim_defaults = Gauge(
            "memplace_agent_shim_defaults",
            "Shims of the container runtime with a default of memplace's.",
            registry=registry,
        )
        self.nri_connected = Gauge(
            "memplace_agent_nri_connected",
            "1 while the runtime tells of containers before they run.",
            registry=registry,
        )
        self.nri_starts = Counter(
            "memplace_agent_nri_starts_total",
            "Containers of which the runtime told before they ran.",
            ["result"],
            registry=registry,
        )
        self.nri_answer_duration = Histogram(
            "memplace_agent_nri_answer_duration_seconds",
            "What a container's start waited for the agent.",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
            registry=registry,
        )
        self._build = Gauge(
            "memplace_build_info", "Always 1.", ["version", "component"], registry=registry
        )

    def build(self, version: str) -> None:
        """Say which version this is."""
        self._build.labels(version, "agent").set(1)

    def text(self) -> bytes:
        """Return all of it in the Prometheus text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
