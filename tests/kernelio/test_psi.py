from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import MalformedReading, Refused, Unsupported, Vanished
from kernelio.interruptible import install_kick_handler, kick
from kernelio.layout import Layout
from kernelio.psi import (
    Pressure,
    PressureLine,
    Stall,
    TriggerSet,
    arm_trigger,
    can_arm_short_windows,
    guest_trigger_file,
    own_stall,
    parse_pressure,
    parse_some_total_us,
    read_cgroup_stall,
    read_children_stall,
    read_guest_stall,
    read_own_stall,
    read_pressure,
)
from tests.fake_guest import FakeGuest
from tests.goldens import golden_files, golden_text

NATIVE = "/proc/pressure/memory"
WINDOW_US = 2_000_000  # what is allowed without CAP_SYS_RESOURCE


def printed(line: str, pressure: PressureLine) -> str:
    """Print a line as the kernel does."""
    return (
        f"{line} avg10={pressure.avg10:.2f} avg60={pressure.avg60:.2f}"
        f" avg300={pressure.avg300:.2f} total={pressure.total_us}\n"
    )


def shown(total_us: int) -> str:
    """Print a pressure file whose `some` line has this total."""
    zero = PressureLine(0, 0, 0, total_us)
    return printed("some", zero) + printed("full", zero._replace(total_us=total_us // 2))


# --- where


def test_the_guests_triggers_are_armed_on_the_root_cgroup_where_that_is_one(
    guest: FakeGuest,
) -> None:
    guest.shows("/sys/fs/cgroup/memory.pressure", shown(0))
    assert guest_trigger_file(guest.layout, "memory") == guest.path("/proc/pressure/memory")
    root = Layout(root="", cgroup="/sys/fs/cgroup")
    of_root = f"{root.cgroup_root}/memory.pressure"
    is_root = os.path.exists(of_root) and os.stat(root.cgroup_root).st_ino == 1
    assert guest_trigger_file(root, "memory") == (of_root if is_root else NATIVE)
    assert guest_trigger_file(Layout(cgroup="/nowhere"), "io") == "/proc/pressure/io"


def test_where_cgroups_are_mounted_to_be_read_alone_the_guest_s_own_file_takes_triggers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = Layout()
    reads = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and reads(path, mode))
    assert guest_trigger_file(layout, "memory") == NATIVE


# --- readings


@pytest.mark.parametrize(
    "path", golden_files("memory.pressure") + golden_files("proc/pressure/[!i]*")
)
def test_reads_back_what_real_kernels_print(path: str) -> None:
    pressure = parse_pressure(golden_text(path), path)
    assert pressure.some is not None
    assert pressure.full is not None
    text = printed("some", pressure.some) + printed("full", pressure.full)
    assert text.encode() == golden_text(path)
    assert parse_some_total_us(golden_text(path), path) == pressure.some.total_us


AVERAGES = st.integers(0, 99_99).map(lambda hundredths: hundredths / 100)
LINES = st.builds(PressureLine, AVERAGES, AVERAGES, AVERAGES, st.integers(0, 2**64 - 1))


@given(some=LINES, full=LINES)
def test_reads_back_every_value_the_kernel_can_print(
    some: PressureLine, full: PressureLine
) -> None:
    text = printed("some", some) + printed("full", full)
    assert parse_pressure(text.encode(), "x") == Pressure(some, full)
    assert parse_some_total_us(text.encode(), "x") == some.total_us
    turned = printed("full", full) + printed("some", some)
    assert parse_some_total_us(turned.encode(), "x") == some.total_us


@given(st.binary() | st.text("somefulavg10=.total \n3").map(str.encode))
def test_any_bytes_parse_or_are_a_malformed_reading(text: bytes) -> None:
    with suppress(MalformedReading):
        pressure = parse_pressure(text, "x")
        assert pressure.some is not None or pressure.full is not None
    with suppress(MalformedReading):
        assert parse_some_total_us(text, "x") >= 0


def test_irq_pressure_has_no_some_line() -> None:
    line = PressureLine(0.0, 0.1, 0.2, 7)
    assert parse_pressure(printed("full", line).encode(), "irq") == Pressure(None, line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("some avg10=0.00 avg60=0.00 avg300=0.00\n", "some avg10=0.00 avg60=0.00 avg300=0.00"),
        (shown(1) + "some\n", "some"),
        (shown(1) + "\n", ""),
        (shown(1).replace("=", " "), "some avg10 0.00 avg60 0.00 avg300 0.00 total 1"),
        (shown(1).replace("total=1\n", "total=-1\n"), shown(1).split("\n")[0][:-1] + "-1"),
    ],
)
def test_a_malformed_reading_names_the_line(text: str, line: str) -> None:
    with pytest.raises(MalformedReading) as caught:
        parse_pressure(text.encode(), "/proc/pressure/memory")
    assert caught.value.line == line


