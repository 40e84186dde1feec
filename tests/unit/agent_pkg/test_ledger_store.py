# SPDX-License-Identifier: Apache-2.0
"""The ledger on disk: private, of one agent, of this boot, and never thrown away."""

import errno
import json
import os
import stat
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memplace.claims import Claim, Footprint, Kept, Ours
from memplace.kinds import Mode, Policy
from memplace_agent.ledger_store import AnotherAgent, LedgerStore, Unread

from tests.unit.agent_pkg.ledger_files import A, B, claim, file_of, on_tmpfs, opened


@pytest.fixture
def directory():
    with on_tmpfs() as path:
        yield path


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
    newer = directory / f"{A}.v4.json"
    file_of(directory).rename(newer)
    newer.write_text('{"version": 4, "claims": "in another form"}')
    with opened(directory) as store:
        assert store.unread == (Unread(newer.name, "Newer"),)
        assert not list(store)
        store.put(claim())  # an older agent goes on with what it knows itself
        store.drop(A)
        assert store.unread
    assert newer.read_text() == '{"version": 4, "claims": "in another form"}'


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


def test_the_claim_of_an_object_is_none_that_an_older_agent_reads(directory):
    """It would take it for that of a container that is gone, and forget it."""
    with opened(directory) as store:
        store.put(claim(container="object-0.1.77"))
    assert [path.name for path in directory.iterdir()] == ["object-0.1.77.v3.json"]
    with opened(directory) as store:
        assert [known.container for known in store] == ["object-0.1.77"]
        store.drop("object-0.1.77")
    assert not list(directory.iterdir())
