# SPDX-License-Identifier: Apache-2.0
"""What speaks for a tier, what speaks against one, and in which order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.evidence import judge
from memplace.numa import (
    UNCLEAR,
    AddressRange,
    DaxDevice,
    DaxKind,
    Figures,
    NumaNode,
    holders,
)

DRAM = NumaNode(0, frozenset({0}), 1, 4, figures=Figures(100, 100_000))
DAX = {kind: DaxDevice(f"dax{number}.0", kind) for number, kind in enumerate(DaxKind)}
CXL, PERSISTENT, OTHER = DAX[DaxKind.CXL], DAX[DaxKind.PERSISTENT], DAX[DaxKind.OTHER]


def verdict(*others, cpus=frozenset(), tier=4, **shown):
    node = NumaNode(9, cpus, 1, tier, **shown)
    return judge([*(others or (DRAM,)), node])[9]


@pytest.mark.parametrize(
    ("latency", "bandwidth", "tier"),
    [
        (150, 100_000, "cxl"),
        (149, 100_000, ""),
        (100, 10_000, ""),
        (300, 149_999, "cxl"),
        (150, 150_000, ""),
        (149, 150_000, "hbm"),
        (100, 149_999, ""),
    ],
)
def test_figures_count_from_one_half_more(latency, bandwidth, tier):
    assert verdict(figures=Figures(latency, bandwidth)).tier == tier


def test_the_best_dram_is_the_measure():
    far = NumaNode(1, frozenset({1}), 1, 4, figures=Figures(400, 900_000))
    assert verdict(DRAM, far, figures=Figures(160, 100_000)).tier == "cxl"
    assert verdict(DRAM, far, figures=Figures(120, 800_000)).tier == ""


@pytest.mark.parametrize(
    ("shown", "tier"),
    [
        ({"figures": Figures(300, 10_000), "barred": "it is a GPU"}, ""),
        ({"dax": (CXL,), "barred": "it is a GPU"}, ""),
        ({"dax": (CXL,), "tier": 2}, "cxl"),
        ({"dax": (CXL,), "figures": Figures(100, 900_000)}, "cxl"),
        ({"dax": (PERSISTENT,), "figures": Figures(300, 10_000)}, ""),
        ({"dax": (PERSISTENT, CXL), "tier": 22}, ""),
        ({"dax": (OTHER,), "cxl": ("region0",)}, "cxl"),
        ({"dax": (OTHER,), "tier": 22}, ""),
        ({"dax": (OTHER,), "tier": 5, "figures": Figures(120, 90_000)}, "cxl"),
        ({"dax": (OTHER,), "tier": 22, "figures": Figures(100, 200_000)}, "hbm"),
        ({"tier": 22}, "cxl"),
        ({"tier": None}, ""),
        ({"tier": 22, "figures": UNCLEAR}, ""),
        ({"tier": 2, "figures": Figures(300, 900_000)}, ""),
        ({"tier": 2, "cpus": None}, ""),
        ({"tier": 2, "cpus": None, "has_cpus": True}, "dram"),
        ({"tier": 2, "has_cpus": True, "barred": "it is a GPU"}, "dram"),
    ],
)
def test_what_speaks_first_decides(shown, tier):
    assert verdict(**shown).tier == tier


@pytest.mark.parametrize(
    "dram",
    [
        NumaNode(0, frozenset({0}), 1, 4, figures=UNCLEAR),
        NumaNode(0, None, 1, 4, figures=DRAM.figures),
    ],
)
def test_without_a_measure_nothing_is_faster_or_slower(dram):
    best = NumaNode(1, frozenset({1}), 1, 6, figures=Figures(90, 90_000))
    assert verdict(dram, best, tier=5, figures=Figures(300, 10_000)).tier == ""


def test_a_socket_without_dimms_takes_no_part():
    assert 0 not in judge([NumaNode(0, frozenset({0}), 0)])


MANY = (1 << 59, 10**9 - 1)
nodes = st.lists(
    st.builds(
        NumaNode,
        st.integers(0, 9),
        st.none() | st.frozensets(st.integers(0, 3), max_size=1),
        st.sampled_from([0, 1]),
        st.none() | st.sampled_from([0, 4, 5, MANY[1]]),
        st.booleans(),
        st.none() | st.builds(Figures, *[st.sampled_from([0, 1, 80, 250, MANY[0]])] * 2),
        st.lists(
            st.builds(
                DaxDevice,
                st.sampled_from(["dax999999.99999" + c for c in "1234567"]),
                st.sampled_from(DaxKind),
            ),
            max_size=7,
        ).map(tuple),
        st.lists(st.sampled_from(["region99999999" + c for c in "123456"]), max_size=6).map(tuple),
        st.sampled_from(["", "it is the memory of GPU 00000008:01:00.0"]),
    ),
    unique_by=lambda node: node.id,
)


@given(nodes, st.randoms())
def test_each_node_with_memory_has_a_sentence_whatever_the_order(found, random):
    verdicts = judge(found)
    assert verdicts.keys() == {node.id for node in found if node.total_bytes}
    for each in verdicts.values():
        assert each.tier in ("", "dram", "cxl", "hbm")
        assert 0 < len(each.why) <= 256
    assert judge(random.sample(found, len(found))) == verdicts


@given(nodes)
def test_a_node_without_cpus_and_with_nothing_shown_is_in_no_tier(found):
    bare = [NumaNode(n.id, frozenset(), n.total_bytes) for n in found]
    assert {each.tier for each in judge(bare).values()} <= {""}


@pytest.mark.parametrize(
    ("blocks", "ranges", "names"),
    [
        ([4, 5], [("a", 4, 2)], ("a",)),
        ([4, 5, 6], [("a", 4, 2)], ()),
        ([4, 5, 6], [("a", 4, 2), ("b", 6, 9)], ("a", "b")),
        ([4], [("a", 0, 4), ("b", 5, 1)], ()),
        ([4], [("a", 4, 1), ("window", 0, 99)], ("a",)),
        ([4], [], ()),
    ],
)
def test_all_blocks_have_to_be_held(blocks, ranges, names):
    block = 1 << 27
    found = [AddressRange(name, start * block, size * block) for name, start, size in ranges]
    assert holders(blocks, block, found) == names


def test_a_range_of_a_part_of_a_block_holds_it():
    assert holders([1], 2 << 30, [AddressRange("region0", 3 << 30, 1 << 28)]) == ("region0",)
