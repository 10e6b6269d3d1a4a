"""A swap area is taken out of use by a child, or it is said why not."""

from __future__ import annotations

import errno
import os
import sys
import threading

import pytest
from msgspec import Struct

from kernelio.meminfo import page_size
from kernelio.swap_header import make_swap_header, parse_uuid
from memreact.actuator.swap import CalledBack, Errand
from memreact.actuator.swap_disks import Wanted
from memreact.actuator.swap_off import PROGRAM, Guest, Removing, areas_and_room, remove_swap
from memreact.swap_trouble import SwapTrouble
from memreact_schemas import swap
from memreact_schemas.swap import SwapArea, SwapRemoved
from tests.disk_files import SwapGuest
from tests.fake_guest import FakeGuest
from tests.memreact.kernel_files import shows_stall

UUID = "2f1c4f43-0c2a-4a0f-8a1b-0123456789ab"
SIGNED = make_swap_header(1 << 20, page_size(), parse_uuid(UUID))
BY_SERIAL = Wanted(serial="memreact-swap0")
ENDLESS_US, SHORT_US = 60_000_000, 50_000
MIB = 1 << 20


def program(text: str) -> tuple[str, ...]:
    """A child that is not swapoff, and is told the same."""
    return (sys.executable, "-I", "-S", "-c", text)


DONE = program("")
FOR_EVER = program("import time\nwhile True: time.sleep(60)")


@pytest.fixture
def there(guest: FakeGuest, monkeypatch: pytest.MonkeyPatch) -> SwapGuest:
    """A guest with a disk of ours in use, 400 kB of it, and with pressure that can be read."""
    made = SwapGuest(guest, monkeypatch)
    made.has_disk(content=SIGNED)
    made.uses("/dev/vdc", used_kb=400)
    shows_stall(guest, "", 0)
    return made


def remove(
    there: SwapGuest,
    wanted: Wanted = BY_SERIAL,
    child: tuple[str, ...] = DONE,
    *,
    errand: Errand | None = None,
    deadline_us: int = ENDLESS_US,
) -> SwapRemoved:
    removing = Removing(wanted, deadline_us, limit_ppm=100_000, window_us=1_000_000)
    return remove_swap(Guest(there.layout, "/"), removing, errand or Errand(), child)


def trouble(there: SwapGuest, *how: object, **more: object) -> Struct:
    with pytest.raises(SwapTrouble) as raised:
        remove(there, *how, **more)  # type: ignore[arg-type]  # as remove has them
    assert str(raised.value)
    return raised.value.answer


@pytest.mark.parametrize(
    "wanted",
    [
        BY_SERIAL,
        Wanted(pci_path="01/00"),
        Wanted(uuid=UUID),
        Wanted(path="/dev/vdc"),
        Wanted("memreact-swap0", "01/00", UUID, "/dev/vdc"),
    ],
)
def test_an_area_is_found_by_all_that_is_known_of_it(there: SwapGuest, wanted: Wanted) -> None:
    removed = remove(there, wanted)
    assert removed.area == SwapArea(
        path="/dev/vdc",
        kind="partition",
        size_bytes=1020 << 10,
        used_bytes=400 << 10,
        priority=-2,
        serial="memreact-swap0",
        pci_path="01/00",
        uuid=UUID,
        ours=True,
    )
    assert removed.took_us > 0


def test_the_child_is_given_our_pid_and_the_node_whatever_the_kernel_calls_it(
    there: SwapGuest, guest: FakeGuest
) -> None:
    there.uses_no_more("/dev/vdc")
    there.uses("/vdc")  # as once the mount namespace of the swapon is gone
    node = guest.path("/dev/vdc")
    says = f"import os, sys\nsys.exit(sys.argv[1:] != [str(os.getppid()), {node!r}])"
    assert remove(there, child=program(says)).area.path == "/vdc"


def test_a_swap_file_is_taken_out_of_use_by_its_path(there: SwapGuest) -> None:
    there.uses("/swapfile", kind="file")
    assert remove(there, Wanted(path="/swapfile")).area.kind == "file"


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(serial="memreact-swap1"),
        Wanted("memreact-swap0", uuid="00000000-0c2a-4a0f-8a1b-0123456789ab"),
        Wanted(path="/dev/vdd"),
    ],
)
def test_what_is_not_in_use_is_not_removed(there: SwapGuest, wanted: Wanted) -> None:
    assert trouble(there, wanted) == swap.NoSuchSwap(wanted=wanted.in_words)


def test_an_area_that_memory_would_not_hold_is_refused_with_the_figures(there: SwapGuest) -> None:
    there.shows_memory(available_kb=50_399)
    assert trouble(there) == swap.NotEnoughMemory(
        path="/dev/vdc",
        used_bytes=400 << 10,
        available_bytes=50_399 << 10,
        kept_bytes=50_000 << 10,
    )
    there.shows_memory(available_kb=50_400)
    assert remove(there)


