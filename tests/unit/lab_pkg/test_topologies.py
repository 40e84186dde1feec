# SPDX-License-Identifier: Apache-2.0
"""Who wants a cluster is told of each topology, by the page and by make."""

import re
import tomllib
from pathlib import Path

from memplace_lab.machines.topology import TOPOLOGIES

ROOT = Path(__file__).parents[3]


def test_the_page_has_a_row_for_each() -> None:
    table = (ROOT / "docs/lab.md").read_text().split("| topology |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == list(TOPOLOGIES)


def test_the_help_of_make_names_each() -> None:
    (named,) = re.findall(r"^lab-up:.*\(TOPOLOGY=(.*)\)", (ROOT / "Makefile").read_text(), re.M)
    assert re.split(", | or ", named) == list(TOPOLOGIES)


def test_the_agents_tests_have_the_figures_of_the_labs_worker() -> None:
    machine = ROOT / "tests/unit/agent_pkg/data/machines/guest-with-hmat.toml"
    nodes = TOPOLOGIES["hmat"][0].hardware.nodes
    recorded = tomllib.loads(machine.read_text())["node"]
    assert [one["figures"] for one in recorded] == [
        [node.latency_ns, node.bandwidth_mbs] for node in nodes
    ]
