from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.errors import MalformedReading, Vanished
from kernelio.process import (
    MemoryCost,
    ask_for_exact_waits,
    ask_for_short_slices,
    cpu_us,
    has_capability,
    memory_cost,
    name_this_thread,
    parse_capabilities,
    parse_cpu_us,
    parse_smaps_rollup,
    parse_voluntary_switches,
    read_capabilities,
    voluntary_switches,
)
from tests.fake_guest import FakeGuest
from tests.goldens import golden_files, golden_text
from tests.timer_slack import timer_slack_ns

_KB = st.integers(0, 2**54 - 1)
_COUNT = st.integers(0, 2**64 - 1)
_ANY_TEXT = st.text() | st.binary().map(os.fsdecode)
_LOCK = """
from kernelio.errors import Unsupported
from kernelio.process import lock_memory_on_fault, memory_cost

try:
    lock_memory_on_fault()
except Unsupported as error:
    print(error)
else:
    print("locked", memory_cost().locked_bytes)
"""


# Blocks that stand apart, each between two that stay: what is freed lies inside the heap.
_FREE = """
import ctypes
from kernelio.process import give_back_freed_memory, memory_cost

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
blocks = [libc.malloc(65536) for _ in range(1024)]
for block in blocks:
    ctypes.memset(block, 1, 65536)
for block in blocks[:-1:2] + blocks[1:-1:2]:
    libc.free(block)
held = memory_cost().anon_bytes
print(give_back_freed_memory(), held - memory_cost().anon_bytes)
"""


@pytest.mark.parametrize("file", golden_files("proc/self/smaps_rollup"))
def test_reads_the_cost_that_each_recorded_kernel_printed(file: str) -> None:
    cost = parse_smaps_rollup(os.fsdecode(golden_text(file)), file)
    assert 0 < cost.anon_bytes <= cost.private_bytes <= cost.rss_bytes


@given(rss=_KB, anon=_KB, clean=_KB, dirty=_KB, locked=_KB)
def test_reads_back_every_cost(rss: int, anon: int, clean: int, dirty: int, locked: int) -> None:
    text = (
        "55f7-7ffd ---p 00000000 00:00 0                          [rollup]\n"
        f"Rss:            {rss:8} kB\nPss:                 344 kB\n"
        f"Private_Clean:  {clean:8} kB\nPrivate_Dirty:  {dirty:8} kB\n"
        f"Anonymous:      {anon:8} kB\nAnonHugePages:         0 kB\nLocked:         {locked:8} kB\n"
    )
    figures = (rss, anon, clean + dirty, locked)
    assert parse_smaps_rollup(text, "x") == MemoryCost(*[kb * 1024 for kb in figures])


@given(_ANY_TEXT)
def test_any_rollup_parses_or_is_malformed(text: str) -> None:
    with suppress(MalformedReading):
        assert parse_smaps_rollup(text, "x").rss_bytes >= 0


def test_memory_that_was_freed_inside_the_heap_is_given_back() -> None:
    told = subprocess.run([sys.executable, "-c", _FREE], check=True, capture_output=True, text=True)
    any_, given_bytes = told.stdout.split()
    assert any_ == "True"
    assert int(given_bytes) > 32 << 20


def test_a_process_that_touches_memory_costs_that_much_more() -> None:
    before = memory_cost()
    held = b"x" * (32 << 20)
    after = memory_cost()
    assert after.anon_bytes - before.anon_bytes > len(held) * 3 // 4


@pytest.mark.parametrize("file", golden_files("proc/self/stat"))
def test_reads_the_cpu_time_that_each_recorded_kernel_printed(file: str) -> None:
    assert parse_cpu_us(os.fsdecode(golden_text(file)), file, 100) < 1_000_000


@given(
    user=_COUNT, system=_COUNT, name=st.text(st.characters(exclude_characters="\0"), max_size=15)
)
def test_reads_back_every_cpu_time_whatever_the_command_is_called(
    user: int, system: int, name: str
) -> None:
    text = f"12 ({name}) S 1 12 12 0 -1 4194560 0 0 0 0 {user} {system} 0 0 20 0 1 0 96718 0\n"
    assert parse_cpu_us(text, "x", 100) == (user + system) * 10_000


@given(_ANY_TEXT)
def test_any_stat_parses_or_is_malformed(text: str) -> None:
    with suppress(MalformedReading):
        assert parse_cpu_us(text, "x", 100) >= 0


def test_work_costs_cpu_time() -> None:
    before = cpu_us()
    while cpu_us() < before + 20_000:
        sum(range(10_000))
    assert cpu_us(os.getpid()) >= before + 20_000


@pytest.mark.parametrize("file", golden_files("proc/self/status"))
def test_reads_the_status_that_each_recorded_kernel_printed(file: str) -> None:
    text = os.fsdecode(golden_text(file))
    assert parse_voluntary_switches(text, file) >= 0
    assert parse_capabilities(text, file) > 0


