# SPDX-License-Identifier: Apache-2.0
"""A container ends, or becomes another one, before each step of what the agent does to it."""

import pytest

from tests.support.agent.between import ACTIONS, CASES, EVENTS, compare, odd_words
from tests.support.trying import tries

STEPS = tries(8, 10_000)  # each of them


@pytest.mark.parametrize(("what", "event"), CASES, ids=map("-".join, CASES))
def test_whenever_it_happens_all_ends_as_well(what, event, caplog):
    compare(ACTIONS[what], EVENTS[event], STEPS)
    assert odd_words(caplog.records) == []
