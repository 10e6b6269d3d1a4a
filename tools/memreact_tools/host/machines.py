"""The virtual machines of this host: which process each is, and where its memreact is asked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

import msgspec

from memreact_schemas.control import PORT
from memreact_tools.address import PORT_MAX, Address, AddressError, VsockAddress, parse_address
from memreact_tools.host.qmp import ask_qemu

__all__ = ["Machine", "MachineError", "find_machines", "machine_of", "machines_here"]

_MONITORS = re.compile(r"qemu-system-.*|qemu-kvm|kvm|cloud-hypervisor|firecracker|crosvm")
_NAMED = re.compile(
    r"(?P<how>pid|qmp):(?P<what>.+?)(?:=(?P<at>(?:unix|vsock|hvsock):.+))?", re.DOTALL
)
_SIZE = re.compile(
    r"(?:0x(?P<hex>[0-9a-f]+)|(?P<number>\d+(?:\.\d+)?))(?P<unit>[bkmgt]?)", re.ASCII
)
_UNITS: Mapping[str, int] = {"b": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_CID = re.compile(r"\d{1,10}", re.ASCII)
_CID_MIN = 3
_CID_MAX = PORT_MAX
_DEVICE = ("-device", "--device")
_VSOCK = "vhost-vsock"  # -pci, -ccw, -device and their like


class MachineError(ValueError):
    """What was asked for is no machine; the message is for people."""


class Machine(NamedTuple):
    """One virtual machine.

    Args:
        pid: Of its process.
        name: As its monitor calls it, or what the process is.
        sizes: Of its memory's parts, bytes; empty where the monitor's command line does not tell.
        address: Where its memreact is asked; None where that cannot be known.
    """

    pid: int
    name: str
    sizes: tuple[int, ...] = ()
    address: Address | None = None


def machines_here(
    asked: Sequence[str], *, port: int = PORT, timeout_s: float = 5.0, proc: str = "/proc"
) -> list[Machine]:
    """Find the machines that were asked for, or all of this host.

    Args:
        asked: `pid:N` or `qmp:/PATH`, each with `=ADDRESS` where it cannot be known.
        port: On which memreact listens in the guests.
        timeout_s: How long QEMU may take to answer.
        proc: Where the host's processes are.

    Raises:
        MachineError: One of them is written wrong, or there is no such process.
        AddressError: An address is.
        QmpTrouble: QEMU does not answer.
    """
    if not asked:
        return list(find_machines(port=port, proc=proc))
    return [machine_of(each, port=port, timeout_s=timeout_s, proc=proc) for each in asked]


def find_machines(*, port: int = PORT, proc: str = "/proc") -> Iterator[Machine]:
    """Find every process that is a known monitor."""
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdigit()):
        words = _command(proc, pid)
        if words and _MONITORS.fullmatch(os.path.basename(words[0])):
            yield _machine(pid, words, port)


def machine_of(
    text: str, *, port: int = PORT, timeout_s: float = 5.0, proc: str = "/proc"
) -> Machine:
    """Find one machine, as for `machines_here`."""
    named = _NAMED.fullmatch(text)
    if named is None:
        raise MachineError(f"{text!r} is neither pid:N nor qmp:/PATH, with =ADDRESS or without")
    found = (_by_pid if named["how"] == "pid" else _by_qmp)(named["what"], port, timeout_s, proc)
    return found._replace(address=parse_address(named["at"])) if named["at"] else found


def _by_pid(what: str, port: int, _timeout_s: float, proc: str) -> Machine:
    if not (what.isascii() and what.isdigit()):
        raise MachineError(f"{what!r} is no pid")
    words = _command(proc, int(what))
    if not words:
        raise MachineError(f"there is no process {what}, or it is the kernel's")
    return _machine(int(what), words, port)


def _by_qmp(path: str, port: int, timeout_s: float, proc: str) -> Machine:
    qemu = ask_qemu(path, timeout_s=timeout_s)
    found = _machine(qemu.pid, _command(proc, qemu.pid) or ["qemu"], port)
    sizes = (*found.sizes, *qemu.plugged)
    if sum(sizes) != qemu.memory_bytes:  # QEMU knows better than its command line
        sizes = (qemu.memory_bytes - sum(qemu.plugged), *qemu.plugged)
    return found._replace(name=qemu.name or found.name, sizes=sizes)


def _command(proc: str, pid: int) -> list[str]:
    try:
        with open(f"{proc}/{pid}/cmdline", "rb") as file:
            raw = file.read()
    except OSError:
        return []
    return [os.fsdecode(word) for word in raw.rstrip(b"\0").split(b"\0")] if raw else []


def _machine(pid: int, words: Sequence[str], port: int) -> Machine:
    program = os.path.basename(words[0])
    if program == "cloud-hypervisor":
        return Machine(pid, f"{program} {pid}", _ch_sizes(words), _ch_address(words, port))
    pairs = list(pairwise(words))
    name = next((_qemu_name(value) for key, value in pairs if key == "-name"), "")
    return Machine(pid, name or f"{program} {pid}", _qemu_sizes(pairs), _qemu_address(pairs, port))


def _qemu_name(value: str) -> str:
    options = _options(value)
    return options.get("guest") or options.get("", "")


def _qemu_address(pairs: Sequence[tuple[str, str]], port: int) -> Address | None:
    """Where the vsock device says; no other option, as the guest's name, has a say in it."""
    devices = [_said(value) for key, value in pairs if key in _DEVICE]
    for device in devices:
        driver = device.get("driver") or device.get("", "")
        if driver.startswith(_VSOCK):
            cid = device.get("guest-cid", "")
            known = _CID.fullmatch(cid) and _CID_MIN <= int(cid) <= _CID_MAX
            return VsockAddress(int(cid), port) if known else None
    return None


