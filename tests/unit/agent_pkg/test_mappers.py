# SPDX-License-Identifier: Apache-2.0
"""Who maps an object: of real processes, and as cgroups are named."""

from __future__ import annotations

import errno
import mmap
import os
import time
from pathlib import Path

import pytest
from memplace.objects import ObjectId
from memplace_agent.containers.mappers import pod_in, scan
from memplace_agent.hostfs import HostFs
from memplace_agent.procfs.mapped import object_of
from memplace_agent.procfs.mounts import internal_device, tmpfs_devices
from memplace_agent.procfs.query import ReadVmas, Way, read_vmas
from memplace_agent.procfs.vmas import EMPTY
from memplace_agent.syscalls.views import Ended

HOST = HostFs()
OWN = Path("/proc/self")
PAGE = mmap.PAGESIZE


@pytest.fixture
def segment():
    """A memfd that this process maps: its id and the descriptor."""
    file = os.memfd_create("memplace-test")
    os.ftruncate(file, PAGE)
    status = os.fstat(file)
    with mmap.mmap(file, PAGE):
        device = os.major(status.st_dev), os.minor(status.st_dev)
        yield ObjectId(*device, status.st_ino), file
    os.close(file)


def everybody(wanted, ask=read_vmas, seconds=60.0):
    return scan(HOST, ask, wanted, time.monotonic() + seconds)


def only_own(directory, *rest):
    """Of all processes of this machine only ours is asked for."""
    gone = ReadVmas(EMPTY, Ended.FAILED, errno.ENOENT)
    return read_vmas(directory, *rest) if directory.name == str(os.getpid()) else gone


def test_who_maps_a_segment_is_found_with_its_cgroup(segment):
    one, _ = segment
    found = everybody({one}, only_own)
    assert found.is_whole and not found.unread
    ((mapper,),) = found.mappers.values()
    assert mapper.pid == os.getpid()
    line = (OWN / "cgroup").read_text().splitlines()
    shown = next((text.removeprefix("0::/") for text in line if text.startswith("0::/")), "")
    assert "/".join(mapper.cgroup) == shown


def test_who_has_the_descriptor_alone_is_no_mapper_and_a_private_mapping_is_one(segment):
    one, file = segment
    other = os.memfd_create("not-mapped")
    os.ftruncate(other, PAGE)
    status = os.fstat(other)
    two = one._replace(inode=status.st_ino)
    assert two not in everybody({one, two}, only_own).mappers
    with mmap.mmap(other, PAGE, mmap.MAP_PRIVATE):
        assert two in everybody({one, two}, only_own).mappers
    os.close(other)
    assert file


def test_who_cannot_be_read_is_named_and_who_is_gone_is_not(segment):
    one, _ = segment

    def refuse(directory, *_):
        number = errno.EACCES if directory.name == str(os.getpid()) else errno.ESRCH
        return ReadVmas(EMPTY, Ended.FAILED, number)

    found = everybody({one}, refuse)
    assert found.unread == [(os.getpid(), "Permission denied")]
    assert found.is_whole and not found.mappers


@pytest.mark.parametrize("number", [0, errno.ESRCH])
def test_a_process_whose_first_thread_has_ended_maps_what_the_others_do(
    segment, leaderless, number
):
    """Of which the kernel shows nothing, or says that it has no address space."""
    one, _ = segment
    # It maps the libraries of Python; one of them will do.
    task = next(
        t for t in Path(f"/proc/{leaderless.pid}/task").iterdir() if t.name != str(leaderless.pid)
    )
    view = read_vmas(task, Way.MAPS, time.monotonic() + 60).vmas
    library = next(o for o in map(object_of, view.classes) if o and o.inode)

    def ask(directory, *rest):
        gone = ReadVmas(EMPTY, Ended.FAILED, errno.ENOENT)
        if number and directory.name == str(leaderless.pid):
            return ReadVmas(EMPTY, Ended.FAILED, number)
        return read_vmas(directory, *rest) if str(leaderless.pid) in directory.parts else gone

    (mappers,) = everybody({one, library}, ask).mappers.values()
    assert [mapper.pid for mapper in mappers] == [leaderless.pid]


def test_what_is_not_read_in_time_is_not_whole(segment):
    one, _ = segment
    assert not everybody({one}, seconds=0).is_whole


UIDS = {"11111111-2222-3333-4444-555555555555": "ns", "66666666-7777-8888-9999-000000000000": "x"}
FIRST, SECOND = UIDS


@pytest.mark.parametrize(
    ("path", "uid"),
    [
        (
            f"kubepods.slice/kubepods-pod{FIRST.replace('-', '_')}.slice/cri-containerd-a.scope",
            FIRST,
        ),
        (f"../../kubepods-pod{FIRST.replace('-', '_')}.slice/cri-containerd-a.scope", FIRST),
        (f"kubepods/burstable/pod{SECOND}/abc", SECOND),
        # What a container makes below its own cgroup does not make it another pod's.
        (f"kubepods/pod{SECOND}/abc/pod{FIRST}/x", SECOND),
        # A node in a pod of another cluster's.
        (f"kubepods/poddddddddd-0000/abc/kubepods/pod{FIRST}/x", FIRST),
        ("system.slice/postgresql.service", None),
        ("kubepods/poddddddddd-0000/abc", None),
        ("", None),
    ],
)
def test_whose_pod_a_cgroup_is_in(path, uid):
    assert pod_in(tuple(part for part in path.split("/") if part), UIDS) == uid


def test_memory_without_a_name_is_on_the_device_of_memfds(segment):
    one, _ = segment
    assert internal_device() == one[:2]


def test_which_file_systems_keep_policies(tmp_path):
    (tmp_path / "mountinfo").write_text(
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "23 22 0:21 / /dev/shm rw,nosuid shared:4 - tmpfs shm rw,size=65536k\n"
        "24 22 0:30 / /with\\040blank rw master:1 - tmpfs tmpfs rw\n"
        "25 22 0:31 / /huge rw - hugetlbfs none rw\n"
        "not a line of it\n"
    )
    assert tmpfs_devices(tmp_path) == {(0, 21), (0, 30)}
    assert tmpfs_devices(tmp_path / "gone") == frozenset()
