# SPDX-License-Identifier: Apache-2.0
"""The ledger on disk: whole at any moment, private, of one agent, and never thrown away."""

import contextlib
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memplace.claims import Claim, Footprint, Kept, Ours
from memplace.kinds import Mode, Policy
from memplace_agent.ledger_store import AnotherAgent, LedgerStore, Unread

A, B = "a" * 64, "b" * 64
BOOT = "0b5c0b1e-boot"
CXL = Policy(Mode.PREFERRED_MANY, frozenset({1}), frozenset({"static"}))
BIND = Policy(Mode.BIND, frozenset({0}), home_node=0)
BOTH = frozenset({0, 1})


def claim(container=A, images=(7,), since=1.5):
    print_ = Footprint(
        images=frozenset(images),
        ours=(Ours(CXL, BOTH),),
        theirs=(Policy(Mode.BIND),),
        kept=(Kept(4096, 8192, Ours(CXL, BOTH, BIND)),),
    )
    return Claim(
        container=container,
        placement=("uid", "cache", "redis"),
        since=since,
        defaults=(Ours(CXL, BOTH),),
        footprints=(print_,),
    )


@pytest.fixture
def directory():
    # On a tmpfs like /run, where fsync() costs nothing.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path) / "run" / "memplace"


@contextlib.contextmanager
def opened(directory, boot=BOOT):
    store = LedgerStore.open(directory, boot)
    try:
        yield store
    finally:
        store.close()


def file_of(directory, container=A):
    return directory / f"{container}.v2.json"


def rewrite(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


policies = st.builds(
    Policy,
    st.sampled_from(Mode),
    st.frozensets(st.integers(0, 1023), max_size=3),
    st.frozensets(st.sampled_from(["static", "relative", "balancing"])),
    st.none() | st.integers(0, 1023),
)
ours = st.builds(Ours, policies, st.frozensets(st.integers(0, 9)), policies)
addresses = st.integers(0, 2**56)
footprints = st.builds(
    Footprint,
    images=st.frozensets(st.integers(1, 2**63 - 1), max_size=3),
    ours=st.lists(ours, max_size=2).map(tuple),
    theirs=st.lists(policies, max_size=2).map(tuple),
    kept=st.lists(st.builds(Kept, addresses, addresses, ours), max_size=2).map(tuple),
)
claims = st.builds(
    Claim,
    container=st.sampled_from([A, B, "cri-o_1.x"]),
    placement=st.tuples(st.text(), st.text(), st.text()),
    since=st.floats(0, 2**40),
    defaults=st.lists(ours, max_size=2).map(tuple),
    footprints=st.lists(footprints, max_size=2).map(tuple),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(claims, max_size=4))
def test_what_is_put_is_read_back(directory, many):
    with opened(directory) as store:
        for one in many:
            store.put(one)
        kept = list(store)
    with opened(directory) as store:
        assert sorted(store, key=str) == sorted(kept, key=str)
        assert not store.unread
        for one in kept:
            store.drop(one.container)
    assert not list(directory.iterdir())


def test_nothing_is_written_when_nothing_changed(directory):
    with opened(directory) as store:
        store.put(claim())
        before = file_of(directory).stat().st_ino
        store.put(claim())
        assert file_of(directory).stat().st_ino == before
        store.put(claim(since=2.5))
        assert file_of(directory).stat().st_ino != before


def test_nobody_else_may_read_addresses(directory):
    directory.mkdir(parents=True, mode=0o755)
    old = os.umask(0)
    try:
        with opened(directory) as store:
            store.put(claim())
    finally:
        os.umask(old)
    file = file_of(directory)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (directory, file)] == [0o700, 0o600]
    file.chmod(0o644)
    directory.chmod(0o755)
    with opened(directory):
        assert [stat.S_IMODE(p.stat().st_mode) for p in (directory, file)] == [0o700, 0o600]


def test_a_second_agent_is_told_and_changes_nothing(directory):
    with opened(directory) as store:
        store.put(claim())
        leftover = directory / f".{B}.v2.json.tmp"
        leftover.touch()
        with pytest.raises(AnotherAgent) as refused:
            LedgerStore.open(directory, "another boot")
        assert (refused.value.reason, refused.value.errno) == ("AnotherAgent", errno.EWOULDBLOCK)
        assert leftover.exists()
        assert file_of(directory).exists()
    with opened(directory) as store:  # the first one has ended
        assert list(store) == [claim()]
        assert not leftover.exists()