def test_a_line_that_comes_twice_is_malformed() -> None:
    with pytest.raises(MalformedReading):
        parse_pressure((shown(1) + shown(2)).encode(), "x")


def test_a_kernel_without_psi_is_unsupported_and_not_a_vanished_cgroup(guest: FakeGuest) -> None:
    with pytest.raises(Unsupported):
        read_guest_stall(guest.layout)
    with pytest.raises(Unsupported):
        arm_trigger(guest.layout.proc("pressure/io"), "some", stall_us=1, window_us=WINDOW_US)


# --- stall


def memcg_shows(guest: FakeGuest, path: str, memory_us: int, io_us: int) -> str:
    return guest.has_memcg(path, memory_pressure=shown(memory_us), io_pressure=shown(io_us))


def test_stall_is_what_some_tasks_waited_for_memory_and_for_io(guest: FakeGuest) -> None:
    directory = memcg_shows(guest, "/shop", 37820, 82345)
    assert read_cgroup_stall(directory) == Stall(37820, 82345)
    assert read_cgroup_stall(directory).total_us == 120165


def test_the_guests_stall_comes_from_proc(guest: FakeGuest) -> None:
    guest.shows("/proc/pressure/memory", shown(5))
    guest.shows("/proc/pressure/io", shown(7))
    assert read_guest_stall(guest.layout) == Stall(5, 7)


def test_own_stall_is_without_the_childrens(guest: FakeGuest) -> None:
    directory = memcg_shows(guest, "/shop", 37820, 82345)
    memcg_shows(guest, "/shop/c1", 3344, 5566)
    memcg_shows(guest, "/shop/c2", 7788, 9900)
    memcg_shows(guest, "/shop/c2/grandchild", 1, 1)
    assert read_own_stall(directory) == Stall(26688, 66879)


def test_own_stall_is_never_below_zero() -> None:
    assert own_stall(Stall(10, 100), [Stall(7, 1), Stall(7, 1)]) == Stall(0, 98)


def test_a_child_without_pressure_files_counts_as_zero(guest: FakeGuest) -> None:
    directory = memcg_shows(guest, "/shop", 100, 100)
    guest.has_memcg("/shop/off")
    guest.has_memcg("/shop/half", io_pressure=shown(40))
    assert read_own_stall(directory) == Stall(100, 60)
    assert read_children_stall(directory) == {"off": Stall(0, 0), "half": Stall(0, 40)}


def test_a_child_that_vanishes_after_it_was_listed_counts_as_zero(guest: FakeGuest) -> None:
    directory = memcg_shows(guest, "/shop", 100, 100)
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            os.mkdir(f"{directory}/brief")
            os.rmdir(f"{directory}/brief")

    churn = threading.Thread(target=come_and_go)
    churn.start()
    try:
        readings = {read_own_stall(directory) for _ in range(300)}
    finally:
        stop.set()
        churn.join()
    assert readings == {Stall(100, 100)}


def test_own_stall_of_a_cgroup_that_was_removed_is_vanished(guest: FakeGuest) -> None:
    with pytest.raises(Vanished):
        read_own_stall(guest.layout.memcg_dir("/gone"))


def test_what_is_no_cgroup_directory_has_no_children(guest: FakeGuest) -> None:
    with pytest.raises(Unsupported):
        read_children_stall(guest.shows("/sys/fs/cgroup/file", ""))


def test_stall_without_a_some_line_is_malformed(guest: FakeGuest) -> None:
    directory = memcg_shows(guest, "/shop", 1, 1)
    guest.shows("/sys/fs/cgroup/shop/io.pressure", shown(1).splitlines()[1] + "\n")
    with pytest.raises(MalformedReading):
        read_cgroup_stall(directory)