def test_an_area_that_holds_nothing_needs_no_memory(there: SwapGuest) -> None:
    there.uses("/dev/vdc", used_kb=0)
    there.shows_memory(available_kb=26_000)
    assert remove(there)


def test_an_area_whose_device_is_gone_cannot_be_read_back(there: SwapGuest) -> None:
    there.uses_no_more("/dev/vdc")
    there.uses("/dev/vdc\\040(deleted)", used_kb=400)
    answer = trouble(there, Wanted(path="/dev/vdc"))
    assert answer == swap.SwapRefused(path="/dev/vdc", doing="swapoff", errno=0, why="gone")


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EINVAL, errno.EPERM])
def test_what_swapoff_says_is_told_with_its_number(there: SwapGuest, number: int) -> None:
    answer = trouble(there, child=program(f"import sys\nsys.exit({number})"))
    assert answer == swap.SwapRefused(
        path="/dev/vdc", doing="swapoff", errno=number, why=os.strerror(number)
    )


def test_the_program_itself_says_what_the_kernel_says(there: SwapGuest) -> None:
    answer = trouble(there, child=PROGRAM)  # the node is a file here, and no swap
    assert isinstance(answer, swap.SwapRefused)
    assert answer.errno in {errno.EINVAL, errno.EPERM}


def test_a_program_that_cannot_be_started_is_told(there: SwapGuest) -> None:
    answer = trouble(there, child=("/no/such/program",))
    assert isinstance(answer, swap.SwapRefused)


def test_what_takes_too_long_is_broken_off_and_says_what_is_left(there: SwapGuest) -> None:
    answer = trouble(there, child=FOR_EVER, deadline_us=SHORT_US)
    assert isinstance(answer, swap.SwapoffEnded)
    assert (answer.because, answer.back_bytes, answer.used_bytes) == ("deadline", 0, 400 << 10)
    assert answer.took_us >= SHORT_US


def test_a_child_that_the_oom_killer_took_leaves_the_area_in_use(there: SwapGuest) -> None:
    answer = trouble(there, child=program("import os\nos.kill(os.getpid(), 9)"))
    assert isinstance(answer, swap.SwapoffEnded)
    assert answer.because == "killed"


def test_memory_that_runs_out_meanwhile_ends_it(there: SwapGuest, guest: FakeGuest) -> None:
    meminfo = guest.received("/proc/meminfo").replace(b"500000 kB", b"24999 kB")
    shrinks = f"open({guest.path('/proc/meminfo')!r}, 'wb').write({meminfo!r})"
    answer = trouble(there, child=program(f"{shrinks}\nimport time\ntime.sleep(60)"))
    assert isinstance(answer, swap.SwapoffEnded)
    assert answer.because == "memory"


def test_others_that_stall_end_it(there: SwapGuest, guest: FakeGuest) -> None:
    path = guest.path("/proc/pressure/memory")
    stalls = (
        "import time\n"
        "for n in range(1, 6000):\n"
        f"    text = f'some avg10=0.00 avg60=0.00 avg300=0.00 total={{n * 100000}}\\n'\n"
        f"    text += text.replace('some', 'full')\n"
        f"    open({path!r}, 'r+').write(text)\n"
        "    time.sleep(0.01)\n"
    )
    answer = trouble(there, child=program(stalls))
    assert isinstance(answer, swap.SwapoffEnded)
    assert answer.because == "pressure"


def test_who_asked_and_is_gone_ends_it(there: SwapGuest) -> None:
    errand = Errand()
    errand.call_back()
    with pytest.raises(CalledBack):
        remove(there, child=FOR_EVER, errand=errand)


def test_the_daemons_end_ends_it(there: SwapGuest) -> None:
    errand = Errand()
    timer = threading.Timer(0.01, lambda: errand.call_back(stopping=True))
    timer.start()
    answer = trouble(there, child=FOR_EVER, errand=errand)
    timer.join()
    assert isinstance(answer, swap.SwapoffEnded)
    assert answer.because == "stopping"


def test_what_is_listed_comes_with_the_room_for_it(there: SwapGuest, guest: FakeGuest) -> None:
    there.uses("/dev/zram0", priority=100)
    there.uses("/dev/vdd\\040(deleted)")
    listed = areas_and_room(there.layout)
    assert [(area.path, area.ours, area.lost) for area in listed.areas] == [
        ("/dev/vdc", True, False),
        ("/dev/zram0", False, False),
        ("/dev/vdd", False, True),
    ]
    assert (listed.available_bytes, listed.kept_bytes) == (500_000 << 10, 50_000 << 10)
    guest.loses("/proc/swaps")
    assert areas_and_room(there.layout).areas == ()
    guest.shows("/proc/swaps", "nonsense")
    with pytest.raises(SwapTrouble):
        areas_and_room(there.layout)
