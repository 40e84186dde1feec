# SPDX-License-Identifier: Apache-2.0
"""The whole agent while the API server is away: a minute, or ten of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from memplace_agent.cluster.kinds import Kind
from memplace_lab.product.apiserver import ApiServer

from tests.operator_process.behind import Node
from tests.support.cluster import eventually
from tests.support.trying import tries

AWAY_S = tries(60, 600)
# A watch that has said nothing for so long says nothing any more of what the cluster wants.
NOT_READY_AFTER_S = 100
# Half of it is the longest pause, so that not all nodes of a cluster come back at once.
BACK_S = 60

pytestmark = pytest.mark.timeout(180 + AWAY_S)


@pytest.fixture
def two(api: ApiServer, tmp_path: Path) -> Iterator[list[Node]]:
    """Yield two nodes, whose agents run."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(Node(api, name).running(api, tmp_path / name))
            for name in ("refused", "swallowed")
        ]


def test_an_agent_outlives_that_and_is_back_soon(two: list[Node]) -> None:
    """From one node the API server refuses connections, from the other packets get lost."""
    refused, swallowed = two
    for node in two:
        node.away()
    with refused.wire.refusing(), swallowed.wire.swallowing():
        began = time.monotonic()
        for node in two:
            node.change()
        while time.monotonic() < began + AWAY_S:
            time.sleep(1)
            for node in two:
                node.look()
        for node in two:
            stays(node)
    back = time.monotonic()
    for node in two:
        eventually(node.follows, timeout_s=max(0.1, back + BACK_S - time.monotonic()))
    for node in two:
        for holds in (node.is_ready, node.renewed_again, node.has_no_more_open):
            eventually(holds, timeout_s=BACK_S)
        node.look()
        assert set(node.healths) == {200}, node.healths
        # One, and on a busy machine another one where that took longer than it is waited for.
        assert max(node.lists().values(), default=0) <= 2, node.lists()


def stays(node: Node) -> None:
    """Nothing has come through, and the agent knows."""
    assert not node.follows()
    silent = {kind for kind, age in node.heard_s().items() if age > AWAY_S - 5}
    # Labels of namespaces are not followed before a placement asks for them.
    assert silent >= {kind.value for kind in Kind} - {Kind.NAMESPACE.value}
    assert not node.was_ready or AWAY_S <= NOT_READY_AFTER_S
