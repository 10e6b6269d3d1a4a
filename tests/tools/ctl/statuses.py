"""A status with everything in it that can be told."""

from __future__ import annotations

from memreact_schemas.explanation import (
    Explanation,
    GuardStatus,
    HarmStatus,
    ObstacleStatus,
    PressureNow,
    SettingHere,
    WayOut,
)
from memreact_schemas.status import (
    CgroupDelays,
    CgroupLimits,
    CgroupStatus,
    CompactionStatus,
    Counters,
    DecisionRow,
    Delays,
    GenerationStatus,
    HoldStatus,
    HurtStatus,
    KeepStatus,
    LedgerStatus,
    LedgerTally,
    NextEviction,
    NodeStatus,
    PauseStatus,
    PromotionStatus,
    SqueezeStatus,
    StallShare,
    Status,
)

__all__ = ["COMPACTION", "DECISION", "EXPLANATION", "LEDGER", "STATUS", "cgroup"]

MINUTE = 60_000_000
NOW = 10 * MINUTE
DECISION = DecisionRow(
    number=3,
    at_us=NOW - MINUTE,
    verdict="evicted",
    because="cold",
    path="/shop",
    node=0,
    figures={"pages": 7},
    words={"by": "us"},
)
NEXT = NextEviction(at_us=NOW + 2 * MINUTE, waits_for="period", text="its period is not over")


def cgroup(path: str, anon_bytes: int = 64 << 20) -> CgroupStatus:
    """Return a cgroup of this size."""
    return CgroupStatus(
        path=path,
        populated=True,
        frozen=True,
        anon_bytes=anon_bytes,
        file_bytes=1 << 20,
        cold_bytes=1 << 20,
        nodes=(
            NodeStatus(
                node=0,
                rule="/shop",
                disabled=True,
                swap=True,
                period_us=10 * MINUTE,
                aging_count_min=3,
                generations=(
                    GenerationStatus(seq=5, age_us=90_000_000, anon_bytes=1, file_bytes=2),
                ),
                next_eviction=NEXT,
            ),
        ),
        counters=Counters(agings=4, evictions=2, evicted_bytes=20 << 20, because={"cold": 2}),
        last=DECISION,
        next_eviction=NextEviction(waits_for="generations", text="no generations seen yet"),
        pressure=StallShare(stall_us=5, over_us=1000, limit_ppm=10_000),
        promotion=PromotionStatus(
            promoted_bytes=3 << 20,
            over_us=10 * MINUTE,
            workingset_bytes=100 << 20,
            limit_ppm_per_min=2_000,
            over_limit=True,
        ),
        away_until_us=NOW + MINUTE,
        floor_bytes=1 << 30,
        limits=CgroupLimits(current_bytes=5, min_bytes=2**63 - 1, max_bytes=1 << 40),
    )


LEDGER = LedgerStatus(
    read_at_us=NOW - MINUTE,
    total_bytes=980 << 20,
    free_bytes=600 << 20,
    reportable_bytes=570 << 20,
    reported_bytes=560 << 20,
    reported_byte_seconds_total=9 * (1 << 30) * 360,
    since_start=LedgerTally(
        evicted_file_bytes=400 << 20,
        evicted_anon_bytes=80 << 20,
        zram_taken_bytes=20 << 20,
        migrated_bytes=12 << 20,
    ),
    free_held_bytes={"not_told_yet": 10 << 20, "fragmented": 30 << 20},
    used_estimates_bytes={"hot": 300 << 20, "kernel": 80 << 20},
    used_again_estimate_bytes=50 << 20,
    host_holds_bytes=450 << 20,
    host_said_at_us=NOW - 2 * MINUTE,
    returned_bytes=300 << 20,
    reporting=False,
    not_reporting_because="fragmented",
)
COMPACTION = CompactionStatus(
    next_look_at_us=NOW + 3 * MINUTE,
    order=9,
    checks=7,
    runs=2,
    broken_off=1,
    moved_bytes=12 << 20,
    expected_bytes=40 << 20,
    gained_bytes=30 << 20,
    took_us=4_000_000,
    last=DecisionRow(
        number=0,
        at_us=NOW - MINUTE,
        verdict="compacted",
        because="done",
        figures={"gained_bytes": 7},
    ),
    left_alone_until_us={"0/Normal": NOW + 5 * MINUTE},
)
DELAYS = Delays(
    since_us=NOW - MINUTE,
    processes=3,
    gone=1,
    left_out=2,
    reclaim_us=1_234_000,
    swap_in_us=5_600,
    thrashing_us=None,
    compact_us=0,
    block_io_us=20_000,
)
EXPLANATION = Explanation(
    now_us=NOW,
    cgroup=cgroup("/shop"),
    settings=(
        SettingHere(node=0, key="swap", value="false", origin="default"),
        SettingHere(node=1, key="swap", value="true", rule="/shop", origin="pushed by root"),
    ),
    guards=(
        GuardStatus(
            path="/shop", current_bytes=150 << 20, protected_bytes=2**63 - 1, spare_bytes=0
        ),
    ),
    kept_bytes=150 << 20,
    spare_bytes=0,
    pressure=PressureNow(
        memory_permyriad=125,
        memory_total_us=7_654_321,
        own_stall_us=5_000,
        own_over_us=MINUTE,
        period_limit_ppm=10_000,
        eviction_limit_ppm=5_000,
        guest_limit_ppm=100_000,
        window_us=1_000_000,
    ),
    decisions=(DECISION,),
    obstacles=(
        ObstacleStatus(
            node=0,
            because="anon_stays",
            text="swap is off: 95 MiB of cold anonymous memory stay",
            ways_out=(WayOut(kind="set", text="memreact-ctl rule put /shop swap=true"),),
        ),
    ),
    harm=HarmStatus(
        total=Delays(processes=1, reclaim_us=9_000),
        since_last_look=DELAYS,
        missing="boot with delayacct",
    ),
)
STATUS = Status(
    version="1.0",
    revision=4,
    now_us=NOW,
    started_at_us=0,
    doing="evicting",
    at_work="/shop",
    idle_because="there is no mglru",
    pause=PauseStatus(since_us=NOW - MINUTE, because="stall", figures={"a": 1}, looks_at_us=NOW),
    hurt=HurtStatus(
        at_us=NOW - MINUTE,
        since_us=NOW - 2 * MINUTE,
        cgroups=(CgroupDelays(path="/shop", delays=DELAYS),),
    ),
    squeeze=SqueezeStatus(
        by="cid 2",
        scope="/shop",
        since_us=NOW,
        deadline_us=NOW + 3_000_000,
        target_bytes=300 << 20,
        evicted_bytes=64 << 20,
    ),
    keep=KeepStatus(
        by="cid 2", scope="/", since_us=NOW, until_us=NOW + MINUTE, reportable_bytes=500 << 20
    ),
    hold=HoldStatus(since_us=0, until_us=NOW + 2 * MINUTE, by="root", reason="a backup"),
    next_turn_at_us=NOW + MINUTE,
    next_eviction=NEXT,
    pressure=StallShare(stall_us=2_500, over_us=1_000_000, limit_ppm=100_000),
    counters=Counters(agings=4, evictions=2, evicted_bytes=20 << 20),
    turns=12,
    compaction=COMPACTION,
    problem="memreact.toml:3: wrong",
    unsaved="/run/memreact/pushed is not written: No space left on device",
    warnings=("no swap",),
    dropped=2,
    cgroups_total=25,
    cgroups=tuple(cgroup(f"/c{number:02}", number << 20) for number in range(25)),
)
