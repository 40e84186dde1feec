# SPDX-License-Identifier: Apache-2.0
"""The ledger's claims on disk: one file per container, below /run.

A claim is on disk, whole, before the calls it speaks of (`put`); the core's `ledger` says what
a crash leaves. Here is how that is kept:

- Files appear by rename, with mode 0600 in a directory of mode 0700: they hold addresses.
- One agent at a time: the directory is locked for life; a second one gets `AnotherAgent`.
- A file's name has the version of its format. An agent reads its own and what its importers
  know; files of newer ones are left as they are and named in `unread`. As long as there are
  any, not everything is known to be undone: do not retire. An older agent that comes back
  does not overwrite them, and takes their policies for the program's own.
- A file larger than agents read is not written: what was kept before stays, and can be undone.
- What a newer agent adds without changing the version is carried along unread.
- Version 2 says of a claim that defaults for mappings to come were set: an agent that knows
  version 1 only could not take them away, and what comes later would stay. Such claims are
  written as version 2, all others as 1, which has the same form. Version 3 is of what is no
  container: a process of the node's own, or an object. An agent before it would look for its
  cgroup, and forget it.
- All of it ends with the boot, so files of another boot are removed.

Example::

    store = LedgerStore.open(Path("/run/memplace"), boot_id)   # AnotherAgent: wait, try again
    store.put(claim)               # before the calls of a placement; OSError: don't make them
    store.put_for_undo(claim)      # before the calls of an undo: says False, and go on
    store.drop(claim.container)    # nothing is left of it
    if not store.unread and not tuple(store):
        store.close()              # may retire

Used by one thread, and by one more that only calls `put_newborn` and `end_birth`: for containers
whose first program is about to run. What that one has put is never lost to what the other puts,
and a container is not dropped while it is at it.
"""

from __future__ import annotations

import errno
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from memplace.claims import Claim, Ours
from memplace.errors import FeatureUnavailable, MemplaceError
from memplace.kinds import OnDelete
from memplace.ledger import inherit
from memplace.objects import object_of
from memplace.reasons import Reason

from memplace_agent.locked_directory import LockedDirectory

log = logging.getLogger(__name__)

VERSION = 3
_WITH_DEFAULTS, _WITHOUT_DEFAULTS = 2, 1

_NAME = re.compile(
    r"(?P<container>[0-9a-zA-Z][0-9a-zA-Z_.-]{0,199})\.v(?P<version>\d{1,9})\.json", re.ASCII
)
_LEFTOVER = re.compile(r"\..*\.v\d+\.json\.tmp", re.ASCII)
# The bounds of forms.py make 4 MiB of one program; typical is half a KiB.
_LARGEST = 64 << 20
# Members that came later: left out while they say nothing.
_OPTIONAL = {"process": None, "on_delete": OnDelete.RESTORE_POLICY, "is_left": False}


class AnotherAgent(FeatureUnavailable, BlockingIOError):  # noqa: N818  says what happened
    """Another agent keeps the ledger of this node (EWOULDBLOCK)."""

    reason = Reason.ANOTHER_AGENT
    HELP = (
        "One node agent per node: look for a second release of the chart, or a pod that is "
        "still terminating. This agent goes on by itself once that one has ended."
    )


class ClaimTooLarge(MemplaceError, OSError):  # noqa: N818  says what happened
    """The claim of a container would need a file that no agent reads (EFBIG)."""

    HELP = (
        "Programs of one container set, or execute, more than memplace can remember. What was "
        "placed before stays, and can be given back; nothing new is placed in the container."
    )


class Unread(NamedTuple):
    """A file that was left alone.

    Attributes:
        file: Its name.
        reason: Newer, NotUnderstood, or the name of the error that came of reading it.
    """

    file: str
    reason: str


