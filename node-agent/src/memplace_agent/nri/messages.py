# SPDX-License-Identifier: Apache-2.0
"""What a runtime asks of a plugin of NRI, and what it is answered; pure.

Up to 0.11 (containerd 1.7 to 2.2) a container's start is one of several events of the request
StateChange, since 0.12 it is a request StartContainer. The messages have few
fields here: what is not needed is not read.

Source: containerd/nri ``pkg/api/api.proto`` of 0.8.0 and 0.12.3; ttrpc ``request.proto``.
"""

from __future__ import annotations

from dataclasses import dataclass

from memplace_agent.nri.wire import (
    OF_RUNTIME,
    Message,
    Type,
    WireError,
    as_bytes,
    as_number,
    as_text,
    fields,
    put,
)

_START_CONTAINER = 6

# Plugins are asked by ascending index: those that change containers come before.
_NAME, _INDEX = "memplace", "90"

# A client's streams have odd numbers; there is one request only.
_STREAM = 1


@dataclass(frozen=True, slots=True)
class Starting:
    """A container whose program is about to run.

    Attributes:
        pod_uid: As kubelet named it to the runtime; a static pod's is the hash of its file.
        name: In the pod's spec.
        container_id: The runtime's.
        pid: Of the process that will execute the program; 0 if the runtime does not say.
    """

    pod_uid: str
    name: str
    container_id: str
    pid: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, read.

    Attributes:
        stream: What its answer has as well.
        answer: The content of the answer.
        is_configured: The runtime has taken the plugin: it will tell of containers.
        runtime: Its name and version, where it says so.
        starting: A container that starts.
    """

    stream: int
    answer: bytes = b""
    is_configured: bool = False
    runtime: str = ""
    starting: Starting | None = None


def registration(timeout_s: float) -> Message:
    """Return the request that makes a plugin known."""
    data = (
        put(1, "nri.pkg.api.v1alpha1.Runtime")
        + put(2, "RegisterPlugin")
        + put(3, put(1, _NAME) + put(2, _INDEX))
        + put(4, int(timeout_s * 1e9))
    )
    return Message(OF_RUNTIME, _STREAM, Type.REQUEST, data)


def registration_error(message: Message) -> str:
    """Return why the runtime does not want the plugin; empty if it does.

    Raises:
        WireError: It is no answer.
    """
    status = fields(as_bytes(fields(message.data, 1), 1), 1, 2)
    return as_text(status, 2) or ("refused" if as_number(status, 1) else "")


def asked(message: Message) -> Asked:
    """Read a request of the runtime's. What is not known is nothing to be done.

    Raises:
        WireError: It is none.
    """
    request = fields(message.data, 2, 3)
    method, content = as_text(request, 2), as_bytes(request, 3)
    stream = message.stream
    if method == "Configure":
        found = fields(content, 2, 3)
        runtime = f"{as_text(found, 2)} {as_text(found, 3)}".strip()
        events = put(2, 1 << (_START_CONTAINER - 1))
        return Asked(stream, events, is_configured=True, runtime=runtime)
    if method == "Synchronize":
        # Whoever does not say that there may be more gets it in one message, or not at all.
        more = as_number(fields(content, 3), 3)
        return Asked(stream, put(2, 1) if more else b"")
    if method == "StartContainer":
        return Asked(stream, starting=_starting(content, pod=1, container=2))
    if method == "StateChange" and as_number(fields(content, 1), 1) == _START_CONTAINER:
        return Asked(stream, starting=_starting(content, pod=2, container=3))
    return Asked(stream)


def answer(connection: int, stream: int, content: bytes) -> Message:
    """Return an answer that says that all is well, whatever has happened.

    An answer that is an error keeps the container from starting.
    """
    return Message(connection, stream, Type.RESPONSE, put(2, content) if content else b"")


def _starting(content: bytes, *, pod: int, container: int) -> Starting:
    found = fields(content, pod, container)
    its_pod, it = fields(as_bytes(found, pod), 3), fields(as_bytes(found, container), 1, 3, 12)
    starting = Starting(as_text(its_pod, 3), as_text(it, 3), as_text(it, 1), as_number(it, 12))
    if not (starting.pod_uid and starting.name and starting.container_id):
        raise WireError("a container starts that has no pod, name or id")
    return starting
