# SPDX-License-Identifier: Apache-2.0
"""What a placement in mode DryRun would do, in a sentence. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from memplace.api.v1alpha1 import RuleStatus
from memplace.explain_rules import human_bytes
from memplace.reasons import Reason

from memplace_operator.verdicts import Verdict

_NOTHING = "mode DryRun: nothing is changed"


def trial_of(rules: Sequence[RuleStatus], verdicts: Sequence[Verdict]) -> str:
    """Say how much would move, of which rules, what would be in the way, and who would lose.

    Args:
        rules: What they hold, summed over pods.
        verdicts: One per pod.
    """
    measured = [each for verdict in verdicts for each in verdict.measured]
    if not measured:
        return f"{_NOTHING}, and nothing is measured yet"
    whole = sum(rule.bytes for rule in rules)
    pods = sum(bool(verdict.measured) for verdict in verdicts)
    where = f"{human_bytes(whole)} in {_pods(pods)}"
    withheld = _withheld(verdicts)
    moving = {
        rule.name: rule.misplaced_bytes - withheld[rule.name]
        for rule in rules
        if rule.misplaced_bytes > withheld[rule.name]
    }
    text = f"{_NOTHING}, and with mode Enforce none of {where} would move"
    if moving:
        size = human_bytes(sum(moving.values()))
        parts = ", ".join(f"rule {name} {human_bytes(part)}" for name, part in moving.items())
        text = f"{_NOTHING}; with mode Enforce {size} of {where} would move ({parts})"
    return "; ".join((text, *_in_the_way(verdicts, withheld), *_taken(verdicts)))


def _withheld(verdicts: Sequence[Verdict]) -> Counter[str]:
    # By rule, the bytes that a limit of a namespace would keep where they are.
    found: Counter[str] = Counter()
    for rule in (r for verdict in verdicts for m in verdict.measured for r in m.report.rules):
        found[rule.name] += rule.withheld_bytes
    return found


def _in_the_way(verdicts: Sequence[Verdict], withheld: Counter[str]) -> Iterator[str]:
    short, refused = (_having(verdicts, r) for r in (Reason.TIER_FULL, Reason.NAMESPACE_LIMIT))
    if refused:
        yield (
            f"{human_bytes(withheld.total())} in {_pods(refused)} would stay where it is, refused "
            f"for a limit of the namespace ({Reason.NAMESPACE_LIMIT}): see the containers' messages"
        )
    if short:
        yield f"in {short} of the pods not all of it would fit: see the containers' messages"


def _having(verdicts: Sequence[Verdict], reason: Reason) -> int:
    return sum(any(m.report.reason == reason for m in verdict.measured) for verdict in verdicts)


def _taken(verdicts: Sequence[Verdict]) -> Iterator[str]:
    # From whom, and of how many pods.
    found = Counter(name for verdict in verdicts for name in verdict.takes_from)
    if not found:
        return
    names = sorted(found)
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    pods = sum(bool(verdict.takes_from) for verdict in verdicts)
    yield f"it would take containers of {_pods(pods)} from {names[0]}{more}"


def _pods(count: int) -> str:
    return f"{count} pod{'' if count == 1 else 's'}"