class LedgerStore:
    """The claims of all containers of a node, in memory and on disk; see `open`.

    Attributes:
        directory: Where they are; others may keep files of other names there.
    """

    def __init__(self, directory: LockedDirectory) -> None:
        self.directory = directory
        self._claims: dict[str, Claim] = {}
        # Of the files they are in; it never gets less.
        self._versions: dict[str, int] = {}
        # Of files with members that this agent does not know: all of them.
        self._raw: dict[str, dict[str, Any]] = {}
        self._unwritten: set[str] = set()
        self._unread: list[Unread] = []
        # Held for as long as it takes to write one file.
        self._lock = threading.Lock()
        self._newborn: dict[str, tuple[Ours, ...]] = {}
        self._being_born: set[str] = set()

    @classmethod
    def open(cls, directory: Path, boot_id: str) -> LedgerStore:
        """Make the directory if need be, lock it, and read what an earlier agent left.

        Args:
            directory: On a file system that need not survive a reboot.
            boot_id: /proc/sys/kernel/random/boot_id.

        Raises:
            AnotherAgent: It is locked. Nothing was read or changed.
            OSError: It can't be made, opened or listed.
        """
        try:
            here = LockedDirectory.open(directory, boot_id)
        except BlockingIOError as err:
            raise AnotherAgent(err.errno, f"another agent holds {directory}") from err
        try:
            store = cls(here)
            store._load()
        except BaseException:
            here.close()
            raise
        return store

    def close(self) -> None:
        """Let another agent have it; the store is of no use afterwards."""
        with self._lock:
            self.directory.close()

    @property
    def unread(self) -> tuple[Unread, ...]:
        """The files that were left alone: something may be there that can't be undone."""
        return tuple(self._unread)

    def __iter__(self) -> Iterator[Claim]:
        return iter(tuple(self._claims.values()))

    def get(self, container: str) -> Claim | None:
        """Return the claim of a container, or None."""
        return self._claims.get(container)

    def put(self, claim: Claim) -> None:
        """Keep a claim: when this returns, it survives the end of this agent.

        Raises:
            ClaimTooLarge: The next agent would not read it. What was kept before is.
            OSError: It could not be written, for example ENOSPC. What was kept before is.
            ValueError: The id of its container can't be the name of a file.
        """
        with self._lock:
            self._put(claim)

    def put_newborn(self, claim: Claim, timeout_s: float) -> bool:
        """Add the defaults of a claim to what is known of a container whose birth this begins.

        Args:
            claim: Nothing of it but its defaults, if the container has one already.
            timeout_s: How long to wait for another write.

        Returns:
            Whether it survives the end of this agent now; if not, make no call.

        Raises:
            OSError: As `put`.
        """
        if not self._lock.acquire(timeout=timeout_s):
            return False
        try:
            if not self.directory.is_open:
                return False
            name, before = claim.container, self._newborn.get(claim.container, ())
            known = replace(claim, defaults=before)
            self._newborn[name] = inherit(known, claim.defaults).defaults
            try:
                self._put(self._claims.get(name, claim))
            except BaseException:
                # Nobody drops what has no claim.
                if before:
                    self._newborn[name] = before
                else:
                    del self._newborn[name]
                raise
            self._being_born.add(name)
            return True
        finally:
            self._lock.release()

    def end_birth(self, container: str) -> None:
        """Say that no call follows what was put by `put_newborn`."""
        self._being_born.discard(container)

    def _put(self, claim: Claim) -> None:
        claim = inherit(claim, self._newborn.get(claim.container, ()))
        before = self._versions.get(claim.container, _WITHOUT_DEFAULTS)
        version = max(before, _version(claim))
        name = _file(claim.container, version)
        if self._claims.get(claim.container) == claim and claim.container not in self._unwritten:
            return
        record = _merged(
            _record(claim, version, self.directory.boot_id), self._raw.get(claim.container)
        )
        data = msgspec.json.encode(record)
        if len(data) > _LARGEST:
            text = f"the claim of container {claim.container} would have {len(data)} bytes"
            raise ClaimTooLarge(errno.EFBIG, text)
        self.directory.replace(name, data)
        if version > before:
            self.directory.remove(_file(claim.container, before))
        self._versions[claim.container] = version
        self._unwritten.discard(claim.container)
        self._claims[claim.container] = claim

    def put_for_undo(self, claim: Claim) -> bool:
        """Keep a claim whose processes are about to get everything back.

        Returns:
            Whether it was written. If not, that is logged, and the undo can go on: the claim
            on disk knows of all that is ours, but for images that were just `admit`ted.
        """
        try:
            self.put(claim)
        except OSError as err:
            extra = {"container": claim.container, "error": err.strerror}
            log.warning("the ledger can't be written; undo goes on", extra=extra)
            self._unwritten.add(claim.container)
            self._claims[claim.container] = inherit(claim, self._newborn.get(claim.container, ()))
            return False
        return True

    def drop(self, container: str) -> None:
        """Forget a container: nothing of memplace's is left in it.

        A file that can't be removed is logged: read again, it leads to an undo of nothing.
        Not so a container whose birth is under way: it keeps its claim, for another undo.
        """
        with self._lock:
            if container in self._being_born:
                return
            self._claims.pop(container, None)
            self._newborn.pop(container, None)
            self._raw.pop(container, None)
            self._unwritten.discard(container)
            self.directory.remove(
                _file(container, self._versions.pop(container, _WITHOUT_DEFAULTS))
            )

    def read_unread(self, file: str) -> bytes:
        """Return what is in a file that was left alone, for an importer.

        Raises:
            OSError: It can't be read.
        """
        return self.directory.read(file, _LARGEST)

    def drop_unread(self, file: str) -> None:
        """Remove a file that was left alone: what it says is in claims now, or void."""
        self._unread = [unread for unread in self._unread if unread.file != file]
        self.directory.remove(file)

    def _load(self) -> None:
        for name in self.directory.names():
            match = _NAME.fullmatch(name)
            if _LEFTOVER.fullmatch(name):
                self.directory.remove(name)
            elif match and int(match["version"]) > VERSION:
                self._leave(name, "Newer")
            elif name.endswith(".json"):
                version = int(match["version"]) if match else 0
                self._load_file(name, match["container"] if match else "", version)

    def _load_file(self, name: str, container: str, version: int) -> None:
        try:
            raw = msgspec.json.decode(self.directory.read(name, _LARGEST))
            if container and raw["version"] == version and raw["boot"] != self.directory.boot_id:
                self.directory.remove(name)
                return
            claim = msgspec.convert(raw["claim"], Claim)
        except OSError as err:
            self._leave(name, errno.errorcode.get(err.errno or 0, "OSError"))
            return
        except (msgspec.DecodeError, LookupError, TypeError, RecursionError):
            self._leave(name, Reason.NOT_UNDERSTOOD)
            return
        if raw["version"] != version or version < 1 or claim.container != container:
            self._leave(name, Reason.NOT_UNDERSTOOD)
            return
        self._take(claim, version, raw)

    def _take(self, claim: Claim, version: int, raw: dict[str, Any]) -> None:
        older = self._claims.get(claim.container)
        self._claims[claim.container] = claim
        self._versions[claim.container] = version
        if raw != _record(claim, version, self.directory.boot_id):
            rest = {k: v for k, v in raw["claim"].items() if k not in _OPTIONAL}
            self._raw[claim.container] = {**raw, "claim": rest}
        if older is not None:
            # An agent ended between writing the newer file and removing this one. Or an older
            # agent was here meanwhile: what it did in images that it alone knows is kept.
            known = frozenset[int]().union(*(f.images for f in claim.footprints))
            left = (replace(f, images=f.images - known) for f in older.footprints)
            footprints = (*claim.footprints, *(f for f in left if f.images))
            if self.put_for_undo(replace(claim, footprints=footprints)):
                self.directory.remove(_file(claim.container, _WITHOUT_DEFAULTS))

    def _leave(self, name: str, reason: str) -> None:
        log.error(
            "a file of the ledger is left alone", extra={"file": name[:255], "reason": reason}
        )
        self._unread.append(Unread(name, reason))


