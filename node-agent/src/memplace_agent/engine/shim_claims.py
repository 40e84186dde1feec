# SPDX-License-Identifier: Apache-2.0
"""The claims of shims: what they are called, and what a pod's containers have from them.

A program that a shim starts has the shim's default. So the claim of its container has to know
of it, whoever set it and whenever.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

from memplace.claims import Claim, HostProcess, Ours
from memplace.ledger import claim_for

from memplace_agent.containers.shim import Shim
from memplace_agent.ledger_store import LedgerStore

# No id of a container: those of runtimes are hex digits.
_BEGIN = "shim-"


def shim_id(pod_uid: str, shim: Shim | None = None) -> str:
    """Return what a shim is called in the ledger; without one, the work on a pod's shim."""
    return f"{_BEGIN}{pod_uid}" + (f"_{shim.pid}_{shim.started}" if shim else "")


def is_shim_id(name: str) -> bool:
    """Return whether a name is one of `shim_id`."""
    return name.startswith(_BEGIN)


def pod_of_id(name: str) -> str:
    """Return the UID of the pod of a `shim_id`."""
    return name.removeprefix(_BEGIN).partition("_")[0]


def first_shims(claims: Iterable[Claim]) -> list[Claim]:
    """Return claims in the order in which they are given back: first who starts programs."""
    return sorted(claims, key=lambda claim: claim.process is None)


def claim_of_shim(
    store: LedgerStore, pod_uid: str, shim: Shim, placement: tuple[str, str, str]
) -> Claim:
    """Return the claim of a shim, for this placement; a new one if there is none."""
    name = shim_id(pod_uid, shim)
    new = replace(
        claim_for(name, placement, time.time()),
        process=HostProcess(pod_uid, shim.pid, shim.started),
    )
    return replace(store.get(name) or new, placement=placement)


def inherited(claims: Iterable[Claim], pod_uid: str) -> tuple[Ours, ...]:
    """Return the defaults that a pod's programs may have been started with."""
    found = (each for each in claims if each.process is not None and each.process.pod == pod_uid)
    return tuple(ours for claim in found for ours in claim.defaults)
