# SPDX-License-Identifier: Apache-2.0
"""How long a watch pauses while the API server is away."""

from __future__ import annotations

import threading
from typing import Any

from memplace_kube.watch import SPREAD_S, Watcher, as_mapping

from tests.unit.agent_pkg.answers import Request, reply, serving, stream
from tests.unit.agent_pkg.test_watch import TIERS, Takes, tiers


class Unwaited(threading.Event):
    """Nobody waits for it; what was asked of it is noted, between two requests."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses = [0.0]

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses[-1] += timeout or 0.0
        return self.is_set()


def test_before_a_new_list_there_is_one_pause_and_not_two() -> None:
    """Else somebody who edits right after an outage would wait for a minute."""
    stop, fails = Unwaited(), 40

    def answer(request: Request, file: Any) -> None:
        stop.pauses.append(0.0)
        if len(stop.pauses) <= fails:
            reply(file, {}, "500 Internal Server Error")
        elif "watch" not in request.query:
            reply(file, tiers("a", version=7))
        else:
            stop.set()
            stream(file)

    with serving(answer) as api:
        takes = Takes()
        Watcher(api.server, takes, TIERS, as_mapping).run(stop, lambda: None)
    assert takes.lists == [["a"]]
    assert max(stop.pauses) <= SPREAD_S
    assert min(stop.pauses[1:fails]) >= 0.1 and max(stop.pauses) > 1
