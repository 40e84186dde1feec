# SPDX-License-Identifier: Apache-2.0
"""What containers had of tiers with limits, on disk: the next agent goes on counting from there.

One file for the node, beside the ledger's claims. An agent before it passes it by; its name is
one of those that every agent removes when it retires. A file of a newer format has another name
and is passed by as well. It has one entry for each container that runs and has something of such
a tier, so no more than the node has containers. It is no claim: nothing is to be undone for it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from memplace.structs import prepared

from memplace_agent.locked_directory import LockedDirectory

log = logging.getLogger(__name__)

VERSION = 1

# A thousand containers make half a MiB.
_LARGEST = 8 << 20
# Where bytes are is sampled, to within two points: less than that is no news.
_NEWS = 50


class PlacedBy(NamedTuple):
    """A spec: the uid of its placement, and its generation."""

    uid: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a container had of tiers with limits.

    Attributes:
        cgroup: Path from the root of the tree; empty if that was not known.
        placement: What it followed; None for nothing.
        has: Bytes by tier, under that placement.
        left: Bytes by tier under earlier placements, which may be there still.
    """

    cgroup: str = ""
    placement: PlacedBy | None = None
    has: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to count on from."""
        return not any(self.has.values()) and not any(self.left.values())

    def is_news_after(self, other: Usage) -> bool:
        """Return whether it says enough else to be written."""
        if (self.cgroup, self.placement) != (other.cgroup, other.placement):
            return True
        return _differ(self.has, other.has) or _differ(self.left, other.left)


@prepared
@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    version: int
    boot: str
    containers: dict[str, Usage]


class UsageStore:
    """See the module; for one thread. Nothing in it raises: without it, limits count less."""

    def __init__(self, directory: LockedDirectory) -> None:
        self._directory = directory
        self._known = self._read()
        # A file that is of no use is removed, or written anew.
        self._is_written = bool(self._known)
        self._has_failed = False

    def get(self, container: str) -> Usage | None:
        """Return what was written of a container last, or None."""
        return self._known.get(container)

    def put(self, container: str, usage: Usage) -> None:
        """Take what a container has now; `write` makes it survive."""
        known = self._known.get(container)
        if usage.is_nothing:
            if known is not None:
                del self._known[container]
                self._is_written = False
        elif known is None or usage.is_news_after(known):
            self._known[container] = usage
            self._is_written = False

    def keep(self, containers: Collection[str]) -> None:
        """Forget all containers but these."""
        for gone in self._known.keys() - set(containers):
            del self._known[gone]
            self._is_written = False

    def write(self) -> None:
        """Write what has changed, if anything has; where that fails, the next call tries again."""
        if self._is_written:
            return
        if not self._known:
            self._directory.remove(_name())
            self._is_written = True
            return
        file = _File(version=VERSION, boot=self._directory.boot_id, containers=self._known)
        try:
            self._directory.replace(_name(), msgspec.json.encode(file))
        except OSError as err:
            if not self._has_failed:
                log.warning(
                    "what counts for limits can't be written; a restart would forget it",
                    extra={"error": err.strerror},
                )
            self._has_failed = True
            return
        self._is_written, self._has_failed = True, False

    def _read(self) -> dict[str, Usage]:
        try:
            data = self._directory.read(_name(), _LARGEST)
            file = msgspec.json.decode(data, type=_File)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, RecursionError) as err:
            log.error("what counted for limits can't be read", extra={"error": str(err)})
            return {}
        is_of_now = file.version == VERSION and file.boot == self._directory.boot_id
        return file.containers if is_of_now else {}


def _name() -> str:
    # Agents before this one remove ".*.tmp" when they retire, and read "*.json" only.
    return f".limits.v{VERSION}.tmp"


def _differ(these: Mapping[str, int], those: Mapping[str, int]) -> bool:
    if these.keys() != those.keys():
        return True
    pairs = ((size, those[tier]) for tier, size in these.items())
    return any(abs(a - b) * _NEWS > max(a, b) for a, b in pairs)
