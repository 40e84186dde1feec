# SPDX-License-Identifier: Apache-2.0
"""Which tiers unlike machines have, from their trees of files; data/machines has them."""

import random
import shutil
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from memplace.api.v1alpha1 import MemoryTier, TierSpec
from memplace.reasons import Reason
from memplace.topology import resolve_verdicts
from memplace_agent.node.machine import read_machine
from memplace_agent.report import CPUS_MAX, EVIDENCE_MAX, Reports, Retirement, node_status
from memplace_agent.syscalls.features import Features
from memplace_agent.sysfs import read_numa_nodes

from tests.unit.agent_pkg.trees import FOLDER, NAMES, load, plant

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CRD = Path(__file__).parents[3] / "crds/nodememories.yaml"


def memory_tiers(facts):
    return [
        MemoryTier(uid=t["name"], name=t["name"], generation=1, spec=TierSpec(t["numa_nodes"]))
        for t in facts.get("memory_tier", ())
    ]


def machine_of(host, facts):
    return read_machine(host, memory_tiers(facts), "worker-1")


def status_of(machine):
    reports = Reports(numa_nodes=machine.numa_nodes, verdicts=machine.verdicts)
    retirement = Retirement(Reason.ACTIVE)
    return node_status(reports, Features(473, 2), retirement, before=(), version="1", now=NOW)


@pytest.mark.parametrize("name", NAMES)
def test_the_tiers_of_a_machine(tmp_path, name):
    facts = load(name)
    expected = facts["expect"]
    machine = machine_of(plant(tmp_path, facts), facts)
    assert {name: sorted(nodes) for name, nodes in machine.tiers.items()} == expected["tiers"]
    for number, part in expected.get("why", {}).items():
        assert part in machine.verdicts[int(number)].why


@pytest.mark.parametrize("name", NAMES)
def test_the_report_has_the_nodes_with_memory_and_says_why(tmp_path, name):
    facts = load(name)
    status = status_of(machine_of(plant(tmp_path, facts), facts))
    assert [node.id for node in status.numa_nodes] == facts["expect"]["reported"]
    assert all(node.evidence and node.total_bytes for node in status.numa_nodes)
    tiers = {tier.name: list(tier.numa_nodes) for tier in status.tiers}
    assert tiers == facts["expect"]["tiers"]


def test_there_are_machines_of_all_kinds_and_each_says_where_it_is_from():
    assert len(NAMES) >= 15
    for name in NAMES:
        assert "# Facts: " in (FOLDER / f"{name}.toml").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_nodes_does_not_matter(tmp_path, name):
    facts = load(name)
    nodes = list(read_numa_nodes(plant(tmp_path, facts)))
    expected = resolve_verdicts(nodes, memory_tiers(facts), "worker-1")
    for seed in range(5):
        random.Random(seed).shuffle(nodes)
        assert resolve_verdicts(nodes, memory_tiers(facts), "worker-1") == expected


# Not a list, not a number, not a line of a file of lines; too long; nothing.
GARBAGE = st.one_of(
    st.binary(max_size=64).map(lambda tail: b"\xffz" + tail),
    st.sampled_from(
        [
            b"",
            b"0-99999999999999\n",
            b"9" * 70_000,
            b"0," * 40_000,
            b"3-1\n",
            b",\n",
            b"-7\n",
            b"0xfffffffffffffffff\n",
            b"Node 0 MemTotal: x kB\n",
            "٣\n".encode(),
            b"\0",
        ]
    ),
)


class Planted(dict[str, Any]):
    """All machines, and what is right of them; a test puts back what it breaks."""

    def __repr__(self):
        return "the machines"


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("machines")
    found = Planted()
    for name in NAMES:
        facts = load(name)
        host = plant(folder / name, facts)
        files = sorted(p for p in host.proc.parent.rglob("*") if p.is_file() and not p.is_symlink())
        found[name] = (host, facts, files, machine_of(host, facts).verdicts)
    return found


@contextmanager
def spoilt(file, garbage):
    content = file.read_bytes()
    file.write_bytes(garbage)
    try:
        yield
    finally:
        file.write_bytes(content)


def assert_no_new_tier(found, name, file, garbage):
    host, facts, _, right = found[name]
    with spoilt(file, garbage):
        verdicts = machine_of(host, facts).verdicts
    for number, verdict in verdicts.items():
        assert verdict.tier in ("", right[number].tier), (file, garbage, verdict)
        assert len(verdict.why) <= EVIDENCE_MAX


@pytest.mark.parametrize("name", NAMES)
def test_no_file_makes_a_tier_when_it_is_garbage(planted, name):
    for file in planted[name][2]:
        for garbage in (b"", b"\xff\0", b"9" * 70_000, b"-7\n", b"3-1\n"):
            assert_no_new_tier(planted, name, file, garbage)


