# SPDX-License-Identifier: Apache-2.0
"""Put the engine together: what works with what, on a node as it was probed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from memplace.pacing import Limits, Pacer, spare_bytes
from memplace.results import bytes_per_tier

from memplace_agent.backends.choice import Choice, choose
from memplace_agent.backends.move_pages import MovePages
from memplace_agent.backends.observe import Nothing, Observe
from memplace_agent.backends.process_mbind import ProcessMbind
from memplace_agent.backends.protocol import Backend
from memplace_agent.containers.identity import Identities, probe_identities
from memplace_agent.containers.pinning import Pinner
from memplace_agent.containers.refs import CgroupRef
from memplace_agent.engine.apply import PolicySetter
from memplace_agent.engine.birth import Births
from memplace_agent.engine.census import Census
from memplace_agent.engine.duelist import DueList, Pace
from memplace_agent.engine.explainer import Explainer
from memplace_agent.engine.hands import Hands
from memplace_agent.engine.look import Looker
from memplace_agent.engine.measure import Sampler
from memplace_agent.engine.mover import Mover
from memplace_agent.engine.objects import Objects
from memplace_agent.engine.orders import Follows, MoveOrder, Work, follows_as_taken
from memplace_agent.engine.parts import Parts
from memplace_agent.engine.placer import Placer
from memplace_agent.engine.pool import Pool
from memplace_agent.engine.pressures import Pressures
from memplace_agent.engine.programs import Programs
from memplace_agent.engine.pulse import Pulse
from memplace_agent.engine.reconcile import Reconciler
from memplace_agent.engine.sharing import Sharing
from memplace_agent.engine.shims import Shims
from memplace_agent.engine.survey import Surveyor
from memplace_agent.engine.undo import Undoer
from memplace_agent.engine.upgrade import import_journal
from memplace_agent.hostfs import HostFs
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.metrics import Metrics
from memplace_agent.node.machine import merges_pages
from memplace_agent.node.senses import Senses, SensesLike
from memplace_agent.procfs.exclusive import Exclusive, exclusive
from memplace_agent.procfs.mounts import internal_device
from memplace_agent.procfs.present import Present, present
from memplace_agent.procfs.process import Reader
from memplace_agent.procfs.query import best_way
from memplace_agent.procfs.sample import PageNodes
from memplace_agent.procfs.smaps import Shares, shares
from memplace_agent.retire import journal_directory
from memplace_agent.settings import Settings
from memplace_agent.syscalls import Kernel, PidFd
from memplace_agent.syscalls.features import Features
from memplace_agent.syscalls.moves import MovesPages, move_pages
from memplace_agent.syscalls.views import page_nodes

# A call that moves 64 MiB takes a tenth of a second; of a process that is throttled, longer.
MOVE_DEADLINE_S = 30.0
# What tells a pod's shim from a sandbox is read while containers wait for their default.
_BIRTH_DEADLINE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What the engine asks of the machine; tests put their own in place.

    Attributes:
        kernel: Makes calls on processes.
        reader: Reads processes.
        identities: Names processes.
        ask: Tells where pages are.
        senses: Reads pressure and room.
        clock: Seconds, only forward.
        present: Tells what is in memory of vast reservations.
        move: Moves pages where no policies can be set.
        exclusive: Tells which pages nobody else maps.
        shares: Tells it of small processes, where that may not be asked.
        internal: See `internal_device`.
        cost: Seconds that work takes, of any clock; None for processor time.
    """

    kernel: Kernel
    reader: Reader
    identities: Identities
    senses: SensesLike
    ask: PageNodes = page_nodes
    present: Present = present
    move: MovesPages = move_pages
    exclusive: Exclusive = exclusive
    shares: Shares = shares
    internal: tuple[int, int] | None = None
    clock: Callable[[], float] = time.monotonic
    cost: Callable[[], float] | None = None


def running_system(host: HostFs, kernel: Kernel, features: Features) -> System:
    """Find out what the machine it runs on has."""
    return System(
        kernel=kernel,
        reader=Reader(host, kernel, best_way(features.procmap_query_size)),
        identities=probe_identities(host, kernel),
        senses=Senses(host),
        internal=internal_device(),
    )


