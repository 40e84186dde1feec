# SPDX-License-Identifier: Apache-2.0
"""What earlier placements left on a tier counts for a namespace's limit in the next agent too."""

import errno
import json
import shutil

import msgspec
import pytest
from memplace.pods import PodState
from memplace_agent.engine.look import Looker
from memplace_agent.locked_directory import LockedDirectory
from memplace_agent.retire import remove_host_files
from memplace_agent.usage_store import PlacedBy, Usage, UsageStore
from memplace_agent.world import World

from tests.support.agent.build import HEAP_RULE
from tests.support.agent.machine import HEAP, MIB
from tests.support.agent.mappings import Vma
from tests.unit.agent_pkg.ledger_files import BOOT, on_tmpfs, opened
from tests.unit.agent_pkg.test_namespace_limits import A, B, limits, on_cxl, sharing, two

FIRST, SECOND = ("a", "p", "c0"), ("b", "p", "c1")


def first(kit, **kwargs):
    return kit.placement("a", containers=["c0"], **kwargs)


def second(kit):
    return kit.placement("b", containers=["c1"])


def given(kit, size="3Mi"):
    return {"pods": [kit.pod(ids="ab")], "tiers": (limits(("ns", size)),)}


def stat_of(node, container=A):
    return node.machine.cgroup(container) / "memory.numa_stat"


def shows(node, size, container=A):
    stat_of(node, container).write_text(f"anon N0=0 N1={size}\n")


def placed(node, kit):
    """A container of 2 MiB is placed, within a limit of 3 MiB, beside another."""
    two(node, kit, 2, 2)
    shows(node, 2 * MIB)
    assert node.full(first(kit), **given(kit))[FIRST].state == "Placed"


def written(node):
    files = list(node.machine.host.journal.glob(".limits.*"))
    return json.loads(files[0].read_text())["containers"] if files else {}


def test_a_restart_makes_no_room_of_what_was_left_behind(node, kit):
    placed(node, kit)
    assert node.full(second(kit), **given(kit))[SECOND].reason == "NamespaceLimit"
    node.restart()
    assert node.full(second(kit), **given(kit))[SECOND].reason == "NamespaceLimit"
    assert node.run(120)[SECOND].reason == "NamespaceLimit"
    assert on_cxl(node, 200) == 0


def test_nor_does_one_while_which_the_placement_goes(node, kit):
    placed(node, kit)
    node.restart()
    assert node.full(second(kit), **given(kit))[SECOND].reason == "NamespaceLimit"
    assert node.run(120)[SECOND].reason == "NamespaceLimit"
    assert on_cxl(node, 200) == 0


def test_nor_does_one_while_which_it_is_edited(node, kit):
    placed(node, kit)
    node.restart()
    stack = kit.rule({"type": "Stack"}, "PreferredMany", "cxl")
    edited = msgspec.structs.replace(first(kit, rules=[stack]), generation=2)
    found = node.full(edited, second(kit), **given(kit), seconds=60)
    assert found[SECOND].reason == "NamespaceLimit"
    assert on_cxl(node, 200) == 0


def test_nor_do_two_before_anything_was_looked_at(node, kit):
    placed(node, kit)
    node.restart()
    node.reconciler.take(node.world)
    node.reconciler.audit()
    node.restart()
    assert node.full(second(kit), **given(kit))[SECOND].reason == "NamespaceLimit"


@pytest.mark.parametrize("why", ["held", "failed"])
def test_who_cannot_be_looked_at_has_what_it_had(node, kit, why, monkeypatch):
    placed(node, kit)
    node.restart()
    world = given(kit)
    if why == "held":
        world["held"] = frozenset({A})
    else:
        monkeypatch.setattr(Looker, "look", failing(Looker.look))
    found = node.full(first(kit), second(kit), **world, seconds=60)
    assert found[SECOND].reason == "NamespaceLimit"
    assert on_cxl(node, 200) == 0


def failing(look):
    def fails(self, container, ref):
        if container.wanted.container_id == A:
            raise OSError(errno.EIO, "its processes can't be listed")
        return look(self, container, ref)

    return fails


def test_the_record_goes_with_what_was_left(node, kit):
    placed(node, kit)
    node.full(second(kit), **given(kit))
    node.restart()
    assert node.full(second(kit), **given(kit))[SECOND].reason == "NamespaceLimit"
    assert written(node)[A]["left"] == {"cxl": 2 * MIB}
    shows(node, MIB)  # of which 1 MiB is free now: with the other's 2 MiB that is the limit
    assert node.run(60)[SECOND].state != "Placed"
    assert written(node)[A]["left"] == {"cxl": MIB}
    shows(node, 0)
    assert node.run(60)[SECOND].state == "Placed"
    assert written(node).keys() == {B}


@pytest.mark.parametrize("is_told", [True, False])
def test_the_record_goes_with_the_container(node, kit, is_told):
    placed(node, kit)
    node.full(second(kit), **given(kit))
    node.restart()
    node.machine.end(100)
    shutil.rmtree(node.machine.cgroup(A))
    world = given(kit)
    if is_told:
        world["pods"] = [PodState(kit.pod(ids="ab").ref, {"c1": B})]
    assert node.full(second(kit), **world, seconds=60)[SECOND].state == "Placed"
    assert written(node).keys() == {B}


