# SPDX-License-Identifier: Apache-2.0
"""What a process runs: rules by `process` ask, and the file may be replaced while it runs."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from memplace_agent.hostfs import HostFs
from memplace_agent.procfs.process import Incomplete, Reader, Reason
from memplace_agent.procfs.query import Way
from memplace_agent.syscalls import RunningKernel

A = "a" * 64
ONE = ("mp", "p", "c0")
SERVER = "/usr/bin/clickhouse-server"

KERNEL = RunningKernel(None)
READER = Reader(HostFs(), KERNEL, Way.MAPS)


@pytest.fixture
def server(node, kit):
    """A node where a rule is about a name that the kernel cuts at 15 letters."""
    node.machine.start(100, A, kit.heap(), exe=SERVER, comm="clickhouse-serv")
    rule = kit.overriding() | {"regions": [{"type": "Heap", "process": "clickhouse-server"}]}
    assert node.full(kit.placement(rules=[rule]))[ONE].state == "Placed"
    assert node.machine.policies(100)["[heap]"] == kit.CXL
    return node


def while_it_is_read(node, change):
    """Let this happen during the next read of the process, and let some looks pass."""

    def once(_directory):
        node.machine.on_read = None
        change()

    node.machine.on_read = once
    made = len(node.machine.calls)
    report = node.run(200)[ONE]
    assert node.machine.on_read is None
    return report, node.machine.calls[made:]


def replaced(node):
    node.machine.processes[100].exe = f"{SERVER} (deleted)"
    node.machine.write(100)


def test_a_rule_by_process_holds_when_its_executable_is_replaced(server):
    report, calls = while_it_is_read(server, lambda: replaced(server))
    assert (report.state, calls) == ("Placed", [])
    assert report.rules[0].regions == 1


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda _: None, "Moving", id="there is none"),
        pytest.param(lambda link: link.touch(), "Failed", id="it is no link"),
    ],
)
def test_nothing_is_concluded_while_nobody_can_tell_what_a_process_runs(server, make, reason):
    link = server.machine.host.pid(100) / "exe"

    def hide():
        link.unlink()
        make(link)

    report, calls = while_it_is_read(server, hide)
    assert (report.state == "Placed", calls) == (False, [])
    assert report.reason == reason
    link.unlink(missing_ok=True)
    link.symlink_to(SERVER)
    assert server.run(400)[ONE].state == "Placed"


@contextmanager
def running(program, **kwargs):
    child = subprocess.Popen([program, "-c", "read x"], stdin=subprocess.PIPE, **kwargs)
    pidfd = KERNEL.pidfd_open(child.pid)
    try:
        yield child, pidfd
    finally:
        child.kill()
        child.communicate()
        os.close(pidfd)


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "a-server-with-a-long-name"
    shutil.copy("/bin/sh", path)
    return path


def test_a_real_program_keeps_its_name_while_its_file_is_replaced(program):
    with running(program) as (child, pidfd):
        assert READER.executable(child.pid, pidfd) == str(program)
        newer = program.with_name("newer")
        shutil.copy(sys.executable, newer)
        newer.replace(program)
        assert str(Path(f"/proc/{child.pid}/exe").readlink()) == f"{program} (deleted)"
        assert READER.executable(child.pid, pidfd) == str(program)


def test_a_path_that_the_kernel_can_not_tell_is_no_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(25):
        Path("d" * 200).mkdir()
        os.chdir("d" * 200)
    shutil.copy("/bin/sh", "server")
    with running("./server") as (child, pidfd):
        assert READER.executable(child.pid, pidfd) == ""


def test_of_a_process_that_ended_nobody_can_tell():
    child = subprocess.Popen(["/bin/sh", "-c", "exit 0"])
    pidfd = KERNEL.pidfd_open(child.pid)
    child.wait()
    try:
        found = READER.executable(child.pid, pidfd)
    finally:
        os.close(pidfd)
    assert found == Incomplete(Reason.PROCESS_GONE)
