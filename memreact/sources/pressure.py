"""Stall totals of the guest, of memreact itself, of the other top-level memcgs and of one memcg."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from kernelio.errors import KernelioError
from kernelio.layout import Layout
from kernelio.psi import read_cgroup_stall, read_guest_stall
from memreact.events import GuestPressure, Instant, PressureSample

__all__ = ["now_us", "read_sample"]


def now_us() -> Instant:
    """The moment: CLOCK_MONOTONIC, microseconds."""
    return Instant(time.monotonic_ns() // 1000)


def read_sample(layout: Layout, own_path: str, memcg: str | None = None) -> PressureSample:
    """Read the totals of now; what this kernel does not show counts nothing.

    Args:
        layout: Where the kernel shows its files.
        own_path: memreact's own cgroup.
        memcg: The memcg at work, if one is.
    """
    own = _cgroup_us(layout, own_path) if own_path != "/" else 0
    # The rest matters only where we stalled ourselves, and then all differences are needed.
    others = dict(_others(layout, own_path)) if own else {}
    memcg_us = _cgroup_us(layout, memcg) if memcg else 0
    guest = GuestPressure(_guest_us(layout), own, others)
    return PressureSample(now_us(), guest, memcg, memcg_us)


def _guest_us(layout: Layout) -> int:
    try:
        return read_guest_stall(layout).total_us
    except KernelioError:
        return 0


def _cgroup_us(layout: Layout, path: str) -> int:
    try:
        return read_cgroup_stall(layout.memcg_dir(path)).total_us
    except KernelioError:
        return 0


def _others(layout: Layout, own_path: str) -> Iterator[tuple[str, int]]:
    mine = own_path.split("/")[1]
    try:
        names = [e.name for e in os.scandir(layout.cgroup_root) if e.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for name in names:
        if name != mine:
            yield name, _cgroup_us(layout, f"/{name}")
