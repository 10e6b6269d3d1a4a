"""The guest agent: commands and files in the guest, over virtio-serial.

Source: docs/interop/qemu-ga-ref of QEMU.
"""

from __future__ import annotations

import base64
import shlex
import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from lab.channel import Channel, Refusal
from lab.errors import CommandFailed, DeadlinePassed

__all__ = ["Agent", "Result", "Running"]

_PIECE = 1 << 20  # bytes of a file in one request
_FIRST_POLL_S = 0.01
_LONGEST_POLL_S = 0.25
_SYNC_S = 2.0


class Result(NamedTuple):
    """How a command in the guest ended; code is minus the signal if one ended it."""

    stdout: str
    stderr: str
    code: int


class _Pid(msgspec.Struct):
    pid: int


class _Status(msgspec.Struct, rename="kebab"):
    exited: bool
    exitcode: int = 0
    signal: int = 0
    out_data: str = msgspec.field(name="out-data", default="")
    err_data: str = msgspec.field(name="err-data", default="")


class _Block(msgspec.Struct):
    count: int
    eof: bool
    buf_b64: str = msgspec.field(name="buf-b64", default="")


class Agent:
    """A client of one guest's agent.

    Args:
        path: The host's end of the virtio-serial port.
    """

    def __init__(self, path: str) -> None:
        self._channel = Channel(path)
        self._tries = 0

    def close(self) -> None:
        """Hang up; commands go on."""
        self._channel.close()

    def sync(self, timeout_s: float) -> None:
        """Wait until the agent answers, throwing away whatever is left of earlier talk.

        Raises:
            DeadlinePassed: It did not.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                self._sync_once(min(deadline, time.monotonic() + _SYNC_S))
            except DeadlinePassed:  # nobody was there to read it yet
                if time.monotonic() >= deadline:
                    raise
            else:
                return

    def _sync_once(self, deadline: float) -> None:
        # 0xff makes the agent forget half a request. Each try has a number of its own, so that the
        # answers to earlier ones, come late, are thrown away too.
        self._tries += 1
        arguments = {"id": self._tries}
        request = {"execute": "guest-sync-delimited", "arguments": arguments}
        self._channel.send_bytes(b"\xff" + msgspec.json.encode(request) + b"\n")
        wanted = msgspec.json.encode({"return": self._tries})
        while self._channel.line(deadline).replace(b" ", b"") != wanted:
            pass

    def start(self, command: str | Sequence[str], *, stdin: bytes = b"") -> Running:
        """Start a command, words or a line for sh, and return at once."""
        words = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        arguments: dict[str, object] = {
            "path": words[0],
            "arg": words[1:],
            "capture-output": True,
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL=C.UTF-8",
                "HOME=/root",
            ],
        }
        if stdin:
            arguments["input-data"] = base64.b64encode(stdin).decode()
        started = self._channel.call("guest-exec", arguments, reply=_Pid)
        shown = command if isinstance(command, str) else shlex.join(command)
        return Running(self, started.pid, shown)

    def status(self, pid: int) -> Result | None:
        """How a started command ended, once; None while it runs."""
        status = self._channel.call("guest-exec-status", {"pid": pid}, reply=_Status)
        if not status.exited:
            return None
        streams = (_text(status.out_data), _text(status.err_data))
        return Result(*streams, -status.signal if status.signal else status.exitcode)

    def write_file(self, path: str, data: bytes) -> None:
        """Make a file in the guest."""
        handle = self._channel.call("guest-file-open", {"path": path, "mode": "wb"}, reply=int)
        try:
            for at in range(0, len(data), _PIECE):
                piece = base64.b64encode(data[at : at + _PIECE]).decode()
                arguments = {"handle": handle, "buf-b64": piece}
                self._channel.call("guest-file-write", arguments, reply=msgspec.Raw)
        finally:
            self._channel.call("guest-file-close", {"handle": handle}, reply=msgspec.Raw)

    def read_file(self, path: str) -> bytes:
        """Whole content of a file of the guest.

        Raises:
            FileNotFoundError: The guest cannot open it.
        """
        try:
            handle = self._channel.call("guest-file-open", {"path": path}, reply=int)
        except Refusal as error:
            raise FileNotFoundError(str(error)) from error
        parts = []
        try:
            while True:
                arguments = {"handle": handle, "count": _PIECE}
                block = self._channel.call("guest-file-read", arguments, reply=_Block)
                parts.append(base64.b64decode(block.buf_b64))
                if block.eof or not block.count:
                    return b"".join(parts)
        finally:
            self._channel.call("guest-file-close", {"handle": handle}, reply=msgspec.Raw)


class Running:
    """A command that was started in the guest.

    Args:
        agent: Who started it.
        pid: In the guest.
        command: As people read it.
    """

    def __init__(self, agent: Agent, pid: int, command: str) -> None:
        self._agent = agent
        self._result: Result | None = None
        self.pid = pid
        self.command = command

    def poll(self) -> Result | None:
        """How it ended, or None while it runs."""
        if self._result is None:
            self._result = self._agent.status(self.pid)
        return self._result

    def wait(self, timeout_s: float, *, check: bool = True) -> Result:
        """Wait for its end; a command that misses the deadline is killed.

        Raises:
            DeadlinePassed: It was killed.
            CommandFailed: It ended with an error, and `check` is asked for.
        """
        deadline = time.monotonic() + timeout_s
        pause_s = _FIRST_POLL_S
        while (result := self.poll()) is None:
            if time.monotonic() > deadline:
                self.kill()
                raise DeadlinePassed(f"`{self.command}` ran for {timeout_s:.0f} s in the guest")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_POLL_S)
        if check and result.code:
            raise CommandFailed(self.command, result.code, result.stdout + result.stderr)
        return result

    def kill(self, signal: str = "KILL") -> None:
        """Signal the command; one that has ended is harmless."""
        if self.poll() is None:
            self._agent.start(["/bin/kill", f"-{signal}", str(self.pid)]).wait(10, check=False)


def _text(base64_data: str) -> str:
    return base64.b64decode(base64_data).decode(errors="replace")
