# SPDX-License-Identifier: Apache-2.0
"""Links from pages to files elsewhere in the repository.

Pages link to README.md, examples and so on by relative paths, which hold in a checkout. The
site has no such files beside it, so each file that is linked becomes a part of the site, below
``repository/``, with whatever it links to. MkDocs loads this module as a hook and then checks
all links itself; one that leads nowhere is left as it is, for MkDocs to refuse.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = PurePosixPath("docs")
OUTSIDE = PurePosixPath("repository")
FRONT = PurePosixPath("README.md")
_LINK = re.compile(r"(?<=\]\()([^()\s]+)(?=[)\s])")
_FENCE = re.compile(r"^```.*?^```$", re.M | re.S)


def links(text: str) -> Iterator[str]:
    """Yield what the links and images of a Markdown text lead to, code blocks left out."""
    yield from _LINK.findall(_FENCE.sub("", text))


def target(source: PurePosixPath, link: str) -> PurePosixPath | None:
    """Return the path in the repository that a link leads to, whether it is there or not.

    Args:
        source: The file with the link, relative to the repository.
        link: As it is written, perhaps with an anchor.

    Returns:
        None for a URL, an absolute path, an anchor of the same page and what leaves the
        repository.
    """
    path = link.partition("#")[0]
    if not path or path.startswith("/") or re.match(r"[a-z+]+:", path):
        return None
    found = PurePosixPath(os.path.normpath(source.parent / path))
    return None if found.parts[0] == ".." else found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that pages link to, and those that these link to."""
    pages = [DOCS / file.src_uri for file in files.documentation_pages()]
    for path in _reached([*pages, FRONT]):
        if not path.is_relative_to(DOCS):
            inclusion = InclusionLevel.NOT_IN_NAV
            uri = str(OUTSIDE / path)
            added = File.generated(config, uri, abs_src_path=str(ROOT / path), inclusion=inclusion)
            files.append(added)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Let the links of a page lead to where their files are in the site."""
    uri = PurePosixPath(page.file.src_uri)
    source = uri.relative_to(OUTSIDE) if uri.is_relative_to(OUTSIDE) else DOCS / uri

    def moved(match: re.Match[str]) -> str:
        link = match[1]
        path = target(source, link)
        if path is None or not (ROOT / path).is_file():
            return link
        _, mark, anchor = link.partition("#")
        return os.path.relpath(_in_site(path), uri.parent) + mark + anchor

    return _LINK.sub(moved, markdown)


def _in_site(path: PurePosixPath) -> PurePosixPath:
    return path.relative_to(DOCS) if path.is_relative_to(DOCS) else OUTSIDE / path


def _reached(begin: Iterable[PurePosixPath]) -> set[PurePosixPath]:
    seen: set[PurePosixPath] = set()
    todo = list(begin)
    while todo:
        path = todo.pop()
        if path in seen or not (ROOT / path).is_file():
            continue
        seen.add(path)
        if path.suffix == ".md":
            found = (target(path, link) for link in links((ROOT / path).read_text()))
            todo += [other for other in found if other is not None]
    return seen
