# SPDX-License-Identifier: Apache-2.0
"""``inspect --apply`` and ``--undo``: carry a plan out once, with what the agent does it with.

What is set is written down first, in a directory of its own, so that it can be given back for
as long as the process lives. A process of a pod is left to the agent: two who set policies in
one process take each other's for the program's.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
from memplace.api.v1alpha1 import Placement
from memplace.backends import Act, act_for
from memplace.claim_view import View
from memplace.errors import MemplaceError
from memplace.explained import SCHEMA, ProcessExplained
from memplace.kinds import Capability, Policy
from memplace.ledger import admit
from memplace.matching import Matcher
from memplace.pacing import Limits, Pacer, WaitReason
from memplace.policy import Move
from memplace.reasons import Reason

from memplace_agent.backends.choice import Choice, choose
from memplace_agent.backends.protocol import Backend
from memplace_agent.cli.errors import CommandFailed, Exit
from memplace_agent.cli.options import InspectOptions
from memplace_agent.cli.planning import explained, wish_of
from memplace_agent.cli.reading import Process
from memplace_agent.cli.screen import print_lines, screen
from memplace_agent.cli.table import applied_lines
from memplace_agent.containers.names import pod_of
from memplace_agent.containers.pinning import Pinned
from memplace_agent.engine.apply import PolicySetter
from memplace_agent.engine.build import MOVE_DEADLINE_S, make_backend
from memplace_agent.engine.hands import Hands
from memplace_agent.engine.meant import Meant
from memplace_agent.engine.mover import Mover
from memplace_agent.engine.orders import MoveOrder, MoveRange, Work
from memplace_agent.engine.placer import Outcome, Placer, Wanted
from memplace_agent.engine.survey import Surveyor
from memplace_agent.hostfs import HostFs, read_proc
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.metrics import Metrics
from memplace_agent.node.machine import Machine, merges_pages
from memplace_agent.syscalls import PidFd
from memplace_agent.syscalls.features import Features, probe

_READ_DEADLINE_S = 30.0
# Whoever types it waits for it: as much as the machine gives.
_BANDWIDTH = 1 << 40
# What the mover waits for without an end.
_STUCK = (WaitReason.BACKOFF, WaitReason.TIER_FULL, WaitReason.AGENT_CPUSET)
_ROUNDS = 8
_ONCE = "set no policy, since this kernel can't: new pages follow the program's own policy"


@dataclass(slots=True)
class _Bench:
    # What the agent has for one process, put together.
    host: HostFs
    process: Process
    features: Features
    store: LedgerStore
    choice: Choice
    moved: int = 0
    backend: Backend = field(init=False)
    hands: Hands = field(init=False)

    def __post_init__(self) -> None:
        process = self.process
        kind, system = self.choice.kind, process.system
        self.backend = make_backend(kind, self.host, system, self.features)
        metrics, clock = Metrics(), process.system.clock
        surveyor = Surveyor(
            self.host, process.reader, process.pool, metrics, clock, _READ_DEADLINE_S
        )
        self.hands = Hands(
            process.pool,
            surveyor,
            process.sampler,
            PolicySetter(self.backend),
            metrics,
            clock,
        )

    def mover(self) -> Mover:
        system = self.process.system
        return Mover(
            self.backend,
            self.process.sampler.look,
            system.senses,
            Pacer(Limits(bandwidth=_BANDWIDTH), system.clock()),
            guard=self._guard,
            moved=self._count,
            clock=system.clock,
        )

    def _guard(self, order: MoveOrder, pidfd: PidFd, work: Work) -> None:
        self.process.pool.run(
            lambda turn: work(PidFd(turn.pidfd), turn.check),
            target=order.identity,
            group="",
            deadline_s=MOVE_DEADLINE_S,
            pidfd=pidfd,
        )

    def _count(self, _order: MoveOrder, size: int) -> None:
        self.moved += size


def apply(host: HostFs, options: InspectOptions, placement: Placement, machine: Machine) -> int:
    """Make a process follow a placement, once; returns the exit status."""
    act = act_for(placement.spec, tuple(Capability))
    if act in (Act.PAUSE, Act.TRY):
        what = "spec.paused" if act is Act.PAUSE else "spec.mode: DryRun"
        raise CommandFailed(
            Exit.USAGE,
            f"the manifest has {what}, so nothing would be done: take it out to apply it",
        )
    with _bench(host, options) as bench, bench.process.pinned() as pinned:
        process, can = bench.process, bench.choice.can
        act = _act_here(placement, bench)
        _refuse_pods(host, pinned.pid)
        key = _key(pinned)
        look = process.look(pinned, bench.store.get(key))
        before = explained(look, placement, machine, options, plans=can)
        wanted = Wanted(
            placement=placement,
            act=act,
            can_set=act is Act.PLACE,
            matcher=Matcher(placement.spec.rules),
            container_id=key,
            tiers=machine.tiers,
            known_tiers=machine.known_tiers,
            weights=machine.weights,
            max_mappings=machine.max_mappings,
        )
        begin = time.monotonic()
        survey = bench.hands.read(pinned, "", audit=True)
        outcome = Placer(bench.hands, bench.store, time.time).place(pinned, survey, wanted)
        stuck = _move(bench, pinned, outcome, wanted, options.timeout_s)
        took = time.monotonic() - begin
        look = process.look(pinned, bench.store.get(key))
        after = explained(look, placement, machine, options, plans=can)
        left = wish_of(look, placement, machine, can).plan
        problems = [*(p.message for p in outcome.problems), *stuck]
        problems += [f"rule {p.rule}: {p.message}" for p in left.problems]
        done = _policies(before, after) if act is Act.PLACE else _ONCE
        what = f"{done}; {{moved}} moved in {took:.1f} s"
        told = partial(_show, can_undo=act is Act.PLACE)
        told(options, what, before, after, moved=bench.moved, problems=problems)
        return Exit.OK if left.is_done and not problems else Exit.NOT_WHOLE


def undo(host: HostFs, options: InspectOptions, machine: Machine) -> int:
    """Give back what `apply` has set; pages stay where they are. Returns the exit status."""
    with _bench(host, options) as bench, bench.process.pinned() as pinned:
        key = _key(pinned)
        claim = bench.store.get(key)
        if claim is None:
            raise CommandFailed(Exit.FAILED, f"--apply has set nothing in process {pinned.pid}")
        before = explained(bench.process.look(pinned, claim), None, machine, options)
        given, problems = _give_back(bench, pinned, key)
        after = explained(bench.process.look(pinned), None, machine, options)
        what = f"gave policies back on {given:,} ranges; pages stay where they are"
        _show(options, what, before, after, moved=0, problems=problems)
        return Exit.NOT_WHOLE if problems else Exit.OK


@contextmanager
def _bench(host: HostFs, options: InspectOptions) -> Iterator[_Bench]:
    features = probe(host)
    choice, is_right = choose(features), features.reason is Reason.MISSING_CAPABILITY
    needs = Capability.POLICIES if options.undo else Capability.MOVES
    if features.error is not None and (is_right or needs not in choice.can):
        status = Exit.NOT_PERMITTED if is_right else Exit.NO_KERNEL
        text = str(features.error).rstrip(".")
        raise CommandFailed(status, f"nothing was changed: {text}. {features.error.HELP}")
    directory = _directory()
    try:
        store = LedgerStore.open(directory, host.boot_id.read_text().strip())
    except OSError as err:
        text = f"what is done can't be written down in {directory}: {err}"
        raise CommandFailed(Exit.FAILED, f"nothing was changed: {text}") from err
    try:
        process = Process(host, options.pid, options.walk, features)
        yield _Bench(host, process, features, store, choice)
    finally:
        store.close()


def _act_here(placement: Placement, bench: _Bench) -> Act:
    act = act_for(placement.spec, bench.choice.can)
    if act in (Act.PLACE, Act.MOVE):
        return act
    error = bench.features.error
    assert error is not None  # else policies could be set
    raise CommandFailed(
        Exit.NO_KERNEL,
        f"nothing was changed: {str(error).rstrip('.')}. {error.HELP} Pages can be moved once all "
        "the same: spec.onUnsupported: BestEffort in the manifest asks for that",
    )


def _directory() -> Path:
    # Gone with the boot, as the policies are.
    if os.geteuid() == 0:
        return Path("/run/memplace-inspect")
    return Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.geteuid()}")) / "memplace-inspect"


def _key(pinned: Pinned) -> str:
    # No other process of this boot has the identity.
    return f"process-{pinned.identity}"


def _refuse_pods(host: HostFs, pid: int) -> None:
    parts = read_proc(host.pid(pid) / "cgroup").replace("\n", "/").split("/")
    if any("kubepods" in part or pod_of(part, below_kubepods=False) for part in parts):
        raise CommandFailed(
            Exit.FAILED,
            f"nothing was changed: process {pid} is a pod's, which is the node agent's to place: "
            "kubectl apply the MemoryPlacement",
        )


# --- pages ---


def _move(
    bench: _Bench, pinned: Pinned, outcome: Outcome, wanted: Wanted, timeout_s: float
) -> list[str]:
    # Returns what stayed behind, and why.
    if not outcome.moves:
        return []
    mover, until = bench.mover(), time.monotonic() + timeout_s
    mover.submit(pinned.identity, _orders(bench, pinned, outcome, wanted))
    while progress := mover.progress():
        if all(each.wait in _STUCK for each in progress):
            return [f"rule {p.rule}: {p.text}, then {p.message or p.wait}" for p in progress]
        if time.monotonic() >= until:
            return [f"rule {p.rule}: {p.text}, when the time was over" for p in progress]
        time.sleep(min(mover.step(), 0.2))
    return []


def _orders(bench: _Bench, pinned: Pinned, outcome: Outcome, wanted: Wanted) -> list[MoveOrder]:
    merged = merges_pages(bench.host)
    groups: dict[tuple[str, Policy, int, bool], list[Move]] = {}
    for move, policy in outcome.moves:
        groups.setdefault((move.rule, policy, move.page_size, move.move_all), []).append(move)
    return [
        MoveOrder(
            identity=pinned.identity,
            pid=pinned.pid,
            pin=partial(bench.process.pinner.pidfd, pinned.pid, lambda _: True, pinned.identity),
            namespace="",
            container=_key(pinned),
            placement="",
            rule=rule,
            policy=policy,
            ranges=tuple(MoveRange(move.start, move.end, move.bytes) for move in moves),
            cancel=threading.Event(),
            # Pages that KSM has merged may be other people's.
            move_all=move_all and not merged,
            private_anonymous=move_all,
            page_size=page_size,
            has_policy=wanted.act is Act.PLACE,
            weights=wanted.weights or {},
        )
        for (rule, policy, page_size, move_all), moves in groups.items()
    ]


# --- giving back ---


def _give_back(bench: _Bench, pinned: Pinned, key: str) -> tuple[int, list[str]]:
    given = 0
    for _ in range(_ROUNDS):
        claim = bench.store.get(key)
        survey = bench.hands.read(pinned, "", audit=True)
        if claim is None or survey.incomplete:
            return given, [f"it can't be read: {survey.incomplete}"]
        # Objects have claims of their own, of the agent's.
        regions = [region for region in survey.regions() if not region.in_object]
        claim, meant = admit(claim, survey.process), Meant(survey.image, regions)
        changes = View(claim, survey.process).release(regions)
        if not changes:
            bench.store.drop(key)
            return given, []
        bench.store.put_for_undo(claim)
        report = bench.hands.set(pinned, "", (), meant, undo=changes)
        given += report.done
        if not report.complete:
            told = [text for _, text in report.told(pinned.pid)]
            return given, told or ["some ranges failed"]
    return given, ["it maps memory all the time: try again"]


def _error(error: MemplaceError) -> str:
    return f"{error}. {error.HELP}"


# --- what is said ---


def _policies(before: ProcessExplained, after: ProcessExplained) -> str:
    planned, left = (sum(rule.policies for rule in each.rules) for each in (before, after))
    ranges = max(0, planned - left)
    return f"set policies on {ranges:,} range{'' if ranges == 1 else 's'}"


def _show(
    options: InspectOptions,
    what: str,
    before: ProcessExplained,
    after: ProcessExplained,
    *,
    moved: int,
    problems: list[str],
    can_undo: bool = False,
) -> None:
    if options.output == "json":
        document = {
            "schema": SCHEMA,
            "moved": moved,
            "problems": problems,
            "before": before,
            "after": after,
        }
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
        return
    wide = options.output == "wide"
    lines = applied_lines(what, before, after, screen(), moved=moved, problems=problems, wide=wide)
    print_lines(lines)
    if can_undo:
        print(f"\nundo with: memplace-agent inspect --pid {options.pid} --undo")
