"""A disk becomes swap, or it is said why not, and then nothing on it was touched."""

from __future__ import annotations

import errno
import os
import threading
from typing import Any

import pytest
from msgspec import Struct

from kernelio.errors import Refused, Unsupported
from kernelio.meminfo import page_size
from kernelio.swap_header import make_swap_header, parse_swap_header, parse_uuid
from memreact.actuator.swap import Adding, CalledBack, Errand, add_swap, wanted_by_path
from memreact.actuator.swap_disks import Wanted, wanted_by
from memreact.sources.pressure import now_us
from memreact.swap_trouble import SwapTrouble
from memreact_schemas import swap
from memreact_schemas.swap import AddSwap, RemoveSwap, SwapAdded
from tests.disk_files import SwapGuest
from tests.fake_guest import FakeGuest

PAGE = page_size()
MIB = 1 << 20
UUID = "2f1c4f43-0c2a-4a0f-8a1b-0123456789ab"
OTHER = "00000000-0c2a-4a0f-8a1b-0123456789ab"
SIGNED = make_swap_header(MIB, PAGE, parse_uuid(UUID))
FOREIGN = SIGNED[:-10] + bytes(10) + bytes(2 * PAGE - 10 - len(SIGNED)) + b"SWAPSPACE2"
EXT4 = bytes(1080) + b"\x53\xef"
BY_SERIAL, BY_PLACE = Wanted(serial="memreact-swap0"), Wanted(pci_path="01/00")
LONG_US = 60_000_000  # bounds a failure; nothing waits for it when all is well


@pytest.fixture
def there(guest: FakeGuest, monkeypatch: pytest.MonkeyPatch) -> SwapGuest:
    """A guest without disks."""
    return SwapGuest(guest, monkeypatch)


def add(there: SwapGuest, wanted: Wanted = BY_SERIAL, **how: Any) -> SwapAdded:  # noqa: ANN401  # as Adding has them
    return add_swap(there.layout, Adding(wanted, **how), Errand(), now_us())


def trouble(there: SwapGuest, wanted: Wanted = BY_SERIAL, **how: Any) -> Struct:  # noqa: ANN401  # as Adding has them
    with pytest.raises(SwapTrouble) as raised:
        add(there, wanted, **how)
    assert str(raised.value)
    assert there.switched_on == []
    return raised.value.answer


def disk(there: SwapGuest, name: str = "vdc") -> bytes:
    return there.guest.received(f"/dev/{name}")


def test_a_disk_of_zeros_is_given_a_signature_and_used(there: SwapGuest) -> None:
    there.has_disk()
    wanted = Wanted(serial="memreact-swap0", pci_path="01/00", uuid=UUID)
    added = add(there, wanted, make=True, priority=5, discard="pages")
    assert there.switched_on == [("/dev/vdc", 5, "pages")]
    assert disk(there)[:PAGE] == SIGNED
    area = added.area
    assert (area.path, area.serial, area.pci_path) == ("/dev/vdc", "memreact-swap0", "01/00")
    assert (area.uuid, area.priority, area.ours, area.lost) == (UUID, 5, True, False)
    assert added.made
    assert 0 <= added.waited_us <= added.took_us


def test_a_signature_is_made_anew_and_one_is_drawn_where_none_is_named(there: SwapGuest) -> None:
    there.has_disk(content=SIGNED)
    uuid = add(there, make=True).area.uuid
    header = parse_swap_header(disk(there), "vdc")
    assert header is not None
    assert header.uuid == uuid != UUID


def test_a_signature_that_is_there_is_used_as_it_is(there: SwapGuest) -> None:
    there.has_disk(content=SIGNED)
    added = add(there)
    assert (added.made, added.area.uuid) == (False, UUID)
    assert there.switched_on == [("/dev/vdc", None, "both")]


def test_a_uuid_is_enough_for_a_disk_of_another_name(there: SwapGuest) -> None:
    there.has_disk("vdb", "shop", content=EXT4, slot=2)
    there.has_disk("vdc", "", content=SIGNED)
    added = add(there, Wanted(uuid=UUID))
    assert (added.area.path, added.area.ours) == ("/dev/vdc", False)


def test_what_is_plugged_in_where_it_is_looked_for_is_katas(there: SwapGuest) -> None:
    there.has_disk(serial="", content=SIGNED)
    assert add(there, BY_PLACE, by_place=True).area.path == "/dev/vdc"