def test_a_malformed_child_is_told_and_not_taken_for_zero(guest: FakeGuest) -> None:
    directory = memcg_shows(guest, "/shop", 100, 100)
    guest.has_memcg("/shop/odd", memory_pressure="some\n", io_pressure=shown(0))
    with pytest.raises(MalformedReading):
        read_own_stall(directory)


@given(
    parent=st.builds(Stall, st.integers(0, 2**64), st.integers(0, 2**64)),
    children=st.lists(st.builds(Stall, st.integers(0, 2**64), st.integers(0, 2**64)), max_size=5),
)
def test_own_and_childrens_stall_never_add_up_to_less_than_the_parents(
    parent: Stall, children: list[Stall]
) -> None:
    own = own_stall(parent, children)
    assert own.memory_us + sum(child.memory_us for child in children) >= parent.memory_us
    assert own.io_us + sum(child.io_us for child in children) >= parent.io_us
    assert 0 <= own.memory_us <= parent.memory_us


# --- triggers


def test_the_kernel_takes_a_trigger_and_the_fd_stays_readable() -> None:
    fd = arm_trigger(NATIVE, "some", stall_us=150_000, window_us=WINDOW_US)
    try:
        assert os.get_inheritable(fd) is False
        assert os.pread(fd, 5, 0) == b"some "
    finally:
        os.close(fd)


def test_the_last_digit_of_the_window_is_not_lost() -> None:
    # Losing it would make 1 s of 10 s: too short a window for the stall, and refused.
    fd = arm_trigger(NATIVE, "full", stall_us=9_000_000, window_us=10_000_000)
    os.close(fd)


@pytest.mark.parametrize(
    ("stall_us", "window_us"), [(0, WINDOW_US), (WINDOW_US + 1, WINDOW_US), (1, 12_000_000)]
)
def test_a_stall_that_does_not_fit_its_window_is_refused(stall_us: int, window_us: int) -> None:
    with pytest.raises(Refused) as caught:
        arm_trigger(NATIVE, "some", stall_us=stall_us, window_us=window_us)
    assert caught.value.errno == errno.EINVAL
    assert f"some {stall_us} {window_us}" in str(caught.value)


def test_a_refused_trigger_leaves_no_fd_behind() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(Refused):
        arm_trigger(NATIVE, "some", stall_us=0, window_us=WINDOW_US)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_trigger_on_a_removed_cgroup_is_vanished(guest: FakeGuest) -> None:
    path = guest.layout.memcg_dir("/gone") + "/memory.pressure"
    with pytest.raises(Vanished):
        arm_trigger(path, "some", stall_us=1, window_us=WINDOW_US)


def test_short_windows_can_be_armed_exactly_with_cap_sys_resource() -> None:
    with open("/proc/self/status", encoding="ascii") as status:
        effective = next(line.split()[1] for line in status if line.startswith("CapEff:"))
    cap_sys_resource = 24
    assert can_arm_short_windows(NATIVE) is bool(int(effective, 16) >> cap_sys_resource & 1)


def test_no_windows_can_be_armed_without_psi(guest: FakeGuest) -> None:
    assert can_arm_short_windows(guest.layout.proc("pressure/memory")) is False


# --- the set. A TCP socket with urgent data is the one fd that anybody can make fire EPOLLPRI.


