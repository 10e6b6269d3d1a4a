"""A terminal of this machine for a program, with nobody before it; memreact-top on one."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from memreact_tools.address import Address

__all__ = ["COLUMNS", "LINES", "attached_top", "on_terminal", "terminal"]

COLUMNS, LINES = 160, 48

_READ = 1 << 16
_PATIENCE_S = 10.0


@contextmanager
def terminal(columns: int, lines: int) -> Iterator[tuple[int, bytearray]]:
    """Open one; yields the program's end, and the last 64 KiB of what is written to it.

    Whoever starts a program on it ends it before the block is left.

    Args:
        columns: Its width.
        lines: Its height.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    screen = bytearray()
    reader = threading.Thread(target=_read, args=(ours, screen), name="terminal", daemon=True)
    reader.start()
    try:
        yield theirs, screen
    finally:
        os.close(theirs)
        reader.join(_PATIENCE_S)
        os.close(ours)


@contextmanager
def attached_top(address: Address) -> Iterator[None]:
    """memreact-top as it is, of 160 columns and 48 lines, until the block is left.

    Args:
        address: Of the daemon.
    """
    with terminal(COLUMNS, LINES) as (end, _):
        process = on_terminal(end, "memreact_tools.top", "--address", str(address))
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def on_terminal(end: int, module: str, *words: str) -> subprocess.Popen[bytes]:
    """Start a program of ours on a terminal's end."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm-256color"},
        stdin=end,
        stdout=end,
        stderr=end,
    )


def _read(end: int, screen: bytearray) -> None:
    """Read until nobody has the other end open."""
    while True:
        try:
            block = os.read(end, _READ)
        except OSError:  # EIO: so a terminal tells that nobody is left
            return
        screen += block
        del screen[:-_READ]
