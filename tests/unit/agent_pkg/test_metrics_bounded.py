# SPDX-License-Identifier: Apache-2.0
"""What tenants can multiply or name makes no more series in /metrics."""

import errno

from tests.support.agent.machine import CXL

IDS = "abcdef0123456789"


def series(node):
    """Each line of /metrics without its value."""
    lines = node.metrics.text().decode().splitlines()
    return {line.rpartition(" ")[0] for line in lines if line[:1] != "#"}


def test_pods_placements_and_names_of_tenants_make_no_series(started, kit):
    started.machine.start(200, IDS[1] * 64, kit.heap())
    started.full(kit.placement(), pods=[kit.pod("p", "ab")], seconds=60)
    assert started.machine.policies(200)["[heap]"] == CXL
    before = series(started)
    assert before

    for at, letter in enumerate(IDS[2:]):
        started.machine.start(
            300 + at, letter * 64, kit.heap(), pod=f"uid_t{at}", comm=f"tenant-{at}"
        )
    pods = [kit.pod("p", "ab")] + [kit.pod(f"t{at}", each) for at, each in enumerate(IDS[2:])]
    many = [
        kit.placement(
            f"mp-{at}",
            rules=[kit.rule({"type": "Heap"}, "PreferredMany", f"tier-of-tenant-{at}", "cxl")],
        )
        for at in range(60)
    ]
    started.full(kit.placement(), *many, pods=pods, seconds=600)
    assert all(started.machine.policies(300 + at)["[heap]"] == CXL for at in range(14))
    grown = series(started) - before
    # A reason more, of the agent's own: its words are counted by the code.
    assert all(line.startswith("memplace_agent_apply_") for line in grown), sorted(grown)
    assert not [line for line in series(started) if "tenant" in line or IDS[2] * 64 in line]
    assert len(grown) <= 4, sorted(grown)


def test_every_errno_is_a_word_and_not_a_text(started, kit):
    numbers = [errno.EPERM, errno.ENOMEM, errno.EIO, errno.EIO, 4711]
    for number in numbers:

        def refuse(number=number):
            raise kit.CallFailed(number, f"text of its own {number}")

        started.machine.on_call = refuse
        started.full(kit.placement(f"mp-{number}"), seconds=400)
    found = [line for line in series(started) if "syscall_errors_total" in line]
    assert found and not [line for line in found if "text" in line or "4711" in line], found
