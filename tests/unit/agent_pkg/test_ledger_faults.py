# SPDX-License-Identifier: Apache-2.0
"""The ledger on disk under faults: agents that are killed while they write, and a full /run."""

import contextlib
import errno
import os
import signal
import sys
import time

import pytest
from memplace_agent.ledger_store import AnotherAgent, ClaimTooLarge, LedgerStore

from tests.unit.agent_pkg.ledger_files import BOOT, A, claim, file_of, on_tmpfs, opened, run


@pytest.fixture
def directory():
    with on_tmpfs() as path:
        yield path


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
from tests.unit.agent_pkg.ledger_files import A, BOOT, claim, file_of

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


FULL = """
import os, sys
from pathlib import Path
from dataclasses import replace
from memplace_agent.ledger_store import LedgerStore
from tests.unit.agent_pkg.ledger_files import A, B, BOOT, claim
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


def test_a_claim_that_no_agent_would_read_is_not_written(directory, monkeypatch):
    small, large = claim(), claim(images=range(1, 2000))
    monkeypatch.setattr("memplace_agent.ledger_store._LARGEST", 4096)
    with opened(directory) as store:
        store.put(small)
        with pytest.raises(ClaimTooLarge, match="bytes") as caught:
            store.put(large)
        assert caught.value.errno == errno.EFBIG
        assert store.get(A) == small
        # An undo goes on with what it knows; what is on disk is enough for the next one.
        assert store.put_for_undo(large) is False
        assert store.get(A) == large
    with opened(directory) as store:
        assert list(store) == [small] and not store.unread


@pytest.mark.needs_root("mounts a tmpfs")
def test_a_full_run_does_not_keep_undo_from_working(tmp_path):
    # In a mount namespace of its own, so that nothing is left however it ends.
    script = 'mount -t tmpfs -o size=48k,mode=755 none "$1" && exec "$2" -c "$3" "$1"'
    done = run(["unshare", "--mount", "sh", "-c", script, "-", tmp_path, sys.executable, FULL])
    assert done.stdout == "done\n", done.stderr
