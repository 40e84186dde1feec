# SPDX-License-Identifier: Apache-2.0
"""One process read in one go: real ones, ended ones, hanging ones."""

import ctypes
import os
import subprocess
import sys
import threading
import time
from array import array
from dataclasses import dataclass
from pathlib import Path

import pytest
from memplace.errors import ParseError
from memplace.kinds import Mode, Policy
from memplace_agent.containers.identity import Identities, probe_identities
from memplace_agent.hostfs import HostFs
from memplace_agent.procfs.audit import next_audit
from memplace_agent.procfs.process import Reader, Reason, Request
from memplace_agent.procfs.query import ReadVmas, Way, best_way
from memplace_agent.procfs.stacks import parse_stack_pointer, read_stack_pointers
from memplace_agent.procfs.status import FutureDefault, parse_status
from memplace_agent.procfs.vmas import EMPTY, vmas_of
from memplace_agent.syscalls import RunningKernel
from memplace_agent.syscalls.views import Ended, RawClass, RawView

KERNEL, HOST = RunningKernel(None), HostFs()
FAR = float("inf")
WAYS = [Way.MAPS, Way.QUERY]


@pytest.fixture(params=WAYS)
def reader(request):
    if request.param is Way.QUERY and best_way(0) is Way.MAPS:
        pytest.skip("this kernel has no PROCMAP_QUERY (Linux 6.11)")
    return Reader(HOST, KERNEL, request.param)


def read(reader, pid, **request):
    pidfd = KERNEL.pidfd_open(pid)
    try:
        return reader.read(pid, pidfd, time.monotonic() + 20, Request(**request))
    finally:
        os.close(pidfd)


def test_we_can_be_read(reader):
    view = read(reader, os.getpid())
    assert view.incomplete is None
    assert view.status.name == Path("/proc/self/comm").read_text().rstrip("\n")
    assert 0 in view.status.allowed
    assert {"[heap]", "[stack]"} <= {vma.path for vma in view.vmas}
    assert not view.knows_policies


def test_a_stack_of_a_thread_is_found_by_its_pointer(reader):
    here, ready, end = [], threading.Event(), threading.Event()

    def wait():
        local = ctypes.c_int()
        # An object of Python's is in the heap; the frame of a C function is on the stack.
        here.append(threading.get_native_id())
        ready.set()
        end.wait()
        del local

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait()
    try:
        syscall = Path(f"/proc/self/task/{here[0]}/syscall")
        until = time.monotonic() + 10
        while (pointer := parse_stack_pointer(syscall.read_text())) is None:
            assert time.monotonic() < until
        view = read(reader, os.getpid())
    finally:
        end.set()
        thread.join()
    index = view.vmas.at(pointer)
    assert view.vmas.starts[index] in view.stacks
    assert view.vmas[index - 1].permissions == "---"


def test_numa_maps_are_read_where_they_are_asked_for(reader):
    view = read(reader, os.getpid(), numa_maps=True)
    assert view.incomplete is None
    assert view.knows_policies
    assert view.numa_took > 0
    assert len(view.numa) > 0.8 * len(view.vmas)
    assert {one.policy for one in view.numa.values()} == {Policy(Mode.DEFAULT)}


def test_a_process_whose_first_thread_ended_is_no_empty_one(reader, leaderless):
    view = read(reader, leaderless.pid)
    assert view.incomplete.reason is Reason.LEADER_EXITED
    assert view.status.leader_exited
    assert len(view.vmas) == 0


def test_a_zombie_is_gone(reader):
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    child.stdout.read()
    pidfd = KERNEL.pidfd_open(child.pid)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    try:
        view = reader.read(child.pid, pidfd, FAR)
        assert view.incomplete.reason is Reason.PROCESS_GONE
        child.wait()
        assert reader.read(child.pid, pidfd, FAR).incomplete.reason is Reason.PROCESS_GONE
    finally:
        os.close(pidfd)


