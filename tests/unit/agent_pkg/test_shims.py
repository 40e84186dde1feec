# SPDX-License-Identifier: Apache-2.0
"""A pod's shim has the default of the pod's containers: processes of text, real inotify."""

import errno
from dataclasses import replace

import pytest
from memplace.errors import ValidationError
from memplace_agent.containers.shim import Relative, find_shim, why_not
from memplace_agent.engine import shims
from memplace_agent.settings import settings_from_env
from memplace_agent.world import World

from tests.support.agent.build import HEAP_RULE, new_pod
from tests.unit.agent_pkg.shim_ward import DRAM_RULE, NAME, POD, SHIM, ShimWard
from tests.unit.agent_pkg.test_birth import CXL_BOTH, A, B
from tests.unit.agent_pkg.test_to_come import plain


@pytest.fixture
def ward(node, kit):
    made = ShimWard(node, kit)
    yield made
    made.births.close()


# --- a new pod ---


def test_a_shim_gets_it_as_soon_as_the_sandbox_is_its_child(ward):
    ward.expect()
    ward.machine.daemon(45, comm="runc", ppid=SHIM)
    ward.sandbox(parent=45)
    ward.rounds(8)
    assert ward.future(SHIM) == ward.future(45) == {}
    ward.machine.processes[50].ppid = SHIM
    ward.machine.write(50)
    ward.machine.end(45)
    ward.rounds(8)
    assert ward.future(SHIM) == CXL_BOTH
    assert ward.future(50) == {}
    assert [claim.container for claim in ward.shims] == [NAME]


def test_what_it_starts_has_it_without_a_call_and_is_placed_and_undone_as_ours(ward):
    ward.expect()
    ward.sandbox()
    ward.rounds(8)
    made = len(ward.machine.futures)
    ward.machine.fork(SHIM, 100, A)
    ward.rounds()
    ward.machine.execute(100)
    ward.machine.born(100, ward.kit.anon(0x50000000))
    report = ward.full(ward.placement, pods=[new_pod("c0", ids=[A])])
    report = report[("mp", "p", "c0")]
    assert report.state == "Placed" and report.rules[0].own_regions == 0
    assert "OwnPolicy" not in report.message
    assert len(ward.machine.futures) == made and not ward.machine.calls
    assert ward.reached == {"inherited": 1}
    ward.full(pods=[new_pod("c0", ids=[A])])
    assert ward.future(100) == ward.future(SHIM) == {}
    assert set(ward.machine.policies(100).values()) == {None}
    assert not ward.node.claims


def test_the_claim_is_on_disk_before_the_call(ward):
    path = ward.machine.host.journal / f"{NAME}.v3.json"
    seen = []
    ward.machine.on_future = lambda: seen.append(path.exists())
    ward.expect()
    ward.sandbox()
    ward.rounds(8)
    assert seen == [True]


