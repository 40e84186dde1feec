# SPDX-License-Identifier: Apache-2.0
"""What menus and narrow screens need of pages, which Markdown can't say.

MkDocs loads this module as a hook. It adds attributes that site.css is about:

- A table with much text gets ``data-cards``, and its cells the title of their column. On a narrow
  screen each row is then a block of lines instead of columns of one word.
- A short name in a cell gets ``data-whole``: it is never broken over two lines.
- A picture leads to its file, where a finger can make it larger.

A page without a title in mkdocs.yml has that of its heading, if nothing comes before it.
"""

from __future__ import annotations

import re
from html import escape, unescape

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

# Letters: a name up to this long stays whole; a first column with longer ones leaves no room for
# a second one on a telephone; a cell with more is text, and no figure.
_WHOLE, _LONG_NAME, _TEXT = 30, 18, 40
_MOST_COLUMNS = 4
_TABLE = re.compile(r"<table>\n<thead>(.*?)</thead>(.*?)</table>", re.S)
_TITLE = re.compile(r"<th[^>]*>(.*?)</th>", re.S)
_ROW = re.compile(r"<tr>.*?</tr>", re.S)
_CELL = re.compile(r"<td([^>]*)>(.*?)</td>", re.S)
_NAME = re.compile(r"<code>(.*?)</code>", re.S)
_COMMENT = re.compile(r"\A\s*<!--.*?-->\s*", re.S)
_PICTURE = re.compile(r'<img [^>]*?src="([^"]+\.svg)"[^>]*>')


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Return a page without the comment before its heading."""
    return _COMMENT.sub("", markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Return the content of a page with the attributes."""
    return pictures(_TABLE.sub(lambda match: cards(match[0]), html))


def pictures(html: str) -> str:
    """Return HTML in which each picture leads to its own file."""
    return _PICTURE.sub(lambda match: f'<a href="{match[1]}">{match[0]}</a>', html)


def cards(table: str) -> str:
    """Return a table with attributes for narrow screens, where it needs them."""
    head = table.partition("</thead>")[0]
    titles = [_plain(title) for title in _TITLE.findall(head)]
    rows = [[cell for _, cell in _CELL.findall(row)] for row in _ROW.findall(table)]
    table = _CELL.sub(lambda match: _whole(match[0]), table)
    if not _crowded([row for row in rows if row]):
        return table
    table = table.replace("<table>", "<table data-cards>", 1)
    return _ROW.sub(lambda match: _labelled(match[0], titles), table)


def _crowded(rows: list[list[str]]) -> bool:
    columns = max(map(len, rows), default=0)
    if not 1 < columns <= _MOST_COLUMNS:
        return False
    if columns > 2:
        return any(len(_plain(cell)) > _TEXT for row in rows for cell in row)
    names = [name for row in rows for name in _NAME.findall(row[0])]
    return any(len(unescape(name)) > _LONG_NAME for name in names)


def _labelled(row: str, titles: list[str]) -> str:
    names = iter(titles)

    def cell(match: re.Match[str]) -> str:
        label = escape(next(names, ""), quote=True)
        return f'<td{match[1]} data-label="{label}">{match[2]}</td>'

    return _CELL.sub(cell, row)


def _whole(cell: str) -> str:
    def name(match: re.Match[str]) -> str:
        short = len(unescape(match[1])) <= _WHOLE
        return match[0].replace("<code>", "<code data-whole>") if short else match[0]

    return _NAME.sub(name, cell)


def _plain(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html)).strip()
