"""Takes a swap area out of use by a child, which can be killed, and is killed when that hurts.

swapoff(2) marks its caller as the first that the OOM killer takes, so it must not be the daemon.
It looks at signals only between one process's memory and the next, so nobody waits for it on the
loop. Killed, the area is in use again with what is not back yet.

Source: mm/swapfile.c, try_to_unuse(); include/linux/oom.h, set_current_oom_origin()
"""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from kernelio.block import open_disk, read_disk
from kernelio.child import Child
from kernelio.errors import KernelioError, Refused, Unsupported, Vanished
from kernelio.layout import Layout
from kernelio.meminfo import read_meminfo
from kernelio.swap import read_swaps
from memreact.actuator.swap import CalledBack, Errand, refused
from memreact.actuator.swap_disks import Wanted, areas_in_use, find_area
from memreact.events import Instant
from memreact.policy.pressure import Samples, over, remember, worst_guest_stall
from memreact.sources.pressure import now_us, read_sample
from memreact.swap_trouble import SwapTrouble
from memreact_schemas import swap
from memreact_schemas.swap import SwapArea, SwapAreas, SwapoffEndedBecause, SwapRemoved

__all__ = ["PROGRAM", "Guest", "Removing", "areas_and_room", "kept_bytes", "remove_swap"]

# A twentieth of memory is left to the guest: what comes back pushes nobody else out.
_KEPT_SHARE = 20
_LOOK_MS = 100
_ORPHAN = 125
_STDERR = 2
# It says how it wants to die first; whoever became an orphan before that must not begin. What is
# the matter comes back as its exit status: every errno of swapoff is a small number.
_PYTHON = f"""\
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(1, 9)
if os.getppid() != int(sys.argv[1]):
    sys.exit({_ORPHAN})
if libc.swapoff(os.fsencode(sys.argv[2])) < 0:
    sys.exit(min(ctypes.get_errno(), {_ORPHAN - 1}))
"""
PROGRAM = (sys.executable, "-I", "-S", "-c", _PYTHON)


class Removing(NamedTuple):
    """Which area, and when to let it be.

    Args:
        wanted: Which.
        deadline_us: How long it may take.
        limit_ppm: Stall of others, per million of a window, over which it is broken off.
        window_us: Length of that window.
    """

    wanted: Wanted
    deadline_us: int
    limit_ppm: int
    window_us: int


class Guest(NamedTuple):
    """Where it happens.

    Args:
        layout: Where the kernel shows its files.
        own_path: memreact's own cgroup, that of the child too.
    """

    layout: Layout
    own_path: str


def kept_bytes(total_bytes: int) -> int:
    """What of memory has to stay available when an area is taken out of use."""
    return total_bytes // _KEPT_SHARE


def areas_and_room(layout: Layout) -> SwapAreas:
    """List what is in use, and what of it memory would hold.

    Raises:
        SwapTrouble: It cannot be read.
    """
    try:
        areas = areas_in_use(layout)
    except Unsupported:  # a kernel without swap has none in use
        areas = ()
    except KernelioError as error:
        raise refused(error.path, "looking at swap", error) from error
    memory = read_meminfo(layout)
    kept = kept_bytes(memory.total_bytes)
    return SwapAreas(areas=areas, available_bytes=memory.available_bytes, kept_bytes=kept)


def remove_swap(
    guest: Guest, removing: Removing, errand: Errand, program: tuple[str, ...] = PROGRAM
) -> SwapRemoved:
    """Take an area out of use.

    Args:
        guest: Where.
        removing: Which, and when to let it be.
        errand: By which it is called back.
        program: Given our pid and the path of a device; its exit status is 0 or an errno.

    Raises:
        SwapTrouble: It cannot be done, or was broken off.
        CalledBack: Whoever asked is gone; the area is in use as before.
    """
    began, layout = now_us(), guest.layout
    try:
        area = _area(guest, removing.wanted)
        node = _node(layout, area)
        _refuse_if_too_much(layout, area)
    except KernelioError as error:
        raise refused(error.path, "looking at swap", error) from error
    because, status = _switched_off((*program, str(os.getpid()), node), guest, removing, errand)
    if status == 0:
        return SwapRemoved(area=area, took_us=now_us() - began)
    if because is None and status > 0:
        raise refused(area.path, "swapoff", Refused(area.path, status, os.strerror(status)))
    raise _ended(layout, area, because or "killed", began)


