# SPDX-License-Identifier: Apache-2.0
"""Look again at a process that is as it was: only its pages can be elsewhere by now.

The kernel demotes, balances and swaps pages without a change of any mapping. So they are
sampled from time to time; regions are made and planned only if some are not in their place.
"""

from __future__ import annotations

from dataclasses import replace

from memplace_agent.containers.pinning import Pinned
from memplace_agent.engine.hands import Hands
from memplace_agent.engine.placer import Outcome, Wanted
from memplace_agent.engine.survey import Survey
from memplace_agent.node.forked import Others


def is_same(before: Outcome, survey: Survey) -> bool:
    """Return whether a process that had nothing left to do is as it was, but for its pages."""
    return before.is_done and not before.problems and survey.is_like(before.survey)


def look_again(
    hands: Hands,
    pinned: Pinned,
    wanted: Wanted,
    before: Outcome,
    survey: Survey,
    *,
    others: Others | None = None,
) -> Outcome | None:
    """Look at the pages of a process that `is_same`, under the same placement.

    Returns:
        What it holds by now; None if that has to be planned, since pages are not in their
        place, or rules or mappings to come have problems.

    Raises:
        ProcessGone: It ended meanwhile.
        Stuck: It did not let itself be looked at in time.
        CallFailed: The kernel refuses.
    """
    plan, status = before.plan, survey.view.status
    if plan is None or plan.problems or before.no_default or status is None:
        return None
    spans = before.holding.spans()
    found = hands.measure(pinned, wanted.group, spans, status.resident, others=others)
    results = before.holding.measured(wanted.matcher.rules, plan.rules, found.pages)
    if any(result.misplaced_bytes for result in results):
        return None
    return replace(
        before,
        plan=replace(plan, rules=results),
        error=found.error,
        changed=False,
        commons=before.holding.commons(found.pages, found.common, survey.image, found.forked),
    )
