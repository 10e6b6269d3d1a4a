"""What every test may ask for."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.fake_guest import FakeGuest

# A busy machine is no failure, and examples must be the same in every run of the same code.
settings.register_profile("memreact", deadline=None, derandomize=True)
settings.load_profile("memreact")


@pytest.fixture
def guest(tmp_path: os.PathLike[str]) -> FakeGuest:
    """An empty guest."""
    return FakeGuest(os.fspath(tmp_path))
