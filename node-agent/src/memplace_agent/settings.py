# SPDX-License-Identifier: Apache-2.0
"""Settings of the agent: environment variables, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from memplace.environment import Read, given, log_level, port
from memplace.errors import ValidationError
from memplace.quantity import exact_bytes
from memplace_kube.serving import SecurePort, secure_port

from memplace_agent.hostfs import HostFs


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the agent runs.

    Attributes:
        node_name: The Kubernetes node.
        pod_uid: Of the agent's own pod; empty where nobody says it.
        host: Where the host's file systems are.
        audit_s: Seconds between looks at a container where nothing changes.
        move_bandwidth: Bytes per second that all moves on the node together may take.
        http_port: Of /healthz, /readyz and, without metrics_tls, /metrics; 0 takes a free one.
        metrics_tls: Of /metrics by TLS; None: they are on http_port.
        explain_port: Of the explain API on 127.0.0.1; None turns it off.
        shim_default: Whether containerd's shims get the default of their pod's containers.
        nri_socket: Of the container runtime; None: it is not asked to tell of containers.
        nri_timeout_s: How long a container that starts is held back at most.
        log_level: One of LOG_LEVELS; addresses appear only in DEBUG.
    """

    node_name: str
    host: HostFs
    pod_uid: str = ""
    audit_s: float = 60
    move_bandwidth: int = 256 << 20
    http_port: int = 8080
    metrics_tls: SecurePort | None = None
    explain_port: int | None = None
    shim_default: bool = False
    nri_socket: Path | None = None
    nri_timeout_s: float = 0.2
    log_level: str = "INFO"


def settings_from_env(env: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        ValidationError: A variable is missing or makes no sense; names it.
    """
    node = env.get("NODE_NAME")
    if not node:
        raise ValidationError("NODE_NAME", "set it to the node's name (downward API, nodeName)")
    return Settings(
        node_name=node,
        host=host_from_env(env),
        metrics_tls=secure_port(env),
        **given(env, VARIABLES),
    )


def host_from_env(env: Mapping[str, str]) -> HostFs:
    """Return where the host's file systems are seen from here."""
    return HostFs(**given(env, PATHS))


def _text(_: str, text: str) -> str:
    return text


def _directory(_: str, text: str) -> Path:
    return Path(text)


def _explain_port(name: str, text: str) -> int | None:
    # Off unless the chart says that the pod has a network of its own: on the host's every user
    # could ask, and addresses of other people's programs are secrets.
    return _port(name, text) or None


def _switch(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise ValidationError(name, f"write true or false, not {text!r}")
    return text == "true"


def _socket(name: str, text: str) -> Path:
    if not text.startswith("/"):
        raise ValidationError(name, f"write a path that begins with /, not {text!r}")
    return Path(text)


def _bandwidth(name: str, text: str) -> int:
    try:
        value = exact_bytes(text)
    except ValueError as err:
        raise ValidationError(name, f"write a size, not {text!r}") from err
    if value < 1 << 20:
        raise ValidationError(name, "write 1Mi or more")
    return int(value)


def _port(name: str, text: str) -> int:
    return 0 if text == "0" else port(name, text)


def _seconds(name: str, text: str) -> float:
    return _number(name, text, minimum=1)


def _milliseconds(name: str, text: str) -> float:
    return _number(name, text, minimum=1) / 1000


def _number(name: str, text: str, *, minimum: float) -> float:
    try:
        value = float(text)
    except ValueError as err:
        raise ValidationError(name, f"write a number, not {text!r}") from err
    if not minimum <= value <= 65535:
        raise ValidationError(name, f"write a number from {minimum:g} to 65535")
    return value


PATHS: Mapping[str, tuple[str, Read]] = {
    "MEMPLACE_PROC": ("proc", _directory),
    "MEMPLACE_SYSFS": ("sysfs", _directory),
    "MEMPLACE_CGROUP_ROOT": ("cgroup", _directory),
    "MEMPLACE_JOURNAL_DIR": ("journal", _directory),
    "MEMPLACE_SECCOMP_DIR": ("seccomp", _directory),
}

VARIABLES: Mapping[str, tuple[str, Read]] = {
    "POD_UID": ("pod_uid", _text),
    "MEMPLACE_AUDIT_S": ("audit_s", _seconds),
    "MEMPLACE_MOVE_BANDWIDTH": ("move_bandwidth", _bandwidth),
    "MEMPLACE_HTTP_PORT": ("http_port", _port),
    "MEMPLACE_EXPLAIN_PORT": ("explain_port", _explain_port),
    "MEMPLACE_SHIM_DEFAULT": ("shim_default", _switch),
    "MEMPLACE_NRI_SOCKET": ("nri_socket", _socket),
    "MEMPLACE_NRI_TIMEOUT_MS": ("nri_timeout_s", _milliseconds),
    "MEMPLACE_LOG_LEVEL": ("log_level", log_level),
}
