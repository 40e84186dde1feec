# SPDX-License-Identifier: Apache-2.0
"""What happens to a container between any two steps of what an agent does to it."""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from memplace.api.v1alpha1 import Placement
from memplace.errors import KernelWithoutProcessMbind
from memplace_agent.procfs.query import Way

from tests.support.agent.machine import BIND
from tests.support.agent.node import Node, anon, heap, interleave, overriding, placement, pod
from tests.support.agent.steps import SteppedMachine

_CHANGES = frozenset({"process_mbind", "set_future", "move_pages"})
# Like /run; fsync() costs nothing there.
_TMPFS = "/dev/shm"
A, B = "a" * 64, "b" * 64
FIRST, SECOND, NOBODYS = 100, 101, 300
BEFORE = {"[heap]": BIND}
OURS = placement(rules=[overriding()])
WITH_PAGES = placement(rules=[overriding()], onDelete="RestorePages")
OTHER = placement(rules=[interleave()])
BEST_EFFORT = placement(rules=[overriding()], onUnsupported="BestEffort")


class _Worker:
    """The reconciler, whose thread takes a new world between two steps and at no other time."""

    def __init__(self, reconciler):
        self._reconciler, self._news, self._is_busy = reconciler, None, False

    def __getattr__(self, name):
        return getattr(self._reconciler, name)

    def step(self):
        return self._alone(self._reconciler.step)

    def audit(self):
        self._alone(self._reconciler.audit)

    def hear(self, world):
        self._news = world
        if not self._is_busy:
            self._take()

    def _alone(self, call):
        self._is_busy = True
        try:
            return call()
        finally:
            self._is_busy = False
            self._take()

    def _take(self):
        news, self._news = self._news, None
        if news is not None:
            self._reconciler.take(news)


class Scene:
    """A container with two processes, one of nobody's, and an agent.

    Its first process is the one that things happen to.
    """

    def __init__(self, root, *, moves_only=False):
        self.machine = SteppedMachine(root)
        self.start(FIRST, A)
        self.start(SECOND, A)
        self.strangers = [self.start(NOBODYS, B)]
        # From the API, and from there and the node.
        self.pod_is_gone = self.is_gone = False
        self.node = Node(root, self.machine)
        if moves_only:
            self.node.unsupported = KernelWithoutProcessMbind("this kernel does not announce it.")
            self.node.way = Way.MAPS
            self.node.start()
        self.worker = _Worker(self.node.reconciler)
        self.node.reconciler = self.worker  # type: ignore[assignment]
        self.rest()
        self.fds = fds_below(root)

    def start(self, pid, container):
        vmas = (heap(policy=BIND), anon())
        self.machine.start(pid, container, *vmas, pod="uid_p" if container == A else "uid_q")
        return self.machine.processes[pid]

    def full(self, *placements, seconds=15.0):
        return self.node.full(*placements, pods=[pod()], seconds=seconds)

    def rest(self):
        """There is nothing to do, for as long as it takes to believe it."""
        self.node.full(pods=[], seconds=60)

    @property
    def state(self):
        """All that the agent may change, of each process."""
        return {
            pid: (self.machine.policies(pid), dict(each.future), [v.pages for v in each.vmas])
            for pid, each in self.machine.processes.items()
        }

    # --- what may happen ---

    def exit(self):
        self.machine.end(FIRST)

    def is_reused(self):
        """Another container's process has the number by now."""
        self.exit()
        self.strangers.append(self.start(FIRST, B))

    def is_renewed(self):
        """Another process of the same container has the number by now."""
        self.exit()
        self.start(FIRST, A)

    def execs(self):
        self.machine.execute(FIRST, anon(), anon(0x30000000))

    def execs_with_privileges(self):
        self.machine.execute(FIRST, anon(), anon(0x30000000), privileged=True)

    def container_ends(self):
        for pid in (FIRST, SECOND):
            self.machine.end(pid)
        shutil.rmtree(self.machine.cgroup(A))

    def pod_is_deleted(self):
        """From the API; its processes have some time to end."""
        self.pod_is_gone = True
        self.worker.hear(replace(self.node.world, pods=()))

    def all_goes(self):
        self.is_gone = True
        self.container_ends()
        self.pod_is_deleted()


