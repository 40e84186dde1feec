# SPDX-License-Identifier: Apache-2.0
"""Memory that a program maps later has its policy from the first page on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.guest.harness import (
    HEAP,
    ON_CXL,
    Agent,
    Target,
    defaults_of,
    is_on_cxl,
    line_of,
    pages_of,
    policies_of,
    world,
)

pytestmark = pytest.mark.guest("patched")


def test_memory_that_is_mapped_later_is_on_cxl_from_its_first_page():
    target = Target()
    agent = Agent()
    found = agent.settle(world(regions=HEAP))
    assert found.state == "Placed", found
    assert "from the first page" in found.new_memory, found
    assert defaults_of(target.pid) == ON_CXL
    # Nobody looks from here on.
    later = target.do("born")
    for address in (later["anon"], later["brk"]):
        assert is_on_cxl(line_of(target.pid, address)), line_of(target.pid, address)
        assert set(pages_of(target.pid, address)) == {1}, line_of(target.pid, address)
    program = target.do("execute")
    assert defaults_of(program["pid"]) == ON_CXL
    assert set(pages_of(program["pid"], program["heap"])) == {1}
    # What was born under it is ours, for an agent that starts anew, too.
    agent = Agent()
    found = agent.settle(world(regions=HEAP))
    assert found.rules[0].own_regions == 0, found
    assert agent.undo()
    for pid in (target.pid, program["pid"]):
        assert not defaults_of(pid)
        assert policies_of(pid) <= {"default", "bind:0"}, policies_of(pid)
    later = target.do("born")  # joins what was there
    for address in (later["anon"], later["brk"]):
        assert pages_of(target.pid, address).get(0), line_of(target.pid, address)
    assert not list(Path("/run/memplace").iterdir())
    target.end()


def test_a_default_that_is_lost_is_set_again_and_anothers_is_left_alone():
    from memplace.kinds import Mode, Policy
    from memplace_agent.syscalls import MPOL_FUTURE_BRK, MPOL_FUTURE_MMAP

    target = Target()
    agent = Agent()
    wanted = world(regions=[{"type": "Brk"}, {"type": "Anonymous", "minSize": "32Ki"}])
    agent.settle(wanted)
    on_cxl = {
        "Mpol_future_brk": "prefer (many)=static:1 exec",
        "Mpol_future_mmap": "prefer (many)=static:1 min:32768 exec",
    }
    assert defaults_of(target.pid) == on_cxl
    kernel = agent.engine.system.kernel
    pidfd = kernel.pidfd_open(target.pid)
    kernel.set_future(pidfd, Policy(Mode.DEFAULT), MPOL_FUTURE_BRK | MPOL_FUTURE_MMAP, 0)
    assert not defaults_of(target.pid)
    agent = Agent()  # one that looks at once
    agent.settle(wanted)
    assert defaults_of(target.pid) == on_cxl
    kernel.set_future(pidfd, Policy(Mode.PREFERRED, frozenset({0})), MPOL_FUTURE_MMAP, 0)
    os.close(pidfd)
    agent = Agent()
    agent.settle(wanted)
    assert "has a default of its own" in agent.report.new_memory, agent.report
    assert agent.undo()
    assert defaults_of(target.pid) == {"Mpol_future_mmap": "prefer:0 exec"}
    target.end()
