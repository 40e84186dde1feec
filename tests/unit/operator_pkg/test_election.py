# SPDX-License-Identifier: Apache-2.0
"""Which operator writes: one at a time, by a Lease."""

from __future__ import annotations

import threading
from typing import Any

from memplace.api.liveness import OPERATOR_LEASE_S
from memplace_operator.election import HOLD_S, Election

from tests.unit.agent_pkg.answers import Request, reply, serving


class Leases:
    """An API server's one Lease, with its versions."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.is_away = False

    def __call__(self, request: Request, file: Any) -> None:
        if self.is_away:
            reply(file, {"message": "away"}, "503 Service Unavailable")
        elif request.method == "GET" and self.lease is None:
            reply(file, {"message": "none"}, "404 Not Found")
        elif request.method == "GET":
            reply(file, self.lease)
        else:
            self._write(request.body, file)

    def _write(self, body: dict[str, Any], file: Any) -> None:
        there = self.lease["metadata"]["resourceVersion"] if self.lease else None
        if body["metadata"].get("resourceVersion") != there:
            reply(file, {"message": "conflict"}, "409 Conflict")
            return
        body["metadata"]["resourceVersion"] = str(int(there or 0) + 1)
        self.lease = body
        reply(file, body)


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_leads_and_the_next_has_to_wait_until_it_can_be_nobody_else() -> None:
    clock, leases = Clock(), Leases()
    with serving(leases) as api:
        one, two = (Election(api.server, name, clock=clock) for name in ("one", "two"))
        one.attempt()
        two.attempt()
        assert (one.is_leader, two.is_leader) == (True, False)
        while clock.now < 2 * OPERATOR_LEASE_S:
            clock.now += 2
            one.attempt()
            two.attempt()
            assert (one.is_leader, two.is_leader) == (True, False)
        # One hangs, with a write on its way.
        begin = clock.now
        while not two.is_leader:
            clock.now += 2
            two.attempt()
            assert not (one.is_leader and two.is_leader)
            assert clock.now < begin + OPERATOR_LEASE_S + 5
        assert clock.now - begin > HOLD_S + 20, "time for what one had begun"
        one.attempt()
        assert (one.is_leader, two.is_leader) == (False, True)
        assert leases.lease is not None
        assert leases.lease["spec"]["leaseTransitions"] == 2


def test_who_ends_gives_it_up() -> None:
    clock, leases = Clock(), Leases()
    with serving(leases) as api:
        one, two = (Election(api.server, name, clock=clock) for name in ("one", "two"))
        one.attempt()
        two.attempt()
        one.release()
        two.attempt()
        assert (one.is_leader, two.is_leader) == (False, True)


def test_of_two_that_see_it_free_one_takes_it() -> None:
    clock, leases = Clock(), Leases()
    with serving(leases) as api:
        one, two = (Election(api.server, name, clock=clock) for name in ("one", "two"))
        threads = [threading.Thread(target=each.attempt) for each in (one, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert one.is_leader != two.is_leader


def test_without_an_api_server_nobody_leads_for_long() -> None:
    clock, leases = Clock(), Leases()
    with serving(leases) as api:
        one = Election(api.server, "one", clock=clock)
        one.attempt()
        leases.is_away = True
        clock.now = HOLD_S - 1
        one.attempt()
        assert one.is_leader
        clock.now = HOLD_S + 1
        one.attempt()
        assert not one.is_leader
        leases.is_away = False
        one.attempt()
        assert one.is_leader
