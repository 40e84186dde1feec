# SPDX-License-Identifier: Apache-2.0
"""What a placement says about its own end is kept in the claims of what is done for it.

When it counts, the placement can't be asked any more, and this agent may be another one.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from memplace.api.v1alpha1 import Placement
from memplace.claims import Claim

from memplace_agent.ledger_store import LedgerStore
from memplace_agent.world import World

log = logging.getLogger(__name__)


def owned(claim: Claim, placement: Placement) -> Claim:
    """Return a claim as that of a placement which acts on it from now on."""
    return replace(
        claim,
        placement=(placement.uid, placement.namespace, placement.name),
        on_delete=placement.spec.at_deletion,
        is_left=False,
    )


def keep_words(store: LedgerStore, world: World) -> None:
    """Write down what the placements of all claims say of their end, where that is new."""
    words = {**world.last_words, **{p.uid: p.spec.at_deletion for p in world.existing}}
    for claim in store:
        word = words.get(claim.placement[0], claim.on_delete)
        if word is not claim.on_delete and not claim.is_left:
            write(store, replace(claim, on_delete=word))


def write(store: LedgerStore, claim: Claim) -> bool:
    """Keep a claim of which only words differ; returns whether it survives this agent."""
    try:
        store.put(claim)
    except OSError as err:
        extra = {"container": claim.container, "error": err.strerror}
        log.warning("onDelete can't be written to the ledger; it is tried again", extra=extra)
        return False
    return True
