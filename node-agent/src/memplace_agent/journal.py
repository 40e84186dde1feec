# SPDX-License-Identifier: Apache-2.0
"""The journal: what memplace changed in which process, and what was there before.

One file per process, on a tmpfs, since processes do not survive a reboot either. A record
is on disk before the call that makes it true, so that an agent that was killed in between
knows what it may have done. Which records there are is decided by records.py; here is only
how they are kept.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

__all__ = ["Entry", "Journal", "Key", "Record"]

log = logging.getLogger(__name__)


class Key(NamedTuple):
    """A process: its pid and its start time in clock ticks since boot."""

    pid: int
    start_time: int


class Record(msgspec.Struct, frozen=True):
    """A range that memplace changed; policies as numa_maps spells them.

    Attributes:
        start: First address.
        end: First address after it.
        previous: The policy to give back, never one that memplace set.
        applied: The policies memplace may have set, latest last.
    """

    start: int
    end: int
    previous: str
    applied: tuple[str, ...]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What memplace changed in one process.

    Attributes:
        key: The process.
        container_id: Its container.
        placement: Uid, namespace and name of the placement it was done for.
        allowed: cpuset.mems.effective then, as a kernel list; a later change makes the kernel
            remap policies, which then read back with other nodes.
        foreign: Policies that mappings had of their own when memplace came to set the same.
        records: In ascending address order, not overlapping.
    """

    key: Key
    container_id: str
    placement: tuple[str, str, str]
    allowed: str
    foreign: frozenset[str] = frozenset()
    records: tuple[Record, ...] = ()


class Journal:
    """The entries of all processes, in memory and on disk; used by one thread only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._entries: dict[Key, Entry] = {}

    @property
    def directory(self) -> Path:
        """Where the files are."""
        return self._directory

    def open(self, directory: Path) -> None:
        """Make the directory if need be and read what an earlier agent left there."""
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        entries = [_read(path) for path in sorted(directory.glob("*.json"))]
        self._entries = {entry.key: entry for entry in entries if entry is not None}
        for leftover in directory.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries.values()))

    def get(self, key: Key) -> Entry | None:
        """Return the entry of a process, or None."""
        return self._entries.get(key)

    def of_container(self, container_id: str) -> tuple[Entry, ...]:
        """Return the entries of a container's processes, dead ones too until collected."""
        return tuple(e for e in self._entries.values() if e.container_id == container_id)

    def put(self, entry: Entry) -> None:
        """Keep an entry; when this returns, it survives a crash of agent and machine.

        An entry without records is dropped. Nothing is written when nothing changed.
        """
        if not entry.records:
            self.drop(entry.key)
        elif self._entries.get(entry.key) != entry:
            _write(self._path(entry.key), msgspec.json.encode(entry))
            self._entries[entry.key] = entry

    def drop(self, key: Key) -> None:
        """Forget a process: it is dead, or has everything back."""
        self._entries.pop(key, None)
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: Key) -> Path:
        return self._directory / f"{key.pid}-{key.start_time}.json"


def _read(path: Path) -> Entry | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Entry)
    except msgspec.DecodeError as err:
        # Files appear whole, by rename: this one is not of our making or of a later version.
        log.error("journal file can't be read and is left alone", extra={"file": path.name})
        log.debug("journal file %s: %s", path, err)
        return None


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
