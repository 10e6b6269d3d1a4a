"""One guest's metrics, over whatever socket leads to it.

Source: RFC 9112, "HTTP/1.1"
"""

from __future__ import annotations

import re
import socket

from memreact_tools.address import Address, CouldNotConnect, connect
from memreact_tools.ctl.guests import Trouble
from memreact_tools.deadline import Deadline

__all__ = ["ANSWER_BYTES_MAX", "fetch"]

ANSWER_BYTES_MAX = 8 << 20
"""Of one guest: a thousand cgroups have 2 MB."""

_REQUEST = b"GET /metrics HTTP/1.1\r\nHost: memreact\r\nConnection: close\r\n\r\n"
_HEAD_BYTES_MAX = 8192
_CHUNK = 1 << 16
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_LENGTH = re.compile(rb"\r\nContent-Length: *(\d{1,10}) *(?:\r\n|\Z)", re.IGNORECASE)


def fetch(address: Address, timeout_s: float) -> str:
    """Ask for the metrics.

    Args:
        address: Of a guest's metrics.
        timeout_s: Seconds that all of it may take.

    Raises:
        Trouble: There is no answer, or none that can be read.
    """
    deadline = Deadline(timeout_s)
    try:
        with connect(address, timeout_s=timeout_s) as stream:
            stream.sendall(_REQUEST)
            return _body(stream, deadline)
    except CouldNotConnect as error:
        raise Trouble(error.why, code="unreachable") from error
    except TimeoutError as error:
        raise Trouble("no answer in time", code="timeout") from error
    except OSError as error:
        raise Trouble(f"the connection broke: {error}", code="broken") from error


def _body(stream: socket.socket, deadline: Deadline) -> str:
    heard = bytearray()
    while b"\r\n\r\n" not in heard:
        _hear(stream, deadline, heard, _HEAD_BYTES_MAX)
    head, _, rest = bytes(heard).partition(b"\r\n\r\n")
    status, length = _STATUS.match(head), _LENGTH.search(head)
    if status is None or length is None:
        raise _broken("it does not speak HTTP")
    if status[1] != b"200":
        raise _broken(f"it answered with {status[1].decode()}")
    size, body = int(length[1]), bytearray(rest)
    if size > ANSWER_BYTES_MAX:
        raise _broken(f"its answer has more than {ANSWER_BYTES_MAX} bytes")
    while len(body) < size:
        _hear(stream, deadline, body, size)
    try:
        return bytes(body[:size]).decode()
    except UnicodeDecodeError as error:
        raise _broken("its answer is not UTF-8") from error


def _hear(stream: socket.socket, deadline: Deadline, heard: bytearray, most: int) -> None:
    """Receive more, which is all the more there may be."""
    data = deadline.receive(stream, _CHUNK)
    if not data:
        raise _broken("it hung up in the middle")
    heard += data
    if len(heard) > most + _CHUNK:
        raise _broken("it says too much")


def _broken(why: str) -> Trouble:
    return Trouble(why, code="broken")
