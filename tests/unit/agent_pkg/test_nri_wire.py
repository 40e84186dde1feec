# SPDX-License-Identifier: Apache-2.0
"""NRI's bytes: what is sent is what is read, however it is cut, and garbage is an error."""

import contextlib
import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memplace_agent.nri.messages import (
    Starting,
    answer,
    asked,
    registration,
    registration_error,
)
from memplace_agent.nri.wire import (
    LONGEST,
    OF_PLUGIN,
    OF_RUNTIME,
    Message,
    Stream,
    WireError,
    as_bytes,
    as_number,
    as_text,
    fields,
    framed,
    put,
)

messages = st.builds(
    Message,
    connection=st.sampled_from([OF_PLUGIN, OF_RUNTIME]),
    stream=st.integers(0, 2**32 - 1),
    type=st.integers(0, 255),
    data=st.binary(max_size=300),
)


def cut(data, at):
    at = sorted({0, len(data), *(where % (len(data) + 1) for where in at)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


def request(method, content=b"", stream=5):
    return Message(OF_PLUGIN, stream, 1, put(1, "any") + put(2, method) + put(3, content))


def starts(pod, container, **kwargs):
    known = {"uid": "u-1", "name": "c0", "id": "a" * 64} | kwargs
    its_pod = put(1, "sandbox") + put(2, "p") + put(3, known["uid"])
    it = put(1, known["id"]) + put(3, known["name"]) + put(8, "A=1") + put(12, 77)
    return put(pod, its_pod) + put(container, it)


# --- the stream ---


@given(st.lists(messages, max_size=6), st.lists(st.integers(0, 5000)))
def test_messages_are_read_back_however_they_are_cut(sent, at):
    stream = Stream()
    pieces = cut(b"".join(map(framed, sent)), at)
    assert [each for piece in pieces for each in stream.take(piece)] == sent


@given(messages, st.lists(st.integers(0, 400)), messages, st.lists(st.integers(0, 400)))
def test_a_message_in_many_frames_between_those_of_another_connection(one, at, other, at_other):
    def frames(message, at, connection):
        whole = framed(message)[8:]
        return [struct.pack(">II", connection, len(part)) + part for part in cut(whole, at)]

    first, second = frames(one, at, OF_PLUGIN), frames(other, at_other, OF_RUNTIME)
    mixed = [each for pair in zip(first, second, strict=False) for each in pair]
    mixed += first[len(second) :] + second[len(first) :]
    found = list(Stream().take(b"".join(mixed)))
    assert {(each.connection, each.stream, each.data) for each in found} == {
        (OF_PLUGIN, one.stream, one.data),
        (OF_RUNTIME, other.stream, other.data),
    }


def test_a_connection_nobody_knows_is_passed_over():
    strange = struct.pack(">II", 77, 5) + b"hello"
    message = Message(OF_PLUGIN, 1, 1, b"x")
    assert list(Stream().take(strange + framed(message) + strange)) == [message]


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">II", OF_PLUGIN, LONGEST + 11),
        struct.pack(">II", 77, 2**32 - 1),
        struct.pack(">II", OF_PLUGIN, 10) + struct.pack(">IIBB", LONGEST + 1, 1, 1, 0),
    ],
)
def test_what_is_too_long_is_refused_before_it_has_come(data):
    with pytest.raises(WireError, match="bytes"):
        list(Stream().take(data))


def test_the_longest_message_is_read():
    message = Message(OF_PLUGIN, 3, 1, bytes(LONGEST))
    assert list(Stream().take(framed(message))) == [message]


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_garbage_is_messages_or_an_error_and_nothing_else(pieces):
    stream = Stream()
    try:
        for piece in pieces:
            for message in stream.take(piece):
                asked(message)
                registration_error(message)
    except WireError:
        pass


# --- protobuf ---


@given(st.integers(1, 2**20), st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=300)))
def test_a_field_is_read_back(number, value):
    others = put(number + 1, 3) + put(number + 2, "x")
    assert fields(others + put(number, value) + others, number) == {number: value}


def test_the_last_of_several_values_counts_as_protobuf_says():
    assert fields(put(1, 5) + put(1, 6), 1) == {1: 6}


