# SPDX-License-Identifier: Apache-2.0
"""An entry of a rule's ``regions`` or ``exclude``, compiled: what it means, what it misses."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from memplace.api.v1alpha1 import RegionEntry
from memplace.kinds import RegionKind
from memplace.regions import Region

_HEAP = frozenset({RegionKind.BRK, RegionKind.ANONYMOUS})
# Private memory of these kinds only; it is executable only for entries that ask for it.
_PRIVATE = _HEAP | {RegionKind.STACK}


class ProcessName(NamedTuple):
    """What a process is called.

    Attributes:
        comm: /proc/PID/comm, at most 15 characters.
        exe: The executable's path as the process sees it.
    """

    comm: str
    exe: str


class Mismatch(StrEnum):
    """Why a region does not follow a rule; later ones were nearer to a match."""

    SPECIAL = "Special"
    OTHER_TYPE = "OtherType"
    EXECUTABLE = "Executable"
    OTHER_PROCESS = "OtherProcess"
    OTHER_PERMISSIONS = "OtherPermissions"
    OTHER_NAME = "OtherName"
    OTHER_PATH = "OtherPath"
    TOO_SMALL = "TooSmall"
    TOO_LARGE = "TooLarge"
    EXCLUDED = "Excluded"
    EARLIER_RULE = "EarlierRule"

    @property
    def rank(self) -> int:
        """How near it was, from 0."""
        return _RANKS[self]


_RANKS = {mismatch: rank for rank, mismatch in enumerate(Mismatch)}


class Bits(NamedTuple):
    """The bits of patterns, in the `Globs` of each key: an entry's, or those that match."""

    name: int = 0
    path: int = 0
    process: int = 0


_NO_PATTERNS = Bits()


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledEntry:
    """An entry with its patterns as bits and its sizes in bytes.

    Attributes:
        number: Tells the entries of a matcher apart that differ in more than sizes.
        kinds: The kinds of mappings that it may mean.
        executable: Whether memory that is normally never executable may be.
        permissions: Such as ``rw-``, or empty for any.
        patterns: Of its name, path and process; 0 for any.
        min_bytes: The smallest extent.
        max_bytes: The largest extent, or None for any.
    """

    number: int
    entry: RegionEntry
    kinds: frozenset[RegionKind]
    executable: bool
    permissions: str
    patterns: Bits
    min_bytes: int
    max_bytes: int | None

    @property
    def sized(self) -> bool:
        """Whether the size of the extent decides anything."""
        return self.min_bytes > 0 or self.max_bytes is not None

    def may_mean(self, kind: RegionKind, permissions: str) -> bool:
        """Return whether it may mean mappings of that kind with these permissions."""
        executable = permissions.endswith("x") and kind in _HEAP and not self.executable
        return kind in self.kinds and not executable and self.permissions in ("", permissions)

    def miss(self, region: Region, bits: Bits) -> Mismatch | None:
        """Return the first key that does not hold, the size left aside.

        Args:
            region: The region.
            bits: Of the patterns that match it and its process.
        """
        private, patterns = region.kind in _PRIVATE, self.patterns
        if region.kind not in self.kinds or (private and region.shared):
            return Mismatch.OTHER_TYPE
        if region.executable and region.kind in _HEAP and not self.executable:
            return Mismatch.EXECUTABLE
        if patterns.process and not patterns.process & bits.process:
            return Mismatch.OTHER_PROCESS
        if self.permissions not in ("", region.permissions):
            return Mismatch.OTHER_PERMISSIONS
        if patterns.name and not patterns.name & bits.name:
            return Mismatch.OTHER_NAME
        if patterns.path and not patterns.path & bits.path:
            return Mismatch.OTHER_PATH
        return None

    def tell(self, miss: Mismatch, region: Region) -> str:
        """Say a miss of a region to people."""
        type_, wanted = self.entry.type, self.entry
        match miss:
            case Mismatch.EXECUTABLE:
                return f"type {type_} leaves executable memory alone"
            case Mismatch.OTHER_PROCESS:
                return f"process is {wanted.process}, it is another"
            case Mismatch.OTHER_PERMISSIONS:
                return f"permissions are {self.permissions}, it has {region.permissions}"
            case Mismatch.OTHER_NAME:
                return f"name is {wanted.name}, {_its(region.name)}"
            case Mismatch.OTHER_PATH:
                return f"path is {wanted.path}, {_its(region.path)}"
        is_shared = region.kind in _PRIVATE and region.shared
        return f"type is {type_}, it is {'shared memory' if is_shared else region.kind}"

    def fits(self, size: int, slack: int = 1) -> bool:
        """Return whether an extent of that many bytes is within the bounds.

        Args:
            size: Bytes of the extent; not looked at for an entry without bounds.
            slack: The factor by which it may be beyond them.
        """
        return self.min_bytes <= size * slack and (
            self.max_bytes is None or size <= self.max_bytes * slack
        )


def compile_entry(
    entry: RegionEntry, number: int = 0, patterns: Bits = _NO_PATTERNS
) -> CompiledEntry:
    """Compile an entry.

    Args:
        entry: The entry.
        number: Tells it apart from the others of a matcher.
        patterns: Its patterns' bits; without them it matches whatever its patterns say.
    """
    return CompiledEntry(
        number=number,
        entry=entry,
        kinds=_HEAP if entry.type is RegionKind.HEAP else frozenset({entry.type}),
        executable=entry.permissions.endswith("x") and entry.type is not RegionKind.HEAP,
        permissions=entry.permissions,
        patterns=patterns,
        min_bytes=entry.min_bytes,
        max_bytes=entry.max_bytes,
    )


def _its(text: str) -> str:
    return f"its is {text!r}" if text else "it has none"
