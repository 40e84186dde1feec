# SPDX-License-Identifier: Apache-2.0
"""The dashboard as a picture: its own queries, answered by a real Prometheus.

PYTHONPATH=. python -m tests.chart.dashboard_picture    # writes it; in the lab

It follows what the panels say (place, title, unit, names of the series, lines of thresholds),
and not the looks of Grafana.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tests.chart.recording import STEP_S, STEPS
from tests.chart.server import UNTIL, asked, filled, in_range, prometheus
from tests.chart.test_monitoring import dashboard
from tests.support import ROOT

PICTURE = ROOT / "docs" / "dashboard.svg"
# Of the recording, without the first scrapes: a rate needs some before it.
SHOWN = STEPS - 10

# A cell of the dashboard's grid, of which 24 lie side by side, in pixels.
_CELL_X, _CELL_Y = 37.5, 26
_WIDTH, _HEAD, _GAP, _PAD = 900, 34, 4, 10
_LEFT, _TOP, _BOTTOM, _ROW = 72, 28, 48, 15
_CHAR = 6.7  # of 11 px, in the widest of the fonts below

# Told apart by people who see fewer colours, on white and on black (Okabe and Ito).
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8b949e")
_STYLE = """\
svg { background: #ffffff }
text { font: 11px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328 }
.page { fill: #ffffff } .panel { fill: none; stroke: #d0d7de } .grid { stroke: #eaeef2 }
.title { font-weight: bold } .dim { fill: #59636e } .big { font-size: 26px; font-weight: bold }
.line { fill: none; stroke-width: 1.5 } .limit { stroke: #a40e26; stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117 } .page { fill: #0d1117 } .panel { stroke: #3d444d }
.grid { stroke: #2a313c } text { fill: #e6edf3 } .dim { fill: #9da7b3 } .limit { stroke: #ff7b72 }
}"""
_UNITS: Mapping[str, Sequence[tuple[float, str]]] = {
    "binBps": ((1 << 30, " GiB/s"), (1 << 20, " MiB/s"), (1 << 10, " KiB/s"), (1, " B/s")),
    "bytes": ((1 << 30, " GiB"), (1 << 20, " MiB"), (1 << 10, " KiB"), (1, " B")),
    "s": ((120, " min"), (1, " s"), (1e-3, " ms"), (1e-6, " µs")),  # noqa: RUF001  the SI prefix
    "short": ((1e6, " Mil"), (1e3, " K"), (1, "")),
}


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a panel: what the legend calls it, and pairs of time and value."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Box:
    """Where a panel is drawn, in pixels."""

    x: float
    y: float
    width: float
    height: float


def drawn(url: str) -> str:
    """Return the text of the picture, from the answers of a Prometheus with the recording."""
    found = dashboard()
    parts: list[str] = []
    bottom = 0.0
    for panel in found["panels"]:
        box = _box(panel["gridPos"])
        bottom = max(bottom, box.y + box.height)
        parts += _panel(url, panel, box)
    height = round(bottom + _PAD)
    label = escape(f"Dashboard {found['title']}: {found['description']}", {'"': "&quot;"})
    head = f"dashboard {found['title']}, drawn from its queries: {SHOWN * STEP_S // 60} minutes"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" '
            f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{_WIDTH}" height="{height}"/>',
            _text(_PAD, 20, head, "title"),
            *parts,
            "</svg>\n",
        ]
    )


def _box(at: Mapping[str, int]) -> Box:
    return Box(
        x=at["x"] * _CELL_X + _GAP,
        y=at["y"] * _CELL_Y + _HEAD,
        width=at["w"] * _CELL_X - 2 * _GAP,
        height=at["h"] * _CELL_Y - 2 * _GAP,
    )


def _panel(url: str, panel: Mapping[str, Any], box: Box) -> Iterator[str]:
    yield f"<g><title>{escape(panel['description'])}</title>"
    yield (
        f'<rect class="panel" x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" '
        f'height="{box.height:g}" rx="3"/>'
    )
    for at, line in enumerate(_folded(panel["title"], box.width - 2 * _PAD)):
        yield _text(box.x + _PAD, box.y + 17 + at * _ROW, line, "title")
    draw = {"stat": _stat, "timeseries": _timeseries}[panel["type"]]
    yield from draw(url, panel, box)
    yield "</g>"


def _stat(url: str, panel: Mapping[str, Any], box: Box) -> Iterator[str]:
    rows = [
        (_named(target, each["metric"]), float(each["value"][1]))
        for target in panel["targets"]
        for each in asked(url, "/api/v1/query", query=filled(target["expr"]), time=UNTIL)["result"]
    ]
    rows.sort()
    y = box.y + 84
    for name, value in rows:
        yield _text(box.x + _PAD, y, _said(value, panel, value), "big")
        yield _text(box.x + _PAD, y + 17, name, "dim")
        y += 58


def _timeseries(url: str, panel: Mapping[str, Any], box: Box) -> Iterator[str]:
    lines = sorted(_series(url, panel), key=lambda series: series.name)
    top = _rounded(max((v for line in lines for _, v in line.points), default=0) or 1, panel)
    plot = Box(box.x + _LEFT, box.y + _TOP, box.width - _LEFT - _PAD, box.height - _TOP - _BOTTOM)
    yield from _axes(plot, panel, top)
    for at, line in enumerate(lines):
        corners = " ".join(f"{_x(plot, t)},{_y(plot, v, top)}" for t, v in line.points)
        yield f'<polyline class="line" stroke="{_colour(at)}" points="{corners}"/>'
    yield from _limit(plot, panel, top)
    yield from _legend(lines, box)


def _series(url: str, panel: Mapping[str, Any]) -> Iterator[Series]:
    for target in panel["targets"]:
        for each in in_range(url, target["expr"], SHOWN):
            points = ((float(time), float(value)) for time, value in each["values"])
            finite = tuple((time, value) for time, value in points if math.isfinite(value))
            yield Series(_named(target, each["metric"]), finite)


def _axes(plot: Box, panel: Mapping[str, Any], top: float) -> Iterator[str]:
    for part in range(5):
        value = top * part / 4
        y = _y(plot, value, top)
        yield f'<path class="grid" d="M{plot.x:g} {y}h{plot.width:g}"/>'
        yield _text(plot.x - 5, y + 4, _said(value, panel, top), "dim", end=True)
    every = 300
    first = math.ceil((UNTIL - SHOWN * STEP_S) / every) * every
    for time in range(first, UNTIL + 1, every):
        said = datetime.fromtimestamp(time, UTC).strftime("%H:%M")
        yield _text(_x(plot, time) - 17, plot.y + plot.height + 14, said, "dim")


def _limit(plot: Box, panel: Mapping[str, Any], top: float) -> Iterator[str]:
    # Where the panel has one and it lies within what is shown, as Grafana does it.
    for step in panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", ()):
        if step["value"] is not None and step["value"] <= top:
            y = _y(plot, step["value"], top)
            yield f'<path class="limit" d="M{plot.x:g} {y}h{plot.width:g}"/>'


def _legend(lines: Sequence[Series], box: Box) -> Iterator[str]:
    x, y = box.x + _PAD, box.y + box.height - 21
    for at, line in enumerate(lines):
        wide = 16 + len(line.name) * _CHAR + 12
        if x + wide > box.x + box.width and x > box.x + _PAD:
            x, y = box.x + _PAD, y + _ROW
        yield f'<path stroke="{_colour(at)}" stroke-width="3" d="M{x:g} {y - 4:g}h12"/>'
        yield _text(x + 16, y, line.name, "")
        x = round(x + wide, 1)


def _named(target: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    name: str = target["legendFormat"]
    for label, value in labels.items():
        name = name.replace(f"{{{{{label}}}}}", value)
    return name


def _rounded(largest: float, panel: Mapping[str, Any]) -> float:
    # The end of an axis with four parts: each of them is 1, 2, 2.5 or 5 of something.
    defaults = panel["fieldConfig"]["defaults"]
    size, _ = _scale(largest, defaults["unit"])
    part = largest / size / 4
    if defaults.get("decimals") == 0:
        part = max(part, 1)
    ten = 10.0 ** math.floor(math.log10(part))
    steps = (1, 2, 5, 10) if defaults.get("decimals") == 0 else (1, 2, 2.5, 5, 10)
    return 4 * size * next(step * ten for step in steps if step * ten >= part * 0.9999)


def _said(value: float, panel: Mapping[str, Any], scale: float) -> str:
    size, unit = _scale(scale, panel["fieldConfig"]["defaults"]["unit"])
    if unit == " min":
        size = 60
    return f"{value / size:.3g}{unit}"


def _scale(value: float, unit: str) -> tuple[float, str]:
    known = _UNITS[unit]
    return next((each for each in known if value >= each[0]), known[-1])


def _x(plot: Box, time: float) -> float:
    start = UNTIL - SHOWN * STEP_S
    return round(plot.x + plot.width * (time - start) / (UNTIL - start), 1)


def _y(plot: Box, value: float, top: float) -> float:
    return round(plot.y + plot.height * (1 - value / top), 1)


def _colour(at: int) -> str:
    return _COLOURS[at % len(_COLOURS)]


def _folded(text: str, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines[-1:] = [longer] if len(longer) * _CHAR <= width else [lines[-1], word]
    return lines


def _text(x: float, y: float, text: str, kind: str, *, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{anchor}>{escape(text)}</text>'


def _write() -> None:
    with tempfile.TemporaryDirectory() as folder, prometheus(Path(folder)) as url:
        PICTURE.write_text(drawn(url))


if __name__ == "__main__":
    _write()
