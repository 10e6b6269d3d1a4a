"""`memreact-host swap`: its words, and what each does."""

from __future__ import annotations

import argparse
import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

import msgspec

from memreact_schemas.swap import SwapArea
from memreact_tools.address import AddressError, parse_address
from memreact_tools.host.kata_file import KataFile, Unreadable
from memreact_tools.host.kata_options import BadValue, UnknownOption
from memreact_tools.host.replace_file import read_text
from memreact_tools.host.swap.cloud_hypervisor import open_cloud_hypervisor
from memreact_tools.host.swap.files import Home, open_home
from memreact_tools.host.swap.inside import Inside, address_of
from memreact_tools.host.swap.listing import as_text, rows
from memreact_tools.host.swap.monitor import Monitor
from memreact_tools.host.swap.owner import Owner, owner_of
from memreact_tools.host.swap.passes import (
    Guest,
    Passed,
    areas_of_ours,
    clear_the_dead,
    give_back,
    grow_if_due,
)
from memreact_tools.host.swap.qemu import open_qemu
from memreact_tools.host.swap.settings import swap_settings
from memreact_tools.host.swap.sizing import (
    NO_NEED,
    Need,
    Pace,
    Rest,
    Shrink,
    SwapSettings,
    need_of,
    pace_at,
)
from memreact_tools.host.swap.trouble import SwapTrouble
from memreact_tools.plain import plain, plain_json

__all__ = ["add_words", "swap", "wait_s"]

_DONE, _COULD_NOT, _MISUSED = 0, 1, 2
_LOOK_S = 10.0  # how often a guest's memory is looked at
_MOST_PERCENT = 200
_GUEST = "qmp:/PATH or ch:/PATH, with =ADDRESS of its memreact where its process does not tell"
_NAMED = re.compile(
    r"(?P<how>qmp|ch):(?P<path>.+?)(?:=(?P<at>(?:unix|vsock|hvsock):.+))?", re.DOTALL
)
_OPEN: dict[str, Callable[..., AbstractContextManager[Monitor]]] = {
    "qmp": open_qemu,
    "ch": open_cloud_hypervisor,
}


def add_words(parser: argparse.ArgumentParser, seconds: Callable[[str], float]) -> None:
    """Tell a parser the words of `memreact-host swap`.

    Args:
        parser: Of that subject.
        seconds: Reads a length of time.
    """
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser("add", help="give a guest the swap that it is worth, as a disk")
    add.add_argument("guest", metavar="GUEST", type=_where, help=_GUEST)
    add.add_argument("--follow", action="store_true", help="stay, and add or take as it changes")
    most = "of the guest's memory, however much it needs"
    add.add_argument("--most", type=_percent, default=_MOST_PERCENT, metavar="PERCENT", help=most)
    add.add_argument("--force", action="store_true", help="also where files lie in memory")
    listing = verbs.add_parser("list", help="what files there are, and what they take")
    listing.add_argument("--json", action="store_true", help="for programs")
    remove = verbs.add_parser("remove", help="take disks away, and delete what nobody has")
    remove.add_argument("guest", metavar="GUEST", type=_where, nargs="?", help=_GUEST)
    remove.add_argument("--file", action="append", default=[], metavar="NAME", help="as swap0")
    remove.add_argument("--swapped-off", action="store_true", help="swapoff is done in the guest")
    for verb in (add, listing, remove):
        verb.add_argument("--kata", metavar="FILE", help="settings from a configuration.toml")
        verb.add_argument("--hypervisor", metavar="NAME", help="of [hypervisor.NAME] in it")
        verb.add_argument("--timeout", type=seconds, default=30.0, metavar="SECONDS")
        verb.add_argument(
            "--set", action="append", default=[], metavar="OPTION=VALUE", dest="options"
        )


class _Named(NamedTuple):
    """A guest as it was named.

    Args:
        where: Its monitor.
        said: Where its memreact is; empty where that was not said.
    """

    where: str
    said: str = ""