def test_a_pid_of_another_process_than_the_pidfds_is_not_read(reader):
    """As if the pid had been given to somebody else."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    pidfd = KERNEL.pidfd_open(child.pid)
    child.wait()
    view = reader.read(os.getpid(), pidfd, FAR)
    os.close(pidfd)
    assert view.incomplete.reason is Reason.PROCESS_GONE
    assert len(view.vmas) == 0


@dataclass(frozen=True, slots=True)
class Ends(RunningKernel):
    """A kernel on which a process ends right after the first look at whether it lives."""

    child: subprocess.Popen[bytes] | None = None

    def is_alive(self, pidfd):
        lives = RunningKernel.is_alive(self, pidfd)
        self.child.kill()
        self.child.wait()
        return lives


def test_a_process_that_ends_while_the_rest_is_read_is_gone(reader):
    """Its pid may be another's by then, and the stacks that were read that one's."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    pidfd = KERNEL.pidfd_open(child.pid)
    ends = Reader(HOST, Ends(None, child=child), reader.way)
    view = ends.read(child.pid, pidfd, FAR, Request(stacks=False))
    os.close(pidfd)
    child.stdin.close()
    assert view.incomplete.reason is Reason.PROCESS_GONE
    assert len(view.vmas) == 0


def test_mappings_that_cannot_be_understood_are_no_view(reader):
    """Whoever reads a process is told so, and not whoever looks at its mappings later."""
    odd = RawClass(
        permissions=3,
        inode=0,
        device=(0, 0),
        page_size=4096,
        unnamed=False,
        name=b"",
        policy=b"prefer (most):1",
        source=1,
        flags=b"",
    )
    numbers = (array("Q", [0x1000]), array("Q", [0x2000]), array("I", [0]))
    raw = RawView(Ended.COMPLETE, 0, *numbers, (odd,), array("Q", [0]))
    found = ReadVmas(vmas_of(raw), Ended.COMPLETE)
    reader = Reader(HOST, KERNEL, reader.way, ask=lambda *_: found)
    view = read(reader, os.getpid())
    assert str(view.incomplete) == "BadText (not a memory policy: 'prefer (most):1')"
    assert len(view.vmas) == 0


def test_an_address_space_without_mappings_is_not_complete(reader):
    """As the kernel shows it between two programs of an execve(), too short to be met here."""
    nothing = ReadVmas(EMPTY, Ended.COMPLETE)
    reader = Reader(HOST, KERNEL, reader.way, ask=lambda *_: nothing)
    assert read(reader, os.getpid()).incomplete.reason is Reason.CUT


@pytest.mark.needs_root("becomes another user")
def test_what_another_user_may_not_read_is_denied(reader):
    """A thread of ours becomes another user; the kernel knows users of threads only."""
    views = []

    def other():
        pidfd = KERNEL.pidfd_open(os.getppid())
        ctypes.CDLL(None).syscall(117, 65534, 65534, 65534)  # setresuid(2), x86_64
        views.append(reader.read(os.getppid(), pidfd, FAR))
        os.close(pidfd)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert views[0].incomplete.reason is Reason.DENIED


def test_too_many_mappings_are_said(reader):
    small = Reader(HOST, KERNEL, reader.way, limit=5)
    assert read(small, os.getpid()).incomplete.reason is Reason.TOO_LARGE


def test_a_thread_of_the_kernel_is_never_a_complete_view(reader):
    if not Path("/proc/2/stat").exists():
        pytest.skip("no thread of the kernel is to be seen here")
    view = read(reader, 2)
    assert view.incomplete.reason in (Reason.CUT, Reason.DENIED)


STATUS = (
    "Name:\t{name}\nState:\tS (sleeping)\nThreads:\t3\nVmSize:\t 100 kB\nVmRSS:\t  12 kB\n"
    "Mems_allowed:\t3\nMems_allowed_list:\t0-1,7\n"
)


def test_status():
    found = parse_status(STATUS.format(name="a b:\tc\\nd\\\\n\r"))
    assert found.name == "a b:\tc\nd\\n\r"
    assert (found.state, found.threads, found.leader_exited) == ("S", 3, False)
    assert found.allowed == {0, 1, 7}
    assert (found.resident, found.has_memory) == (12 * 1024, True)
    assert (found.future_brk, found.future_mmap) == (None, None)


