# SPDX-License-Identifier: Apache-2.0
"""The picture: bytes per NUMA node, for regions before and after, and for one pod over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from memplace_lab.show.witness import Bytes

MIB = 1 << 20
_COLOURS = ("#3b6ea8", "#e08a3c", "#5fa55a", "#9a6fb0")
_GLYPHS = "█░▒▓"
# For pages that are dark, where the browser says so.
_DARK = """\
<style>@media (prefers-color-scheme: dark) {
rect[fill="white"] { fill: #0d1117 } text[fill="#111"] { fill: #e6edf3 }
text[fill="#444"], text[fill="#666"] { fill: #9da7b3 }
}</style>"""
_ROW, _EVENT, _BAR, _LEFT, _WIDTH = 40, 22, 13, 190, 900


@dataclass(frozen=True, slots=True)
class Panel:
    """One container: the rows of its table before and after."""

    title: str
    before: Bytes
    after: Bytes

    @property
    def rows(self) -> list[str]:
        """The rows of both, in the order of the later one."""
        return [*self.after, *(r for r in self.before if r not in self.after)]


@dataclass(frozen=True, slots=True)
class Story:
    """One container over time: what happened, in order, and where its bytes were after that."""

    title: str
    rows: Bytes

    def amounts(self, row: str, nodes: Mapping[int, str]) -> str:
        """Return the bytes on each node, those that are none as well."""
        wrong, *_ = nodes
        size = sum(self.rows[row].values())
        return f"{size / MIB:.1f} MiB, {self.rows[row].get(wrong, 0):,} bytes on {nodes[wrong]}"


def text(
    panels: Sequence[Panel], nodes: Mapping[int, str], *, story: Story, width: int = 48
) -> str:
    """Return the picture as text; ``nodes`` names the NUMA nodes."""
    scale = width / _largest(panels, story)
    legend = "   ".join(
        f"{_GLYPHS[i]} node {n} ({name})" for i, (n, name) in enumerate(nodes.items())
    )
    lines = [legend]
    for panel in panels:
        lines += ["", panel.title, *_panel_lines(panel, nodes, scale, width)]
    lines += ["", story.title]
    for row, sizes in story.rows.items():
        bar = _text_bar(sizes, nodes, scale)
        lines.append(f"  {row:<29} {bar:<{width + 2}} {story.amounts(row, nodes)}")
    return "\n".join(lines)


def _panel_lines(panel: Panel, nodes: Mapping[int, str], scale: float, width: int) -> Iterator[str]:
    for row in panel.rows:
        for when, values in (("before", panel.before), ("after", panel.after)):
            name = row[:22] if when == "before" else ""
            bar = _text_bar(values.get(row, {}), nodes, scale)
            amounts = _amounts(values.get(row, {}), nodes)
            yield f"  {name:<22} {when:<6} {bar:<{width + 2}} {amounts}"


def _text_bar(values: Mapping[int, int], nodes: Mapping[int, str], scale: float) -> str:
    return "".join(_GLYPHS[i] * _cells(values.get(n, 0), scale) for i, n in enumerate(nodes))


def _cells(size: int, scale: float) -> int:
    return max(1, round(size * scale)) if size else 0


def _amounts(values: Mapping[int, int], nodes: Mapping[int, str]) -> str:
    found = [f"{nodes[n]} {values[n] / MIB:.1f}" for n in nodes if values.get(n)]
    return " + ".join(found) + " MiB" if found else "-"


def _largest(panels: Sequence[Panel], story: Story) -> int:
    tables = [*(b for p in panels for b in (p.before, p.after)), story.rows]
    return max((sum(row.values()) for table in tables for row in table.values()), default=1) or 1


def svg(
    panels: Sequence[Panel],
    nodes: Mapping[int, str],
    *,
    story: Story,
    title: str,
    footer: Sequence[str],
) -> str:
    """Return the picture as an SVG document."""
    scale = (_WIDTH - _LEFT - 240) / _largest(panels, story)
    body, top = [_text(20, 30, title, size=17, weight="bold")], 52
    body.append(_legend(nodes, top))
    top += 26
    for panel in panels:
        body.append(_text(20, top + 14, panel.title, size=14, weight="bold"))
        top += 26
        for row in panel.rows:
            body.append(_svg_row(row, panel, nodes, top, scale))
            top += _ROW
        top += 8
    body.append(_text(20, top + 14, story.title, size=14, weight="bold"))
    top += 26
    for row in story.rows:
        body.append(_svg_event(row, story, nodes, top, scale))
        top += _EVENT
    top += 14
    for line in footer:
        body.append(_text(20, top + 12, line, size=12, colour="#444"))
        top += 18
    size = f'width="{_WIDTH}" height="{top + 14}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="DejaVu Sans, sans-serif">'
    return "\n".join([head, _DARK, f'<rect {size} fill="white"/>', *body, "</svg>\n"])


def _svg_row(row: str, panel: Panel, nodes: Mapping[int, str], top: int, scale: float) -> str:
    parts = [_text(34, top + 17, row, size=13)]
    for offset, when, values in ((0, "before", panel.before), (_BAR + 3, "after", panel.after)):
        y, sizes = top + offset, values.get(row, {})
        parts.append(_text(_LEFT, y + 11, when, size=11, colour="#666"))
        parts.append(_svg_bar(sizes, nodes, y, scale, _amounts(sizes, nodes)))
    return "\n".join(parts)


def _svg_event(row: str, story: Story, nodes: Mapping[int, str], top: int, scale: float) -> str:
    bar = _svg_bar(story.rows[row], nodes, top, scale, story.amounts(row, nodes))
    return f"{_text(34, top + 11, row, size=13)}\n{bar}"


def _svg_bar(
    sizes: Mapping[int, int], nodes: Mapping[int, str], y: int, scale: float, amounts: str
) -> str:
    parts, x = [], float(_LEFT + 46)
    for index, node in enumerate(nodes):
        width = sizes.get(node, 0) * scale
        if width:
            parts.append(_rectangle(x, y, max(width, 1), _COLOURS[index]))
            x += width
    parts.append(_text(round(x) + 6, y + 11, amounts, size=11, colour="#444"))
    return "\n".join(parts)


def _rectangle(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>'


def _legend(nodes: Mapping[int, str], top: int) -> str:
    parts, x = [], 20
    for index, (node, name) in enumerate(nodes.items()):
        parts.append(
            f'<rect x="{x}" y="{top - 11}" width="13" height="13" fill="{_COLOURS[index]}"/>'
        )
        parts.append(_text(x + 19, top, f"NUMA node {node}: {name}", size=13))
        x += 190
    return "\n".join(parts)


def _text(
    x: int, y: int, content: str, *, size: int, weight: str = "normal", colour: str = "#111"
) -> str:
    style = f'font-size="{size}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{x}" y="{y}" {style}>{escape(content)}</text>'