def _where(text: str) -> _Named:
    named = _NAMED.fullmatch(text)
    if named is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither qmp:/PATH nor ch:/PATH")
    try:
        said = str(parse_address(named["at"])) if named["at"] else ""
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return _Named(f"{named['how']}:{os.path.abspath(named['path'])}", said)


def _percent(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def swap(asked: argparse.Namespace) -> int:
    """Do what was asked; 0 done, 1 could not, 2 misused."""
    act = {"add": _add, "list": _list, "remove": _remove}[asked.verb]
    try:
        return act(asked, _settings(asked))
    except (UnknownOption, BadValue) as error:
        return _trouble(str(error), _MISUSED)
    except (Unreadable, UnicodeDecodeError) as error:
        return _trouble(f"{asked.kata}: {error}", _COULD_NOT)
    except (SwapTrouble, OSError) as error:
        return _trouble(str(error), _COULD_NOT)
    except KeyboardInterrupt:
        return _trouble("broken off; the next pass ends what was begun", _COULD_NOT)


def _settings(asked: argparse.Namespace) -> SwapSettings:
    file = None
    if asked.kata is not None:
        file = KataFile.parse(read_text(asked.kata), hypervisor=asked.hypervisor)
    return swap_settings(asked.options, file)


@contextmanager
def _open_monitor(where: str, timeout_s: float) -> Iterator[Monitor]:
    how, _, path = where.partition(":")
    if how not in _OPEN:
        raise SwapTrouble(f"{where!r} is no monitor")
    with _OPEN[how](path, timeout_s=timeout_s) as monitor:
        yield monitor


@contextmanager
def _open(home: Home, named: _Named, timeout_s: float) -> Iterator[Guest]:
    """Open a guest, from outside and from within; where that is, is kept beside its files."""
    with _open_monitor(named.where, timeout_s) as monitor:
        said = named.said or home.guest_of(owner_of(monitor.pid, named.where))
        address = address_of(monitor.pid, said)
        inside = None if address is None else Inside(address, timeout_s)
        yield Guest(named.where, monitor, inside, said)


def _add(asked: argparse.Namespace, settings: SwapSettings) -> int:
    if not settings.enable_guest_swap:
        raise SwapTrouble("enable_guest_swap is not true (--set enable_guest_swap=true)")
    if asked.follow:
        return _follow(asked, settings)
    with _home(asked, settings) as home, _open(home, asked.guest, asked.timeout) as guest:
        memory_bytes, need = _seen(guest, settings, asked.most)
        at_once = Pace(memory_bytes, due_us=0, need=need)
        passed = grow_if_due(home, guest, settings, at_once, 0)
    _report(passed, guest)
    failed = passed.trouble is not None or (guest.said and passed.unused)
    return _COULD_NOT if failed else _DONE


def _seen(guest: Guest, settings: SwapSettings, most_percent: int) -> tuple[int, Need]:
    """Return what memory a guest has, and what it needs for what it has swapped out."""
    memory_bytes = guest.monitor.memory_bytes()
    areas = areas_of_ours(guest.inside)
    if not areas:
        return memory_bytes, NO_NEED
    used = sum(area.used_bytes for area in areas.values())
    return memory_bytes, need_of(settings, memory_bytes, used, most_percent)


@contextmanager
def _home(asked: argparse.Namespace, settings: SwapSettings) -> Iterator[Home]:
    """Open the folder of all guests, what dead ones left in it cleared away."""
    force = getattr(asked, "force", True)  # what is there already is listed and removed anywhere
    with open_home(settings.guest_swap_path, in_memory_too=force) as home:
        _say(clear_the_dead(home))
        yield home


def _report(passed: Passed, guest: Guest) -> None:
    _say(passed.said)
    match passed.decision:
        case Shrink(names) if guest.inside is None:
            _say([f"{', '.join(names)}: more than the guest is worth; swapoff there, then remove"])
        case Rest(because):
            _say([because])
    if passed.unused:
        where = "where its memreact is, is not known" if guest.inside is None else guest.inside
        _say([f"{', '.join(passed.unused)}: in the guest, but not in use ({where})"])
    if passed.trouble is not None:
        _trouble(str(passed.trouble), _COULD_NOT)


def _follow(asked: argparse.Namespace, settings: SwapSettings) -> int:
    """Look at the guest again and again until it ends, and then at what it left."""
    with _open_monitor(asked.guest.where, asked.timeout) as monitor:
        ended = os.pidfd_open(monitor.pid)
    pace: Pace | None = None
    last = ""
    try:
        while True:
            pace, said = _look(asked, settings, pace)
            if said and said != last:
                print(plain(said), flush=True)
            last = said
            if select.select([ended], [], [], wait_s(pace, _now_us()))[0]:
                break
    finally:
        os.close(ended)
    with _home(asked, settings):
        return _DONE


def wait_s(pace: Pace | None, now_us: int) -> float:
    """Return the seconds until the guest is looked at next."""
    due_us = None if pace is None else pace.due_us
    left = 0 if due_us is None else (due_us - now_us) / 1_000_000
    return min(_LOOK_S, left) if left > 0 else _LOOK_S


def _now_us() -> int:
    return time.monotonic_ns() // 1000


def _look(
    asked: argparse.Namespace, settings: SwapSettings, pace: Pace | None
) -> tuple[Pace | None, str]:
    """Pass once; the monitor is free for others between two looks."""
    try:
        with _home(asked, settings) as home, _open(home, asked.guest, asked.timeout) as guest:
            memory_bytes, need = _seen(guest, settings, asked.most)
            pace = pace_at(pace, settings, memory_bytes, _now_us(), need)
            passed = grow_if_due(home, guest, settings, pace, _now_us())
    except (SwapTrouble, OSError) as error:
        return pace, str(error)
    said = [*passed.said, str(passed.trouble or "")]
    if isinstance(passed.decision, Shrink) and guest.inside is None:
        said.append(f"{', '.join(passed.decision.names)}: more than the guest is worth")
    return passed.pace, "; ".join(each for each in said if each)


def _list(asked: argparse.Namespace, settings: SwapSettings) -> int:
    found = []
    if os.path.isdir(settings.guest_swap_path):
        with open_home(settings.guest_swap_path, in_memory_too=True, make=False) as home:
            found = rows(home, _Look(asked.timeout))
    if asked.json:
        # Before it gets its lines: plain_json would write them out too.
        print(msgspec.json.format(plain_json(msgspec.json.encode(found).decode())))
    else:
        _say(as_text(found).split("\n"))
    return _DONE


class _Look(NamedTuple):
    """Asks guests from outside and from within.

    Args:
        timeout_s: How long one answer may take.
    """

    timeout_s: float

    def monitor(self, owner: Owner) -> AbstractContextManager[Monitor]:
        """Open its monitor."""
        return _open_monitor(owner.monitor, self.timeout_s)

    def areas(self, owner: Owner) -> dict[str, SwapArea] | None:
        """Return what it swaps to, by the name of the file; None where nobody says."""
        address = address_of(owner.pid, owner.guest)
        return None if address is None else areas_of_ours(Inside(address, self.timeout_s))


def _remove(asked: argparse.Namespace, settings: SwapSettings) -> int:
    with _home(asked, settings) as home:
        if asked.guest is None:
            return _DONE
        with _open(home, asked.guest, asked.timeout) as guest:
            _say(give_back(home, guest, asked.file, swapped_off=asked.swapped_off))
    return _DONE


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(plain(line))


def _trouble(text: str, code: int) -> int:
    print(f"memreact-host: {plain(text)}", file=sys.stderr)
    return code
