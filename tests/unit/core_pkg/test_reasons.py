# SPDX-License-Identifier: Apache-2.0
"""The words of conditions: each has one home, and they do not change by accident."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from memplace.api.v1alpha1 import ContainerState
from memplace.reasons import ABOUT_TIERS, FAILURES, PATIENT, ConditionType, Reason

ROOT = Path(__file__).parents[3]
HOME = ROOT / "core/src/memplace/reasons.py"
SOURCES = sorted(
    path
    for package in ("core", "operator", "node-agent", "cli")
    for path in (ROOT / package / "src").rglob("*.py")
    if path != HOME
)
WORDS = {*Reason, *ConditionType}


def literals(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of strings that are a reason, or are given as one."""
    tree = ast.parse(source)
    other = {id(node) for found in ast.walk(tree) for node in _other_vocabulary(found)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in WORDS and id(node) not in other:
            yield node.lineno, str(node.value)
        for given in _given_as_reason(node):
            if isinstance(given, ast.Constant) and given.value and given.value not in WORDS:
                yield given.lineno, str(given.value)


def _other_vocabulary(node: ast.AST) -> Iterator[ast.AST]:
    # Members of another enum may be called the same (a container's state is Placed, a pod's
    # phase is Failed), and so may a class that __all__ lists.
    if isinstance(node, ast.ClassDef) and any(ast.unparse(b).endswith("Enum") for b in node.bases):
        yield from ast.walk(node)
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
        yield from ast.walk(node)


def _given_as_reason(node: ast.AST) -> Iterator[ast.AST | None]:
    if isinstance(node, ast.keyword) and node.arg == "reason":
        yield node.value
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "reason":
        yield node.value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_file_spells_a_reason(path: Path) -> None:
    assert list(literals(path.read_text())) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("report('TierFull', '')", ["TierFull"]),
        ("is_true(conditions, 'Supported')", ["Supported"]),
        ("Report(reason='PagesPinned')", ["PagesPinned"]),
        ("class Error(Exception):\n    reason = 'Odd'", ["Odd"]),
        ("class State(StrEnum):\n    PLACED = 'Placed'", []),
        ("__all__ = ['MissingCapability']", []),
        ("Report(reason='')", []),
    ],
)
def test_the_search_finds_what_it_should(source: str, found: list[str]) -> None:
    assert [text for _, text in literals(source)] == found


def test_all_sources_are_searched() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == {
        "core",
        "operator",
        "node-agent",
        "cli",
    }
    assert len(SOURCES) > 60


def test_the_words_are_an_interface() -> None:
    assert " ".join(ConditionType) == (
        "Ready Degraded Progressing Unsupported Supported Retired Complete"
    )
    assert list(map(str, Reason)) == [
        "Invalid",
        "Conflict",
        "TierUnknown",
        "TierNotOnNode",
        "NotAllowedByCpuset",
        "SharedNotSupported",
        "SharedWithOthers",
        "TierFull",
        "NamespaceLimit",
        "AgentCpusetExcludesTier",
        "Uneven",
        "Contended",
        "TooManyMappings",
        "RulesTooCostly",
        "LeaderExited",
        "Stuck",
        "CgroupNotFound",
        "Failed",
        "NotUnderstood",
        "AgentNotReporting",
        "Unsupported",
        "UnsupportedCgroup",
        "SandboxedRuntime",
        "Observed",
        "Moving",
        "Pending",
        "AwaitingRollout",
        "Paused",
        "DryRun",
        "NoPods",
        "PlacedBestEffort",
        "Placed",
        "AsExpected",
        "AllNodesSupported",
        "RollingOut",
        "RolloutHeld",
        "RolledOut",
        "InForce",
        "PartlyInForce",
        "NotInForce",
        "ProcessMbindAvailable",
        "KernelWithoutProcessMbind",
        "SeccompFiltered",
        "MissingCapability",
        "AnotherAgent",
        "FeatureUnavailable",
        "ReportTooLarge",
        "Active",
        "Undoing",
        "CannotUndo",
        "Retired",
        "ParseError",
        "NoForm",
        "Deadline",
        "ProcessGone",
        "TryAgain",
        "ApiError",
        "LoginFailed",
    ]


@pytest.mark.parametrize("word", [*Reason, *ConditionType])
def test_every_word_has_a_sentence_and_the_form_of_a_condition(word: Reason) -> None:
    assert re.fullmatch(r"[A-Z][A-Za-z0-9]*", word)
    assert re.fullmatch(r"[A-Z].*[^.]\.", word.sentence)


def test_failures_come_before_what_resolves_by_itself() -> None:
    last = max(reason.rank for reason in FAILURES)
    assert last < Reason.UNSUPPORTED.rank < min(reason.rank for reason in PATIENT)
    assert max(reason.rank for reason in PATIENT) < Reason.PLACED.rank
    assert ABOUT_TIERS < FAILURES and not FAILURES & PATIENT


@pytest.mark.parametrize("reason", Reason)
def test_a_word_read_back_is_the_reason(reason: Reason) -> None:
    assert Reason(str(reason)) is reason
    assert (str(reason) in FAILURES) is (reason in FAILURES)


@pytest.mark.parametrize("state", ContainerState)
def test_a_state_without_a_more_exact_reason_is_one(state: ContainerState) -> None:
    assert Reason(state).rank <= Reason.PLACED.rank


@pytest.mark.parametrize("word", [*Reason, *ConditionType])
def test_the_product_uses_every_word(word: Reason) -> None:
    name = f"{type(word).__name__}.{word.name}"
    assert any(re.search(rf"\b{name}\b", path.read_text()) for path in SOURCES)


def test_the_page_has_each_word_and_its_sentence() -> None:
    page = (ROOT / "docs/reference/conditions.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.M)
    assert rows == [(str(word), word.sentence) for word in (*ConditionType, *Reason)]


def test_the_page_says_what_is_degraded() -> None:
    page = (ROOT / "docs/reference/conditions.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` .*\| yes \|$", page, re.M)) == FAILURES
