# SPDX-License-Identifier: Apache-2.0
"""The parsers, on texts of a real process with every kind of mapping, and on any text."""

import gc
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.errors import ParseError
from memplace.kinds import Mode, Policy, RegionKind
from memplace_agent.procfs.mapped import regions_of
from memplace_agent.procfs.numa_maps import format_policy, parse_numa_maps, parse_policy
from memplace_agent.procfs.process import ProcessView
from memplace_agent.procfs.query import Way
from memplace_agent.procfs.stat import parse_stat
from memplace_agent.procfs.vmas import MAX_VMAS, vmas_of
from memplace_agent.syscalls.views import parse_maps as parse_maps_in_c

from tests.support.agent.maps import parse_maps

DATA = Path(__file__).parent / "data"
MAPS = (DATA / "kinds.maps").read_text()
NUMA = (DATA / "kinds.numa_maps").read_text()


def read(maps, numa):
    """The regions of a process with these texts."""
    vmas = vmas_of(parse_maps_in_c(maps.encode("utf-8", "surrogateescape"), MAX_VMAS))
    by_start = {one.start: one for one in parse_numa_maps(numa)}
    return regions_of(ProcessView(pid=1, way=Way.MAPS, vmas=vmas, numa=by_start))


@pytest.fixture(scope="module")
def regions():
    return {region.start: region for region in read(MAPS, NUMA)}


@pytest.mark.parametrize(
    ("start", "kind", "shared", "path"),
    [
        (0x55FBE1C6E000, RegionKind.BRK, False, ""),
        (0x7FFDBD4C5000, RegionKind.STACK, False, ""),
        (0x7F5118966000, RegionKind.ANONYMOUS, False, ""),
        (0x7F511883D000, RegionKind.ANONYMOUS, False, "/dev/zero"),
        (0x7F5118891000, RegionKind.SHARED, True, "/dev/zero"),
        (0x7F5118870000, RegionKind.SHARED, True, "/SYSV00000000"),
        (0x7F51188A2000, RegionKind.SHARED, True, "/memfd:ring buf"),
        (0x7F511884E000, RegionKind.FILE, True, "/tmp/a b\nc=d"),
        (0x7F511885F000, RegionKind.FILE, False, "/tmp/a b\nc=d"),
        (0x7F5118600000, RegionKind.HUGETLB, False, "/anon_hugepage"),
    ],
)
def test_kinds(regions, start, kind, shared, path):
    region = regions[start]
    assert (region.kind, region.shared, region.path) == (kind, shared, path)
    assert not region.special


def test_mappings_of_the_kernel_are_special(regions):
    special = {start for start, region in regions.items() if region.special}
    assert special == {0x7F5118B66000, 0x7F5118B6A000, 0x7F5118B6C000}


def test_pages_are_bytes_of_the_mappings_own_page_size(regions):
    assert regions[0x55FBE1C6E000].pages == {0: 26 * 4096}
    assert regions[0x7F5118600000].pages == {0: 2 << 20}
    assert regions[0x7F5118600000].page_size == 2 << 20
    assert regions[0x7F511884D000].pages == {}


def test_policies_of_a_real_kernel(regions):
    shown = {region.policy for region in regions.values() if region.policy.mode is not Mode.DEFAULT}
    zero = frozenset({0})
    plain = {Policy(mode, zero) for mode in Mode if mode.takes_nodes} | {Policy(Mode.LOCAL)}
    flagged = {
        Policy(Mode.PREFERRED, zero, frozenset({"static"})),
        Policy(Mode.BIND, zero, frozenset({"relative"})),
        Policy(Mode.BIND, zero, frozenset({"balancing"})),
        Policy(Mode.INTERLEAVE, zero, frozenset({"static"})),
        Policy(Mode.PREFERRED_MANY, zero, frozenset({"relative"})),
    }
    assert shown == plain | flagged


@given(
    st.builds(
        Policy,
        st.sampled_from([mode for mode in Mode if mode.takes_nodes]),
        st.frozensets(st.integers(0, 1023), min_size=1),
        st.sampled_from(
            [(), ("static",), ("relative",), ("balancing",), ("static", "balancing")]
        ).map(frozenset),
    )
    | st.sampled_from([Policy(Mode.DEFAULT), Policy(Mode.LOCAL)])
)
def test_a_policy_survives_its_text(policy):
    assert parse_policy(format_policy(policy)) == policy


def test_policy_flags_come_in_the_kernels_order():
    policy = Policy(Mode.BIND, frozenset({0}), frozenset({"balancing", "static"}))
    assert format_policy(policy) == "bind=static|balancing:0"


@pytest.mark.parametrize(
    "text", ["", "bind:", "bond:0", "bind=odd:0", "bind:3-1", "prefer(many):0"]
)
def test_what_is_no_policy_is_refused(text):
    with pytest.raises(ParseError):
        parse_policy(text)


def test_a_policy_that_may_be_cut_off_is_not_taken_for_the_whole():
    nodes = ",".join(str(n) for n in range(0, 60, 2))
    text = f"weighted interleave:{nodes}"[:63].rstrip(",")
    text += "9" * (63 - len(text))
    (region,) = read("1000-2000 rw-p 00000000 00:00 0 \n", f"00001000 {text}\n")
    assert not region.policy_is_whole


