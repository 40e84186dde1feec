# SPDX-License-Identifier: Apache-2.0
"""`inspect --apply` and `--undo`, on a machine whose kernel has process_mbind()."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from memplace.claims import DEFAULT
from memplace.errors import (
    KernelWithoutMovePages,
    KernelWithoutProcessMbind,
    MissingCapability,
)
from memplace.kinds import Capability
from memplace_agent.cli import applying, inspect
from memplace_agent.cli.errors import Exit
from memplace_agent.cli.reading import Process
from memplace_agent.containers.identity import Identities
from memplace_agent.engine.build import System
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.node.senses import Senses
from memplace_agent.procfs.process import Reader
from memplace_agent.procfs.query import Way
from memplace_agent.syscalls.features import Features

from tests.support.agent.machine import BIND, HEAP, MIB, Machine
from tests.support.agent.mappings import Vma
from tests.support.agent.node import FLAGS, anon, heap

PLACEMENT = """\
apiVersion: memplace.dev/v1alpha1
kind: MemoryPlacement
metadata: {name: mp}
spec:
  selector: {}
  rules:
  - name: heap
    regions: [{type: Heap}]
    policy: {mode: PreferredMany, tiers: [cxl]}
"""
SOMEWHERE = 0x20000000


@pytest.fixture(params=[Way.POLICY, Way.MAPS])
def machine(request, tmp_path, monkeypatch):
    machine = Machine(tmp_path / "machine")
    machine.start(100, "a" * 64, heap(), anon(SOMEWHERE))
    (machine.host.pid(100) / "cgroup").write_text("0::/user.slice\n")
    (machine.host.proc / "self").mkdir()
    (machine.host.proc / "self/numa_maps").touch()  # this kernel has the file
    (tmp_path / "p.yaml").write_text(PLACEMENT)
    monkeypatch.chdir(tmp_path)
    system = System(
        kernel=machine,
        reader=Reader(machine.host, machine, request.param, ask=machine.read_vmas),
        identities=Identities(unique_inodes=True),
        senses=Senses(machine.host),
        ask=machine.page_nodes,
        move=machine.move_pages,
        present=machine.present,
    )
    monkeypatch.setattr("memplace_agent.cli.reading.running_system", lambda *_: system)
    monkeypatch.setattr(inspect, "host_from_env", lambda _: machine.host)
    monkeypatch.setattr(applying, "probe", lambda _: Features(473, 2, flags=FLAGS))
    monkeypatch.setattr(applying, "_directory", lambda: tmp_path / "ledger")
    return machine


def run(*args):
    return inspect.main(["--pid", "100", *args])


def apply(*args):
    return run("-f", "p.yaml", "--apply", *args)


def pages(machine):
    return {vma.start: vma.pages for vma in machine.processes[100].vmas if vma.pages}


def test_a_plan_is_carried_out_and_before_and_after_are_shown(machine, capsys):
    assert apply() == Exit.OK
    assert all(set(found) == {1} for found in pages(machine).values())
    out = capsys.readouterr().out
    assert "done: set policies on 2 ranges; 2.0 MiB moved in" in out
    assert re.search(r"^  cxl +0 B +2.0 MiB$", out, re.M)
    assert re.search(r"^  dram +2.0 MiB +0 B$", out, re.M)
    assert "undo with: memplace-agent inspect --pid 100 --undo" in out
    assert "PreferredMany:1+" in out and "+ memplace has set this policy" in out


def test_what_was_applied_can_be_undone_and_pages_stay(machine, capsys):
    apply()
    moved = pages(machine)
    assert run("--undo") == Exit.OK
    assert all(vma.policy in (None, DEFAULT) for vma in machine.processes[100].vmas)
    assert pages(machine) == moved
    assert "gave policies back on 2 ranges" in capsys.readouterr().out
    assert run("--undo") == Exit.FAILED
    assert "has set nothing in process 100" in capsys.readouterr().err


WORDS = [("paused: true", "spec.paused"), ("mode: DryRun", "spec.mode: DryRun")]


def saying(word):
    file = Path("p.yaml")
    file.write_text(file.read_text().replace("spec:\n", f"spec:\n  {word}\n"))


def inspected(capsys):
    assert run("-f", "p.yaml", "-o", "json") == Exit.OK
    process = json.loads(capsys.readouterr().out)["process"]
    return process, {region["plan"] for region in process["regions"]} - {""}


@pytest.mark.parametrize(("word", "said"), WORDS)
def test_a_manifest_by_which_nothing_is_done_is_not_applied(machine, capsys, word, said):
    saying(word)
    assert apply() == Exit.USAGE
    assert f"the manifest has {said}" in capsys.readouterr().err
    assert not machine.calls


def test_a_manifest_that_pauses_has_no_plan(machine, capsys):
    saying("paused: true")
    process, regions = inspected(capsys)
    (rule,) = process["rules"]
    assert rule["plan"][0].startswith("spec.paused:") and len(rule["plan"]) == 1 and not regions


def test_a_dry_run_has_the_plan_of_the_rules_and_says_that_it_is_none(machine, capsys):
    saying("mode: DryRun")
    process, regions = inspected(capsys)
    assert process["rules"][0]["plan"][0].startswith("mode DryRun: nothing is changed")
    assert regions == {"set PreferredMany:1, move to 1"}


@pytest.mark.parametrize("can", [{Capability.MOVES}, set(Capability)])
def test_a_kernel_that_can_set_no_policies_is_said(machine, capsys, monkeypatch, can):
    monkeypatch.setattr(inspect, "choice_of", lambda _: SimpleNamespace(can=can))
    process, regions = inspected(capsys)
    said = any("this kernel can set no policies" in note for note in process["notes"])
    assert said == (Capability.POLICIES not in can)
    assert regions == {"set PreferredMany:1, move to 1"}


def test_undo_leaves_the_policies_of_objects_to_who_set_them(machine, capsys):
    apply()
    agents = ((0, 1), 9)
    machine.objects.set(agents, 0, MIB, machine.processes[100].vmas[0].policy)
    where = SOMEWHERE + 16 * MIB
    machine.map(100, Vma(where, where + MIB, "/dev/shm/x", "rw-s", 9, device=(0, 1)))
    assert run("--undo") == 0
    assert "/dev/shm/x" in machine.policies(100)
    assert machine.objects.ranges(agents)
    assert machine.policies(100)["[heap]"] is None


def test_applying_again_finds_nothing_to_do(machine, capsys):
    apply()
    calls = len(machine.calls)
    assert apply() == Exit.OK
    assert len(machine.calls) == calls
    assert "nothing: 2 mappings as the rule wants it" in capsys.readouterr().out


def test_a_program_s_own_policy_is_left_alone(machine, capsys):
    machine.map(100, anon(0x40000000, policy=BIND))
    assert apply() == Exit.OK
    assert machine.policies(100)["0x40000000"] == BIND
    assert "leave 1 mapping alone" in capsys.readouterr().out


def test_pages_that_stay_are_told_and_the_status_says_so(machine, capsys):
    machine.map(100, anon(0x40000000, stuck=True))
    assert apply("--timeout", "3", "-o", "json") == Exit.NOT_WHOLE
    document = json.loads(capsys.readouterr().out)
    assert document["problems"] and document["problems"][0].startswith("rule heap: Moving: ")
    assert document["after"]["rules"][0]["misplaced"] == MIB
    assert document["moved"] == 2 * MIB


def test_json_has_both_states(machine, capsys):
    assert apply("-o", "json") == Exit.OK
    document = json.loads(capsys.readouterr().out)
    assert sorted(document) == ["after", "before", "moved", "problems", "schema"]
    assert document["before"]["byTier"] == [{"name": "dram", "bytes": 2 * MIB}]
    assert document["after"]["byTier"] == [{"name": "cxl", "bytes": 2 * MIB}]


def test_another_process_with_the_pid_is_never_touched(machine, capsys, monkeypatch):
    look = Process.look

    def replaced(self, pinned, claim=None):
        found = look(self, pinned, claim)
        machine.end(100)
        machine.start(100, "b" * 64, heap(), anon(SOMEWHERE))
        return found

    monkeypatch.setattr(Process, "look", replaced)
    assert apply() == Exit.NO_PROCESS
    assert not machine.calls
    assert "process 100 has ended" in capsys.readouterr().err


def test_another_process_with_the_pid_has_nothing_to_undo(machine, capsys):
    apply()
    machine.end(100)
    machine.start(100, "b" * 64, heap(policy=None))
    calls = len(machine.calls)
    assert run("--undo") == Exit.FAILED
    assert len(machine.calls) == calls


@pytest.mark.parametrize(
    "group",
    [
        "/kubepods.slice/kubepods-podx.slice/c",
        "/kubelet/pod7c0e9a52-0000-4000-8000-000000000000/c",
        "/../../kubepods-besteffort.slice/x.scope",
    ],
)
def test_a_pod_s_process_is_left_to_the_agent(machine, capsys, group):
    (machine.host.pid(100) / "cgroup").write_text(f"0::{group}\n")
    assert apply() == Exit.FAILED
    assert "kubectl apply the MemoryPlacement" in capsys.readouterr().err
    assert not machine.calls


def test_two_at_a_time_are_not_let_in(machine, capsys):
    store = LedgerStore.open(applying._directory(), "7c0e")
    assert apply() == Exit.FAILED
    assert "nothing was changed" in capsys.readouterr().err and not machine.calls
    store.close()


def test_a_missing_right_is_told_from_a_missing_kernel(machine, monkeypatch, capsys):
    error = MissingCapability("the agent runs without SYS_NICE.")
    monkeypatch.setattr(applying, "probe", lambda _: Features(None, error=error))
    assert apply() == Exit.NOT_PERMITTED
    assert "SYS_NICE" in capsys.readouterr().err


STOCK = Features(None, error=KernelWithoutProcessMbind("no call."))


@pytest.fixture
def stock(machine, monkeypatch):
    """The same machine with a kernel that can move pages and set no policies."""
    monkeypatch.setattr(applying, "probe", lambda _: STOCK)
    return machine


def test_a_stock_kernel_moves_pages_once_if_that_is_asked_for(stock, capsys):
    saying("onUnsupported: BestEffort")
    stock.map(100, anon(0x40000000, policy=BIND))
    assert apply() == Exit.OK
    assert pages(stock)[SOMEWHERE] == {1: 256} and pages(stock)[0x40000000] == {0: 256}
    assert set(stock.policies(100).values()) == {None, BIND} and not stock.calls
    out = capsys.readouterr().out
    assert "done: set no policy, since this kernel can't" in out and "2.0 MiB moved in" in out
    assert "undo with" not in out and "again and again" not in out
    assert run("--undo") == Exit.NO_KERNEL


def test_a_stock_kernel_does_nothing_unasked_and_says_what_to_write(stock, capsys):
    assert apply() == Exit.NO_KERNEL
    assert "spec.onUnsupported: BestEffort in the manifest" in capsys.readouterr().err
    assert set(pages(stock)[SOMEWHERE]) == {0}


def test_a_kernel_that_can_do_neither_says_why(machine, monkeypatch, capsys):
    features = replace(STOCK, move_error=KernelWithoutMovePages("no such call."))
    monkeypatch.setattr(applying, "probe", lambda _: features)
    saying("onUnsupported: BestEffort")
    assert apply() == Exit.NO_KERNEL
    assert "nothing was changed: no call" in capsys.readouterr().err


def test_without_apply_nothing_is_changed(machine, capsys):
    assert run("-f", "p.yaml") == Exit.OK
    assert not machine.calls
    out = capsys.readouterr().out
    assert "move 2.0 MiB from NUMA node 0 (dram) to NUMA node 1 (cxl)" in out
    assert f"{HEAP:#x}" not in out


def test_what_could_not_be_set_is_not_called_done(machine, capsys):
    limit = machine.host.proc / "sys/vm/max_map_count"
    limit.parent.mkdir(parents=True)
    limit.write_text("3\n")
    assert apply() == Exit.NOT_WHOLE
    out = capsys.readouterr().out
    assert "done: set policies on 0 ranges; 0 B moved" in out
    assert "problem: a process has 3 mappings of the 3 it may have" in out
