"""What every test may ask for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping

import pytest
import uvloop
from hypothesis import settings

from tests.effort import examples
from tests.fake_guest import FakeGuest

# A busy machine is no failure, and examples must be the same in every run of the same code.
settings.register_profile("memreact", deadline=None, derandomize=True, max_examples=examples())
settings.load_profile("memreact")

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each async test on the loop that we use and on Python's own."""
    return LOOPS


@pytest.fixture
def guest(tmp_path: os.PathLike[str]) -> FakeGuest:
    """An empty guest."""
    return FakeGuest(os.fspath(tmp_path))