CXL = Policy(Mode.PREFERRED_MANY, frozenset({1}))


@pytest.mark.parametrize(
    ("lines", "brk", "mmap"),
    [
        ("Mpol_future:\tprefer (many):1\n", FutureDefault(CXL), FutureDefault(CXL)),
        (
            "Mpol_future:\tprefer (many):1 home:1 exec\n",
            *[FutureDefault(CXL, 1, 0, kept_across_exec=True)] * 2,
        ),
        (
            "Mpol_future_mmap:\tprefer (many):1 home:0 min:65536 exec\n",
            None,
            FutureDefault(CXL, 0, 65536, kept_across_exec=True),
        ),
        (
            "Mpol_future_brk:\tbind=static:0\nMpol_future_mmap:\tprefer (many):1 min:4096\n",
            FutureDefault(Policy(Mode.BIND, frozenset({0}), frozenset({"static"}))),
            FutureDefault(CXL, None, 4096),
        ),
    ],
)
def test_the_default_for_mappings_to_come(lines, brk, mmap):
    found = parse_status(STATUS.format(name="x") + lines)
    assert (found.future_brk, found.future_mmap) == (brk, mmap)


@pytest.mark.parametrize("cut", range(0, 30, 7))
def test_a_status_that_is_cut_is_none(cut):
    with pytest.raises(ParseError):
        parse_status(STATUS.format(name="x")[:cut])


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ("0 0x0 0x7f 0x2000 0x22 0x3 0x7f 0x7ffce2ef1a08 0x7fe9a89d57d2\n", 0x7FFCE2EF1A08),
        ("-1 0x7ffce2ef1a08 0x7fe9a89d57d2\n", 0x7FFCE2EF1A08),
        ("0 0x0 0x0 0x0 0x0 0x0 0x0 0x0 0x0\n", None),
        ("running\n", None),
        ("", None),
        ("-1 x y", None),
    ],
)
def test_stack_pointers(text, pointer):
    assert parse_stack_pointer(text) == pointer


def test_threads_that_are_left_when_the_deadline_passes_are_not_asked():
    found = read_stack_pointers(HOST, os.getpid(), time.monotonic() - 1)
    assert (found.pointers, found.complete) == (frozenset(), False)


def test_identities_are_unique_and_stay():
    identities = probe_identities(HOST, KERNEL)
    magic = os.uname().release.split(".")[:2]
    names = []
    for pid in (os.getpid(), os.getpid(), os.getppid()):
        pidfd = KERNEL.pidfd_open(pid)
        names.append(identities.of(HOST, pidfd, pid, KERNEL))
        os.close(pidfd)
    assert names[0] == names[1] != names[2]
    assert identities.unique_inodes == ([int(n) for n in magic] >= [6, 9])


def test_without_pidfs_pid_and_start_time_name_a_process(machine):
    identities = Identities(unique_inodes=False)
    names = set()
    for pid, start in ((7, 1000), (8, 1000), (7, 1001), ((1 << 22) - 1, 999)):
        machine.start(pid, "a" * 64, start_time=start)
        pidfd = machine.pidfd_open(pid)
        names.add(identities.of(machine.host, pidfd, pid, machine))
        os.close(pidfd)
        machine.end(pid)
    assert len(names) == 4


def test_inodes_that_all_pidfds_share_are_found_out(machine):
    """Before Linux 6.9 all pidfds had one inode; here they are all /dev/null."""
    for pid in (os.getpid(), 1):
        machine.start(pid, "a" * 64)
    machine.pidfd_open = lambda _: os.open(os.devnull, os.O_RDONLY)
    assert not probe_identities(machine.host, machine).unique_inodes


@pytest.mark.parametrize("took", [0.001, 0.064, 4.1])
def test_audits_take_one_percent_of_the_time_at_most(took):
    at = next_audit(1000, took, least=0)
    assert took / (at - 1000 + took) == pytest.approx(0.01)
    assert next_audit(1000, took, least=600) >= 1600
