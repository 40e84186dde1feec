# SPDX-License-Identifier: Apache-2.0
from datetime import UTC, datetime, timedelta, timezone

from memplace.api.conditions import MESSAGE_MAX, find_condition, is_true, set_condition

T0 = datetime(2026, 11, 24, 12, 0, 0, 999999, tzinfo=timezone(timedelta(hours=2)))
T1 = T0 + timedelta(minutes=5)


def ready(conditions, status, now, *, reason="Placed", message="", generation=1):
    return set_condition(
        conditions,
        "Ready",
        status=status,
        reason=reason,
        message=message,
        generation=generation,
        now=now,
    )


def test_a_new_condition_goes_last_with_the_time_in_whole_utc_seconds():
    conditions = set_condition(
        ready((), "True", T0),
        "Degraded",
        status="False",
        reason="AsExpected",
        message="",
        generation=1,
        now=T0,
    )
    assert [c.type for c in conditions] == ["Ready", "Degraded"]
    assert conditions[0].last_transition_time == datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)


def test_the_time_stays_when_only_the_reason_changes():
    conditions = ready(ready((), "False", T0), "False", T1, reason="Moving", generation=2)
    assert conditions[0].last_transition_time < T1 - timedelta(minutes=4)
    assert (conditions[0].reason, conditions[0].observed_generation) == ("Moving", 2)


def test_the_time_changes_with_the_status():
    conditions = ready(ready((), "False", T0), "True", T1)
    assert conditions[0].last_transition_time == T1.replace(microsecond=0)
    assert len(conditions) == 1


def test_setting_the_same_twice_changes_nothing():
    once = ready((), "True", T0)
    assert ready(once, "True", T1) == once


def test_order_and_neighbours_stay():
    both = ready(ready((), "True", T0), "True", T0)
    other = set_condition(
        both, "Other", status="Unknown", reason="X", message="", generation=1, now=T0
    )
    changed = ready(other, "False", T1)
    assert [c.type for c in changed] == ["Ready", "Other"]
    assert changed[1] == other[1]


def test_looking_one_up():
    conditions = ready((), "True", T0)
    assert find_condition(conditions, "Ready") is conditions[0]
    assert find_condition(conditions, "Gone") is None
    assert is_true(conditions, "Ready")
    assert not is_true(conditions, "Gone")
    assert not is_true(ready((), "Unknown", T0), "Ready")


def test_a_long_message_is_cut_visibly():
    (exact,) = ready((), "True", T0, message="m" * MESSAGE_MAX)
    (longer,) = ready((), "True", T0, message="m" * (MESSAGE_MAX + 1))
    assert exact.message == "m" * MESSAGE_MAX
    assert len(longer.message) == MESSAGE_MAX
    assert longer.message.endswith("…")