@pytest.mark.parametrize(
    ("serial", "content", "how", "because"),
    [
        ("shop", SIGNED, {}, "not_ours"),
        ("shop", SIGNED, {"make": True}, "not_ours"),
        ("shop", b"", {"make": True, "uuid": UUID}, "not_ours"),
        ("shop", SIGNED, {"uuid": OTHER}, "other_uuid"),
        ("shop", EXT4, {"by_place": True}, "no_signature"),
        ("memreact-a", b"", {}, "no_signature"),
        ("memreact-a", EXT4, {}, "no_signature"),
        ("memreact-a", EXT4, {"make": True}, "not_empty"),
        ("memreact-a", bytes(65600) + b"_BHRfS_M", {"make": True}, "not_empty"),
        ("memreact-a", SIGNED, {"uuid": OTHER}, "other_uuid"),
        ("memreact-a", FOREIGN, {}, "other_pages"),
        ("memreact-a", make_swap_header(2 * MIB, PAGE), {}, "too_small"),
    ],
)
def test_what_was_not_made_for_this_is_left_as_it_is(
    there: SwapGuest, serial: str, content: bytes, how: dict[str, Any], because: str
) -> None:
    there.has_disk(serial=serial, content=content)
    before = disk(there)
    wanted = Wanted(pci_path="01/00", uuid=how.get("uuid"))
    answer = trouble(there, wanted, **{key: how[key] for key in how.keys() - {"uuid"}})
    assert isinstance(answer, swap.NotForSwap)
    assert (answer.path, answer.because) == ("/dev/vdc", because)
    assert disk(there) == before


def test_a_disk_that_is_too_small_is_given_no_signature(there: SwapGuest, guest: FakeGuest) -> None:
    there.has_disk()
    guest.shows("/sys/block/vdc/size", "8\n")
    answer = trouble(there, make=True)
    assert isinstance(answer, swap.NotForSwap)
    assert answer.because == "too_small"


def test_a_signature_that_no_kernel_knows_is_told_as_such(there: SwapGuest) -> None:
    there.has_disk(content=SIGNED[:1024] + b"\7" + SIGNED[1025:])
    answer = trouble(there)
    assert isinstance(answer, swap.SwapRefused)
    assert "version 1" in answer.why


def test_what_is_in_use_is_in_use(there: SwapGuest) -> None:
    there.has_disk()
    for path in ("/dev/vdc", "/vdc"):  # the latter once the caller's mount namespace is gone
        there.uses(path, used_kb=8)
        answer = trouble(there, make=True)
        assert isinstance(answer, swap.AlreadySwap)
        assert (answer.area.path, answer.area.used_bytes) == (path, 8192)
        there.uses_no_more(path)


def test_of_two_who_ask_at_once_one_is_told_that_the_other_was_faster(there: SwapGuest) -> None:
    there.has_disk(content=SIGNED)
    there.before_swapon = lambda: there.uses("/dev/vdc")
    there.refuses = Refused("/dev/vdc", errno.EBUSY, "Device or resource busy")
    assert isinstance(trouble(there), swap.AlreadySwap)


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (Refused("/dev/vdc", errno.EINVAL, "Invalid argument"), errno.EINVAL),
        (Refused("/dev/vdc", errno.EBUSY, "Device or resource busy"), errno.EBUSY),
        (Unsupported("/dev/vdc", "not permitted"), 0),
    ],
)
def test_what_the_kernel_refuses_is_told_with_its_number(
    there: SwapGuest,
    error: Refused | Unsupported,
    number: int,
) -> None:
    there.has_disk(content=SIGNED)
    there.refuses = error
    answer = trouble(there)
    assert answer == swap.SwapRefused(
        path="/dev/vdc", doing="swapon", errno=number, why=error.detail
    )


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted(serial="memreact-swap1"), "serial memreact-swap1"),
        (Wanted(pci_path="05/00"), "PCI path 05/00"),
        (
            Wanted(serial="memreact-swap0", pci_path="05/00"),
            "serial memreact-swap0 and PCI path 05/00",
        ),
        (Wanted(uuid=OTHER), f"UUID {OTHER}"),
    ],
)
def test_a_disk_that_is_not_there_is_named(there: SwapGuest, wanted: Wanted, words: str) -> None:
    there.has_disk(content=SIGNED)
    there.has_disk("sda", "memreact-swap1", driver="sd", slot=3)
    answer = trouble(there, wanted)
    assert isinstance(answer, swap.NoSuchDevice)
    assert answer.wanted == words


