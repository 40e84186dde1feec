# SPDX-License-Identifier: Apache-2.0
"""`inspect` on real processes of this machine, and on what can go wrong with one."""

from __future__ import annotations

import errno
import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from memplace_agent.__main__ import main as program
from memplace_agent.cli import inspect
from memplace_agent.cli.errors import Exit
from memplace_agent.cli.reading import Process
from memplace_agent.engine.measure import Sampler
from memplace_agent.errors import DeadlinePassed

MIB = 1 << 20

_CHILD = """
import ctypes, mmap, os, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
at = lambda m: ctypes.addressof(ctypes.c_char.from_buffer(m))
big = mmap.mmap(-1, 40 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
libc.madvise(ctypes.c_void_p(at(big)), 40 << 20, 15)  # MADV_NOHUGEPAGE
big[: 8 << 20] = b"x" * (8 << 20)
own = mmap.mmap(-1, 4 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
mask = ctypes.c_ulong(1)
libc.syscall(237, ctypes.c_void_p(at(own)), ctypes.c_ulong(2 << 20), 2, ctypes.byref(mask), 64, 0)
shared = mmap.mmap(-1, 3 << 20)
shared[: 1 << 20] = b"y" * (1 << 20)
threading.Thread(target=sys.stdin.read).start()
print(hex(at(big)), hex(at(own)), hex(at(shared)), flush=True)
sys.stdin.read()
os._exit(0)
"""

# Every other page is unmapped: as many extents as there are mappings.
_HUGE = """
import ctypes, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
pages = int(sys.argv[1]) * 2
base = libc.mmap(None, pages * 4096, 3, 0x22, -1, 0)
for page in range(0, pages, 2):
    libc.munmap(ctypes.c_void_p(base + page * 4096), ctypes.c_size_t(4096))
print(flush=True)
sys.stdin.read()
"""

PLACEMENT = """\
apiVersion: memplace.dev/v1alpha1
kind: MemoryPlacement
metadata: {name: mp}
spec:
  selector: {}
  rules:
  - name: large
    regions: [{type: Heap, minSize: 16Mi}]
    policy: {mode: PreferredMany, tiers: [dram]}
  - name: rest
    regions: [{type: Heap}]
    policy: {mode: Bind, tiers: [cxl]}
"""


# By pid, what a child has said of its addresses.
told: dict[int, list[str]] = {}


def start(*args, **keys):
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **keys,
    )
    told[child.pid] = child.stdout.readline().split()
    return child


@pytest.fixture(scope="module")
def child():
    child = start(_CHILD)
    yield child
    child.communicate()


