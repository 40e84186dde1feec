# SPDX-License-Identifier: Apache-2.0
"""The picture: bytes per region and NUMA node, before and after, as SVG and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from memplace_lab.witness import Bytes

MIB = 1 << 20
_COLOURS = ("#3b6ea8", "#e08a3c", "#5fa55a", "#9a6fb0")
_GLYPHS = "█░▒▓"
_ROW, _BAR, _LEFT, _WIDTH = 40, 13, 190, 900


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


def text(panels: Sequence[Panel], nodes: Mapping[int, str], *, width: int = 48) -> str:
    """Return the picture as text; ``nodes`` names the NUMA nodes."""
    scale = width / _largest(panels)
    legend = "   ".join(
        f"{_GLYPHS[i]} node {n} ({name})" for i, (n, name) in enumerate(nodes.items())
    )
    lines = [legend]
    for panel in panels:
        lines += ["", panel.title]
        for row in panel.rows:
            for when, values in (("before", panel.before), ("after", panel.after)):
                name = row[:22] if when == "before" else ""
                bar = "".join(
                    _GLYPHS[i] * _cells(values.get(row, {}).get(n, 0), scale)
                    for i, n in enumerate(nodes)
                )
                amounts = _amounts(values.get(row, {}), nodes)
                lines.append(f"  {name:<22} {when:<6} {bar:<{width + 2}} {amounts}")
    return "\n".join(lines)


def _cells(size: int, scale: float) -> int:
    return max(1, round(size * scale)) if size else 0


def _amounts(values: Mapping[int, int], nodes: Mapping[int, str]) -> str:
    found = [f"{nodes[n]} {values[n] / MIB:.1f}" for n in nodes if values.get(n)]
    return " + ".join(found) + " MiB" if found else "-"


def _largest(panels: Sequence[Panel]) -> int:
    sizes = [sum(v.values()) for p in panels for b in (p.before, p.after) for v in b.values()]
    return max(sizes, default=1) or 1


def svg(
    panels: Sequence[Panel], nodes: Mapping[int, str], *, title: str, footer: Sequence[str]
) -> str:
    """Return the picture as an SVG document."""
    scale = (_WIDTH - _LEFT - 190) / _largest(panels)
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
    for line in footer:
        body.append(_text(20, top + 12, line, size=12, colour="#444"))
        top += 18
    size = f'width="{_WIDTH}" height="{top + 14}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="DejaVu Sans, sans-serif">'
    return "\n".join([head, f'<rect {size} fill="white"/>', *body, "</svg>\n"])


def _svg_row(row: str, panel: Panel, nodes: Mapping[int, str], top: int, scale: float) -> str:
    parts = [_text(34, top + 17, row, size=13)]
    for offset, when, values in ((0, "before", panel.before), (_BAR + 3, "after", panel.after)):
        x, y, sizes = float(_LEFT + 46), top + offset, values.get(row, {})
        parts.append(_text(_LEFT, y + 11, when, size=11, colour="#666"))
        for index, node in enumerate(nodes):
            width = sizes.get(node, 0) * scale
            if width:
                parts.append(_rectangle(x, y, max(width, 1), _COLOURS[index]))
                x += width
        parts.append(_text(round(x) + 6, y + 11, _amounts(sizes, nodes), size=11, colour="#444"))
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