def waits(there: SwapGuest, errand: Errand) -> tuple[threading.Thread, list[object]]:
    """Have a disk waited for on a thread; what came of it is in the list once that has ended."""
    came: list[object] = []

    def run() -> None:
        try:
            adding = Adding(BY_SERIAL, wait_us=LONG_US)
            came.append(add_swap(there.layout, adding, errand, now_us()))
        except (CalledBack, SwapTrouble) as ended:
            came.append(ended)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, came


def test_a_disk_that_comes_is_seen_when_it_is_told_of(there: SwapGuest) -> None:
    errand = Errand()
    thread, came = waits(there, errand)
    errand.tell()  # of another disk
    there.has_disk(content=SIGNED)
    errand.tell()
    thread.join()
    (added,) = came
    assert isinstance(added, SwapAdded)
    assert added.waited_us < LONG_US


def test_a_disk_that_came_between_the_question_and_the_wait_is_not_missed(
    there: SwapGuest,
) -> None:
    errand = Errand()
    errand.tell()  # its event is there before anybody waits
    there.has_disk(content=SIGNED)
    thread, came = waits(there, errand)
    thread.join()
    assert isinstance(came[0], SwapAdded)


@pytest.mark.parametrize("stopping", [False, True])
def test_who_waits_is_called_back(there: SwapGuest, *, stopping: bool) -> None:
    errand = Errand()
    thread, came = waits(there, errand)
    errand.call_back(stopping=stopping)
    thread.join()
    assert isinstance(came[0], CalledBack)
    assert there.switched_on == []


def test_a_disk_that_has_no_node_yet_is_waited_for(there: SwapGuest, guest: FakeGuest) -> None:
    there.has_disk(content=SIGNED)
    node = guest.path("/dev/vdc")
    os.rename(node, f"{node}.later")
    errand = Errand()
    thread, came = waits(there, errand)
    errand.tell()
    os.rename(f"{node}.later", node)
    errand.tell()
    thread.join()
    assert isinstance(came[0], SwapAdded)


def test_a_disk_whose_node_is_gone_is_no_disk(there: SwapGuest, guest: FakeGuest) -> None:
    there.has_disk(content=SIGNED)
    guest.loses("/dev/vdc")
    answer = trouble(there)
    assert answer == swap.SwapRefused(path="/dev/vdc", doing="opening it", errno=0, why="gone")


def test_where_sysfs_shows_no_disks_that_is_said(there: SwapGuest, guest: FakeGuest) -> None:
    os.rmdir(guest.path("/sys/block"))
    answer = trouble(there)
    assert isinstance(answer, swap.SwapRefused)
    assert answer.doing == "looking for disks"


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (AddSwap(pci_path="1/0"), Wanted(pci_path="01/00")),
        (AddSwap(pci_path="1f.0/a.3"), Wanted(pci_path="1f/0a.3")),
        (AddSwap(uuid=UUID.upper()), Wanted(uuid=UUID)),
        (RemoveSwap(path="/dev/vdc", serial="memreact-a"), Wanted("memreact-a", path="/dev/vdc")),
    ],
)
def test_what_is_said_of_a_disk_has_one_form(said: AddSwap | RemoveSwap, wanted: Wanted) -> None:
    assert wanted_by(said) == wanted


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/nowhere", swap.NoSuchDevice), ("/etc", swap.NotForSwap), ("/a\0b", swap.NoSuchDevice)],
)
def test_a_path_that_leads_to_no_disk_is_not_taken(
    there: SwapGuest, guest: FakeGuest, path: str, kind: type[Struct]
) -> None:
    os.mkdir(guest.path("/etc"))
    with pytest.raises(SwapTrouble) as raised:
        wanted_by_path(there.layout, path)
    assert isinstance(raised.value.answer, kind)


def test_a_path_to_a_device_that_is_no_virtio_disk_is_not_taken(
    there: SwapGuest, guest: FakeGuest
) -> None:
    os.symlink(os.devnull, guest.path("/null"))
    with pytest.raises(SwapTrouble, match="no whole virtio disk"):
        wanted_by_path(there.layout, "/null")
