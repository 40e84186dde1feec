# SPDX-License-Identifier: Apache-2.0
"""Which programs a container runs: its claim forgets those that ended, and so stays small.

Each program that gets something adds an image to the claim. A shell script that executes others
all day would make the claim grow as long as the container lives, and each image more writes the
whole file anew. So once a claim has many images, the container's processes are asked for theirs:
one short file of each, which waits for no lock. `memplace.ledger.prune` decides what goes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from memplace.errors import ProcessGone
from memplace.ledger import images_of, prune

from memplace_agent.containers.members import read_members
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.hostfs import HostFs, read_proc
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.procfs.image import has_memory, parse_image

# A claim has at most that many images, and twice those that live, before it is looked through:
# so that costs a small part of what it took to find so many.
_SLACK = 64
_PER_LIVE = 2

# For one that forks all the time; the next census goes on.
_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class _Count:
    # What the last census found: how many images, and which of the claim's nobody had.
    live: int = 0
    missed: frozenset[int] = frozenset()


_NOTHING = _Count()


@dataclass(slots=True)
class Census:
    """See the module; for one thread."""

    host: HostFs
    store: LedgerStore
    _counts: dict[str, _Count] = field(default_factory=dict)

    def take(self, container_id: str, refs: Callable[[], Iterable[CgroupRef]]) -> None:
        """Have the claim of a container forget programs that ended, if it knows many.

        A birth may be under way meanwhile: what that adds is a default, and those stay.

        Args:
            container_id: Which.
            refs: Finds all of its cgroups.
        """
        claim, before = self.store.get(container_id), self._counts.get(container_id, _NOTHING)
        if claim is None or len(images_of(claim)) < _SLACK + _PER_LIVE * before.live:
            return
        # What can't be read or written is no harm: the claim says more than is true, until the
        # next census.
        with contextlib.suppress(OSError):
            live = live_images(self.host, refs())
            if not live:
                return
            pruned, missed = prune(claim, live, before.missed)
            self._counts[container_id] = _Count(len(live), missed)
            if pruned is not claim:
                self.store.put(pruned)

    def keep(self, container_ids: Collection[str]) -> None:
        """Forget all containers but these."""
        for container_id in self._counts.keys() - set(container_ids):
            del self._counts[container_id]


def live_images(host: HostFs, refs: Iterable[CgroupRef]) -> frozenset[int] | None:
    """Return the images of all processes in some cgroups.

    Returns:
        None if that can't be told: one is hidden, or there are new ones all the time.

    Raises:
        OSError: A list or a process can't be read.
    """
    refs = tuple(refs)
    images: dict[int, int] = {}
    for _ in range(_ROUNDS):
        members = frozenset[int]().union(*map(read_members, refs))
        new = members - images.keys()
        if not new:
            return frozenset(images.values()) - {0}
        for pid in new:
            image = _image_of(host, pid)
            if image is None:
                return None
            images[pid] = image
    return None


def _image_of(host: HostFs, pid: int) -> int | None:
    # 0: it has no memory, or ended; None: hidden.
    directory = host.pid(pid)
    try:
        text = read_proc(directory / "stat")
        if not has_memory(text):
            # Its first thread has ended, and others may run on.
            threads = (read_proc(task / "stat") for task in (directory / "task").iterdir())
            text = next((each for each in threads if has_memory(each)), text)
    except (ProcessGone, FileNotFoundError, ProcessLookupError):
        return 0
    return (parse_image(text) or None) if has_memory(text) else 0
