# SPDX-License-Identifier: Apache-2.0
"""Settings from the environment, and kopf's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import kopf
from memplace.api.liveness import STALE_AFTER
from memplace.environment import Read, given, log_level, port
from memplace.errors import ValidationError
from memplace_kube.serving import SecurePort, secure_port


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set.

    Attributes:
        log_level: One of LOG_LEVELS; MEMPLACE_LOG_LEVEL.
        http_port: Of /healthz, /readyz and, without metrics_tls, /metrics; MEMPLACE_HTTP_PORT.
        metrics_tls: Of /metrics by TLS; None: they are on http_port. MEMPLACE_METRICS_TLS.
        stale_s: Seconds after which a silent agent counts as gone; MEMPLACE_STALE_SECONDS.
    """

    log_level: str = "INFO"
    http_port: int = 8080
    stale_s: float = STALE_AFTER.total_seconds()
    metrics_tls: SecurePort | None = None


def settings_from_env(env: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        ValidationError: A variable has a value that makes no sense.
    """
    return Settings(metrics_tls=secure_port(env), **given(env, VARIABLES))


def _seconds(name: str, text: str) -> float:
    if not text.isdecimal() or not int(text):
        raise ValidationError(name, "write whole seconds, 1 or more")
    return float(text)


VARIABLES: Mapping[str, tuple[str, Read]] = {
    "MEMPLACE_LOG_LEVEL": ("log_level", log_level),
    "MEMPLACE_HTTP_PORT": ("http_port", port),
    "MEMPLACE_STALE_SECONDS": ("stale_s", _seconds),
}


class Backoffs:
    """Seconds between attempts of one request: short at first, and without end.

    Giving up would end the operator while the API server restarts.
    """

    def __iter__(self) -> Iterator[float]:
        """Yield 1, 2, 3, 5 and then 5 for ever."""
        return itertools.chain((1.0, 2.0, 3.0), itertools.repeat(5.0))


class _NoDiffBase(kopf.DiffBaseStorage):
    """Nothing of ours asks what changed: kopf need not copy each object to know."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:  # noqa: ARG002
        return cast("kopf.BodyEssence", {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Keep nothing."""


def kopf_settings() -> kopf.OperatorSettings:
    """Return how kopf is to watch; it writes nothing, so most of it stays unused."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    # Our kinds are there before kopf starts (app.py waits), so neither namespaces nor CRDs
    # need to be watched, and the role does not allow it.
    settings.scanning.disabled = True
    settings.watching.server_timeout = 600
    settings.watching.client_timeout = 660
    settings.watching.chunk_size = 500
    # A live watch has a bookmark each minute. Load balancers drop what is idle without a word.
    settings.watching.inactivity_timeout = 70.0
    settings.networking.connect_timeout = 10
    settings.networking.request_timeout = 60
    settings.networking.error_backoffs = Backoffs()
    # Or kopf ends the process with SIGKILL so long after its watch ended, which begins anew.
    settings.process.ultimate_exiting_timeout = None
    # Nothing of ours is handled in a way that needs these two; if it ever is, they are ours.
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.finalizer = "memplace.dev/operator"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="memplace.dev")
    return settings
