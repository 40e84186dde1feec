# SPDX-License-Identifier: Apache-2.0
"""The agent's metrics, in a registry of their own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """What the agent counts; NUMA and Kubernetes nodes are no labels."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.apply = Counter(
            "memplace_agent_apply_total",
            "Processes that were placed, could not be placed or ended meanwhile, by result.",
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
            "Bytes that were moved to a tier, as measured.",
            ["tier"],
            registry=registry,
        )
        self.pages_left = Counter(
            "memplace_agent_pages_not_returned_bytes_total",
            "Bytes that onDelete RestorePages should have moved back and could not.",
            registry=registry,
        )
        self.walks = Counter(
            "memplace_agent_policy_walks_total",
            "Reads of numa_maps for the policies of a process, each a walk of its page tables.",
            registry=registry,
        )
        self.walk_seconds = Counter(
            "memplace_agent_policy_walk_seconds_total",
            "Time that reads of numa_maps for policies took.",
            registry=registry,
        )
        self.managed_containers = Gauge(
            "memplace_agent_managed_containers",
            "Containers whose memory is placed, or moved by best effort, for a placement.",
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
            "Mappings whose policy was set by memplace, as last seen.",
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
            "Failed system calls; processes and mappings that are gone do not count.",
            ["call", "errno"],
            registry=registry,
        )
        self.processes_gone = Counter(
            "memplace_agent_processes_gone_total",
            "Processes that ended while the agent looked at them. This is normal.",
            registry=registry,
        )
        self.feature_supported = Gauge(
            "memplace_agent_feature_supported",
            "1 if the agent can use the feature on its node, else 0.",
            ["feature"],
            registry=registry,
        )
        self.last_success = Gauge(
            "memplace_agent_last_success_timestamp_seconds",
            "When no container was overdue for a look, in Unix time.",
            registry=registry,
        )
        self.lost_threads = Gauge(
            "memplace_agent_lost_threads",
            "Threads whose system calls on processes have not returned.",
            registry=registry,
        )
        self.watch_age = Gauge(
            "memplace_agent_watch_age_seconds",
            "Seconds since the API server last sent something about a kind.",
            ["kind"],
            registry=registry,
        )
        self.births = Counter(
            "memplace_agent_births_total",
            "Containers that should have had a default before their first page.",
            ["reached", "source"],
            registry=registry,
        )
        self.birth_duration = Histogram(
            "memplace_agent_birth_duration_seconds",
            "Time from the event of a container's cgroup until its first process has the default.",
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2),
            registry=registry,
        )
        self.shim_defaults = Gauge(
            "memplace_agent_shim_defaults",
            "containerd's shims that have a default set by memplace.",
            registry=registry,
        )
        self.nri_connected = Gauge(
            "memplace_agent_nri_connected",
            "1 while the container runtime announces containers before they run.",
            registry=registry,
        )
        self.nri_starts = Counter(
            "memplace_agent_nri_starts_total",
            "Starts of containers that the container runtime announced.",
            ["result"],
            registry=registry,
        )
        self.nri_answer_duration = Histogram(
            "memplace_agent_nri_answer_duration_seconds",
            "Time that the start of a container waited for the agent.",
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
