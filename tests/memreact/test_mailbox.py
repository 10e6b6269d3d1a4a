"""From a thread to the loop."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator

import pytest

from memreact.mailbox import Mailbox


@pytest.fixture
def box() -> Iterator[Mailbox[int]]:
    made: Mailbox[int] = Mailbox()
    yield made
    made.close()


def readable(box: Mailbox[int]) -> bool:
    return bool(select.select([box], [], [], 0)[0])


def test_is_readable_only_while_something_waits(box: Mailbox[int]) -> None:
    assert not readable(box)
    box.post(1)
    assert readable(box)
    assert list(box.drain()) == [1]
    assert not readable(box)


def test_an_empty_box_gives_nothing_and_does_not_block(box: Mailbox[int]) -> None:
    assert list(box.drain()) == []


def test_a_burst_wakes_the_loop_once_and_keeps_its_order(box: Mailbox[int]) -> None:
    for number in range(5):
        box.post(number)
    assert list(box.drain()) == [0, 1, 2, 3, 4]
    assert not readable(box)


def test_takes_a_bounded_number_at_once_and_leaves_the_rest_readable(box: Mailbox[int]) -> None:
    for number in range(150):
        box.post(number)
    taken = list(box.drain())
    assert len(taken) < 150
    assert readable(box)
    while readable(box):
        taken += box.drain()
    assert taken == list(range(150))


def test_what_an_error_left_behind_wakes_the_loop_again(box: Mailbox[int]) -> None:
    box.post(1)
    box.post(2)
    with pytest.raises(RuntimeError):
        raise_at_first(box)
    assert readable(box)
    assert list(box.drain()) == [2]


def raise_at_first(box: Mailbox[int]) -> None:
    for _ in box.drain():
        raise RuntimeError


def test_what_other_threads_post_at_the_same_time_arrives_once_each(box: Mailbox[int]) -> None:
    def post(base: int) -> None:
        for number in range(200):
            box.post(base + number)

    posters = [threading.Thread(target=post, args=(base,)) for base in (0, 1000, 2000)]
    for poster in posters:
        poster.start()
    taken: list[int] = []
    while len(taken) < 600 and select.select([box], [], [], 10)[0]:
        taken += box.drain()
    for poster in posters:
        poster.join(10)
    assert len(taken) == 600
    assert len(set(taken)) == 600
    assert [n for n in taken if n < 1000] == list(range(200))
