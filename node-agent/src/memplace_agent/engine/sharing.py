# SPDX-License-Identifier: Apache-2.0
"""Whether memory that several processes map may be placed: all of them are of one namespace.

An index of who maps what costs a read of every process of the node. It is made only when a
rule means such memory, for the objects in question, and kept for as long as it may be old:
the caller says how long that is, and it is never less than 20 times what the index took, so
this is 5 % of a core at most. Somebody who maps an object after it was made is seen by the next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable

from memplace.api.v1alpha1 import Placement
from memplace.errors import MemplaceError
from memplace.objects import ObjectId
from memplace.pods import PodState
from memplace.reasons import Reason
from msgspec import structs

from memplace_agent.containers.mappers import Mapper, Scan, pod_in, scan
from memplace_agent.containers.names import normal_uid
from memplace_agent.engine.pool import Pool, PoolBusy, Stuck
from memplace_agent.procfs.process import Reader

_DEADLINE_S = 10.0
_REST = 20
# What nobody asked for in that time is left out of the next index.
_FORGET_S = 300.0
_MOST_OBJECTS = 4096


class SharedElsewhere(MemplaceError):  # noqa: N818  says what happened
    """Memory is mapped by somebody who has no part in the placement."""

    reason = Reason.SHARED_WITH_OTHERS
    HELP = "Nothing to do: the next look says who, and gives back what was set."


class Sharing:
    """See the module; threads may share it."""

    def __init__(self, reader: Reader, pool: Pool, clock: Callable[[], float]) -> None:
        self._reader = reader
        self._pool = pool
        self._clock = clock
        self._lock = threading.Lock()
        self._namespaces: dict[str, str] = {}
        self._asked: dict[ObjectId, float] = {}
        self._known: frozenset[ObjectId] = frozenset()
        self._scan = Scan()
        self._at = float("-inf")
        self._took = 0.0

    def know(self, pods: Iterable[PodState]) -> None:
        """Take the pods of the node: whose processes are whose."""
        found = {normal_uid(uid): pod.ref.namespace for pod in pods for uid in pod.cgroup_uids}
        with self._lock:
            self._namespaces = found

    def why_not(
        self, objects: Collection[ObjectId], namespace: str, max_age_s: float
    ) -> dict[ObjectId, str]:
        """Tell of objects who else maps them, for people.

        Args:
            objects: Which.
            namespace: Whose processes may map them.
            max_age_s: How old the index may be; 0 makes a new one.

        Returns:
            Only those that processes of other namespaces or of no pod map, or may map.
        """
        if not objects:
            return {}
        with self._lock:
            if len(objects) > _MOST_OBJECTS:
                return dict.fromkeys(objects, "the process maps too many objects")
            found = self._fresh(objects, max_age_s)
            doubt = _doubt(found)
            if doubt:
                return dict.fromkeys(objects, doubt)
            reasons = {one: self._foreign(one, found, namespace) for one in objects}
        return {one: why for one, why in reasons.items() if why}

    def check(self, namespace: str, objects: frozenset[ObjectId]) -> None:
        """Raise SharedElsewhere if one of these may be mapped by others; for each move."""
        why = self.why_not(objects, namespace, 0.5)
        if why:
            raise SharedElsewhere(next(iter(why.values())))

    def mappers(self, one: ObjectId, max_age_s: float = 0.0) -> tuple[list[Mapper], str]:
        """Return who maps an object, so long ago at most, and why there may be others."""
        with self._lock:
            found = self._fresh((one,), max_age_s)
            return found.mappers.get(one, []), _doubt(found)

    def _fresh(self, objects: Collection[ObjectId], max_age_s: float) -> Scan:
        now = self._clock()
        recent = {o: at for o, at in self._asked.items() if now - at < _FORGET_S}
        # Where there are too many, those that were asked for last.
        newest = sorted(recent.items(), key=lambda item: item[1])[-_MOST_OBJECTS:]
        self._asked = dict(newest) | dict.fromkeys(objects, now)
        age = now - self._at
        may_be_old = max_age_s > 0 and age <= max(max_age_s, _REST * self._took)
        if may_be_old and self._known.issuperset(objects):
            return self._scan
        begin, wanted = time.monotonic(), frozenset(self._asked)
        self._scan = self._scanned(wanted)
        self._took = time.monotonic() - begin
        self._known, self._at = wanted, self._clock()
        return self._scan

    def _scanned(self, wanted: frozenset[ObjectId]) -> Scan:
        reader, into = self._reader, Scan()
        until = time.monotonic() + _DEADLINE_S
        try:
            return self._pool.run(
                lambda _: scan(reader.host, reader.ask, wanted, until, into),
                target="mappers",
                group="",
                deadline_s=_DEADLINE_S,
            )
        except (Stuck, PoolBusy) as err:
            # The thread may be at it still, and write to what it was given.
            return Scan(unread=[(into.at, str(err))])

    def _foreign(self, one: ObjectId, found: Scan, namespace: str) -> str:
        for mapper in found.mappers.get(one, ()):
            uid = pod_in(mapper.cgroup, self._namespaces)
            if uid is None:
                return f"process {mapper.pid}, which is in no pod that is known here, maps it, too"
            if self._namespaces[uid] != namespace:
                return f"process {mapper.pid} of a pod of another namespace maps it, too"
        return ""


def in_place_of(placement: Placement, uid: str) -> Placement:
    """Return a placement as if it had what another one has, by its uid; the same for none."""
    return structs.replace(placement, uid=uid) if uid else placement


def _doubt(found: Scan) -> str:
    if found.unread:
        pid, why = found.unread[0]
        if not pid:
            return f"it is not known who maps it: {why}"
        return f"it is not known who maps it: process {pid} can't be read ({why})"
    return "" if found.is_whole else "it is not known who maps it: there are too many processes"
