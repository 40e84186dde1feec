# SPDX-License-Identifier: Apache-2.0
"""Which policies in a process are memplace's, and what was there before.

Pure. The rule: memplace sets a policy in a *form* that the program itself does not use, and
remembers the form, not the mapping. The flag MPOL_F_STATIC_NODES is what makes the difference:
it changes nothing but what a change of the cpuset does to the nodes (there, memplace means
"the nodes of the tier" and not "my second node"). `record` looks at the program first:

- no mapping has the rule's mode with `static`: that form is ours, and means "had no policy";
- the plain form is ours as well, if free, and means "had this one policy" (rules that override);
- what is left over, such as a second previous policy, is remembered by range (`Kept`).

So mremap() takes along what is to be given back, a new mapping at an old address does not
inherit it, and fork() needs no record: the child has its parent's image and its policies.
exec() drops all policies and changes the image. What an unknown image has set is the
program's, unless its default for mappings to come is ours.

How crash points are covered, given that the claim is on disk before any call:

- Before the call: the claim says more than is true; nothing carries the form, nothing is done.
- After the call, or after a part of it: the form is found in the mappings that got it.
- Undo: the claim is changed after the last look that found nothing, so an undo that is cut off
  anywhere starts again with the same claim. An unknown image that has our default is written
  down (`admit`) before the default is taken away: later nothing else would tell its mappings.
  One that is seen for the first time after that call, in the same process, is taken to have
  had it until then.
- Fork in between: the child carries what its parent had at that moment, under the same image;
  undo in rounds until a look at the container finds no process that carries anything.
- exec: the image changes; what hung on the old one no longer applies. `prune` forgets it, once
  no process has it: until then a child of the one that executed may.
- exec right before a call: what the call sets, the new program has. Who saw the process before
  says which image that was (`Process.former`), and our forms with `static` are ours in the new
  one, too.
- Restart: the claim is read back; nothing of it depends on the agent's memory.
- A cpuset that changed, once, while no agent ran: `admit` computes what the kernel made of our
  forms. After two changes the outcome depends on the one in between; with `static` it does not.
- Upgrade and downgrade: see the agent's ledger_store.py.

What can't be told, and what happens then: a policy in exactly our form that the program sets
*after* memplace did, or under a default of ours that was there before its first look (taken for
ours); a kept range whose mapping moved, or was replaced by one with the default for mappings to
come (given back as the form or the range says); nodes that the kernel did not show at first,
such as those of a `static` mask outside of the cpuset, or a home node where numa_maps is all there
is (not given back); what a program maps that is executed right before the default is taken away,
if the agent ends right after that (the program's), and likewise what a call sets in it, or at any
time in a plain form; what an object got that came between the last read and a call, if the agent
ends before it reads again (theirs; else it is taken away at once, see `astray.withdraw`
and docs/adr/0042). Never adopted: a policy by its mode alone.

Example, for one process of a container (the store and the call are the agent's)::

    claim = store.get(container) or claim_for(container, placement, since=time.time())
    claim = admit(claim, process)
    view = View(claim, process)
    held = [region for region in regions if view.carries(region)]   # for the matcher
    as_rules_see_it = view.policy(region)                           # for the plan
    recorded = record(claim, process, plan.policies, regions)
    store.put(recorded.claim)                                       # before the call
    carry_out(recorded.changes)                                     # in the form to be set
    report(recorded.refused)
    # A rule is gone (these regions), or the placement (all of them):
    carry_out(View(claim, process).release(regions))
    # In the end, after a round in which no process carried anything:
    store.drop(container)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from memplace.claim_view import View, find_footprint, footprint_of
from memplace.claims import (
    DEFAULT,
    Change,
    Claim,
    Footprint,
    Mapped,
    Ours,
    Process,
    Wanted,
)
from memplace.forms import Elsewhere, Forms, NoForm, form_class
from memplace.kinds import Policy
from memplace.nodes import NumaSet
from memplace.rebind import roll


@dataclass(frozen=True, slots=True)
class Refused:
    """A range that gets no policy, since it could not be given back.

    Attributes:
        start: First address.
        end: First address after it.
        reason: PolicyCutOff (what it has can't be read), RelativePolicy (the program set it with
            MPOL_F_RELATIVE_NODES), ExceptionsAmbiguous (a forked process has something else in
            the same place, or the program had), TooManyExceptions or TooManyPolicies.
    """

    start: int
    end: int
    reason: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """What to write down and then to do.

    Attributes:
        claim: To be on disk before the first call.
        changes: What was wanted, by form; a range may have become several.
        refused: What of it is not to be done.
    """

    claim: Claim
    changes: tuple[Change, ...]
    refused: tuple[Refused, ...] = ()


def claim_for(container: str, placement: tuple[str, str, str], since: float) -> Claim:
    """Return the claim of a container that nothing was done in yet; see `Claim`."""
    return Claim(container=container, placement=placement, since=since)


def admit(claim: Claim, process: Process) -> Claim:
    """Bring a claim in line with a process, before anything else is done with the two.

    Returns:
        The same object if there is nothing to write. Else policies as a change of the cpuset
        left them, and a new image whose default for mappings to come is ours.
    """
    now = process.allowed
    defaults = tuple(_rolled(ours, now) for ours in claim.defaults)
    known = find_footprint(claim, process.image)
    footprint = footprint_of(claim, process)
    if defaults != claim.defaults:
        claim = replace(claim, defaults=defaults)
    if not process.image or (known is None and not footprint.ours):
        return claim
    footprint = replace(
        footprint,
        ours=tuple(_rolled(ours, now) for ours in footprint.ours),
        kept=tuple(replace(kept, ours=_rolled(kept.ours, now)) for kept in footprint.kept),
    )
    return _put(claim, process.image, footprint)


def is_rolled(before: Claim, after: Claim, image: int) -> bool:
    """Return whether `admit` has found that a cpuset changed, and not only a new image."""
    if before.defaults != after.defaults:
        return True
    known = find_footprint(before, image)
    return known is not None and known != find_footprint(after, image)


def record(
    claim: Claim,
    process: Process,
    steps: Iterable[Wanted],
    regions: Iterable[Mapped],
    relatives: Iterable[Mapped] = (),
) -> Recorded:
    """Take up what is about to be done to a process.

    Args:
        claim: The container's claim.
        process: The process.
        steps: Policies to set; what they cover of no region of `regions` is left out.
        regions: What the process has mapped, ascending.
        relatives: What other processes with the same image have mapped, as far as they are
            known: what they set themselves is not to be taken for ours either.

    Returns:
        Steps in the form to be set. What a mapping had before memplace stays remembered when
        one of our policies takes the place of another, and is not ours any more where a step
        wants just that.

    Raises:
        ValueError: The image of the process is not known.
    """
    regions = list(regions)
    claim = admit(claim, process)
    view, forms = _forms(claim, process, regions, relatives)
    changes: list[Change] = []
    refused: list[Refused] = []
    for step, region in _pairs(steps, regions):
        for start, end, previous in _previous(view, step, region):
            if not region.own and step.policy == previous == DEFAULT:
                continue
            try:
                form = forms.choose(step.policy, previous, start, end)
            except NoForm as err:
                refused.append(Refused(start, end, err.why))
            else:
                size = region.page_size
                changes.append(Change(start=start, end=end, policy=form, page_size=size))
    return Recorded(_put(claim, process.image, forms.footprint), tuple(changes), tuple(refused))


def record_default(
    claim: Claim,
    process: Process,
    policy: Policy,
    regions: Iterable[Mapped] = (),
    relatives: Iterable[Mapped] = (),
) -> tuple[Claim, Policy | None]:
    """Take up a default for mappings to come (MPOL_MF_FUTURE, MPOL_MF_FUTURE_EXEC).

    Args:
        claim: The container's claim.
        process: The process to get it; one that has a default of its own is left alone.
        policy: What the rules want.
        regions: As for `record`.
        relatives: As for `record`.

    Returns:
        The claim to be on disk before the call, and the policy in the form to be set: the
        one that `record` uses, so that new mappings merge with old ones. None if the program
        uses every form, so that what it maps later could not be told from what it sets.

    Raises:
        ValueError: The image of the process is not known.
    """
    claim = admit(claim, process)
    _, forms = _forms(claim, process, regions, relatives)
    try:
        form = forms.claim(policy, DEFAULT)
    except NoForm:
        form = None
    if form is None:
        return claim, None
    ours = Ours(form, process.allowed)
    if ours not in claim.defaults:
        claim = replace(claim, defaults=(*claim.defaults, ours))
    return _put(claim, process.image, forms.footprint), form


def record_newborn(claim: Claim, policy: Policy, allowed: NumaSet) -> tuple[Claim, Policy]:
    """Take up a default for a container that has not executed its program yet.

    What the runtime has mapped there ends with execve(), and no program is there to use a form
    by itself: so the claim speaks of the default alone, and needs no image. What the program
    maps under it is told as that of any image that nobody has seen (`View`).

    Args:
        claim: The container's claim.
        policy: What the rules want; no default policy.
        allowed: Mems_allowed_list of the process now; the runtime may set another later.

    Returns:
        The claim to be on disk before the call, and the policy in the form to be set.
    """
    form = Forms(Footprint(), allowed, ()).claim(policy, DEFAULT)
    if form is None:
        raise ValueError("the default policy is no default for mappings to come")
    if all(ours.policy != form for ours in claim.defaults):
        claim = replace(claim, defaults=(*claim.defaults, Ours(form, allowed)))
    return claim, form


def inherit(claim: Claim, defaults: Iterable[Ours]) -> Claim:
    """Return a claim that knows of defaults its processes may have been started with.

    Args:
        claim: The container's claim.
        defaults: Set in the process that started them, before or while it did.
    """
    known = {ours.policy for ours in claim.defaults}
    new = tuple(ours for ours in defaults if ours.policy not in known)
    return replace(claim, defaults=(*claim.defaults, *new)) if new else claim


def prune(
    claim: Claim, live: Collection[int], missed: Collection[int]
) -> tuple[Claim, frozenset[int]]:
    """Forget the images that no process had when the container was asked, twice in a row.

    Once is not enough: processes fork and move between cgroups while they are listed, and one
    that was left out may be the last to carry what its parent has lost by exec(). It is there
    when the container is asked the next time. Defaults stay, for they hang on no image.

    Args:
        claim: The container's claim.
        live: The images of its processes now.
        missed: What the time before returned; empty the first time.

    Returns:
        The claim, the same object if nothing is forgotten, and which of its images were missed
        this time.
    """
    missing = images_of(claim) - frozenset(live)
    gone = missing & frozenset(missed)
    if not gone:
        return claim, missing
    footprints = (replace(f, images=f.images - gone) for f in claim.footprints)
    left = tuple(footprint for footprint in footprints if footprint.images)
    return replace(claim, footprints=left), missing - gone


def images_of(claim: Claim) -> frozenset[int]:
    """Return the images that a claim knows."""
    return frozenset[int]().union(*(footprint.images for footprint in claim.footprints))


def _put(claim: Claim, image: int, footprint: Footprint) -> Claim:
    old = find_footprint(claim, image)
    if old is not None and replace(footprint, images=old.images) == old:
        return claim
    others = [replace(f, images=f.images - {image}) for f in claim.footprints]
    others = [f for f in others if f.images]
    for at, other in enumerate(others):
        if replace(footprint, images=other.images) == other:
            others[at] = replace(other, images=other.images | {image})
            break
    else:
        others.append(replace(footprint, images=frozenset({image})))
    return replace(claim, footprints=tuple(others))


def _rolled(ours: Ours, now: NumaSet) -> Ours:
    if ours.allowed == now:
        return ours
    policy, previous = (roll(p, ours.allowed, now) for p in (ours.policy, ours.previous))
    return Ours(policy, now, previous)


def _forms(
    claim: Claim, process: Process, regions: Iterable[Mapped], relatives: Iterable[Mapped]
) -> tuple[View, Forms]:
    if not process.image:
        raise ValueError("the image of the process is not known")
    view, relatives = View(claim, process), list(relatives)
    mapped = (*regions, *relatives)
    used = {form_class(r.policy) for r in mapped if r.own and not _is_ours(view, r)}
    elsewhere = [entry for region in relatives for entry in _elsewhere(view, region)]
    return view, Forms(footprint_of(claim, process), process.allowed, used, elsewhere)


def _is_ours(view: View, region: Mapped) -> bool:
    # The whole of it: the kernel joins a range of ours with one that the program gave the same.
    at = region.start
    for start, end, _ in view.parts(region):
        if at < start:
            return False
        at = end
    return at >= region.end


def _elsewhere(view: View, region: Mapped) -> Iterator[Elsewhere]:
    kind = form_class(region.policy) if region.own else DEFAULT
    at = region.start
    for start, end, ours in view.parts(region):
        if at < start:
            yield Elsewhere(at, start, kind)
        yield Elsewhere(start, end, kind, ours.previous)
        yield Elsewhere(start, end, form_class(ours.previous))
        at = end
    if at < region.end:
        yield Elsewhere(at, region.end, kind)


def _previous(view: View, step: Wanted, region: Mapped) -> Iterator[tuple[int, int, Policy | None]]:
    # What the parts of a region within a step had before memplace; None: it can't be read.
    first, last = max(step.start, region.start), min(step.end, region.end)
    theirs = region.policy if region.own else DEFAULT
    unread = None if region.own and not region.policy_is_whole else theirs
    parts = [(max(a, first), min(b, last), ours) for a, b, ours in view.parts(region)]
    at = first
    for start, end, ours in parts:
        if at < start < end and not region.own:
            yield at, start, theirs
        if start < end:
            yield start, end, ours.previous
            at = end
    # The program's part of a mapping that is partly ours stays, and what has by itself the
    # policy that is wanted needs no call, and none to undo it.
    if at < last and not (region.own and (parts or _is(unread, step.policy))):
        yield at, last, unread


def _is(policy: Policy | None, wanted: Policy) -> bool:
    return policy is not None and policy.without_home == wanted


def _pairs(steps: Iterable[Wanted], regions: list[Mapped]) -> Iterator[tuple[Wanted, Mapped]]:
    for step in steps:
        at = bisect_right(regions, step.start, key=lambda region: region.end)
        while at < len(regions) and regions[at].start < step.end:
            yield step, regions[at]
            at += 1
