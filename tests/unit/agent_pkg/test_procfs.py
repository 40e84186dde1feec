# SPDX-License-Identifier: Apache-2.0
"""The parsers, on texts of a real process with every kind of mapping, and on any text."""

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.errors import ParseError
from memplace.kinds import Mode, Policy, RegionKind
from memplace_agent.procfs.maps import parse_maps
from memplace_agent.procfs.numa_maps import format_policy, parse_numa_maps, parse_policy
from memplace_agent.procfs.regions import join
from memplace_agent.procfs.stat import parse_stat

DATA = Path(__file__).parent / "data"
MAPS = (DATA / "kinds.maps").read_text()
NUMA = (DATA / "kinds.numa_maps").read_text()


@pytest.fixture(scope="module")
def regions():
    space = join(MAPS, NUMA, MAPS)
    assert space.task_policy == Policy(Mode.DEFAULT)
    return {region.start: region for region in space.regions}


def test_every_line_but_vsyscall_becomes_a_region(regions):
    assert len(regions) == len(MAPS.splitlines()) - 1


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


def test_a_policy_text_that_may_be_cut_off_makes_a_region_untouchable():
    nodes = ",".join(str(n) for n in range(0, 60, 2))
    text = f"weighted interleave:{nodes}"[:63].rstrip(",")
    text += "9" * (63 - len(text))
    maps = "1000-2000 rw-p 00000000 00:00 0 \n"
    assert join(maps, f"00001000 {text}\n", maps).regions[0].special


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
    assert join(maps, "00001000 default\n", maps).regions[0].special is special


def test_names_of_anonymous_memory():
    maps = (
        "1000-2000 rw-p 00000000 00:00 0                          [anon:io: [ring] 1]\n"
        "2000-3000 rw-s 00000000 00:01 9                          [anon_shmem:x]\n"
    )
    one, two = join(maps, "00001000 default\n00002000 default\n", maps).regions
    assert (one.kind, one.name) == (RegionKind.ANONYMOUS, "io: [ring] 1")
    assert (two.kind, two.name) == (RegionKind.SHARED, "x")


def space_of(maps, **kwargs):
    numa = "".join(f"{line.split('-')[0]} default\n" for line in maps.splitlines())
    return join(maps, numa, maps, **kwargs).regions


@pytest.mark.parametrize(
    ("guard", "size", "pointer", "kind"),
    [
        (0x1000, 8 << 20, None, RegionKind.STACK),  # glibc
        (0x2000, 0x20000, None, RegionKind.STACK),  # musl
        (0x4000, (1 << 20) - 0x4000, None, RegionKind.STACK),  # a JVM
        (0x10000, 16 << 20, None, RegionKind.STACK),
        (0x1000, 0x4000, None, RegionKind.STACK),
        (0x1000, 0x3000, None, RegionKind.ANONYMOUS),  # musl's malloc keeps its books there
        (0x11000, 8 << 20, None, RegionKind.ANONYMOUS),
        (0x1000, (16 << 20) + 0x1000, None, RegionKind.ANONYMOUS),
        (0x1000, 64 << 20, 64 << 20, RegionKind.STACK),
        (0x1000, 64 << 20, 1, RegionKind.STACK),
        (0x1000, 64 << 20, 0, RegionKind.ANONYMOUS),
        (0x1000, 64 << 20, (64 << 20) + 1, RegionKind.ANONYMOUS),
        (0x4000000, 64 << 20, 4096, RegionKind.ANONYMOUS),  # a goroutine's, in the heap
    ],
)
def test_thread_stacks_lie_above_a_guard(guard, size, pointer, kind):
    start = 0x7F0010000000
    maps = (
        f"{start - guard:x}-{start:x} ---p 00000000 00:00 0 \n"
        f"{start:x}-{start + size:x} rw-p 00000000 00:00 0 \n"
    )
    pointers = () if pointer is None else (start + pointer, 1)
    below, above = space_of(maps, stack_pointers=pointers)
    assert (below.kind, above.kind) == (RegionKind.ANONYMOUS, kind)


@pytest.mark.parametrize(
    "maps",
    [
        "1000-2000 ---p 00000000 00:00 0 \n3000-4000 rw-p 00000000 00:00 0 \n",
        "1000-2000 r--p 00000000 00:00 0 \n2000-4000 rw-p 00000000 00:00 0 \n",
        "1000-2000 ---p 00000000 00:00 0 \n2000-4000 rwxp 00000000 00:00 0 \n",
        "1000-2000 ---p 00000000 00:00 0 \n2000-4000 rw-p 00000000 00:00 0 [anon:x]\n",
        "1000-2000 ---p 00000000 00:01 7 /lib/x\n2000-4000 rw-p 00000000 00:00 0 \n",
    ],
)
def test_what_is_not_right_above_an_inaccessible_page_is_no_stack(maps):
    assert RegionKind.STACK not in {region.kind for region in space_of(maps)}


def test_permissions_and_own_policies_are_read():
    maps = (
        "1000-2000 r-xp 00000000 00:00 0 \n2000-3000 rw-p 00000000 00:00 0 \n"
        "3000-4000 r-xp 00000000 00:00 0 [vdso]\n"
    )
    numa = "00001000 bind:0\n00002000 bind:1\n00003000 bind:0\n"
    code, data, _ = join(maps, numa, maps).regions
    assert (code.permissions, data.permissions) == ("r-x", "rw-")
    assert (code.own, data.own) == (False, True)


def test_a_mapping_that_changed_while_it_was_read_is_unknown_and_looks_changed_later():
    maps = "1000-2000 rw-p 00000000 00:00 0 \n3000-4000 rw-p 00000000 00:00 0 \n"
    after = "1000-2000 rw-p 00000000 00:00 0 \n3000-5000 rw-p 00000000 00:00 0 \n"
    space = join(maps, "00001000 default\n00003000 bind:0\n", after)
    assert [region.start for region in space.regions] == [0x1000]
    assert space.unknown == ((0x3000, 0x5000),)
    assert space.layout != join(after, "00001000 default\n", after).layout


def test_the_task_policy_is_read_at_the_vdso():
    maps = "1000-2000 rw-p 00000000 00:00 0 \n3000-4000 r-xp 00000000 00:00 0 [vdso]\n"
    space = join(maps, "00001000 bind:0\n00003000 bind:0\n", maps)
    assert space.own_policy(space.regions[0].policy) == Policy(Mode.DEFAULT)


def test_pages_of_a_hugetlb_mapping_without_any_are_taken_for_the_largest():
    maps = "40000000-80000000 rw-p 00000000 00:11 1 /anon_hugepage (deleted)\n"
    assert join(maps, "40000000 default file=/x huge\n", maps).regions[0].page_size == 1 << 30


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
