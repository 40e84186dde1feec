# SPDX-License-Identifier: Apache-2.0
"""Names of what tests make: no two tests share one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import names

FAULTS = Path("tests/operator_process/test_faults.py")
LONG = "test_a_fault_ends_nothing_and_loses_nothing"


def test_a_short_name_is_only_spelt_as_a_label() -> None:
    assert names.of_test(Path("test_tiers.py"), "test_an_edit[Of_1]") == "tiers-an-edit-of-1"


def test_long_ones_that_begin_and_end_alike_differ() -> None:
    faults = ["garbage-in-a-watch", "410-in-a-watch", "odd-objects-in-a-watch", "409", "cut-later"]
    found = [names.of_test(FAULTS, f"{LONG}[{fault}]") for fault in faults]
    assert len(set(found)) == len(faults)
    assert all(name.startswith("faults-a-fault-ends-nothing-") for name in found)


def test_tests_of_two_files_differ() -> None:
    assert names.of_test(FAULTS, LONG) != names.of_test(FAULTS.with_stem("test_lies"), LONG)


@pytest.mark.parametrize("name", [LONG, "test_a", "test_" + "a_" * 40, "test_ä[%-]", "test_" * 20])
def test_it_is_a_label_with_room_for_more(name: str) -> None:
    found = names.of_test(FAULTS, name)
    assert re.fullmatch("[a-z0-9]([a-z0-9-]*[a-z0-9])?", found)
    assert len(found) <= 40
    assert len(names.of_test(FAULTS, name, longest=24)) <= 24
