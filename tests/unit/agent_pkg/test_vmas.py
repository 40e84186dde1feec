# SPDX-License-Identifier: Apache-2.0
"""Mappings read in C: of this process, of texts made to confuse, and with PROCMAP_QUERY."""

import errno
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace.errors import ParseError
from memplace.kinds import Mode, Policy
from memplace_agent.procfs.numa_maps import parse_policy_and_home
from memplace_agent.procfs.query import Way, best_way, read_vmas
from memplace_agent.procfs.vmas import MAX_VMAS, vmas_of
from memplace_agent.syscalls.views import Ended, parse_maps, query_maps, read_maps

from tests.support.agent.maps import parse_maps as parse_maps_in_python

DATA = Path(__file__).parent / "data"
SELF = Path("/proc/self")
HEAD = b"7f0000000000-7f0000001000 rw-p 00000000 00:00 0 "
FAR = float("inf")


def parse(text):
    view = parse_maps(text, MAX_VMAS)
    return vmas_of(view), view.ended


def line(start, name=b"", perms=b"rw-p", inode=0):
    fields = b"%x-%x %s 00000000 08:01 %d" % (start, start + 4096, perms, inode)
    return fields + b"    " + name + b"\n"


def test_the_recorded_maps_are_what_the_other_parser_says():
    text = (DATA / "kinds.maps").read_bytes()
    vmas, ended = parse(text)
    assert ended is Ended.COMPLETE
    assert [(v.start, v.end, v.shared, v.inode, v.path) for v in vmas] == [
        (m.start, m.end, m.shared, m.inode, m.path) for m in parse_maps_in_python(text.decode())
    ]


def test_our_own_mappings():
    with mmap.mmap(-1, 3 * mmap.PAGESIZE) as shared:
        shared[0] = 1
        text = (SELF / "maps").read_text().splitlines()
        found = read_vmas(SELF, Way.MAPS, FAR)
    assert found.ended is Ended.COMPLETE
    shown = {f"{v.start:08x}-{v.end:08x} {v.permissions}{'ps'[v.shared]}" for v in found.vmas}
    # A few may come and go while we read.
    assert len(shown ^ {" ".join(one.split()[:2]) for one in text}) <= 6
    assert {"[stack]", "[heap]"} <= {v.path for v in found.vmas}
    assert len(found.vmas.classes) < len(found.vmas)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (b"", ""),
        (b"[stack]", "[stack]"),
        (b"[anon:a b]", "[anon:a b]"),
        (b"[anon:[x]:y]", "[anon:[x]:y]"),
        (b"/a\\012b", "/a\nb"),
        (b"/a\\0122-3 rw-p", "/a\n2-3 rw-p"),
        (b"/back\\slash\\101", "/back\\slash\\101"),
        (b"/a\\01", "/a\\01"),
        (b"/lib/x.so (deleted)", "/lib/x.so (deleted)"),
        (b"/\xff\xfe", "/\udcff\udcfe"),
        (b"/\r\x0b\x1c\x85tab\t", "/\r\x0b\x1c\udc85tab\t"),
        (b"/" + b"x" * 4094, "/" + "x" * 4094),
        (b"/" + b"\\012" * 4094, "/" + "\n" * 4094),
        (b"anon_inode:[io_uring]", "anon_inode:[io_uring]"),
    ],
)
def test_names(name, path):
    vmas, ended = parse(line(0x1000, name) + line(0x3000))
    assert ended is Ended.COMPLETE
    assert [v.path for v in vmas] == [path, ""]


def test_nothing_is_nothing():
    vmas, ended = parse(b"")
    assert (len(vmas), ended) == (0, Ended.COMPLETE)


@pytest.mark.parametrize("keep", [1, 20, 40, 60])
def test_a_text_that_is_cut_within_a_line_is_not_complete(keep):
    vmas, ended = parse(line(0x1000) + line(0x3000, b"/x" * 20)[:keep])
    assert (len(vmas), ended) == (1, Ended.CUT)


