"""One memcg, read closely for whoever asks."""

from __future__ import annotations

import pytest

from kernelio.errors import Unsupported
from kernelio.memcg import Protection
from kernelio.taskstats import TaskDelays
from memreact.close_look import CloseLook, Waited
from memreact.sources.close_look import Looks, look_closely
from memreact.sources.harm import Ask, Open
from memreact.sources.inspection import Folios
from tests.fake_guest import FakeGuest
from tests.memreact.full_guest import OWN, full_guest
from tests.memreact.kernel_files import pressure, shows_memcg
from tests.memreact.sources.test_harm import asked, delays, procs

FOLIOS = Folios(4096, 4096, 4096)


def opens(ask: Ask) -> Open:
    return lambda: (ask, lambda: None)


def look(guest: FakeGuest, looks: Looks, known: dict[int, TaskDelays]) -> CloseLook:
    return look_closely(guest.layout, OWN, "/shop", FOLIOS, looks, open_=opens(asked(known)))


@pytest.fixture
def shop(guest: FakeGuest) -> FakeGuest:
    """A guest that counts delays."""
    full_guest(guest)
    guest.shows("/proc/cmdline", "ro delayacct\n")
    guest.shows("/proc/sys/kernel/task_delayacct", "1\n")
    shows_memcg(guest, "/shop", memory_low="500\n", cgroup_procs=procs(1, 2))
    return guest


def test_all_of_it_is_read(shop: FakeGuest) -> None:
    shows_memcg(shop, "/shop", memory_pressure=pressure(50), io_pressure=pressure(7))
    shows_memcg(shop, "/shop/web", memory_pressure=pressure(20), cgroup_procs=procs(3))
    found = look(shop, Looks(), {1: delays(5_000), 3: delays(6_000)})
    assert found.saw is not None
    assert found.saw.path == "/shop"
    assert found.stall_us == (30, 7)
    assert found.memory is not None
    assert found.memory.some is not None
    assert found.memory.some.total_us == 50
    assert found.keeps == {"/shop": Protection(0, 0), "/": Protection(0, 0)}
    assert found.limits is not None
    assert found.waited.total is not None
    assert found.waited.total.reclaim_us == 11_000


def test_a_second_look_tells_what_came_since_the_first(shop: FakeGuest) -> None:
    looks = Looks()
    first = look(shop, looks, {1: delays(5_000), 2: delays(1_000)}).waited
    assert first.since_last_look is None
    since = look(shop, looks, {1: delays(7_500)}).waited.since_last_look
    assert since is not None
    assert (since.reclaim_us, since.processes, since.gone) == (2_500, 1, 1)
    assert since.since_us is not None


def test_only_the_last_few_are_remembered(shop: FakeGuest) -> None:
    looks = Looks()
    look(shop, looks, {1: delays()})
    for number in range(16):
        shows_memcg(shop, f"/m{number}")
        looks.waited(shop.layout, f"/m{number}", opens(asked({})))
    assert look(shop, looks, {1: delays()}).waited.since_last_look is None


def test_where_the_kernel_refuses_it_says_so(shop: FakeGuest) -> None:
    def refuses() -> tuple[Ask, object]:
        raise Unsupported("netlink:TASKSTATS", "not in this kernel")

    found = look_closely(shop.layout, OWN, "/shop", FOLIOS, Looks(), open_=refuses)  # type: ignore[arg-type]  # it only refuses
    assert found.waited == Waited(missing="netlink:TASKSTATS: not in this kernel")


def test_where_the_kernel_ends_the_answers_it_says_so(shop: FakeGuest) -> None:
    def silent(pid: int) -> TaskDelays:
        raise Unsupported("netlink:TASKSTATS", f"no answer for {pid}")

    found = look_closely(shop.layout, OWN, "/shop", FOLIOS, Looks(), open_=opens(silent))
    assert found.waited == Waited(missing="netlink:TASKSTATS: no answer for 1")


def test_what_counts_nothing_is_told_with_its_remedy(shop: FakeGuest) -> None:
    shop.shows("/proc/sys/kernel/task_delayacct", "0\n")
    waited = look(shop, Looks(), {1: delays()}).waited
    assert "sysctl kernel.task_delayacct=1" in (waited.missing or "")
    assert waited.total is not None


def test_a_memcg_that_went_meanwhile_is_told_as_nothing(shop: FakeGuest) -> None:
    found = look_closely(shop.layout, OWN, "/gone", FOLIOS, Looks(), open_=opens(asked({})))
    assert (found.saw, found.stall_us, found.memory, found.limits) == (None, None, None, None)
