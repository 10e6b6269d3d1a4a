"""`memreact-ctl swap`: which disk is meant, and how its answers are told."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterable, Iterator
from math import ceil

import msgspec
from msgspec import Struct

from memreact_schemas import swap
from memreact_schemas.config import DEFAULTS
from memreact_tools.ctl.amounts import amount, span
from memreact_tools.ctl.duration import parse_duration
from memreact_tools.ctl.keys import Misused
from memreact_tools.plain import plain

__all__ = [
    "REFUSALS",
    "add_parameters",
    "add_takes_s",
    "added_in_words",
    "areas_in_words",
    "remove_parameters",
    "remove_takes_s",
    "removed_in_words",
]

_UUID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_PCI_PATH = re.compile(r"[01]?[0-9a-f](\.[0-7])?(/[01]?[0-9a-f](\.[0-7])?)*", re.ASCII)
_SWAPON_S = 30  # what is discarded, and a disk that is slow
_HEAD = ("PATH", "SIZE", "USED", "PRIO", "SERIAL", "PCI", "UUID")


def _which(asked: Namespace) -> dict[str, str]:
    """Read which disk is meant: a serial, a UUID or a PCI path, or the path of one in use."""
    text = str(asked.which)
    if text.startswith(swap.MARK):
        found = {"serial": text}
    elif _UUID.fullmatch(text):
        found = {"uuid": text}
    elif text.startswith("/") and asked.swap_verb == "remove":
        found = {"path": text}
    elif _PCI_PATH.fullmatch(text):
        found = {"pci_path": text}
    else:
        raise Misused(
            f"{text!r} is no serial that begins with {swap.MARK}, no UUID and no PCI path as 01/00"
        )
    if asked.uuid is not None:
        found["uuid"] = asked.uuid
    return found


def add_parameters(asked: Namespace) -> Struct:
    """Make AddSwap's parameters of what was typed.

    Raises:
        Misused: It makes none.
    """
    wait_ms = None if asked.wait is None else ceil(parse_duration(asked.wait) * 1000)
    values = {
        **_which(asked),
        "make": asked.make or None,
        "priority": asked.priority,
        "discard": asked.discard,
        "wait_ms": wait_ms,
    }
    return _made(swap.AddSwap, values)


def remove_parameters(asked: Namespace) -> Struct:
    """Make RemoveSwap's.

    Raises:
        Misused: What was typed makes none.
    """
    values = {**_which(asked), "deadline_seconds": ceil(parse_duration(asked.deadline))}
    return _made(swap.RemoveSwap, values)


def _made(call: type[Struct], values: dict[str, object]) -> Struct:
    try:
        return msgspec.convert(values, call)
    except msgspec.ValidationError as error:
        raise Misused(str(error)) from error


def add_takes_s(asked: Namespace) -> float:
    """Seconds that a disk is waited for and taken into use."""
    usual = DEFAULTS.swap.device_wait_secs or 0
    return _SWAPON_S + (usual if asked.wait is None else parse_duration(asked.wait))


def remove_takes_s(asked: Namespace) -> float:
    """Seconds that giving one back may take."""
    return parse_duration(asked.deadline)


def areas_in_words(raw: bytes) -> str:
    """Tell of all areas in use, a line each."""
    answer = msgspec.json.decode(raw, type=swap.SwapAreas)
    if not answer.areas:
        return "no swap is in use"
    room = max(0, answer.available_bytes - answer.kept_bytes)
    lines = _in_columns([_HEAD, *map(_row, answer.areas)])
    lost = (
        f"! the device of {area.path} is gone: what lies there cannot be read any more"
        for area in answer.areas
        if area.lost
    )
    return _text([*lines, *lost, f"memory has room for {amount(room)} of it"])


def _row(area: swap.SwapArea) -> tuple[str, ...]:
    return (
        area.path,
        amount(area.size_bytes),
        amount(area.used_bytes),
        str(area.priority),
        area.serial or "-",
        area.pci_path or "-",
        area.uuid or "-",
    )


def _in_columns(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _text(lines: Iterable[str]) -> str:
    return "\n".join(plain(line) for line in lines)


def added_in_words(raw: bytes) -> str:
    """Tell what became swap."""
    said = msgspec.json.decode(raw, type=swap.SwapAdded)
    area, made = said.area, ", made swap first" if said.made else ""
    took = f"in {span(said.took_us)}, {span(said.waited_us)} of them waiting for it"
    return plain(f"{area.path}: {amount(area.size_bytes)} of swap{made}; {took}")


def removed_in_words(raw: bytes) -> str:
    """Tell what is swap no more."""
    said = msgspec.json.decode(raw, type=swap.SwapRemoved)
    back = f"{amount(said.area.used_bytes)} came back in {span(said.took_us)}"
    return plain(f"{said.area.path}: no swap any more; {back}")


def _no_device(raw: bytes) -> str:
    said = msgspec.json.decode(raw, type=swap.NoSuchDevice)
    return f"no disk with {said.wanted} came in {span(said.waited_us)}"


def _not_for_swap(raw: bytes) -> str:
    said = msgspec.json.decode(raw, type=swap.NotForSwap)
    return f"{said.path} is not taken ({said.because}): {said.detail}"


def _already(raw: bytes) -> str:
    area = msgspec.json.decode(raw, type=swap.AlreadySwap).area
    return f"{area.path} is in use as swap already, {amount(area.size_bytes)} of it"


def _no_swap(raw: bytes) -> str:
    return f"no swap in use has {msgspec.json.decode(raw, type=swap.NoSuchSwap).wanted}"


def _no_memory(raw: bytes) -> str:
    said = msgspec.json.decode(raw, type=swap.NotEnoughMemory)
    return (
        f"{said.path} holds {amount(said.used_bytes)}, and of {amount(said.available_bytes)} that "
        f"can be made available {amount(said.kept_bytes)} have to stay: it is not removed"
    )


def _ended(raw: bytes) -> str:
    said = msgspec.json.decode(raw, type=swap.SwapoffEnded)
    return (
        f"broken off ({said.because}) after {span(said.took_us)}: {amount(said.back_bytes)} came "
        f"back, {said.path} stays in use with {amount(said.used_bytes)}"
    )


def _refused(raw: bytes) -> str:
    said = msgspec.json.decode(raw, type=swap.SwapRefused)
    return f"{said.path}: {said.doing}: {said.why}"


REFUSALS = {
    "NoSuchDevice": _no_device,
    "NotForSwap": _not_for_swap,
    "AlreadySwap": _already,
    "NoSuchSwap": _no_swap,
    "NotEnoughMemory": _no_memory,
    "SwapoffEnded": _ended,
    "SwapRefused": _refused,
}
"""How what a guest refuses is told, by the error's name."""
