# SPDX-License-Identifier: Apache-2.0
"""The agents' Leases, and their reports with what the Leases say in them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime

from memplace.api.liveness import LEASE_SELECTOR, LEASES, renewals, with_renewal
from memplace.api.objects import parse_node_memory
from memplace.api.server import ApiError
from memplace.api.v1alpha1 import NodeMemory

from memplace_operator.kinds import Kind
from memplace_operator.kubeapi import KubeApi

log = logging.getLogger(__name__)

# By the role of a chart before Leases, or no such API.
_NOT_THERE = (403, 404)


async def renewed(api: KubeApi) -> Mapping[str, datetime]:
    """Return per node when its agent renewed its Lease; empty where Leases can't be read.

    Agents whose Leases don't work say in their reports that they live.
    """
    path = f"{LEASES}/namespaces/{api.namespace}/leases"
    try:
        # From the API server's cache: this is asked for every few seconds.
        leases = api.objects(path, labelSelector=LEASE_SELECTOR, resourceVersion="0")
        return renewals([lease async for lease in leases])
    except ApiError as err:
        if err.status not in _NOT_THERE:
            raise
        log.debug("no Leases: %s", err)
        return {}


async def reports(api: KubeApi) -> list[NodeMemory]:
    """Return the reports of all nodes, as last heard of in either way."""
    leases = await renewed(api)
    return [
        with_renewal(parse_node_memory(obj), leases) async for obj in api.objects(Kind.NODE.path)
    ]