@pytest.mark.parametrize(
    ("path", "special"),
    [
        ("/dev/dri/card0", True),
        ("/dev/mem", True),
        ("anon_inode:[perf_event]", True),
        ("socket:[1]", True),
        ("[uprobes]", True),
        ("/dev/shm/x", False),
        ("/dev/hugepages/x", False),
        ("/data/x", False),
        ("[anon:heap cache]", False),
        ("[anon_shmem:a:b]", False),
    ],
)
def test_devices_and_objects_of_the_kernel_are_special(path, special):
    maps = f"1000-2000 rw-s 00000000 00:05 7                          {path}\n"
    assert read(maps, "00001000 default\n")[0].special is special


def test_names_of_anonymous_memory():
    maps = (
        "1000-2000 rw-p 00000000 00:00 0                          [anon:io: [ring] 1]\n"
        "2000-3000 rw-s 00000000 00:01 9                          [anon_shmem:x]\n"
    )
    one, two = read(maps, "00001000 default\n00002000 default\n")
    assert (one.kind, one.name) == (RegionKind.ANONYMOUS, "io: [ring] 1")
    assert (two.kind, two.name) == (RegionKind.SHARED, "x")


def test_permissions_and_own_policies_are_read():
    maps = (
        "1000-2000 r-xp 00000000 00:00 0 \n2000-3000 rw-p 00000000 00:00 0 \n"
        "3000-4000 r-xp 00000000 00:00 0 [vdso]\n"
    )
    numa = "00001000 bind:0\n00002000 bind:1\n00003000 bind:0\n"
    code, data, _ = read(maps, numa)
    assert (code.permissions, data.permissions) == ("r-x", "rw-")
    assert (code.own, data.own) == (False, True)


def test_pages_of_a_hugetlb_mapping_without_any_are_taken_for_the_largest():
    maps = "40000000-80000000 rw-p 00000000 00:11 1 /anon_hugepage (deleted)\n"
    assert read(maps, "40000000 default file=/x huge\n")[0].page_size == 1 << 30


def test_stat_of_a_process_whose_name_looks_like_fields():
    text = "42 (a) R 1) b) S 7 " + " ".join(str(n) for n in range(5, 30))
    stat = parse_stat(text)
    assert (stat.ppid, stat.start_time) == (7, 22)


@pytest.mark.parametrize("text", ["", "1 (x)", "1 (x) S x", "1 (x) S 1 2 3"])
def test_stat_that_is_none_is_refused(text):
    with pytest.raises(ParseError):
        parse_stat(text)


@given(st.text(max_size=200))
@pytest.mark.parametrize("parse", [parse_maps, parse_numa_maps, parse_stat])
def test_parsers_are_total(parse, text):
    try:
        parse(text)
    except ParseError as err:
        assert err.what


@given(st.integers(0, 2**32))
@pytest.mark.parametrize(("parse", "good"), [(parse_maps, MAPS), (parse_numa_maps, NUMA)])
def test_parsers_are_total_on_torn_texts(parse, good, seed):
    rng = random.Random(seed)
    cut = sorted(rng.randrange(len(good)) for _ in range(2))
    try:
        parse(good[: cut[0]] + good[cut[1] :])
    except ParseError as err:
        assert err.line_no > 0


def test_a_policy_that_is_cut_off_in_a_range_spoils_no_other_mapping():
    """The kernel writes 63 characters of it, wherever that ends: here 36-37 in front of the 7."""
    nodes = "0-1,4-5,8-9,12-13,16-17,20-21,24-25,28-29,32-33,36-3"
    first, second = parse_numa_maps(f"7f0000000000 interleave:{nodes} N0=4\n7f0020000000 default\n")
    assert not first.policy_is_whole
    assert (
        first.policy.nodes
        == parse_numa_maps(f"7f0000000000 interleave:{nodes.removesuffix(',36-3')}\n")[
            0
        ].policy.nodes
    )
    assert (second.policy, second.policy_is_whole) == (Policy(Mode.DEFAULT), True)


def test_each_line_says_what_it_says_by_itself():
    text = NUMA + "7fff00000000 default N0=3\n7fff10000000 default N0=3\n7fff20000000 local N0=3\n"
    alone = [one for line in text.splitlines() for one in parse_numa_maps(line)]
    assert list(parse_numa_maps(text)) == alone
    with pytest.raises(ParseError) as caught:
        parse_numa_maps("7f0000000000 default\n0x7f0010000000 default\n")
    assert "2" in str(caught.value)


def test_mappings_that_are_alike_share_what_they_have():
    lines = "".join(f"7f{n:06x}000 default anon=2 N0=2 kernelpagesize_kB=4\n" for n in range(9))
    assert len({id(one.pages) for one in parse_numa_maps(lines)}) == 1


def test_policies_that_tenants_choose_do_not_fill_the_memory():
    texts = (f"bind:{first}-{last}" for first in range(0, 100) for last in range(900, 1000))
    text = "".join(f"{number:x}000 {policy}\n" for number, policy in enumerate(texts, 1))
    del texts
    parse_numa_maps(text)
    gc.collect()
    policies = (each for each in gc.get_objects() if isinstance(each, Policy))
    assert sum(1 for _ in policies) < 6000
