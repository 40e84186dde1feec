# SPDX-License-Identifier: Apache-2.0
"""What a placement in mode DryRun would do, in a sentence. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from memplace.api.v1alpha1 import RuleStatus
from memplace.explain_rules import human_bytes
from memplace.reasons import Reason

from memplace_operator.verdicts import Verdict

_NOTHING = "mode DryRun: nothing is changed"


def trial_of(rules: Sequence[RuleStatus], verdicts: Sequence[Verdict]) -> str:
    """Say how much would move, of which rules, and where not all of it would fit.

    Args:
        rules: What they hold, summed over pods.
        verdicts: One per pod.
    """
    measured = [each for verdict in verdicts for each in verdict.measured]
    if not measured:
        return f"{_NOTHING}, and nothing is measured yet"
    moving = [rule for rule in rules if rule.misplaced_bytes]
    whole = sum(rule.bytes for rule in rules)
    pods = sum(bool(verdict.measured) for verdict in verdicts)
    where = f"{human_bytes(whole)} in {pods} pod{'' if pods == 1 else 's'}"
    if not moving:
        return f"{_NOTHING}, and with mode Enforce none of {where} would move"
    size = human_bytes(sum(rule.misplaced_bytes for rule in moving))
    parts = ", ".join(f"rule {rule.name} {human_bytes(rule.misplaced_bytes)}" for rule in moving)
    text = f"{_NOTHING}; with mode Enforce {size} of {where} would move ({parts})"
    short = sum(
        any(each.report.reason == Reason.TIER_FULL for each in verdict.measured)
        for verdict in verdicts
    )
    if short:
        text += f"; in {short} of the pods not all of it would fit: see the containers' messages"
    return text
