# SPDX-License-Identifier: Apache-2.0
"""The number that a fork keeps and an exec changes, of real processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from memplace.errors import ParseError
from memplace_agent.procfs.image import parse_image


def image(pid="self"):
    return parse_image(Path(f"/proc/{pid}/stat").read_text())


def test_a_fork_has_the_image_of_its_parent():
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.write(writer, str(image()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 64) == str(image()).encode()
    os.close(reader)
    os.close(writer)


def test_each_exec_of_one_program_has_another():
    code = (
        "from memplace_agent.procfs.image import parse_image as p;"
        "print(p(open('/proc/self/stat').read()))"
    )
    outputs = {subprocess.check_output([sys.executable, "-c", code]) for _ in range(5)}
    assert len(outputs) == 5
    assert all(0 < int(text) < 2**63 for text in outputs)
    assert str(image()).encode() not in {text.strip() for text in outputs}


def test_the_image_does_not_change_while_the_program_runs():
    first = image()
    grown = [bytearray(1 << 16) for _ in range(500)]
    assert image() == first
    assert grown


def test_a_process_without_an_address_space_has_none():
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # a zombie
    assert image(child) == 0
    os.waitpid(child, 0)


def test_a_name_with_parentheses_and_blanks():
    fields = " ".join(str(number) for number in range(4, 53))
    assert parse_image(f"1 (a) b (c) S {fields}") == parse_image(f"2 (x) S {fields}") != 0


def test_addresses_that_are_hidden_are_no_image():
    fields = ["S", *(["7"] * 49)]
    fields[26 - 3] = fields[28 - 3] = "1"
    assert parse_image(f"1 (a) {' '.join(fields)}") == 0


@pytest.mark.parametrize("text", ["", "1 (a) S 1 2 3"])
def test_anything_else_is_refused(text):
    with pytest.raises(ParseError):
        parse_image(text)
