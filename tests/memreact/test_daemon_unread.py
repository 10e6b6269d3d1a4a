"""The daemon where the kernel's files are not what they should be, or not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.effort import examples
from tests.fake_guest import FakeGuest
from tests.memreact.full_guest import reporting_guest
from tests.memreact.test_daemon import BUSY, Running
from tests.memreact.test_daemon_control import Caller, guest

__all__ = ["guest"]

COMPACTS = "[compact]\nperiod_secs = 1\n"
# Those of calls that nothing can be done for here are no trouble.
FINE = {"NotPossible", "Busy", "NoSuchCgroup", "ExpectedMore"}
CALLS: tuple[tuple[str, dict[str, object]], ...] = (
    ("RunNow", {}),
    ("GetStatus", {"ledger": True}),
    ("Look", {"paths": ["/shop"]}),
    ("Explain", {"path": "/shop"}),
    ("GetDoctor", {}),
    ("WhatIf", {"patch": {"memcg": {"swap": False}}}),
)


def emptied(path: str) -> None:
    Path(path).write_bytes(b"")


def cut(path: str) -> None:
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 2 + 1])


def garbled(path: str) -> None:
    Path(path).write_bytes(Path(path).read_bytes()[::-1])


def endless_digits(path: str) -> None:
    Path(path).write_bytes(b"9" * 6000 + b"\n")


def no_text(path: str) -> None:
    Path(path).write_bytes(b"\xff\x00\x97 \t-1" * 40)


def gone(path: str) -> None:
    os.unlink(path)


def unreadable(path: str) -> None:
    os.unlink(path)
    os.mkdir(path)  # a read of it fails


WAYS = (emptied, cut, garbled, endless_digits, no_text, gone, unreadable)


class Files:
    """What the kernel shows in a guest, and how it looked at first."""

    def __init__(self, root: str) -> None:
        there = (Path(root) / top for top in ("proc", "sys"))
        self._first = {
            str(path): path.read_bytes()
            for folder in there
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }

    def some(self, first: int) -> list[str]:
        """Paths, from this one on: all of them, or a tenth where somebody waits."""
        paths = [*self._first]
        step = len(paths) // examples(len(paths))
        return paths[first % step :: step]

    def mend(self) -> None:
        """Let all of them look as they did at first, those too that the daemon wrote to."""
        for path, content in self._first.items():
            if os.path.isdir(path):
                os.rmdir(path)
            Path(path).write_bytes(content)


@pytest.mark.parametrize("becomes", WAYS)
def test_whatever_becomes_of_a_file_of_the_kernel_s_all_calls_are_answered(
    guest: FakeGuest,  # as pytest names fixtures
    tmp_path: Path,
    becomes: Callable[[str], None],
) -> None:
    files = Files(reporting_guest(guest).root)
    with open(tmp_path / "journal", "wb") as journal:
        daemon = Running(guest, BUSY + COMPACTS, "uvloop", stderr=journal.fileno())
    with closing(daemon), ExitStack() as ended:
        daemon.hears("READY=1")
        caller = Caller(guest)
        ended.callback(caller.close)
        for path in files.some(WAYS.index(becomes)):
            becomes(path)
            for method, parameters in CALLS:
                caller._call(method, False, parameters)  # noqa: FBT003  # its own signature
                error = caller._answer().get("error", "")
                assert not error or error.rpartition(".")[2] in FINE, (path, method, error)
            files.mend()
        assert daemon.process.poll() is None
    assert b"Traceback" not in (tmp_path / "journal").read_bytes()