def test_no_call_is_made_if_the_claim_can_not_be_written(ward, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(ward.node.store.directory, "replace", full)
    ward.expect()
    ward.sandbox()
    ward.end()
    ward.node.run(5)
    assert not ward.machine.futures


def test_it_is_off_unless_asked_for(ward):
    ward.node.shims = False
    ward.node.restart()
    ward.births = ward.node.engine.births
    ward.expect()
    ward.sandbox()
    ward.end()
    ward.node.run(15)
    assert not ward.machine.futures and not ward.node.claims


# --- pods that are there ---


def test_a_shim_that_is_there_gets_it_from_a_look(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    assert ward.future(SHIM) == CXL_BOTH
    assert ward.node.metrics.shim_defaults._value.get() == 1
    ward.looked()
    assert ward.future(SHIM) == {} and not ward.node.claims
    assert ward.node.metrics.shim_defaults._value.get() == 0


def test_a_sandbox_that_is_still_being_made_is_looked_at_again_soon(ward):
    ward.machine.daemon(45, comm="runc", ppid=SHIM)
    ward.sandbox(parent=45)
    ward.looked(ward.placement)
    assert ward.future(SHIM) == {}
    ward.machine.processes[50].ppid = SHIM
    ward.machine.write(50)
    ward.machine.end(45)
    ward.node.run(15)
    assert ward.future(SHIM) == CXL_BOTH


def test_one_without_a_shim_is_not_looked_at_all_the_time(ward, monkeypatch):
    looks = []

    def find(*args):
        looks.append(args)
        return find_shim(*args)

    monkeypatch.setattr(shims, "find_shim", find)
    ward.machine.daemon(45, comm="other")
    ward.sandbox(parent=45)
    ward.looked(ward.placement)
    ward.node.run(300)
    assert 8 < len(looks) < 25


@pytest.mark.parametrize("is_called", [False, True])
def test_an_agent_that_starts_anew_takes_away_what_one_before_set(ward, monkeypatch, is_called):
    """It ended before the call, or after it."""
    kernel = type(ward.machine)
    call = kernel.set_future

    def killed(*args):
        if is_called:
            call(*args)
        raise KeyboardInterrupt

    ward.sandbox()
    monkeypatch.setattr(kernel, "set_future", killed)
    with pytest.raises(KeyboardInterrupt):
        ward.looked(ward.placement)
    monkeypatch.setattr(kernel, "set_future", call)
    assert (ward.future(SHIM) == CXL_BOTH) is is_called
    ward.node.restart()
    assert len(ward.shims) == 1
    ward.looked()
    assert ward.future(SHIM) == {} and not ward.node.claims


def test_a_container_that_was_born_while_no_agent_ran_is_given_back_too(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    ward.machine.fork(SHIM, 100, A)
    ward.machine.execute(100)
    ward.machine.born(100, ward.kit.anon(0x50000000))
    ward.node.restart()
    ward.looked(pods=[new_pod("c0", ids=[A])])
    assert ward.future(100) == ward.future(SHIM) == {}
    assert set(ward.machine.policies(100).values()) == {None}
    assert not ward.node.claims


def test_one_that_is_on_its_way_into_the_pod_is_reached_as_well(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    for pid, parent in ((60, SHIM), (61, 60), (62, 61)):
        future = ward.machine.processes[SHIM].future
        ward.machine.daemon(pid, comm="runc", ppid=parent, future=future)
    ward.looked()
    assert [ward.future(pid) for pid in (SHIM, 60, 61, 62)] == [{}] * 4
    assert not ward.node.claims


def test_another_rule_is_set_anew(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    ward.looked(ward.kit.placement(rules=[DRAM_RULE]))
    assert {mode for mode, *_ in ward.future(SHIM).values()} == {"Local"}
    assert len(ward.shims) == 1
    ward.looked()
    assert ward.future(SHIM) == {} and not ward.node.claims


def test_bind_is_never_set(ward):
    ward.sandbox()
    bind = {**HEAP_RULE, "policy": {"mode": "Bind", "tiers": ["cxl"]}}
    ward.looked(ward.kit.placement(rules=[bind]))
    assert ward.future(SHIM) == CXL_BOTH


def test_it_is_taken_away_when_the_containers_have_no_default_in_common_any_more(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    one = ward.kit.placement(rules=[HEAP_RULE], containers=["c0"])
    ward.looked(one, pods=[new_pod("c0", "debugger")])
    assert ward.future(SHIM) == {} and not ward.shims


def test_it_is_taken_away_when_the_pod_is_being_deleted(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    ward.looked(ward.placement, pods=[replace(new_pod(), life="Ended")])
    assert ward.future(SHIM) == {} and not ward.shims


def test_nothing_happens_while_the_placement_is_not_understood(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    ward.looked(pods=[new_pod()], held_pods=frozenset({POD}))
    assert ward.future(SHIM) == CXL_BOTH and len(ward.shims) == 1


def test_retirement_takes_it_away(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    ward.machine.fork(SHIM, 100, A)
    for _ in range(3):
        done, why = ward.node.reconciler.undo_all()
    assert done, why
    assert ward.future(100) == ward.future(SHIM) == {} and not ward.node.claims


def test_a_shim_that_ended_is_forgotten_and_who_has_its_id_now_left_alone(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    theirs = dict(ward.machine.processes[SHIM].future)
    ward.machine.end(50)
    ward.machine.end(SHIM)
    ward.machine.daemon(SHIM, comm="containerd-shim", start_time=901, future=theirs)
    ward.looked()
    assert ward.future(SHIM) == CXL_BOTH and not ward.node.claims


def test_a_new_sandbox_has_a_new_shim(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    ward.machine.end(50)
    ward.machine.end(SHIM)
    ward.machine.daemon(41, comm="containerd-shim", start_time=950)
    ward.machine.start(51, "6" * 64, comm="pause", ppid=41)
    ward.looked(ward.placement)
    assert ward.future(41) == CXL_BOTH
    assert [claim.process.pid for claim in ward.shims] == [41]


def test_a_default_that_somebody_else_set_is_left_alone(ward):
    own = {1: (ward.kit.BIND, 0), 2: (ward.kit.BIND, 0)}
    ward.machine.processes[SHIM].future = own
    ward.machine.write(SHIM)
    ward.sandbox()
    ward.looked(ward.placement)
    assert not ward.machine.futures and not ward.node.claims


def test_a_placement_that_is_deleted_does_not_wait_for_the_next_audit(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    ward.node.run(300)
    ward.node.reconciler.take(World(pods=(new_pod(),)))
    ward.node.run(2)
    assert ward.future(SHIM) == {}


def test_a_look_takes_what_its_shim_gave_a_container_for_ours(ward, monkeypatch):
    ward.sandbox()
    ward.looked(ward.placement)
    monkeypatch.setattr(type(ward.node.reconciler._parts.shims), "_claim_heirs", lambda *_: None)
    ward.machine.fork(SHIM, 100, A)
    report = ward.looked(ward.placement, pods=[new_pod("c0", ids=[A])])[("mp", "p", "c0")]
    assert "left alone" not in report.new_memory
    assert {claim.container for claim in ward.node.claims} == {A, NAME}


# --- who is none ---


def test_one_that_has_a_child_in_another_pod_is_not_touched(ward):
    ward.sandbox()
    ward.machine.start(70, B, pod="uid_q", comm="pause", ppid=SHIM)
    ward.looked(ward.placement)
    assert not ward.machine.futures and not ward.node.claims


def test_it_is_taken_away_from_one_that_gets_a_child_in_another_pod(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    ward.machine.start(70, B, pod="uid_q", comm="pause", ppid=SHIM)
    ward.node.run(120)
    assert ward.future(SHIM) == {} and not ward.shims


def test_one_in_a_pod_that_is_called_so_is_not_touched(ward):
    ward.machine.start(80, A, comm="containerd-shim", ppid=SHIM)
    ward.machine.start(81, A, comm="pause", ppid=80)
    ward.machine.start(90, B, pod="uid_q", comm="containerd-shim")
    ward.sandbox(parent=90)
    ward.looked(ward.placement)
    assert ward.future(80) == ward.future(81) == ward.future(90) == {}


def test_conmon_is_left_alone_and_not_asked_again(ward):
    ward.machine.daemon(42, "crio", comm="conmon")
    ward.expect()
    ward.sandbox(parent=42)
    ward.rounds(8)
    assert f"shim-{POD}" not in ward.births._cradles
    ward.looked(ward.placement)
    assert not ward.machine.futures and not ward.node.claims


PARTS = ("kubepods.slice", "kubepods-podaaaa.slice", f"cri-containerd-{A}.scope")
HERE = "0::/system.slice/containerd.service\n"
PARENT = Relative(40, "containerd-shim", 0, 1, HERE)
CHILD = replace(PARENT, pid=50, name="pause", cgroup="0::/" + "/".join(PARTS) + "\n")


@pytest.mark.parametrize(
    ("parent", "children", "why"),
    [
        (PARENT, [CHILD], ""),
        (PARENT, [CHILD, replace(CHILD, name="runc", cgroup=HERE)], ""),
        (replace(PARENT, cgroup="0::/../../../../system.slice/containerd.service\n"), [CHILD], ""),
        (replace(PARENT, cgroup="0::/kubelet.slice/k3s.service\n"), [CHILD], ""),
        (replace(PARENT, pid=1), [CHILD], "no shim"),
        (replace(PARENT, name="conmon"), [CHILD], "no shim"),
        (replace(PARENT, name="runc"), [CHILD], "no shim"),
        (replace(PARENT, uid=1000), [CHILD], "not root's"),
        (replace(PARENT, namespaces=2), [CHILD], "pid namespace"),
        (replace(PARENT, cgroup=CHILD.cgroup), [CHILD], "in a pod"),
        (replace(PARENT, cgroup=f"0::/../../podcafe/{B}\n"), [CHILD], "in a pod"),
        (replace(PARENT, cgroup=f"0::/../cri-containerd-{B}.scope\n"), [CHILD], "in a pod"),
        (replace(PARENT, cgroup="12:memory:/\n"), [CHILD], "in a pod"),
        (PARENT, [CHILD, replace(CHILD, cgroup="0::/system.slice/ssh.service\n")], "not of this"),
        (PARENT, [CHILD, replace(CHILD, cgroup=f"0::/kubepods.slice/{B}\n")], "not of this"),
    ],
)
def test_who_is_a_shim(parent, children, why):
    said = why_not(parent, children, [PARTS])
    assert (why in said) if why else not said


def test_another_shim_of_text_is_read_back(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    (claim,) = ward.shims
    ward.node.restart()
    assert ward.shims == [claim]
    assert plain(dict.fromkeys([1], claim.defaults[0].policy)) == {1: CXL_BOTH[1]}


def test_the_switch_is_true_or_false():
    assert not settings_from_env({"NODE_NAME": "n"}).shim_default
    assert settings_from_env({"NODE_NAME": "n", "MEMPLACE_SHIM_DEFAULT": "true"}).shim_default
    with pytest.raises(ValidationError, match="write true or false"):
        settings_from_env({"NODE_NAME": "n", "MEMPLACE_SHIM_DEFAULT": "yes"})


def test_turned_off_it_gives_back_what_it_set_when_it_was_on(ward):
    ward.sandbox()
    ward.looked(ward.placement)
    ward.node.shims = False
    ward.node.restart()
    ward.looked(ward.placement)
    assert ward.future(SHIM) == {} and not ward.node.claims
