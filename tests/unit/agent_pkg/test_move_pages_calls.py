# SPDX-License-Identifier: Apache-2.0
"""The calls of the backend MovePages, and what their answers mean."""

import errno
import mmap
from typing import Any

import pytest
from memplace.errors import MemplaceError, ProcessGone
from memplace_agent._memplace_sys import ffi
from memplace_agent.backends.move_pages import MovePages
from memplace_agent.engine.answers import Answer, answer_of
from memplace_agent.hostfs import HostFs
from memplace_agent.syscalls.moves import NOT_TOLD, move_pages, why_no_moves
from memplace_agent.syscalls.views import page_nodes

from tests.support.agent.machine import CXL

BLOCK = 2 << 20


class Moving:
    """What is asked of the backend, of one process that is there or not."""

    def __init__(self, number=0, *, lives=True, on_look=False, parts=None, answers=()):
        self.lives, self.asked, self.moved, self.answers = lives, [], [], iter(answers)
        self.pid, self.page_size, self.move_all, self.private_anonymous = 1, 4096, True, True
        self.policy, self.weights, self.may_go_on = CXL, {}, True
        call = refused(number) if number else self.take
        made: dict[str, Any] = {
            "host": HostFs(),
            "kernel": self,
            "ask": call if on_look else self.answer,
            "call": call,
            "present": lambda *_: parts,
            "free": dict,
        }
        self.backend: Any = MovePages(**made)

    def answer(self, _, pages):
        self.asked += pages
        return [0] * len(pages)

    def take(self, _pid, pages, nodes, *, move_all):
        assert move_all and set(nodes) == {1}
        self.moved += pages
        told = next(self.answers, None)
        return [1] * len(pages) if told is None else told

    def is_alive(self, _):
        return self.lives

    def move(self, size=4096):
        return self.backend.move(0, self, [(0, size)], lambda: None)


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (errno.ESRCH, Answer.BUSY),
        (errno.EACCES, Answer.CHANGED),
        (errno.ENODEV, Answer.CHANGED),
        (errno.EPERM, Answer.REFUSED),
        (errno.EINVAL, Answer.BUSY),
        (errno.ENOMEM, Answer.FAILED),
    ],
)
def test_what_an_errno_means(number, answer):
    with pytest.raises(MemplaceError) as found:
        Moving(number).move()
    assert answer_of(found.value) is answer


def test_a_vast_range_is_searched_before_its_pages_are_looked_up():
    moving = Moving(parts=[(BLOCK, BLOCK + 4096)])
    assert moving.move(1 << 30) == 1
    assert moving.asked == moving.moved == [BLOCK]
    moving = Moving(parts=[])
    assert moving.move(1 << 30) == 1 and not moving.asked


def test_a_page_that_stays_keeps_none_behind_it_from_being_tried():
    """The call ends early where one page can't be taken and one before it does not move."""
    first = [NOT_TOLD, NOT_TOLD, -errno.EBUSY, NOT_TOLD, NOT_TOLD]
    moving = Moving(answers=[first, [NOT_TOLD, NOT_TOLD]])
    assert moving.move(5 * 4096) == 1
    assert moving.moved == [*range(0, 5 * 4096, 4096), 3 * 4096, 4 * 4096]


def test_what_can_not_be_searched_is_looked_up_page_by_page():
    moving = Moving()
    moving.move(65 << 20)
    assert len(moving.moved) <= (64 << 20) // 4096 < len(moving.asked) <= (66 << 20) // 4096


@pytest.mark.parametrize("on_look", [True, False])
def test_of_a_process_that_ended_every_errno_is_its_end(on_look):
    with pytest.raises(ProcessGone):
        Moving(errno.EINVAL, lives=False, on_look=on_look).move()


def refused(number):
    def call(*_, **__):
        raise OSError(number, "no")

    return call


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSYS, "this kernel has no move_pages()"),
        (errno.EPERM, "move_pages() is refused to the agent"),
        (errno.EINVAL, "move_pages() fails: Invalid argument"),
    ],
)
def test_why_pages_can_not_be_moved(number, words):
    assert words in str(why_no_moves(refused(number), lambda *_: [0]))
    assert words in str(why_no_moves(ask=refused(number)))


def test_a_call_that_does_something_else_is_not_trusted():
    found = why_no_moves(lambda *_, **__: [-errno.EBUSY], lambda *_: [0])
    assert "answers -16 for a page on 0" in str(found)
    assert why_no_moves(lambda *_, **__: [0], lambda *_: [0]) is None


@pytest.fixture
def page():
    """The address of a page of ours, in memory."""
    with mmap.mmap(-1, mmap.PAGESIZE) as mapped:
        mapped[0] = 1
        view = ffi.from_buffer("char[]", mapped)
        yield int(ffi.cast("uintptr_t", view))
        ffi.release(view)


def test_the_running_kernel_moves_a_page_to_where_it_is(page):
    (node,) = page_nodes(0, [page])
    assert node >= 0
    assert list(move_pages(0, [page], [node], move_all=False)) == [node]
    assert list(move_pages(0, [page, 0x1000], [node, node], move_all=False))[1] == -errno.EFAULT


@pytest.mark.parametrize(
    ("pid", "node", "number"), [(0, 1023, errno.ENODEV), ((1 << 22) + 1, 0, errno.ESRCH)]
)
def test_the_running_kernel_says_what_it_can_not_do(page, pid, node, number):
    with pytest.raises(OSError) as found:
        move_pages(pid, [page], [node], move_all=False)
    assert found.value.errno == number
