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
# Twelve placements are applied at once; then a tier is full; then all moves have ended.
_CHANGE, _FULL, _DONE = 20, 40, 46


def openmetrics(until: float) -> str:
    """Return what Prometheus would have scraped of three agents and two operators.

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
    # Two with process_mbind(), and one with a stock kernel.
    for number, kernel in enumerate((True, True, False)):
        metrics = AgentMetrics()
        metrics.build("0.1.0")
        dice = random.Random(number)

        def act(
            at: float,
            step: int,
            m: AgentMetrics = metrics,
            dice: random.Random = dice,
            *,
            kernel: bool = kernel,
            is_first: bool = number == 0,
        ) -> None:
            change = _CHANGE <= step < _DONE
            m.managed_containers.set(0 if not kernel else 12 if step >= _CHANGE else 5)
            m.feature_supported.labels("process_mbind").set(kernel)
            m.feature_supported.labels("move_pages").set(1)
            m.last_success.set(at - dice.uniform(0, 20))
            for kind in ("pods", "memoryplacements", "memorytiers"):
                m.watch_age.labels(kind).set(dice.uniform(0, 60))
            m.lost_threads.set(0)
            if not kernel:
                return
            # Four containers of a node stall for a while; one node is at the limit of a tenant.
            high = 4 if _CHANGE + 8 <= step < _CHANGE + 14 else 0
            raised = 3 if change else 1
            low = (12 if step >= _CHANGE else 5) - high - raised
            for word, many in (("High", high), ("Raised", raised), ("Low", low), ("Unknown", 0)):
                m.memory_pressure.labels(word).set(many)
            m.namespace_limited.labels("cxl").set(3 if step >= _FULL and is_first else 0)
            m.pages_left.inc((48 << 20) if step == _DONE else 0)
            m.birth_duration.observe(dice.uniform(0.0005, 0.004))
            m.nri_starts.labels("ready").inc(dice.randint(0, 2))
            m.nri_starts.labels("nothing").inc(dice.randint(0, 3))
            m.nri_starts.labels("late").inc(step % 13 == 0)
            m.nri_answer_duration.observe(dice.uniform(0.001, 0.02))
            m.apply.labels("success", "").inc(dice.randint(3, 6) if change else 1)
            m.apply.labels("gone", "").inc(dice.randint(0, 1))
            m.apply.labels("failed", "TooManyMappings").inc(step >= _FULL and step % 4 == 0)
            m.apply_duration.observe(dice.uniform(0.001, 0.2 if change else 0.02))
            m.apply_bytes.labels("cxl").inc(dice.randint(5800, 6300) << 20 if change else 0)
            m.apply_bytes.labels("dram").inc(dice.randint(0, 3) << 20)
            m.syscall_errors.labels("process_mbind", "EBUSY").inc(dice.randint(0, 1))
            m.syscall_errors.labels("process_mbind", "ENOMEM").inc(step >= _FULL)
            m.births.labels("early", "cgroup").inc(dice.randint(0, 2))
            m.births.labels("inherited", "cgroup").inc(dice.randint(0, 1))
            m.births.labels("late", "cgroup").inc(step % 9 == 0)

        yield f"memplace-agent-{number}", metrics, act


def _operators() -> Iterator[tuple[str, OperatorMetrics, Any]]:
    for number, leads in zip(count(), (True, False), strict=False):
        metrics, dice = OperatorMetrics(), random.Random(number)

        def act(
            at: float,
            step: int,
            m: OperatorMetrics = metrics,
            dice: random.Random = dice,
            *,
            leads: bool = leads,
        ) -> None:
            change = _CHANGE <= step < _DONE
            m.leader.set(leads)
            m.last_success.set(at if leads else 0)
            full = 2 if step >= _FULL else 0
            moving = max(0, 12 - (step - _CHANGE) // 2) if step >= _CHANGE else 0
            placed = 9 + (12 if step >= _CHANGE else 0) - moving - full
            m.due.set((dice.randint(0, 12) if change else dice.randint(0, 1)) if leads else 0)
            for kind in ("pods", "memoryplacements", "nodememories"):
                m.watch_age.labels(kind).set(dice.uniform(0, 50))
            for reason, number in (("Placed", placed), ("Moving", moving), ("TierFull", full)):
                m.placements.labels(reason).set(number)
            held = step >= _FULL
            for state, number in (("Rolling", change - held), ("Holding", held), ("Done", 1)):
                m.rollouts.labels(state).set(max(0, number))
            m.reconciles.labels("success").inc(dice.randint(4, 9) if change else 1)
            m.reconciles.labels("error").inc(0)
            m.seconds.observe(dice.uniform(0.0001, 0.01))
            m.writes.labels("success").inc(dice.randint(4, 9) if change else 1)
            m.writes.labels("error").inc(step == _CHANGE + 5)

        yield f"memplace-operator-{number}", metrics, act
