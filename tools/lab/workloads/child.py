"""A process in a cgroup that does what it is told."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

__all__ = ["Child"]


class Child:
    """A process in a cgroup that does what a word says and answers with a number.

    Args:
        cgroup: Folder of the cgroup.
        prepare: Called in the new process before it joins; returns what serves a word.
    """

    def __init__(self, cgroup: str, prepare: Callable[[], Callable[[str], int]]) -> None:
        self._here, there = socket.socketpair()
        if os.fork() == 0:
            self._here.close()
            serve = prepare()
            with open(f"{cgroup}/cgroup.procs", "w") as file:
                file.write("0")
            while word := there.recv(16).decode():
                there.send(str(serve(word)).encode())
            os._exit(0)
        there.close()

    def tell(self, word: str) -> None:
        """Ask for something."""
        self._here.send(word.encode())

    def answer(self) -> int:
        """Wait for the answer."""
        return int(self._here.recv(32) or b"0")