def _qemu_sizes(pairs: Sequence[tuple[str, str]]) -> tuple[int, ...]:
    """Sizes of the memory's backends, or of the whole where there are none."""
    backends = [_backend(value) for key, value in pairs if key == "-object"]
    sizes = [_size(text, "b") for text in backends if text]
    if not sizes:
        said = [_options(value) for key, value in pairs if key == "-m"]
        sizes = [_size(options.get("size") or options.get("", ""), "m") for options in said[-1:]]
    return tuple(size for size in sizes if size)


def _backend(value: str) -> str:
    """The size that an object of QEMU's states, as text, if it is memory."""
    said = _said(value)
    kind = said.get("qom-type") or said.get("", "")
    return said.get("size", "") if kind.startswith("memory-backend-") else ""


def _said(value: str) -> dict[str, str]:
    """Read what QEMU takes as JSON or as `first,key=value,...`; empty for JSON that is none."""
    if not value.startswith("{"):
        return _options(value)
    with suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
        said = msgspec.json.decode(value, type=dict[str, object])
        return {key: str(each) for key, each in said.items()}
    return {}


def _options(value: str) -> dict[str, str]:
    """Read `first,key=value,...`; the first without a key is called "" , and `,,` is a comma."""
    found: dict[str, str] = {}
    for part in value.replace(",,", "\0").split(","):  # in no word of a command line is a NUL
        key, equals, text = part.replace("\0", ",").partition("=")
        if equals:
            found.setdefault(key, text)
        else:
            found.setdefault("", part)
    return found


def _size(text: str, unit: str) -> int:
    """Read a size as QEMU does; 0 for what is none."""
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None:
        return 0
    number = int(found["hex"], 16) if found["hex"] else float(found["number"])
    return int(number * (1 << _UNITS[found["unit"] or unit]))


def _ch_sizes(words: Sequence[str]) -> tuple[int, ...]:
    said = [_options(value) for value in _values(words, "--memory")]
    sizes = [_size(options.get("size", ""), "b") for options in said]
    return tuple(size for size in sizes if size)


def _ch_address(words: Sequence[str], port: int) -> Address | None:
    for value in _values(words, "--vsock"):
        path = _options(value).get("socket", "")
        with suppress(AddressError):
            return parse_address(f"hvsock:{path}:{port}")
    return None


def _values(words: Sequence[str], option: str) -> list[str]:
    following = [value for key, value in pairwise(words) if key == option]
    return following + [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]
