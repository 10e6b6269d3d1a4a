"""Every family of metrics, with what it means; docs/metrics.md is held to it by a test."""

from __future__ import annotations

from typing import get_args

from memreact_schemas.openmetrics import Family
from memreact_schemas.status import Doing

__all__ = [
    "ABOUT",
    "ALL",
    "CGROUPS",
    "GUEST",
    "LEDGER",
    "OTHERS",
    "REPORTING",
    "SPREADS",
    "STATES",
    "WORKING_SET",
]

OTHERS = "others"
"""All cgroups that have no line of their own; the path of a cgroup begins with "/"."""

STATES: tuple[str, ...] = get_args(Doing)

ABOUT = (
    Family("memreact_build", "info", "The version.", labels=("version",)),
    Family("memreact_doing", "stateset", "What the worker is at.", labels=("memreact_doing",)),
    Family(
        "memreact_decisions",
        "counter",
        "Decisions, by what was chosen and why; journal.md has the words.",
        labels=("verdict", "because"),
    ),
    Family(
        "memreact_compaction_decisions",
        "counter",
        "Why compactions were not begun, and how they ended.",
        labels=("because",),
    ),
    Family(
        "memreact_cpu_seconds",
        "counter",
        "CPU time of memreact itself and of its children, which compact.",
        "seconds",
        ("of", "mode"),
    ),
)

GUEST = (
    Family("memreact_uptime_seconds", "gauge", "Since the daemon began.", "seconds"),
    Family("memreact_settings_revision", "gauge", "Of the settings in force."),
    Family("memreact_settings_refused", "gauge", "1 while changed settings are not taken."),
    Family("memreact_settings_unsaved", "gauge", "1 while a restart would lose what was pushed."),
    Family("memreact_warnings", "gauge", "Warnings that status shows."),
    Family("memreact_turns", "counter", "Turns."),
    Family("memreact_cgroups", "gauge", "Cgroups there are."),
    Family("memreact_agings", "counter", "Agings, those of cgroups that are gone included."),
    Family("memreact_evictions", "counter", "Evictions, those of cgroups that are gone included."),
    Family("memreact_squeezing", "gauge", "1 while an operator's squeeze is under way."),
    Family("memreact_kept_bytes", "gauge", "What a squeeze keeps reportable.", "bytes"),
    Family("memreact_followers", "gauge", "Who follows decisions or status."),
    Family("memreact_followers_dropped", "counter", "Decisions that followers did not read."),
    Family("memreact_compaction_checks", "counter", "Looks at free memory."),
    Family("memreact_compactions", "counter", "Compactions that began."),
    Family("memreact_compactions_broken_off", "counter", "Those that did not get to their end."),
    Family("memreact_compaction_moved_bytes", "counter", "Moved while they ran.", "bytes"),
    Family(
        "memreact_compaction_expected_bytes",
        "counter",
        "What should have become reportable by those that were measured.",
        "bytes",
    ),
    Family("memreact_compaction_gained_bytes", "counter", "What did.", "bytes"),
    Family("memreact_compaction_seconds", "counter", "How long they ran.", "seconds"),
    Family("memreact_wakeups", "counter", "How often one of memreact's threads was woken."),
    Family("memreact_resident_bytes", "gauge", "memreact's own memory, all of it.", "bytes"),
    Family("memreact_resident_anon_bytes", "gauge", "The anonymous part of it.", "bytes"),
)

REPORTING = (
    Family(
        "memreact_reporting",
        "stateset",
        "Whether the evictions of the last hour led to something that the host was told.",
        labels=("memreact_reporting",),
    ),
    Family(
        "memreact_not_reporting",
        "gauge",
        "1, and the cause of most of it, while they do not.",
        labels=("because",),
    ),
    Family("memreact_evicted_bytes", "counter", "What evictions took.", "bytes", ("kind",)),
    Family(
        "memreact_free_held_bytes",
        "gauge",
        "Free memory that the host was not told of, by cause.",
        "bytes",
        ("cause",),
    ),
    Family(
        "memreact_used_estimate_bytes",
        "gauge",
        "Memory in use, by the cause for which it is; each page counts once.",
        "bytes",
        ("cause",),
    ),
)

LEDGER = (
    Family("memreact_zram_taken_bytes", "counter", "What zram took for evicted memory.", "bytes"),
    Family("memreact_migrated_bytes", "counter", "What compactions moved.", "bytes"),
    Family(
        "memreact_reported_byte_seconds",
        "counter",
        "What stayed reported, over time: at least so much.",
        "byte_seconds",
    ),
    Family(
        "memreact_ledger_age_seconds", "gauge", "Since the amounts of now were read.", "seconds"
    ),
    Family("memreact_ledger_failed", "gauge", "1 where the last reading of them failed."),
    Family("memreact_guest_memory_bytes", "gauge", "All that the guest's kernel has.", "bytes"),
    Family("memreact_free_bytes", "gauge", "Free.", "bytes"),
    Family("memreact_reportable_bytes", "gauge", "Free in blocks that can be reported.", "bytes"),
    Family("memreact_reported_bytes", "gauge", "Free, and the host was told so.", "bytes"),
    Family(
        "memreact_used_again_estimate_bytes", "gauge", "Was evicted, and is in use again.", "bytes"
    ),
    Family(
        "memreact_freed_by_others_estimate_bytes",
        "gauge",
        "So much more is free than was evicted.",
        "bytes",
    ),
    Family("memreact_host_holds_bytes", "gauge", "What the host said that it holds.", "bytes"),
    Family("memreact_host_said_age_seconds", "gauge", "Since it said so.", "seconds"),
    Family(
        "memreact_returned_bytes", "gauge", "So much less than when the host first said.", "bytes"
    ),
)

SPREADS = (
    Family(
        "memreact_event_to_stop_seconds",
        "histogram",
        "From a stall, or whatever else breaks an eviction off, until its write has returned.",
        "seconds",
        ("by",),
    ),
    Family(
        "memreact_eviction_rate_bytes_per_second",
        "histogram",
        "How fast each eviction write took memory.",
        "bytes_per_second",
    ),
)

WORKING_SET = Family(
    "memreact_memory_age_seconds",
    "gaugehistogram",
    "Bytes of all cgroups, by the time since they were found in use.",
    "seconds",
    ("kind",),
)

CGROUPS = (
    Family(
        "memreact_cgroup_memory_bytes",
        "gauge",
        "In a cgroup's generations, without what is below it.",
        "bytes",
        ("cgroup", "kind"),
    ),
    Family(
        "memreact_cgroup_cold_bytes",
        "gauge",
        "Of it, what is cold by its settings.",
        "bytes",
        ("cgroup",),
    ),
    Family("memreact_cgroup_agings", "counter", "Agings of it.", labels=("cgroup",)),
    Family("memreact_cgroup_evictions", "counter", "Evictions of it.", labels=("cgroup",)),
    Family("memreact_cgroup_evicted_bytes", "counter", "What they brought.", "bytes", ("cgroup",)),
    Family(
        "memreact_cgroup_decisions",
        "counter",
        "Decisions on it, by reason.",
        labels=("cgroup", "because"),
    ),
)

ALL = (*ABOUT, *GUEST, *REPORTING, *LEDGER, *SPREADS, WORKING_SET, *CGROUPS)
