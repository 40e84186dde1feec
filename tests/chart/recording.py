# SPDX-License-Identifier: Apache-2.0
"""Half an hour of metrics, from the agent's and the operator's own registries."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from typing import Any

from memplace_agent.metrics import Metrics as AgentMetrics
from memplace_operator.metrics import Metrics as OperatorMetrics

STEP_S = 30
STEPS = 60


def openmetrics(until: float) -> str:
    """Return what Prometheus would have scraped of two agents and two operators.

    Args:
        until: The time of the last scrape, in Unix time.
    """
    families: dict[str, tuple[str, dict[str, list[str]]]] = {}
    programs: list[tuple[str, Any, Any]] = [*_agents(), *_operators()]
    for step in range(STEPS):
        at = until - (STEPS - 1 - step) * STEP_S
        for pod, metrics, act in programs:
            act(at, step)
            for family in metrics.registry.collect():
                kind = "unknown" if family.type == "untyped" else family.type
                _, series = families.setdefault(family.name, (kind, {}))
                for name, text in _samples(family, pod, at):
                    series.setdefault(name, []).append(text)
    return "".join(_written(families))


def _written(families: dict[str, tuple[str, dict[str, list[str]]]]) -> Iterator[str]:
    for name, (kind, series) in families.items():
        yield f"# TYPE {name} {kind}\n"
        for samples in series.values():
            yield from samples
    yield "# EOF\n"


def _samples(family: Any, pod: str, at: float) -> Iterator[tuple[str, str]]:
    for sample in family.samples:
        if sample.name.endswith("_created"):
            continue
        labels = {**sample.labels, "namespace": "memplace-system", "pod": pod}
        inner = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        series = f"{sample.name}{{{inner}}}"
        yield series, f"{series} {float(sample.value)!r} {at:.0f}\n"


def _agents() -> Iterator[tuple[str, AgentMetrics, Any]]:
    for number in range(2):
        metrics = AgentMetrics()
        metrics.build("0.1.0")
        dice = random.Random(number)

        def act(at: float, _: int, m: AgentMetrics = metrics, dice: random.Random = dice) -> None:
            m.apply.labels("success", "").inc(dice.randint(1, 5))
            m.apply.labels("failed", "MissingCapability").inc(dice.randint(0, 1))
            m.apply_duration.observe(dice.uniform(0.001, 0.5))
            m.apply_bytes.labels("cxl").inc(dice.randint(1, 64) << 20)
            m.managed_containers.set(dice.randint(3, 9))
            m.syscall_errors.labels("process_mbind", "EBUSY").inc()
            m.feature_supported.labels("process_mbind").set(1)
            m.feature_supported.labels("move_pages").set(1)
            m.last_success.set(at)
            for kind in ("pods", "memoryplacements", "memorytiers"):
                m.watch_age.labels(kind).set(dice.uniform(0, 60))
            m.births.labels("early", "cgroup").inc()

        yield f"memplace-agent-{number}", metrics, act


def _operators() -> Iterator[tuple[str, OperatorMetrics, Any]]:
    for number, leads in zip(count(), (True, False), strict=False):
        metrics, dice = OperatorMetrics(), random.Random(number)

        def act(
            at: float,
            _: int,
            m: OperatorMetrics = metrics,
            dice: random.Random = dice,
            leads: bool = leads,
        ) -> None:
            m.leader.set(leads)
            m.last_success.set(at if leads else 0)
            for reason in ("Placed", "Moving", "TierFull"):
                m.placements.labels(reason).set(dice.randint(1, 9))
            for state in ("Rolling", "Holding", "Done"):
                m.rollouts.labels(state).set(dice.randint(0, 2))
            m.reconciles.labels("success").inc(3)
            m.seconds.observe(dice.uniform(0.0001, 0.01))
            m.writes.labels("success").inc(2)
            m.writes.labels("error").inc(dice.randint(0, 1))

        yield f"memplace-operator-{number}", metrics, act
