"""What a guest's memreact is asked, and what becomes of its answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from memreact_tools.address import AddressError, UnixAddress, VsockAddress
from memreact_tools.host.swap.inside import Inside, address_of
from memreact_tools.host.swap.trouble import GuestKeeps, GuestSilent, SwapTrouble
from tests.tools.host.processes import process
from tests.tools.host.swap.guest_double import GuestDouble
from tests.tools.servers import TIMEOUT_S, monitor, serving

SERIAL = "memreact-swap0"
FIGURES = {"path": "/dev/vdb", "used_bytes": 9, "available_bytes": 8, "kept_bytes": 7}


@pytest.fixture
def double(tmp_path: Path) -> Iterator[GuestDouble]:
    """A guest that answers."""
    double = GuestDouble()
    with serving(tmp_path / "guest", double):
        yield double


@pytest.fixture
def inside(tmp_path: Path) -> Inside:
    """Whom the host asks."""
    return Inside(UnixAddress(f"{tmp_path}/guest"), TIMEOUT_S)


def test_a_disk_is_taken_listed_and_given_back(double: GuestDouble, inside: Inside) -> None:
    added = inside.take(SERIAL)
    assert added is not None
    assert added.made
    double.used[SERIAL] = 5
    ours = [(area.serial, area.used_bytes) for area in inside.areas().areas if area.ours]
    assert ours == [(SERIAL, 5)]
    removed = inside.give_back(SERIAL)
    assert removed is not None
    assert removed.area.used_bytes == 5
    assert double.used == {}


def test_what_is_so_already_is_as_good(double: GuestDouble, inside: Inside) -> None:
    double.used[SERIAL] = 0
    assert inside.take(SERIAL) is None
    double.used.clear()
    assert inside.give_back(SERIAL) is None


def test_a_guest_without_memory_keeps_a_disk_and_says_on_which_figures(
    double: GuestDouble, inside: Inside
) -> None:
    double.refuses["RemoveSwap"] = ("NotEnoughMemory", FIGURES)
    with pytest.raises(GuestKeeps, match=SERIAL):
        inside.give_back(SERIAL)


def test_a_guest_that_does_not_take_a_disk_is_told_apart_from_a_silent_one(
    double: GuestDouble, inside: Inside
) -> None:
    double.refuses["AddSwap"] = ("NoSuchDevice", {"wanted": SERIAL, "waited_us": 3_000_000})
    with pytest.raises(SwapTrouble, match=SERIAL) as refused:
        inside.take(SERIAL)
    assert not isinstance(refused.value, GuestSilent)


def test_a_memreact_that_knows_nothing_of_swap_is_as_good_as_silent(
    double: GuestDouble, inside: Inside
) -> None:
    double.knows_swap = False
    with pytest.raises(GuestSilent, match="MethodNotFound"):
        inside.areas()


def test_nobody_there_is_silence(inside: Inside) -> None:
    for ask in (inside.areas, lambda: inside.take(SERIAL), lambda: inside.give_back(SERIAL)):
        with pytest.raises(GuestSilent, match="guest"):
            ask()


def test_one_that_goes_away_in_the_middle_is_silence(double: GuestDouble, inside: Inside) -> None:
    def go(_method: str, _serial: str) -> None:
        raise ConnectionAbortedError

    double.when_asked = go
    with pytest.raises(GuestSilent):
        inside.give_back(SERIAL)


def test_it_is_reached_through_a_monitors_socket_too(tmp_path: Path) -> None:
    with serving(tmp_path / "vm", monitor(GuestDouble(), 1050)):
        inside = Inside(UnixAddress(f"{tmp_path}/vm", 1050), TIMEOUT_S)
        assert inside.take(SERIAL) is not None


def test_its_address_is_what_was_said_first() -> None:
    assert address_of(os.getpid(), "", "unix:/a", "unix:/b") == UnixAddress("/a")
    with pytest.raises(AddressError):
        address_of(os.getpid(), "nowhere")


def test_else_it_is_what_the_monitors_command_line_tells(tmp_path: Path) -> None:
    process(tmp_path, 6, ["qemu-system-x86_64"])
    process(tmp_path, 7, ["qemu-system-x86_64", "-device", "vhost-vsock-pci,guest-cid=77"])
    proc = str(tmp_path)
    assert address_of(7, "", proc=proc) == VsockAddress(77, 1050)
    assert address_of(7, "unix:/a", proc=proc) == UnixAddress("/a")
    assert address_of(6, proc=proc) is None
    assert address_of(5, proc=proc) is None
