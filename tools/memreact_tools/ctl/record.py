"""The verb `record`: what a guest tells of itself, line by line into a file."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import ceil
from typing import IO, cast

import msgspec
from msgspec import Raw, Struct

from memreact_schemas.control import INTERFACE, Record
from memreact_schemas.trace import End
from memreact_tools.address import Address, CouldNotConnect, connect
from memreact_tools.ctl.ask import why
from memreact_tools.ctl.duration import parse_duration
from memreact_tools.ctl.keys import Misused
from memreact_tools.ctl.show import refusal_in_words
from memreact_tools.ctl.varlink_client import BrokenConnection, Refused, stream_of
from memreact_tools.plain import plain

__all__ = ["record", "silence"]

_DONE, _COULD_NOT = 0, 1
_STATUS_SECONDS, _STATUS_SECONDS_MAX = 10, 3600
_MISSED = 3  # lines of status
_END = b'{"line":"end"'
_STEP = b'{"line":"step"'


def record(asked: argparse.Namespace, address: Address, *, timeout_s: float) -> int:
    """Write a recording until its end, its time is over, Ctrl-C or SIGTERM; each way it is whole.

    Args:
        asked: What was typed.
        address: Of the guest.
        timeout_s: Seconds that connecting may take.

    Raises:
        Misused: What was typed makes no sense.
        OSError: The file cannot be made, or written.
    """
    parameters, seconds = _parameters(asked), _seconds(asked)
    trouble = ""
    with _made(asked.output) as file, _sigterm_as_ctrl_c():
        writer = _Writer(file)
        try:
            with connect(address, timeout_s=timeout_s) as stream:
                for raw in stream_of(stream, f"{INTERFACE}.Record", parameters, seconds=seconds):
                    writer.write(raw)
        except KeyboardInterrupt:
            writer.end("asked")
        except Refused as refused:
            trouble = refusal_in_words(refused.name, bytes(refused.parameters))
        except TimeoutError as error:
            quiet = silence(writer.quiet_s(), parameters)
            trouble = quiet if writer.lines else why(error)
            writer.end("time_over")
        except (BrokenConnection, CouldNotConnect, ConnectionResetError) as error:
            trouble = why(error)
            writer.end("connection_lost")
    return _told(asked.output, address, writer, trouble)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """A job that runs behind its shell hears no Ctrl-C, but `kill`."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _told(path: str, address: Address, writer: _Writer, trouble: str) -> int:
    if trouble:
        print(f"memreact-ctl: {plain(str(address))}: {trouble}", file=sys.stderr)
    if not writer.lines:
        if path != "-":
            os.unlink(path)
        return _COULD_NOT
    # Where the recording itself goes to stdout nothing else may.
    print(
        f"{writer.lines} lines, {writer.steps} steps",
        file=sys.stderr if path == "-" else sys.stdout,
    )
    return _COULD_NOT if trouble else _DONE


def _parameters(asked: argparse.Namespace) -> Record:
    if asked.flight and (asked.length is not None or asked.status_every is not None):
        raise Misused("--flight takes what there is: no --for, no --status-every")
    every = None
    if asked.status_every is not None:
        every = 0 if asked.status_every == "0" else ceil(parse_duration(asked.status_every))
        if every > _STATUS_SECONDS_MAX:
            raise Misused(f"a line of status every {_STATUS_SECONDS_MAX} s at least")
    return Record(flight=asked.flight or None, status_seconds=every)


def silence(quiet_s: float, asked: Record) -> str:
    """Say that nothing came for so long that something must have; empty where that is no wonder.

    Args:
        quiet_s: Seconds since the last line.
        asked: What was asked for; its lines of status come whatever happens.
    """
    every = _STATUS_SECONDS if asked.status_seconds is None else asked.status_seconds
    if not every or asked.flight or quiet_s <= _MISSED * every:
        return ""
    return f"nothing came in the last {quiet_s:.0f} s"


def _seconds(asked: argparse.Namespace) -> float | None:
    return None if asked.length is None else parse_duration(asked.length)


@contextmanager
def _made(path: str) -> Iterator[IO[bytes]]:
    """Make the file, which must not be there yet: a recording is not made twice."""
    if path == "-":
        yield sys.stdout.buffer
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as file:
        if not path.endswith(".gz"):
            yield file
            return
        import gzip  # noqa: PLC0415  # seldom

        with gzip.open(file, "wb", compresslevel=6) as packed:
            yield cast("IO[bytes]", packed)


class _Item(Struct):
    """Lines as they came."""

    lines: tuple[Raw, ...]


class _At(Struct):
    """When a line was."""

    at: int = 0


class _Writer:
    """Writes lines whole, and an end where there is none yet."""

    def __init__(self, file: IO[bytes]) -> None:
        self.lines = 0
        self.steps = 0
        self._file = file
        self._last = b""
        self._last_at = time.monotonic()

    def write(self, answer: Raw) -> None:
        """Write the lines of an answer.

        Raises:
            BrokenConnection: It is none.
        """
        try:
            lines = msgspec.json.decode(bytes(answer), type=_Item).lines
        except msgspec.MsgspecError as error:
            raise BrokenConnection(f"the answer is no recording: {error}") from error
        for raw in lines:
            self._line(bytes(raw))
        self._file.flush()
        self._last_at = time.monotonic()

    def quiet_s(self) -> float:
        """Return the seconds since something came."""
        return time.monotonic() - self._last_at

    def end(self, because: str) -> None:
        """Write the end, if anything was written before."""
        if self.lines and not self._last.startswith(_END):
            at = 0
            with suppress(msgspec.MsgspecError):
                at = msgspec.json.decode(self._last, type=_At).at
            self._line(msgspec.json.encode(End(at=at, because=because)))

    def _line(self, line: bytes) -> None:
        self._file.write(line + b"\n")
        self.lines += 1
        self.steps += line.startswith(_STEP)
        self._last = line
