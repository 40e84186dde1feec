# SPDX-License-Identifier: Apache-2.0
"""From the view of a process to the core's regions."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator

from memplace.claims import DEFAULT
from memplace.kinds import Policy, RegionKind
from memplace.objects import ObjectId
from memplace.regions import Region
from msgspec import structs

from memplace_agent.procfs.kinds import DELETED, is_special, kind_of
from memplace_agent.procfs.numa_maps import NumaMapping
from memplace_agent.procfs.process import ProcessView
from memplace_agent.procfs.vmas import PolicySource, Vma, VmaClass


def regions_of(
    view: ProcessView, wanted: Callable[[Region], bool] | None = None
) -> tuple[Region, ...]:
    """Return the mappings of a view as regions, in ascending order.

    Args:
        view: Of a process.
        wanted: Whether regions like one are of interest, whatever their addresses and sizes
            (0 here): asked once for each class of mappings, and each kind of it. None for all.

    Returns:
        Where the view knows no policies, they are all Default and not the mappings' own. With
        policies from numa_maps, mappings that changed while it was read are left out.
    """
    templates = _Templates(view, wanted)
    numa, stacks, vmas = view.numa, view.stacks, view.vmas
    # Only numa_maps does not tell whose a policy is, and to look for it may take all mappings.
    task = DEFAULT if numa is None else task_policy_of(view)
    regions, before = [], -1
    arrays = vmas.starts, vmas.ends, vmas.class_of, vmas.offsets
    for first, end, number, offset in zip(*arrays, strict=True):
        # Where one ends and the next begins is one object, not two.
        start, before = before if first == before else first, end
        like = templates[number, start in stacks]
        if like is None or (numa is not None and start not in numa):
            continue
        region = structs.replace(like, start=start, end=end, offset=offset if like.object else 0)
        regions.append(_with_numa(region, numa[start], task) if numa is not None else region)
    return tuple(regions)


def own_policies(view: ProcessView) -> Iterator[tuple[int, int, Policy]]:
    """Yield ``(start, end, policy)`` of what `regions_of` shows as own where numa_maps was read."""
    numa, task, vmas = view.numa or {}, task_policy_of(view), view.vmas
    for start, end in zip(vmas.starts, vmas.ends, strict=True):
        known = numa.get(start)
        if known is not None and known.policy != task:
            yield start, end, known.policy


class _Templates(dict[tuple[int, bool], Region | None]):
    """Regions of no size by class of mappings, and whether it is a stack; None if not wanted."""

    def __init__(self, view: ProcessView, wanted: Callable[[Region], bool] | None) -> None:
        super().__init__()
        self._classes = view.vmas.classes
        self._wanted = wanted

    def __missing__(self, key: tuple[int, bool]) -> Region | None:
        region = _template(self._classes[key[0]], stack=key[1])
        kept = self._wanted is None or self._wanted(region)
        self[key] = region if kept else None
        return self[key]


def _template(one: VmaClass, *, stack: bool) -> Region:
    example = Vma(0, 0, one)
    path = one.path.removesuffix(DELETED)
    huge = one.page_size > mmap.PAGESIZE
    return Region(
        start=0,
        end=0,
        kind=RegionKind.HUGETLB if huge else kind_of(example, {0} if stack else ()),
        shared=one.shared,
        name=_name(path),
        path=path if path.startswith("/") else "",
        policy=one.whole_policy or DEFAULT,
        special=is_special(example),
        page_size=one.page_size or mmap.PAGESIZE,
        permissions=one.permissions,
        own=one.source in (PolicySource.VMA, PolicySource.SHARED),
        object=object_of(one),
    )


def object_of(one: VmaClass) -> ObjectId | None:
    """Return what mappings of a class are mappings of; None for private anonymous memory."""
    # What mmap() shares without a file has one all the same; and a segment's id may be 0.
    if not one.inode and not one.shared:
        return None
    return ObjectId(*one.device, one.inode, system_v=one.path.startswith("/SYSV"))


def _name(path: str) -> str:
    # [anon:NAME], [anon_shmem:NAME]; a name may hold brackets and colons itself.
    prefix, colon, rest = path.partition(":")
    return rest.removesuffix("]") if colon and prefix in ("[anon", "[anon_shmem") else ""


def _with_numa(region: Region, numa: NumaMapping, task: Policy) -> Region:
    return structs.replace(
        region,
        kind=RegionKind.HUGETLB if numa.huge else region.kind,
        policy=numa.policy,
        # What is like the task's may be the mapping's own all the same; numa_maps can't tell.
        own=numa.policy != task,
        pages=numa.pages,
        policy_is_whole=numa.policy_is_whole,
        page_size=numa.page_size,
    )


def task_policy_of(view: ProcessView) -> Policy:
    """Return the policy of the process itself; Default if the view does not know.

    It is what a mapping without one shows, and nobody gives one to [vdso].
    """
    for vma in view.vmas:
        if vma.of.source is PolicySource.TASK and vma.of.policy is not None:
            return vma.of.policy
        if vma.path == "[vdso]" and view.numa is not None and vma.start in view.numa:
            return view.numa[vma.start].policy
    return DEFAULT
