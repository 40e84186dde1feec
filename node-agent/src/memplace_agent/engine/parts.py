# SPDX-License-Identifier: Apache-2.0
"""What the reconciler works with, put together by `build`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from memplace.errors import FeatureUnavailable

from memplace_agent.engine.duelist import DueList
from memplace_agent.engine.explaining import Explainer
from memplace_agent.engine.look import Looker
from memplace_agent.engine.pulse import Pulse
from memplace_agent.engine.undo import Undoer
from memplace_agent.hostfs import HostFs
from memplace_agent.ledger_store import LedgerStore
from memplace_agent.metrics import Metrics

__all__ = ["Parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a reconciler works with; `keeps_defaults`: the kernel has MPOL_MF_FUTURE."""

    node_name: str
    host: HostFs
    store: LedgerStore
    looker: Looker
    undoer: Undoer
    due: DueList
    pulse: Pulse
    metrics: Metrics
    unsupported: FeatureUnavailable | None
    keeps_defaults: bool = False
    explainer: Explainer = field(default_factory=Explainer)
    clock: Callable[[], float] = time.monotonic
    cost: Callable[[], float] = time.perf_counter
    tick: Callable[[], None] = lambda: None
