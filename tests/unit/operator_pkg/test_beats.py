# SPDX-License-Identifier: Apache-2.0
"""Who lives, by what changed: no clock but the observer's counts."""

from __future__ import annotations

import pytest
from memplace_operator.beats import Beats, Pulse

NODES = ("a",)


def listening(beats: Beats, start: float, end: float, leases: dict[str, str]) -> dict[str, Pulse]:
    """Hear the same Leases every ten seconds; returns what is known at the end."""
    now = start
    while now < end:
        beats.hear(leases, nodes=NODES, now=now)
        now += 10
    return beats.pulses(end)


def test_one_who_has_just_come_knows_nothing_of_anybody() -> None:
    beats = Beats()
    assert listening(beats, 0, 90, {"a": "noon"}) == {"a": Pulse.UNKNOWN}
    assert listening(beats, 90, 100, {"a": "noon"}) == {"a": Pulse.SILENT}


@pytest.mark.parametrize("says", ["noon", "yesterday", "tomorrow", "nonsense"])
def test_what_a_clock_says_means_nothing_that_it_changes_everything(says: str) -> None:
    beats = Beats()
    listening(beats, 0, 50, {"a": "before"})
    assert listening(beats, 50, 60, {"a": says}) == {"a": Pulse.ALIVE}
    assert listening(beats, 60, 140, {"a": says}) == {"a": Pulse.ALIVE}
    assert listening(beats, 140, 150, {"a": says}) == {"a": Pulse.SILENT}


def test_a_report_is_as_good_as_a_lease() -> None:
    beats = Beats()
    beats.report("a", "1", 0)
    listening(beats, 0, 80, {})
    beats.report("a", "1", 80)
    assert listening(beats, 80, 100, {}) == {"a": Pulse.SILENT}
    beats.report("a", "2", 100)
    assert listening(beats, 100, 180, {}) == {"a": Pulse.ALIVE}


def test_a_node_without_any_agent_is_waited_for() -> None:
    beats = Beats()
    assert listening(beats, 0, 90, {}) == {"a": Pulse.UNKNOWN}
    assert listening(beats, 90, 100, {}) == {"a": Pulse.SILENT}
    assert listening(beats, 100, 110, {"a": "the first"}) == {"a": Pulse.ALIVE}


def test_while_nobody_can_be_heard_nobody_gets_older() -> None:
    beats = Beats()
    both = {"a": "1", "b": "1"}
    listening(beats, 0, 60, both)
    # The API server is away for an hour.
    assert listening(beats, 3600, 3680, both)["a"] is Pulse.UNKNOWN
    assert listening(beats, 3680, 3710, both)["a"] is Pulse.SILENT
    assert listening(beats, 9000, 9010, both)["a"] is Pulse.SILENT, "until it speaks"
    assert listening(beats, 9010, 9020, {"a": "2"})["a"] is Pulse.ALIVE


def test_what_is_not_there_any_more_is_forgotten() -> None:
    beats = Beats()
    beats.hear({"a": "1"}, nodes=("a",), now=0)
    beats.hear({}, nodes=(), now=10)
    assert beats.pulses(10) == {}
