"""`memreact doctor --prove`: frees a block of memory, and watches whether the host is told of it.

What has to hold for that is looked at rung by rung. The first that does not hold ends it.
"""

from __future__ import annotations

import ctypes
import mmap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple, Protocol

from msgspec import json

from kernelio.buddy import read_buddyinfo
from kernelio.errors import KernelioError, Unsupported
from kernelio.layout import Layout
from kernelio.meminfo import page_size, read_meminfo
from kernelio.page_reporting import (
    Zone,
    balloons,
    headroom_pages,
    read_order,
    read_zoneinfo,
    reported_bytes_of,
)
from kernelio.pagemap import read_own_pfns
from kernelio.psi import read_pressure
from memreact.doctor import why_no_reporting
from memreact.value import Struct
from memreact_schemas.doctor import Finding, Proof

__all__ = [
    "BLOCK_BYTES",
    "PATIENCE_US",
    "Block",
    "Waiting",
    "encode",
    "prove",
    "prove_here",
    "render",
]

BLOCK_BYTES = 64 << 20
# A pass of the kernel's begins 2 s after memory was freed, and handles a sixteenth of each list.
PATIENCE_US = 60_000_000
_QUIET_US = 5_000_000  # two passes in which no more was told
_LOOK_US = 100_000
_ROOM = 4  # so many blocks must be available: we take it from nobody
_STALLED_PERCENT = 1.0
_ROOT_REMEDY = "run it as root"


class Block(Protocol):
    """Memory that can be taken and given back."""

    def take(self, layout: Layout) -> tuple[int, ...]:
        """Touch every page of it, and tell which page frames stand behind it."""
        ...

    def free(self) -> None:
        """Give it back to the kernel."""
        ...


class Waiting(NamedTuple):
    """Time, which a test has its own of.

    Args:
        now_us: Reads a clock that only goes forward.
        sleep_us: Waits.
    """

    now_us: Callable[[], int]
    sleep_us: Callable[[int], None]


class MappedBlock:
    """Anonymous memory of our own, in huge pages where there are some.

    Args:
        size: In bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):  # a kernel without huge pages
            self._memory.madvise(mmap.MADV_HUGEPAGE)

    def take(self, layout: Layout) -> tuple[int, ...]:
        """Touch every page, and read where it lies.

        Raises:
            Unsupported: We may not know that.
        """
        for at in range(0, self._size, page_size()):
            self._memory[at] = 1
        first = ctypes.c_char.from_buffer(self._memory)
        try:
            return read_own_pfns(layout, ctypes.addressof(first), self._size)
        finally:
            del first  # it would keep the mapping

    def free(self) -> None:
        """Unmap it."""
        self._memory.close()


class _Guest(Struct, frozen=True):
    """What the rungs are looked at with."""

    layout: Layout
    size: int


class _FailedError(Exception):
    """A rung does not hold."""

    def __init__(self, rung: Finding) -> None:
        super().__init__(rung.detail)
        self.rung = rung


def prove_here() -> Proof:
    """Prove it in the guest that we run in; takes some seconds, a minute at the most."""
    waiting = Waiting(lambda: time.monotonic_ns() // 1000, lambda us: time.sleep(us / 1_000_000))
    return prove(Layout(), MappedBlock(BLOCK_BYTES), waiting, size=BLOCK_BYTES)


def prove(layout: Layout, block: Block, waiting: Waiting, *, size: int) -> Proof:
    """Free a block and watch whether the host is told of it.

    Args:
        layout: The guest.
        block: What is taken and freed; it is freed whatever happens.
        waiting: A clock, and how to wait.
        size: Of the block, bytes.
    """
    rungs: list[Finding] = []
    guest = _Guest(layout, size)
    try:
        try:
            for name, look in _BEFORE.items():
                rungs.append(_looked(name, look, guest))
            pfns = block.take(layout)
        finally:
            block.free()
        told = _watch(guest, pfns, waiting)
        rungs.append(_told(guest, told, pfns))
    except _FailedError as failed:
        return Proof(proved=False, rungs=(*rungs, failed.rung))
    except KernelioError as error:
        return Proof(proved=False, rungs=(*rungs, _no("page frames", str(error), _ROOT_REMEDY)))
    return Proof(
        proved=told.reported_bytes > 0,
        rungs=tuple(rungs),
        freed_bytes=len(pfns) * page_size(),
        reported_bytes=told.reported_bytes,
        took_us=told.took_us,
    )


def _looked(name: str, look: Callable[[_Guest], str], guest: _Guest) -> Finding:
    try:
        return Finding(job=name, status="ok", backend="", detail=look(guest))
    except _CannotError as cannot:
        raise _FailedError(_no(name, cannot.why, cannot.remedy)) from cannot
    except KernelioError as error:
        raise _FailedError(_no(name, str(error), "")) from error


def _no(name: str, why: str, remedy: str) -> Finding:
    return Finding(job=name, status="missing", backend="", detail=why, remedy=remedy)


class _CannotError(Exception):
    """Why a rung does not hold, and what would help."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy


# ---- before anything is taken --------------------------------------------------------------------


def _balloon(guest: _Guest) -> str:
    found = balloons(guest.layout)
    for balloon in found:
        if balloon.reporting and balloon.driver is not None:
            return f"{balloon.name} has negotiated free page reporting"
    raise _CannotError(*why_no_reporting(found))


