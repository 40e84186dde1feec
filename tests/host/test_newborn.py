# SPDX-License-Identifier: Apache-2.0
"""A container that is being made has its default before its program runs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support.guest.harness import MIB, ON_CXL, Agent, defaults_of
from tests.support.guest.newborn import (
    Pause,
    Runtime,
    births,
    pages_on_cxl,
    reached,
    seconds_to_force,
    until,
    with_container,
    without_container,
    wrong_pages,
)

pytestmark = pytest.mark.guest("patched")


def check_that_a_new_container_has_its_default(*, busy):
    agent = Agent()
    agent.reconciler.take(without_container())
    with births(agent, busy=busy), Pause() as pause:
        time.sleep(0.1)
        container = Runtime("b")
        pid = container.wait_ready()
        wrong, right = wrong_pages(pid), pages_on_cxl(pid)
        print("FIGURE pages", {"wrong": sum(wrong.values()), "right": right})
        assert not wrong, json.dumps(wrong, indent=1)
        assert right >= 68 * MIB >> 12, right
        assert defaults_of(pid) == ON_CXL, defaults_of(pid)
        assert not defaults_of(pause.pid)
        until(lambda: reached(agent))
    print("FIGURE busy", busy, reached(agent), "in force after", seconds_to_force(agent))
    # The worker takes it over as its own, one that starts anew, too.
    agent = Agent()
    found = agent.settle(with_container(container.id))
    assert found.state == "Placed" and found.rules[0].own_regions == 0, found
    assert not agent.engine.metrics.apply.labels("failed", "")._value.get()
    assert agent.undo()
    assert not defaults_of(pid)
    assert not list(Path("/run/memplace").iterdir())
    container.end()


def test_a_new_container_has_its_default_before_its_program():
    check_that_a_new_container_has_its_default(busy=False)


def test_the_same_beside_a_thread_that_computes():
    check_that_a_new_container_has_its_default(busy=True)


def test_what_was_set_before_a_look_is_undone_by_an_agent_that_never_looked():
    agent = Agent()
    agent.reconciler.take(without_container())
    with births(agent), Pause():
        container = Runtime("c")
        pid = container.wait_ready()
    assert defaults_of(pid) == ON_CXL
    agent = Agent()
    assert agent.undo()
    assert not defaults_of(pid)
    text = Path(f"/proc/{pid}/numa_maps").read_text()
    assert {line.split()[1] for line in text.splitlines()} == {"default"}, text
    container.end()
