# SPDX-License-Identifier: Apache-2.0
"""What each alert is to be told of, and what not, as unit tests of promtool."""

from __future__ import annotations

from typing import Any, NamedTuple

Json = dict[str, Any]

AGENT = 'namespace="m", pod="agent-1"'
OPERATOR = 'namespace="m", pod="operator-1"'
WAITING = 'namespace="m", pod="operator-2"'
WRITES = "memplace_operator_status_writes_total"
DONE = "memplace_operator_last_success_timestamp_seconds"
PLACEMENTS = "memplace_operator_placements"
LEADER = "memplace_operator_leader"
ROLLOUTS = "memplace_operator_rollouts"
APPLY = "memplace_agent_apply_total"
BUILD = "memplace_build_info"
DEAF = "memplace_agent_watch_age_seconds"


class Case(NamedTuple):
    """One alert in one situation.

    Attributes:
        about: The situation.
        alert: The alert's name.
        series: Series to their values, one a minute, as promtool writes them.
        minute: When to look.
        labels: Of the alert, but for its severity; None when it is not to fire.
        value: What the annotations say for $value.
    """

    about: str
    alert: str
    series: dict[str, str]
    minute: int
    labels: dict[str, str] | None
    value: str = ""


ON_AGENT = {"namespace": "m", "pod": "agent-1"}
CASES = [
    Case("nobody is scraped", "MemplaceOperatorAbsent", {"up": "1x30"}, 16, {}),
    Case("nobody for a moment", "MemplaceOperatorAbsent", {"up": "1x30"}, 14, None),
    Case("one is scraped", "MemplaceOperatorAbsent", {f"{DONE}{{{OPERATOR}}}": "0x30"}, 30, None),
    Case(
        "nothing was done for long",
        "MemplaceOperatorStuck",
        {f"{DONE}{{{OPERATOR}}}": "0x30", f"{DONE}{{{WAITING}}}": "0x30"},
        17,
        {"namespace": "m"},
    ),
    Case("not long enough", "MemplaceOperatorStuck", {f"{DONE}{{{OPERATOR}}}": "0x30"}, 14, None),
    Case(
        "one works, and one waits",
        "MemplaceOperatorStuck",
        {f"{DONE}{{{OPERATOR}}}": "0+60x60", f"{DONE}{{{WAITING}}}": "0x60"},
        60,
        None,
    ),
    Case(
        "writes are refused again and again",
        "MemplaceStatusWritesFail",
        {f'{WRITES}{{result="error", {OPERATOR}}}': "0+1x60"},
        50,
        {"namespace": "m", "pod": "operator-1", "result": "error"},
        "15",
    ),
    Case(
        "a write was refused once",
        "MemplaceStatusWritesFail",
        {f'{WRITES}{{result="error", {OPERATOR}}}': "0x5 1x60"},
        37,
        None,
    ),
    Case(
        "writes work",
        "MemplaceStatusWritesFail",
        {f'{WRITES}{{result="success", {OPERATOR}}}': "0+9x60"},
        60,
        None,
    ),
    Case(
        "placements fail",
        "MemplacePlacementsFail",
        {
            f'{PLACEMENTS}{{reason="TierFull", {OPERATOR}}}': "3x60",
            f'{PLACEMENTS}{{reason="TierFull", {WAITING}}}': "9x60",
            f"{LEADER}{{{OPERATOR}}}": "1x60",
            f"{LEADER}{{{WAITING}}}": "0x60",
        },
        31,
        {"namespace": "m", "reason": "TierFull"},
        "3",
    ),
    *(
        Case(
            f"placements are {reason}",
            "MemplacePlacementsFail",
            {
                f'{PLACEMENTS}{{reason="{reason}", {OPERATOR}}}': "3x60",
                f'{PLACEMENTS}{{reason="TierFull", {OPERATOR}}}': "0x60",
                f"{LEADER}{{{OPERATOR}}}": "1x60",
            },
            60,
            None,
        )
        for reason in ("Placed", "Moving", "Paused", "DryRun", "Unsupported", "NoPods")
    ),
    Case(
        "who does not write knows of failures",
        "MemplacePlacementsFail",
        {
            f'{PLACEMENTS}{{reason="TierFull", {WAITING}}}': "3x60",
            f"{LEADER}{{{WAITING}}}": "0x60",
        },
        60,
        None,
    ),
    Case(
        "a roll-out is held",
        "MemplaceRolloutHeld",
        {
            f'{ROLLOUTS}{{state="Holding", {OPERATOR}}}': "2x60",
            f'{ROLLOUTS}{{state="Holding", {WAITING}}}': "9x60",
            f"{LEADER}{{{OPERATOR}}}": "1x60",
            f"{LEADER}{{{WAITING}}}": "0x60",
        },
        16,
        {"namespace": "m"},
        "2",
    ),
    Case(
        "a roll-out goes on",
        "MemplaceRolloutHeld",
        {
            f'{ROLLOUTS}{{state="Rolling", {OPERATOR}}}': "2x60",
            f'{ROLLOUTS}{{state="Holding", {OPERATOR}}}': "0x60",
            f"{LEADER}{{{OPERATOR}}}": "1x60",
        },
        60,
        None,
    ),
    Case(
        "an agent is behind",
        "MemplaceAgentStuck",
        {f"memplace_agent_last_success_timestamp_seconds{{{AGENT}}}": "0x60"},
        21,
        ON_AGENT,
    ),
    Case(
        "an agent keeps up",
        "MemplaceAgentStuck",
        {f"memplace_agent_last_success_timestamp_seconds{{{AGENT}}}": "0+60x60"},
        60,
        None,
    ),
    Case(
        "an agent hears nothing",
        "MemplaceAgentDeaf",
        {f'{DEAF}{{kind="pods", {AGENT}}}': "0+60x60"},
        12,
        ON_AGENT | {"kind": "pods"},
    ),
    Case(
        "an agent hears something each minute",
        "MemplaceAgentDeaf",
        {f'{DEAF}{{kind="pods", {AGENT}}}': "0+60x4 0+60x4 0+60x4 0+60x4"},
        19,
        None,
    ),
    Case(
        "calls do not come back",
        "MemplaceAgentLostThreads",
        {f"memplace_agent_lost_threads{{{AGENT}}}": "2x30"},
        16,
        ON_AGENT,
        "2",
    ),
    Case(
        "calls came back",
        "MemplaceAgentLostThreads",
        {f"memplace_agent_lost_threads{{{AGENT}}}": "2x10 0x30"},
        30,
        None,
    ),
    Case(
        "processes can't be changed",
        "MemplaceApplyFails",
        {f'{APPLY}{{result="failed", reason="MissingCapability", {AGENT}}}': "0+2x60"},
        46,
        ON_AGENT | {"reason": "MissingCapability"},
    ),
    *(
        Case(
            f"processes end with {result}",
            "MemplaceApplyFails",
            {f'{APPLY}{{result="{result}", reason="", {AGENT}}}': "0+2x60"},
            60,
            None,
        )
        for result in ("success", "gone")
    ),
    Case(
        "an update does not end",
        "MemplaceVersionsDiffer",
        {
            f'{BUILD}{{version="1", {AGENT}}}': "1x240",
            f'{BUILD}{{version="2", {OPERATOR}}}': "1x240",
        },
        190,
        {},
        "2",
    ),
    Case(
        "an update takes its time",
        "MemplaceVersionsDiffer",
        {
            f'{BUILD}{{version="1", {AGENT}}}': "1x240",
            f'{BUILD}{{version="2", {OPERATOR}}}': "1x240",
        },
        170,
        None,
    ),
    Case(
        "all have one version",
        "MemplaceVersionsDiffer",
        {
            f'{BUILD}{{version="1", {AGENT}}}': "1x240",
            f'{BUILD}{{version="1", {OPERATOR}}}': "1x240",
        },
        240,
        None,
    ),
]


def unit_tests(rules: str, alerts: dict[str, Json]) -> Json:
    """Return the cases as a file for `promtool test rules`.

    Args:
        rules: Path of the file with the rules.
        alerts: Its alerts by name.
    """
    return {"rule_files": [rules], "tests": [_unit_test(c, alerts[c.alert]) for c in CASES]}


def _unit_test(case: Case, alert: Json) -> Json:
    expected = []
    if case.labels is not None:
        labels = case.labels | alert["labels"]
        texts = {key: _filled(text, case) for key, text in alert["annotations"].items()}
        expected = [{"exp_labels": labels, "exp_annotations": texts}]
    return {
        "name": f"{case.alert}: {case.about}",
        "interval": "1m",
        "input_series": [{"series": s, "values": v} for s, v in case.series.items()],
        "alert_rule_test": [
            {
                "eval_time": f"{case.minute}m",
                "alertname": case.alert,
                "exp_alerts": expected,
            }
        ],
    }


def _filled(text: str, case: Case) -> str:
    for name, value in (case.labels or {}).items():
        text = text.replace(f"{{{{ $labels.{name} }}}}", value)
    for form in ("{{ $value }}", "{{ $value | humanize }}"):
        text = text.replace(form, case.value)
    return text
