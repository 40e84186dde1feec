# SPDX-License-Identifier: Apache-2.0
"""Pictures: nothing that is there is invisible, nothing leaves the page, all can be read."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.api.v1alpha1 import TierBytes
from memplace_cli.bars import draw
from memplace_cli.picture import Bar, Picture, of_pod, of_top, shares
from memplace_cli.said import ContainerSaid, PodSaid, RuleSaid
from memplace_cli.svg import svg
from memplace_cli.top import PodTop, Top

NS = "{http://www.w3.org/2000/svg}"
GIB = 1 << 30
LONG = "ip-10-0-11-222.eu-central-1.compute.internal.a-name-of-sixty-three-bytes"
EVIL = '<script>x</script>"&\x1b[2J\ud800'


def tiers(**sizes: int) -> tuple[TierBytes, ...]:
    return tuple(TierBytes(name=name, bytes=size) for name, size in sizes.items())


def container(name: str, heap: int) -> ContainerSaid:
    on = tiers(cxl=heap - heap // 3, dram=heap // 3) if heap else ()
    rule = RuleSaid(name="heap", wants="PreferredMany on cxl", bytes=heap, tiers=on)
    return ContainerSaid(name=name, placement=name, reason="TierFull", tiers=on, rules=(rule,))


def pod(*containers: ContainerSaid, name: str = "redis-0") -> Picture:
    return of_pod(
        PodSaid(
            namespace="cache",
            name=name,
            node=name,
            life="Running",
            agent="Alive",
            containers=containers,
        )
    )


def pods(number: int) -> Picture:
    return of_top(
        Top(
            pods=tuple(
                PodTop(
                    namespace="cache",
                    pod=f"redis-{at}",
                    node="worker-1",
                    placement="redis-on-cxl",
                    bytes=(number - at) * GIB,
                    misplaced_bytes=GIB // 3,
                    tiers=tiers(cxl=(number - at) * GIB),
                )
                for at in range(number)
            )
        )
    )


PICTURES = {
    "one": pod(container("redis", 2 * GIB)),
    "nothing": pod(container("redis", 0)),
    "no container": pod(),
    "long": pod(container(LONG, GIB), container(EVIL, 3), name=LONG * 2),
    "twenty": pods(20),
    "many": pods(70),
    "none": pods(0),
}


def parsed(picture: Picture) -> ElementTree.Element:
    return ElementTree.fromstring(svg(picture))


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_nothing_leaves_the_page(picture: Picture) -> None:
    root = parsed(picture)
    width, height = (int(root.attrib[each]) for each in ("width", "height"))
    for rect in root.iter(f"{NS}rect"):
        x, y = (int(rect.attrib.get(each, 0)) for each in ("x", "y"))
        assert x + int(rect.attrib["width"]) <= width
        assert y + int(rect.attrib["height"]) <= height
    for text in root.iter(f"{NS}text"):
        size = 14 if text.attrib.get("class") == "title" else 12
        shown = [*text.itertext()][-1] if len(text) else text.text or ""
        # A letter of the fonts that are named is 0.602 of its size wide, at most.
        assert int(text.attrib["x"]) + len(shown) * size * 0.602 <= width, shown
        assert int(text.attrib["y"]) <= height


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_it_needs_nothing_from_elsewhere_and_runs_nothing(picture: Picture) -> None:
    text = svg(picture)
    assert text.count("http") == 1  # the name of the format
    assert not re.search(r"<script|href|url\(|@import|@font-face|\son[a-z]+=", text)
    assert "\x1b" not in text
    assert text == svg(picture)


def test_whole_names_are_there_though_not_all_is_shown() -> None:
    root = parsed(PICTURES["long"])
    assert any(hint.text == LONG for hint in root.iter(f"{NS}title"))
    assert any("…" in (each.tail or "") for each in root.iter(f"{NS}title"))
    assert LONG in root.attrib["aria-label"]


def test_what_is_not_drawn_is_said() -> None:
    assert "20 more are not drawn" in svg(PICTURES["many"])
    assert "nothing is measured" in svg(PICTURES["nothing"])
    assert "nothing to draw" in svg(PICTURES["none"])
    assert "the full width is 2.0 GiB" in svg(PICTURES["one"])
    assert "!341.3 MiB" in svg(PICTURES["twenty"])


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["cxl", "dram", "hbm", "x"]), st.integers(0, 2**44)),
        min_size=1,
        max_size=5,
    )
)
def test_a_bar_is_as_long_as_its_share_and_shows_each_tier(sizes: list[dict[str, int]]) -> None:
    bars = tuple(
        Bar(label=f"b{at}", bytes=sum(each.values()), tiers=tiers(**each))
        for at, each in enumerate(sizes)
    )
    picture = Picture(title="t", bars=bars)
    root = parsed(picture)
    drawn: dict[str, list[int]] = {}
    for rect in root.iter(f"{NS}rect"):
        if len(rect):  # of a tier: it has a hint
            drawn.setdefault(rect.attrib["y"], []).append(int(rect.attrib["width"]))
    there = [each for each in sizes if sum(each.values())]
    assert len(drawn) == len(there)
    for widths, each in zip(drawn.values(), there, strict=True):
        assert len(widths) == sum(size > 0 for size in each.values())
        assert min(widths) >= 2
        wanted = 470 * sum(each.values()) / picture.largest
        assert abs(sum(widths) - wanted) <= 2 * len(widths)


@given(st.lists(st.integers(0, 2**50), max_size=6), st.integers(12, 500))
def test_shares_fill_the_width(sizes: list[int], width: int) -> None:
    found = shares(sizes, width, 2)
    assert sum(found) == (width if any(sizes) else 0)
    for size, share in zip(sizes, found, strict=True):
        assert (share >= 2) == (size > 0) and (share == 0) == (size == 0)
        if size:
            assert abs(share - width * size / sum(sizes)) <= 2 * len(sizes) + 1


def style(text: str) -> tuple[str, str]:
    """Return the rules of light and of dark."""
    css = re.search(r"<style>(.*)</style>", text, re.DOTALL)
    assert css
    light, dark = css[1].split("@media (prefers-color-scheme: dark) {")
    return light, dark


def fill(css: str, name: str) -> str:
    found = re.search(rf"(?:^|\s){re.escape(name)} \{{[^}}]*fill: (#[0-9a-f]{{6}})", css)
    assert found, name
    return found[1]


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    lit = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * lit[0] + 0.7152 * lit[1] + 0.0722 * lit[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("which", [0, 1], ids=["light", "dark"])
def test_all_words_can_be_read(which: int) -> None:
    css = style(svg(PICTURES["one"]))[which]
    page = fill(css, ".page")
    for name in ("text", ".dim", ".bad"):
        assert contrast(fill(css, name), page) >= 4.5, name


def test_words_in_a_bar_can_be_read_and_bars_be_seen() -> None:
    names = ["dram", "cxl", "hbm", "other", *"abcdefg"]
    bars = tuple(Bar(label=n, bytes=GIB, tiers=tiers(**{n: GIB})) for n in names)
    text = svg(Picture(title="t", bars=bars))
    pages = [fill(css, ".page") for css in style(text)]
    found = re.findall(r'<rect fill="(#.{6})"[^>]*><title>.*\n<text class="(on-\w+)"', text)
    assert len(found) == len(names)
    for colour, on in found:
        ink = "#000000" if on == "on-light" else "#ffffff"
        assert contrast(colour, ink) >= 4.5, colour
        assert all(contrast(colour, page) >= 2 for page in pages), colour
    assert len({colour for colour, _ in found}) == len(names) - 1  # one more than there are


def test_a_terminal_has_a_line_for_each_bar_and_a_key() -> None:
    lines = [line.plain for line in draw(PICTURES["long"])]
    assert lines[0].startswith("ip-10-0-11-222.eu-centr~  C")
    assert lines[1].startswith("  heap  ")
    assert "\\x1b[2J" in lines[2] or "~" in lines[2]
    assert lines[-1].split() == ["bars:", "CCC", "cxl", "DDD", "dram"]
    assert max(map(len, lines)) <= 118
    assert not any("\x1b" in line for line in lines)
    assert list(draw(PICTURES["nothing"])) == []