@given(switches=_COUNT, mask=_COUNT)
def test_reads_back_every_status(switches: int, mask: int) -> None:
    text = (
        f"Name:\tx\nCapPrm:\t{0:016x}\nCapEff:\t{mask:016x}\nCapBnd:\t{0:016x}\n"
        f"voluntary_ctxt_switches:\t{switches}\nnonvoluntary_ctxt_switches:\t7\n"
    )
    assert parse_voluntary_switches(text, "x") == switches
    assert parse_capabilities(text, "x") == mask


@given(_ANY_TEXT)
def test_any_status_parses_or_is_malformed(text: str) -> None:
    with suppress(MalformedReading):
        assert parse_voluntary_switches(text, "x") >= 0
    with suppress(MalformedReading):
        assert parse_capabilities(text, "x") >= 0


def test_counts_the_wake_ups_of_each_thread() -> None:
    reader, writer = os.pipe()

    def answer() -> None:
        while os.read(reader, 1):
            pass

    thread = threading.Thread(target=answer)
    thread.start()
    assert thread.native_id
    until_asleep(thread.native_id)
    before = voluntary_switches()
    os.write(writer, b"x")
    while not (after := voluntary_switches())[thread.native_id] > before[thread.native_id]:
        os.sched_yield()
    os.close(writer)
    thread.join()
    os.close(reader)
    assert set(before) == set(after)


def until_asleep(thread_id: int) -> None:
    """Wait until a thread of ours sleeps in the kernel."""
    while True:
        with open(f"/proc/self/task/{thread_id}/stat", encoding="ascii") as file:
            if file.read().rpartition(")")[2].split()[0] == "S":
                return
        os.sched_yield()


def test_a_process_that_ended_has_vanished(guest: FakeGuest) -> None:
    with pytest.raises(Vanished):
        voluntary_switches(77, guest.layout)
    with pytest.raises(Vanished):
        cpu_us(77, guest.layout)


def test_a_thread_that_ends_while_we_look_is_left_out(guest: FakeGuest) -> None:
    guest.shows("/proc/77/task/77/status", "voluntary_ctxt_switches:\t3\n")
    os.symlink("ended", guest.path("/proc/77/task/78"))  # listed, and gone when opened
    assert voluntary_switches(77, guest.layout) == {77: 3}


def test_knows_a_capability_by_its_bit(guest: FakeGuest) -> None:
    guest.shows("/proc/77/status", "CapEff:\t000001fffeffffff\n")
    assert read_capabilities(77, guest.layout) == 0x1FFFEFFFFFF
    assert has_capability("CAP_SYS_TIME", 77, guest.layout)
    assert not has_capability("CAP_SYS_RESOURCE", 77, guest.layout)


def test_locked_memory_is_counted_as_locked_or_the_kernel_says_why_not() -> None:
    command = [sys.executable, "-c", _LOCK]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    if has_capability("CAP_IPC_LOCK"):
        assert said[0] == "locked"
        assert int(said[1]) > 1 << 20
    else:
        assert said[0] in {"locked", "mlockall:"}


def test_a_process_that_refuses_huge_pages_says_so_in_its_status() -> None:
    told = (
        "from kernelio.process import refuse_huge_pages as refuse\n"
        "print(refuse(), [l for l in open('/proc/self/status') if l.startswith('THP_enabled')])"
    )
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=here, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "['THP_enabled:\\t0\\n']"]


def test_a_thread_is_shown_under_its_name() -> None:
    shown: list[str] = []

    def named() -> None:
        name_this_thread("memreact-waiter")
        with open("/proc/thread-self/comm", encoding="ascii") as file:
            shown.append(file.read())

    thread = threading.Thread(target=named)
    thread.start()
    thread.join()
    assert shown == ["memreact-waiter\n"]


def test_a_thread_that_asks_for_short_slices_keeps_its_policy_and_niceness() -> None:
    seen: list[tuple[bool, int, int]] = []

    def asking() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, 3)
        took = ask_for_short_slices()
        seen.append((took, os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)))

    thread = threading.Thread(target=asking)
    thread.start()
    thread.join()
    assert seen == [(True, os.SCHED_OTHER, 3)]


def test_waits_are_exact_for_the_thread_that_asks_and_for_no_other() -> None:
    before_ns = timer_slack_ns()
    seen: list[tuple[int, bool, int]] = []

    def asking() -> None:
        inherited_ns = timer_slack_ns()
        seen.append((inherited_ns, ask_for_exact_waits(), timer_slack_ns()))

    thread = threading.Thread(target=asking)
    thread.start()
    thread.join()
    assert seen == [(before_ns, True, 1)]
    assert timer_slack_ns() == before_ns


def test_a_machine_whose_call_number_is_unknown_is_asked_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "vax")
    assert ask_for_short_slices() is False
