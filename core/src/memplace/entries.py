# SPDX-License-Identifier: Apache-2.0
"""An entry of a rule's ``regions`` or ``exclude``, compiled: what it means, what it misses."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import translate
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
        return list(Mismatch).index(self)


class Miss(NamedTuple):
    """What keeps an entry from a region: a reason, and the same for people."""

    reason: Mismatch
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledEntry:
    """An entry with its patterns compiled and its sizes in bytes.

    Attributes:
        number: Tells the entries of a matcher apart that differ in more than sizes.
        kinds: The kinds of mappings that it may mean.
        executable: Whether memory that is normally never executable may be.
        permissions: Such as ``rw-``, or empty for any.
        name: Matches names of anonymous memory, or None for any; of a name that begins with
            blanks also what follows them.
        path: Matches paths of files, or None for any.
        process: Matches comm, executable or its last part, or None for any.
        min_bytes: The smallest extent.
        max_bytes: The largest extent, or None for any.
    """

    number: int
    entry: RegionEntry
    kinds: frozenset[RegionKind]
    executable: bool
    permissions: str
    name: Callable[[str], object] | None
    path: Callable[[str], object] | None
    process: Callable[[str], object] | None
    min_bytes: int
    max_bytes: int | None

    @property
    def sized(self) -> bool:
        """Whether the size of the extent decides anything."""
        return self.min_bytes > 0 or self.max_bytes is not None

    def means_process(self, process: ProcessName) -> bool:
        """Return whether it is about that process."""
        names = (process.comm, process.exe, process.exe.rpartition("/")[2])
        return self.process is None or any(self.process(name) for name in names)

    def _means_name(self, name: str) -> bool:
        # Go and glibc begin theirs with a blank, which nobody sees in [anon: Go: heap].
        pattern = self.name
        return pattern is None or bool(pattern(name) or pattern(name.lstrip(" ")))

    def may_mean(self, kind: RegionKind, permissions: str) -> bool:
        """Return whether it may mean mappings of that kind with these permissions."""
        executable = permissions.endswith("x") and kind in _HEAP and not self.executable
        return kind in self.kinds and not executable and self.permissions in ("", permissions)

    def miss(self, region: Region, meant: frozenset[int]) -> Miss | None:
        """Return the first key that does not hold, the size left aside.

        Args:
            region: The region.
            meant: Numbers of the entries with ``process`` that mean its process.
        """
        type_, wanted = self.entry.type, self.entry
        private = region.kind in _PRIVATE
        if region.kind not in self.kinds or (private and region.shared):
            kind = "shared memory" if private and region.shared else region.kind
            return Miss(Mismatch.OTHER_TYPE, f"type is {type_}, it is {kind}")
        if region.executable and region.kind in _HEAP and not self.executable:
            return Miss(Mismatch.EXECUTABLE, f"type {type_} leaves executable memory alone")
        if self.process and self.number not in meant:
            return Miss(Mismatch.OTHER_PROCESS, f"process is {wanted.process}, it is another")
        if self.permissions not in ("", region.permissions):
            text = f"permissions are {self.permissions}, it has {region.permissions}"
            return Miss(Mismatch.OTHER_PERMISSIONS, text)
        if not self._means_name(region.name):
            return Miss(Mismatch.OTHER_NAME, f"name is {wanted.name}, {_its(region.name)}")
        if self.path and not self.path(region.path):
            return Miss(Mismatch.OTHER_PATH, f"path is {wanted.path}, {_its(region.path)}")
        return None

    def fits(self, size: int, slack: int = 1) -> bool:
        """Return whether an extent of that many bytes is within the bounds.

        Args:
            size: Bytes of the extent; not looked at for an entry without bounds.
            slack: The factor by which it may be beyond them.
        """
        return self.min_bytes <= size * slack and (
            self.max_bytes is None or size <= self.max_bytes * slack
        )


def compile_entry(entry: RegionEntry, number: int) -> CompiledEntry:
    """Compile an entry; `number` tells it apart from the others of a matcher."""
    return CompiledEntry(
        number=number,
        entry=entry,
        kinds=_HEAP if entry.type is RegionKind.HEAP else frozenset({entry.type}),
        executable=entry.permissions.endswith("x") and entry.type is not RegionKind.HEAP,
        permissions=entry.permissions,
        name=_pattern(entry.name),
        path=_pattern(entry.path),
        process=_pattern(entry.process),
        min_bytes=entry.min_bytes,
        max_bytes=entry.max_bytes,
    )


def _its(text: str) -> str:
    return f"its is {text!r}" if text else "it has none"


def _pattern(glob: str) -> Callable[[str], object] | None:
    return re.compile(translate(glob)).match if glob else None
