"""memreact in a guest: asked to take disks into use as swap, and to give them back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TypeVar

import msgspec
from msgspec import Struct

from memreact_schemas.control import INTERFACE
from memreact_schemas.swap import (
    AddSwap,
    ListSwap,
    RemoveSwap,
    SwapAdded,
    SwapAreas,
    SwapRemoved,
)
from memreact_tools.address import Address, CouldNotConnect, connect, parse_address
from memreact_tools.ctl.show import refusal_in_words
from memreact_tools.ctl.varlink_client import BrokenConnection, Refused, call
from memreact_tools.host.machines import MachineError, machine_of
from memreact_tools.host.swap.trouble import GuestKeeps, GuestSilent, SwapTrouble

__all__ = ["SWAPOFF_S", "Inside", "address_of"]

SWAPOFF_S = 600
# What the guest does at its own deadline takes it a moment.
_SLACK_S = 15.0
_ANSWER = TypeVar("_ANSWER", bound=Struct)


class Inside:
    """One guest's memreact; a connection for each question, none between two.

    Args:
        address: Where it listens.
        timeout_s: How long an answer may take, but for a swapoff.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        self._address = address
        self._timeout_s = timeout_s

    def __str__(self) -> str:
        """Its address."""
        return str(self._address)

    def areas(self) -> SwapAreas:
        """Return what the guest swaps to.

        Raises:
            GuestSilent: Nobody answers, or nobody who knows of swap.
        """
        with self._told():
            return self._call("ListSwap", ListSwap(), SwapAreas, self._timeout_s)

    def take(self, serial: str) -> SwapAdded | None:
        """Have a disk taken into use, with a signature on it; None where it is already.

        Raises:
            GuestSilent: Nobody answers.
            SwapTrouble: The guest refuses.
        """
        with self._told():
            try:
                asked = AddSwap(serial=serial, make=True)
                return self._call("AddSwap", asked, SwapAdded, self._timeout_s)
            except Refused as error:
                if _is(error, "AlreadySwap"):
                    return None
                raise SwapTrouble(f"{self}: {serial}: {_words(error)}") from error

    def give_back(self, serial: str, seconds: int = SWAPOFF_S) -> SwapRemoved | None:
        """Have a disk swapped off; None where the guest does not swap to it.

        Whoever goes away meanwhile ends it: the guest then swaps to the disk as before.

        Raises:
            GuestSilent: Nobody answers.
            GuestKeeps: Its memory would not hold what lies there, or it was hurt.
        """
        with self._told():
            try:
                asked = RemoveSwap(serial=serial, deadline_seconds=seconds)
                return self._call("RemoveSwap", asked, SwapRemoved, seconds + _SLACK_S)
            except Refused as error:
                if _is(error, "NoSuchSwap"):
                    return None
                raise GuestKeeps(f"{self}: {serial}: {_words(error)}") from error

    def _call(self, method: str, asked: Struct, answer: type[_ANSWER], timeout_s: float) -> _ANSWER:
        with connect(self._address, timeout_s=timeout_s) as stream:
            return msgspec.json.decode(call(stream, f"{INTERFACE}.{method}", asked), type=answer)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Say whom it was that something went wrong with."""
        try:
            yield
        except CouldNotConnect as error:
            raise GuestSilent(str(error)) from error
        except Refused as error:
            raise GuestSilent(f"{self}: {_words(error)}") from error
        except TimeoutError as error:
            raise GuestSilent(f"{self}: no answer in time") from error
        except (BrokenConnection, OSError, msgspec.MsgspecError) as error:
            raise GuestSilent(f"{self}: {error}") from error


def _is(error: Refused, name: str) -> bool:
    return error.name == f"{INTERFACE}.{name}"


def _words(error: Refused) -> str:
    return refusal_in_words(error.name, bytes(error.parameters))


def address_of(pid: int, *said: str, proc: str = "/proc") -> Address | None:
    """Return where a guest's memreact is: as was said, or as its process's command line tells.

    Args:
        pid: Of the process that runs the guest.
        said: Addresses, of which the first that is none of "" holds.
        proc: Where the host's processes are.

    Raises:
        AddressError: What was said is none.
    """
    for each in said:
        if each:
            return parse_address(each)
    with contextlib.suppress(MachineError):
        return machine_of(f"pid:{pid}", proc=proc).address
    return None
