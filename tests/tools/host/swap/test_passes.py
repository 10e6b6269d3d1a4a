from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from memreact.value import replace
from memreact_tools.address import UnixAddress
from memreact_tools.host.swap.files import Home, open_home
from memreact_tools.host.swap.inside import Inside
from memreact_tools.host.swap.monitor import Disk
from memreact_tools.host.swap.owner import owner_of
from memreact_tools.host.swap.passes import (
    Guest,
    Passed,
    clear_the_dead,
    give_back,
    grow_if_due,
)
from memreact_tools.host.swap.sizing import Grow, Pace, Rest, Shrink, SwapSettings, need_of
from memreact_tools.host.swap.trouble import (
    GuestKeeps,
    GuestSilent,
    NoSwapFile,
    StillHeld,
    SwapTrouble,
)
from tests.tools.host.swap.fake_monitor import FakeMonitor
from tests.tools.host.swap.guest_double import GuestDouble
from tests.tools.servers import TIMEOUT_S, serving

MIB = 1 << 20
OWNER = owner_of(os.getpid(), "qmp:/q")
FOLDER = f"shop.{os.getpid()}"
SETTINGS = SwapSettings(
    enable_guest_swap=True,
    guest_swap_path="",
    guest_swap_size_percent=1,
    guest_swap_create_threshold_secs=60,
)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """An empty folder of all guests."""
    with open_home(str(tmp_path / "swap"), in_memory_too=True) as here:
        yield here


def grow(home: Home, monitor: FakeMonitor, settings: SwapSettings = SETTINGS) -> Passed:
    """One pass, at once."""
    return grow_if_due(home, Guest("qmp:/q", monitor), settings, Pace(monitor.memory, 0), 0)


def pace_of(monitor: FakeMonitor, used_bytes: int) -> Pace:
    """What is due at once for a guest that has swapped out so much."""
    return Pace(monitor.memory, 0, need=need_of(SETTINGS, monitor.memory, used_bytes, 200))


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[tuple[GuestDouble, Inside]]:
    """A guest with a memreact, and whom the host asks."""
    double = GuestDouble()
    with serving(tmp_path / "guest", double):
        yield double, Inside(UnixAddress(f"{tmp_path}/guest"), TIMEOUT_S)


Inner = tuple[GuestDouble, Inside]


def grow_with(home: Home, monitor: FakeMonitor, inner: Inner, used_bytes: int = 0) -> Passed:
    """One pass, at once, over a guest that has a memreact."""
    guest = Guest("qmp:/q", monitor, inner[1], "unix:/guest")
    return grow_if_due(home, guest, SETTINGS, pace_of(monitor, used_bytes), 0)


def files(home: Home) -> list[str]:
    """Every file below the folder of all guests."""
    return sorted(str(each.relative_to(home.path)) for each in Path(home.path).rglob("*"))


def test_a_guest_gets_what_it_is_worth_and_a_second_pass_finds_nothing_to_do(home: Home) -> None:
    monitor = FakeMonitor()
    passed = grow(home, monitor)
    assert passed.decision == Grow("swap0", 10 * MIB)
    assert monitor.there == [Disk("swap0", f"{home.path}/{FOLDER}/swap0", 10 * MIB, "01/00")]
    assert isinstance(grow(home, monitor).decision, Rest)
    assert files(home) == [FOLDER, f"{FOLDER}/owner", f"{FOLDER}/swap0"]


def test_more_memory_is_a_second_file_and_less_makes_it_spare(home: Home) -> None:
    monitor = FakeMonitor()
    grow(home, monitor)
    monitor.memory *= 2
    assert grow(home, monitor).decision == Grow("swap1", 10 * MIB)
    monitor.memory //= 2
    assert grow(home, monitor).decision == Shrink(("swap1",))
    assert len(monitor.there) == 2  # what a guest may be swapping to is not taken away


def test_what_the_monitor_refuses_leaves_nothing_and_is_tried_again_later(home: Home) -> None:
    def refuse() -> None:
        raise SwapTrouble("no port")

    passed = grow(home, FakeMonitor(when_adding=refuse))
    assert str(passed.trouble) == "no port"
    assert passed.pace == Pace(1 << 30, 180_000_000, failures=1)
    assert files(home) == []


def test_what_does_not_fit_is_refused_with_figures(home: Home) -> None:
    passed = grow(home, FakeMonitor(memory=1 << 62))
    assert "MiB are missing" in str(passed.trouble)
    assert files(home) == []


class Killed(BaseException):
    """The tool is killed here."""