def test_an_agent_that_is_killed_holds_no_lock(directory):
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            LedgerStore.open(directory, BOOT).put(claim())
            signal.pause()
        os._exit(1)
    wait_for(lambda: file_of(directory).exists())
    with pytest.raises(AnotherAgent):
        LedgerStore.open(directory, BOOT)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with opened(directory) as store:
        assert list(store) == [claim()]


def wait_for(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


KILLS = """
import contextlib, mmap, os, random, signal, struct, sys, time
from pathlib import Path
from memplace_agent.ledger_store import LedgerStore
from tests.unit.agent_pkg.test_ledger_store import A, BOOT, claim, file_of

directory, seed = Path(sys.argv[1]), random.Random(11)
acknowledged = mmap.mmap(-1, 8)

def write_for_ever():
    store = LedgerStore.open(directory, BOOT)
    for number in range(1, 1 << 30):
        # Several sizes, so that a cut file could not be mistaken for a whole one.
        store.put(claim(images=range(1, 2 + number % 50), since=float(number)))
        struct.pack_into("q", acknowledged, 0, number)

busy = 0
for _ in range(1000):
    struct.pack_into("q", acknowledged, 0, 0)
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            write_for_ever()
        os._exit(1)
    time.sleep(seed.uniform(0, 0.004))
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    (number,) = struct.unpack_from("q", acknowledged)
    store = LedgerStore.open(directory, BOOT)
    found = store.get(A)
    assert not store.unread
    assert {p.name for p in directory.iterdir()} <= {file_of(directory).name}
    if number:
        busy += 1
        assert number <= found.since <= number + 1, (number, found)
    store.drop(A)
    store.close()
print(busy)
"""


def test_a_thousand_kills_lose_nothing_that_was_put(directory):
    """SIGKILL at any point: the file is whole, and no older than the last put() that returned."""
    # From a small process: to fork this one takes longer than all the rest.
    done = run([sys.executable, "-c", KILLS, directory])
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100  # so many were killed while they wrote


def run(command):
    root = Path(__file__).parents[3]
    env = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


def test_a_kill_between_any_two_calls_leaves_the_old_or_the_new(directory, monkeypatch):
    """The same, exhaustively: the process ends before its n-th call to the file system."""
    names = ["open", "fchmod", "fsync", "rename", "unlink"]
    ended = 0
    for last in range(12):
        with opened(directory) as store:
            store.put(claim(since=1.0))
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                store = LedgerStore.open(directory, BOOT)
                left = [last]

                def counted(real, left=left):
                    def call(*args, **kwargs):
                        if not left[0]:
                            os.kill(os.getpid(), signal.SIGKILL)
                        left[0] -= 1
                        return real(*args, **kwargs)

                    return call

                for name in names:
                    setattr(os, name, counted(getattr(os, name)))
                store.put(claim(since=2.0))
            os._exit(0)
        ended += os.waitpid(child, 0)[1] == signal.SIGKILL
        with opened(directory) as store:
            assert store.get(A) in (claim(since=1.0), claim(since=2.0))
            assert [p.name for p in directory.iterdir()] == [file_of(directory).name]
    assert 4 <= ended < 12


def test_one_odd_file_does_not_keep_the_agent_from_starting(directory):
    with opened(directory) as store:
        store.put(claim())
    (directory / "x.json").mkdir()
    (directory / f"{B}.v1.json").mkdir()
    (directory / "dangling.v1.json").symlink_to("/nowhere")
    os.mkfifo(directory / "pipe.v1.json")
    (directory / "empty.v1.json").touch()
    (directory / "list.v1.json").write_text("[1]")
    (directory / "deep.v1.json").write_text("[" * 100_000)
    (directory / "mode.v1.json").write_text(
        file_of(directory).read_text().replace("PreferredMany", "Telepathy")
    )
    (directory / "other.v1.json").write_text(file_of(directory).read_text())
    (directory / b"\xff.v1.json".decode(errors="surrogateescape")).touch()
    (directory / "README").touch()
    before = {p.name for p in directory.iterdir()}
    with opened(directory) as store:
        assert list(store) == [claim()]
        assert {unread.file for unread in store.unread} == before - {"README", f"{A}.v2.json"}
        assert Unread("dangling.v1.json", "ELOOP") in store.unread
    assert {p.name for p in directory.iterdir()} == before


def plain(**kwargs):
    """Without a default for mappings to come."""
    return replace(claim(**kwargs), defaults=())


def names(directory):
    return [path.name for path in sorted(directory.iterdir())]


def test_only_a_claim_with_a_default_is_none_for_an_agent_that_knows_no_defaults(directory):
    with opened(directory) as store:
        store.put(plain())
        assert names(directory) == [f"{A}.v1.json"]
        store.put(claim())
        assert names(directory) == [f"{A}.v2.json"]
        # Mappings that were born under it may be there still.
        store.put(plain(since=2.5))
        assert names(directory) == [f"{A}.v2.json"]
    with opened(directory) as store:
        assert list(store) == [plain(since=2.5)]
        store.put(plain(since=3.5))
        assert names(directory) == [f"{A}.v2.json"]
        store.drop(A)
    assert not names(directory)


def test_a_claim_of_an_older_agent_is_read_and_goes_on(directory):
    with opened(directory) as store:
        store.put(plain())
    with opened(directory) as store:
        assert list(store) == [plain()]
        store.put(claim())
        assert names(directory) == [f"{A}.v2.json"]
    with opened(directory) as store:
        assert list(store) == [claim()]


def test_an_agent_that_ended_between_two_versions_of_a_file_leaves_the_newer_one(directory):
    with opened(directory) as store:
        store.put(plain())
        old = (directory / f"{A}.v1.json").read_bytes()
        store.put(claim(since=2.5))
    (directory / f"{A}.v1.json").write_bytes(old)
    with opened(directory) as store:
        assert list(store) == [claim(since=2.5)] and not store.unread
        assert names(directory) == [f"{A}.v2.json"]


def test_what_an_older_agent_did_meanwhile_is_known_too(directory):
    with opened(directory) as store:
        store.put(plain(images=(7, 8)))
        old = (directory / f"{A}.v1.json").read_bytes()
        store.put(claim(images=(7,)))
    (directory / f"{A}.v1.json").write_bytes(old)
    with opened(directory) as store:
        (found,) = store
        assert found.defaults == claim().defaults
        assert [f.images for f in found.footprints] == [{7}, {8}]
        assert names(directory) == [f"{A}.v2.json"]
    with opened(directory) as store:
        assert list(store) == [found]


def test_what_a_newer_agent_wrote_is_kept_and_named(directory):
    with opened(directory) as store:
        store.put(claim())
    newer = directory / f"{A}.v3.json"
    file_of(directory).rename(newer)
    newer.write_text('{"version": 3, "claims": "in another form"}')
    with opened(directory) as store:
        assert store.unread == (Unread(newer.name, "Newer"),)
        assert not list(store)
        store.put(claim())  # an older agent goes on with what it knows itself
        store.drop(A)
        assert store.unread
    assert newer.read_text() == '{"version": 3, "claims": "in another form"}'


def test_the_journal_of_the_first_agents_is_kept_and_named(directory):
    directory.mkdir(parents=True)
    old = directory / "100-1000.json"
    old.write_text('{"key":[100,1000],"container_id":"c","placement":["u","n","m"],"records":[]}')
    with opened(directory) as store:
        assert store.unread == (Unread(old.name, "NotUnderstood"),)
    assert old.exists()


def test_what_a_newer_agent_added_is_carried_along(directory):
    with opened(directory) as store:
        store.put(claim(images=[7, 8]))

    def add(record):
        record["node"] = {"name": "n"}
        record["claim"]["budget"] = 5
        record["claim"]["defaults"][0]["minimum"] = 4096
        record["claim"]["footprints"][0]["ours"][0]["rule"] = "values"
        record["claim"]["footprints"][0]["kept"][0]["ours"]["previous"]["weights"] = [3, 1]

    rewrite(file_of(directory), add)
    for images in ([7, 8, 9], [9]):
        with opened(directory) as store:
            assert not store.unread
            store.put(claim(images=images))
    record = json.loads(file_of(directory).read_text())
    assert record["node"] == {"name": "n"}
    assert record["claim"]["budget"] == 5
    assert record["claim"]["defaults"][0]["minimum"] == 4096
    (kept,) = record["claim"]["footprints"]
    assert kept["images"] == [9]
    assert kept["ours"][0]["rule"] == "values"
    assert kept["kept"][0]["ours"]["previous"]["weights"] == [3, 1]


def test_what_is_gone_does_not_come_back_with_what_was_added(directory):
    with opened(directory) as store:
        store.put(claim())
    rewrite(file_of(directory), lambda record: record["claim"].update(budget=5))
    with opened(directory) as store:
        store.put(replace(claim(), footprints=(), defaults=()))
    with opened(directory) as store:
        assert list(store) == [replace(claim(), footprints=(), defaults=())]
    assert json.loads(file_of(directory).read_text())["claim"]["budget"] == 5


def test_another_boot_has_nothing_to_undo(directory):
    with opened(directory) as store:
        store.put(claim())
    with opened(directory, "another boot") as store:
        assert not list(store)
        assert not store.unread
    assert not list(directory.iterdir())


@pytest.mark.parametrize("container", ["", "../x", "a/b", ".hidden", "a\n", "x" * 300])
def test_an_id_that_is_no_name_is_refused(directory, container):
    with opened(directory) as store, pytest.raises(ValueError, match="not the id of a container"):
        store.put(claim(container))


FULL = """
import os, sys
from pathlib import Path
from dataclasses import replace
from memplace_agent.ledger_store import LedgerStore
from tests.unit.agent_pkg.test_ledger_store import A, B, BOOT, claim
directory = Path(sys.argv[1]) / "memplace"
store = LedgerStore.open(directory, BOOT)
store.put(claim())
filler = open(directory / "filler", "wb", buffering=0)
try:
    while True:
        filler.write(b"x" * 4096)
except OSError as err:
    assert err.errno == 28, err
for one in (claim(B), claim(since=2.5)):
    try:
        store.put(one)
    except OSError as err:
        assert err.errno == 28, err
    else:
        raise AssertionError("there was room")
assert store.get(A) == claim() and store.get(B) is None
assert store.put_for_undo(claim(since=2.5)) is False
assert store.get(A) == claim(since=2.5)
assert {p.name for p in directory.iterdir()} == {"filler", f"{A}.v2.json"}
store.close()
store = LedgerStore.open(directory, BOOT)
assert list(store) == [claim()]
assert store.put_for_undo(claim(since=3.5)) is False
filler.truncate(0)
store.put(claim(since=3.5))                     # the same again, now there is room
store.close()
store = LedgerStore.open(directory, BOOT)
assert list(store) == [claim(since=3.5)]
filler.write(b"x" * 40960)
store.drop(A)
assert not list(store)
print("done")
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a tmpfs")
def test_a_full_run_does_not_keep_undo_from_working(tmp_path):
    # In a mount namespace of its own, so that nothing is left however it ends.
    script = 'mount -t tmpfs -o size=48k,mode=755 none "$1" && exec "$2" -c "$3" "$1"'
    done = run(["unshare", "--mount", "sh", "-c", script, "-", tmp_path, sys.executable, FULL])
    assert done.stdout == "done\n", done.stderr


def test_five_thousand_processes_are_a_few_mebibytes(directory):
    """250 containers: 200 with ten programs each, 50 with sixty forks of one."""
    with opened(directory) as store:
        for number in range(250):
            images = range(number * 100, number * 100 + 10) if number % 5 else [number * 100]
            store.put(claim(f"{number:064x}", images))
        big = claim(A, range(10**15, 10**15 + 5000))
        store.put(big)
    assert sum(p.stat().st_size for p in directory.iterdir()) < 1 << 20
    tracemalloc.start()
    try:
        with opened(directory) as store:
            used, peak = tracemalloc.get_traced_memory()
            assert len(list(store)) == 251
    finally:
        tracemalloc.stop()
    assert used < 3 << 20, used
    assert peak < 4 << 20, peak
