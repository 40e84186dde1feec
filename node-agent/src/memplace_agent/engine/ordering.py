# SPDX-License-Identifier: Apache-2.0
"""From the moves of a plan to orders for the mover: one for what may go into one call. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from threading import Event
from typing import NamedTuple

from memplace.api.v1alpha1 import Placement
from memplace.kinds import Policy
from memplace.objects import ObjectId
from memplace.policy import Move

from memplace_agent.engine.orders import MoveOrder, MoveRange
from memplace_agent.procfs.vmas import Vmas
from memplace_agent.syscalls import PidFd


class _Key(NamedTuple):
    rule: str
    policy: Policy
    page_size: int
    move_all: bool
    private: bool
    shared: bool


def orders_of(
    moves: Iterable[tuple[Move, Policy]],
    may_move_all: Callable[[Move], bool],
    *,
    pid: int,
    identity: int,
    pin: Callable[[], AbstractContextManager[PidFd]],
    placement: Placement,
    container: str,
    cancel: Event,
    is_wanted: Callable[[], bool],
    cgroup: Path,
    may_share: Callable[[frozenset[ObjectId]], None],
    has_policy: bool = True,
    weights: Mapping[int, int] | None = None,
) -> list[MoveOrder]:
    """Make orders of a plan's moves in one process; see `MoveOrder` for what is in them.

    Args:
        moves: Each with the policy that its range has.
        may_move_all: Whether pages of one that others map may be moved, too.
        pid: As in an order.
        identity: As in an order.
        pin: As in an order.
        placement: Whose tenant, uid and migration count.
        container: As in an order.
        cancel: As in an order.
        is_wanted: As in an order.
        cgroup: As in an order.
        may_share: Raises if somebody who may not maps one of these objects; asked before each
            call.
        has_policy: As in an order.
        weights: As in an order; None when not known.
    """
    migration = placement.spec.migration
    return [
        MoveOrder(
            identity=identity,
            pid=pid,
            pin=partial(_pinned, pin, _objects(group), may_share),
            namespace=placement.tenant,
            container=container,
            placement=placement.uid,
            rule=key.rule,
            policy=key.policy,
            ranges=tuple(MoveRange(move.start, move.end, move.bytes) for move in group),
            cancel=cancel,
            is_wanted=is_wanted,
            move_all=key.move_all,
            private_anonymous=key.private,
            page_size=key.page_size,
            has_policy=has_policy,
            weights=weights or {},
            cgroup=cgroup,
            limit=migration.max_bytes_per_second if migration else None,
        )
        for key, group in _grouped(moves, may_move_all).items()
    ]


def moves_all(vmas: Vmas, merged: bool, move: Move) -> bool:  # noqa: FBT001  for partial()
    """Return whether pages of a move that others map may move along.

    Pages shared through fork belong to the container; pages that KSM merged may be those of any
    process of the node. Only mappings that are marked for it have such pages, and no shared ones.

    Args:
        vmas: Of the process.
        merged: Whether KSM works, or has.
        move: One of its moves.

    Source: linux Documentation/admin-guide/mm/ksm.rst; VmFlags mg of proc_pid_smaps(5).
    """
    if not move.move_all or move.object is not None or not merged:
        return move.move_all
    index = vmas.at(move.start)
    flags = vmas[index].flags.split() if index is not None else []
    return bool(flags) and "mg" not in flags


def _grouped(
    moves: Iterable[tuple[Move, Policy]], may_move_all: Callable[[Move], bool]
) -> dict[_Key, list[Move]]:
    groups: dict[_Key, list[Move]] = {}
    for move, policy in moves:
        private, is_shared = move.move_all and move.object is None, move.object is not None
        all_, size = may_move_all(move), move.page_size
        key = _Key(move.rule, policy, size, all_, private, is_shared)
        groups.setdefault(key, []).append(move)
    return groups


def _objects(moves: Iterable[Move]) -> frozenset[ObjectId]:
    return frozenset(move.object for move in moves if move.object is not None)


@contextlib.contextmanager
def _pinned(
    pin: Callable[[], AbstractContextManager[PidFd]],
    objects: frozenset[ObjectId],
    may_share: Callable[[frozenset[ObjectId]], None],
) -> Iterator[PidFd]:
    if objects:
        may_share(objects)
    with pin() as pidfd:
        yield pidfd