@pytest.fixture
def placement(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text(PLACEMENT)
    return str(file)


def inspected(capsys, *args):
    """The document."""
    assert inspect.main([*args, "-o", "json", "--limit", "0"]) == Exit.OK
    return json.loads(capsys.readouterr().out)["process"]


def at(process, address):
    return next(
        region
        for region in process["regions"]
        if int(region["start"], 16) <= int(address, 16) < int(region["end"], 16)
    )


def test_regions_are_what_the_program_has_made(child, capsys):
    process = inspected(capsys, "--pid", str(child.pid))
    big, own, shared = (at(process, address) for address in told[child.pid])
    assert (big["type"], own["type"], shared["type"]) == ("Anonymous", "Anonymous", "Shared")
    assert big["resident"] == 8 * MIB and big["size"] >= 36 * MIB
    assert shared["resident"] == MIB and shared["name"] == "/dev/zero"
    assert (own["policy"], own["policyOf"]) == ("Bind:0", "Program")
    assert (own["size"], own["resident"]) == (2 * MIB, 0)
    assert sum(region["type"] == "Stack" for region in process["regions"]) == 2
    assert process["mappings"] == sum(region["mappings"] for region in process["regions"])


def test_bytes_are_those_of_the_kernel(child, capsys):
    process = inspected(capsys, "--pid", str(child.pid))
    lines = Path(f"/proc/{child.pid}/smaps_rollup").read_text().splitlines()
    rss = next(int(line.split()[1]) << 10 for line in lines if line.startswith("Rss:"))
    resident = sum(node["bytes"] for node in process["resident"])
    assert abs(resident - rss) <= 0.03 * rss
    assert process["reading"] == {"policies": "NumaMaps", "bytes": "Exact", "error": 0.0}


def files_opened(monkeypatch):
    """The names of the files that are opened from now on, whichever way."""
    names, real, read_bytes = [], os.open, Path.read_bytes

    def opened(path, *args, **kwargs):
        names.append(Path(path).name)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(Path, "read_bytes", lambda p: names.append(p.name) or read_bytes(p))
    return names


def test_without_a_walk_bytes_are_sampled_and_policies_not_known(child, capsys, monkeypatch):
    opened = files_opened(monkeypatch)
    process = inspected(capsys, "--pid", str(child.pid), "--no-walk")
    assert "numa_maps" not in opened and opened
    assert process["reading"]["policies"] == "Unknown"
    assert any("--no-walk" in note for note in process["notes"])
    big = at(process, told[child.pid][0])
    assert abs(big["resident"] - 8 * MIB) <= 2 * MIB and big["policy"] == ""


def test_without_a_walk_what_little_there_is_of_a_vast_reservation_is_found(capsys, monkeypatch):
    code = "import mmap, sys; m = mmap.mmap(-1, 1 << 40, flags=0x4022); m[0] = 1; print(flush=True)"
    child = start(f"{code}; sys.stdin.read()")  # MAP_NORESERVE | MAP_PRIVATE | MAP_ANONYMOUS
    opened = files_opened(monkeypatch)
    try:
        process = inspected(capsys, "--pid", str(child.pid), "--no-walk")
        assert process["reading"]["error"] <= 0.02
        assert "numa_maps" not in opened and opened
    finally:
        child.communicate()


def test_a_machine_that_is_busy_is_asked_once_more(child, capsys, monkeypatch):
    tries, measure = [], Sampler.measure

    def late(*args):
        tries.append(1)
        if len(tries) == 1:
            raise DeadlinePassed(errno.ETIMEDOUT, "move_pages: the deadline passed")
        return measure(*args)

    monkeypatch.setattr(Sampler, "measure", late)
    process = inspected(capsys, "--pid", str(child.pid), "--no-walk")
    assert process["reading"]["bytes"] == "Sampled" and len(tries) == 2


def test_rules_and_plan_are_those_of_the_manifest(child, placement, capsys):
    process = inspected(capsys, "--pid", str(child.pid), "-f", placement)
    assert at(process, told[child.pid][0])["rule"] == "large"
    assert at(process, told[child.pid][0])["plan"] == "set PreferredMany:0"
    assert at(process, told[child.pid][2])["rule"] == ""
    large, rest = process["rules"]
    assert large["problem"] == "" and large["policies"] >= 1
    assert rest["problem"] == "TierNotOnNode"
    assert any("--tier" in note for note in process["notes"])


def test_the_user_can_say_which_node_is_a_tier(child, placement, capsys):
    process = inspected(capsys, "--pid", str(child.pid), "-f", placement, "--tier", "cxl=0")
    assert process["tiers"] == [{"name": "cxl", "numaNodes": [0]}]
    large, rest = process["rules"]
    assert large["problem"] == "TierNotOnNode" and rest["numaNodes"] == [0]


@pytest.mark.parametrize("output", ["table", "wide"])
def test_a_table_fits_and_says_what_it_left_out(child, placement, capsys, output):
    args = ["--pid", str(child.pid), "-f", placement, "-o", output, "--limit", "3"]
    assert inspect.main(args) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    if output == "table":
        assert max(map(len, lines)) <= 100
    assert any(line.startswith("... and ") and "--limit 0" in line for line in lines)
    assert any(line.startswith("rule large: PreferredMany on dram; has ") for line in lines)


@pytest.mark.timeout(120)
def test_a_process_with_as_many_mappings_as_it_may_have_is_bounded(placement, capsys):
    many = min(int(Path("/proc/sys/vm/max_map_count").read_text()), 65530) - 100
    child = start(_HUGE, str(many))
    try:
        begin = time.process_time()
        assert inspect.main(["--pid", str(child.pid), "-f", placement]) == Exit.OK
        took = time.process_time() - begin
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) < 80 and any("smaller regions" in line for line in lines)
        assert inspect.main(["--pid", str(child.pid), "-o", "json"]) == Exit.OK
        document = json.loads(capsys.readouterr().out)
        assert len(document["process"]["regions"]) == 4096
        assert document["process"]["cut"]["regions"] > many - 4200
        assert took < 20
    finally:
        child.communicate()


# --- what can go wrong ---


def test_nobody_has_that_pid(capsys):
    assert inspect.main(["--pid", str((1 << 22) - 1)]) == Exit.NO_PROCESS
    assert "there is no process" in capsys.readouterr().err


def test_a_zombie_is_called_one(capsys):
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert inspect.main(["--pid", str(child.pid)]) == Exit.NO_PROCESS
    assert "zombie" in capsys.readouterr().err
    child.wait()


def test_a_thread_is_named_with_its_process(child, capsys):
    threads = sorted(int(each.name) for each in Path(f"/proc/{child.pid}/task").iterdir())
    assert inspect.main(["--pid", str(threads[-1])]) == Exit.NO_PROCESS
    assert f"is a thread of process {child.pid}" in capsys.readouterr().err


def test_a_process_without_its_first_thread_is_explained(leaderless, capsys):
    assert inspect.main(["--pid", str(leaderless.pid)]) == Exit.NO_PROCESS
    assert "first thread" in capsys.readouterr().err


def test_a_thread_of_the_kernel_has_no_memory(started, capsys, monkeypatch):
    monkeypatch.setenv("MEMPLACE_PROC", str(started.machine.host.proc))
    status = started.machine.host.pid(100) / "status"
    lines = status.read_text().splitlines()
    status.write_text("\n".join(line for line in lines if not line.startswith("VmSize")))
    assert inspect.main(["--pid", "100"]) == Exit.NO_PROCESS
    assert "thread of the kernel" in capsys.readouterr().err


