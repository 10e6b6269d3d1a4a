"""Stall totals of the guest, of memreact itself, of the other top-level memcgs and of one memcg."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from kernelio.errors import KernelioError, Unsupported, Vanished
from kernelio.layout import Layout
from kernelio.psi import read_cgroup_stall, read_guest_stall
from memreact.events import GuestPressure, Instant, PressureSample

__all__ = ["now_us", "read_sample"]


def now_us() -> Instant:
    """The moment: CLOCK_MONOTONIC, microseconds."""
    return Instant(time.monotonic_ns() // 1000)


def read_sample(layout: Layout, own_path: str, memcg: str | None = None) -> PressureSample:
    """Read the totals of now; None for one that could not be read.

    A cgroup whose totals are not shown (cgroup.pressure=0) counts as one that never stalls; the
    guest's are shown wherever work is done at all.

    Args:
        layout: Where the kernel shows its files.
        own_path: memreact's own cgroup.
        memcg: The memcg at work, if one is.
    """
    own = _cgroup_us(layout, own_path) if own_path != "/" else 0
    # The rest matters only where we stalled ourselves, and then all differences are needed: what
    # is not known of somebody else must not make the guest's stall look like ours.
    others = _others(layout, own_path) if own else {}
    if others is None:
        own, others = None, {}
    memcg_us = _cgroup_us(layout, memcg) if memcg else 0
    guest = GuestPressure(_guest_us(layout), own, others)
    return PressureSample(now_us(), guest, memcg, memcg_us)


def _guest_us(layout: Layout) -> int | None:
    try:
        return read_guest_stall(layout).total_us
    except KernelioError:
        return None


def _cgroup_us(layout: Layout, path: str) -> int | None:
    try:
        return read_cgroup_stall(layout.memcg_dir(path)).total_us
    except Unsupported:
        return 0
    except KernelioError:
        return None


def _others(layout: Layout, own_path: str) -> dict[str, int] | None:
    mine = own_path.split("/")[1]
    try:
        names = [e.name for e in os.scandir(layout.cgroup_root) if e.is_dir(follow_symlinks=False)]
        return dict(_stalls(layout, [name for name in names if name != mine]))
    except (OSError, KernelioError):
        return None


def _stalls(layout: Layout, names: list[str]) -> Iterator[tuple[str, int]]:
    for name in names:
        try:
            yield name, read_cgroup_stall(layout.memcg_dir(f"/{name}")).total_us
        except Vanished:
            continue
        except Unsupported:
            yield name, 0
