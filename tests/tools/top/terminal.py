"""A real terminal: tmux without a configuration, on a socket of its own."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["HAS_TMUX", "Terminal", "terminal"]

HAS_TMUX = shutil.which("tmux") is not None
_PATIENCE_S = 30.0
_POLL_S = 0.05


class Terminal:
    """One window of tmux, with a shell in it."""

    def __init__(self, socket: Path) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]

    def _run(self, *words: str) -> str:
        command = [*self._tmux, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def type(self, *keys: str) -> None:
        """Press keys, by tmux's names of them."""
        self._run("send-keys", *keys)

    def command(self, *words: str, env: Mapping[str, str] | None = None) -> None:
        """Type a command, and its end."""
        settings = [f"{name}={value}" for name, value in (env or {}).items()]
        self._run("send-keys", "-l", shlex.join(["env", *settings, *words]))
        self.type("Enter")

    def resize(self, width: int, height: int) -> None:
        """Make the window larger or smaller."""
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def lines(self, *, colours: bool = False) -> list[str]:
        """What is to be seen, from the top."""
        return self._run("capture-pane", "-p", *(["-e"] if colours else [])).splitlines()

    def says(self, what: str) -> str:
        """What tmux knows of the window, as `cursor_flag` or `alternate_on`."""
        return self._run("display-message", "-p", f"#{{{what}}}").strip()

    def until(self, met: Callable[[list[str]], object]) -> list[str]:
        """Wait until what is to be seen is as wanted, and return it."""
        deadline = time.monotonic() + _PATIENCE_S
        while not met(lines := self.lines()):
            assert time.monotonic() < deadline, "\n".join(lines)
            time.sleep(_POLL_S)
        return lines

    def until_seen(self, text: str) -> list[str]:
        """Wait for a text."""
        return self.until(lambda lines: any(text in line for line in lines))


@contextmanager
def terminal(folder: Path, *, width: int = 80, height: int = 24) -> Iterator[Terminal]:
    """Open a window of that size; it and its shell end with the block."""
    opened = Terminal(folder / "tmux")
    size = ["-x", str(width), "-y", str(height)]
    opened._run("new-session", "-d", *size, "env", "PS1=ready$ ", "LC_ALL=C.UTF-8", "sh")
    try:
        opened.until_seen("ready$")
        yield opened
    finally:
        opened._run("kill-server")
