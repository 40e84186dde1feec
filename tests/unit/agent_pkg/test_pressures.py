# SPDX-License-Identifier: Apache-2.0
"""Each container's memory pressure, felt in a bounded time, and said in the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from memplace.kinds import Pressure
from memplace.pressure import FALL_S, RISE_S
from memplace_agent.cluster.kinds import Kind
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.engine.pressures import BEAT_S, Pressures
from memplace_agent.metrics import Metrics

from tests.unit.agent_pkg.test_paused import ONE
from tests.unit.agent_pkg.test_worker import Agent
from tests.unit.agent_pkg.test_world import RUNNING, placement, pod

METRIC = "memplace_agent_container_memory_pressure"
C0 = "a" * 64
LINES = "some avg10={0:.2f} avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 total=0\n"


class Site:
    """Cgroups with figures, and a clock."""

    def __init__(self, took_s: float = 0.0) -> None:
        self.figures: dict[str, float | None] = {}
        self.now, self.spent, self.took_s = 1000.0, 0.0, took_s
        self.reads: list[str] = []
        self.metrics = Metrics()
        self.pressures = Pressures(self.metrics, lambda: self.now, lambda: self.spent, self.read)

    def read(self, path: Path) -> float | None:
        self.reads.append(path.name)
        self.spent += self.took_s
        return self.figures[path.name]

    def beat(self) -> bool:
        self.now += 1
        return self.pressures.beat(
            {id_: CgroupRef(Path("/cg"), Path("/cg") / id_, "u") for id_ in self.figures}
        )

    def said(self, word: str) -> float | None:
        return self.metrics.registry.get_sample_value(METRIC, {"pressure": word})


def test_a_change_of_the_word_is_news_and_nothing_else_is() -> None:
    site = Site()
    site.figures = {"a": 0.0}
    assert site.beat()
    assert site.pressures.of("a") is Pressure.LOW
    assert not any(site.beat() for _ in range(100))
    site.figures["a"] = 40.0
    news = [site.beat() for _ in range(100)]
    assert news.count(True) == 1
    assert RISE_S <= news.index(True) <= RISE_S + 2 * BEAT_S
    assert (site.pressures.of("a"), site.said("High"), site.said("Low")) == (Pressure.HIGH, 1, 0)
    site.figures["a"] = 0.0
    news = [site.beat() for _ in range(100)]
    assert news.count(True) == 1
    assert FALL_S <= news.index(True) <= FALL_S + 2 * BEAT_S


def test_who_is_new_is_felt_at_once_and_who_has_gone_is_forgotten() -> None:
    site = Site()
    site.figures = {"a": 0.0}
    site.beat()
    site.reads.clear()
    site.figures = {"a": 0.0, "b": 40.0}
    site.now -= 0.5
    assert site.beat() and site.reads == ["b"]
    assert site.pressures.of("b") is Pressure.HIGH
    del site.figures["b"]
    for _ in range(3):
        site.beat()
    assert site.pressures.of("b") is Pressure.UNKNOWN
    assert site.said("High") == 0


def test_it_is_felt_in_a_bounded_part_of_a_core() -> None:
    site = Site(took_s=0.001)
    site.figures = dict.fromkeys(map(str, range(200)), 0.0)
    begin = site.now
    for _ in range(1000):
        site.beat()
    assert 0 < site.spent <= 0.006 * (site.now - begin) + 0.2


def write(cgroup: Any, figure: float | None) -> None:
    file = cgroup / "memory.pressure"
    if figure is None:
        file.unlink(missing_ok=True)
    else:
        file.write_text(LINES.format(figure))


@pytest.mark.parametrize(
    ("figure", "word"), [(0.0, "Low"), (3.0, "Raised"), (30.0, "High"), (None, "Unknown")]
)
def test_a_report_has_it_from_the_first_on(node, kit, figure, word) -> None:
    node.machine.start(100, C0, kit.heap())
    write(node.machine.cgroup(C0), figure)
    report = node.full(kit.placement())[ONE]
    assert report.memory_pressure == word


def test_it_is_said_of_a_container_that_nothing_changes_in(node, kit) -> None:
    """No look is due: the beat alone has it written, once for each change of the word."""
    uid = pod(RUNNING)["metadata"]["uid"]
    node.machine.start(100, C0, kit.heap(), kit.anon(), pod=uid)
    cgroup = node.machine.cgroup(C0, pod=uid)
    write(cgroup, 0.0)
    agent = Agent(node).list((Kind.PLACEMENT, placement()), (Kind.POD, pod(RUNNING)))

    def word() -> str:
        (report,) = agent.status.placements
        return str(report.pods[0].containers[0].memory_pressure)

    assert word() == "Low"
    agent.run(120)
    before = len(agent.sink.published)
    write(cgroup, 30.0)
    agent.run(RISE_S + 6)
    assert word() == "High"
    written = len(agent.sink.published) - before
    agent.run(120)
    write(cgroup, 12.0)
    agent.run(120)
    assert len(agent.sink.published) - before == written == 1
