# SPDX-License-Identifier: Apache-2.0
"""Process 1 of a guest with two NUMA nodes and a kernel that has process_mbind().

Runs the agent on real processes in a real cgroup. Each step prints one line,
``STEP <name> ok`` or ``STEP <name> failed`` after a traceback; test_guest.py reads them.
Where bytes are is read from /proc here, by code that is not the agent's.
"""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness import (
    AGENT,
    HERE,
    MIB,
    Agent,
    Target,
    is_on_cxl,
    keep_capabilities,
    line_of,
    pages_of,
    run_steps,
    scope,
    world,
)
from held import by_nri_each_container_of_a_pod_has_its_own_default_from_the_first_page
from inspecting import inspect_places_a_process_once_and_gives_it_back
from later import (
    a_default_that_is_lost_is_set_again_and_anothers_is_left_alone,
    memory_that_is_mapped_later_is_on_cxl_from_its_first_page,
)
from newborn import (
    a_new_container_has_its_default_before_its_program,
    the_same_beside_a_thread_that_computes,
    what_was_set_before_a_look_is_undone_by_an_agent_that_never_looked,
)
from reading import (
    a_default_for_mappings_to_come_is_read_back,
    a_process_is_read_in_one_go,
    identities_of_processes_are_unique,
    policies_are_read_back_with_their_source,
    policies_of_many_mappings_are_those_of_numa_maps,
    sampling_finds_the_pages_where_they_are,
)
from sharing import (
    a_mapper_of_no_pod_prevents_it,
    a_mapper_that_comes_during_the_work_ends_it_and_what_was_set_comes_back,
    a_mapping_without_a_policy_has_none_to_take_from_the_object,
    memory_without_a_name_is_placed_for_parent_and_child,
    pages_of_a_fork_count_once,
    shared_memory_is_moved_once_and_comes_back_through_another_process,
)
from shims import (
    a_new_shim_with_the_id_of_an_old_one_is_another,
    a_pod_that_ends_takes_the_default_of_its_shim_along,
    an_agent_that_is_killed_leaves_no_default_on_a_shim,
    killed,
    nobody_but_the_shim_of_this_pod_alone_is_touched,
    what_a_shim_starts_has_the_default_before_its_first_instruction,
)

# --- the steps, in order; each leaves the guest as it found it ----------------------------


def probe_finds_the_call():
    from memplace_agent.procfs.query import Way

    assert Agent().way is Way.POLICY


def memory_moves_and_comes_back():
    target = Target()
    start, bound = target.hello["anon"], target.hello["bound"]
    assert set(pages_of(target.pid, start)) == {0}, line_of(target.pid, start)
    agent = Agent()
    found = agent.settle(world())
    assert found.state == "Placed", found
    for address in (start, bound, target.hello["heap"]):
        line = line_of(target.pid, address)
        assert is_on_cxl(line), line
        assert set(pages_of(target.pid, address)) == {1}, line
    measured = {node.id: node.bytes for node in found.rules[0].numa_nodes}
    assert set(measured) == {1} and measured[1] >= 8 * MIB, measured
    assert target.do("check")["intact"]
    assert "prefer" not in line_of(target.pid, target.hello["small"])
    assert agent.undo()
    assert line_of(target.pid, start).split()[1] == "default", line_of(target.pid, start)
    assert line_of(target.pid, bound).split()[1] == "bind:0", line_of(target.pid, bound)
    assert set(pages_of(target.pid, start)) == {1}
    assert not list(Path("/run/memplace").iterdir())
    target.end()


def new_mappings_and_children_are_placed_without_an_event():
    target = Target()
    agent = Agent()
    agent.settle(world())
    later = target.do("map")["start"]
    child = target.do("fork")["pid"]
    moved = agent.until(world(), lambda: set(pages_of(target.pid, later)) == {1})
    assert moved, line_of(target.pid, later)
    own = target.do("child-map")["start"]
    moved = agent.until(world(), lambda: set(pages_of(child, own)) == {1})
    assert moved, line_of(child, own)
    assert set(pages_of(child, target.hello["anon"])) == {1}
    assert agent.undo()
    for pid, address in ((target.pid, later), (child, own), (child, target.hello["anon"])):
        assert line_of(pid, address).split()[1] == "default", line_of(pid, address)
    target.end()


def a_child_that_no_look_has_seen_is_undone_too():
    target = Target()
    start = target.hello["anon"]
    agent = Agent()
    agent.settle(world())
    child = target.do("fork")["pid"]
    assert line_of(child, start).split()[1] == "prefer", line_of(child, start)
    assert agent.undo()
    for pid, address in itertools.product((target.pid, child), (start, target.hello["heap"])):
        assert line_of(pid, address).split()[1] == "default", line_of(pid, address)
    assert line_of(child, target.hello["bound"]).split()[1] == "bind:0"
    assert not list(Path("/run/memplace").iterdir())
    target.end()


