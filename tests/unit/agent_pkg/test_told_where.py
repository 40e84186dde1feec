# SPDX-License-Identifier: Apache-2.0
"""What failed is told with the process, and the range at first: somebody can look at them."""

import errno

import pytest

from tests.unit.agent_pkg.test_shared import buffers, rules

ONE = ("mp", "p", "c0")


@pytest.fixture
def refuse(node, kit):
    """Let each call fail, or none again."""
    real = node.machine.process_mbind

    def fails(*_):
        raise kit.CallFailed(errno.ENOMEM, "no memory")

    def to(*, fail):
        node.machine.process_mbind = fails if fail else real

    return to


def test_of_what_is_set(node, kit, refuse):
    node.machine.start(100, "a" * 64, kit.anon(0x20000000))
    refuse(fail=True)
    found = node.full(kit.placement(), seconds=0.5)[ONE]
    assert "process 100, 0x20000000-0x20100000: " in found.message and "no memory" in found.message
    assert "process 100: 1 ranges failed" in node.run(10)[ONE].message  # put off by then


def test_of_what_is_given_back(node, kit, refuse):
    node.machine.start(100, "a" * 64, kit.anon(0x20000000))
    node.full(kit.placement())
    refuse(fail=True)
    node.full()
    assert "process 100, 0x20000000-0x20100000: " in node.said["mp"].message


def test_of_what_is_shared(node, kit, refuse):
    node.machine.start(100, "a" * 64, buffers())
    refuse(fail=True)
    found = node.full(kit.placement(rules=rules()))[ONE]
    assert "process 100: 1 ranges of shared memory failed" in found.message  # put off by then
    refuse(fail=False)
    assert node.run(600)[ONE].state == "Placed"
    refuse(fail=True)
    node.full()
    assert "process 100: 1 ranges of shared memory failed" in node.said["mp"].message
