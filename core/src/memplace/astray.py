# SPDX-License-Identifier: Apache-2.0
"""Take away what a call has set on something that came between the last read and the call. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from memplace.claim_view import View
from memplace.claims import DEFAULT, Change, Footprint, Kept, Mapped, Ours, Process
from memplace.kinds import Policy
from memplace.ledger import claim_for
from memplace.nodes import NumaSet


def withdraw(
    changes: Iterable[Change], process: Process, regions: Iterable[Mapped]
) -> tuple[Change, ...]:
    """Return what takes policies away that calls have set on something they were not meant for.

    Args:
        changes: What was set.
        process: As it is now, with the image that it has now.
        regions: What of it was not meant, as it is now, ascending. Where these show exactly
            what was set it is taken away, and nothing else.
    """
    now, image = process.allowed, process.image or 1
    kept = tuple(
        Kept(change.start, change.end, Ours(_clipped(change.policy, now), now))
        for change in sorted(changes, key=lambda change: change.start)
        if change.policy != DEFAULT
    )
    footprint = Footprint(images=frozenset({image}), kept=kept)
    claim = replace(claim_for("", ("", "", ""), 0.0), footprints=(footprint,))
    return View(claim, process._replace(image=image)).release(regions)


def _clipped(policy: Policy, allowed: NumaSet) -> Policy:
    return replace(policy, nodes=policy.nodes & allowed)
