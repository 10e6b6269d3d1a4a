"""A block is freed, and the host is told of it or the rung that failed is named."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
import pytest

from kernelio.errors import Unsupported
from kernelio.layout import Layout
from kernelio.meminfo import page_size
from memreact.prove import PATIENCE_US, MappedBlock, Waiting, encode, prove, render
from memreact_schemas.doctor import Proof
from tests.fake_guest import FakeGuest
from tests.goldens import golden_text
from tests.memreact.kernel_files import pressure

PAGE = page_size()
ORDER = "/sys/module/page_reporting/parameters/page_reporting_order"
BALLOON = "/sys/bus/virtio/devices/virtio3"
HEAD, INSIDE, TAKEN = 1 << 10 | 1 << 3, 1 << 10, 0
SIZE = 8 * PAGE
MEMINFO = os.fsdecode(golden_text("6.12/proc/meminfo"))
NOTHING_AVAILABLE = re.sub(r"(MemAvailable: +)\d+", r"\g<1>0", MEMINFO)
PFNS = tuple(range(8, 16))


def flags(guest: FakeGuest, *words: int) -> None:
    raw = b"".join(word.to_bytes(8, sys.byteorder) for word in words)
    guest.shows("/proc/kpageflags", raw)


def zone(free: int) -> str:
    return (
        f"Node 0, zone   Normal\n  pages free     {free}\n        min      0\n"
        "        low      10\n        high     0\n        spanned  24\n"
        "        managed  24\n  start_pfn:           0\n"
    )


@pytest.fixture
def able(guest: FakeGuest) -> FakeGuest:
    """A guest that reports from order 2, of 24 page frames."""
    guest.shows("/proc/meminfo", MEMINFO)
    guest.shows("/proc/pressure/memory", pressure(0))
    guest.shows("/proc/buddyinfo", "Node 0, zone   Normal      0      0      0      3 \n")
    guest.shows("/proc/zoneinfo", zone(1000))
    guest.shows(ORDER, "2\n")
    guest.shows(f"{BALLOON}/device", "0x0005\n")
    guest.shows(f"{BALLOON}/features", "01100" + "1" + "0" * 58 + "\n")
    os.symlink("../drivers/virtio_balloon", guest.path(f"{BALLOON}/driver"))
    flags(guest, *[TAKEN] * 24)
    return guest


@dataclass
class Time:
    """A clock that a wait moves on, and at which a kernel does something.

    Args:
        at: What the kernel does when a moment has come.
    """

    at: dict[int, Callable[[], None]] = field(default_factory=dict)
    now: int = 0
    looks: int = 0

    def sleep(self, us: int) -> None:
        """Move on."""
        self.looks += 1
        self.now += us
        for moment in [moment for moment in self.at if moment <= self.now]:
            self.at.pop(moment)()

    @property
    def waiting(self) -> Waiting:
        """For the proof."""
        return Waiting(lambda: self.now, self.sleep)


@dataclass
class PaperBlock:
    """Page frames that the test chose."""

    trouble: bool = False
    taken: int = 0
    freed: int = 0

    def take(self, layout: Layout) -> tuple[int, ...]:
        """Count."""
        self.taken += 1
        if self.trouble:
            raise Unsupported(layout.proc("self/pagemap"), "not permitted without CAP_SYS_ADMIN")
        return PFNS

    def free(self) -> None:
        """Count."""
        self.freed += 1


def proved(guest: FakeGuest, time: Time | None = None, block: PaperBlock | None = None) -> Proof:
    time = time or Time()
    return prove(guest.layout, block or PaperBlock(), time.waiting, size=SIZE)


def test_a_block_that_is_marked_as_reported_proves_it(able: FakeGuest) -> None:
    big = [*[TAKEN] * 8, HEAD, *[INSIDE] * 7, *[TAKEN] * 8]
    proof = proved(able, Time({2_000_000: lambda: flags(able, *big)}))
    assert proof.proved
    assert (proof.freed_bytes, proof.reported_bytes) == (8 * PAGE, 8 * PAGE)
    assert proof.took_us == 2_000_000
    assert [rung.status for rung in proof.rungs] == ["ok"] * 6


def test_what_others_free_proves_nothing(able: FakeGuest) -> None:
    others = [HEAD, *[INSIDE] * 7, *[TAKEN] * 16]
    proof = proved(able, Time({2_000_000: lambda: flags(able, *others)}))
    assert not proof.proved


def test_a_part_is_told_as_such_once_no_more_comes(able: FakeGuest) -> None:
    part = [*[TAKEN] * 8, HEAD, *[INSIDE] * 3, *[TAKEN] * 12]
    time = Time({3_000_000: lambda: flags(able, *part)})
    proof = proved(able, time)
    assert proof.proved
    assert (proof.reported_bytes, proof.took_us) == (4 * PAGE, 3_000_000)
    assert time.now == 8_000_000
    assert "the rest was taken again" in render(proof)


def test_patience_ends_and_the_host_gets_nothing(able: FakeGuest) -> None:
    time, block = Time(), PaperBlock()
    proof = proved(able, time, block)
    assert not proof.proved
    assert time.now == PATIENCE_US
    assert proof.rungs[-1].job == "told to the host"
    assert "in 60 s" in proof.rungs[-1].detail
    assert (block.taken, block.freed) == (1, 1)


def test_a_zone_below_its_watermark_is_named(able: FakeGuest) -> None:
    able.shows("/proc/zoneinfo", zone(10 + 127))
    assert "below the watermark" in proved(able).rungs[-1].detail


RUNGS: list[tuple[str, Callable[[FakeGuest], object], str]] = [
    ("balloon", lambda guest: guest.loses(BALLOON), "no virtio balloon"),
    ("balloon", lambda guest: guest.loses(f"{BALLOON}/driver"), "a balloon without a driver"),
    ("balloon", lambda guest: guest.shows(f"{BALLOON}/features", "0" * 64), "not negotiated"),
    ("order", lambda guest: guest.shows(ORDER, "-1\n"), "no order to report from"),
    ("order", lambda guest: guest.loses(ORDER), "no order to report from"),
    ("order", lambda guest: guest.shows(ORDER, "4\n"), "no free block is above 3"),
    ("order", lambda guest: guest.shows(ORDER, "many\n"), "expected an order"),
    ("flags", lambda guest: guest.loses("/proc/kpageflags"), "kpageflags"),
    (
        "pressure",
        lambda guest: guest.shows(
            "/proc/pressure/memory", pressure(0).replace("avg10=0.00", "avg10=1.50")
        ),
        "in 1.5 % of the last 10 s",
    ),
    (
        "room",
        lambda guest: guest.shows("/proc/meminfo", NOTHING_AVAILABLE),
        "0 MiB are available",
    ),
    ("room", lambda guest: guest.loses("/proc/meminfo"), "meminfo"),
]


@pytest.mark.parametrize(("name", "breaks", "why"), RUNGS, ids=[each[2] for each in RUNGS])
def test_the_rung_that_fails_is_named_and_nothing_is_taken(
    name: str, breaks: Callable[[FakeGuest], object], why: str, able: FakeGuest
) -> None:
    breaks(able)
    block = PaperBlock()
    proof = proved(able, block=block)
    assert not proof.proved
    assert (proof.rungs[-1].job, proof.rungs[-1].status) == (name, "missing")
    assert why in proof.rungs[-1].detail
    assert f"The host gets nothing back: {name}: " in render(proof)
    assert (block.taken, block.freed) == (0, 1)


def test_a_kernel_without_psi_is_asked_all_the_same(able: FakeGuest) -> None:
    able.loses("/proc/pressure")
    big = [*[TAKEN] * 8, HEAD, *[INSIDE] * 7]
    flags(able, *big)
    assert proved(able).proved


def test_who_may_not_know_the_page_frames_proves_nothing_and_frees_the_block(
    able: FakeGuest,
) -> None:
    block = PaperBlock(trouble=True)
    proof = proved(able, block=block)
    assert proof.rungs[-1].job == "page frames"
    assert proof.rungs[-1].remedy == "run it as root"
    assert block.freed == 1


def test_for_people_it_is_one_sentence_at_the_end(able: FakeGuest) -> None:
    flags(able, *[TAKEN] * 8, HEAD, *[INSIDE] * 7)
    proof = msgspec.structs.replace(proved(able), reported_bytes=62 << 20, took_us=4_120_000)
    *_, last = render(proof).splitlines()
    assert last == "The host can get memory back: 62 MiB in 4.1 s."


def test_for_programs_it_reads_back(able: FakeGuest) -> None:
    proof = proved(able)
    assert msgspec.json.decode(encode(proof), type=Proof) == proof


def test_real_memory_is_taken_and_given_back() -> None:
    block = MappedBlock(1 << 20)
    with suppress(Unsupported):  # without CAP_SYS_ADMIN nobody may know where it lies
        assert len(set(block.take(Layout()))) == (1 << 20) // PAGE
    assert block._memory[::PAGE] == b"\1" * ((1 << 20) // PAGE)
    block.free()
    with pytest.raises(ValueError, match="closed"):
        block._memory[0] = 1
