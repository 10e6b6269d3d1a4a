"""The totals of the guest, of ourselves and of the others."""

from __future__ import annotations

from memreact.events import GuestPressure
from memreact.sources.pressure import now_us, read_sample
from tests.fake_guest import FakeGuest
from tests.few_fds import no_fds_left
from tests.memreact.kernel_files import pressure, shows_stall

OWN = "/memreact.slice/memreact.service"


def test_adds_memory_and_io(guest: FakeGuest) -> None:
    shows_stall(guest, "", 30, 12)
    shows_stall(guest, "/a", 5, 2)
    sample = read_sample(guest.layout, "/", "/a")
    assert sample.guest == GuestPressure(42)
    assert (sample.memcg, sample.memcg_us) == ("/a", 7)


def test_is_of_now(guest: FakeGuest) -> None:
    before = now_us()
    assert before <= read_sample(guest.layout, "/").at <= now_us()


def test_where_we_stalled_ourselves_the_other_top_level_cgroups_are_read(guest: FakeGuest) -> None:
    shows_stall(guest, "", 100)
    shows_stall(guest, OWN, 9)
    shows_stall(guest, "/memreact.slice", 9)
    shows_stall(guest, "/system.slice", 50, 1)
    shows_stall(guest, "/user.slice", 20)
    sample = read_sample(guest.layout, OWN)
    assert sample.guest == GuestPressure(100, 9, {"system.slice": 51, "user.slice": 20})


def test_where_we_never_stalled_nobody_else_is_read(guest: FakeGuest) -> None:
    shows_stall(guest, "", 100)
    shows_stall(guest, OWN, 0)
    shows_stall(guest, "/system.slice", 50)
    assert read_sample(guest.layout, OWN).guest == GuestPressure(100)


def test_in_the_root_cgroup_nothing_is_our_own(guest: FakeGuest) -> None:
    shows_stall(guest, "", 100)
    shows_stall(guest, "/", 100)
    assert read_sample(guest.layout, "/").guest == GuestPressure(100)


def test_what_cannot_be_read_is_not_known(guest: FakeGuest) -> None:
    guest.shows("/proc/pressure/memory", "some nonsense\n")
    guest.has_memcg("/a", memory_pressure="some nonsense\n")
    sample = read_sample(guest.layout, "/gone", "/a")
    assert sample.guest == GuestPressure(None, None)
    assert sample.memcg_us is None


def test_without_fds_nothing_is_known_and_nothing_raises(guest: FakeGuest) -> None:
    shows_stall(guest, "", 9_000_000)
    shows_stall(guest, OWN, 5)
    shows_stall(guest, "/a", 7)
    with no_fds_left():
        sample = read_sample(guest.layout, OWN, "/a")
    assert (sample.guest, sample.memcg_us) == (GuestPressure(None, None), None)


def test_what_is_not_shown_counts_as_no_stall(guest: FakeGuest) -> None:
    shows_stall(guest, "", 10)
    guest.has_memcg("/a", memory_pressure=pressure(5))
    assert read_sample(guest.layout, "/", "/a").memcg_us == 0


def test_where_a_neighbour_cannot_be_read_our_own_stall_excuses_nothing(guest: FakeGuest) -> None:
    shows_stall(guest, "", 100)
    shows_stall(guest, OWN, 90)
    shows_stall(guest, "/odd", 80)
    guest.has_memcg("/odd", memory_pressure="nonsense\n")
    assert read_sample(guest.layout, OWN).guest == GuestPressure(100, None)


def test_a_neighbour_without_pressure_files_counts_nothing(guest: FakeGuest) -> None:
    shows_stall(guest, "", 10)
    shows_stall(guest, OWN, 1)
    guest.has_memcg("/hidden")
    assert read_sample(guest.layout, OWN).guest.others_us == {"hidden": 0}