def test_a_limit_that_comes_later_counts_what_was_there_before(node, kit):
    two(node, kit, 2, 2)
    shows(node, 2 * MIB)
    node.full(first(kit), pods=[kit.pod(ids="ab")])
    node.reconciler.take(World(placements=(first(kit),), **given(kit)))
    node.reconciler.audit()
    node.restart()
    assert node.full(second(kit), **given(kit))[SECOND].reason == "NamespaceLimit"


def test_an_agent_that_cannot_read_its_tiers_at_first_forgets_nothing(node, kit):
    placed(node, kit)
    node.restart()
    node.reconciler.take(World(pods=tuple(given(kit)["pods"])))
    node.reconciler.audit()
    node.restart()
    assert node.full(second(kit), **given(kit))[SECOND].reason == "NamespaceLimit"


def test_the_same_placement_is_measured_anew(node, kit):
    placed(node, kit)
    node.restart()
    # Its program has freed half of it meanwhile, and page cache is there instead.
    node.machine.unmap(100, HEAP)
    node.machine.map(100, Vma(HEAP, HEAP + MIB, "[heap]", pages={1: 256}))
    found = node.full(first(kit), second(kit), **given(kit), seconds=60)
    assert (found[FIRST].state, found[SECOND].state) == ("Placed", "Placed")


def test_shared_memory_counts_once_after_a_restart(node, kit):
    assert sharing(node, kit, "70Mi")["mp", "p", "c0"].state == "Placed"
    calls = len(node.machine.calls)
    node.restart()
    found = node.full(*node.world.placements, **given(kit, "70Mi"), seconds=90)
    assert {each.state for each in found.values()} == {"Placed"}
    assert len(node.machine.calls) == calls


def test_nothing_is_written_where_nothing_is_limited(node, kit):
    two(node, kit)
    node.full(kit.placement(rules=[HEAP_RULE]), pods=[kit.pod(ids="ab")])
    assert not list(node.machine.host.journal.glob(".limits.*"))


def test_it_is_written_when_somebody_has_news(node, kit):
    placed(node, kit)
    (file,) = node.machine.host.journal.glob(".limits.*")
    before = file.stat().st_ino
    node.run(120)
    assert file.stat().st_ino == before
    node.machine.map(100, kit.anon(0x50000000, pages={1: 256}))
    node.run(60)
    assert written(node)[A]["has"] == {"cxl": 3 * MIB}


# --- the file ---

USAGE = Usage(
    cgroup="kubepods/pod1/a", placement=PlacedBy("u", 3), has={"cxl": 1000}, left={"hbm": 7}
)


@pytest.fixture
def directory():
    with on_tmpfs() as path:
        yield path


def wrote(directory, usage=USAGE, boot=BOOT):
    with opened(directory, boot) as store:
        usages = UsageStore(store.directory)
        usages.put(A, usage)
        usages.write()
    (file,) = directory.glob(".limits.*")
    return file


def read(directory, boot=BOOT):
    with opened(directory, boot) as store:
        return UsageStore(store.directory).get(A)


def test_what_was_written_is_read(directory):
    file = wrote(directory)
    assert read(directory) == USAGE
    assert file.stat().st_mode & 0o777 == 0o600


def test_less_than_what_sampling_tells_is_no_news(directory):
    with opened(directory) as store:
        usages = UsageStore(store.directory)
        usages.put(A, USAGE)
        for has, is_news in ((1019, False), (981, False), (1021, True)):
            usages.put(
                A,
                Usage(
                    cgroup=USAGE.cgroup,
                    placement=USAGE.placement,
                    has={"cxl": has},
                    left=USAGE.left,
                ),
            )
            assert (usages.get(A).has["cxl"] == has) is is_news


def test_what_could_not_be_written_is_written_later(directory, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with opened(directory) as store:
        usages = UsageStore(store.directory)
        usages.put(A, USAGE)
        monkeypatch.setattr(LockedDirectory, "replace", full)
        usages.write()
        usages.write()
        monkeypatch.undo()
        usages.write()
    assert read(directory) == USAGE
    assert [each.message for each in caplog.records] == [
        "what counts for limits can't be written; a restart would forget it"
    ]


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", "[" * 100_000, '{"version":1,"boot":"x","containers":{"a":{"has":1}}}']
)
def test_a_file_that_cannot_be_read_is_none(directory, text):
    file = wrote(directory)
    file.write_text(text)
    assert read(directory) is None
    with opened(directory) as store:
        UsageStore(store.directory).write()
    assert not file.exists()


def test_another_boot_begins_with_nothing(directory):
    wrote(directory)
    assert read(directory, "another boot") is None


def test_a_newer_format_is_passed_by_and_stays(directory):
    newer = wrote(directory).rename(directory / ".limits.v2.tmp")
    assert read(directory) is None
    assert newer.exists()


def test_the_ledger_passes_it_by_and_may_retire(directory):
    """As an agent of before it does: it reads what ends with .json, and no leftovers of that."""
    file = wrote(directory)
    with opened(directory) as store:
        assert not store.unread and not tuple(store)
    assert file.exists()


def test_an_uninstall_leaves_none_of_it(node, kit, tmp_path):
    placed(node, kit)
    assert written(node)
    host = node.machine.host
    (host.proc / "1/root").mkdir(parents=True, exist_ok=True)
    shutil.copytree(host.journal, host.on_host(host.journal))
    remove_host_files(host)
    assert not host.on_host(host.journal).exists()


def test_a_ledger_that_was_given_up_is_not_written_to(directory):
    with opened(directory) as store:
        usages = UsageStore(store.directory)
    usages.put(A, USAGE)
    usages.write()
    assert not list(directory.iterdir())
