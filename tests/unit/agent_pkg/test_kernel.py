# SPDX-License-Identifier: Apache-2.0
"""What the agent makes of the kernel's announcement and of what the call answers."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest
from memplace.calls import CUT_ALIGNMENT
from memplace.errors import ProcessGone
from memplace_agent import syscalls
from memplace_agent._memplace_sys import ffi
from memplace_agent.errors import CallFailed, TryAgain
from memplace_agent.syscalls import (
    MPOL_MF_MOVE,
    MPOL_MF_MOVE_ALL,
    MPOL_MF_PRIVATE_ANON,
    RunningKernel,
)
from memplace_agent.syscalls.features import probe

from tests.support.agent.machine import CXL
from tests.support.agent.mappings import DEFAULT

SIGNATURE = (errno.EINVAL, errno.E2BIG, errno.EINVAL, errno.EFAULT, errno.EBADF, 0)
CAPABLE = "CapEff:\t0000000000880000\n"


@pytest.fixture
def announced(machine):
    """Announce a version of the call, as a kernel with the series does; then probe it."""

    def announce(version):
        directory = machine.host.announcement
        directory.mkdir(parents=True, exist_ok=True)
        for name, number in (("nr", 900), ("version", version), ("args_size", 40)):
            if number is not None and not (directory / name).exists():
                (directory / name).write_text(f"{number}\n")
        status = machine.host.proc / "self/status"
        status.parent.mkdir(parents=True)
        status.write_text(CAPABLE)
        answers = iter(SIGNATURE)
        return probe(machine.host, lambda *_: -next(answers))

    return announce


@pytest.mark.parametrize("version", [1, 2])
def test_the_version_is_read_with_the_number(announced, version):
    features = announced(version)
    assert (features.nr, features.version, features.error) == (900, version, None)


def test_an_announcement_without_a_version_is_none(announced):
    features = announced(None)
    assert features.nr is None
    assert features.reason == "KernelWithoutProcessMbind"


@pytest.mark.parametrize(("text", "size"), [("136\n", 136), ("104\n", 104), ("x", 0), (None, 0)])
def test_how_much_of_a_mapping_the_kernel_tells_is_read_with_the_number(
    announced, machine, text, size
):
    if text is not None:
        machine.host.announcement.mkdir(parents=True)
        (machine.host.announcement / "procmap_query_size").write_text(text)
    assert announced(2).procmap_query_size == size


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"flags": "0xf7", "future": "0x3"}, True),
        ({"flags": "0xf7", "future": "0x2"}, False),  # none of its own for brk()
        ({"flags": "0xf7"}, False),  # version 1: one for both
        ({"flags": "0x97", "future": "0x3"}, False),
        ({"flags": "0xb7", "future": "0x3"}, False),  # execve() would drop it
        ({"flags": "0xf7", "future": "0x3", "args_size": "24"}, False),
        ({}, False),
    ],
)
def test_defaults_for_mappings_to_come_are_used_where_the_kernel_announces_them(
    announced, machine, files, expected
):
    machine.host.announcement.mkdir(parents=True)
    for name, text in files.items():
        (machine.host.announcement / name).write_text(f"{text}\n")
    assert announced(2).keeps_defaults is expected


@pytest.fixture
def pidfd():
    pidfd = os.pidfd_open(os.getpid())
    yield pidfd
    os.close(pidfd)


def answer(monkeypatch, number):
    monkeypatch.setattr(syscalls, "raw_call", lambda *_: -number)


def bind(pidfd, kit):
    return RunningKernel(900, 2).process_mbind(pidfd, [(0, 4096)], kit.CXL, 0)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.ESTALE])
def test_what_passes_by_itself_is_for_the_next_round(monkeypatch, pidfd, kit, number):
    answer(monkeypatch, number)
    with pytest.raises(TryAgain):
        bind(pidfd, kit)


def test_esrch_of_a_living_process_is_not_its_end(monkeypatch, pidfd, kit):
    """A thread that does not lead it may be in execve(): the old leader has no memory then."""
    answer(monkeypatch, errno.ESRCH)
    with pytest.raises(TryAgain):
        bind(pidfd, kit)


def test_esrch_of_a_dead_process_is_its_end(monkeypatch, kit):
    child = os.fork()
    if not child:
        os._exit(0)
    pidfd = os.pidfd_open(child)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    answer(monkeypatch, errno.ESRCH)
    try:
        with pytest.raises(ProcessGone):
            bind(pidfd, kit)
    finally:
        os.waitpid(child, 0)
        os.close(pidfd)


@pytest.mark.parametrize(
    ("policy", "future", "least", "made"),
    [
        (CXL, 3, 1 << 20, (5, 0, 64, 2, 3, 0, 1 << 20, 40, 0x60)),
        (CXL, 1, 0, (5, 0, 64, 2, 1, 0, 0, 40, 0x60)),
        (DEFAULT, 3, 0, (0, 0, 0, 0, 3, 0, 0, 40, 0x20)),
    ],
)
def test_a_default_is_set_without_ranges(monkeypatch, pidfd, *, policy, future, least, made):
    seen = []

    def call(*passed):
        nr, fd, vec, vlen, args, usize, flags = passed
        mask = ffi.cast("uint64_t *", args.nodes)[0] if args.nodes else 0
        assert (nr, fd, vec, vlen) == (900, pidfd, ffi.NULL, 0)
        words = (args.mode, args.mode_flags, args.maxnode, mask)
        seen.append((*words, args.future, args.reserved, args.future_min, usize, flags))
        return 0

    monkeypatch.setattr(syscalls, "raw_call", call)
    RunningKernel(900, 2).set_future(pidfd, policy, future, least)
    assert seen == [made]


def test_a_child_that_uses_its_parents_memory_is_for_the_next_round(monkeypatch, pidfd, kit):
    answer(monkeypatch, errno.EBUSY)
    with pytest.raises(TryAgain):
        RunningKernel(900, 2).set_future(pidfd, kit.CXL, 3, 0)


def test_no_default_without_an_announced_number(pidfd, kit):
    with pytest.raises(CallFailed):
        RunningKernel(None).set_future(pidfd, kit.CXL, 3, 0)


@pytest.mark.parametrize(("home", "made"), [(None, (0, 0x80)), (0, (0, 0x90)), (1, (1, 0x90))])
def test_a_home_node_goes_with_the_flag_that_says_so(monkeypatch, pidfd, home, made):
    seen = []

    def call(*passed):
        *_, args, _, flags = passed
        seen.append((args.home_node, flags))
        return 4096

    monkeypatch.setattr(syscalls, "raw_call", call)
    policy = replace(CXL, home_node=home)
    RunningKernel(900, 2).process_mbind(pidfd, [(0, 4096)], policy, MPOL_MF_PRIVATE_ANON)
    assert seen == [made]


def moved_ranges(machine):
    moving = MPOL_MF_MOVE | MPOL_MF_MOVE_ALL
    return [
        (start, end)
        for _, ranges, _, flags in machine.calls
        if flags & moving
        for start, end in ranges
    ]


@pytest.mark.parametrize(("version", "longest"), [(1, CUT_ALIGNMENT), (2, 6 << 20)])
def test_only_a_kernel_that_walks_ranges_as_a_whole_gets_short_ones(node, kit, version, longest):
    # The first 2 MiB are a probe.
    node.machine.version = version
    node.machine.start(100, "a" * 64, kit.anon(size=8 << 20))
    node.full(kit.placement())
    made = moved_ranges(node.machine)
    assert max(end - start for start, end in made) == longest
    assert sum(end - start for start, end in made) == 8 << 20


def test_a_busy_container_is_moving_and_placed_by_the_next_round(started, kit):
    started.machine.on_call = lambda: (_ for _ in ()).throw(TryAgain(errno.EBUSY, "busy"))
    assert started.full(kit.placement())["mp", "p", "c0"].state == "Moving"
    started.machine.on_call = None
    assert started.run(60)["mp", "p", "c0"].state == "Placed"


def test_another_errno_still_fails_the_container(started, kit):
    started.machine.on_call = lambda: (_ for _ in ()).throw(CallFailed(errno.EINVAL, "no"))
    assert started.full(kit.placement())["mp", "p", "c0"].state == "Failed"


@pytest.mark.parametrize(
    ("own", "limit"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({}, None),
        ({"cpu.max": "10000 100000\n"}, "0.1"),
        ({"cpu.max": "250000 100000\n"}, "2.5"),
    ],
)
def test_a_cpu_limit_is_told(announced, machine, own, limit):
    """A throttled mover keeps its victims waiting, for seconds on Linux 6.12."""
    for name, text in own.items():
        (machine.host.own_cgroup / name).write_text(text)
    features = announced(2)
    assert features.error is None
    if limit is None:
        assert features.warning == ""
        assert features.message == "process_mbind() is system call 900 of this kernel"
    else:
        assert f"limited to {limit} CPUs" in features.warning
        assert "a throttled mover keeps its victims waiting" in features.warning
        assert features.message.endswith(features.warning)
