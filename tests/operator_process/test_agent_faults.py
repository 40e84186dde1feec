# SPDX-License-Identifier: Apache-2.0
"""The whole agent behind a connection that lies, cuts and refuses."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from memplace_lab.product.apiserver import ApiServer

from tests.operator_process.behind import Node
from tests.operator_process.faulty import FAULTS, Fault
from tests.support.cluster import eventually

pytestmark = pytest.mark.timeout(180)

FAULT_S = 1.5
# Who is asked for more patience than any API server asks for has some.
BACK_S = 60


@pytest.fixture(scope="module")
def node(api: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Yield a node whose agent runs; its pauses are short, else each fault would take a minute."""
    place = tmp_path_factory.mktemp("agent") / "it"
    with Node(api, "lied-to").running(api, place, spread_s=1.0) as found:
        yield found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_it_goes_on_and_knows_afterwards_what_changed(node: Node, fault: Fault) -> None:
    with node.proxy.failing(fault):
        eventually(lambda: node.proxy.done[fault.name])
        node.change()
        ends = time.monotonic() + FAULT_S
        while time.monotonic() < ends:
            time.sleep(0.2)
            node.look()
    eventually(node.follows, timeout_s=BACK_S)
    eventually(node.is_ready, timeout_s=BACK_S)
    node.look()
    assert set(node.healths) == {200}
    assert node.agent.process.poll() is None
