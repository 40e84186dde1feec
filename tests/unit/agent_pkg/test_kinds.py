# SPDX-License-Identifier: Apache-2.0
"""What tells a stack from a heap, one thing at a time; real programs: test_recorded_maps."""

from __future__ import annotations

from dataclasses import replace

import pytest
from memplace.kinds import RegionKind
from memplace_agent.procfs.kinds import is_special, kind_of, thread_stacks

from tests.unit.agent_pkg.recordings import Recorded

KIB, MIB = 1 << 10, 1 << 20
BASE = 0x7F0000000000
AS_STACK = "rd wr mr mw me ac nh"


def mapped(start: int, size: int, permissions: str = "rw-", **rest: object) -> Recorded:
    known = {"shared": False, "inode": 0, "path": "", "flags": "rd wr mr mw me ac"} | rest
    return Recorded(start, start + size, permissions, **known)  # type: ignore[arg-type]


def stack(guard: int = 4 * KIB, size: int = 8 * MIB, flags: str = AS_STACK, **rest: object):
    return [
        mapped(BASE, guard, "---", flags=flags.replace("rd wr", "")),
        mapped(BASE + guard, size, flags=flags, **rest),  # type: ignore[arg-type]
    ]


def is_stack(mappings, pointer: int = 0, seen=()) -> bool:
    return mappings[-1].start in thread_stacks(mappings, [pointer], seen)


def top(mappings) -> int:
    return mappings[-1].end - 64


def test_mmap_with_map_stack_and_its_guard_are_a_stack_in_use_or_not():
    assert thread_stacks(stack(), []) == {each.start for each in stack()}


def test_without_the_flag_it_is_one_while_a_thread_is_on_it_and_once_that_was_seen():
    musl = stack(8 * KIB, 132 * KIB, flags="rd wr mr mw me ac")
    assert not is_stack(musl)
    assert is_stack(musl, top(musl))
    assert is_stack(musl, 0, thread_stacks(musl, [top(musl)]))


@pytest.mark.parametrize("flags", [AS_STACK, "rd wr mr mw me ac", ""])
def test_a_pointer_into_memory_without_a_guard_makes_no_stack(flags):
    (_, alone) = stack(flags=flags)
    assert not is_stack([alone], top([alone]))


@pytest.mark.parametrize(
    "below",
    [
        mapped(BASE - 4 * MIB, 4 * MIB, "---"),  # a reservation
        mapped(BASE - 4 * KIB, 4 * KIB, "r--"),
        mapped(BASE - 8 * KIB, 4 * KIB, "---"),  # a gap between
        mapped(BASE - 4 * KIB, 4 * KIB, "---", inode=7, path="/lib/libc.so.6"),
    ],
)
@pytest.mark.parametrize("flags", [AS_STACK, "rd wr mr mw me ac"])
def test_what_is_below_is_not_always_a_guard(below, flags):
    heap = [below, mapped(BASE, 8 * MIB, flags=flags)]
    assert not is_stack(heap, BASE + MIB)


def test_a_heap_kept_from_huge_pages_is_none_though_something_small_lies_below():
    heap = [mapped(BASE - 4 * KIB, 4 * KIB, "---"), mapped(BASE, 8 * MIB, flags=AS_STACK)]
    assert not is_stack(heap)
    assert is_stack(heap, BASE + MIB)  # Java maps guards of its own over its stacks


def test_memory_right_above_a_stack_is_not_part_of_it():
    (guard, used) = stack()
    heap = mapped(used.end, 16 * MIB, flags=f"nr {AS_STACK}")
    assert heap.start not in thread_stacks([guard, used, heap], [used.end - 64])


def test_a_stack_that_asked_for_huge_pages_needs_a_pointer():
    advised = stack(flags="rd wr mr mw me ac hg")
    assert not is_stack(advised)
    assert is_stack(advised, top(advised))


def test_a_guard_may_be_a_flag():
    (_, alone) = stack(flags=f"{AS_STACK} gu")
    assert is_stack([alone])
    assert not is_stack([replace(alone, flags="rd wr mr mw me ac gu")])


def test_what_is_larger_than_any_stack_has_been_merged_with_one():
    large, too_large = (stack(8 * KIB, size * MIB, flags="rd wr") for size in (64, 65))
    assert is_stack(large, top(large))
    assert not is_stack(too_large, top(too_large))
    assert is_stack(stack(size=1 << 30))  # as large as the program asked for


