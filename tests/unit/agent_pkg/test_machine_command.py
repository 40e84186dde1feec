# SPDX-License-Identifier: Apache-2.0
"""`memplace-agent machine`, and `--pid largest`: what a newcomer types first."""

import json
import os
import subprocess
import sys

import pytest
from memplace_agent.__main__ import main as program
from memplace_agent.cli import machine
from memplace_agent.cli.errors import CommandFailed, Exit
from memplace_agent.cli.largest import largest
from memplace_agent.hostfs import HostFs

from tests.unit.agent_pkg.trees import NAMES, load, plant


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Make a recorded machine the one that is looked at."""

    def make(name):
        host = plant(tmp_path, load(name))
        monkeypatch.setenv("MEMPLACE_PROC", str(host.proc))
        monkeypatch.setenv("MEMPLACE_SYSFS", str(host.sysfs))
        return load(name)

    return make


@pytest.mark.parametrize("name", NAMES)
def test_it_finds_the_tiers_that_the_agent_finds(planted, capsys, name):
    facts = planted(name)
    assert machine.main(["-o", "json"]) == Exit.OK
    nodes = json.loads(capsys.readouterr().out)["numaNodes"]
    tiers: dict[str, list[int]] = {}
    for node in nodes:
        if node["tier"]:
            tiers.setdefault(node["tier"], []).append(node["numaNode"])
    # What a MemoryTier says is not on the machine: a newcomer has none.
    if not facts.get("memory_tier"):
        assert tiers == facts["expect"]["tiers"]
    assert all(node["bytes"] and node["why"] for node in nodes)


def test_a_tier_that_is_typed_counts(planted, capsys):
    name = next(name for name in NAMES if "cxl" not in load(name)["expect"]["tiers"])
    facts = planted(name)
    number = facts["expect"]["reported"][-1]
    assert machine.main(["--tier", f"cxl={number}"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == [str(number), "cxl"] for line in lines)


def test_here_it_says_what_the_kernel_can_whoever_asks(capsys):
    as_root = _run()
    assert program(["machine"]) == Exit.OK
    assert capsys.readouterr().out.splitlines()[:3] == as_root.splitlines()[:3]
    assert os.uname().release in as_root and "backend " in as_root
    assert "runs without" not in as_root  # no word of rights, which the agent has


@pytest.mark.needs_root("to become another user")
def test_another_user_is_told_the_same():
    assert _run(user=65534).splitlines()[:3] == _run().splitlines()[:3]


def _run(**keys) -> str:
    command = [sys.executable, "-m", "memplace_agent", "machine"]
    return subprocess.run(command, check=True, capture_output=True, text=True, **keys).stdout


# --- --pid largest ---


@pytest.fixture
def processes(tmp_path):
    """A /proc with processes of this user: id to KiB of anonymous memory."""

    def make(**sizes):
        for name, size in sizes.items():
            directory = tmp_path / name.removeprefix("p")
            directory.mkdir()
            (directory / "status").write_text(f"Name:\tx\nRssAnon:\t{size:>8} kB\nRssFile:\t9 kB\n")
            (directory / "maps").write_text("")
        (tmp_path / "kmsg").write_text("")
        return HostFs(proc=tmp_path)

    return make


def test_the_largest_is_the_one_with_most_anonymous_memory(processes):
    host = processes(p1=500, p20=70_000, p300=9_000)
    (host.proc / "4").mkdir()  # it has ended
    (host.proc / "5").mkdir()
    (host.proc / "5/status").write_text("Name:\tkthreadd\n")  # it has no memory
    assert largest(host) == 20


def test_what_may_not_be_read_is_no_answer(processes):
    host = processes(p1=900, p7=100)
    (host.proc / "1/maps").unlink()
    assert largest(host) == 7


def test_we_ourselves_are_no_answer(processes):
    assert largest(processes(**{f"p{os.getpid()}": 900_000, "p7": 100})) == 7


@pytest.mark.needs_root("to give a directory another owner")
def test_processes_of_others_are_left_out(processes):
    code = (
        "import sys, os; from pathlib import Path; from memplace_agent.cli.largest import largest; "
        "from memplace_agent.hostfs import HostFs; print(largest(HostFs(proc=Path(sys.argv[1]))))"
    )
    host = processes(p7=100, p8=900)
    os.chown(host.proc / "7", 65534, -1)
    # pytest's own are root's alone, and there is one more in each of several workers.
    for directory in (host.proc, *host.proc.parents):
        if "pytest-of-" in str(directory):
            directory.chmod(0o755)
    found = subprocess.run(
        [sys.executable, "-c", code, str(host.proc)],
        check=True,
        capture_output=True,
        text=True,
        user=65534,
    )
    assert found.stdout == "7\n"


def test_without_any_it_says_what_to_do(processes):
    with pytest.raises(CommandFailed, match=r"--pid N") as failed:
        largest(processes(p7=0))
    assert failed.value.status == Exit.NO_PROCESS


def test_largest_is_for_looking_only(capsys):
    with pytest.raises(SystemExit) as end:
        program(["inspect", "--pid", "largest", "--undo"])
    assert end.value.code == Exit.USAGE
    assert "need the id of a process" in capsys.readouterr().err


def test_it_is_a_process_of_this_machine(capsys):
    assert program(["inspect", "--pid", "largest", "-o", "json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["process"]["pid"] > 0
