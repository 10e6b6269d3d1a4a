"""What `memreact doctor --json` prints, and with --prove."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["Capabilities", "Finding", "Mglru", "Proof", "Psi", "Report", "Status"]

Mglru = Literal["on", "off", "absent", "unreachable"]
"""The multi-gen LRU; "unreachable" is built in, but its debugfs file cannot be opened."""

Psi = Literal["privileged", "slow", "none"]
"""Pressure triggers: of any window, of multiples of 2 s only, or none."""

Status = Literal["ok", "warning", "missing"]
"""Done as meant, done worse or with a catch, or not done at all."""


class Capabilities(Struct, frozen=True, kw_only=True):
    """What this guest's kernel, boot line and our privileges allow.

    Args:
        kernel: As `uname -r` prints it; empty where it cannot be read.
        root: We are uid 0, or may write the kernel's files all the same (CAP_DAC_OVERRIDE).
        page_size: In bytes.
        nodes: NUMA nodes online.
        cgroup_root: Where cgroup v2 is mounted; None where it is not.
        memory_controller: cgroup v2 has the memory controller.
        memory_reclaim: Each cgroup has memory.reclaim (Linux 5.19).
        mglru: The multi-gen LRU.
        psi: Triggers on the guest's pressure.
        cgroup_psi: Each cgroup has a memory.pressure of its own.
        page_reporting: A balloon reports free pages to the host.
        reporting_order: Free blocks of 2^order pages are reported; -1 unset, None no reporting.
        swap: There is a swap area.
        rivals: Who else reclaims here, in words.
        compaction: Free memory can be gathered into larger blocks on demand.
    """

    kernel: str
    root: bool
    page_size: int
    nodes: tuple[int, ...]
    cgroup_root: str | None
    memory_controller: bool
    memory_reclaim: bool
    mglru: Mglru
    psi: Psi
    cgroup_psi: bool
    page_reporting: bool
    reporting_order: int | None
    swap: bool
    rivals: tuple[str, ...]
    compaction: bool = False


class Finding(Struct, frozen=True, kw_only=True):
    """How one job is done here.

    Args:
        job: What is to be done.
        status: How well.
        backend: What does it; "none" where nothing does.
        detail: What was found.
        remedy: What would give what is missing; empty where nothing is.
    """

    job: str
    status: Status
    backend: str
    detail: str
    remedy: str = ""


class Report(Struct, frozen=True, kw_only=True):
    """Everything that doctor found.

    Args:
        version: Of memreact.
        capabilities: The ladder's rungs.
        findings: One for each job, in the order in which an eviction goes.
        reaches_host: Freed memory can go back to the host.
        idle_because: Why memreact would do nothing here; None when it would work.
    """

    version: str
    capabilities: Capabilities
    findings: tuple[Finding, ...]
    reaches_host: bool
    idle_because: str | None = None


class Proof(Struct, frozen=True, kw_only=True):
    """What came of freeing a block of memory, and watching whether the host is told of it.

    Args:
        proved: The host was told of memory that we freed.
        rungs: What has to hold for that, in order, up to the first that does not.
        freed_bytes: The block; 0 where a rung failed before it was made.
        reported_bytes: Of it, what the host was told of.
        took_us: From the moment it was freed until then.
    """

    proved: bool
    rungs: tuple[Finding, ...]
    freed_bytes: int = 0
    reported_bytes: int = 0
    took_us: int = 0