EVENTS = {
    "exit": Scene.exit,
    "reused": Scene.is_reused,
    "renewed": Scene.is_renewed,
    "exec": Scene.execs,
    "exec-with-privileges": Scene.execs_with_privileges,
    "container-ends": Scene.container_ends,
    "pod-deleted": Scene.pod_is_deleted,
    "all-goes": Scene.all_goes,
}


def fds_below(root):
    """Return the files below a directory that this process has open, each as often as it has."""
    mine = Path("/proc/self/fd")
    found = []
    for fd in mine.iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the loop itself
            found.append(str(fd.readlink()))
    return sorted(each for each in found if each.startswith(f"{root}/"))


@dataclass(frozen=True)
class Action:
    """What an agent does: the placement before it, the one that makes the agent do it."""

    before: tuple[Placement, ...] = ()
    then: tuple[Placement, ...] = ()
    seconds: float = 15.0
    moves_only: bool = False


ACTIONS = {
    "place": Action(then=(OURS,)),
    "look-again": Action((OURS,), (OURS,), seconds=65.0),
    "change": Action((OURS,), (OTHER,)),
    "undo": Action((OURS,)),
    "undo-with-pages": Action((WITH_PAGES,)),
    "move-only": Action(then=(BEST_EFFORT,), moves_only=True),
}
# move_pages(2) knows a process by its number: between the last question whether it lives and
# the call is a moment in which nobody can help.
NOT_FOR = {("move-only", "reused")}
CASES = [(what, event) for what in ACTIONS for event in EVENTS if (what, event) not in NOT_FOR]


def played(root, action, event=lambda _: None, at=0):
    """Have an agent do something, an event before a step of that; returns the scene afterwards."""
    scene = Scene(root, moves_only=action.moves_only)
    if action.before:
        scene.full(*action.before)
    scene.machine.touched.clear()
    with scene.machine.steps.counted(at, lambda: event(scene)):
        scene.full(*action.then, seconds=action.seconds)
    scene.node.run(60)
    return scene


def compare(action, event, count):
    """Let something happen before so many steps, each in a scene of its own; all end as one.

    There is one of each kind of call that matters most, and then more calls that change something.
    """
    with tempfile.TemporaryDirectory(dir=_TMPFS) as folder:
        # Here it happens when all is done.
        expected = played(Path(folder) / "scene", action, event)
        steps = [*enumerate(expected.machine.steps.names, 1)]
        expected.node.store.close()
    random.shuffle(steps)
    of_each_kind = {name: at for at, name in steps if name in {"pidfd_open", *_CHANGES}}
    rest = sorted(steps, key=lambda step: step[1] not in _CHANGES)
    ordered = dict.fromkeys([*of_each_kind.values(), *(at for at, _ in rest)])
    for at in [*ordered][:count]:
        with tempfile.TemporaryDirectory(dir=_TMPFS) as folder:
            scene = played(Path(folder) / "scene", action, event, at)
            last = scene.machine.steps.last
            problem = problem_of(scene, expected.state)
            scene.node.store.close()
        assert not problem, f"before step {at}, {last}: {problem}"


def problem_of(scene, expected):
    """Return what is not as it should be; undoes all to find out."""
    machine = scene.machine
    if scene.state != expected and not scene.pod_is_gone:
        return f"{scene.state} instead of {expected}"
    if any(each in machine.touched for each in scene.strangers):
        return "a process of another container was touched"
    if scene.is_gone and scene.node.claims:
        return f"nobody is left, and of that is claimed {scene.node.claims}"
    scene.full(seconds=60)
    left = [*scene.node.claims, *machine.host.journal.iterdir()]
    if left:
        return f"not undone: {left}"
    for pid, (policies, futures, _) in scene.state.items():
        if futures or any(policy != BEFORE.get(at) for at, policy in policies.items()):
            return f"not as before: {pid}: {policies} {futures}"
    scene.rest()
    fds = fds_below(machine.root)
    return f"open before {scene.fds}, and afterwards {fds}" if fds != scene.fds else ""


def odd_words(records):
    """Return what was logged as odd, but for what follows when a program is another one."""
    said = [each.getMessage() for each in records if each.levelname != "INFO"]
    return [text for text in said if text != "policies on other mappings taken back"]
