# SPDX-License-Identifier: Apache-2.0
"""A queue in front of the machine of text files; time is what the test says it is."""

from __future__ import annotations

import pytest

from tests.unit.agent_pkg.engine.bench import Bench, vma


@pytest.fixture
def make(machine):
    return lambda **kwargs: Bench(machine, **kwargs)


@pytest.fixture
def bench(make):
    return make()


@pytest.fixture
def region(kit):
    """A region that has the policy already, with its pages on node 0."""
    return lambda start, size, **kwargs: vma(kit, start, size, **kwargs)