def test_what_one_left_that_was_broken_off_while_it_asked_the_monitor_is_ended(home: Home) -> None:
    def kill() -> None:
        raise Killed

    with pytest.raises(Killed):
        grow(home, FakeMonitor(when_adding=kill))
    passed = grow(home, FakeMonitor(), replace(SETTINGS, guest_swap_size_percent=0))
    assert "was no disk of the guest's" in passed.said[0]
    assert files(home) == []


def test_a_file_stays_while_it_is_not_known_whether_it_is_a_disk(home: Home) -> None:
    def go_silent() -> None:
        monitor.silent = True
        raise SwapTrouble("no answer in time")

    monitor = FakeMonitor(when_adding=go_silent)
    passed = grow(home, monitor)
    assert str(passed.trouble) == "no answer in time"
    assert f"{FOLDER}/swap0" in files(home)


def killed_at(home: Home, step: str, monitor: FakeMonitor) -> None:
    """Leave what a tool leaves that is killed after a step."""
    os.mkdir(FOLDER, 0o711, dir_fd=home.fd)
    if step == "folder":
        return
    home.make_folder(FOLDER, OWNER)
    if step == "owner":
        return
    with home.folder(FOLDER) as folder:
        path = folder.make("swap0", 10 * MIB, uid=os.geteuid(), gid=os.getegid())
    if step in ("node", "unplugged"):
        monitor.there.append(Disk("swap0", path, 10 * MIB, plugged=False))
    if step == "plugged":
        monitor.there.append(Disk("swap0", path, 10 * MIB, "01/00"))


STEPS = ("folder", "owner", "file", "node", "plugged", "unplugged")


@pytest.mark.parametrize("step", STEPS)
def test_a_tool_that_is_killed_after_any_step_leaves_what_the_next_pass_ends(
    home: Home, step: str
) -> None:
    monitor = FakeMonitor()
    killed_at(home, step, monitor)
    list(clear_the_dead(home))
    grow(home, monitor)
    assert [(disk.name, disk.plugged) for disk in monitor.there] == [("swap0", True)]
    assert files(home) == [FOLDER, f"{FOLDER}/owner", f"{FOLDER}/swap0"]


@pytest.mark.parametrize("step", STEPS)
def test_a_guest_that_is_killed_at_any_step_leaves_nothing_after_the_next_pass(
    home: Home, step: str
) -> None:
    killed_at(home, step, FakeMonitor())
    if step != "folder":
        home.make_folder(FOLDER, msgspec.structs.replace(OWNER, started=OWNER.started + 1))
    assert [line.rpartition(" ")[2] for line in clear_the_dead(home)] == ["deleted"]
    assert files(home) == []


def test_a_guest_that_lives_keeps_what_it_has(home: Home) -> None:
    grow(home, FakeMonitor())
    assert list(clear_the_dead(home)) == []
    assert f"{FOLDER}/swap0" in files(home)


def test_files_that_do_not_say_whose_they_are_stay_and_are_told(home: Home) -> None:
    grow(home, FakeMonitor())
    Path(home.path, FOLDER, "owner").write_text("?")
    assert "does not say whose" in "".join(clear_the_dead(home))
    assert f"{FOLDER}/swap0" in files(home)


def test_what_else_lies_in_a_dead_guests_folder_stays_and_is_told(home: Home) -> None:
    home.make_folder(FOLDER, msgspec.structs.replace(OWNER, started=1))
    Path(home.path, FOLDER, "notes").touch()
    assert "something else" in "".join(clear_the_dead(home))
    assert f"{FOLDER}/notes" in files(home)


def test_what_another_one_still_works_at_of_a_dead_guest_is_left_to_it(home: Home) -> None:
    dead = msgspec.structs.replace(OWNER, started=1)
    with open_home(home.path, in_memory_too=True) as other:
        with other.claimed(dead, "shop") as folder:
            folder.make("swap0", 10 * MIB, uid=os.geteuid(), gid=os.getegid())
            assert list(clear_the_dead(home)) == []
            assert f"{FOLDER}/swap0" in files(home)
        assert len(list(clear_the_dead(home))) == 1
    assert files(home) == []


def test_what_is_given_back_is_gone_file_and_folder(home: Home) -> None:
    monitor = FakeMonitor()
    grow(home, monitor)
    (said,) = give_back(home, Guest("qmp:/q", monitor), [], swapped_off=True)
    assert said.endswith("is deleted")
    assert monitor.there == []
    assert files(home) == []


