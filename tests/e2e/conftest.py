# SPDX-License-Identifier: Apache-2.0
"""One cluster of two workers for all end-to-end tests, the second on Debian's stock kernel.

A cluster takes minutes to boot, so the files share it, in the order of their names. Each makes
what it needs and takes it away again, and can run alone in a new cluster. The numbers in the
names are about the two that others would disturb, or that would disturb others:

- `test_1_first_light.py` compares with pods that no placement was ever about. It leaves its
  placement, `heap-on-cxl`, behind. Files that need it apply it again.
- `test_3_leaving.py` uninstalls memplace in the end.

Where the tests of one file build on each other, its docstring says so: run that file whole.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from memplace_lab.cluster.cluster import Cluster
from memplace_lab.product import product
from memplace_lab.show import scenario
from memplace_lab.show.redisload import RedisLoad
from memplace_lab.show.scenario import Pod

from tests.support.rolling import pods_on_both


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
    with pods_on_both(cluster) as found:
        yield found