class Urgent:
    """A socket that polls EPOLLPRI when told to, as a trigger does when its window is over."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self._far = socket.create_connection(server.getsockname())
            self._near, _ = server.accept()

    @property
    def fd(self) -> int:
        """What to put into a set."""
        return self._near.fileno()

    def fire(self) -> None:
        """Poll EPOLLPRI from now on."""
        self._far.send(b"!", socket.MSG_OOB)

    def calm(self) -> None:
        """Take the event, as the kernel does when a trigger is polled."""
        self._near.recv(1, socket.MSG_OOB)

    def die(self) -> None:
        """Make the fd poll EPOLLERR and EPOLLHUP for ever, as when the cgroup is removed."""
        linger = b"\1\0\0\0\0\0\0\0"
        self._far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._far.close()

    def close(self) -> None:
        """Close both ends."""
        self._far.close()
        self._near.close()


@pytest.fixture
def urgent() -> Iterator[Urgent]:
    one = Urgent()
    yield one
    one.close()


@pytest.fixture
def other() -> Iterator[Urgent]:
    one = Urgent()
    yield one
    one.close()


@pytest.fixture
def triggers() -> Iterator[TriggerSet]:
    one = TriggerSet()
    yield one
    one.close()


def named(triggers: TriggerSet, timeout_ms: int = 5000) -> list[tuple[str, bool]]:
    return sorted((fired.name, fired.gone) for fired in triggers.wait(timeout_ms))


def test_what_fires_is_told_by_its_name(
    triggers: TriggerSet, urgent: Urgent, other: Urgent
) -> None:
    triggers.add(urgent.fd, "shop memory")
    triggers.add(other.fd, "shop io")
    urgent.fire()
    assert named(triggers) == [("shop memory", False)]
    other.fire()
    assert named(triggers) == [("shop io", False), ("shop memory", False)]


def test_the_moment_is_told_on_the_monotonic_clock(triggers: TriggerSet, urgent: Urgent) -> None:
    triggers.add(urgent.fd, "a")
    triggers.wait(0)
    urgent.fire()
    [first] = triggers.wait(5000)
    [second] = triggers.wait(5000)
    assert 0 < first.at_us <= second.at_us


def test_a_set_in_which_nothing_fires_returns_nothing_in_time(
    triggers: TriggerSet, urgent: Urgent
) -> None:
    triggers.add(urgent.fd, "a")
    assert triggers.wait(0) == []
    assert triggers.wait(1) == []


def test_an_armed_trigger_that_is_always_readable_wakes_nobody(triggers: TriggerSet) -> None:
    fd = arm_trigger(NATIVE, "full", stall_us=WINDOW_US, window_us=WINDOW_US)
    try:
        triggers.add(fd, "guest")
        assert triggers.wait(20) == []
        triggers.discard(fd)
        assert os.pread(fd, 5, 0) == b"some "  # discarding closed nothing
    finally:
        os.close(fd)


def test_a_wake_makes_one_wait_return_nothing(triggers: TriggerSet) -> None:
    triggers.wake()
    triggers.wake()
    assert triggers.wait(None) == []  # would wait for ever
    assert triggers.wait(0) == []


def test_a_wake_from_another_thread_ends_a_wait_without_timeout(triggers: TriggerSet) -> None:
    returned: list[object] = []
    waiting = threading.Thread(target=lambda: returned.append(triggers.wait(None)))
    waiting.start()
    triggers.wake()
    waiting.join(10)
    assert returned == [[]]


def test_a_trigger_added_by_another_thread_fires_in_the_wait_under_way(
    triggers: TriggerSet, urgent: Urgent
) -> None:
    returned: list[tuple[str, bool]] = []
    waiting = threading.Thread(target=lambda: returned.extend(named(triggers, 10_000)))
    waiting.start()
    triggers.add(urgent.fd, "late")
    urgent.fire()
    waiting.join(10)
    assert returned == [("late", False)]


def test_a_gone_trigger_is_told_once_and_then_leaves_the_set(
    triggers: TriggerSet, urgent: Urgent, other: Urgent
) -> None:
    triggers.add(urgent.fd, "gone")
    triggers.add(other.fd, "stays")
    urgent.die()
    assert named(triggers) == [("gone", True)]
    assert triggers.wait(0) == []
    other.fire()
    assert named(triggers) == [("stays", False)]


def test_discarding_a_gone_trigger_is_harmless(triggers: TriggerSet, urgent: Urgent) -> None:
    triggers.add(urgent.fd, "gone")
    urgent.die()
    assert named(triggers) == [("gone", True)]
    triggers.discard(urgent.fd)
    triggers.discard(urgent.fd)
    assert triggers.wait(0) == []


def test_a_discarded_trigger_no_longer_fires(triggers: TriggerSet, urgent: Urgent) -> None:
    triggers.add(urgent.fd, "a")
    triggers.discard(urgent.fd)
    urgent.fire()
    assert triggers.wait(0) == []


def test_a_reused_fd_number_carries_only_its_new_name(triggers: TriggerSet) -> None:
    old = Urgent()
    number = old.fd
    triggers.add(number, "old")
    old.fire()
    triggers.discard(number)
    new = Urgent()
    os.dup2(new.fd, number)
    triggers.add(number, "new")
    assert triggers.wait(0) == []
    new.fire()
    assert named(triggers) == [("new", False)]
    triggers.discard(number)
    new.close()
    old.close()


def test_a_trigger_closed_without_discarding_leaves_its_number_usable(
    triggers: TriggerSet, urgent: Urgent
) -> None:
    closed = Urgent()
    number = closed.fd
    triggers.add(number, "closed")
    closed.close()
    os.dup2(urgent.fd, number)
    try:
        triggers.add(number, "new")
        urgent.fire()
        assert named(triggers) == [("new", False)]
        triggers.discard(number)
    finally:
        os.close(number)


def test_an_event_of_a_discarded_registration_is_dropped_while_it_is_delivered(
    triggers: TriggerSet, urgent: Urgent
) -> None:
    # The waiting thread has its events already, and is about to look up the name.
    triggers.add(urgent.fd, "old")
    urgent.fire()
    count = triggers._wait_for_events(5000)
    assert count == 1
    stale = triggers._ready[0].token
    triggers.discard(urgent.fd)
    triggers.add(urgent.fd, "new")
    assert stale not in triggers._names


def test_adding_again_changes_the_name(triggers: TriggerSet, urgent: Urgent) -> None:
    triggers.add(urgent.fd, "one")
    triggers.add(urgent.fd, "two")
    urgent.fire()
    assert named(triggers) == [("two", False)]


def test_a_file_that_cannot_be_waited_for_is_an_error_of_ours(
    triggers: TriggerSet, guest: FakeGuest
) -> None:
    fd = os.open(guest.shows("/plain", ""), os.O_RDONLY)
    with pytest.raises(Unsupported):
        triggers.add(fd, "plain")
    os.close(fd)
    assert triggers.wait(0) == []


def test_more_triggers_than_one_call_returns_all_fire_in_the_end(triggers: TriggerSet) -> None:
    many = [Urgent() for _ in range(70)]
    for number, one in enumerate(many):
        triggers.add(one.fd, str(number))
        one.fire()
    seen: set[str] = set()
    while len(seen) < len(many):
        fired = {one.name for one in triggers.wait(5000)}
        assert fired
        seen |= fired
    for one in many:
        one.close()


def test_threads_may_add_and_discard_while_one_waits(triggers: TriggerSet) -> None:
    stop = threading.Event()
    seen = {name: threading.Event() for name in ("a", "b", "c")}

    def wait() -> None:
        while not stop.is_set():
            for fired in triggers.wait(None):
                seen[fired.name].set()

    def churn(mine: str) -> None:
        one = Urgent()
        one.fire()
        for _ in range(200):
            triggers.add(one.fd, mine)
            triggers.discard(one.fd)
        triggers.add(one.fd, mine)
        seen[mine].wait(20)
        triggers.discard(one.fd)
        one.close()

    waiting = threading.Thread(target=wait)
    waiting.start()
    churning = [threading.Thread(target=churn, args=(name,)) for name in seen]
    for thread in churning:
        thread.start()
    for thread in churning:
        thread.join()
    stop.set()
    triggers.wake()
    waiting.join(10)
    assert all(event.is_set() for event in seen.values())
    assert triggers._names == {}


@pytest.mark.parametrize("timeout_ms", [None, 20_000])
def test_a_signal_does_not_end_a_wait(
    triggers: TriggerSet, urgent: Urgent, timeout_ms: int | None
) -> None:
    install_kick_handler()
    triggers.add(urgent.fd, "shop")
    returned: list[list[str]] = []
    waiting = threading.Thread(
        target=lambda: returned.append([fired.name for fired in triggers.wait(timeout_ms)])
    )
    waiting.start()
    assert waiting.ident is not None
    for _ in range(200):
        kick(waiting.ident)
    assert returned == []
    urgent.fire()
    waiting.join(10)
    assert returned == [["shop"]]


def test_closing_a_set_closes_no_trigger(urgent: Urgent) -> None:
    triggers = TriggerSet()
    triggers.add(urgent.fd, "a")
    triggers.close()
    urgent.fire()
    urgent.calm()


def test_the_native_pressure_file_reads() -> None:
    assert read_pressure(NATIVE).some is not None
