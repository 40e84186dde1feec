# SPDX-License-Identifier: Apache-2.0
"""What is said of containers for which less is done than all, or nothing. Pure."""

from __future__ import annotations

from memplace.api.v1alpha1 import ContainerState
from memplace.backends import Act

# What was seen to be in its place; and what stays where it is, in its place or not.
SETTLED = frozenset({ContainerState.PLACED, ContainerState.PLACED_BEST_EFFORT})
LEFT = frozenset(
    {
        ContainerState.FAILED,
        ContainerState.OBSERVED,
        ContainerState.PAUSED,
        ContainerState.AWAITING_ROLLOUT,
        ContainerState.DRY_RUN,
    }
)

# Without figures: a message that changes at each look is a write at each look.
NOTES = {
    Act.MOVE: (
        "existing pages were moved; later pages come from where the program's own policy "
        "says, and are moved when they are found"
    ),
    Act.PAUSE: (
        "spec.paused: what is in place stays, nothing new is done and nothing undone; "
        "bytes are measured"
    ),
    Act.WAIT: (
        "spec.rollout has not reached this node: what is in place stays, nothing new is done and "
        "nothing undone; bytes are measured"
    ),
    Act.TRY: "mode DryRun: nothing is changed; what would move is measured",
    Act.OBSERVE: "bytes are only measured: nothing is changed on this node",
}

# What is said before what a plan would do, to those who ask what would be done.
PLANS = NOTES | {
    Act.MOVE: (
        "no policy can be set on this node: pages are moved again and again, new ones come from "
        "where the program's own policy says"
    ),
    Act.TRY: "mode DryRun: nothing is changed; with mode Enforce:",
    Act.LEAVE: (
        "nothing is done: no policy can be set on this node, and spec.onUnsupported asks for "
        "no less"
    ),
}

# Pages of a process whose mappings stay as they are are looked at this often, and where new
# ones are not where the rules want them, more often.
_SAMPLE_AGAIN_S, _SAMPLE_SOON_S = 60.0, 10.0


def sample_again_s(act: Act) -> float:
    """Return for how long pages of mappings that are as they were need no other look."""
    return _SAMPLE_SOON_S if act is Act.MOVE else _SAMPLE_AGAIN_S
