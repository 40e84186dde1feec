# SPDX-License-Identifier: Apache-2.0
"""Settings of the agent: environment variables, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from memplace.errors import ValidationError
from memplace.quantity import exact_bytes
from memplace_kube.serving import SecurePort, secure_port

from memplace_agent.hostfs import HostFs

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


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
        log_level: DEBUG, INFO, WARNING or ERROR; addresses appear only in DEBUG.
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
    if not env.get("NODE_NAME"):
        raise ValidationError("NODE_NAME", "set it to the node's name (downward API, nodeName)")
    level = env.get("MEMPLACE_LOG_LEVEL", "INFO").upper()
    if level not in LEVELS:
        raise ValidationError("MEMPLACE_LOG_LEVEL", f"write one of {', '.join(LEVELS)}")
    return Settings(
        node_name=env["NODE_NAME"],
        pod_uid=env.get("POD_UID", ""),
        host=HostFs(
            proc=Path(env.get("MEMPLACE_PROC", "/proc")),
            sysfs=Path(env.get("MEMPLACE_SYSFS", "/sys")),
            cgroup=Path(env.get("MEMPLACE_CGROUP_ROOT", "/host/sys/fs/cgroup")),
            journal=Path(env.get("MEMPLACE_JOURNAL_DIR", "/run/memplace")),
            seccomp=Path(env.get("MEMPLACE_SECCOMP_DIR", "/var/lib/kubelet/seccomp/memplace")),
        ),
        audit_s=_number(env, "MEMPLACE_AUDIT_S", "60", minimum=1),
        move_bandwidth=_bandwidth(env),
        http_port=int(_number(env, "MEMPLACE_HTTP_PORT", "8080", minimum=0)),
        metrics_tls=secure_port(env),
        explain_port=_explain_port(env),
        shim_default=_switch(env, "MEMPLACE_SHIM_DEFAULT"),
        nri_socket=_path(env, "MEMPLACE_NRI_SOCKET"),
        nri_timeout_s=_number(env, "MEMPLACE_NRI_TIMEOUT_MS", "200", minimum=1) / 1000,
        log_level=level,
    )


def _explain_port(env: Mapping[str, str]) -> int | None:
    # Off unless the chart says that the pod has a network of its own: on the host's every user
    # could ask, and addresses of other people's programs are secrets.
    return int(_number(env, "MEMPLACE_EXPLAIN_PORT", "0", minimum=0)) or None


def _switch(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name, "false")
    if text not in ("true", "false"):
        raise ValidationError(name, f"write true or false, not {text!r}")
    return text == "true"


def _path(env: Mapping[str, str], name: str) -> Path | None:
    text = env.get(name, "")
    if text and not text.startswith("/"):
        raise ValidationError(name, f"write a path that begins with /, not {text!r}")
    return Path(text) if text else None


def _bandwidth(env: Mapping[str, str]) -> int:
    text = env.get("MEMPLACE_MOVE_BANDWIDTH", "256Mi")
    try:
        value = exact_bytes(text)
    except ValueError as err:
        raise ValidationError("MEMPLACE_MOVE_BANDWIDTH", f"write a size, not {text!r}") from err
    if value < 1 << 20:
        raise ValidationError("MEMPLACE_MOVE_BANDWIDTH", "write 1Mi or more")
    return int(value)


def _number(env: Mapping[str, str], name: str, default: str, *, minimum: float) -> float:
    try:
        value = float(env.get(name, default))
    except ValueError as err:
        raise ValidationError(name, f"write a number, not {env[name]!r}") from err
    if not minimum <= value <= 65535:
        raise ValidationError(name, f"write a number from {minimum:g} to 65535")
    return value
