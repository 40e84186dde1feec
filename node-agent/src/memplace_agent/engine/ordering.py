# SPDX-License-Identifier: Apache-2.0
"""From the moves of a plan to orders for the mover: one for what may go into one call. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event
from typing import NamedTuple

from memplace.api.v1alpha1 import Placement
from memplace.kinds import Policy
from memplace.policy import Move

from memplace_agent.engine.orders import MoveOrder, MoveRange
from memplace_agent.syscalls import PidFd

__all__ = ["orders_of"]


class _Key(NamedTuple):
    rule: str
    policy: Policy
    page_size: int
    move_all: bool
    private: bool


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
    cgroup: Path,
) -> list[MoveOrder]:
    """Make orders of a plan's moves in one process; see `MoveOrder` for what is in them.

    Args:
        moves: Each with the policy that its range has.
        may_move_all: Whether pages of one that others map may be moved, too.
        pid: As in an order.
        identity: As in an order.
        pin: As in an order.
        placement: Whose namespace, uid and migration count.
        container: As in an order.
        cancel: As in an order.
        cgroup: As in an order.
    """
    migration = placement.spec.migration
    return [
        MoveOrder(
            identity=identity,
            pid=pid,
            pin=pin,
            namespace=placement.namespace,
            container=container,
            placement=placement.uid,
            rule=key.rule,
            policy=key.policy,
            ranges=tuple(MoveRange(move.start, move.end, move.bytes) for move in group),
            cancel=cancel,
            move_all=key.move_all,
            private_anonymous=key.private,
            page_size=key.page_size,
            cgroup=cgroup,
            limit=migration.max_bytes_per_second if migration else None,
        )
        for key, group in _grouped(moves, may_move_all).items()
    ]


def _grouped(
    moves: Iterable[tuple[Move, Policy]], may_move_all: Callable[[Move], bool]
) -> dict[_Key, list[Move]]:
    groups: dict[_Key, list[Move]] = {}
    for move, policy in moves:
        # A plan moves what others map only of private anonymous memory.
        key = _Key(move.rule, policy, move.page_size, may_move_all(move), move.move_all)
        groups.setdefault(key, []).append(move)
    return groups
