# SPDX-License-Identifier: Apache-2.0
"""How much of a tier a namespace may have on a node, and which of its containers get that. Pure.

An admin writes limits into a MemoryTier. What a namespace has is what its containers hold of the
tier, in regions that a rule means which names the tier. Nobody is made to give anything back:
what is there counts first. The rest is given out in the order in which containers would get
their placements; who wants more than is left gets nothing new until enough is free.

    words = share_out(limit, holders, nodes, words)
    limited = Limited(withheld={"cxl": cap.text}, awaited=frozenset())
    limited.word(rule)      # what `plan` asks
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from memplace.api.v1alpha1 import MemoryTier, Rule
from memplace.nodes import NumaSet
from memplace.objects import Common, surplus
from memplace.quantity import format_quantity

# Who was refused has to fit with this part of the limit to spare: where pages are is sampled, and
# known to within two points. Without it, who is at the edge would come and go with each look.
_SPARE_SHARE = 16


class Word(Enum):
    """What a namespace's limit says about a rule in a container.

    GRANTED: it is followed.
    AWAITED: it is not known yet how much it would take: nothing new is done, nothing undone.
    WITHHELD: nothing new is placed; what is there stays, policies are given back.
    """

    GRANTED = auto()
    AWAITED = auto()
    WITHHELD = auto()


@dataclass(frozen=True, slots=True)
class Limited:
    """What limits say about one container: by tier, for people, why nothing new goes there.

    Attributes:
        withheld: Tiers of which it gets nothing new, and why.
        awaited: Tiers of which it is not known yet.
    """

    withheld: Mapping[str, str] = field(default_factory=dict)
    awaited: frozenset[str] = frozenset()

    def word(self, rule: Rule) -> Word:
        """Return what is said about a rule: the worst of what is said about its tiers."""
        if any(name in self.withheld for name in rule.policy.tiers):
            return Word.WITHHELD
        if any(name in self.awaited for name in rule.policy.tiers):
            return Word.AWAITED
        return Word.GRANTED

    def why(self, rule: Rule) -> str:
        """Return why a rule is withheld, for people; empty if it is not."""
        found = (self.withheld.get(name) for name in rule.policy.tiers)
        return next((text for text in found if text), "")

    def refused(self, rules: Iterable[Rule]) -> dict[str, str]:
        """Return the names of the rules that are withheld, and why, for people."""
        return {rule.name: why for rule in rules if (why := self.why(rule))}


UNLIMITED = Limited()


@dataclass(frozen=True, slots=True)
class Cap:
    """What a namespace may have of a tier on this node, in bytes, and how that is said."""

    bytes: int
    said: str
    tier: str

    @property
    def text(self) -> str:
        """Why nothing new goes there, for people."""
        return (
            f"{self._would_have_more}: nothing new is placed there, what is there stays. "
            f"{self._todo}"
        )

    @property
    def forecast(self) -> str:
        """Why nothing would go there if a dry run was meant, for people."""
        return (
            f"{self._would_have_more}: with mode Enforce nothing would be placed there. "
            f"{self._todo}"
        )

    @property
    def _would_have_more(self) -> str:
        return f"{self.said}, and with this container would have more"

    @property
    def _todo(self) -> str:
        return (
            "Have less memory selected, or ask an admin for more: namespaceLimits of MemoryTier "
            f"{self.tier}"
        )


@dataclass(frozen=True, slots=True)
class Caps:
    """The limits that hold on a node: the MemoryTiers that have any, and the tiers' sizes."""

    tiers: tuple[tuple[MemoryTier, int], ...] = ()

    def of(self, namespace: str) -> dict[str, Cap]:
        """Return what a namespace may have, by tier; tiers without a limit are not in it."""
        found = {}
        for tier, size in self.tiers:
            limit = tier.spec.limit_of(namespace)
            if limit is not None:
                cap, said = limit.bytes_of(size), str(limit.per_node)
                of = f" ({_roughly(cap)} on this node)" if said.endswith("%") else ""
                text = f"namespace {namespace} may have {said}{of} of tier {tier.name}"
                found[tier.name] = Cap(cap, text, tier.name)
        return found


