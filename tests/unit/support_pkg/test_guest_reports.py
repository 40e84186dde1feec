# SPDX-License-Identifier: Apache-2.0
"""What is said of the reports of a guest, whole or not."""

from __future__ import annotations

import json

from tests.support.guest_reports import read


def report(nodeid: str, when: str) -> str:
    return json.dumps({"$report_type": "TestReport", "nodeid": nodeid, "when": when}) + "\n"


ONE = f'{{"began": "one"}}\n{report("one", "setup")}{report("one", "call")}'
TWO = f'{{"began": "two"}}\n{report("two", "setup")}'


def test_reports_are_kept_by_test() -> None:
    told = read(f'{ONE}{TWO}{{"ended": 0}}\n')
    assert told.problems == []
    found = {name: [one["when"] for one in reports] for name, reports in told.reports.items()}
    assert found == {"one": ["setup", "call"], "two": ["setup"]}


def test_a_test_that_began_and_one_that_did_not_are_told_apart() -> None:
    told = read(ONE + TWO)
    told.console = "the last words"
    first, other = told.why_not("two"), told.why_not("three")
    assert "told nothing of how this test ended" in first and first.endswith("the last words")
    assert "this test did not begin; the last that did: two" in other
    for text in (first, other):
        assert "the guest did not come to its end" in text


def test_the_console_is_shown_once() -> None:
    told = read(ONE)
    told.console = "the last words"
    assert [("the last words" in told.why_not(name)) for name in ("one", "two")] == [True, False]


def test_a_line_that_is_cut_is_told_and_not_believed() -> None:
    told = read(ONE + TWO[:-9])
    assert "two" not in told.reports
    assert any("in the middle of a line" in problem for problem in told.problems)


def test_what_is_no_json_is_told() -> None:
    assert read("one\n").problems == ["no JSON: 'one'", "the guest did not come to its end"]


def test_files_that_could_not_be_read_are_told() -> None:
    collected = {"$report_type": "CollectReport", "nodeid": "a.py", "longrepr": "no such name"}
    told = read(f'{json.dumps(collected)}\n{{"ended": 2}}\n')
    assert "no such name" in told.why_not("a.py::one")


def test_nothing_at_all_is_told_too() -> None:
    assert read("").problems == ["the guest did not come to its end"]
