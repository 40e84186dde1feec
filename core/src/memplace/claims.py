# SPDX-License-Identifier: Apache-2.0
"""What the ledger remembers: one claim per container.

A claim says which policies are memplace's, not which mappings: mappings grow, move (mremap),
are copied (fork) and carry their policy along, so each can be asked for its policy whenever it
matters. `ledger` has the functions; these are plain values, made to be written down as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from memplace.kinds import Mode, OnDelete, Policy
from memplace.nodes import NumaSet
from memplace.structs import prepared

DEFAULT = Policy(Mode.DEFAULT)


class Mapped(Protocol):
    """What the ledger has to know of a mapping, `[start, end)`.

    `policy` is what the kernel shows; `own` is False when that is the task's. When the text
    was cut off, `policy_is_whole` is False, and the policy has the nodes that are sure
    (`nodes.parse_cut_nodes`). `page_size` is in bytes.
    """

    @property
    def start(self) -> int: ...  # noqa: D102
    @property
    def end(self) -> int: ...  # noqa: D102
    @property
    def policy(self) -> Policy: ...  # noqa: D102
    @property
    def own(self) -> bool: ...  # noqa: D102
    @property
    def policy_is_whole(self) -> bool: ...  # noqa: D102
    @property
    def page_size(self) -> int: ...  # noqa: D102


class Wanted(Protocol):
    """A policy that a plan wants on the mappings within `[start, end)`."""

    @property
    def start(self) -> int: ...  # noqa: D102
    @property
    def end(self) -> int: ...  # noqa: D102
    @property
    def policy(self) -> Policy: ...  # noqa: D102


class Process(NamedTuple):
    """What the ledger has to know of a process.

    Attributes:
        image: A number that fork() copies and exec() changes, 0 if it could not be read; all
            that is remembered hangs on it. See the agent's procfs/image.py.
        allowed: Mems_allowed_list of /proc/PID/status: its own cpuset, not its container's.
        future: Its default for what mmap() will map, from Mpol_future of the same file, or None.
        future_brk: Its default for what brk() will add to the heap, likewise.
        former: The image that the same process had when it was looked at before; 0 if that was
            this one, or is not known.
    """

    image: int
    allowed: NumaSet
    future: Policy | None = None
    future_brk: Policy | None = None
    former: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A policy to set on `[start, end)` without moving pages, or with (the plan says so).

    Attributes:
        start: First address.
        end: First address after it.
        policy: The arguments of the call; DEFAULT takes the mapping's own policy away.
        page_size: Bytes of one page of the mapping.
    """

    start: int
    end: int
    policy: Policy
    page_size: int = 4096


@dataclass(frozen=True, slots=True)
class Ours:
    """A policy that memplace set: whatever carries it in these images is memplace's.

    Attributes:
        policy: As `rebind.rebind` takes it.
        allowed: The Mems_allowed_list under which it read like that.
        previous: What its mappings had before, under the same `allowed`.
    """

    policy: Policy
    allowed: NumaSet
    previous: Policy = DEFAULT


@dataclass(frozen=True, slots=True)
class Kept:
    """A range that the policy alone does not tell enough about.

    Attributes:
        start: First address.
        end: First address after it.
        ours: What memplace set there, and what to give back.
    """

    start: int
    end: int
    ours: Ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What memplace did in some images, that is in processes forked from each other.

    Attributes:
        images: The images; those that look alike share a footprint.
        ours: Policies that are ours wherever they are seen.
        theirs: Modes and flags (policies without nodes) that the programs used by themselves
            when memplace would have: never ours but in a kept range.
        kept: By start; ranges may overlap if their policies differ.
    """

    images: frozenset[int] = frozenset()
    ours: tuple[Ours, ...] = ()
    theirs: tuple[Policy, ...] = ()
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True, slots=True)
class HostProcess:
    """A process of the node's own that starts the programs of one pod: a runtime's shim.

    Attributes:
        pod: UID of the pod.
        pid: Its id.
        started: Clock ticks from boot to its start; with the pid they name it.
    """

    pod: str
    pid: int
    started: int


@prepared
@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What memplace did in a container, or to a process of the node's own.

    Attributes:
        container: The container's id; of a process what `shim_id` makes of it.
        placement: Uid, namespace and name of the placement it was done for.
        since: When it began, in seconds since the epoch.
        defaults: Policies set for mappings to come; exec() may keep them, so they hang on no
            image.
        footprints: What was done to mappings that exist; no image is in two of them.
        process: The process that is no container's; None for a container.
        on_delete: What is to become of it when the placement is deleted, as was heard last.
        is_left: The placement was deleted, and wanted it to stay: it is not given back before a
            later placement takes the container over, or the product leaves.
    """

    container: str
    placement: tuple[str, str, str]
    since: float
    defaults: tuple[Ours, ...] = ()
    footprints: tuple[Footprint, ...] = field(default=())
    process: HostProcess | None = None
    on_delete: OnDelete = OnDelete.RESTORE_POLICY
    is_left: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing was done, or nothing of it can be left."""
        return not self.defaults and not self.footprints
