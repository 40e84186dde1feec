# SPDX-License-Identifier: Apache-2.0
"""One cluster of two workers for tests that wait for minutes: limits, roll-outs, pressure, NRI."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show.scenario import Pod

from tests.support.rolling import pods_on_both


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with product.running("two") as running:
        yield running


@pytest.fixture(scope="module")
def both(cluster: Cluster) -> Iterator[dict[str, Pod]]:
    with pods_on_both(cluster) as found:
        yield found
