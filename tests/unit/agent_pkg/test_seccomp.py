# SPDX-License-Identifier: Apache-2.0
"""The agent's seccomp profile, installed on a real process with libseccomp."""

import ctypes
import json
import os
import subprocess
import sys

import pytest
from memplace_agent.hostfs import HostFs
from memplace_agent.seccomp import PROFILE, install

# Loads the profile as a container runtime does, then says which errno some calls answer.
PROGRAM = """
import ctypes, json, os, sys
lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
libc = ctypes.CDLL(None, use_errno=True)
lib.seccomp_init.restype = ctypes.c_void_p

class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int),
                ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]

ALLOW, ERRNO, NE = 0x7FFF0000, 0x00050000, 1
profile = json.loads(sys.stdin.read())
assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
context = ctypes.c_void_p(lib.seccomp_init(ctypes.c_uint32(ALLOW)))
for rule in profile["syscalls"]:
    assert rule["action"] == "SCMP_ACT_ERRNO"
    arguments = []
    for argument in rule.get("args", []):
        assert argument["op"] == "SCMP_CMP_NE"
        arguments.append(Compare(argument["index"], NE, argument["value"], 0))
    array = (Compare * len(arguments))(*arguments)
    for name in rule["names"]:
        number = lib.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            action = ctypes.c_uint32(ERRNO | rule["errnoRet"])
            assert lib.seccomp_rule_add_array(
                context, action, number, ctypes.c_uint(len(arguments)), array) == 0
assert lib.seccomp_load(context) == 0

def answer(number, *arguments):
    done = libc.syscall(number, *(ctypes.c_void_p(one) for one in arguments))
    return 0 if done >= 0 else ctypes.get_errno()

page = (ctypes.c_uint64 * 1)(ctypes.addressof(context))
status = (ctypes.c_int * 1)()
nodes = (ctypes.c_int * 1)(0)
a = ctypes.addressof
print(json.dumps({
    "where": answer(279, os.getpid(), 1, a(page), None, a(status), 0),
    "move": answer(279, os.getpid(), 1, a(page), a(nodes), a(status), 0),
    "nothing to move": answer(279, os.getpid(), 0, None, a(nodes), a(status), 0),
    "ptrace": answer(101, 0, 0, 0, 0),
    "unknown": answer(473000, 0, 0, 0, 0),
}))
"""


def answers_under(profile):
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("needs libseccomp")
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are those of x86_64")
    done = subprocess.run(
        [sys.executable, "-S", "-c", PROGRAM],
        input=profile.read_text(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What calls answer on a node with process_mbind()."""
    host = HostFs(sysfs=tmp_path_factory.mktemp("sys"))
    host.announcement.mkdir(parents=True)
    return answers_under(install(tmp_path_factory.mktemp("profiles"), host))


@pytest.fixture(scope="module")
def stock_answers(tmp_path_factory):
    """What they answer on a node without."""
    host = HostFs(sysfs=tmp_path_factory.mktemp("sys"))
    return answers_under(install(tmp_path_factory.mktemp("profiles"), host))


def test_the_agent_may_ask_where_pages_are(answers):
    assert answers["where"] == 0


@pytest.mark.parametrize("call", ["move", "nothing to move", "ptrace"])
def test_the_agent_may_not_move_pages_that_way(answers, call):
    assert answers[call] == 1


def test_calls_that_nobody_knows_pass(answers):
    """process_mbind() has a number that no runtime knows."""
    assert answers["unknown"] == 38


def test_without_process_mbind_the_agent_may_move_pages(stock_answers):
    assert stock_answers == {
        "where": 0,
        "move": 0,
        "nothing to move": 0,
        "ptrace": 1,
        "unknown": 38,
    }


def test_a_profile_is_replaced_whole(tmp_path):
    """A node that boots another kernel gets the other one."""
    host = HostFs(sysfs=tmp_path / "sys")
    stock = install(tmp_path / "profiles", host).read_bytes()
    host.announcement.mkdir(parents=True)
    ours = install(tmp_path / "profiles", host).read_bytes()
    assert stock != ours
    assert [each.name for each in (tmp_path / "profiles").iterdir()] == [PROFILE]
