# SPDX-License-Identifier: Apache-2.0
"""Which agents an uninstall need not wait for, since they say that they can't undo."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from memplace.api.conditions import Condition
from memplace.api.v1alpha1 import NodeMemory, NodeMemoryStatus
from memplace_operator.retire import CANNOT_S, Refusals


def node(name: str, reason: str) -> NodeMemory:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    retired = Condition(
        type="Retired", status="False", reason=reason, message="", last_transition_time=at
    )
    return NodeMemory(
        name=name,
        uid=name,
        generation=1,
        status=NodeMemoryStatus(conditions=(retired,)),
    )


class Watch:
    """Looks at what nodes say, second after second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.refusals = Refusals(lambda: self.now)

    def look(self, **said: str) -> bool:
        self.now += 1
        self.refusals.look([node(name, reason) for name, reason in said.items()])
        return self.refusals.are_final(said)


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_who_has_said_it_for_a_while_is_not_waited_for(watch: Watch) -> None:
    said = [watch.look(a="CannotUndo", b="CannotUndo") for _ in range(40)]
    assert said.index(True) == CANNOT_S
    assert all(said[said.index(True) :])


def test_who_can_is_waited_for(watch: Watch) -> None:
    assert not any(watch.look(a="CannotUndo", b="Undoing") for _ in range(100))
    assert watch.look(a="CannotUndo")


def test_who_took_it_back_begins_anew(watch: Watch) -> None:
    for _ in range(25):
        watch.look(a="CannotUndo")
    watch.look(a="Undoing")
    assert not any(watch.look(a="CannotUndo") for _ in range(25))
