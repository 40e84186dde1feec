# SPDX-License-Identifier: Apache-2.0
"""Who lives is told by change, and by a clock only where it agrees with ours."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from memplace.api.liveness import DOUBT_S, STALE_AFTER
from memplace_cli.beats import Listening, Pulse

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_sign_near_to_our_clock_is_one_of_the_living() -> None:
    listening = Listening({"a": NOW - STALE_AFTER, "b": NOW + STALE_AFTER}, NOW)
    assert listening.doubtful == frozenset()
    assert set(listening.pulses(waited_s=0).values()) == {Pulse.ALIVE}


def test_a_sign_far_from_our_clock_says_nothing_until_it_changes() -> None:
    listening = Listening({"behind": NOW - HOUR, "ahead": NOW + HOUR, "dead": NOW - HOUR}, NOW)
    assert listening.doubtful == {"behind", "ahead", "dead"}
    later = timedelta(seconds=30)
    listening.hear({"behind": NOW - HOUR + later, "ahead": NOW + HOUR + later, "dead": NOW - HOUR})
    assert listening.pulses(waited_s=DOUBT_S) == {
        "behind": Pulse.ALIVE,
        "ahead": Pulse.ALIVE,
        "dead": Pulse.SILENT,
    }


def test_who_listens_too_short_knows_nothing() -> None:
    listening = Listening({"a": NOW - HOUR}, NOW)
    assert listening.pulses(waited_s=DOUBT_S - 1) == {"a": Pulse.UNKNOWN}


def test_a_sign_that_is_gone_is_no_sign_of_life() -> None:
    listening = Listening({"a": NOW - HOUR, "b": None}, NOW)
    listening.hear({})
    listening.hear({"a": None, "b": None})
    assert listening.doubtful == {"a", "b"}
    listening.hear({"b": NOW - HOUR})
    assert listening.doubtful == {"a"}


@given(st.timedeltas(-HOUR, HOUR))
def test_a_clock_that_is_wrong_by_any_time_kills_nobody_who_goes_on(wrong: timedelta) -> None:
    listening = Listening({"a": NOW + wrong}, NOW)
    listening.hear({"a": NOW + wrong + timedelta(seconds=30)})
    assert listening.pulses(waited_s=DOUBT_S) == {"a": Pulse.ALIVE}
