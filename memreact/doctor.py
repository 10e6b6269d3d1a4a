"""`memreact doctor`: what this guest can do, what was chosen for each job, and what is missing.

Each job has one function below that says how it is done here. None of them fails on a poor machine:
what cannot be read is a finding.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable

from msgspec import json

from kernelio.boot import read_cmdline, read_lockdown
from kernelio.buddy import read_buddyinfo, reportable_bytes
from kernelio.cgroup import has_v1_memory
from kernelio.delayacct import read_delay_accounting
from kernelio.errors import KernelioError
from kernelio.layout import Layout
from kernelio.page_reporting import (
    Balloon,
    Zone,
    balloons,
    headroom_pages,
    read_zoneinfo,
    reported_bytes,
)
from kernelio.process import has_capability
from kernelio.swap import SwapDevice, read_swaps, zram_name
from memreact import __version__
from memreact.capabilities import (
    Capabilities,
    can_open,
    find_capabilities,
    find_memreact,
    if_readable,
    reclaim_takes_swappiness,
)
from memreact.value import Struct, replace
from memreact_schemas.doctor import Finding, Report

__all__ = ["encode", "examine", "examine_here", "render", "why_no_reporting"]

_MIB = 1 << 20
_WIDTH = 100
_NONE = "none"
# Source: Documentation/admin-guide/kernel-parameters.txt, "debugfs="
_NO_DEBUGFS = frozenset({"debugfs=off", "debugfs=no-mount"})


class _Guest(Struct, frozen=True):
    """What the findings are made from."""

    layout: Layout
    can: Capabilities
    boot_words: tuple[str, ...]


def examine_here() -> Report:
    """Examine the machine that we run on."""
    return examine(Layout(), own_pid=os.getpid())


def examine(layout: Layout, *, own_pid: int) -> Report:
    """Find out how each job can be done in this guest (some 20 ms).

    Args:
        layout: The guest.
        own_pid: The process on whose behalf we look; it is nobody's rival.
    """
    can = find_capabilities(layout, own_pid=own_pid)
    here = replace(layout, cgroup=can.cgroup_root) if can.cgroup_root else layout
    guest = _Guest(here, can, if_readable(lambda: read_cmdline(layout), ()))
    findings = tuple(_found(job, find, guest) for job, find in _JOBS.items())
    return Report(
        version=__version__,
        capabilities=can,
        findings=findings,
        reaches_host=any(
            finding.job == "return to host" and finding.status != "missing" for finding in findings
        ),
        idle_because=_idle_because(can),
    )


def encode(report: Report) -> str:
    """Write a report as JSON."""
    return json.format(json.encode(report)).decode()


def _found(job: str, find: Callable[[_Guest], Finding], guest: _Guest) -> Finding:
    try:
        return find(guest)
    except KernelioError as error:
        return Finding(job=job, status="missing", backend=_NONE, detail=str(error))


def _idle_because(can: Capabilities) -> str | None:
    """The first of the reasons to do nothing, in the order in which to mend them."""
    if not can.memory_controller:
        return "there is no cgroup v2 memory controller"
    if can.psi == "none":
        return "no pressure stall information would tell that a workload is hurt"
    others = [rival for rival in can.rivals if not rival.startswith("memreact ")]
    if others:
        return f"{', '.join(others)} reclaims here already"
    if can.mglru in ("absent", "unreachable"):
        return "the multi-gen LRU cannot be used, and memory.reclaim is off unless asked for"
    return None


# ---- one function for each job -------------------------------------------------------------------


def _age(guest: _Guest) -> Finding:
    job, by = "find cold memory", "multi-gen LRU"
    match guest.can.mglru:
        case "on":
            return Finding(job=job, status="ok", backend=by, detail="on, its file can be written")
        case "off":
            detail = "off, will be switched on while memreact runs"
            return Finding(job=job, status="ok", backend=by, detail=detail)
        case "absent":
            detail = "this kernel has no multi-gen LRU"
            remedy = "a kernel with CONFIG_LRU_GEN=y, as Debian's are since 12"
            return Finding(job=job, status="missing", backend=_NONE, detail=detail, remedy=remedy)
        case "unreachable":
            detail, remedy = _why_unreachable(guest)
            return Finding(job=job, status="missing", backend=_NONE, detail=detail, remedy=remedy)


def _why_unreachable(guest: _Guest) -> tuple[str, str]:
    """Tell apart why lru_gen cannot be opened, and what would help."""
    lockdown = if_readable(lambda: read_lockdown(guest.layout), None)
    if lockdown not in (None, "none"):
        detail = f"the kernel is locked down ({lockdown}), which closes debugfs"
        return detail, "boot without lockdown= (and without Secure Boot)"
    if not guest.can.root:
        return "not root: debugfs is root's alone", "run it as root, as memreact.service does"
    forbidden = next((w for w in guest.boot_words if w in _NO_DEBUGFS), None)
    if forbidden is not None:
        return f"booted with {forbidden}", f"boot without {forbidden}"
    directory = guest.layout.sys("kernel/debug")
    try:
        mounted = bool(os.listdir(directory))
    except OSError:
        mounted = False
    if not mounted:
        return "debugfs is not mounted", "mount -t debugfs debugfs /sys/kernel/debug"
    return "debugfs is mounted, but lru_gen cannot be opened", "mount debugfs for writing"


def _evict(guest: _Guest) -> Finding:
    job, can = "evict it", guest.can
    if not can.memory_controller:
        detail, remedy = _no_memory_controller(guest)
        return Finding(job=job, status="missing", backend=_NONE, detail=detail, remedy=remedy)
    if can.mglru in ("on", "off"):
        detail = "a generation of one cgroup at a time, broken off within a batch of pages"
        return Finding(job=job, status="ok", backend="multi-gen LRU", detail=detail)
    if can.memory_reclaim:
        detail = "blind to age, so off unless asked for, and then paced by refaults"
        if can.swap and not reclaim_takes_swappiness(can.kernel):
            detail += "; before Linux 6.9 it cannot be told to spare anonymous memory, so where"
            detail += " there is swap it is used only for cgroups with swap = true"
        remedy = '[reclaim] without_mglru = "memory.reclaim" asks for it'
        return Finding(
            job=job, status="warning", backend="memory.reclaim", detail=detail, remedy=remedy
        )
    detail = "neither the multi-gen LRU nor memory.reclaim"
    remedy = "a kernel with CONFIG_LRU_GEN=y, or Linux 5.19 for memory.reclaim"
    return Finding(job=job, status="missing", backend=_NONE, detail=detail, remedy=remedy)


def _no_memory_controller(guest: _Guest) -> tuple[str, str]:
    if if_readable(lambda: has_v1_memory(guest.layout.root), otherwise=False):
        remedy = "boot with systemd.unified_cgroup_hierarchy=1, or cgroup_no_v1=memory"
        return "cgroup v1 holds the memory controller", remedy
    disabled = "cgroup_disable=memory"
    if disabled in guest.boot_words:
        return f"booted with {disabled}", f"boot without {disabled}"
    if guest.can.cgroup_root is None:
        return "cgroup v2 is not mounted", "mount -t cgroup2 none /sys/fs/cgroup"
    return "cgroup v2 has no memory controller", "a kernel with CONFIG_MEMCG=y"


def _pressure(guest: _Guest) -> Finding:
    job = "feel pressure"
    match guest.can.psi:
        case "privileged":
            detail = "triggers on memory and io, of windows as short as the kernel takes"
            return Finding(job=job, status="ok", backend="PSI triggers", detail=detail)
        case "slow":
            return Finding(
                job=job,
                status="warning",
                backend="PSI triggers of 2 s",
                detail="without CAP_SYS_RESOURCE the kernel looks at a trigger every 2 s only",
                remedy="run it with CAP_SYS_RESOURCE, as memreact.service does",
            )
        case "none":
            detail, remedy = _why_no_psi(guest)
            return Finding(job=job, status="missing", backend=_NONE, detail=detail, remedy=remedy)


def _why_no_psi(guest: _Guest) -> tuple[str, str]:
    if "psi=0" in guest.boot_words:
        return "booted with psi=0", "boot with psi=1"
    path = guest.layout.proc("pressure/memory")
    if os.path.exists(path) and not can_open(path):
        return f"{path} cannot be opened for writing", "run it as root, as memreact.service does"
    return "no /proc/pressure", "boot with psi=1; if that does not help, a kernel with CONFIG_PSI=y"


def _cgroup_pressure(guest: _Guest) -> Finding:
    job = "feel it by cgroup"
    if guest.can.cgroup_psi and guest.can.psi != "none":
        detail = "each cgroup has its memory.pressure and io.pressure"
        return Finding(job=job, status="ok", backend="PSI of cgroups", detail=detail)
    detail = "no memory.pressure in the cgroup tree"
    remedy = "boot with psi=1, without cgroup_disable=pressure, and with cgroup v2"
    return Finding(job=job, status="missing", backend=_NONE, detail=detail, remedy=remedy)


def _cgroups(guest: _Guest) -> Finding:
    job, can = "watch cgroups", guest.can
    if can.cgroup_root is None:
        detail, remedy = _no_memory_controller(guest)
        return Finding(job=job, status="missing", backend=_NONE, detail=detail, remedy=remedy)
    if not can.memory_controller:
        detail, remedy = _no_memory_controller(guest)
        detail = f"cgroup v2 at {can.cgroup_root}, but {detail}"
        return Finding(job=job, status="warning", backend="inotify", detail=detail, remedy=remedy)
    detail = f"cgroup v2 with memory at {can.cgroup_root}"
    return Finding(job=job, status="ok", backend="inotify", detail=detail)


def _compact(guest: _Guest) -> Finding:
    job = "gather free pages"
    if guest.can.root and os.path.exists(guest.layout.proc("sys/vm/compact_memory")):
        detail = "fragments become blocks that the host can be told of"
        return Finding(job=job, status="ok", backend="compact_memory", detail=detail)
    if not guest.can.root:
        detail, remedy = "not root", "run it as root, as memreact.service does"
    else:
        detail, remedy = "no compact_memory", "a kernel with CONFIG_COMPACTION=y"
    return Finding(job=job, status="missing", backend=_NONE, detail=detail, remedy=remedy)


def _return(guest: _Guest) -> Finding:
    job = "return to host"
    found = balloons(guest.layout)
    if not any(balloon.reporting for balloon in found):
        detail, remedy = why_no_reporting(found)
        return Finding(job=job, status="missing", backend=_NONE, detail=detail, remedy=remedy)
    by = "free page reporting"
    order, orders = guest.can.reporting_order, _orders(guest.layout)
    if order is None or order < 0:
        detail = "negotiated with the host, but the kernel has set no order to report from"
        remedy = "modprobe virtio_balloon, or boot with page_reporting.page_reporting_order=9"
        return Finding(job=job, status="warning", backend=by, detail=detail, remedy=remedy)
    if order >= orders:
        detail = f"order {order} is set, but this kernel has no free blocks above {orders - 1}"
        remedy = "write 9 to /sys/module/page_reporting/parameters/page_reporting_order"
        return Finding(job=job, status="missing", backend=_NONE, detail=detail, remedy=remedy)
    return _reporting(guest, order, orders)


def why_no_reporting(found: tuple[Balloon, ...]) -> tuple[str, str]:
    """Tell why no balloon reports free pages, and what would help."""
    if not found:
        return (
            "no virtio balloon: what is freed stays with this guest",
            "on the host, QEMU: -device virtio-balloon-pci,free-page-reporting=on",
        )
    if all(balloon.driver is None for balloon in found):
        return f"{found[0].name} is a balloon without a driver", "modprobe virtio_balloon"
    return (
        f"the balloon {found[0].name} has not negotiated free page reporting",
        "on the host, QEMU: free-page-reporting=on; here, no init_on_free=1 or page_poison=1",
    )


def _orders(layout: Layout) -> int:
    """How many orders of free blocks this kernel has."""
    return max((len(row.counts) for row in read_buddyinfo(layout)), default=0)


def _reporting(guest: _Guest, order: int, orders: int) -> Finding:
    job, by, layout = "return to host", "free page reporting", guest.layout
    zones = [zone for zone in read_zoneinfo(layout) if zone.managed_pages]
    size = guest.can.page_size
    reportable = reportable_bytes(read_buddyinfo(layout), order, size)
    told = _reported(layout, zones, order, orders - 1, reportable)
    detail = (
        f"free blocks of order {order} ({_amount(size << order)}) and more: "
        f"{_amount(reportable)} free in such blocks{told}"
    )
    if any(zone.free_pages >= headroom_pages(zone, order) for zone in zones):
        return Finding(job=job, status="ok", backend=by, detail=detail)
    extra = _amount((headroom_pages(zones[0], order) - zones[0].low_pages) * size)
    return Finding(
        job=job,
        status="warning",
        backend=by,
        detail=f"{detail}; every zone is below its low watermark + {extra}: nothing is told now",
        remedy="it starts by itself when more is free",
    )


def _reported(
    layout: Layout, zones: list[Zone], order: int, max_order: int, reportable: int
) -> str:
    told = if_readable(lambda: reported_bytes(layout, zones, order, max_order), None)
    # The two are read one after the other, and memory moves meanwhile.
    return "" if told is None else f", {_amount(min(told, reportable))} of it told to the host"


def _swap(guest: _Guest) -> Finding:
    job = "anonymous memory"
    areas = if_readable(lambda: read_swaps(guest.layout), ())
    if not areas:
        detail = "no swap: only file pages can be evicted"
        remedy = "a swap area (zram will do), and [memcg] swap = true"
        return Finding(job=job, status="missing", backend=_NONE, detail=detail, remedy=remedy)
    free = sum(area.size_bytes - area.used_bytes for area in areas)
    kinds = ", ".join(sorted({_kind(area) for area in areas}))
    detail = f"{_amount(free)} of swap free; used only with [memcg] swap = true"
    return Finding(job=job, status="ok", backend=kinds, detail=detail)


def _kind(area: SwapDevice) -> str:
    return "zram" if zram_name(area) else f"swap {area.kind}"


def _devices(guest: _Guest) -> Finding:
    job = "notice devices"
    udevd = os.path.exists(f"{guest.layout.root}/run/udev/control")
    detail = "as udevd announces them" if udevd else "from the kernel itself: no udevd runs here"
    return Finding(job=job, status="ok", backend="uevents", detail=detail)


def _delays(guest: _Guest) -> Finding:
    job, by = "measure delays", "taskstats"
    layout = guest.layout
    counting = if_readable(lambda: read_delay_accounting(layout), None)
    if counting is None:
        detail, remedy = "no delay accounting", "a kernel with CONFIG_TASK_DELAY_ACCT=y"
        return Finding(job=job, status="missing", backend=_NONE, detail=detail, remedy=remedy)
    if not if_readable(lambda: has_capability("CAP_NET_ADMIN", layout=layout), otherwise=False):
        detail, remedy = "no CAP_NET_ADMIN", "run it as root, as memreact.service does"
        return Finding(job=job, status="missing", backend=_NONE, detail=detail, remedy=remedy)
    if not counting:
        detail = "off: reclaim and swap delays of processes stay 0"
        remedy = "sysctl kernel.task_delayacct=1, or boot with delayacct"
        return Finding(job=job, status="warning", backend=by, detail=detail, remedy=remedy)
    return Finding(job=job, status="ok", backend=by, detail="the kernel counts each task's delays")


def _alone(guest: _Guest) -> Finding:
    job = "be alone"
    own = find_memreact(guest.layout)
    name = f"memreact (process {own})"
    others = [rival for rival in guest.can.rivals if rival != name]
    if others:
        return Finding(
            job=job,
            status="warning",
            backend="stays idle",
            detail=f"{', '.join(others)} reclaims here too",
            remedy="switch it off, or set [reclaim] beside_others = true",
        )
    if name in guest.can.rivals:
        return Finding(job=job, status="ok", backend=name, detail="it is the one at work here")
    return Finding(job=job, status="ok", backend="memreact", detail="nobody else reclaims here")


_JOBS: dict[str, Callable[[_Guest], Finding]] = {
    "find cold memory": _age,
    "evict it": _evict,
    "feel pressure": _pressure,
    "feel it by cgroup": _cgroup_pressure,
    "watch cgroups": _cgroups,
    "anonymous memory": _swap,
    "gather free pages": _compact,
    "return to host": _return,
    "notice devices": _devices,
    "measure delays": _delays,
    "be alone": _alone,
}


# ---- for people ----------------------------------------------------------------------------------


def render(report: Report, width: int = _WIDTH) -> str:
    """Write a report as a table for people.

    Args:
        report: What was found.
        width: Columns at most; below 72 it is 72.
    """
    rows = [(f.job, f.status, f.backend, f.detail, f.remedy) for f in report.findings]
    job, status, by = (max(len(row[column]) for row in rows) for column in range(3))
    left = job + status + by + 6
    width = max(width, 72)
    room = width - left
    lines = [*textwrap.wrap(_heading(report.capabilities, report.version), width), ""]
    for name, state, backend, detail, remedy in rows:
        first, *more = textwrap.wrap(detail, room) or [""]
        lines.append(f"{name:<{job}}  {state:<{status}}  {backend:<{by}}  {first}".rstrip())
        lines += [" " * left + line for line in more]
        if remedy:
            wrapped = textwrap.wrap(remedy, room - 2)
            lines += [" " * left + ("> " if not i else "  ") + w for i, w in enumerate(wrapped)]
    verdict = (line for sentence in _verdict(report) for line in textwrap.wrap(sentence, width))
    return "\n".join([*lines, "", *verdict])


def _heading(can: Capabilities, version: str) -> str:
    nodes = ",".join(map(str, can.nodes))
    who = "as root" if can.root else "not as root"
    kernel = f"Linux {can.kernel}" if can.kernel else "unknown kernel"
    return f"memreact {version}, {kernel}, pages of {_amount(can.page_size)}, node {nodes}, {who}"


def _verdict(report: Report) -> list[str]:
    work = "can work here" if report.idle_because is None else "stays idle here"
    why = f": {report.idle_because}." if report.idle_because else "."
    host = "can go back" if report.reaches_host else "cannot go back"
    return [f"memreact {work}{why}", f"Freed memory {host} to the host."]


def _amount(size: int) -> str:
    """An amount of bytes, for people: KiB, MiB from 1 MiB on, GiB from 10 GiB on."""
    if size < _MIB:
        return f"{size >> 10} KiB"
    if size < 10 << 30:
        return f"{size >> 20} MiB"
    return f"{size / (1 << 30):.1f} GiB"
