# SPDX-License-Identifier: Apache-2.0
"""Policies of a process: all of them, at once, and bad ranges are in nobody's way."""

import errno

import pytest
from memplace.errors import MissingCapability, ProcessGone
from memplace_agent.backends.process_mbind import ProcessMbind
from memplace_agent.engine.apply import PolicySetter, SetPolicy
from memplace_agent.errors import CallFailed, HoleInRange, TryAgain
from memplace_agent.syscalls import MPOL_MF_PRIVATE_ANON

MIB, GIB = 1 << 20, 1 << 30
BASE = 0x20000000


@pytest.fixture
def process(machine, kit):
    """A process of so many regions of one page; returns its pidfd."""

    def start(regions, size=4096):
        machine.start(
            100, "a" * 64, *(kit.anon(BASE + n * MIB, size, pages={}) for n in range(regions))
        )
        return machine.pidfd_open(100)

    return start


def steps(kit, numbers, size=4096, policy=None, **kwargs):
    return [
        SetPolicy(
            start=BASE + n * MIB, end=BASE + n * MIB + size, policy=policy or kit.CXL, **kwargs
        )
        for n in numbers
    ]


def fail(machine, error, *bad):
    """Ranges with these numbers fail, by themselves and behind others."""
    real, tried = machine.process_mbind, []
    starts = {BASE + n * MIB for n in bad}

    def call(pidfd, ranges, policy, flags):
        good = next((n for n, r in enumerate(ranges) if r[0] in starts), len(ranges))
        if not good:
            tried.append(ranges[0][0])
            raise error
        return real(pidfd, ranges[:good], policy, flags)

    machine.process_mbind = call
    return tried


def setter(machine, flags=0xF7):
    return PolicySetter(ProcessMbind(machine, flags=flags))


def test_a_call_takes_as_many_ranges_as_the_kernel_does(machine, kit, process):
    pidfd = process(2500)
    report = setter(machine).apply(pidfd, 1, steps(kit, range(2500)), now=0)
    assert (report.calls, report.done, report.complete) == (3, 2500, True)
    assert set(machine.policies(100).values()) == {kit.CXL}


def test_a_policy_has_no_limit_of_size_and_moves_nothing(machine, kit):
    machine.start(100, "a" * 64, kit.anon(BASE, 512 * GIB, pages={0: 1000}))
    whole = [SetPolicy(start=BASE, end=BASE + 512 * GIB, policy=kit.CXL)]
    assert setter(machine).apply(machine.pidfd_open(100), 1, whole, now=0).calls == 1
    assert [flags for *_, flags in machine.calls] == [0]
    assert machine.pages(100, BASE) == {0: 1000}


@pytest.mark.parametrize(("supported", "made"), [(0xF7, MPOL_MF_PRIVATE_ANON), (0x77, 0), (0, 0)])
@pytest.mark.parametrize("undo", [False, True])
def test_private_memory_is_asked_for_where_the_kernel_can(
    machine, kit, process, *, supported, made, undo
):
    pidfd = process(2)
    wanted = [*steps(kit, [0], private_anonymous=True, undo=undo), *steps(kit, [1], undo=undo)]
    setter(machine, supported).apply(pidfd, 1, wanted, now=0)
    assert [(r[0][0], flags) for _, r, _, flags in machine.calls] == (
        [(BASE, made), (BASE + MIB, 0)] if made else [(BASE, 0), (BASE + MIB, 0)]
    )


@pytest.mark.parametrize("undo", [False, True])
@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EINVAL, 0])
def test_ranges_behind_bad_ones_are_done(machine, kit, process, undo, number):
    pidfd = process(40)
    fail(machine, CallFailed(number, "no"), *range(0, 40, 2))
    report = setter(machine).apply(pidfd, 1, steps(kit, range(40), undo=undo), now=0)
    assert (report.done, report.failed, report.complete) == (20, 20, False)
    assert len(report.errors) == 8, "a few of the errors are enough to tell"
    done = [address for address, policy in machine.policies(100).items() if policy]
    assert done == [hex(BASE + n * MIB) for n in range(1, 40, 2)]


def test_bad_ranges_are_tried_ever_less_often(machine, kit, process):
    pidfd = process(4)
    tried, policies = fail(machine, CallFailed(errno.ENOMEM, "no"), 1), setter(machine)
    for now in range(0, 3600, 5):
        report = policies.apply(pidfd, 1, steps(kit, range(4)), now=now)
        assert report.done == 3
        assert report.failed + report.put_off == 1
    assert len(tried) == 7


def test_a_process_in_which_everything_fails_is_done_in_bounded_work(machine, kit, process):
    pidfd = process(3000)
    tried, policies = fail(machine, CallFailed(errno.ENOMEM, "no"), *range(2900)), setter(machine)
    reports = [policies.apply(pidfd, 1, steps(kit, range(3000)), now=now) for now in range(4)]
    assert max(report.calls for report in reports) <= 1025 + 3
    assert len(tried) == len(set(tried)) == 2900
    assert reports[-1].done == 100, "nothing starves behind them"


def test_undo_comes_first_and_is_not_put_off_with_the_rest(machine, kit, process):
    pidfd = process(3)
    policies = setter(machine)
    fail(machine, CallFailed(errno.ENOMEM, "no"), 0)
    policies.apply(pidfd, 1, steps(kit, [0]), now=0)
    del machine.process_mbind
    mixed = [*steps(kit, [0, 1]), *steps(kit, [2], policy=kit.BIND, undo=True)]
    report = policies.apply(pidfd, 1, mixed, now=1)
    assert machine.calls[0][2] == kit.BIND
    assert report.put_off == 1
    undone = policies.apply(pidfd, 1, steps(kit, [0], policy=kit.BIND, undo=True), now=2)
    assert undone.done == 1


@pytest.mark.parametrize(
    "error", [HoleInRange(errno.EFAULT, "hole"), TryAgain(errno.ESTALE, "a file by now")]
)
def test_a_range_that_is_something_else_by_now_is_normal(machine, kit, process, error):
    pidfd = process(3)
    fail(machine, error, 1)
    report = setter(machine).apply(pidfd, 1, steps(kit, range(3)), now=0)
    assert (report.done, report.changed, report.errors, report.complete) == (2, 1, [], True)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.ESRCH])
def test_a_busy_process_gets_one_call(machine, kit, process, number):
    pidfd = process(40)
    tried = fail(machine, TryAgain(number, "busy"), *range(40))
    report = setter(machine).apply(pidfd, 1, steps(kit, range(40)), now=0)
    assert (len(tried), report.busy, report.left, report.errors) == (1, True, 40, [])


def test_a_process_that_refuses_gets_one_call(machine, kit, process):
    pidfd = process(40)
    tried = fail(machine, MissingCapability(errno.EPERM, "no"), *range(40))
    report = setter(machine).apply(pidfd, 1, steps(kit, range(40)), now=0)
    assert (len(tried), report.left, len(report.errors)) == (1, 40, 1)


def test_a_process_that_ends_meanwhile_is_told(machine, kit, process):
    pidfd = process(2000)
    machine.on_call = lambda: len(machine.calls) == 1 and machine.end(100)
    with pytest.raises(ProcessGone):
        setter(machine).apply(pidfd, 1, steps(kit, range(2000)), now=0)


def test_a_call_that_does_nothing_does_not_loop(machine, kit, process):
    pidfd = process(2)
    machine.process_mbind = lambda *_: 0
    report = setter(machine).apply(pidfd, 1, steps(kit, range(2)), now=0)
    assert (report.calls, report.failed) == (2, 2)
