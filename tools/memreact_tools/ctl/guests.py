"""One question to one guest or to many, each with a time limit of its own."""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from memreact_tools.address import Address, AddressError, parse_address
from memreact_tools.plain import plain

__all__ = ["Ask", "Outcome", "Round", "Trouble", "addresses_in"]

_COMMENT = re.compile(r"(?:^|\s)#.*")


class Trouble(Exception):  # noqa: N818  # reads as what happened
    """A guest could not be asked, or said no.

    Args:
        text: Why, for people.
        code: For programs: an error's full name, or unreachable, timeout or broken.
        parameters: What the error says, as it came.
    """

    def __init__(self, text: str, *, code: str, parameters: bytes = b"{}") -> None:
        super().__init__(text)
        self.code = code
        self.parameters = parameters


class Outcome(NamedTuple):
    """What one guest said.

    Args:
        address: Of the guest.
        answer: As it came; empty where it failed.
        text: For people: of the answer, or why there is none.
        trouble: Why it was not done.
    """

    address: Address
    answer: bytes
    text: str
    trouble: Trouble | None = None

    @property
    def failed(self) -> bool:
        """It was not done."""
        return self.trouble is not None


Ask = Callable[[Address], tuple[bytes, str]]


def addresses_in(name: str, *, hybrid_port: int | None) -> list[Address]:
    """Read a file of addresses, one a line; `#` begins a comment, `-` is standard input.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is not UTF-8.
        AddressError: A line is no address; says which.
    """
    if name == "-":
        lines = sys.stdin.readlines()
    else:
        with open(name, encoding="utf-8") as file:
            lines = file.readlines()
    found = []
    for number, line in enumerate(lines, 1):
        text = _COMMENT.sub("", line.rstrip("\n")).strip()
        try:
            found += [parse_address(text, hybrid_port=hybrid_port)] if text else []
        except AddressError as error:
            raise AddressError(f"{name}:{number}: {error}") from error
    return found


class Round:
    """Asks every guest once; iterating yields what each said, whoever is first.

    Args:
        addresses: Of the guests.
        ask: Returns the answer, as it came and for people; raises Trouble. Whatever else it raises
            is that guest's trouble too, but for a broken pipe, which is our own output's.
        parallel: How many are asked at the same time.
    """

    def __init__(self, addresses: Sequence[Address], ask: Ask, *, parallel: int) -> None:
        self.addresses = tuple(dict.fromkeys(addresses))
        self._ask = ask
        self._parallel = parallel
        self._waiting = deque(self.addresses)

    def stop(self) -> tuple[Address, ...]:
        """Ask nobody else; returns those that were not asked."""
        left = tuple(self._waiting)
        self._waiting.clear()
        return left

    def __iter__(self) -> Iterator[Outcome]:
        """Yield one outcome for each guest, as soon as it is there."""
        if len(self.addresses) == 1:
            yield self._outcome(self._waiting.popleft())
            return
        yield from self._of_many()

    def _of_many(self) -> Iterator[Outcome]:
        """Ask with threads that do not keep the process when it is to end."""
        from queue import SimpleQueue  # noqa: PLC0415  # only for many
        from threading import Thread  # noqa: PLC0415

        said: SimpleQueue[Outcome | BaseException] = SimpleQueue()

        def work() -> None:
            while self._waiting:
                try:
                    said.put(self._outcome(self._waiting.popleft()))
                except IndexError:  # another took the last one
                    return
                except BaseException as error:  # noqa: BLE001  # raised where it is waited for
                    said.put(error)

        for _ in range(min(self._parallel, len(self.addresses))):
            Thread(target=work, daemon=True).start()
        for _ in self.addresses:
            outcome = said.get()
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome

    def _outcome(self, address: Address) -> Outcome:
        try:
            answer, text = self._ask(address)
        except Trouble as trouble:
            return Outcome(address, b"", str(trouble), trouble)
        except BrokenPipeError:
            raise
        except Exception as error:  # noqa: BLE001  # what one guest says ends nothing of the others
            why = f"what it says cannot be told: {plain(str(error))}"
            return Outcome(address, b"", why, Trouble(why, code="broken"))
        return Outcome(address, answer, text)