@pytest.mark.parametrize(
    "bad",
    [
        b"\n",
        b"x\n",
        HEAD.replace(b"rw-p", b"rw-q") + b"\n",
        HEAD.replace(b"rw-p", b"wr-p") + b"\n",
        HEAD.replace(b"7f0000001000", b"7f0000000000") + b"\n",
        HEAD.replace(b"7f0000001000", b"1" + b"0" * 16) + b"\n",
        HEAD.replace(b" 0 ", b" 99999999999999999999 ") + b"\n",
        HEAD.replace(b" 0 ", b" -1 ") + b"\n",
        HEAD.replace(b"7f", b"7F") + b"\n",
        b"\0" + HEAD + b"\n",
        HEAD + b"x" * 70000 + b"\n",
    ],
)
def test_what_is_no_line_of_maps_is_said(bad):
    vmas, ended = parse(line(0x1000) + bad + line(0x3000))
    assert (len(vmas), ended) == (1, Ended.BAD_TEXT)


@given(st.binary(max_size=300))
def test_any_bytes_have_an_outcome(noise):
    vmas, ended = parse(line(0x1000) + noise)
    assert ended in (Ended.COMPLETE, Ended.CUT, Ended.BAD_TEXT)
    assert len(vmas) >= 1


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), max_size=30))
def test_mappings_that_changed_while_they_were_read_never_overlap(ranges):
    text = b"".join(
        b"%x-%x rw-p 0 0:0 0\n" % (start * 4096, (start + size) * 4096) for start, size in ranges
    )
    vmas, ended = parse(text)
    assert ended is Ended.COMPLETE
    bounds = [bound for v in vmas for bound in (v.start, v.end)]
    assert bounds == sorted(bounds)
    assert all(v.start < v.end for v in vmas)


def test_too_many_mappings_are_not_read():
    view = parse_maps(b"".join(line(n << 13) for n in range(100)), 10)
    assert (len(view.starts), view.ended) == (10, Ended.TOO_MANY)


def test_mappings_share_what_they_have_in_common():
    text = b"".join(
        line((2 * n + 1) << 13, b"/lib/x") + line((2 * n + 2) << 13) for n in range(999)
    )
    vmas, _ = parse(text)
    assert (len(vmas), len(vmas.classes)) == (1998, 2)
    assert len(vmas.of_classes([0])) == 999
    assert [vmas[i].path for i in vmas.of_classes([0])][:2] == ["/lib/x"] * 2


def test_9000_different_names_are_kept_apart():
    """More names than C remembers: a class may be there twice, but never in place of another."""
    names = [b"/%d" % (n * 7919 % 9000) for n in range(9000)]
    vmas, ended = parse(b"".join(line(n + 1 << 13, name) for n, name in enumerate(names)))
    assert ended is Ended.COMPLETE
    assert [v.path.encode() for v in vmas] == names


def test_layout_changes_with_what_can_be_seen():
    base = line(0x1000, b"/a") + line(0x3000)
    layouts = [parse(text)[0].layout for text in (base, base, base + line(0x5000))]
    layouts += [
        parse(base.replace(old, new))[0].layout for old, new in ((b"/a", b"/b"), (b"rw", b"r-"))
    ]
    assert layouts[0] == layouts[1]
    assert len(set(layouts)) == 4


def test_a_mapping_is_found_by_an_address_in_it():
    vmas, _ = parse(line(0x1000) + line(0x3000))
    found = [vmas.at(address) for address in (0, 0x1000, 0x1FFF, 0x2000, 0x3000, 0x4000)]
    assert found == [None, 0, 0, None, 1, None]


def test_the_deadline_ends_a_read():
    found = read_vmas(SELF, Way.MAPS, time.monotonic() - 1)
    assert found.ended is Ended.LATE
    assert read_vmas(SELF, best_way(0), time.monotonic() - 1).ended is Ended.LATE


def test_a_file_that_can_not_be_opened_has_an_errno(tmp_path):
    assert read_vmas(tmp_path, Way.MAPS, FAR).errno == errno.ENOENT


