"""Puts the guest back as it was, after the final stop: the multi-gen LRU's switch, and zram."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from kernelio import cgroup
from kernelio.errors import KernelioError
from kernelio.layout import Layout
from memreact.run_dir import RunDir
from memreact.swap_trouble import SwapTrouble

__all__ = ["PutBack", "put_back"]

_SWAPOFF_US = 20_000_000  # the unit's TimeoutStopSec is 30 s


class PutBack(NamedTuple):
    """What was put back, by the paths of files and devices, and why the rest was not."""

    done: Sequence[str]
    failed: Sequence[Exception]


def put_back(run_dir: RunDir, layout: Layout) -> PutBack:
    """Put back all that a memreact changed; what cannot be stays, and the guest runs on with it.

    Args:
        run_dir: Where it is recorded.
        layout: Where the kernel shows its files.
    """
    switch, tier = run_dir.put_back(layout), _without_zram(layout)
    return PutBack([*switch.restored, *tier.done], [*switch.failed, *tier.failed])


def _without_zram(layout: Layout) -> PutBack:
    from memreact.actuator.swap import Errand  # noqa: PLC0415  # only when it ends
    from memreact.actuator.swap_disks import Wanted  # noqa: PLC0415
    from memreact.actuator.swap_off import Guest, Removing  # noqa: PLC0415
    from memreact.actuator.zram import our_zrams, take_down  # noqa: PLC0415
    from memreact.rules import rules_from  # noqa: PLC0415
    from memreact_schemas.config import DEFAULTS  # noqa: PLC0415

    rules = rules_from(DEFAULTS)
    removing = Removing(Wanted(), _SWAPOFF_US, rules.system_limit_ppm, rules.window_us)
    done: list[str] = []
    failed: list[Exception] = []
    with suppress(KernelioError):  # sysfs shows no disks: nothing was made of them
        for each in our_zrams(layout):
            try:
                take_down(Guest(layout, _own_path(layout)), each, removing, Errand())
            except SwapTrouble as trouble:
                failed.append(trouble)
            else:
                done.append(each.path)
    return PutBack(done, failed)


def _own_path(layout: Layout) -> str:
    try:
        return cgroup.own_path(layout.root)
    except KernelioError:
        return "/"
