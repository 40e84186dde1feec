# SPDX-License-Identifier: Apache-2.0
"""How much may be moved next, and when: the pure controller of the agent's mover.

Moving costs those whose memory moves (a page that is on its way cannot be touched) and
those who live on the tier (room is made by throwing out what is there). So one budget per
node bounds all placements together, memory pressure slows it down or stops it, and the
tier keeps room for the page faults of others.

    pacer = Pacer(Limits(), now)
    answer = pacer.ask(request, node, now)
    if isinstance(answer, Grant):
        moved = ...  # at most answer.bytes, in one call
        pacer.spend(request, moved, now)
    else:
        ...  # ask again at answer.until; answer.reason says what it waits for

Time is in seconds of any clock that never runs backwards, sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from memplace.calls import CUT_ALIGNMENT, MAX_MOVE_BYTES
from memplace.kinds import Mode
from memplace.nodes import NumaSet, format_nodes
from memplace.quantity import format_quantity

# As little as can be moved without splitting a huge page: tells whether pages of a region
# move at all before much is taken off its lists.
PROBE_BYTES = CUT_ALIGNMENT

# Pages of the tier that only kswapd can make free cost this much more: it needs time.
_TRICKLE_COST = 4

# The kernel works out pressure every 2 s; room comes when somebody frees memory.
_LOOK_AGAIN_S = 2.0
_FULL_LOOK_AGAIN_S = 5.0

_SHORTEST_WAIT_S = 0.001


class WaitReason(StrEnum):
    """What a move waits for."""

    BANDWIDTH = "Bandwidth"  # the node's budget: everybody waits
    PLACEMENT_BANDWIDTH = "PlacementBandwidth"  # migration.maxBandwidth of this placement
    PRESSURE = "MemoryPressure"
    TIER_FULL = "TierFull"
    AGENT_CPUSET = "AgentCpusetExcludesTier"
    BACKOFF = "Backoff"  # what is left was tried, and is tried again later


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the admin of a node sets.

    Attributes:
        bandwidth: Bytes per second of all moves on the node. The default is what one CPU
            copies in a sixth of its time, and 64 GiB in little more than four minutes.
        slow_at: ``some avg10`` in percent from which on moves slow down.
        stop_at: From which on they stop.
        spare: Bytes that a NUMA node keeps free beyond the kernel's high watermark, for the
            page faults of others; a small node keeps 1/64 of what it has.
    """

    bandwidth: int = 256 << 20
    slow_at: float = 1.0
    stop_at: float = 10.0
    spare: int = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The room of a NUMA node at one moment, in bytes.

    Attributes:
        total: MemTotal.
        free: MemFree.
        reclaimable: What kswapd can free without swapping: inactive pages of files.
        low: Its low watermark; below it kswapd wakes up.
        minimum: Its min watermark; below it whoever allocates reclaims directly.
        high: Its high watermark; kswapd sleeps above it.
        huge: Free bytes of the pool of each huge page size.
    """

    total: int
    free: int
    reclaimable: int = 0
    minimum: int = 0
    low: int = 0
    high: int = 0
    huge: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """What was read of the machine.

    Attributes:
        rooms: Room per NUMA node; a node that is missing has none.
        pressure: ``some avg10`` of the machine's memory in percent; None without PSI.
        agent_allowed: Nodes of the agent's own cpuset, to which the kernel confines what it
            moves; None when that is not known.
        at: When it was read.
    """

    rooms: Mapping[int, Room]
    pressure: float | None = None
    agent_allowed: NumaSet | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who wants to move what kind of pages where.

    Attributes:
        placement: The uid of the placement; its own limit is kept over all its containers.
        container: The container's id.
        mode: Mode of the policy.
        nodes: Nodes of the policy.
        page_size: Bytes of one page.
        limit: migration.maxBandwidth in bytes per second; it can only lower the node's.
        pressure: ``some avg10`` of the container's cgroup in percent; None without PSI.
        probing: It is not known whether pages of this region move at all.
    """

    placement: str
    container: str
    mode: Mode
    nodes: NumaSet
    page_size: int = 4096
    limit: int | None = None
    pressure: float | None = None
    probing: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """Move up to so many bytes, in one call, now."""

    bytes: int
    trickle: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Move nothing; ask again at a time, or when something has changed."""

    until: float
    reason: WaitReason
    message: str = ""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: `level` bytes may be moved at time `at`; negative is a debt.

    It holds one batch at most. So over any time t at most ``rate * t`` and one batch pass.
    """

    rate: float
    level: float
    at: float

    @classmethod
    def full(cls, rate: float, now: float) -> Bucket:
        """Return a bucket that lets one batch through at once."""
        return cls(rate, _batch(rate), now)

    def refilled(self, now: float, speed: float = 1.0) -> Bucket:
        """Return it as of now, filled at a part of its rate since it was filled last."""
        gained = max(0.0, now - self.at) * self.rate * speed
        return replace(self, level=min(_batch(self.rate), self.level + gained), at=now)

    def with_rate(self, rate: float) -> Bucket:
        """Return it with another rate; what it holds does not grow by that."""
        return replace(self, rate=rate, level=min(self.level, _batch(rate)))

    def wait_for(self, size: int, speed: float = 1.0) -> float:
        """Return the seconds from `at` until a batch of that size may go."""
        missing = min(size, _batch(self.rate)) - self.level
        # Less than a byte is rounding; a wait that is too short to be one would never end.
        return max(_SHORTEST_WAIT_S, missing / (self.rate * speed)) if missing >= 1 else 0.0


