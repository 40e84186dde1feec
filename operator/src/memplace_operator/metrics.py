# SPDX-License-Identifier: Apache-2.0
"""The operator's metrics, in a registry of their own."""

from __future__ import annotations

from memplace import __version__
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector


class Metrics:
    """What is counted; names are an interface."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.reconciles = Counter(
            "memplace_operator_reconcile_total",
            "Verdicts on a placement, by result: success, error.",
            ["result"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "memplace_operator_reconcile_duration_seconds",
            "Time of one verdict on a placement.",
            registry=self.registry,
        )
        self.writes = Counter(
            "memplace_operator_status_writes_total",
            "Writes of a placement's status, by result: success, error.",
            ["result"],
            registry=self.registry,
        )
        self.placements = Gauge(
            "memplace_operator_placements",
            "Placements, by the reason of their condition Ready.",
            ["reason"],
            registry=self.registry,
        )
        self.rollouts = Gauge(
            "memplace_operator_rollouts",
            "Placements with spec.rollout, by state of the roll-out: Rolling, Holding, Done.",
            ["state"],
            registry=self.registry,
        )
        self.last_success = Gauge(
            "memplace_operator_last_success_timestamp_seconds",
            "When the operator last had no placement left to judge, in Unix time.",
            registry=self.registry,
        )
        self.due = Gauge(
            "memplace_operator_due_placements",
            "Placements that wait for a verdict.",
            registry=self.registry,
        )
        self.watch_age = Gauge(
            "memplace_operator_watch_age_seconds",
            "Seconds since the API server last sent something about a kind.",
            ["kind"],
            registry=self.registry,
        )
        self.leader = Gauge(
            "memplace_operator_leader",
            "1 while this operator holds the Lease and writes, else 0.",
            registry=self.registry,
        )
        build = Gauge(
            "memplace_build_info", "Always 1.", ["version", "component"], registry=self.registry
        )
        build.labels(__version__, "operator").set(1)