@dataclass(slots=True)
class Engine:
    """Makes the parts that share a system: mover, births, and reconcilers on a ledger."""

    settings: Settings
    system: System
    features: Features
    metrics: Metrics
    pool: Pool = field(default_factory=Pool)
    tick: Callable[[], None] = lambda: None
    move_tick: Callable[[], None] = lambda: None
    explainer: Explainer = field(default_factory=Explainer)
    follows: Follows = follows_as_taken
    mover: Mover = field(init=False)
    births: Births = field(init=False)
    chosen: Choice = field(init=False)
    backend: Backend = field(init=False)
    _reconciler: Reconciler | None = None
    _sampler: Sampler = field(init=False)

    def __post_init__(self) -> None:
        system, features = self.system, self.features
        self.chosen = choose(features)
        self.backend = make_backend(self.chosen.kind, self.settings.host, system, features)
        self._sampler = Sampler(
            system.reader,
            self.pool,
            system.ask,
            system.present,
            system.exclusive,
            system.shares,
        )
        self.mover = Mover(
            self.backend,
            self._sampler.look,
            system.senses,
            Pacer(Limits(bandwidth=self.settings.move_bandwidth), system.clock()),
            clock=system.clock,
            tick=self.move_tick,
            guard=self._guard,
            moved=self._moved,
            finished=self._finished,
        )

        self.births = Births(
            self.settings.host,
            self._pinner,
            PolicySetter(self.backend),
            self.metrics,
            begun=self._begun,
            born=self._born,
            clock=system.clock,
            shims=self.settings.shim_default,
            guard=Programs(self.settings.host, self.pool, _BIRTH_DEADLINE_S),
        )

    @property
    def lost(self) -> int:
        """Threads in calls on processes that have not returned."""
        return self.pool.lost + self.births.lost

    @property
    def _pinner(self) -> Pinner:
        return Pinner(self.settings.host, self.system.kernel, self.system.identities)

    def _begun(self, container_id: str, ref: CgroupRef) -> None:
        if self._reconciler is not None:
            self._reconciler.begun(container_id, ref)

    def _born(self, container_id: str) -> None:
        if self._reconciler is not None:
            self._reconciler.born(container_id)

    def _guard(self, order: MoveOrder, pidfd: PidFd, work: Work) -> None:
        self.pool.run(
            lambda turn: work(PidFd(turn.pidfd), turn.check),
            target=order.identity,
            group=order.namespace,
            deadline_s=MOVE_DEADLINE_S,
            pidfd=pidfd,
            counts=False,
        )

    def _finished(self, order: MoveOrder) -> None:
        if self._reconciler is not None:
            self._reconciler.moved(order.container)

    def _cost(self) -> float:
        # Not what the wall says: a node that is busy with others makes no look dearer.
        return time.thread_time() + self.pool.spent_s

    def _moved(self, order: MoveOrder, size: int) -> None:
        # A policy of several nodes is of one tier nearly always; the bytes of others are
        # counted for its first node.
        tiers = self._reconciler.tiers if self._reconciler else {}
        for tier in bytes_per_tier({min(order.nodes): size}, tiers):
            self.metrics.apply_bytes.labels(tier.name).inc(tier.bytes)

    def reconciler(self, store: LedgerStore) -> Reconciler:
        """Make what works on a ledger."""
        system, host, settings = self.system, self.settings.host, self.settings
        surveyor = Surveyor(host, system.reader, self.pool, self.metrics, system.clock)
        hands = Hands(
            self.pool,
            surveyor,
            self._sampler,
            PolicySetter(self.backend),
            self.metrics,
            system.clock,
        )
        pinner = self._pinner
        sharing = Sharing(system.reader, self.pool, system.clock)
        objects = Objects(store, hands, sharing, pinner, system.internal, system.clock)
        import_journal(store, host)
        self._reconciler = Reconciler(
            Parts(
                node_name=settings.node_name,
                host=host,
                store=store,
                looker=Looker(
                    pinner=pinner,
                    hands=hands,
                    placer=Placer(hands, store, time.time, objects),
                    sharing=sharing,
                    mover=self.mover,
                    metrics=self.metrics,
                    clock=system.clock,
                    cost=system.cost or time.perf_counter,
                    merges_pages=partial(merges_pages, host),
                    tick=self.tick,
                    follows=self.follows,
                ),
                undoer=Undoer(pinner, hands, store, self.tick),
                census=Census(host, store),
                shims=Shims(pinner, hands, store, self.metrics, settings.shim_default),
                objects=objects,
                due=DueList(Pace(slow_s=settings.audit_s)),
                pulse=Pulse(host, system.clock, system.cost or self._cost),
                pressures=Pressures(self.metrics, system.clock, system.cost or self._cost),
                metrics=self.metrics,
                senses=system.senses,
                unsupported=self.features.error,
                can=self.chosen.can,
                explainer=self.explainer,
                clock=system.clock,
                cost=system.cost or self._cost,
                tick=self.tick,
                publish=self.births.publish,
            )
        )
        return self._reconciler


def make_backend(kind: type[Backend], host: HostFs, system: System, features: Features) -> Backend:
    """Make a backend that `choose` has chosen, for the machine it runs on."""
    if kind is ProcessMbind:
        return ProcessMbind(system.kernel, flags=features.flags)
    if kind is MovePages:
        return MovePages(
            host=host,
            kernel=system.kernel,
            ask=system.ask,
            call=system.move,
            present=system.present,
            free=partial(_free, system),
        )
    if kind is Observe or kind is Nothing:
        return kind()
    raise NotImplementedError(f"nothing is known here of how to make {kind.__name__}")


def _free(system: System) -> dict[int, int]:
    rooms = system.senses.node(system.clock()).rooms
    return {number: spare_bytes(room, Limits()) for number, room in rooms.items()}


def open_ledger(host: HostFs) -> LedgerStore:
    """Open the ledger of this node.

    Raises:
        AnotherAgent: It is another's at the moment.
        OSError: It can't be made or read.
    """
    return LedgerStore.open(journal_directory(host), host.boot_id.read_text().strip())