def _batch(rate: float) -> int:
    # A quarter of a second's worth, in steps that split no huge page.
    steps = int(rate / 4) // CUT_ALIGNMENT
    return min(MAX_MOVE_BYTES, max(1, steps) * CUT_ALIGNMENT)


def speed_under(pressure: float | None, limits: Limits) -> float:
    """Return the part of full speed to move at under a pressure: 1 to 0."""
    if pressure is None or pressure <= limits.slow_at:
        return 1.0
    if pressure >= limits.stop_at:
        return 0.0
    return (limits.stop_at - pressure) / (limits.stop_at - limits.slow_at)


def spare_bytes(room: Room, limits: Limits) -> int:
    """Return what moves may take of a NUMA node's free memory: the rest is for page faults."""
    return max(0, room.free - room.high - min(limits.spare, room.total // 64))


def room_bytes(room: Room) -> int:
    """Return what would fit on a NUMA node now: free memory, and what kswapd frees by itself."""
    return max(0, room.free - room.high) + max(0, _reclaimable(room))


class Pacer:
    """Decides for one machine; whoever calls it gives the time and what was read."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._node = Bucket.full(limits.bandwidth, now)
        self._placements: dict[str, Bucket] = {}
        self._not_before: dict[str, float] = {}
        self._speed = 1.0
        self._taken: dict[int, int] = {}
        self._taken_since = 0.0

    def ask(self, request: Request, node: NodeState, now: float) -> Grant | Wait:
        """Say whether a request may move something now, and how much.

        Only `Wait` for BANDWIDTH concerns everybody: others must not overtake who waits for
        it, or small batches would keep a large one waiting for ever.
        """
        self._refill(node, now)
        nodes = request.nodes
        if node.agent_allowed is not None:
            nodes &= node.agent_allowed
            if not nodes:
                return _excluded(request.nodes, node.agent_allowed, now)
        pod_speed = speed_under(request.pressure, self._limits)
        if not self._speed or not pod_speed:
            return _pressed(request.pressure, node.pressure, now)
        resting = self._not_before.get(request.container, now)
        if resting > now:
            return Wait(resting, WaitReason.PRESSURE, "moves are slowed down by memory pressure")
        grant = self.room(request, node)
        if not grant.bytes:
            return _full(request, node, now)
        return self._paid(request, grant, pod_speed, now)

    def room(self, request: Request, node: NodeState) -> Grant:
        """Return what there is room for, without a look at budgets; 0 bytes if the tier is full.

        A trickle if only kswapd can make room.
        """
        if node.at != self._taken_since:
            self._taken, self._taken_since = {}, node.at
        nodes = request.nodes if node.agent_allowed is None else request.nodes & node.agent_allowed
        rooms = [(number, node.rooms[number]) for number in nodes if number in node.rooms]
        most = PROBE_BYTES if request.probing else MAX_MOVE_BYTES
        if request.page_size >= CUT_ALIGNMENT and any(room.huge for _, room in rooms):
            free = sum(room.huge.get(request.page_size, 0) for _, room in rooms)
            most = max(most, request.page_size)
            return Grant(min(most, free) // request.page_size * request.page_size)
        least = max(PROBE_BYTES, request.page_size)
        taken = {number: self._taken.get(number, 0) for number, _ in rooms}
        spare = sum(
            max(0, room.free - taken[number] - room.high - self._spare(room))
            for number, room in rooms
        )
        if spare >= least:
            return Grant(max(least, min(most, spare) // least * least))
        # Only kswapd can make room now. Bind would reclaim directly once it is at the min
        # watermark; the other modes leave pages where they are (process_mbind(2), NOTES).
        binds = request.mode is Mode.BIND
        can = any(
            room.free - taken[number] - least >= ((room.minimum + room.low) // 2 if binds else 0)
            and room.free + _reclaimable(room) - taken[number] >= room.high + least
            and room.reclaimable
            for number, room in rooms
        )
        return Grant(least if can else 0, trickle=can)

    def spend(self, request: Request, size: int, now: float, *, trickle: bool = False) -> None:
        """Book what a call was made for; what it was in the end is not more than that."""
        cost = size * (_TRICKLE_COST if trickle else 1)
        self._node = replace(self._node, level=self._node.level - cost)
        own = self._placements.get(request.placement)
        if own is not None:
            self._placements[request.placement] = replace(own, level=own.level - cost)
        speed = speed_under(request.pressure, self._limits)
        if speed < 1:
            self._not_before[request.container] = now + cost / (self._node.rate * max(speed, 0.01))
        for number in request.nodes:
            self._taken[number] = self._taken.get(number, 0) + size // max(1, len(request.nodes))

    def prune(self, now: float) -> None:
        """Drop what is remembered of placements and containers and makes no difference."""
        # A debt stays: else whoever queues a bit at a time would have no limit.
        self._placements = {
            uid: bucket
            for uid, bucket in self._placements.items()
            if bucket.refilled(now).level < _batch(bucket.rate)
        }
        self._not_before = {key: at for key, at in self._not_before.items() if at > now}

    def _refill(self, node: NodeState, now: float) -> None:
        # Stopped moves go on at half of what stopped them, lest they flutter.
        limits = self._limits
        if not self._speed and (node.pressure or 0.0) > limits.stop_at / 2:
            speed = 0.0
        else:
            speed = speed_under(node.pressure, limits)
        self._node = self._node.refilled(now, speed)
        self._speed = speed

    def _spare(self, room: Room) -> int:
        return min(self._limits.spare, room.total // 64)

    def _paid(self, request: Request, grant: Grant, pod_speed: float, now: float) -> Grant | Wait:
        own = self._own_bucket(request, now)
        size = min(grant.bytes, _batch(self._node.rate), _batch(own.rate) if own else grant.bytes)
        size = int(size * pod_speed) // CUT_ALIGNMENT * CUT_ALIGNMENT
        size = max(size, PROBE_BYTES, request.page_size)
        if own is not None and (delay := own.wait_for(size)):
            return Wait(now + delay, WaitReason.PLACEMENT_BANDWIDTH)
        if delay := self._node.wait_for(size, self._speed):
            return Wait(now + delay, WaitReason.BANDWIDTH)
        return replace(grant, bytes=size)

    def _own_bucket(self, request: Request, now: float) -> Bucket | None:
        if request.limit is None:
            self._placements.pop(request.placement, None)
            return None
        old = self._placements.get(request.placement)
        rate = max(1, request.limit)
        bucket = old.refilled(now).with_rate(rate) if old else Bucket.full(rate, now)
        self._placements[request.placement] = bucket
        return bucket


def _full(request: Request, node: NodeState, now: float) -> Wait:
    rooms = [node.rooms[number] for number in request.nodes if number in node.rooms]
    free = f"{format_quantity(sum(room.free for room in rooms))} free"
    if request.page_size >= CUT_ALIGNMENT and any(room.huge for room in rooms):
        free = f"no free huge page of {format_quantity(request.page_size)} in their pools"
    message = f"NUMA nodes {format_nodes(request.nodes)} have {free}; moves wait for room"
    return Wait(now + _FULL_LOOK_AGAIN_S, WaitReason.TIER_FULL, message)


def _reclaimable(room: Room) -> int:
    # As MemAvailable: some of it is needed all the time (linux mm/show_mem.c).
    return room.reclaimable - min(room.reclaimable // 2, room.low)


def _excluded(nodes: NumaSet, allowed: NumaSet, now: float) -> Wait:
    message = (
        f"the agent's own cpuset ({format_nodes(allowed)}) has none of NUMA nodes "
        f"{format_nodes(nodes)}, so it may move no pages there; remove cpuset.mems of its pod"
    )
    return Wait(now + _LOOK_AGAIN_S, WaitReason.AGENT_CPUSET, message)


def _pressed(pod: float | None, node: float | None, now: float) -> Wait:
    worst = max(pod or 0.0, node or 0.0)
    message = f"memory pressure is {worst:g} % (some avg10); moves wait for less"
    return Wait(now + _LOOK_AGAIN_S, WaitReason.PRESSURE, message)
