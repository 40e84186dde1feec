# SPDX-License-Identifier: Apache-2.0
"""What imports what outside of the product's packages, which import-linter looks after.

Suites are the folders of tests/; support is none.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITES = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()} - {"support"}
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if "programs" not in path.parts)
OTHERS = sorted(
    path
    for folder in (
        "bench",
        "cli",
        "core",
        "docs/tools",
        "lab",
        "node-agent",
        "operator",
        "packaging",
    )
    for path in (ROOT / folder).rglob("*.py")
)
CONFTESTS = [path for path in TESTS if path.name == "conftest.py"]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(text: str, package: str) -> Iterator[str]:
    """Yield the dotted name of all that a file of a package imports, at its top or further down."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            parts = [*(above if node.level else []), *([node.module] if node.module else [])]
            yield from (".".join([*parts, alias.name]) for alias in node.names)


def imports_of(path: Path) -> list[str]:
    package = relative(path.parent).replace("/", ".")
    return list(imported(path.read_text(), package))


def foreign(name: str, suite: str) -> bool:
    """Return whether a name is that of a suite other than this one."""
    top, _, rest = name.partition(".")
    return top == "tests" and rest.partition(".")[0] in SUITES - {suite}


def is_for_pytest(node: ast.stmt) -> bool:
    """Return whether pytest calls it, or nobody but what pytest calls."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return True
    decorators = [ast.unparse(each) for each in node.decorator_list]
    fixture = any(each.startswith("pytest.fixture") for each in decorators)
    return fixture or node.name.startswith(("pytest_", "_"))


@pytest.mark.parametrize("path", CONFTESTS, ids=relative)
def test_a_conftest_has_fixtures_and_hooks(path: Path) -> None:
    nodes = ast.parse(path.read_text()).body
    assert [ast.unparse(node)[:60] for node in nodes if not is_for_pytest(node)] == []


def test_nobody_imports_a_conftest() -> None:
    found = {relative(p): [n for n in imports_of(p) if "conftest" in n.split(".")] for p in TESTS}
    assert {path: names for path, names in found.items() if names} == {}


def test_a_suite_imports_no_other() -> None:
    found = {}
    for path in TESTS:
        suite = path.relative_to(ROOT / "tests").parts[0]
        found[relative(path)] = [name for name in imports_of(path) if foreign(name, suite)]
    assert {path: names for path, names in found.items() if names} == {}


def test_nothing_else_imports_tests() -> None:
    found = {relative(p): [n for n in imports_of(p) if n.split(".")[0] == "tests"] for p in OTHERS}
    assert {path: names for path, names in found.items() if names} == {}


def test_no_folder_but_the_products_is_called_operator() -> None:
    """Beside such a folder the standard library cannot import its own operator."""
    folders = {parent for path in (*TESTS, *OTHERS) for parent in path.relative_to(ROOT).parents}
    assert {str(path) for path in folders if path.name == "operator"} == {"operator"}


def test_enough_is_looked_at_and_an_import_is_found() -> None:
    assert len(TESTS) > 200 and len(OTHERS) > 200 and len(CONFTESTS) > 10
    assert "tests.support" in {name.rpartition(".")[0] for p in TESTS for name in imports_of(p)}
    lines = "from .conftest import a\nfrom . import tap\ndef f():\n    import tests.cli.site"
    assert list(imported(lines, "tests.kernel")) == [
        "tests.kernel.conftest.a",
        "tests.kernel.tap",
        "tests.cli.site",
    ]
    assert list(imported("from ..b.c import d", "tests.a")) == ["tests.b.c.d"]
    assert foreign("tests.cli.site.Ran", "chart") and not foreign("tests.cli.site.Ran", "cli")
    assert not foreign("tests.support.cluster", "cli")


def lists_its_names(path: Path) -> bool:
    """Return whether a file has ``__all__``."""
    nodes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
    return any(ast.unparse(node.targets[0]) == "__all__" for node in nodes)


def test_a_name_is_private_by_its_underscore() -> None:
    """And has one home: only a package that gathers names of its modules says which."""
    lists = [path for path in (*OTHERS, *TESTS) if lists_its_names(path)]
    assert [relative(path) for path in lists if path.name != "__init__.py"] == []
    assert lists, "the search finds nothing"
