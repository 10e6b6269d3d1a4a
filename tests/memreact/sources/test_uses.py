"""What memcgs use, asked for once, and again and again."""

from __future__ import annotations

import os

import pytest

from kernelio.layout import Layout
from memreact.events import Instant
from memreact.sources import uses as uses_module
from memreact.sources.protection import read_set
from memreact.sources.uses import Uses
from memreact_schemas.status import CgroupLimits, CgroupUse
from tests.fake_guest import FakeGuest
from tests.memreact.kernel_files import pressure, shows_memcg


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = Instant(7_000_000)

    def __call__(self) -> Instant:
        """Read it."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def uses(guest: FakeGuest, clock: Clock) -> Uses:
    return Uses(guest.layout, clock)


def test_a_cgroup_tells_its_use_and_its_stall(guest: FakeGuest, uses: Uses) -> None:
    shows_memcg(guest, "/a", memory_pressure=pressure(5), io_pressure=pressure(6))
    said = uses.read("/a")
    assert isinstance(said, CgroupUse)
    assert (said.path, said.stall_us, said.limits.current_bytes) == ("/a", 11, 100 << 20)
    assert uses.read("/gone") is None


def test_use_is_always_of_now_and_what_is_set_at_most_a_second_old(
    guest: FakeGuest, uses: Uses, clock: Clock
) -> None:
    shows_memcg(guest, "/a", memory_max="9000\n", memory_current="50\n")
    first = uses.read("/a")
    shows_memcg(guest, "/a", memory_max="8000\n", memory_current="60\n")
    clock.now = Instant(clock.now + 500_000)
    second = uses.read("/a")
    clock.now = Instant(clock.now + 500_000)
    third = uses.read("/a")
    assert first is not None
    assert second is not None
    assert third is not None
    assert [
        (each.limits.max_bytes, each.limits.current_bytes) for each in (first, second, third)
    ] == [
        (9000, 50),
        (9000, 60),
        (8000, 60),
    ]


def told(uses: Uses, path: str = "/a") -> tuple[int | None, int, int | None]:
    said = uses.read(path)
    assert said is not None
    return said.limits.current_bytes, said.limits.swap_bytes, said.stall_us


def open_below(guest: FakeGuest, path: str) -> int:
    """How many files of a memcg are open."""
    directory, found = guest.layout.memcg_dir(path), 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{fd}").startswith(f"{directory}/")
        except FileNotFoundError:  # the directory that was read
            continue
    return found


def test_who_asks_again_and_again_is_told_from_files_that_stay_open(
    guest: FakeGuest, uses: Uses, clock: Clock
) -> None:
    for number in range(4):
        amount = str(number)
        shows_memcg(
            guest,
            "/a",
            memory_current=amount,
            memory_swap_current=amount,
            memory_pressure=pressure(number),
            io_pressure=pressure(10 * number),
        )
        assert told(uses) == (number, number, 11 * number)
        assert open_below(guest, "/a") == (4 if number else 0)
        clock.now = Instant(clock.now + 100_000)
    uses.forget_old()
    assert open_below(guest, "/a") == 4
    clock.now = Instant(clock.now + 1_000_000)
    uses.forget_old()
    assert open_below(guest, "/a") == 0


def test_what_a_kernel_does_not_show_stays_unknown(
    guest: FakeGuest, uses: Uses, clock: Clock
) -> None:
    shows_memcg(guest, "/a")
    for name in ("memory.swap.current", "io.pressure", "memory.current"):
        os.unlink(f"{guest.layout.memcg_dir('/a')}/{name}")
    for _ in range(2):
        assert told(uses) == (None, 0, None)
        clock.now = Instant(clock.now + 100_000)


def test_only_so_many_stay_open(
    guest: FakeGuest, uses: Uses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uses_module, "_HELD_MAX", 1)
    for path in ("/a", "/b") * 2:
        shows_memcg(guest, path, memory_current="7", memory_pressure=pressure(5))
        assert told(uses, path) == (7, 0, 5)
    assert [open_below(guest, path) for path in ("/a", "/b")] == [4, 0]
    uses.close()
    assert (len(uses), open_below(guest, "/a")) == (0, 0)


def test_a_cgroup_that_went_within_a_second_is_gone(guest: FakeGuest, uses: Uses) -> None:
    shows_memcg(guest, "/a")
    assert uses.read("/a") is not None
    guest.loses("/sys/fs/cgroup/a")
    assert uses.read("/a") is None


def test_what_nobody_asks_for_again_is_not_kept(guest: FakeGuest, uses: Uses, clock: Clock) -> None:
    for path in ("/a", "/b"):
        shows_memcg(guest, path)
        uses.read(path)
        uses.forget_old()
        clock.now = Instant(clock.now + 600_000)
    assert len(uses) == 2
    uses.forget_old()
    assert len(uses) == 1


def test_who_says_the_very_same_again_is_told_of_as_before(
    guest: FakeGuest, uses: Uses, clock: Clock
) -> None:
    shows_memcg(guest, "/a", memory_current="50\n")
    said = []
    for _ in range(30):
        said.append(uses.read("/a"))
        clock.now = Instant(clock.now + 100_000)
    assert all(each is said[1] for each in said[1:])
    shows_memcg(guest, "/a", memory_current="60\n")
    assert told(uses)[0] == 60


@pytest.mark.parametrize(
    ("shown", "is_told"),
    [
        ({"memory_current": "60\n"}, (60, 0, 11)),
        ({"memory_swap_current": "7\n"}, (50, 7, 11)),
        ({"memory_pressure": pressure(8)}, (50, 0, 14)),
        ({"io_pressure": pressure(8)}, (50, 0, 13)),
    ],
)
def test_a_change_of_any_of_the_files_is_told_at_once(
    guest: FakeGuest, uses: Uses, shown: dict[str, str], is_told: tuple[int, int, int]
) -> None:
    said = {
        "memory_current": "50\n",
        "memory_swap_current": "0\n",
        "memory_pressure": pressure(5),
        "io_pressure": pressure(6),
    }
    for _ in range(3):
        shows_memcg(guest, "/a", **said)
        assert told(uses) == (50, 0, 11)
    shows_memcg(guest, "/a", **(said | shown))
    assert told(uses) == is_told


def test_a_limit_that_changes_alone_is_told_within_a_second(
    guest: FakeGuest, uses: Uses, clock: Clock
) -> None:
    shows_memcg(guest, "/a", memory_max="9000\n")
    for _ in range(5):
        uses.read("/a")
        clock.now = Instant(clock.now + 100_000)
    shows_memcg(guest, "/a", memory_max="8000\n")
    for _ in range(10):
        said = uses.read("/a")
        clock.now = Instant(clock.now + 100_000)
    assert said is not None
    assert said.limits.max_bytes == 8000


def test_a_file_that_says_something_else_is_told_of_as_gone(guest: FakeGuest, uses: Uses) -> None:
    shows_memcg(guest, "/a", memory_current="50\n")
    uses.read("/a")
    uses.read("/a")
    shows_memcg(guest, "/a", memory_current="much\n")
    assert uses.read("/a") is None


def test_stalls_that_a_file_does_not_say_stay_unknown(guest: FakeGuest, uses: Uses) -> None:
    for said in (pressure(5), pressure(5), "nothing\n"):
        shows_memcg(guest, "/a", memory_pressure=said, io_pressure=pressure(6))
        amounts = told(uses)
    assert amounts == (100 << 20, 0, None)


def test_of_those_asked_about_together_few_are_read_again_together(
    guest: FakeGuest, uses: Uses, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [f"/{number}" for number in range(16)]
    for path in paths:
        shows_memcg(guest, path)
    read: list[str] = []

    def reads(layout: Layout, path: str) -> CgroupLimits | None:
        read.append(path)
        return read_set(layout, path)

    for path in paths:
        uses.read(path)
    monkeypatch.setattr(uses_module, "read_set", reads)
    at_once = []
    for _ in range(30):
        clock.now = Instant(clock.now + 100_000)
        read.clear()
        for path in paths:
            uses.read(path)
        at_once.append(len(read))
    assert max(at_once) <= 4
    assert sum(at_once) >= 2 * len(paths)


def test_stalls_of_a_file_that_cannot_be_read_stay_unknown(guest: FakeGuest, uses: Uses) -> None:
    shows_memcg(guest, "/a")
    os.unlink(f"{guest.layout.memcg_dir('/a')}/io.pressure")
    os.mkdir(f"{guest.layout.memcg_dir('/a')}/io.pressure")
    for _ in range(3):
        assert told(uses) == (100 << 20, 0, None)
