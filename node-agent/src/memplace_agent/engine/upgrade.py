# SPDX-License-Identifier: Apache-2.0
"""Take over what agents before the ledger wrote: a file per process, ``PID-START.json``.

Each says which ranges of a process were given which policies, and what these had before. The
claim of the container says the same afterwards, and the file is removed. A file of a process
that has ended is void. One that can't be understood stays, and keeps the node from retiring.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from dataclasses import replace

import msgspec
from memplace.claims import DEFAULT, Claim, Footprint, Kept, Ours
from memplace.errors import ParseError, ProcessGone
from memplace.forms import form_class
from memplace.kinds import Policy
from memplace.ledger import claim_for
from memplace.nodes import NumaSet, parse_nodes
from memplace.structs import prepared

from memplace_agent.hostfs import HostFs, read_proc
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.procfs.image import parse_image
from memplace_agent.procfs.numa_maps import parse_policy
from memplace_agent.procfs.stat import parse_stat

log = logging.getLogger(__name__)

_NAME = re.compile(r"(?P<pid>\d{1,10})-(?P<start>\d{1,20})\.json", re.ASCII)


class _Record(msgspec.Struct, frozen=True):
    # A range, what it had before memplace, and what memplace may have set, latest last.
    start: int
    end: int
    previous: str
    applied: tuple[str, ...]


@prepared
class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    # One process; `allowed` is its cpuset then, `foreign` are policies of its own that look
    # like memplace's.
    key: tuple[int, int]
    container_id: str
    placement: tuple[str, str, str]
    allowed: str
    foreign: frozenset[str] = frozenset()
    records: tuple[_Record, ...] = ()


def import_journal(store: LedgerStore, host: HostFs) -> int:
    """Turn the files of older agents into claims; returns how many were taken over."""
    names = [unread.file for unread in store.unread if _NAME.fullmatch(unread.file)]
    return sum(_import(store, host, name) for name in names)


def _import(store: LedgerStore, host: HostFs, name: str) -> bool:
    try:
        entry = msgspec.json.decode(store.read_unread(name), type=_Entry)
        image = _image(host, entry)
        if image is not None:
            known = store.get(entry.container_id)
            claim = known or claim_for(entry.container_id, entry.placement, time.time())
            store.put(_with(claim, image, _footprint(entry)))
    except Exception as err:  # whatever it is, it is about this file
        log.error("a file of an older agent stays", extra={"file": name, "error": repr(err)})
        return False
    store.drop_unread(name)
    return image is not None


def _image(host: HostFs, entry: _Entry) -> int | None:
    # None if the process has ended; the claim can only speak of what lives.
    pid, start = entry.key
    try:
        text = read_proc(host.pid(pid) / "stat")
    except ProcessGone:
        return None
    if parse_stat(text).start_time != start:
        return None
    image = parse_image(text)
    if not image:
        raise ParseError("image of a process that runs", f"{pid}")
    return image


def _footprint(entry: _Entry) -> Footprint:
    # The older agent took each mapping with a policy that it had set, and the program had
    # not, for its own, wherever it was.
    allowed = parse_nodes(entry.allowed)
    foreign = {parse_policy(text) for text in entry.foreign}
    applied = {parse_policy(text) for record in entry.records for text in record.applied}
    return Footprint(
        ours=tuple(
            Ours(policy, allowed) for policy in sorted(applied - foreign - {DEFAULT}, key=_order)
        ),
        theirs=tuple(sorted({form_class(policy) for policy in foreign}, key=_order)),
        kept=tuple(kept for record in entry.records for kept in _kept(record, allowed, foreign)),
    )


def _kept(record: _Record, allowed: NumaSet, foreign: set[Policy]) -> Iterator[Kept]:
    previous = parse_policy(record.previous)
    for text in record.applied:
        policy = parse_policy(text)
        if previous != DEFAULT or policy in foreign or policy == DEFAULT:
            yield Kept(record.start, record.end, Ours(policy, allowed, previous))


def _with(claim: Claim, image: int, new: Footprint) -> Claim:
    # Processes forked from each other have one image, and had a file each.
    old = next((f for f in claim.footprints if image in f.images), Footprint())
    others = [replace(f, images=f.images - {image}) for f in claim.footprints]
    merged = Footprint(
        images=frozenset({image}),
        ours=tuple(dict.fromkeys((*old.ours, *new.ours))),
        theirs=tuple(dict.fromkeys((*old.theirs, *new.theirs))),
        kept=tuple(sorted(dict.fromkeys((*old.kept, *new.kept)), key=lambda kept: kept.start)),
    )
    return replace(claim, footprints=(*(f for f in others if f.images), merged))


def _order(policy: Policy) -> tuple[str, list[int], list[str]]:
    return policy.mode, sorted(policy.nodes), sorted(policy.flags)
