# SPDX-License-Identifier: Apache-2.0
"""What a thread does again and again, each by itself: one that fails keeps none from its turn."""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)


def each_by_itself(*chores: Callable[[], None]) -> bool:
    """Do some things one after the other; an error in one is logged and ends no other.

    Returns:
        Whether there was none.
    """
    went_well = True
    for chore in chores:
        try:
            chore()
        except Exception:
            log.exception("a chore failed", extra={"chore": chore.__name__})
            went_well = False
    return went_well
