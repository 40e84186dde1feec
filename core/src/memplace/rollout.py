# SPDX-License-Identifier: Apache-2.0
"""Which nodes a change of a placement has come to: the gate of a roll-out. Pure.

The operator opens it and agents read it, each for its own node: it is in the placement's
status, which agents watch in any case. A node's position is a hash, so a gate is one word
whatever the number of nodes: the position of the last node that may act. Who is away opens
nothing.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import UNSET

from memplace.api.v1alpha1 import Placement, PlacementSpec, RolloutState


def change_of(spec: PlacementSpec) -> str:
    """Return a word for what a spec has done to memory: the same for specs that ask for the same.

    When, how fast, for which of several placements and what comes at the end is not in it:
    rollout, paused, migration, priority, onDelete. Agent and operator of different versions
    agree while no field is used that only one of them knows; an agent can't parse such a spec.
    """
    bare = msgspec.structs.replace(
        spec, rollout=UNSET, paused=False, migration=UNSET, priority=0, on_delete=UNSET
    )
    return _hash(msgspec.json.encode(bare, order="sorted"))


def position(placement_uid: str, node: str) -> str:
    """Return a node's place in the order of a placement's roll-outs: 16 hexadecimal digits.

    The same for each change: who goes back on one begins where it began.
    """
    return _hash(f"{placement_uid}/{node}".encode())


def waits(placement: Placement, node: str) -> bool:
    """Return whether a placement's roll-out has not come to a node yet.

    Args:
        placement: With its status, as the API server has it.
        node: The Kubernetes node.
    """
    if placement.spec.rollout is UNSET:
        return False
    gate = placement.status.rollout
    if gate is None or gate.change != change_of(placement.spec):
        return True
    if gate.state is RolloutState.DONE:
        return False
    return position(placement.uid, node) > gate.released_through


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
