# SPDX-License-Identifier: Apache-2.0
"""Whoever is told of a problem is told what to do."""

import re
from pathlib import Path

import pytest
from memplace.reasons import Reason
from memplace_cli.advice import advise, meaning

ROOT = Path(__file__).parents[3]
WELL = {Reason.PLACED, Reason.AS_EXPECTED, Reason.ALL_NODES_SUPPORTED}
WELL |= {Reason.PROCESS_MBIND_AVAILABLE, Reason.ACTIVE, Reason.ROLLING_OUT, Reason.ROLLED_OUT}
WELL |= {Reason.IN_FORCE}
# In metrics and logs only: see reasons.py.
NEVER_SHOWN = set(list(Reason)[Reason.PARSE_ERROR.rank :])


@pytest.mark.parametrize("reason", sorted({*Reason} - WELL - NEVER_SHOWN))
def test_each_reason_that_is_not_well_says_what_to_do(reason: Reason) -> None:
    assert advise(reason).endswith((".", ").", "/."))
    assert meaning(reason) == reason.sentence


@pytest.mark.parametrize("reason", sorted(WELL))
def test_what_is_well_asks_for_nothing(reason: Reason) -> None:
    assert advise(reason) == ""


def test_a_reason_of_a_later_version_has_neither() -> None:
    assert (advise("Sideways"), meaning("Sideways")) == ("", "")


def test_pages_that_are_named_are_there() -> None:
    named = {page for r in Reason for page in re.findall(r"docs/[a-z/]+\.md", advise(r))}
    assert named
    assert [page for page in sorted(named) if not (ROOT / page).exists()] == []
