"""Between a tool and a QEMU: kills or stops the tool before a command is heard, or its answer."""

from __future__ import annotations

import os
import signal
import socket
from io import BufferedReader
from pathlib import Path

import msgspec

__all__ = ["CutOff"]


class CutOff:
    """Serves one connection after another, each relayed to QEMU's own socket.

    Args:
        qmp: That socket.
    """

    def __init__(self, qmp: Path) -> None:
        self._qmp = qmp
        self.kill_at = ""
        """As "before device_add" or "after device_add"; nothing once it was done."""
        self.by = signal.SIGKILL
        """Which signal; with any other the connection goes on."""
        self.tool = 0
        """The process to be killed; it is told once it runs."""

    def __call__(self, stream: socket.socket) -> None:
        """Relay one connection, a command at a time."""
        stream.settimeout(None)  # a tool that is stopped says nothing for long
        with socket.socket(socket.AF_UNIX) as qemu, stream.makefile("rb") as commands:
            qemu.connect(str(self._qmp))
            with qemu.makefile("rb") as answers:
                stream.sendall(answers.readline())
                for line in commands:
                    command = msgspec.json.decode(line, type=dict[str, object])["execute"]
                    if self._due(f"before {command}"):
                        return
                    qemu.sendall(line)
                    said = self._said(answers, str(command))
                    if self._due(f"after {command}"):
                        return
                    stream.sendall(b"".join(said))

    def asked(self, method: str, _serial: str) -> None:
        """Stand where the guest is asked, too: what it does is done before the answer comes."""
        if self._due(f"before {method}"):
            raise ConnectionAbortedError

    def answered(self, method: str) -> None:
        """Stand where its answer begins."""
        if self._due(f"after {method}"):
            raise ConnectionAbortedError

    @staticmethod
    def _said(lines: BufferedReader, command: str) -> list[bytes]:
        """The answer, with what is told before it; and that a device is gone, which is awaited."""
        found = [lines.readline()]
        while not _is_answer(found[-1]):
            found.append(lines.readline())
        if command == "device_del" and b'"error"' not in found[-1]:
            while not any(b"DEVICE_DELETED" in line and b'"device"' in line for line in found):
                found.append(lines.readline())
        return found

    def _due(self, moment: str) -> bool:
        if moment != self.kill_at:
            return False
        self.kill_at = ""
        os.kill(self.tool, self.by)
        return self.by == signal.SIGKILL


def _is_answer(line: bytes) -> bool:
    said = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    return "return" in said or "error" in said