EXECUTES = """
import os, sys
sys.stdin.readline()
os.execv(sys.executable, [sys.executable, "-c", "print(flush=True); input()"])
"""


@pytest.mark.parametrize("way", ["text", "query"])
def test_an_address_space_that_goes_away_while_it_is_read_is_cut(way):
    """The text ends early then, without an error, at the end of a line."""
    if way == "query":
        query_or_skip()
    child = subprocess.Popen(
        [sys.executable, "-c", EXECUTES], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    fd = os.open(f"/proc/{child.pid}/maps", os.O_RDONLY)
    try:
        assert os.read(fd, 4096)
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        if way == "text":
            assert read_maps(fd, MAX_VMAS, FAR).ended is Ended.CUT
        else:
            found = query_maps(fd, MAX_VMAS, FAR, policy=False)
            assert (found.ended, found.errno) == (Ended.FAILED, errno.ESRCH)
    finally:
        os.close(fd)
        child.communicate(b"\n")


def query_or_skip():
    if best_way(0) is Way.MAPS:
        pytest.skip("this kernel has no PROCMAP_QUERY (Linux 6.11)")
    return Way.QUERY


def test_procmap_query_says_the_same_as_the_text(tmp_path):
    way = query_or_skip()
    path = tmp_path / "new\nline (deleted) \udcff"
    path.write_bytes(b"x" * 8192)
    with path.open() as file, mmap.mmap(file.fileno(), 8192, prot=mmap.PROT_READ) as kept:
        asked = read_vmas(SELF, way, FAR)
        text = read_vmas(SELF, Way.MAPS, FAR)
        del kept
    both = [
        {(v.start, v.end, v.permissions, v.shared, v.inode, v.path, v.of.device) for v in one.vmas}
        for one in (asked, text)
    ]
    differ = {one for one in both[0] ^ both[1] if one[5] != "[vsyscall]"}
    assert len(differ) <= 6, differ
    assert str(path) in {one[5] for one in both[0]}
    assert {v.of.page_size for v in asked.vmas} == {mmap.PAGESIZE}
    assert all(v.of.policy is None for v in asked.vmas)


@pytest.mark.parametrize(("folders", "unnamed"), [(3, False), (14, False), (17, True)])
def test_a_long_path_is_whole_and_one_of_more_than_4095_bytes_is_unknown(
    tmp_path, folders, unnamed
):
    way = query_or_skip()
    here = Path.cwd()
    try:
        os.chdir(tmp_path)
        for _ in range(folders):
            Path("d" * 250).mkdir()
            os.chdir("d" * 250)
        Path("file").write_bytes(b"x" * 4096)
        with Path("file").open() as file, mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ):
            found = read_vmas(SELF, way, FAR)
            inode = os.fstat(file.fileno()).st_ino
    finally:
        os.chdir(here)
    (one,) = [v for v in found.vmas if v.inode == inode]
    path = str(tmp_path) + f"/{'d' * 250}" * folders + "/file"
    assert (one.of.unnamed, one.path) == (unnamed, "" if unnamed else path)
    assert found.ended is Ended.COMPLETE


def test_members_that_this_kernel_does_not_know_are_not_asked_for():
    assert best_way(104) is best_way(0)


@pytest.mark.parametrize(
    ("text", "policy", "home"),
    [
        ("default", Policy(Mode.DEFAULT), None),
        ("bind:0-1 home:1", Policy(Mode.BIND, frozenset({0, 1})), 1),
        (
            "prefer (many)=static:0,2-5 home:1023",
            Policy(Mode.PREFERRED_MANY, frozenset({0, 2, 3, 4, 5}), frozenset({"static"})),
            1023,
        ),
    ],
)
def test_a_policy_with_its_home_node(text, policy, home):
    assert parse_policy_and_home(text) == (policy, home)


@pytest.mark.parametrize(
    "text", ["bind:0 home:", "bind:0 home:x", "bind:0 home:1 exec", "x home:1"]
)
def test_what_is_no_policy_with_a_home_node(text):
    with pytest.raises(ParseError):
        parse_policy_and_home(text)
