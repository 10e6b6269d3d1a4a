"""Where a guest's socket is, how it is written, and how to reach it from its host.

    unix:/path  unix:///path       a socket of this machine
    unix:@name  unix://@name       one in the abstract name space
    vsock:CID:PORT  vsock://CID:PORT
    hvsock:/path:PORT  hvsock:///path:PORT
                                   hybrid vsock: the monitor of a guest listens on a socket of this
                                   machine, and connects to the guest's port when it is told which

Source: Firecracker docs/vsock.md, "Host-Initiated Connections"; vsock(7)
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
import time
from typing import NamedTuple, TypeAlias

__all__ = [
    "PORT_MAX",
    "Address",
    "AddressError",
    "CouldNotConnect",
    "UnixAddress",
    "VsockAddress",
    "connect",
    "parse_address",
]

PORT_MAX = 2**32 - 2  # 2^32-1 is VMADDR_PORT_ANY, and VMADDR_CID_ANY
_PATH_BYTES_MAX = 107  # of sockaddr_un, without its NUL
_ANSWER_BYTES_MAX = 64  # "OK 1073741824\n" is 14
_TRIES = 300
_RETRY_SECONDS = 0.01
_FORMS = "unix:/PATH, unix:@NAME, vsock:CID:PORT or hvsock:/PATH:PORT"
# Pythons built without vsock's header lack the name; Linux has the family.
_AF_VSOCK = getattr(socket, "AF_VSOCK", 40)

_TIMEVAL = struct.Struct("@ll")
_UNIX = re.compile(r"unix:(?://)?(?P<path>(?:/(?!/)|@).*)", re.DOTALL)
_VSOCK = re.compile(r"vsock:(?://)?(?P<cid>-?[0-9]{1,20}):(?P<port>-?[0-9]{1,20})", re.ASCII)
_HYBRID = re.compile(
    r"hvsock:(?://)?(?P<path>/(?!/).*):(?P<port>-?[0-9]{1,20})", re.ASCII | re.DOTALL
)


class AddressError(ValueError):
    """What was given is no address that a client can use."""


class CouldNotConnect(OSError):  # noqa: N818  # reads as what happened
    """Nobody answered at an address in time, or not as expected.

    Args:
        address: Where.
        why: What happened, for people.
    """

    def __init__(self, address: Address, why: str) -> None:
        super().__init__(f"{address}: {why}")
        self.address = address
        self.why = why


class UnixAddress(NamedTuple):
    """A socket of this machine.

    Args:
        path: Absolute, or "@" and an abstract name.
        hybrid_port: The port behind it, where a guest's monitor listens; None for a plain one.
    """

    path: str
    hybrid_port: int | None = None

    def __str__(self) -> str:
        """As it is written."""
        if self.hybrid_port is None:
            return f"unix:{self.path}"
        return f"hvsock:{self.path}:{self.hybrid_port}"


class VsockAddress(NamedTuple):
    """A port of a guest (CID 3 and up), of the host (2) or of this guest itself (1)."""

    cid: int
    port: int

    def __str__(self) -> str:
        """As it is written."""
        return f"vsock:{self.cid}:{self.port}"


Address: TypeAlias = UnixAddress | VsockAddress


def parse_address(text: str, *, hybrid_port: int | None = None) -> Address:
    """Read an address.

    Args:
        text: In one of the forms at the top of this file.
        hybrid_port: Reach this port by way of a unix address; other addresses have their own.

    Raises:
        AddressError: It is none of these.
    """
    if found := _UNIX.fullmatch(text):
        port = None if hybrid_port is None else _port(hybrid_port, text)
        return _unix(found["path"], port, text)
    if found := _HYBRID.fullmatch(text):
        return _unix(found["path"], _port(int(found["port"]), text), text)
    if found := _VSOCK.fullmatch(text):
        return VsockAddress(_cid(int(found["cid"]), text), _port(int(found["port"]), text))
    raise AddressError(f"{text!r} is not {_FORMS}")


def _unix(path: str, port: int | None, text: str) -> UnixAddress:
    if "\0" in path or path in ("/", "@"):
        raise AddressError(f"{text!r} names no socket")
    if len(os.fsencode(path)) > _PATH_BYTES_MAX:
        raise AddressError(f"{text!r}: the path of a socket has at most {_PATH_BYTES_MAX} bytes")
    return UnixAddress(path, port)


def _port(port: int, text: str) -> int:
    if not 0 <= port <= PORT_MAX:
        raise AddressError(f"{text!r}: a vsock port is 0 to {PORT_MAX}, not {port}")
    return port


def _cid(cid: int, text: str) -> int:
    if not 0 <= cid <= PORT_MAX:
        raise AddressError(f"{text!r}: a guest's CID is 0 to {PORT_MAX}, not {cid}")
    return cid


def connect(address: Address, *, timeout_s: float, tries: int = _TRIES) -> socket.socket:
    """Connect, with the handshake where a guest's monitor wants one.

    Args:
        address: Where to.
        timeout_s: Seconds that all of it may take.
        tries: How often a monitor is asked at most; a guest that boots is not there at first.

    Returns:
        A stream socket, the caller's to close; its time-out is what is left of `timeout_s`. No byte
        of what the guest says has been read.

    Raises:
        CouldNotConnect: Nobody listens there, or nobody answered in time.
    """
    deadline = time.monotonic() + timeout_s
    if isinstance(address, UnixAddress) and address.hybrid_port is not None:
        stream = _connect_hybrid(address, address.hybrid_port, deadline, tries)
    else:
        stream = _connect_once(address, deadline)
    stream.settimeout(max(deadline - time.monotonic(), _RETRY_SECONDS))
    return stream


def _connect_once(address: Address, deadline: float) -> socket.socket:
    family, name = _name_of(address)
    try:
        stream = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise CouldNotConnect(address, _why(error)) from error
    try:
        if family == socket.AF_UNIX:
            _wait_at_most(stream, _left(deadline))
        else:
            stream.settimeout(_left(deadline))
        stream.connect(name)
    except OSError as error:
        stream.close()
        raise CouldNotConnect(address, _why(error)) from error
    return stream


def _wait_at_most(stream: socket.socket, seconds: float) -> None:
    """Let a unix socket wait for its place among those who connect, which are so many at a time.

    One with a time-out of Python's does not block, and is refused at once where there is none.
    """
    whole = int(seconds)
    part_us = max(1, int((seconds - whole) * 1_000_000))
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(whole, part_us))


def _name_of(address: Address) -> tuple[int, bytes | tuple[int, int]]:
    if isinstance(address, VsockAddress):
        return _AF_VSOCK, (address.cid, address.port)
    path = os.fsencode(address.path)
    return socket.AF_UNIX, b"\0" + path[1:] if path.startswith(b"@") else path


def _connect_hybrid(address: UnixAddress, port: int, deadline: float, tries: int) -> socket.socket:
    """Ask a guest's monitor for a port until it says OK."""
    said = ""
    for _ in range(tries):
        stream = _connect_once(address, deadline)
        try:
            answer = _ask_for(stream, port, deadline)
        except TimeoutError:
            answer = said or "no answer in time"  # what it said before tells more
        except OSError as error:
            answer = _why(error)
        if answer.startswith("OK"):
            return stream
        said = answer
        stream.close()
        if time.monotonic() + _RETRY_SECONDS >= deadline:
            break
        time.sleep(_RETRY_SECONDS)
    raise CouldNotConnect(address, f"the guest's monitor did not open port {port}: {said}")


