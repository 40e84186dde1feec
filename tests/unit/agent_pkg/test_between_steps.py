# SPDX-License-Identifier: Apache-2.0
"""A container ends, or becomes another one, between any two steps of what the agent does to it.

Four of the steps, other ones each time; tests/faults tries each of them.
"""

import pytest

from tests.support.agent.between import ACTIONS, CASES, EVENTS, Scene, compare, odd_words


@pytest.mark.parametrize(("what", "event"), CASES, ids=map("-".join, CASES))
def test_whenever_it_happens_all_ends_as_well(what, event, caplog):
    compare(ACTIONS[what], EVENTS[event], 4)
    assert odd_words(caplog.records) == []


def test_what_counts_as_a_step(tmp_path):
    """Calls, files of processes and of the ledger, and nothing that the machine does itself."""
    scene = Scene(tmp_path)
    with scene.machine.steps.counted() as steps:
        scene.full(*ACTIONS["place"].then)
    seen = steps.names
    calls = {"pidfd_open", "is_alive", "read_vmas", "set_future", "process_mbind", "page_nodes"}
    assert calls <= {*seen}
    assert {"open /proc/100/status", "open /proc/100/cgroup"} <= {*seen}
    assert any(each.startswith(f"os.rename .{'a' * 64}") for each in seen)
    assert not any(each.startswith("open /proc/100/maps") for each in seen)
