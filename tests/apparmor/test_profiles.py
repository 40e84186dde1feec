# SPDX-License-Identifier: Apache-2.0
"""Which profile lets the agent work, on a kernel with AppArmor and containerd's own profile.

Why the chart's default is Unconfined: AppArmor asks both sides, and containerd's profile lets
nobody read a pod who has another profile.
"""

from __future__ import annotations

import threading
import time

import pytest

from tests.apparmor import profiles
from tests.apparmor.profiles import DEFAULT, OWN, UNCONFINED
from tests.support.guest.harness import ON_CXL, Agent, Target, defaults_of, world
from tests.support.guest.newborn import Pause, Runtime, until, without_container, wrong_pages

pytestmark = pytest.mark.guest("apparmor")
CASES = [
    (UNCONFINED, UNCONFINED, True),
    (UNCONFINED, DEFAULT, True),
    (UNCONFINED, "open", True),
    (DEFAULT, UNCONFINED, False),
    (DEFAULT, DEFAULT, True),
    (DEFAULT, "open", False),
    (OWN, UNCONFINED, True),
    (OWN, DEFAULT, False),
    (OWN, "open", True),
]


def placed() -> list[str]:
    found = Agent().settle(world(), seconds=15)
    return [str(found.state), str(found.reason), found.message]


@pytest.mark.parametrize(("agents", "pods", "works"), CASES)
def test_whose_memory_the_agent_may_place(agents: str, pods: str, *, works: bool) -> None:
    profiles.load()
    target = Target(before=profiles.at_exec(pods))
    assert profiles.of(target.pid) == pods
    state, reason, message = profiles.in_child(agents, placed)
    if works:
        assert state == "Placed", (reason, message)
    else:
        assert (state, reason) == ("Failed", "MissingCapability"), message
        assert "AppArmor" in message
        assert "agent.appArmorProfile" in message
    target.end()


@pytest.mark.parametrize(("agents", "works"), [(UNCONFINED, True), (DEFAULT, False)])
def test_only_who_is_unconfined_is_there_before_the_program(agents: str, *, works: bool) -> None:
    # Until it executes the program of the container, a process of runc has no profile.
    profiles.load()
    agent = Agent()
    agent.reconciler.take(without_container())
    stop = threading.Event()

    def run() -> None:
        profiles.take(agents)
        agent.engine.births.run(stop, lambda: None)

    watch = threading.Thread(target=run)
    watch.start()
    try:
        until(lambda: agent.engine.births.is_watching)
        with Pause():
            time.sleep(0.1)
            container = Runtime("b")
            pid = container.wait_ready()
            assert (defaults_of(pid) == ON_CXL) is works
            assert (not wrong_pages(pid)) is works
    finally:
        stop.set()
        agent.engine.births.wake()
        watch.join()
    container.end()