def _ask_for(stream: socket.socket, port: int, deadline: float) -> str:
    """Send the request and return the answer's line, reading not a byte beyond it."""
    stream.settimeout(_left(deadline))
    stream.sendall(b"CONNECT %d\n" % port)
    line = bytearray()
    while not line.endswith(b"\n"):
        stream.settimeout(_left(deadline))
        byte = stream.recv(1)
        if not byte:
            return "it closed the connection (does anybody listen on the port?)"
        line += byte
        if len(line) > _ANSWER_BYTES_MAX:
            break
    return _first_line(bytes(line))


def _first_line(line: bytes) -> str:
    """Tell a monitor's answer from a service's own words, fit for a terminal."""
    text = line.decode("ascii", "backslashreplace")
    return text if text.startswith("OK") and text.endswith("\n") else f"it said {text!r}"


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError(errno.ETIMEDOUT, "timed out")
    return left


_HINTS = {
    errno.ENOENT: "there is no such socket: is memreact, or the guest, running?",
    errno.ECONNREFUSED: "nobody listens there: is memreact, or the guest, running?",
    errno.ENODEV: "there is no guest with this CID, or vsock is not loaded here",
    errno.EAFNOSUPPORT: "this kernel has no vsock (modprobe vsock)",
    errno.EAGAIN: "no answer in time: too many others connect",
    errno.EACCES: "permission denied: root, or the group memreact, may connect",
    errno.ECONNRESET: "the connection was refused or reset by the other side",
}


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return "no answer in time"
    return _HINTS.get(error.errno or 0, error.strerror or str(error))
