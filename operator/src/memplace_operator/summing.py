# SPDX-License-Identifier: Apache-2.0
"""What a placement's status says of its pods together, and of the worst of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from memplace.api.conditions import shorten
from memplace.api.v1alpha1 import OTHER_TIER, PodStatus, RuleStatus, TierBytes
from memplace.explain_rules import human_bytes
from memplace.reasons import Reason
from memplace.results import bytes_per_tier
from msgspec import UNSET

from memplace_operator.objects import Pod
from memplace_operator.verdicts import Measured, Verdict

# Every agent of the cluster is sent each status that changes: enough to go on with, and no more.
WORST = 20
_MESSAGE = 256
# What one lying agent says must not make the API server refuse the status of everybody: no
# more tiers than a node has, the others are elsewhere; and no more than an int64.
_TIERS = 64
_MOST = 2**63 - 1

_FINE = (Reason.PLACED, Reason.PLACED_BEST_EFFORT)


def tiers_of(measured: Iterable[Measured], rule: str | None = None) -> tuple[TierBytes, ...]:
    """Sum up bytes per tier, by name, ``other`` last.

    Args:
        measured: Reports of containers.
        rule: Of this rule; None for all rules.
    """
    return _added(
        tier
        for each in measured
        for report in each.report.rules
        if rule in (None, report.name)
        for tier in bytes_per_tier({n.id: n.bytes for n in report.numa_nodes}, each.tiers)
    )


def _added(parts: Iterable[TierBytes]) -> tuple[TierBytes, ...]:
    per_tier: dict[str, int] = {}
    for tier in parts:
        name = tier.name if tier.name in per_tier or len(per_tier) < _TIERS else OTHER_TIER
        per_tier[name] = per_tier.get(name, 0) + tier.bytes
    ordered = sorted(per_tier.items(), key=lambda item: (item[0] == OTHER_TIER, item[0]))
    return tuple(TierBytes(name=tier, bytes=_bounded(size)) for tier, size in ordered)


def _bounded(total: int) -> int:
    return min(total, _MOST)


def rule_status(name: str, measured: Sequence[Measured]) -> RuleStatus:
    """Sum up what one rule holds."""
    reports = [r for each in measured for r in each.report.rules if r.name == name]
    return RuleStatus(
        name=name,
        regions=_bounded(sum(r.regions for r in reports)),
        bytes=_bounded(sum(r.bytes for r in reports)),
        tiers=tiers_of(measured, name),
        misplaced_bytes=_bounded(sum(r.misplaced_bytes for r in reports)),
    )


def worst_pods(
    judged: Iterable[tuple[Pod, Verdict]], *, qualified: bool = False
) -> tuple[PodStatus, ...]:
    """Return the pods that are not placed, the worst first, `WORST` at most.

    Args:
        judged: All pods, in an order that does not change by itself: it decides between equals.
        qualified: Whether their names begin with their namespaces.
    """
    left = [(pod, verdict) for pod, verdict in judged if verdict.reason not in _FINE]
    left.sort(key=lambda each: each[1].reason.rank)
    return tuple(
        PodStatus(
            name=pod.name.rpartition("/")[2],
            namespace=pod.name.partition("/")[0] if qualified else UNSET,
            node=pod.node,
            reason=verdict.reason,
            message=_short(verdict.message),
            tiers=tiers_of(verdict.measured),
        )
        for pod, verdict in left[:WORST]
    )


def summary_of(
    verdicts: Sequence[Verdict], rules: Iterable[RuleStatus], *, yielded: int = 0
) -> str:
    """Say in a sentence how many pods are placed, and where the bytes of the rules are.

    Args:
        verdicts: One per pod.
        rules: What they hold.
        yielded: How many pods follow placements of their namespaces instead.
    """
    others = f"{yielded} with a placement of {'its' if yielded == 1 else 'their'} own"
    if not verdicts:
        return f"no running pods, but {others}" if yielded else "no running pods"
    fine = sum(verdict.reason in _FINE for verdict in verdicts)
    text = f"{fine} of {len(verdicts)} pod{'' if len(verdicts) == 1 else 's'} placed"
    tiers = _added(tier for rule in rules for tier in rule.tiers)
    where = ", ".join(f"{human_bytes(tier.bytes)} on {tier.name}" for tier in tiers)
    return shorten("; ".join(filter(None, (text, where, others if yielded else ""))))


def _short(message: str) -> str:
    return message if len(message) <= _MESSAGE else f"{message[: _MESSAGE - 1]}…"
