# SPDX-License-Identifier: Apache-2.0
"""One cluster of two workers for all end-to-end tests, the second on Debian's stock kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show import both_kernels, scenario
from memplace_lab.show.redisload import RedisLoad
from memplace_lab.show.scenario import Pod

from tests.e2e.rolling import MP


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with product.running("two") as running:
        yield running


@pytest.fixture(scope="session")
def pods(cluster: Cluster) -> dict[str, Pod]:
    return scenario.start_pods(cluster)


@pytest.fixture(scope="session")
def redis(pods: dict[str, Pod]) -> RedisLoad:
    return scenario.fill_redis(pods["redis"])


@pytest.fixture(scope="module")
def both(cluster: Cluster) -> Iterator[dict[str, Pod]]:
    """A pod on each worker; what the test applies goes with them."""
    yield both_kernels.start_pods(cluster)
    cluster.kubectl("delete", "--ignore-not-found", *MP)
    cluster.kubectl("delete", "pod", "-n", scenario.NAMESPACE, *both_kernels.PODS)