def test_a_process_that_ends_between_two_steps_is_gone(capsys, monkeypatch):
    child = start(_CHILD)
    read = Process.look

    def late(self, pinned, claim=None):
        child.communicate()
        return read(self, pinned, claim)

    monkeypatch.setattr(Process, "look", late)
    assert inspect.main(["--pid", str(child.pid)]) == Exit.NO_PROCESS
    assert f"process {child.pid} has ended" in capsys.readouterr().err


def as_nobody(*args):
    return subprocess.run(
        [sys.executable, "-m", "memplace_agent", *args],
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


@pytest.mark.needs_root("becomes another user")
def test_who_may_not_read_it_is_told_which_right_is_missing(child):
    done = as_nobody("inspect", "--pid", str(child.pid))
    assert done.returncode == Exit.NOT_PERMITTED, done.stderr
    assert "which is root's" in done.stderr and "CAP_SYS_PTRACE" in done.stderr


@pytest.mark.needs_root("becomes another user")
def test_own_processes_need_no_right(capfd):
    own = start(_CHILD, user=65534, group=65534, extra_groups=[])
    try:
        done = as_nobody("inspect", "--pid", str(own.pid), "-o", "json")
        assert done.returncode == Exit.OK, done.stderr
        assert at(json.loads(done.stdout)["process"], told[own.pid][0])["resident"] == 8 * MIB
    finally:
        own.communicate()


def test_apply_says_what_kernel_it_needs_and_changes_nothing(child, placement, capsys):
    args = ["--pid", str(child.pid), "-f", placement, "--apply"]
    assert inspect.main(args) == Exit.NO_KERNEL
    said = capsys.readouterr().err
    assert "nothing was changed" in said and "/sys/kernel/mm/mempolicy/process_mbind/" in said


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--pid", "x"], "not a process id: 'x'"),
        (["--pid", "0"], "not a process id"),
        ([], "--pid"),
        (["--pid", "1", "--apply"], "--apply needs a placement"),
        (["--pid", "1", "--undo", "-f", "x"], "leave out -f"),
        (["--pid", "1", "--tier", "cxl"], "write a tier and its NUMA nodes as cxl=1"),
        (["--pid", "1", "-o", "yaml"], "invalid choice"),
        (["--pid", "1", "--limit", "-1"], "--limit"),
    ],
)
def test_odd_options_are_refused_with_status_2(args, said, capsys):
    with pytest.raises(SystemExit) as ended:
        inspect.main(args)
    assert ended.value.code == Exit.USAGE
    assert said in capsys.readouterr().err


def test_a_node_that_this_machine_does_not_have_is_refused(child, capsys):
    assert inspect.main(["--pid", str(child.pid), "--tier", "cxl=77"]) == Exit.USAGE
    assert "no memory on NUMA node 77; it has NUMA nodes 0" in capsys.readouterr().err


def test_of_several_placements_one_has_to_be_chosen(child, tmp_path, capsys):
    file = tmp_path / "two.yaml"
    file.write_text(PLACEMENT + "---\n" + PLACEMENT.replace("name: mp", "name: other"))
    args = ["--pid", str(child.pid), "-f", str(file)]
    assert inspect.main(args) == Exit.USAGE
    assert "(mp, other): choose with --placement" in capsys.readouterr().err
    assert inspect.main([*args, "--placement", "x"]) == Exit.USAGE
    assert inspected(capsys, *args, "--placement", "other")["placement"] == "other"


def test_help_has_examples_and_exit_statuses(capsys):
    with pytest.raises(SystemExit) as ended:
        program(["inspect", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text and "exit status:" in text
    assert max(map(len, text.splitlines())) <= 100
    assert program(["--help"]) == 0 and program(["nonsense"]) == 2


def test_the_daemon_imports_nothing_of_the_commands():
    code = (
        "import sys, memplace_agent.app, memplace_agent.__main__;"
        "odd = ('memplace_agent.cli', 'yaml', 'argparse');"
        "print([name for name in sys.modules if name.startswith(odd)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_can_t_move_the_cursor(tmp_path, capsys):
    file = tmp_path / "\x1b[2J\x07evil"
    file.write_bytes(b"x" * mmap.PAGESIZE)
    with file.open() as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert mapped[0] == ord("x")
        assert inspect.main(["--pid", str(os.getpid()), "--limit", "0"]) == Exit.OK
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x07" not in out and "\\x1b[2J\\x07evil" in out


def test_who_reads_the_first_line_only_gets_no_traceback(child):
    command = [sys.executable, "-m", "memplace_agent", "inspect", "--pid", str(child.pid)]
    reader = ["sh", "-c", '"$@" -o json --limit 0 | head -n 1', "sh", *command]
    done = subprocess.run(reader, capture_output=True, text=True, check=True)
    assert done.stdout == "{\n" and done.stderr == ""