@given(st.data())
@settings(max_examples=150)
def test_no_garbage_makes_a_tier(planted, data):
    name = data.draw(st.sampled_from(NAMES))
    file = data.draw(st.sampled_from(planted[name][2]))
    assert_no_new_tier(planted, name, file, data.draw(GARBAGE))


@given(st.data())
@settings(max_examples=100)
def test_a_file_that_is_gone_costs_at_most_the_node_it_is_about(planted, data):
    host, facts, _, right = planted[data.draw(st.sampled_from(NAMES))]
    nodes = sorted(p for p in host.numa_nodes.glob("node*") if (p / "cpulist").exists())
    path = data.draw(st.sampled_from(nodes)) / data.draw(st.sampled_from(["cpulist", "meminfo"]))
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        verdicts = machine_of(host, facts).verdicts
    finally:
        aside.rename(path)
    gone = int(path.parent.name.removeprefix("node"))
    with_cpus = [n for n, verdict in right.items() if verdict.tier == "dram"]
    left = {number: verdict for number, verdict in right.items() if number != gone}
    assert verdicts.keys() == left.keys()
    if with_cpus != [gone]:  # without any DRAM there is nothing to compare with
        assert verdicts == left
    assert all(verdicts[n].tier in ("", left[n].tier) for n in left)


@pytest.mark.parametrize("node", ["-1", "1024", "99999999999999999999", "none"])
def test_a_device_of_no_node_may_be_any_nodes(tmp_path, node):
    facts = load("optane-as-memory")
    host = plant(tmp_path, facts)
    (host.dax_memory / "dax0.0/target_node").write_text(f"{node}\n")
    machine = machine_of(host, facts)
    assert machine.tiers == {"dram": {0, 1}}
    assert "may be that of dax0.0" in machine.verdicts[2].why
    assert "by dax1.0" in machine.verdicts[3].why


def test_names_that_are_no_numbers_are_passed_over(tmp_path):
    facts = load("guest-with-hmat")
    host = plant(tmp_path, facts)
    right = machine_of(host, facts)
    for name in ("node1x", "node01", "node1024", "node99999999999", "node٣", "nodes"):
        (host.numa_nodes / name).mkdir()
    for name in ("memory_tier4x", "memory_tier", "memory_tier-1", "memory_tier99999999999"):
        (host.memory_tiers / name).mkdir()
    assert machine_of(host, facts) == right


def test_a_device_that_comes_while_nodes_are_read_is_not_missed(tmp_path, monkeypatch):
    facts = load("optane-as-memory")
    host = plant(tmp_path, facts)
    kmem = host.dax_memory.rename(host.dax_memory.with_name("later"))
    from memplace_agent.sysfs import numa

    def read(number, path, machine, real=numa._read_node):
        if kmem.exists():
            kmem.rename(host.dax_memory)
        return real(number, path, machine)

    monkeypatch.setattr(numa, "_read_node", read)
    assert machine_of(host, facts).tiers == {"dram": {0, 1}}


def test_a_node_in_two_kernel_tiers_is_on_its_way(tmp_path):
    facts = load("kernel-tier-alone")
    facts["tiers"]["memory_tier5"] = "1"
    machine = machine_of(plant(tmp_path, facts), facts)
    assert machine.tiers == {"dram": {0}, "hbm": {2}}


@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ENOMEM"])
@pytest.mark.parametrize("name", ["target_node", "nodelist", "has_cpu", "size", "read_latency"])
def test_the_agents_own_shortage_says_nothing_about_the_machine(tmp_path, monkeypatch, error, name):
    """What was known before stays, so that no rule loses its tier for a moment."""
    import errno

    facts = load("xeon-max-flat") | {"region": load("cxl-region")["region"]}
    host = plant(tmp_path, facts)
    opened = Path.open

    def fail(path, *args, **kwargs):
        if path.name == name:
            raise OSError(getattr(errno, error), "short")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError, match="short"):
        machine_of(host, facts)


def test_what_is_said_of_a_node_fits_the_api(tmp_path):
    crd = yaml.safe_load(CRD.read_text())
    (version,) = crd["spec"]["versions"]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    node = status["properties"]["numaNodes"]["items"]["properties"]
    assert (node["cpus"]["maxLength"], node["evidence"]["maxLength"]) == (CPUS_MAX, EVIDENCE_MAX)
    facts = load("one-node")
    machine = machine_of(plant(tmp_path, facts), facts)
    many = replace(machine.numa_nodes[0], cpus=frozenset(range(0, 8192, 2)))
    (written,) = status_of(replace(machine, numa_nodes=(many,))).numa_nodes
    assert len(written.cpus) == CPUS_MAX


def test_a_machine_without_numa_has_no_tiers(tmp_path):
    host = plant(tmp_path, load("one-node"))
    shutil.rmtree(host.numa_nodes)
    assert machine_of(host, {}).tiers == {}
