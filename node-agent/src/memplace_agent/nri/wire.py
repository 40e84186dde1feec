# SPDX-License-Identifier: Apache-2.0
"""How NRI's messages lie in a stream of bytes; pure.

Three layers, all numbers big-endian: the multiplexer's frames (connection, length), in them
the messages of ttrpc (length, stream, type, flags), in these protobuf. One message may be in
several frames, and those of two connections may take turns.

What comes in is bounded: a message has 4 MiB at most, as on the other side, and whatever is no
such stream is a `WireError`, which ends the connection.

Sources: containerd/nri ``pkg/net/multiplex/mux.go``, containerd/ttrpc ``channel.go`` and
``request.proto``, protobuf.dev "Encoding".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from memplace.errors import MemplaceError
from memplace.reasons import Reason

# The connections in one: requests of the runtime to the plugin, and of the plugin to it.
OF_PLUGIN, OF_RUNTIME = 1, 2

# Of the content of a message.
LONGEST = 4 << 20

_FRAME = struct.Struct(">II")
_HEADER = struct.Struct(">IIBB")
_LONGEST_FRAME = LONGEST + _HEADER.size

# A number of 64 bits in groups of seven.
_VARINT_BYTES = 10

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Value = int | bytes


class WireError(MemplaceError, ValueError):
    """What came is no NRI; the text says what is wrong with it."""

    reason = Reason.PARSE_ERROR
    HELP = "What is at the socket is no runtime with NRI, or a version that is not known."


class Type:
    """Of a message of ttrpc."""

    REQUEST = 1
    RESPONSE = 2


@dataclass(frozen=True, slots=True)
class Message:
    """One of ttrpc's.

    Attributes:
        connection: `OF_PLUGIN` or `OF_RUNTIME`.
        stream: What its answer has as well.
        type: `Type.REQUEST`, `Type.RESPONSE`, or another.
        data: Protobuf.
    """

    connection: int
    stream: int
    type: int
    data: bytes


def framed(message: Message) -> bytes:
    """Return a message as it is sent: in one frame."""
    body = _HEADER.pack(len(message.data), message.stream, message.type, 0) + message.data
    return _FRAME.pack(message.connection, len(body)) + body


class Stream:
    """Takes bytes as they come, gives whole messages.

    It keeps what belongs to messages that are not whole: 4 MiB for each of the two connections,
    and nothing of others.
    """

    def __init__(self) -> None:
        self._head = bytearray()
        self._connection, self._left = 0, 0
        self._parts = {OF_PLUGIN: bytearray(), OF_RUNTIME: bytearray()}

    def take(self, data: bytes) -> Iterator[Message]:
        """Yield the messages that are whole with these bytes.

        Raises:
            WireError: It is no such stream; nothing that follows makes sense.
        """
        at = 0
        while at < len(data):
            if self._left == 0:
                at += self._take_head(data, at)
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if self._connection in self._parts:
                self._parts[self._connection] += piece
                yield from self._whole(self._connection)

    def _take_head(self, data: bytes, at: int) -> int:
        piece = data[at : at + _FRAME.size - len(self._head)]
        self._head += piece
        if len(self._head) == _FRAME.size:
            self._connection, self._left = _FRAME.unpack(self._head)
            self._head.clear()
            if self._left > _LONGEST_FRAME:
                raise WireError(f"a frame of {self._left} bytes")
        return len(piece)

    def _whole(self, connection: int) -> Iterator[Message]:
        parts = self._parts[connection]
        while len(parts) >= _HEADER.size:
            length, stream, type_, _ = _HEADER.unpack_from(parts)
            if length > LONGEST:
                raise WireError(f"a message of {length} bytes")
            end = _HEADER.size + length
            if len(parts) < end:
                return
            data = bytes(parts[_HEADER.size : end])
            del parts[:end]
            yield Message(connection, stream, type_, data)


def put(number: int, value: int | str | bytes) -> bytes:
    """Return one field of a protobuf message."""
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | _BYTES) + _varint(len(data)) + data


def fields(data: bytes, *wanted: int) -> dict[int, Value]:
    """Return some fields of a protobuf message by number; of several values the last one.

    Raises:
        WireError: It is no protobuf.
    """
    found: dict[int, Value] = {}
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _number(data, at)
            if number in wanted:
                found[number] = value
            continue
        end = _end(data, at, kind)
        if kind == _BYTES:
            length, at = _number(data, at)
            end = at + length
        if end > len(data):
            raise WireError(f"field {number} is cut off")
        if number in wanted:
            found[number] = data[at:end]
        at = end
    return found


def as_bytes(found: dict[int, Value], number: int) -> bytes:
    """Return a field that is a message or bytes; empty without it."""
    value = found.get(number, b"")
    if isinstance(value, int):
        raise WireError(f"field {number} is a number")
    return value


def as_text(found: dict[int, Value], number: int) -> str:
    """Return a field that is a text; empty without it."""
    return as_bytes(found, number).decode("utf-8", "replace")


def as_number(found: dict[int, Value], number: int) -> int:
    """Return a field that is a number; 0 without it."""
    value = found.get(number, 0)
    if not isinstance(value, int):
        raise WireError(f"field {number} is no number")
    return value


def _end(data: bytes, at: int, kind: int) -> int:
    if kind not in (_FIXED64, _BYTES, _FIXED32):
        raise WireError(f"a field of kind {kind} at {at} of {len(data)} bytes")
    return at + (8 if kind == _FIXED64 else 4 if kind == _FIXED32 else 0)


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place, byte in enumerate(data[at : at + _VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise WireError("a number does not end")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
