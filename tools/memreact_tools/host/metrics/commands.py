"""`memreact-host metrics`: the metrics of many guests for one scrape, or printed once."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from memreact_tools.address import Address, AddressError, parse_address
from memreact_tools.host.metrics.gather import Gathered, gather
from memreact_tools.plain import plain

__all__ = ["add_words", "guests_of", "metrics"]

_DONE, _COULD_NOT, _MISUSED = 0, 1, 2
_COMMENT = re.compile(r"(?:^|\s)#.*")
# An address has a colon or a slash before any "=" of its own.
_NAMED = re.compile(r"(?P<name>[^=:/\s][^=:/]*)=(?P<address>.+)", re.DOTALL)
_PORT_MAX = 65_535


def add_words(parser: argparse.ArgumentParser, seconds: Callable[[str], float]) -> None:
    """Add what may be typed.

    Args:
        parser: Of this subject.
        seconds: Reads a time.
    """
    forms = "vsock:CID:1052, unix:/PATH or hvsock:/PATH:1052; NAME= before it names the guest"
    parser.add_argument("guests", nargs="*", metavar="GUEST", help=forms)
    parser.add_argument("--address-file", metavar="FILE", help="guests, one a line; - is stdin")
    parser.add_argument(
        "--hybrid-port",
        type=int,
        metavar="PORT",
        help="where the metrics are behind a monitor's unix socket: 1052 unless it was moved",
    )
    parser.add_argument("--timeout", type=seconds, default=3.0, metavar="SECONDS", help="for each")
    parser.add_argument(
        "--parallel", type=_positive, default=32, metavar="N", help="guests asked at a time (32)"
    )
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--once", action="store_true", help="print them, and end")
    how.add_argument(
        "--listen", metavar="PORT|unix:/PATH", help="serve them on 127.0.0.1, or on a socket"
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def metrics(asked: argparse.Namespace) -> int:
    """Print or serve; 0 done, 1 could not or a guest did not answer, 2 misused."""
    try:
        guests = guests_of(_texts(asked), hybrid_port=asked.hybrid_port)
        where = None if asked.once else _where(asked.listen)
    except AddressError as error:
        return _fails(str(error), _MISUSED)
    except (OSError, UnicodeDecodeError) as error:
        return _fails(str(error), _COULD_NOT)
    if not guests:
        return _fails("no guest: vsock:CID:1052, or --address-file FILE", _MISUSED)
    how = {"timeout_s": asked.timeout, "parallel": asked.parallel}
    if where is None:
        return _once(gather(guests, **how))
    fleet = _Fleet(asked, guests)
    return _serve(where, lambda within_s: gather(fleet.now(), **how, within_s=within_s))


class _Fleet:
    """The guests of now: a file of them is read for each scrape, and a bad one leaves what was."""

    def __init__(self, asked: argparse.Namespace, guests: dict[Address, str]) -> None:
        self._asked = asked
        self._guests = guests
        self._trouble = ""

    def now(self) -> dict[Address, str]:
        """Read the file again, if there is one."""
        if self._asked.address_file in {None, "-"}:
            return self._guests
        trouble = ""
        try:
            self._guests = guests_of(_texts(self._asked), hybrid_port=self._asked.hybrid_port)
        except (AddressError, OSError, UnicodeDecodeError) as error:
            trouble = str(error)
        if trouble not in {"", self._trouble}:
            _fails(trouble, _COULD_NOT)
        self._trouble = trouble
        return self._guests


def _texts(asked: argparse.Namespace) -> Iterator[str]:
    """Every guest as it was written, those of the file with their lines."""
    yield from asked.guests
    if asked.address_file is None:
        return
    if asked.address_file == "-":
        lines = sys.stdin.readlines()
    else:
        with open(asked.address_file, encoding="utf-8") as file:
            lines = file.readlines()
    yield from filter(None, (_COMMENT.sub("", line.rstrip("\n")).strip() for line in lines))


def guests_of(texts: Iterator[str], *, hybrid_port: int | None) -> dict[Address, str]:
    """Read guests, and name those that have no name by their address.

    Raises:
        AddressError: One is no address, or is there twice.
    """
    guests: dict[Address, str] = {}
    for text in texts:
        named = _NAMED.fullmatch(text)
        address = parse_address(named["address"] if named else text, hybrid_port=hybrid_port)
        name = named["name"].strip() if named else str(address)
        if address in guests or name in guests.values():
            raise AddressError(f"{text!r}: there is another guest of this address or name")
        guests[address] = name
    return guests


def _where(text: str) -> int | str:
    """A port of localhost, or the path of a socket."""
    if text.startswith("unix:/"):
        return parse_address(text)[0]
    if text.isascii() and text.isdecimal() and int(text) <= _PORT_MAX:
        return int(text)
    raise AddressError(f"{text!r} is neither a port nor unix:/PATH: only this machine is served")


def _once(found: Gathered) -> int:
    sys.stdout.write(_for_terminal(found.text) if sys.stdout.isatty() else found.text)
    sys.stdout.flush()
    for name, why in found.troubles.items():
        _fails(f"{name}: {why}", _COULD_NOT)
    return _COULD_NOT if found.troubles else _DONE


def _for_terminal(text: str) -> str:
    """A guest's names and remarks, with nothing in them that a terminal acts on."""
    return "\n".join(plain(line) for line in text.split("\n"))


def _serve(where: int | str, gathered: Callable[[float | None], Gathered]) -> int:
    """Serve until a signal ends it."""
    from memreact_tools.host.metrics.serve import (  # noqa: PLC0415  # only to serve
        Server,
        listen_on_port,
        listen_on_socket,
    )

    known: Mapping[str, str] = {}

    def tell(within_s: float | None) -> str:
        nonlocal known
        found = gathered(within_s)
        _say_changes(known, found.troubles)
        known = found.troubles
        return found.text

    try:
        listener = listen_on_port(where) if isinstance(where, int) else listen_on_socket(where)
    except OSError as error:
        return _fails(f"{where}: {error}", _COULD_NOT)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Server(listener, tell) as server, suppress(KeyboardInterrupt):
        at = where if isinstance(where, str) else f"127.0.0.1:{listener.getsockname()[1]}"
        print(f"memreact-host: serves at {at}", file=sys.stderr, flush=True)
        server.serve_forever()
    if isinstance(where, str):
        with suppress(OSError):
            os.unlink(where)
    return _DONE


def _say_changes(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Say once that a guest does not answer, and that it does again."""
    for name in now.keys() - before.keys():
        _fails(f"{name}: {now[name]}", _COULD_NOT)
    for name in before.keys() - now.keys():
        _fails(f"{name}: it answers again", _DONE)


def _fails(why: str, code: int) -> int:
    print(f"memreact-host: {plain(why)}", file=sys.stderr, flush=True)
    return code