def _order(guest: _Guest) -> str:
    order, largest = read_order(guest.layout), _max_order(guest.layout)
    if order is None or order < 0:
        remedy = "modprobe virtio_balloon, or boot with page_reporting.page_reporting_order=9"
        raise _CannotError("the kernel has set no order to report from", remedy)
    if order > largest:
        remedy = "write 9 to /sys/module/page_reporting/parameters/page_reporting_order"
        raise _CannotError(f"order {order} is set, but no free block is above {largest}", remedy)
    return f"blocks of {page_size() << order >> 10} KiB and more (order {order})"


def _max_order(layout: Layout) -> int:
    return max((len(row.counts) for row in read_buddyinfo(layout)), default=0) - 1


def _flags(guest: _Guest) -> str:
    try:
        reported_bytes_of(guest.layout, (), 0, 0)
    except KernelioError as error:
        raise _CannotError(str(error), _ROOT_REMEDY) from error
    return "/proc/kpageflags can be read"


def _pressure(guest: _Guest) -> str:
    try:
        some = read_pressure(guest.layout.proc("pressure/memory")).some
    except Unsupported:
        return "this kernel does not tell of any"
    stalled = some.avg10 if some is not None else 0.0
    if stalled >= _STALLED_PERCENT:
        why = f"tasks waited for memory in {stalled:g} % of the last 10 s: it would hurt them more"
        raise _CannotError(why, "ask again when it is quiet")
    return f"tasks waited for memory in {stalled:g} % of the last 10 s"


def _room(guest: _Guest) -> str:
    available, needed = read_meminfo(guest.layout).available_bytes, _ROOM * guest.size
    if available < needed:
        why = f"{available >> 20} MiB are available, and {needed >> 20} are wanted"
        raise _CannotError(why, "ask again when more is free")
    return f"{available >> 20} MiB are available"


_BEFORE: dict[str, Callable[[_Guest], str]] = {
    "balloon": _balloon,
    "order": _order,
    "flags": _flags,
    "pressure": _pressure,
    "room": _room,
}


# ---- after it was freed --------------------------------------------------------------------------


class _Told(NamedTuple):
    reported_bytes: int
    took_us: int


def _watch(guest: _Guest, pfns: tuple[int, ...], waiting: Waiting) -> _Told:
    """Look until the host was told of all, or of no more for two passes, or patience ends."""
    order, largest = read_order(guest.layout) or 0, _max_order(guest.layout)
    began = waiting.now_us()
    told = _Told(0, 0)
    while True:
        size = reported_bytes_of(guest.layout, pfns, order, largest)
        since = waiting.now_us() - began
        if size > told.reported_bytes:
            told = _Told(size, since)
        quiet = told.reported_bytes and since - told.took_us >= _QUIET_US
        if size >= len(pfns) * page_size() or quiet or since >= PATIENCE_US:
            return told
        waiting.sleep_us(_LOOK_US)


def _told(guest: _Guest, told: _Told, pfns: tuple[int, ...]) -> Finding:
    freed = len(pfns) * page_size()
    if not told.reported_bytes:
        raise _FailedError(_no("told to the host", *_why_not(guest, pfns)))
    detail = f"{told.reported_bytes >> 20} MiB of {freed >> 20}"
    if told.reported_bytes < freed:
        detail += "; the rest was taken again, lies in small pieces or waits on a CPU's own list"
    return Finding(job="told to the host", status="ok", backend="", detail=detail)


def _why_not(guest: _Guest, pfns: tuple[int, ...]) -> tuple[str, str]:
    order = read_order(guest.layout) or 0
    theirs = [zone for zone in read_zoneinfo(guest.layout) if _holds(zone, pfns)]
    if theirs and all(zone.free_pages < headroom_pages(zone, order) for zone in theirs):
        extra = (headroom_pages(theirs[0], order) - theirs[0].low_pages) * page_size() >> 20
        why = f"below the watermark: the zone must have {extra} MiB free above its low watermark"
        return why, "it starts by itself when more is free"
    why = f"nothing of it was marked as reported in {PATIENCE_US // 1_000_000} s"
    return why, "on the host: is the guest's device served? here: dmesg, and memory in small pieces"


def _holds(zone: Zone, pfns: tuple[int, ...]) -> bool:
    end = zone.start_pfn + zone.spanned_pages
    return bool(zone.managed_pages) and any(zone.start_pfn <= pfn < end for pfn in pfns)


# ---- for people and programs ---------------------------------------------------------------------


def encode(proof: Proof) -> str:
    """Write it as JSON."""
    return json.format(json.encode(proof)).decode()


def render(proof: Proof) -> str:
    """Write it for people."""
    return "\n".join(_lines(proof))


def _lines(proof: Proof) -> Iterator[str]:
    width = max(len(rung.job) for rung in proof.rungs)
    for rung in proof.rungs:
        yield f"{rung.job:<{width}}  {rung.status:<7}  {rung.detail}"
        if rung.remedy:
            yield f"{'':<{width}}  {'':<7}  > {rung.remedy}"
    if proof.proved:
        seconds = proof.took_us / 1_000_000
        amount = f"{proof.reported_bytes >> 20} MiB in {seconds:.1f} s"
        yield f"The host can get memory back: {amount}."
    else:
        last = proof.rungs[-1]
        yield f"The host gets nothing back: {last.job}: {last.detail}."
