# SPDX-License-Identifier: Apache-2.0
"""What memplace did to an object: a claim of the ledger's, with offsets for addresses.

The policy of shmem is kept in the object and in force for all who map it, so it belongs to no
container and to no process: an object is to its claim what an address space is to that of a
container. What a mapping shows of an object's policies is the one at its first page.

mbind() through a mapping has a catch: where the mapping was given the same policy before, the
kernel takes it for done and does not touch the object, which may have another by now. Each
process has mappings of its own, and nobody can read what they were given. So a policy is set
in two calls, the first of which sets what the object has already: it changes nothing there,
and after it the second one is new to the mapping.

Source: linux ``mm/mempolicy.c:mbind_range()``, ``mpol_set_shared_policy()``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from memplace.claim_view import View
from memplace.claims import DEFAULT, Change, Claim, Process
from memplace.ledger import record
from memplace.objects import ALL_NODES
from memplace.policy import Step
from memplace.regions import Region

# In place of a process: there is one image, and no cpuset changes what is in an object.
PROCESS = Process(1, ALL_NODES)


@dataclass(frozen=True, slots=True)
class Way:
    """What to do to the mappings of one process, in this order.

    Attributes:
        first: What is there.
        then: What is wanted.
        refused: Why a range is left out, the reason of a `ledger.Refused`; or empty.
    """

    first: tuple[Change, ...] = ()
    then: tuple[Change, ...] = ()
    refused: str = ""


def located(region: Region) -> Region:
    """Return a region with its place in the object for its addresses."""
    return structs.replace(region, start=region.offset, end=region.offset + region.size)


def view_of(claim: Claim) -> View:
    """Return which policies of an object, as `located` regions show them, are memplace's."""
    return View(claim, PROCESS)


def prepare(
    claim: Claim, steps: Sequence[Step], regions: Sequence[Region], others: Iterable[Region] = ()
) -> tuple[Claim, Way]:
    """Take up what is about to be done to an object through the mappings of one process.

    Args:
        claim: The object's.
        steps: Each for one of the regions, whole.
        regions: Mappings of the object, as the kernel shows them, at their addresses.
        others: What other processes map of it, `located`.

    Returns:
        The claim to be on disk before the first call, and the calls.
    """
    by_start = {region.start: region for region in regions}
    asked = [(step, by_start[step.start]) for step in steps if step.start in by_start]
    wanted = [(replace(step, start=r.offset, end=r.offset + r.size), r) for step, r in asked]
    first: list[Change] = []
    then: list[Change] = []
    refused = ""
    for step, region in wanted:
        done = record(claim, PROCESS, [step], [located(region)], others)
        if done.refused:
            refused = refused or done.refused[0].reason
            continue
        claim = done.claim
        first += [_as_it_is(region)] if done.changes else []
        then += _shifted(done.changes, region.start - region.offset)
    return claim, Way(tuple(first), tuple(then), refused)


def release(claim: Claim, regions: Iterable[Region]) -> Way:
    """Return the calls that give an object back what it had, where these regions show it.

    Args:
        claim: The object's.
        regions: Mappings of it, as the kernel shows them, at their addresses.
    """
    view = view_of(claim)
    first: list[Change] = []
    then: list[Change] = []
    for region in regions:
        changes = view.release([located(region)])
        first += [_as_it_is(region)] if changes else []
        then += _shifted(changes, region.start - region.offset)
    return Way(tuple(first), tuple(then))


def _as_it_is(region: Region) -> Change:
    policy = region.policy if region.own else DEFAULT
    size = region.page_size
    return Change(start=region.start, end=region.end, policy=policy, page_size=size)


def _shifted(changes: Iterable[Change], shift: int) -> list[Change]:
    return [replace(c, start=c.start + shift, end=c.end + shift) for c in changes]
