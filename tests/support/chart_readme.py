# SPDX-License-Identifier: Apache-2.0
"""The table of values in the chart's README, made of values.yaml.

python tests/support/chart_readme.py    # writes it
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts" / "memplace"
README = CHART / "README.md"
BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"
_LINE = re.compile(r"^( *)([A-Za-z]+):")


@dataclass(frozen=True)
class Value:
    """A documented value: its path, its default, and what its comment says."""

    path: str
    default: Any
    text: str


def values() -> Iterator[Value]:
    """Yield the values that have a comment that begins with ``# --``, in the file's order."""
    text = (CHART / "values.yaml").read_text()
    whole = yaml.safe_load(text)
    path: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            comment = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("# ") and comment:
            comment.append(stripped.removeprefix("# "))
        elif found := _LINE.match(line):
            path = [*path[: len(found[1]) // 2], found[2]]
            if comment:
                yield Value(".".join(path), _at(whole, path), " ".join(comment))
            comment = []


def _at(node: Any, path: list[str]) -> Any:
    for key in path:
        node = node[key]
    return node


def table() -> str:
    """Return the table of all values as Markdown."""
    rows = [
        f"| `{v.path}` | `{json.dumps(v.default)}` | {v.text.replace('|', chr(92) + '|')} |"
        for v in values()
    ]
    return "\n".join(["| value | default | meaning |", "|---|---|---|", *rows, ""])


def written() -> str:
    """Return the table that the README has."""
    return README.read_text().partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    """Write the table into the README."""
    before, _, rest = README.read_text().partition(BEGIN)
    README.write_text(before + BEGIN + table() + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