def _area(guest: Guest, wanted: Wanted) -> SwapArea:
    area = find_area(areas_in_use(guest.layout), wanted)
    if area is None:
        answer = swap.NoSuchSwap(wanted=wanted.in_words)
        raise SwapTrouble(answer, f"no swap in use has {wanted.in_words}")
    return area


def _node(layout: Layout, area: SwapArea) -> str:
    """Where its device is: the kernel's name for it may be of a mount namespace that is gone."""
    if area.lost:
        raise refused(area.path, "swapoff", Vanished(area.path))
    if area.kind != "partition":
        return area.path
    disk = read_disk(layout, os.path.basename(area.path))
    os.close(open_disk(layout, disk))
    return layout.root + disk.path


def _refuse_if_too_much(layout: Layout, area: SwapArea) -> None:
    memory = read_meminfo(layout)
    kept = kept_bytes(memory.total_bytes)
    if area.used_bytes + kept <= memory.available_bytes or not area.used_bytes:
        return
    answer = swap.NotEnoughMemory(
        path=area.path,
        used_bytes=area.used_bytes,
        available_bytes=memory.available_bytes,
        kept_bytes=kept,
    )
    text = (
        f"{area.path} holds {area.used_bytes} bytes, and of {memory.available_bytes} available "
        f"{kept} have to stay"
    )
    raise SwapTrouble(answer, text)


def _switched_off(
    words: tuple[str, ...], guest: Guest, removing: Removing, errand: Errand
) -> tuple[SwapoffEndedBecause | None, int]:
    """Run the child to its end; returns why it was killed, if it was, and its exit status."""
    child = Child()
    try:
        child.start(words, _STDERR)
        try:
            because = _watched(child, guest, removing, errand)
        finally:
            child.kill()  # nothing happens where it has ended
            status = child.reap()
    except KernelioError as error:
        raise refused(words[-1], "swapoff", error) from error
    finally:
        child.close()
    if status != 0 and errand.called_back and not errand.stopping:
        raise CalledBack
    return because, status


def _watched(
    child: Child, guest: Guest, removing: Removing, errand: Errand
) -> SwapoffEndedBecause | None:
    """Wait for its end, and look every tenth of a second whether it may go on."""
    ends_at = Instant(now_us() + removing.deadline_us)
    samples: Samples = ()
    while not child.ends_within(_LOOK_MS):
        if errand.called_back:
            return "stopping" if errand.stopping else "cancelled"
        if now_us() >= ends_at:
            return "deadline"
        if _too_little_left(guest.layout):
            return "memory"
        samples = remember(samples, read_sample(guest.layout, guest.own_path), removing.window_us)
        if over(worst_guest_stall(samples, removing.window_us), removing.limit_ppm):
            return "pressure"
    return None


def _too_little_left(layout: Layout) -> bool:
    memory = read_meminfo(layout)
    return memory.available_bytes < kept_bytes(memory.total_bytes) // 2


def _ended(
    layout: Layout, area: SwapArea, because: SwapoffEndedBecause, began: Instant
) -> SwapTrouble:
    left = next((each for each in read_swaps(layout) if each.path == area.path), None)
    used_bytes = left.used_bytes if left is not None else 0
    answer = swap.SwapoffEnded(
        path=area.path,
        because=because,
        back_bytes=max(0, area.used_bytes - used_bytes),
        used_bytes=used_bytes,
        took_us=now_us() - began,
    )
    return SwapTrouble(answer, f"swapoff of {area.path} was broken off: {because}")
