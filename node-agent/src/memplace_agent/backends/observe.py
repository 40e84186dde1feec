# SPDX-License-Identifier: Apache-2.0
"""The backend of a node where nothing can be changed: it is told where pages are."""

from __future__ import annotations

from typing import ClassVar

from memplace.api.v1alpha1 import BackendName
from memplace.errors import FeatureUnavailable
from memplace.kinds import Capability

from memplace_agent.backends.protocol import Backend
from memplace_agent.syscalls.features import Features


class Observe(Backend):
    """See the module. Processes are read above the seam, so it has no verb of its own."""

    name: ClassVar[BackendName] = BackendName.OBSERVE

    @staticmethod
    def why_not(features: Features) -> FeatureUnavailable | None:
        """See `Backend.why_not`."""
        return features.look_error

    @staticmethod
    def offers(features: Features) -> frozenset[Capability]:  # noqa: ARG004
        """See `Backend.offers`."""
        return frozenset({Capability.MEASURES})


class Nothing(Backend):
    """The backend of a node where processes can't even be read."""

    name: ClassVar[BackendName] = BackendName.NONE

    @staticmethod
    def why_not(features: Features) -> FeatureUnavailable | None:  # noqa: ARG004
        """Return None: nothing keeps a node from it."""
        return None

    @staticmethod
    def offers(features: Features) -> frozenset[Capability]:  # noqa: ARG004
        """Offer nothing."""
        return frozenset()
