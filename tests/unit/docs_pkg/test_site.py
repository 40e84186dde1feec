# SPDX-License-Identifier: Apache-2.0
"""The documentation site builds strictly, its links hold, and it asks no other host."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("bench", "charts", "docs", "kernel", "tests")
MARKDOWN = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*.md"))]
)


def load(name: str) -> ModuleType:
    """Return a hook of the site, which is in no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/tools/{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(where: Path, *, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    # Not --quiet: warnings that are not logged do not count, however strict the build is.
    command = [sys.executable, "-m", "mkdocs", "build", "-f", str(config), "-d", str(where)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("site")
    done = build(where)
    assert done.returncode == 0, done.stderr
    return where


class Seen(HTMLParser):
    """What a page loads by itself, its headings of the first level, and images without words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.titles = 0
        self.without_words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("script", "img", "iframe", "source") and found.get("src"):
            self.loaded.append(str(found["src"]))
        if tag == "link" and found.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(str(found.get("href")))
        if tag == "img" and not found.get("alt"):
            self.without_words.append(str(found.get("src")))
        self.titles += tag == "h1"


def test_a_page_loads_what_is_beside_it_and_has_a_title(site: Path) -> None:
    pages = [path for path in site.rglob("*.html") if path.name != "404.html"]
    assert len(pages) > 40
    for path in pages:
        seen = Seen(path.read_text())
        assert seen.titles == 1, path
        assert seen.without_words == [], path
        for url in seen.loaded:
            assert not re.match(r"(https?:)?//", url), (path, url)
            assert (path.parent / url.partition("?")[0]).is_file(), (path, url)


def test_no_page_needs_a_script_from_elsewhere(site: Path) -> None:
    # The theme takes mermaid from a content delivery network: pictures are files here.
    for path in site.rglob("*.html"):
        assert 'class="mermaid"' not in path.read_text(), path


@pytest.mark.parametrize("name", MARKDOWN)
def test_a_link_of_any_page_in_the_repository_leads_to_a_file(name: str) -> None:
    hook = load("links")
    for link in hook.links((ROOT / name).read_text()):
        path = hook.target(PurePosixPath(name), link)
        assert path is None or (ROOT / path).is_file(), link


def test_what_leads_nowhere_and_a_page_outside_the_nav_are_errors(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    index = "# x\n\n[a](page-gone.md) [b](../file-gone.yaml) [c](index.md#anchor-gone)\n"
    (tmp_path / "docs/index.md").write_text(index)
    (tmp_path / "docs/other.md").write_text("# x\n")
    config = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[0]
    config = config.replace("docs/tools/", f"{ROOT}/docs/tools/")
    (tmp_path / "mkdocs.yml").write_text(f"{config}\nnav:\n- index.md\n")
    done = build(tmp_path / "site", config=tmp_path / "mkdocs.yml")
    assert done.returncode == 1
    for link in ("page-gone.md", "../file-gone.yaml", "index.md#anchor-gone"):
        assert f"WARNING -  Doc file 'index.md' contains a link '{link}'" in done.stderr
    assert 'not included in the "nav" configuration:\n  - other.md' in done.stderr


def test_links_are_told_from_what_looks_like_one() -> None:
    hook = load("links")
    text = "[a](b.md) ![c](d.svg) [e](f.md#g)\n```\n[h](i.md)\n```\n[j](https://k.test/l)\n"
    assert list(hook.links(text)) == ["b.md", "d.svg", "f.md#g", "https://k.test/l"]
    here = PurePosixPath("docs/adr/page.md")
    assert hook.target(here, "../../README.md#x") == PurePosixPath("README.md")
    assert hook.target(here, "other.md") == PurePosixPath("docs/adr/other.md")
    for away in ("https://k.test/l", "#x", "/etc", "../../../x", "mailto:a@b.test"):
        assert hook.target(here, away) is None


def table(*rows: str) -> str:
    cells = ["".join(f"<td>{cell}</td>\n" for cell in row.split("|")) for row in rows]
    body = "".join(f"<tr>\n{row}</tr>\n" for row in cells)
    titles = "".join(f"<th>t{at}</th>\n" for at in range(rows[0].count("|") + 1))
    head = f"<thead>\n<tr>\n{titles}</tr>\n</thead>"
    return f"<table>\n{head}\n<tbody>\n{body}</tbody>\n</table>"


SENTENCE = "a sentence that is longer than forty letters"


@pytest.mark.parametrize(
    ("row", "narrow"),
    [
        (f"a|b|{SENTENCE}", True),
        ("1|2|3", False),
        (f"a|b|c|d|{SENTENCE}", False),
        (f"a|{SENTENCE}", False),
        (f"<code>ALongNameOfOneReason</code>|{SENTENCE}", True),
    ],
)
def test_a_row_with_much_text_is_a_block_on_a_narrow_screen(row: str, *, narrow: bool) -> None:
    drawn = load("layout").cards(table(row))
    assert ("<table data-cards>" in drawn) == narrow
    assert ('<td data-label="t1">' in drawn) == narrow
    assert "<th data-label" not in drawn and re.sub(r" data-[\w-]+(=\"\w+\")?", "", drawn) == table(
        row
    )


def test_short_names_stay_whole_and_pictures_lead_to_their_files(site: Path) -> None:
    api = (site / "reference/api.html").read_text()
    assert "<code data-whole>RestorePolicy</code>" in api
    assert 'data-label="meaning"' in api
    security = (site / "security.html").read_text()
    assert re.search(r"<code>tests/[\w/.:]{30,}</code>", security)
    operate = (site / "operate.html").read_text()
    assert re.search(r'<a href="dashboard.svg"><img [^>]*src="dashboard.svg"', operate)


def test_the_list_of_decisions_is_whole_and_has_their_titles() -> None:
    folder = ROOT / "docs/adr"
    rows = re.findall(
        r"^\| \[(\d{4})\]\((.+?)\) \| (.+) \|$", (folder / "README.md").read_text(), re.M
    )
    titles = {
        path.name: path.read_text().split("# ", 1)[1].splitlines()[0]
        for path in sorted(folder.glob("0*.md"))
    }
    assert [name for _, name, _ in rows] == list(titles)
    assert {name: f"{number}: {title}" for number, name, title in rows} == titles


def test_a_decision_has_its_title_in_the_menu(site: Path) -> None:
    menu = (site / "glossary.html").read_text()
    assert "0001: The number of process_mbind() comes from the running kernel only" in menu
    assert "0001 number of the call from sysfs" not in menu
