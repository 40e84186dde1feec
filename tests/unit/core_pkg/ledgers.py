# SPDX-License-Identifier: Apache-2.0
"""A small program whose policies the ledger's tests set and give back, case by case."""

from dataclasses import dataclass, replace

from memplace.claim_view import View
from memplace.claims import Process
from memplace.kinds import Mode, Policy
from memplace.ledger import claim_for, record

from tests.unit.core_pkg.memory import PAGE, Seen

DEFAULT = Policy(Mode.DEFAULT)
CXL = Policy(Mode.PREFERRED_MANY, frozenset({1}))
OURS = replace(CXL, flags=frozenset({"static"}))
BIND0 = Policy(Mode.BIND, frozenset({0}))
BIND1 = Policy(Mode.BIND, frozenset({1}))
EMPTY = claim_for("c" * 64, ("uid", "ns", "name"), 1.5)
BOTH = frozenset({0, 1})
ONE, OTHER = Process(7, BOTH), Process(8, BOTH)


@dataclass
class Step:
    start: int
    end: int
    policy: Policy = CXL


def seen(start, size=4, policy=DEFAULT, **kwargs):
    kwargs.setdefault("own", policy != DEFAULT)
    return Seen(start * PAGE, (start + size) * PAGE, policy, **kwargs)


def placed(*regions, process=ONE, claim=EMPTY, policy=CXL, relatives=()):
    """Set one policy on all regions: what to write down, and what is mapped then."""
    steps = [Step(r.start, r.end, policy) for r in regions]
    recorded = record(claim, process, steps, regions, relatives)
    after = [
        replace(region, policy=change.policy, own=True, start=change.start, end=change.end)
        for region in regions
        for change in recorded.changes
        if region.start <= change.start and change.end <= region.end
    ]
    return recorded, after


def given_back(claim, regions, process=ONE):
    return [c.policy for c in View(claim, process).release(regions)]