def test_one_of_two_is_given_back(home: Home) -> None:
    monitor = FakeMonitor()
    grow(home, monitor)
    monitor.memory *= 2
    grow(home, monitor)
    list(give_back(home, Guest("qmp:/q", monitor), ["swap1"], swapped_off=True))
    assert [disk.name for disk in monitor.there] == ["swap0"]
    assert files(home) == [FOLDER, f"{FOLDER}/owner", f"{FOLDER}/swap0"]


def test_a_file_whose_disk_the_guest_holds_stays(home: Home) -> None:
    monitor = FakeMonitor()
    grow(home, monitor)
    monitor.holds = True
    with pytest.raises(StillHeld):
        list(give_back(home, Guest("qmp:/q", monitor), [], swapped_off=True))
    assert f"{FOLDER}/swap0" in files(home)


def test_a_file_that_there_is_not_is_told_with_those_that_there_are(home: Home) -> None:
    monitor = FakeMonitor()
    grow(home, monitor)
    with pytest.raises(SwapTrouble, match="no swap7, but swap0"):
        list(give_back(home, Guest("qmp:/q", monitor), ["swap7"]))


def test_a_file_that_a_monitor_names_by_a_way_out_of_the_folder_is_not_deleted(
    home: Home, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.touch()
    monitor = FakeMonitor(there=[Disk("../../kept", "", 10 * MIB)])
    with pytest.raises(NoSwapFile):
        list(give_back(home, Guest("qmp:/q", monitor), [], swapped_off=True))
    assert kept.exists()


def test_a_file_that_lies_elsewhere_is_not_deleted(home: Home, tmp_path: Path) -> None:
    elsewhere = tmp_path / "swap0"
    elsewhere.touch()
    monitor = FakeMonitor(there=[Disk("swap0", str(elsewhere), 10 * MIB)])
    assert isinstance(grow(home, monitor).decision, Rest)  # it counts all the same
    assert "stays" in "".join(give_back(home, Guest("qmp:/q", monitor), [], swapped_off=True))
    assert elsewhere.exists()


# With a memreact in the guest


def test_a_disk_is_taken_into_use_and_that_is_told(home: Home, inside: Inner) -> None:
    monitor = FakeMonitor()
    passed = grow_with(home, monitor, inside)
    assert "the guest swaps to swap0 (20 ms)" in passed.said
    assert inside[0].used == {"memreact-swap0": 0}
    assert passed.unused == ()
    assert grow_with(home, monitor, inside).said == ()


def test_a_disk_that_is_in_the_guest_but_not_in_use_is_taken_by_the_next_pass(
    home: Home, inside: Inner
) -> None:
    monitor, double = FakeMonitor(), inside[0]
    double.refuses["AddSwap"] = ("NoSuchDevice", {"wanted": "it", "waited_us": 3})
    passed = grow_with(home, monitor, inside)
    assert passed.unused == ("swap0",)
    assert "swap0 is not in use" in passed.said[-1]
    double.refuses.clear()
    assert grow_with(home, monitor, inside).said == ("the guest swaps to swap0 (20 ms)",)


def test_what_a_guest_needs_is_given_whatever_its_memory_is(home: Home, inside: Inner) -> None:
    monitor = FakeMonitor()
    grow_with(home, monitor, inside)
    assert isinstance(grow_with(home, monitor, inside, 7 * MIB).decision, Rest)
    assert grow_with(home, monitor, inside, 9 * MIB).decision == Grow("swap1", 2 * MIB)
    assert set(inside[0].used) == {"memreact-swap0", "memreact-swap1"}


def test_what_is_no_longer_worth_it_is_swapped_off_and_deleted(home: Home, inside: Inner) -> None:
    monitor = FakeMonitor()
    for used_bytes in (0, 9 * MIB):
        grow_with(home, monitor, inside, used_bytes)
    passed = grow_with(home, monitor, inside, 4 * MIB)
    assert passed.decision == Shrink(("swap1",))
    assert set(inside[0].used) == {"memreact-swap0"}
    assert files(home) == [FOLDER, f"{FOLDER}/owner", f"{FOLDER}/swap0"]


@pytest.mark.parametrize(
    ("error", "figures"),
    [
        (
            "NotEnoughMemory",
            {"path": "/dev/vdc", "used_bytes": 9, "available_bytes": 8, "kept_bytes": 7},
        ),
        (
            "SwapoffEnded",
            {
                "path": "/dev/vdc",
                "because": "pressure",
                "back_bytes": 1,
                "used_bytes": 8,
                "took_us": 2,
            },
        ),
    ],
)
def test_what_a_guest_has_no_memory_for_stays_and_is_asked_for_later(
    home: Home, inside: Inner, error: str, figures: dict[str, object]
) -> None:
    monitor = FakeMonitor()
    monitor.memory *= 2
    grow_with(home, monitor, inside)
    monitor.memory //= 2
    grow_with(home, monitor, inside)
    monitor.there.append(Disk("swap1", f"{home.path}/{FOLDER}/swap1", 10 * MIB, "02/00"))
    Path(home.path, FOLDER, "swap1").touch()
    inside[0].used["memreact-swap1"] = 9
    inside[0].refuses["RemoveSwap"] = (error, figures)
    passed = grow_with(home, monitor, inside)
    assert isinstance(passed.trouble, GuestKeeps)
    assert passed.pace.due_us == 180_000_000
    assert passed.pace.failures == 0
    assert f"{FOLDER}/swap1" in files(home)
    assert [disk.name for disk in monitor.there] == ["swap0", "swap1"]


def test_nothing_is_taken_away_before_the_guest_has_said_that_it_is_swapped_off(
    home: Home, inside: Inner
) -> None:
    monitor, double = FakeMonitor(), inside[0]
    grow_with(home, monitor, inside)
    there: list[int] = []
    double.when_asked = lambda method, _: there.append(len(monitor.there) * (method[0] == "R"))
    guest = Guest("qmp:/q", monitor, inside[1])
    assert "deleted" in "".join(give_back(home, guest, []))
    assert there == [1]
    assert (double.used, monitor.there, files(home)) == ({}, [], [])


class Neighbour(FakeMonitor):
    """The monitor of another guest."""

    @property
    def pid(self) -> int:
        """This process's parent."""
        return os.getppid()


def test_a_guest_that_is_slow_to_answer_keeps_nobody_from_the_others(
    home: Home, inside: Inner
) -> None:
    monitor, neighbour, double = FakeMonitor(), Neighbour(), inside[0]
    came: list[str] = []

    def others_come(method: str, _serial: str) -> None:
        with open_home(home.path, in_memory_too=True, wait_s=0) as other:
            grow(other, neighbour)
            came.append(f"{method}: {len(neighbour.there)}")
            list(give_back(other, Guest("qmp:/n", neighbour), [], swapped_off=True))
            try:
                grow(other, monitor)
            except SwapTrouble as trouble:
                came.append(str(trouble))

    double.when_asked = others_come
    grow_with(home, monitor, inside)
    list(give_back(home, Guest("qmp:/q", monitor, inside[1]), []))
    busy = f"another memreact-host is at work in {home.path}/{FOLDER}"
    assert came == ["ListSwap: 1", busy, "AddSwap: 1", busy, "RemoveSwap: 1", busy]
    assert (monitor.there, neighbour.there, files(home)) == ([], [], [])


def test_a_guest_that_keeps_a_disk_keeps_its_file(home: Home, inside: Inner) -> None:
    monitor = FakeMonitor()
    grow_with(home, monitor, inside)
    figures = {"path": "/dev/vdb", "used_bytes": 9, "available_bytes": 8, "kept_bytes": 7}
    inside[0].refuses["RemoveSwap"] = ("NotEnoughMemory", figures)
    with pytest.raises(GuestKeeps):
        list(give_back(home, Guest("qmp:/q", monitor, inside[1]), []))
    assert len(monitor.there) == 1
    assert f"{FOLDER}/swap0" in files(home)


@pytest.mark.parametrize("known", [False, True])
def test_without_a_memreact_that_answers_nothing_is_taken_away(
    home: Home, tmp_path: Path, *, known: bool
) -> None:
    monitor = FakeMonitor()
    grow(home, monitor)
    inside = Inside(UnixAddress(f"{tmp_path}/nobody"), TIMEOUT_S) if known else None
    with pytest.raises(GuestSilent, match="--swapped-off"):
        list(give_back(home, Guest("qmp:/q", monitor, inside), []))
    assert len(monitor.there) == 1


def test_where_a_guests_memreact_is_asked_is_kept_beside_its_files(
    home: Home, inside: Inner
) -> None:
    grow_with(home, FakeMonitor(), inside)
    assert home.guest_of(OWNER) == "unix:/guest"
    assert home.guest_of(msgspec.structs.replace(OWNER, pid=1)) == ""


def test_a_tool_that_is_killed_between_swapoff_and_unplug_leaves_what_a_removal_ends(
    home: Home, inside: Inner
) -> None:
    monitor, double = FakeMonitor(), inside[0]
    grow_with(home, monitor, inside)
    double.used.clear()
    list(give_back(home, Guest("qmp:/q", monitor, inside[1]), []))
    assert (monitor.there, files(home)) == ([], [])
