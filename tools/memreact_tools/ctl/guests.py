"""One question to one guest or to many, each with a time-out of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from memreact_tools.address import Address, parse_address

__all__ = ["Outcome", "Trouble", "addresses_in", "ask_all"]


class Trouble(Exception):  # noqa: N818  # reads as what happened
    """A guest could not be asked, or said no; the message is for people."""


class Outcome(NamedTuple):
    """What one guest said.

    Args:
        address: Of the guest.
        answer: As it came; empty where it failed.
        text: For people: of the answer, or why there is none.
        failed: It was not done.
    """

    address: Address
    answer: bytes
    text: str
    failed: bool


Ask = Callable[[Address], tuple[bytes, str]]


def addresses_in(name: str, *, hybrid_port: int | None) -> list[Address]:
    """Read a file of addresses, one a line; `#` begins a comment, `-` is standard input.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is not UTF-8.
        AddressError: A line is no address.
    """
    if name == "-":
        lines = sys.stdin.readlines()
    else:
        with open(name, encoding="utf-8") as file:
            lines = file.readlines()
    texts = [line.strip() for line in lines]
    return [
        parse_address(text, hybrid_port=hybrid_port)
        for text in texts
        if text and not text.startswith("#")
    ]


def ask_all(addresses: Sequence[Address], ask: Ask, *, parallel: int) -> Iterator[Outcome]:
    """Ask every guest and yield what each said, in their order.

    Args:
        addresses: Of the guests.
        ask: Returns the answer, as it came and for people; raises Trouble.
        parallel: How many are asked at the same time.
    """
    if len(addresses) == 1:
        yield _outcome(addresses[0], ask)
        return
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # only for many

    with ThreadPoolExecutor(max_workers=min(parallel, len(addresses))) as pool:
        yield from pool.map(_outcome, addresses, [ask] * len(addresses))


def _outcome(address: Address, ask: Ask) -> Outcome:
    try:
        answer, text = ask(address)
    except Trouble as trouble:
        return Outcome(address, b"", str(trouble), failed=True)
    return Outcome(address, answer, text, failed=False)
