"""What every test may ask for."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Mapping

import pytest
import uvloop
from hypothesis import settings

from tests.effort import examples
from tests.fake_guest import FakeGuest

# A busy machine is no failure, and examples must be the same in every run of the same code.
settings.register_profile("memreact", deadline=None, derandomize=True, max_examples=examples())
settings.load_profile("memreact")

# The files that take longest, for a daemon, a terminal or another command; what is begun last must
# be short, or one core waits for another.
LONGEST = (
    "memreact/test_daemon.py",
    "tools/top/test_app.py",
    "memreact/test_daemon_unread.py",
    "tools/top/test_terminal.py",
    "tools/report/test_report.py",
    "memreact/test_daemon_compaction.py",
    "memreact/control/test_ttrpc.py",
    "memreact/test_daemon_hardship.py",
    "memreact/test_daemon_control.py",
    "memreact/control/test_listening.py",
    "memreact/test_daemon_metrics.py",
    "packaging/test_build_deb.py",
    "packaging/test_host_deb.py",
    "memreact/replay/test_verify.py",
    "architecture/test_extending_page.py",
    "memreact/sources/test_tree.py",
    "memreact/control/test_squeezing.py",
    "memreact/control/test_store_model.py",
    "packaging/test_completion.py",
)
HERE = os.path.dirname(__file__)

# Whoever starts the tests in the background may ignore Ctrl-C, and so would each program of theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The collector would go over what pytest collects, of which nothing goes, again and again.
gc.disable()

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each async test on the loop that we use and on Python's own."""
    return LOOPS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    rank = {os.path.join(HERE, name): number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(os.fspath(item.path), len(LONGEST)))


def pytest_collection_finish() -> None:
    """Let the collector see what tests make."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def guest(tmp_path: os.PathLike[str]) -> FakeGuest:
    """An empty guest."""
    return FakeGuest(os.fspath(tmp_path))
