# SPDX-License-Identifier: Apache-2.0
"""A picture as SVG: one file, no font and no script from elsewhere, for light and dark. Pure.

Letters are as wide as each other, so that what fits is known without a font.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

from memplace.explain_rules import human_bytes

from memplace_cli.picture import Bar, Picture, shares, tier_names
from memplace_cli.words import printable

_WIDTH, _MARGIN = 900, 20
# The columns: labels, bars, numbers.
_LABEL, _BAR = 220, 470
_BAR_X = _MARGIN + _LABEL + 10
_NUMBER_X = _BAR_X + _BAR + 10
_CHAR = 7.25  # of 12 px, in the widest of the fonts below
_TALL, _SMALL, _LEAST = 18, 10, 2

# Told apart by people who see fewer colours, on white and on black (Okabe and Ito).
_KNOWN = {"dram": "#0072b2", "cxl": "#e69f00", "hbm": "#009e73", "other": "#8b949e"}
_MORE = ("#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#7b5ea7", "#4d7c59")
_BLACK_ON = frozenset({"#d55e00", "#e69f00", "#56b4e9", "#cc79a7", "#b8a800", "#8b949e", "#009e73"})

_STYLE = """\
svg { background: #ffffff }
text { font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328 }
.page { fill: #ffffff } .track { fill: #eaeef2 }
.title { font-size: 14px; font-weight: bold } .name { font-weight: bold } .dim { fill: #59636e }
.bad { fill: #a40e26 } .on-dark { fill: #ffffff } .on-light { fill: #000000 }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117 } .page { fill: #0d1117 } .track { fill: #2a313c }
text { fill: #e6edf3 } .dim { fill: #9da7b3 } .bad { fill: #ff7b72 }
.on-dark { fill: #ffffff } .on-light { fill: #000000 }
}"""

Colours = Mapping[str, str]


def svg(picture: Picture) -> str:
    """Return the text of an SVG file."""
    names = tier_names(picture.bars)
    colours = _colours(names)
    parts, y = _head(picture), _MARGIN + 48
    if not picture.bars:
        parts.append(_text(_MARGIN, y, "nothing to draw", "dim"))
        y += 24
    for bar in picture.bars:
        drawn, y = _bar(bar, y, picture.largest, colours)
        parts += drawn
    drawn, y = _foot(picture, y, names, colours)
    parts += drawn
    label = _xml(f"{picture.title}: {picture.note}" if picture.note else picture.title)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{label}" '
            f'width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{_WIDTH}" height="{y}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _colours(names: Sequence[str]) -> Colours:
    rest = [name for name in names if name not in _KNOWN]
    more = {name: _MORE[at % len(_MORE)] for at, name in enumerate(rest)}
    return _KNOWN | more


def _head(picture: Picture) -> list[str]:
    wide = _WIDTH - 2 * _MARGIN
    return [
        _text(_MARGIN, _MARGIN + 12, picture.title, "title", width=int(wide * 12 / 14)),
        _text(_MARGIN, _MARGIN + 30, picture.note, "dim", width=wide),
    ]


def _bar(bar: Bar, y: int, largest: int, colours: Colours) -> tuple[list[str], int]:
    # Its name and a bar as tall as a line, a line of what is to know, then what is below it.
    parts = [
        _text(_MARGIN, y + 13, bar.label, "name", width=_LABEL),
        *_track(bar, y, _TALL, largest, colours),
        *_number(bar, y + 13),
    ]
    y += _TALL + 2
    if bar.note:
        wide = _WIDTH - _MARGIN - _BAR_X if bar.below or not bar.misplaced_bytes else _BAR
        parts.append(_text(_BAR_X, y + 13, bar.note, "dim", width=wide))
        y += 20
    for each in bar.below:
        parts += [
            _text(_MARGIN + 14, y + 10, each.label, "", width=_LABEL - 14),
            *_track(each, y + 1, _SMALL, largest, colours),
            *_number(each, y + 10),
        ]
        y += _SMALL + 8
    return parts, y + 12


def _track(bar: Bar, y: int, height: int, largest: int, colours: Colours) -> Iterator[str]:
    yield f'<rect class="track" x="{_BAR_X}" y="{y}" width="{_BAR}" height="{height}"/>'
    there = [tier for tier in bar.tiers if tier.bytes]
    if not there or not largest:
        return
    length = max(round(_BAR * bar.bytes / largest), _LEAST * len(there))
    x, sizes = _BAR_X, [tier.bytes for tier in there]
    for tier, wide in zip(there, shares(sizes, min(length, _BAR), _LEAST), strict=True):
        colour, said = colours[tier.name], f"{tier.name} {human_bytes(tier.bytes)}"
        yield (
            f'<rect fill="{colour}" x="{x}" y="{y}" width="{wide}" height="{height}">'
            f"<title>{_xml(said)}</title></rect>"
        )
        if height == _TALL:
            inside = next((t for t in (said, tier.name) if _fits(t, wide - 8)), "")
            if inside:
                on = "on-light" if colour in _BLACK_ON else "on-dark"
                yield _text(x + 4, y + 13, inside, on)
        x += wide


def _number(bar: Bar, y: int) -> Iterator[str]:
    size = human_bytes(bar.bytes) if bar.bytes else "-"
    yield _text(_NUMBER_X, y, size, "")
    if bar.misplaced_bytes and not bar.below:
        x = _NUMBER_X + round((len(size) + 1) * _CHAR)
        yield _text(x, y, f"!{human_bytes(bar.misplaced_bytes)}", "bad")


def _foot(
    picture: Picture, y: int, names: Sequence[str], colours: Colours
) -> tuple[list[str], int]:
    parts, x = [], _MARGIN
    for name in names:
        shown = _cut(printable(name), 150)
        wide = 18 + round(len(shown) * _CHAR) + 18
        if x + wide > _WIDTH - _MARGIN:
            x, y = _MARGIN, y + 20
        parts.append(f'<rect fill="{colours[name]}" x="{x}" y="{y + 3}" width="12" height="12"/>')
        parts.append(_text(x + 18, y + 13, shown, ""))
        x += wide
    if names:
        y += 24
    said = [f"the full width is {human_bytes(picture.largest)}"] if picture.largest else []
    if picture.left_out:
        said.append(f"{picture.left_out} more are not drawn")
    if any(bar.misplaced_bytes for bar in picture.bars):
        said.append("! is misplaced: the rules want it on another tier")
    if not picture.largest:
        said.append("nothing is measured")
    parts.append(_text(_MARGIN, y + 13, "; ".join(said), "dim"))
    return parts, y + 13 + _MARGIN


def _fits(text: str, width: int) -> bool:
    return len(text) * _CHAR <= width


def _cut(text: str, width: int) -> str:
    # The ends of names tell more than their middles.
    most = int(width / _CHAR)
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def _text(x: int, y: int, text: str, style: str, *, width: int = 0) -> str:
    whole = printable(text).replace("\n", " ")
    shown = _cut(whole, width) if width else whole
    hint = f"<title>{_xml(whole)}</title>" if shown != whole else ""
    named = f' class="{style}"' if style else ""
    return f'<text{named} x="{x}" y="{y}">{hint}{_xml(shown)}</text>'


def _xml(text: str) -> str:
    return escape(printable(text), {'"': "&quot;"})
