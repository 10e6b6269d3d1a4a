"""What this guest can do, turned into what the policy is told and what the worker stands on."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from kernelio import mglru
from kernelio.errors import KernelioError
from kernelio.folio import (
    read_file_folio_bytes,
    read_huge_folio_bytes,
    read_small_anon_folio_bytes,
)
from kernelio.layout import Layout
from memreact.actuator.worker import Ground
from memreact.capabilities import Capabilities, anon_alone, reclaim_takes_swappiness
from memreact.events import CapabilitiesRead
from memreact.rules import Rules
from memreact.run_dir import RunDir
from memreact.sources.inspection import Folios
from memreact.telemetry.journal import Journal

__all__ = [
    "break_ground",
    "capabilities_read",
    "decides",
    "read_folios",
    "switch_on",
    "would_switch_on",
]

Evicts = Literal["mglru", "memory.reclaim", "nothing"]
_ALL_PARTS = 0x7


def capabilities_read(
    can: Capabilities, rules: Rules, own_path: str, phase: float, *, alone: bool
) -> CapabilitiesRead:
    """Choose the rung of each ladder that this guest and the rules allow."""
    evicts = _evicts(can, rules)
    return CapabilitiesRead(
        page_bytes=can.page_size,
        evicts=evicts,
        privileged_psi=can.psi == "privileged",
        own_path=own_path,
        boot_phase=phase,
        idle_because=_idle_because(can, rules, evicts, alone=alone),
        anon_alone=anon_alone(can.kernel),
        reclaim_takes_swappiness=reclaim_takes_swappiness(can.kernel),
        compacts=can.compaction,
        reports=can.page_reporting,
    )


def _evicts(can: Capabilities, rules: Rules) -> Evicts:
    if can.mglru == "on":
        return "mglru"
    return "memory.reclaim" if can.memory_reclaim and rules.reclaim_without_mglru else "nothing"


def _idle_because(can: Capabilities, rules: Rules, evicts: Evicts, *, alone: bool) -> str | None:
    """Why nothing is done at all; the first of them in the order in which to mend them."""
    if not alone:
        return "another memreact runs in this guest"
    if can.cgroup_root is None or not can.memory_controller:
        return "no cgroup v2 memory controller"
    if can.psi == "none":
        return "no pressure stall information, so nothing would tell that a workload is hurt"
    if can.rivals and not rules.beside_others:
        return f"{', '.join(can.rivals)} reclaims here"
    if evicts == "nothing":
        return "no multi-gen LRU, and memory.reclaim is not asked for"
    return None


def decides(rules: Rules) -> tuple[bool, bool, bool]:
    """What of the rules the rungs depend on: where it is as it was, nobody need look again."""
    return _works(rules), rules.reclaim_without_mglru, rules.beside_others


def _works(rules: Rules) -> bool:
    return any(not each.disabled for each in (rules.base, *(one.rules for one in rules.cgroups)))


def would_switch_on(can: Capabilities, rules: Rules, *, alone: bool) -> bool:
    """Whether the multi-gen LRU is off, and is all that is missing to work."""
    return (
        _works(rules) and can.mglru == "off" and not _idle_because(can, rules, "mglru", alone=alone)
    )


def switch_on(layout: Layout, run_dir: RunDir, journal: Journal) -> None:
    """Switch the multi-gen LRU on where it is built but off, and remember how it was."""
    try:
        before = mglru.read_enabled(layout.lru_gen_enabled)
        if before & 1:
            return
        if not run_dir.remember_switch(layout.lru_gen_enabled, f"{before:#06x}"):
            why = f"how it was cannot be recorded below {run_dir.path}"
            journal.say("warning", "lru_gen_not_switched_on", error=why)
            return
        mglru.write_enabled(layout.lru_gen_enabled, before | _ALL_PARTS)
    except KernelioError as error:
        journal.say("warning", "lru_gen_not_switched_on", error=error)
        return
    journal.say("notice", "lru_gen_switched_on", before=f"{before:#06x}")


def break_ground(
    layout: Layout, own_path: str, guest: CapabilitiesRead
) -> tuple[Ground, CapabilitiesRead]:
    """Open what the worker writes to; where that fails nothing can be done, and that is said."""
    lru_gen = None
    if guest.idle_because is None and guest.evicts == "mglru":
        try:
            lru_gen = mglru.LruGen.open(layout.lru_gen)
        except KernelioError as error:
            guest = replace(guest, idle_because=f"lru_gen cannot be opened ({error})")
    return Ground(layout, own_path, read_folios(layout, guest.page_bytes), lru_gen), guest


def read_folios(layout: Layout, page_bytes: int) -> Folios:
    """How large folios get here; where that cannot be read, they are pages."""
    try:
        return Folios(
            read_file_folio_bytes(layout),
            read_small_anon_folio_bytes(layout),
            read_huge_folio_bytes(layout),
        )
    except KernelioError:
        return Folios(page_bytes, page_bytes, page_bytes)
