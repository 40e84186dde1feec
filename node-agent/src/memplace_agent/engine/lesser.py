# SPDX-License-Identifier: Apache-2.0
"""What is said of containers on nodes that can set no policies. Pure."""

from __future__ import annotations

from memplace.api.v1alpha1 import ContainerState
from memplace.backends import Act

__all__ = ["LEFT", "NOTES", "SETTLED"]

# What was seen to be in its place; and what stays where it is, in its place or not.
SETTLED = frozenset({ContainerState.PLACED, ContainerState.PLACED_BEST_EFFORT})
LEFT = frozenset({ContainerState.FAILED, ContainerState.OBSERVED})

# Without figures: a message that changes at each look is a write at each look.
NOTES = {
    Act.MOVE: (
        "pages that are there were moved; those to come land where the program's own policy "
        "says, and are moved when they are found"
    ),
    Act.OBSERVE: "where its memory is is only measured: on this node nothing is changed for it",
}