def caps_on(
    memory_tiers: Iterable[MemoryTier],
    tiers: Mapping[str, NumaSet],
    sizes: Mapping[int, int],
    node_name: str,
    labels: Mapping[str, str],
) -> Caps:
    """Return the limits that hold on a node.

    Args:
        memory_tiers: All MemoryTiers; those that do not cover the node limit nothing there.
        tiers: Tier name to NUMA nodes of the node.
        sizes: Bytes of each NUMA node.
        node_name: The Kubernetes node's name.
        labels: Its labels.
    """
    return Caps(
        tuple(
            (tier, sum(sizes.get(number, 0) for number in tiers[tier.name]))
            for tier in sorted(memory_tiers, key=lambda tier: tier.name)
            if tier.spec.namespace_limits
            and tier.name in tiers
            and tier.spec.covers(node_name, labels)
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A container of the namespace that has some of the tier, or wants some.

    Attributes:
        container: Its id.
        order: Who sorts first is served first.
        has: Bytes that it has of the tier.
        needs: Bytes it would have on top, if its rules were followed; None if that is not known.
        asks: Whether it follows a rule that names the tier; if not, it only has what it has.
        commons: Which of the bytes other containers may have as well.
    """

    container: str
    order: tuple[object, ...]
    has: int = 0
    needs: int | None = None
    asks: bool = True
    commons: tuple[Common, ...] = ()


def held(holders: Iterable[Holder], nodes: NumaSet) -> int:
    """Return what containers have of a tier together; of shared memory each byte once.

    Args:
        holders: The containers.
        nodes: The NUMA nodes of the tier.
    """
    holders = tuple(holders)
    total = sum(each.has for each in holders)
    return max(0, total - _twice(holders, lambda node: node in nodes))


def _needed(holders: Sequence[Holder], nodes: NumaSet) -> int:
    # What is shared and elsewhere is moved once.
    total = sum(each.needs or 0 for each in holders)
    return max(0, total - _twice(holders, lambda node: node not in nodes))


def _twice(holders: Sequence[Holder], counts: Callable[[int], bool]) -> int:
    # What a sum over containers counts too often; each has told what it maps twice once already.
    sharing = [each for each in holders if each.commons]
    if len(sharing) < 2:
        return 0
    over = _over((c for each in sharing for c in each.commons), counts)
    return max(0, over - sum(_over(each.commons, counts) for each in sharing))


def _over(commons: Iterable[Common], counts: Callable[[int], bool]) -> int:
    # Rules of different placements may have one name, and one object two rules.
    alike = (replace(common, rule="") for common in commons)
    return sum(size for on in surplus(alike).values() for node, size in on.items() if counts(node))


def share_out(
    limit: int, holders: Iterable[Holder], nodes: NumaSet, before: Mapping[str, Word]
) -> dict[str, Word]:
    """Say who may be placed.

    While it is not known of somebody how much that one has, as when an agent begins, nobody else is
    served for the first time: all of it may be taken.

    Args:
        limit: Bytes that all may have together.
        holders: The containers of the namespace, in any order.
        nodes: The NUMA nodes of the tier.
        before: What was said last, by id.

    Returns:
        A word for each that asks. What those that are served need more is not more than what
        the limit leaves; where they have more than the limit already, all are refused.

    Example:
        >>> mine = Holder(container="a", order=(1,), has=3, needs=5)
        >>> share_out(8, [mine], frozenset({1}), {})
        {'a': <Word.GRANTED: 1>}
        >>> share_out(7, [mine], frozenset({1}), {})
        {'a': <Word.WITHHELD: 3>}
    """
    holders = tuple(holders)
    asking = sorted((each for each in holders if each.asks), key=lambda each: each.order)
    is_known = all(each.needs is not None for each in asking)
    left = limit - held(holders, nodes)
    words: dict[str, Word] = {}
    served: list[Holder] = []
    for each in asking:
        said = before.get(each.container, Word.AWAITED)
        spare = limit // _SPARE_SHARE if said is Word.WITHHELD else 0
        if not limit or _needed([*served, each], nodes) + spare > left:
            words[each.container] = Word.WITHHELD
            continue
        is_awaited = each.needs is None or (said is Word.AWAITED and not is_known)
        words[each.container] = Word.AWAITED if is_awaited else Word.GRANTED
        served.append(each)
    return words


def foresee(
    limit: int,
    holders: Iterable[Holder],
    trials: Iterable[Holder],
    nodes: NumaSet,
    before: Mapping[str, Word],
) -> dict[str, Word]:
    """Say who of a dry run would be placed if that were meant; as `share_out` for the others.

    Args:
        limit: Bytes that all may have together.
        holders: The containers of the namespace, as they are.
        trials: Those of the dry run, as they would be then.
        nodes: The NUMA nodes of the tier.
        before: What was said last, by id: of a dry run's what was foreseen.

    Example:
        >>> real, tried = (Holder(container=id_, order=(id_,), needs=5) for id_ in "ab")
        >>> foresee(8, [real], [tried], frozenset({1}), {})
        {'b': <Word.WITHHELD: 3>}
    """
    tried = {each.container: each for each in trials}
    others = [each for each in holders if each.container not in tried]
    words = share_out(limit, [*others, *tried.values()], nodes, before)
    return {container: words[container] for container in tried if container in words}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimant:
    """A container that would ask for some of a tier, as far as reports tell.

    Attributes:
        container: Its id.
        order: Who sorts first is served first.
        least: Bytes that it needs at least on top of what it has.
        most: Bytes that it needs at most; None if nobody knows.
    """

    container: str
    order: tuple[object, ...]
    least: int = 0
    most: int | None = None


def outlook(limit: int, has: int, claimants: Iterable[Claimant]) -> dict[str, Word]:
    """Say who would be placed, where it is only known within bounds who needs how much.

    Args:
        limit: Bytes that all may have together.
        has: What all of them have.
        claimants: Who would ask.

    Returns:
        GRANTED or WITHHELD where that is so whatever the others need within their bounds, and
        AWAITED where it can't be told.

    Example:
        >>> outlook(8, 3, [Claimant(container="a", order=(1,), least=5, most=5)])
        {'a': <Word.GRANTED: 1>}
    """
    words: dict[str, Word] = {}
    # What those that come first have got on top, at least and at most.
    least, most = 0, 0
    for each in sorted(claimants, key=lambda each: each.order):
        bound = limit if each.most is None else each.most
        if not limit or has + least + each.least > limit:
            words[each.container] = Word.WITHHELD
            continue
        if each.most is not None and has + most + each.most <= limit:
            words[each.container] = Word.GRANTED
            least += each.least
        else:
            words[each.container] = Word.AWAITED
        most += bound
    return words


def is_closed(limit: int, has: int, words: Mapping[str, Word]) -> bool:
    """Return whether memory of containers that are still to come may not go to the tier."""
    return has >= limit or Word.WITHHELD in words.values()


def _roughly(size: int) -> str:
    for suffix, unit in (("Gi", 1 << 30), ("Mi", 1 << 20)):
        if size >= unit:
            return f"{round(size / unit, 1):g}{suffix}"
    return format_quantity(size)