def test_fields_of_fixed_size_are_passed_over():
    data = bytes([2 << 3 | 1]) + bytes(8) + bytes([3 << 3 | 5]) + bytes(4) + put(4, "end")
    assert fields(data, 2, 4) == {2: bytes(8), 4: b"end"}


@pytest.mark.parametrize(
    "data",
    [
        bytes([1 << 3 | 2, 5]) + b"abc",  # cut off
        bytes([1 << 3 | 3]),  # a group
        bytes([1 << 3 | 7]),
        bytes([0x80]),  # half a number
        bytes([1 << 3]) + b"\xff" * 11,
        bytes([1 << 3 | 1]) + bytes(7),
    ],
)
def test_what_is_no_protobuf_is_refused(data):
    with pytest.raises(WireError):
        fields(data, 1)


def test_a_field_of_another_kind_than_expected_is_refused():
    found = fields(put(1, 5) + put(2, "x"), 1, 2)
    with pytest.raises(WireError):
        as_text(found, 1)
    with pytest.raises(WireError):
        as_number(found, 2)
    assert (as_bytes(found, 3), as_number(found, 3)) == (b"", 0)


@given(st.binary(max_size=300))
def test_any_bytes_are_fields_or_an_error(data):
    with contextlib.suppress(WireError):
        fields(data, *range(1, 40))


# --- messages ---


@pytest.mark.parametrize(
    ("method", "content"),
    [
        ("StartContainer", starts(1, 2)),
        ("StateChange", put(1, 6) + starts(2, 3)),  # before 0.12
    ],
)
def test_a_container_that_starts_is_read_from_both_versions(method, content):
    found = asked(request(method, content))
    assert (found.stream, found.answer) == (5, b"")
    assert found.starting == Starting("u-1", "c0", "a" * 64, 77)


def test_a_runtime_that_does_not_say_the_pid_says_all_else():
    content = put(1, put(3, "u")) + put(2, put(1, "id") + put(3, "c"))
    assert asked(request("StartContainer", content)).starting == Starting("u", "c", "id", 0)


@pytest.mark.parametrize("method", ["Shutdown", "CreateContainer", "Later", ""])
def test_what_is_not_known_is_answered_and_nothing_done(method):
    found = asked(request(method, b"\xff"))
    assert found.starting is None and found.answer == b"" and not found.is_configured


def test_other_events_are_nothing_to_be_done():
    assert asked(request("StateChange", put(1, 7) + starts(2, 3))).starting is None


def test_starts_of_containers_are_all_that_is_subscribed():
    found = asked(request("Configure", put(2, "containerd") + put(3, "v2.2")))
    assert found.is_configured and found.runtime == "containerd v2.2"
    assert fields(found.answer, 2) == {2: 1 << 5}


@pytest.mark.parametrize("more", [0, 1])
def test_what_runs_may_come_in_several_messages(more):
    content = put(1, put(3, "u")) + (put(3, 1) if more else b"")
    assert as_number(fields(asked(request("Synchronize", content)).answer, 2), 2) == more


@pytest.mark.parametrize("kwargs", [{"uid": ""}, {"name": ""}, {"id": ""}])
def test_a_container_without_a_name_is_refused(kwargs):
    with pytest.raises(WireError):
        asked(request("StartContainer", starts(1, 2, **kwargs)))


def test_a_registration_names_the_plugin_and_may_be_refused():
    found = fields(registration(5).data, 1, 2, 3, 4)
    assert found[1] == b"nri.pkg.api.v1alpha1.Runtime" and found[2] == b"RegisterPlugin"
    assert fields(as_bytes(found, 3), 1, 2) == {1: b"memplace", 2: b"90"} and found[4] == 5 * 10**9
    refused = put(1, put(1, 2) + put(2, "invalid plugin index"))
    assert registration_error(Message(OF_RUNTIME, 1, 2, refused)) == "invalid plugin index"
    assert registration_error(answer(OF_RUNTIME, 1, b"")) == ""


@given(st.binary(max_size=200))
def test_no_answer_is_an_error(content):
    """Field 1 of a response is its error."""
    assert fields(answer(OF_PLUGIN, 5, content).data, 1) == {}
