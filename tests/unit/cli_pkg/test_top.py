# SPDX-License-Identifier: Apache-2.0
"""Pods as bars: nothing that is there is invisible, and nothing is longer than the width."""

from hypothesis import given
from hypothesis import strategies as st
from memplace.api.v1alpha1 import TierBytes
from memplace_cli.bars import bar
from memplace_cli.render_top import show_top
from memplace_cli.top import PodTop, Top

from tests.unit.cli_pkg.test_render import printed

LETTERS = {"cxl": ("C", "cyan"), "dram": ("D", "green"), "other": ("O", "red")}


def tiers(**sizes: int) -> tuple[TierBytes, ...]:
    return tuple(TierBytes(name=name, bytes=size) for name, size in sizes.items())


@given(
    st.dictionaries(st.sampled_from(sorted(LETTERS)), st.integers(1, 2**45), min_size=1),
    st.integers(0, 2**45),
)
def test_each_tier_is_seen_and_the_width_is_kept(sizes: dict[str, int], more: int) -> None:
    whole = sum(sizes.values())
    drawn = str(bar(tiers(**sizes), whole, whole + more, LETTERS))
    assert len(drawn) <= 24
    assert set(drawn) == {LETTERS[name][0] for name in sizes}
    if not more:
        assert len(drawn) == 24


def test_shares_are_drawn_as_they_are() -> None:
    assert str(bar(tiers(cxl=3, dram=1), 4, 4, LETTERS)) == "C" * 18 + "D" * 6
    assert str(bar(tiers(cxl=3, dram=1), 4, 8, LETTERS)) == "C" * 9 + "D" * 3
    assert str(bar((), 0, 4, LETTERS)) == ""


def test_tiers_of_one_letter_get_others() -> None:
    pod = PodTop(
        namespace="n",
        pod="p\x1b[2J",
        node="w",
        placement="mp",
        bytes=3,
        tiers=tiers(cold=1, cxl=1, cc=1),
    )
    lines = printed(show_top, Top(pods=(pod,)))
    assert lines[-1].split() == ["bars:", "CCC", "cc", "OOO", "cold", "XXX", "cxl"]
    assert not any("\x1b" in line for line in lines)
