"""When the collector may look at all objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from memreact.garbage import collect_if_due, keep_passes_short


class Ring:
    """An object that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def passes() -> Iterator[list[int]]:
    """The generation of each pass, from the set-up on."""
    before = gc.get_threshold()
    generations: list[int] = []

    def begun(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            generations.append(info["generation"])

    keep_passes_short()
    gc.callbacks.append(begun)
    yield generations
    gc.callbacks.remove(begun)
    gc.set_threshold(*before)
    gc.unfreeze()


def many_that_live() -> list[Ring]:
    """As many as a survey of thousands of memcgs leaves: lists of the rings' keep them apart."""
    return [Ring() for _ in range(300_000)]


def test_no_pass_goes_over_all_objects_while_much_is_made(passes: list[int]) -> None:
    kept = many_that_live()
    assert kept
    assert {0, 1} <= set(passes)
    assert 2 not in passes


def test_what_grew_old_is_looked_at_when_it_is_due_and_not_again(passes: list[int]) -> None:
    kept = many_that_live()
    assert kept
    assert collect_if_due()
    assert passes[-1] == 2
    assert not collect_if_due()


def test_nothing_is_due_while_little_is_made(passes: list[int]) -> None:
    assert not collect_if_due()
    assert 2 not in passes


def test_what_was_there_at_the_start_is_not_looked_at(passes: list[int]) -> None:
    del passes
    assert gc.get_freeze_count() > 1000
