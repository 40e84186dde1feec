# SPDX-License-Identifier: Apache-2.0
"""What a newcomer reads first is true: files, tests, targets, licences that it names exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from memplace_cli import options

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob(".github/**/*.md")])
WORKFLOWS = sorted([*ROOT.glob(".github/workflows/*.yml"), ROOT / ".gitlab-ci.yml"])
FORMS = sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M))
NAMED_TEST = re.compile(r"`(tests/[^\s`:]+)::(\w+)`")
PACKAGES = ("core", "operator", "node-agent", "cli")
SOURCES = (
    *("bench", "charts", "cli", "core", "crds", "docs", "examples", "kernel", "lab"),
    *("node-agent", "operator", "tests"),
)
# Made by a command, or a placeholder's.
NOT_THERE = ("out/", "~/")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def paths_in(text: str) -> Iterator[str]:
    """Yield what a text says in backticks that is a path of the repository."""
    for quoted in re.findall(r"`([^`\n]+)`", text):
        first, *_ = quoted.split("::")
        is_path = re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", first) and ("/" in first or "." in first)
        top = first.split("/")[0]
        if is_path and (ROOT / top).exists() and not first.startswith(NOT_THERE):
            yield first


def targets_in(text: str) -> set[str]:
    """Return the targets of make that a page, a template or a workflow tells people to run."""
    return set(re.findall(r"(?:`|^ {4,}|run: |- |PATH |sudo \S+ |sudo )make ([a-z-]+)", text, re.M))


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_paths_of_a_page_exist(page: Path) -> None:
    assert [name for name in paths_in(page.read_text()) if not (ROOT / name).exists()] == []


def test_enough_of_them_are_looked_at() -> None:
    found = set(paths_in((ROOT / "CONTRIBUTING.md").read_text()))
    assert {"crds/memoryplacements.yaml", "docs/regions.md", "importlinter.toml"} <= found
    assert len(found) > 40
    assert list(paths_in("`docs/none.md` `a.b` `make x` `crds/x`")) == ["docs/none.md", "crds/x"]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_tests_that_a_page_names_are_there(page: Path) -> None:
    for path, name in NAMED_TEST.findall(page.read_text()):
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.M), name


@pytest.mark.parametrize("page", [*PAGES, *WORKFLOWS], ids=relative)
def test_targets_exist(page: Path) -> None:
    assert targets_in(page.read_text()) - TARGETS == set()


def test_the_loop_without_root_comes_first() -> None:
    begin = "\n".join((ROOT / "CONTRIBUTING.md").read_text().splitlines()[:12])
    assert "no root" in begin and "make unit" in begin
    assert {"unit", "chart", "release"} <= TARGETS


def test_the_page_lists_each_unit_test_that_needs_root() -> None:
    marked = re.compile(r"@pytest.mark.needs_root\(.*\)\n(?:@.*\n)*def (\w+)")
    there = {
        (relative(path), name)
        for path in (ROOT / "tests/unit").rglob("test_*.py")
        for name in marked.findall(path.read_text())
    }
    table = (ROOT / "CONTRIBUTING.md").read_text().split("## What needs more")[1].split("\n## ")[0]
    assert there == set(NAMED_TEST.findall(table)) and len(there) >= 8


def jobs_of(workflow: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(workflow.read_text())
    if "jobs" in loaded:
        found: dict[str, Any] = loaded["jobs"]
        return found
    return {name: job for name, job in loaded.items() if isinstance(job, dict) and "script" in job}


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=relative)
def test_a_workflow_runs_a_target(workflow: Path) -> None:
    jobs = jobs_of(workflow)
    assert jobs
    for name, job in jobs.items():
        work = {key: value for key, value in job.items() if key != "after_script"}
        assert targets_in(yaml.safe_dump(work, width=1000)), name


@pytest.mark.parametrize("workflow", WORKFLOWS[:-1], ids=relative)
def test_actions_are_pinned_and_may_only_read(workflow: Path) -> None:
    text = workflow.read_text()
    assert "permissions:\n  contents: read\n" in text
    # A tag can be moved to another commit, a hash can't; the tag is for people.
    for used in re.findall(r"uses: (.*)", text):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", used)
    # What runs later has no need of the token.
    steps = [step for job in yaml.safe_load(text)["jobs"].values() for step in job["steps"]]
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts and all(one["with"]["persist-credentials"] is False for one in checkouts)


def test_nobody_from_outside_runs_something_on_the_labs_machine() -> None:
    loaded = yaml.safe_load((ROOT / ".github/workflows/lab.yml").read_text())
    # YAML takes the word on for a boolean.
    assert set(loaded[True]) == {"schedule", "workflow_dispatch"}


@pytest.mark.parametrize("form", FORMS, ids=relative)
def test_a_form_is_one(form: Path) -> None:
    loaded = yaml.safe_load(form.read_text())
    if form.stem != "config":
        assert loaded["name"] and loaded["description"]
        fields = [field for field in loaded["body"] if field["type"] != "markdown"]
        assert fields and all(field["attributes"]["label"] for field in fields)


def test_a_bug_comes_with_what_the_doctor_says() -> None:
    loaded = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    (field,) = [field for field in loaded["body"] if field.get("id") == "doctor"]
    words = field["attributes"]["label"].split()
    assert words[:2] == ["kubectl", "memplace"] and field["validations"]["required"]
    given = options.parse(words[2:])
    assert (given.command, given.output) == ("doctor", "yaml")


def test_hooks_are_our_own_tools() -> None:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local" and repo["hooks"]
    assert all(hook["entry"].startswith("uv run --quiet --locked") for hook in repo["hooks"])


def test_a_hook_and_the_docs_have_each_static_check() -> None:
    named = re.findall(r'^ *run (?:"([a-z -]+)"|([a-z]+)) ', (ROOT / "lab/test").read_text(), re.M)
    run = [quoted or bare for quoted, bare in named]
    assert {"ruff check", "mypy", "reuse", "zizmor", "actionlint"} <= set(run)
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert {hook["name"] for hook in repo["hooks"]} == set(run) - {"shellcheck"}
    _, _, page = (ROOT / "docs/tests.md").read_text().partition("\n## Static checks\n")
    rows = re.findall(r"^\| ([a-z-]+) \|", page.partition("\n## ")[0], re.M)
    assert rows[1:] == list(dict.fromkeys(name.split()[0] for name in run))


def test_the_citation_says_nothing_new() -> None:
    loaded = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    letter = (ROOT / "kernel/6.12/0000-cover-letter-process-mbind.patch").read_text()
    urls = [reference["url"] for reference in loaded["references"] if "url" in reference]
    assert urls and [url for url in urls if url not in letter] == []


def test_each_licence_has_its_text() -> None:
    there = {path.stem: path.read_bytes() for path in (ROOT / "LICENSES").iterdir()}
    # What the headers of the selftests say is an older name of the same licence.
    used = {one.removesuffix("-only") for one in licences_used()}
    assert used == {one.removesuffix("-only") for one in there}
    for copy in (ROOT / "LICENSE", *(ROOT / name / "LICENSE" for name in PACKAGES)):
        assert copy.read_bytes() == there["Apache-2.0"]


def licences_used() -> set[str]:
    files = [path for name in SOURCES for path in (ROOT / name).rglob("*") if path.is_file()]
    texts = (path.read_bytes() for path in files if path.suffix not in {".pyc", ".so"})
    header = re.compile(rb"SPDX-License-Identifier: ([\w.-]+)")
    return {one.decode() for text in texts for one in header.findall(text)}


def test_gpl_is_where_the_pages_say() -> None:
    header = re.compile(rb"^.{0,6}SPDX-License-Identifier" + rb": GPL", re.M)
    found = {
        path.relative_to(ROOT).parts[0]
        for name in SOURCES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".so"}
        if header.search(path.read_bytes()[:200])
    }
    assert found == {"kernel"}