@pytest.mark.parametrize("rest", [{"shared": True}, {"inode": 5, "path": "/memfd:x"}])
def test_only_private_anonymous_memory_is_a_stack(rest):
    other = stack(**rest)
    assert not is_stack(other, top(other))


def test_executable_and_named_stacks_are_stacks():
    (guard, used) = stack()
    assert is_stack([guard, replace(used, permissions="rwx")])
    assert is_stack([guard, replace(used, path="[anon: glibc: pthread stack: 7]")])
    assert not is_stack([guard, replace(used, permissions="r--")])


def test_a_pointer_where_nothing_is_mapped_does_no_harm():
    plain = stack(8 * KIB, 132 * KIB, flags="rd wr")
    for pointer in (0, BASE - 1, plain[-1].end, (1 << 64) - 1):
        assert not is_stack(plain, pointer)
    assert thread_stacks([], [BASE]) == frozenset()


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        ("Brk", {"path": "[heap]"}),
        ("Stack", {"path": "[stack]"}),
        ("Stack", {"flags": "rd wr mr mw me gd ac"}),  # maps names one part of it only
        ("Anonymous", {}),
        ("Anonymous", {"path": "[anon:arena]"}),
        ("Anonymous", {"path": "/dev/zero", "inode": 4}),
        ("Anonymous", {"permissions": "rwx"}),
        ("Shared", {"shared": True, "inode": 9, "path": "/dev/zero (deleted)"}),
        ("Shared", {"shared": True, "inode": 9, "path": "/memfd:java_heap (deleted)"}),
        ("Shared", {"shared": True, "inode": 9, "path": "/SYSV00ba25c2 (deleted)"}),
        ("Shared", {"shared": True, "inode": 9, "path": "[anon_shmem:x]"}),
        ("HugeTLB", {"inode": 9, "path": "/anon_hugepage (deleted)"}),
        ("HugeTLB", {"shared": True, "inode": 9, "path": "/mnt/x", "flags": "rd wr sh ht"}),
        ("File", {"inode": 9, "path": "/usr/lib/libc.so.6"}),
        ("File", {"inode": 9, "path": "/srv/data", "shared": True}),
    ],
)
def test_the_kind_follows_from_path_and_flags(kind, rest):
    assert kind_of(mapped(BASE, MIB, **rest), ()) is RegionKind(kind)


def test_guards_of_stacks_are_stack_memory():
    mappings = stack()
    stacks = thread_stacks(mappings, [])
    assert [kind_of(each, stacks) for each in mappings] == [RegionKind.STACK] * 2


@pytest.mark.parametrize(
    "rest",
    [
        {"path": "[vdso]"},
        {"path": "[vvar_vclock]"},
        {"path": "[uprobes]"},
        {"path": "/dev/nvidia0", "inode": 3, "shared": True},
        {"path": "anon_inode:[io_uring]", "inode": 3, "shared": True},
        {"path": "/sys/devices/pci0000:00/resource0", "flags": "rd wr sh io pf dd"},
        {"path": "/dmabuf:", "flags": "rd wr sh pf"},
        {"path": "/sys/kernel/x", "flags": "rd wr sh io"},
        # Without flags, as kernels tell them that have no policies in PROCMAP_QUERY.
        {"path": "/sys/devices/pci0000:00/0000:01:00.0/resource0", "inode": 51234, "shared": True},
        {"path": "/sys/kernel/btf/vmlinux", "inode": 9},
        {"path": "/proc/bus/pci/00/1f.3", "inode": 9, "shared": True},
        {"path": "/dmabuf:", "inode": 312, "shared": True},
        {"path": "/dmabuf:frames", "inode": 312, "shared": True},
    ],
)
def test_what_is_of_the_kernel_or_of_a_device_is_special(rest):
    assert is_special(mapped(BASE, MIB, **rest))


@pytest.mark.parametrize(
    "path",
    [
        *("", "[heap]", "[stack]", "[anon:x]", "[anon_shmem:x]", "/dev/shm/x", "/dev/zero", "/a"),
        *("/system/x", "/process", "/data/dmabuf:x"),
    ],
)
def test_what_is_of_the_program_is_not(path):
    assert not is_special(mapped(BASE, MIB, path=path))
