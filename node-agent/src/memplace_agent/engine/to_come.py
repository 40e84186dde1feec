# SPDX-License-Identifier: Apache-2.0
"""What a process is to have as its defaults for mappings to come, and what is to be done. Pure.

A default that somebody else has set is the program's own, as a policy of a mapping is: it is
left alone. One that is gone, since the process executed a program with more privileges or
since somebody took it away, is set again by the next look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from memplace.api.v1alpha1 import Rule
from memplace.claim_view import View
from memplace.claims import DEFAULT, Claim, Mapped, Process
from memplace.future import BORN, Future, Implied, explain_future, future_policy
from memplace.kinds import Policy, RegionKind
from memplace.ledger import record_default
from memplace.limits import UNLIMITED, Limited, Word
from memplace.problems import Problem
from memplace.reasons import Reason
from memplace.rebind import STATIC

from memplace_agent.engine.apply import SetFuture
from memplace_agent.procfs.status import FutureDefault, Status

# Why a process does not have the default that its rules imply, for people.
_LEFT_ALONE = "has a default of its own, which is left alone (OwnPolicy)"
_NO_FORM = "uses all forms of the policy itself, so that it could not be told from the program's"
_LIMITED = "gets none, for its namespace has what it may have of the tier"
_TOO_MANY_MAPPINGS = "has nearly as many mappings as it may have"


@dataclass(frozen=True, slots=True)
class ToCome:
    """What is to be done about a process's defaults.

    Attributes:
        steps: What to set, as rules spell policies, or to take away; at most one per kind.
        why_not: Why the process will not have what is implied, for people, or empty.
    """

    steps: tuple[SetFuture, ...] = ()
    why_not: str = ""

    @property
    def without_new(self) -> ToCome:
        """The same for a process that has nearly as many mappings as it may have.

        Mappings with a policy do not merge with those without, so there would be more of them.
        """
        kept = tuple(step for step in self.steps if step.policy == DEFAULT)
        return self if kept == self.steps else ToCome(kept, _TOO_MANY_MAPPINGS)


def todo(
    future: Future,
    policy_of: Callable[[Rule], Policy | Problem],
    status: Status,
    view: View,
    limited: Limited = UNLIMITED,
) -> ToCome:
    """Compare the defaults that a process has with those that its rules imply.

    Args:
        future: What the rules imply.
        policy_of: Tells the policy of a rule on this node, for this process.
        status: What was just read of the process.
        view: The process through its container's claim.
        limited: Which rules get nothing new: what they imply is taken away, and not set again.
    """
    # Both in one call where they are the same.
    kinds: dict[Policy, set[RegionKind]] = {}
    least, why_not = 0, ""
    for kind in BORN:
        implied, has = future.of(kind), _default_of(status, kind)
        ours = has is not None and view.is_our_default(has.whole_policy)
        if has is not None and not ours:
            why_not = _LEFT_ALONE
        elif not isinstance(implied, Implied) or limited.word(implied.rule) is Word.WITHHELD:
            if ours:
                kinds.setdefault(DEFAULT, set()).add(kind)
            if isinstance(implied, Implied):
                why_not = why_not or f"{_LIMITED} ({Reason.NAMESPACE_LIMIT})"
        elif limited.word(implied.rule) is Word.AWAITED:
            continue  # as it is, until it is known what the namespace has
        elif isinstance(policy := policy_of(implied.rule), Problem):
            # As what is mapped by now, it stays as it is.
            why_not = why_not or f"can't follow rule {policy.rule} ({policy.reason})"
        elif not _is(has, future_policy(policy), implied.least):
            kinds.setdefault(future_policy(policy), set()).add(kind)
            least = max(least, implied.least)
    steps = (
        SetFuture(
            kinds=frozenset(for_),
            policy=policy,
            least=least if RegionKind.ANONYMOUS in for_ and policy != DEFAULT else 0,
        )
        for policy, for_ in kinds.items()
    )
    return ToCome(tuple(steps), why_not)


def recorded(
    found: ToCome,
    claim: Claim,
    process: Process,
    mapped: Sequence[Mapped],
    relatives: Iterable[Iterable[Mapped]],
) -> tuple[Claim, ToCome]:
    """Take up what is about to be set, as `memplace.ledger.record_default`.

    Args:
        found: What is to be done.
        claim: The container's claim, `admit`ted.
        process: The process.
        mapped: What it has mapped.
        relatives: What other processes of its image have with a policy of their own.

    Returns:
        The claim to be on disk before the calls, and what to do, in the form to be set.
    """
    if not found.steps:
        return claim, found
    steps: list[SetFuture] = []
    why_not, others = found.why_not, [region for each in relatives for region in each]
    for step in found.steps:
        form: Policy | None = step.policy
        if step.policy != DEFAULT:
            claim, form = record_default(claim, process, step.policy, mapped, others)
        if form is None:
            why_not = _NO_FORM
        else:
            steps.append(replace(step, policy=form))
    return claim, ToCome(tuple(steps), why_not)


def taken_away(status: Status, view: View) -> tuple[SetFuture, ...]:
    """Return what takes the defaults of a process away that are memplace's."""
    ours = frozenset(
        kind
        for kind in BORN
        if (has := _default_of(status, kind)) and view.is_our_default(has.whole_policy)
    )
    return (SetFuture(kinds=ours, policy=DEFAULT),) if ours else ()


def sentence(future: Future | None, why_not: Iterable[str]) -> str:
    """Say what of a container's new memory is placed from the first page on.

    Args:
        future: What its rules imply; None where the kernel has no defaults.
        why_not: Of each of its processes, `ToCome.why_not`.
    """
    if future is None:
        return ""
    found = Counter(why_not)
    total = found.total()
    others = (f"; {n} of {total} processes: {text}" for text, n in found.items() if text)
    return explain_future(future) + "".join(others)


def _default_of(status: Status, kind: RegionKind) -> FutureDefault | None:
    return status.future_brk if kind is RegionKind.BRK else status.future_mmap


def _is(has: FutureDefault | None, policy: Policy, least: int) -> bool:
    if has is None or has.least != least or not has.kept_across_exec:
        return False
    shown = has.policy
    return (shown.mode, shown.nodes, shown.flags - {STATIC}) == (
        policy.mode,
        policy.nodes,
        policy.flags,
    )