def _version(claim: Claim) -> int:
    if claim.process is not None or object_of(claim.container):
        return VERSION
    return _WITH_DEFAULTS if claim.defaults else _WITHOUT_DEFAULTS


def _file(container: str, version: int) -> str:
    name = f"{container}.v{version}.json"
    if not _NAME.fullmatch(name):
        raise ValueError(f"not the id of a container: {container[:80]!r}")
    return name


def _record(claim: Claim, version: int, boot_id: str) -> dict[str, Any]:
    # As it is read back: lists, in one order.
    plain = msgspec.json.decode(msgspec.json.encode(claim, order="deterministic"))
    plain = {k: v for k, v in plain.items() if k not in _OPTIONAL or v != _OPTIONAL[k]}
    return {"version": version, "boot": boot_id, "claim": plain}


def _merged(new: Any, old: Any) -> Any:
    # What is known, and of what was read before the members that this agent does not know.
    if isinstance(new, dict) and isinstance(old, dict):
        return {**old, **{key: _merged(value, old.get(key)) for key, value in new.items()}}
    if isinstance(new, list) and isinstance(old, list):
        return [_merged(item, _same(item, old)) for item in new]
    return new


def _same(item: Any, others: list[Any]) -> Any:
    # The one of an older list that says the same; images come and go.
    if not isinstance(item, dict):
        return None
    known = item.keys() - {"images"}
    dicts = (other for other in others if isinstance(other, dict))
    return next((o for o in dicts if all(_covers(o.get(k), item[k]) for k in known)), None)


def _covers(old: Any, new: Any) -> bool:
    if isinstance(new, dict):
        return isinstance(old, dict) and all(_covers(old.get(k), v) for k, v in new.items())
    if isinstance(new, list):
        same = isinstance(old, list) and len(old) == len(new)
        return same and all(map(_covers, old, new))
    return bool(old == new)
