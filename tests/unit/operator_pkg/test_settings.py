# SPDX-License-Identifier: Apache-2.0
"""How kopf is told to watch."""

from __future__ import annotations

from memplace_operator.settings import kopf_settings


def test_a_watch_that_fell_silent_is_noticed_within_two_minutes() -> None:
    """Load balancers drop idle connections after 4 to 5 minutes, and say nothing.

    A live watch has a bookmark each minute, so that less would begin live ones anew.
    """
    assert 60 < kopf_settings().watching.inactivity_timeout <= 120