def a_killed_agent_is_continued():
    target = Target()
    start = target.hello["anon"]
    Agent.leave()
    runner = subprocess.Popen([sys.executable, str(HERE / "guest.py"), "once"])
    while not list(Path("/run/memplace").glob("*.json")) and runner.poll() is None:
        time.sleep(0.001)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    assert list(Path("/run/memplace").glob("*.json"))
    assert Agent().settle(world()).state == "Placed"
    assert set(pages_of(target.pid, start)) == {1}
    assert Agent().undo()
    assert line_of(target.pid, start).split()[1] == "default"
    assert line_of(target.pid, target.hello["bound"]).split()[1] == "bind:0"
    assert target.do("check")["intact"]
    target.end()


def the_cpuset_of_the_container_bounds_the_plan():
    target = Target()
    (scope() / "cpuset.mems").write_text("0")
    try:
        agent = Agent()
        agent.until(world(), lambda: agent.report.state == "Failed")
        found = agent.report
        assert (found.state, found.reason) == ("Failed", "NotAllowedByCpuset"), found
        assert line_of(target.pid, target.hello["anon"]).split()[1] == "default"
    finally:
        (scope() / "cpuset.mems").write_text("0-1")
    target.end()


def a_changed_cpuset_does_not_hide_our_policy_from_undo():
    target = Target()
    agent = Agent()
    assert agent.settle(world(mode="Bind")).state == "Placed"
    (scope() / "cpuset.mems").write_text("0")
    try:
        # The kernel has remapped our policy to node 0 by now.
        line = line_of(target.pid, target.hello["anon"])
        assert line.split()[1] == "bind=static:0", line
        assert agent.undo()
        line = line_of(target.pid, target.hello["anon"])
        assert line.split()[1] == "default", line
    finally:
        (scope() / "cpuset.mems").write_text("0-1")
    target.end()


def retiring_leaves_nothing_on_the_host():
    from memplace_agent.hostfs import HostFs
    from memplace_agent.retire import remove_host_files
    from memplace_agent.seccomp import install

    target = Target()
    agent = Agent()
    agent.settle(world())
    host = HostFs(seccomp=Path("/run/kubelet/seccomp/memplace"))
    install(host.seccomp, host)
    assert agent.reconciler.undo_all() == (True, "")
    remove_host_files(host)
    assert not host.journal.exists() and not host.seccomp.exists()
    assert host.seccomp.parent.is_dir()
    target.end()


STEPS = (
    probe_finds_the_call,
    memory_moves_and_comes_back,
    new_mappings_and_children_are_placed_without_an_event,
    memory_that_is_mapped_later_is_on_cxl_from_its_first_page,
    a_default_that_is_lost_is_set_again_and_anothers_is_left_alone,
    a_new_container_has_its_default_before_its_program,
    the_same_beside_a_thread_that_computes,
    what_was_set_before_a_look_is_undone_by_an_agent_that_never_looked,
    what_a_shim_starts_has_the_default_before_its_first_instruction,
    an_agent_that_is_killed_leaves_no_default_on_a_shim,
    a_pod_that_ends_takes_the_default_of_its_shim_along,
    a_new_shim_with_the_id_of_an_old_one_is_another,
    nobody_but_the_shim_of_this_pod_alone_is_touched,
    by_nri_each_container_of_a_pod_has_its_own_default_from_the_first_page,
    a_child_that_no_look_has_seen_is_undone_too,
    a_killed_agent_is_continued,
    the_cpuset_of_the_container_bounds_the_plan,
    a_changed_cpuset_does_not_hide_our_policy_from_undo,
    retiring_leaves_nothing_on_the_host,
    policies_are_read_back_with_their_source,
    policies_of_many_mappings_are_those_of_numa_maps,
    a_process_is_read_in_one_go,
    sampling_finds_the_pages_where_they_are,
    a_default_for_mappings_to_come_is_read_back,
    identities_of_processes_are_unique,
    inspect_places_a_process_once_and_gives_it_back,
    shared_memory_is_moved_once_and_comes_back_through_another_process,
    a_mapping_without_a_policy_has_none_to_take_from_the_object,
    memory_without_a_name_is_placed_for_parent_and_child,
    a_mapper_of_no_pod_prevents_it,
    a_mapper_that_comes_during_the_work_ends_it_and_what_was_set_comes_back,
    pages_of_a_fork_count_once,
)


if __name__ == "__main__":
    if sys.argv[1:] == ["once"]:
        keep_capabilities(*AGENT)
        Agent().settle(world())
    elif sys.argv[1:2] == ["shim"]:
        keep_capabilities(*AGENT)
        killed(sys.argv[2])
    else:
        run_steps(STEPS)
