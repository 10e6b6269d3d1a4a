"""The ledger: what was taken, what the host was told, and why no more; and that it adds up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact.account import Account, ZoneAccount
from memreact.events import (
    BatchEnded,
    CapabilitiesRead,
    CompactionEnded,
    Event,
    GuestPressure,
    Inspected,
    Inspection,
    Instant,
    PressureSample,
    Surveyed,
    TimerFired,
)
from memreact.policy.state import State, Turn
from memreact.telemetry.decisions import INT_MAX
from memreact.telemetry.ledger import (
    Ledger,
    Tally,
    Verdict,
    accounted,
    failed,
    free_held_bytes,
    ledger_status,
    observed,
    reading_due,
    reportable_bytes,
    told_by_host,
    used_estimates_bytes,
    verdict,
)
from memreact.value import replace
from memreact_schemas.status import LedgerStatus, LedgerTally

MIB = 1 << 20
SECOND = 1_000_000
HOUR = 3600 * SECOND
PAGE = 4096
GUEST = CapabilitiesRead(PAGE, "mglru", True, "/own", 0.5)  # noqa: FBT003  # positional
IDLE = State(guest=GUEST)
AT_WORK = State(guest=GUEST, turn=Turn(Instant(SECOND), frozenset()))
SAMPLE = PressureSample(Instant(0), GuestPressure(0))


def at(seconds: float) -> Instant:
    return Instant(int(seconds * SECOND))


def saw(path: str = "/shop", **figures: int) -> Inspection:
    zero = dict.fromkeys(
        (
            "anon_bytes",
            "file_bytes",
            "dirty_bytes",
            "unevictable_bytes",
            "evicted_total_pages",
            "refault_total_pages",
            "swap_free_bytes",
        ),
        0,
    )
    return Inspection(path=path, pressure=SAMPLE, guards=(), **(zero | figures))  # type: ignore[arg-type]  # all are amounts


def batch(after: Inspection | None, asked_pages: int = 1 << 40, path: str = "/shop") -> BatchEnded:
    return BatchEnded(path, 0, asked_pages, "done", after)


def fed(ledger: Ledger, *events: tuple[float, Event, State]) -> Ledger:
    for seconds, event, state in events:
        ledger = observed(ledger, event, state, at(seconds))
    return ledger


def account(  # noqa: PLR0913  # each test says what matters to it
    seconds: float,
    *free_mib: int,
    reported_mib: int | None = 0,
    order: int | None = 2,
    usual: int | None = 2,
    negotiated: bool = True,
    enough: bool = True,
    **figures: int,
) -> Account:
    """A guest of 1 GiB with one zone; its free memory by the order of the blocks."""
    reported = None if reported_mib is None else reported_mib * MIB
    free = tuple(size * MIB for size in free_mib)
    zone = ZoneAccount(free, reported, enough_free=enough)
    return Account(at(seconds), 1024 * MIB, negotiated, order, usual, (zone,), **figures)


def evicted(file_mib: int, *, began: float = 1, ended: float = 2, base: int = 0) -> Ledger:
    """A run that took so much page cache, after a reading."""
    pages = file_mib * MIB // PAGE
    before = saw(file_bytes=file_mib * MIB, evicted_total_pages=base)
    after = saw(evicted_total_pages=base + pages)
    return fed(
        accounted(Ledger(), account(0, 0, 0, 100)),
        (began, Inspected("/shop", before), AT_WORK),
        (ended, batch(after), AT_WORK),
        (ended, TimerFired(), IDLE),
    )


def told(ledger: Ledger, seconds: float = 100) -> LedgerStatus:
    return ledger_status(ledger, at(seconds))


# ---- what was taken ------------------------------------------------------------------------------


def test_what_a_write_took_is_told_apart_by_what_the_memcg_lost_of_either_kind() -> None:
    before = saw(anon_bytes=80 * MIB, file_bytes=40 * MIB)
    after = saw(anon_bytes=50 * MIB, file_bytes=30 * MIB, evicted_total_pages=40 * MIB // PAGE)
    ledger = fed(Ledger(), (1, Inspected("/shop", before), AT_WORK), (2, batch(after), AT_WORK))
    assert ledger.since_start == Tally(file_bytes=10 * MIB, anon_bytes=30 * MIB)


def test_shared_memory_that_went_to_swap_is_anonymous_to_an_eviction() -> None:
    before = saw(file_bytes=40 * MIB, shmem_bytes=40 * MIB)
    after = saw(file_bytes=30 * MIB, shmem_bytes=30 * MIB, evicted_total_pages=10 * MIB // PAGE)
    ledger = fed(Ledger(), (1, Inspected("/shop", before), AT_WORK), (2, batch(after), AT_WORK))
    assert ledger.since_start == Tally(anon_bytes=10 * MIB)


def test_what_zram_took_for_anonymous_memory_is_no_gain() -> None:
    before = saw(anon_bytes=80 * MIB, zram_used_bytes=5 * MIB)
    pages = 40 * MIB // PAGE
    after = saw(anon_bytes=40 * MIB, zram_used_bytes=18 * MIB, evicted_total_pages=pages)
    ledger = fed(Ledger(), (1, Inspected("/shop", before), AT_WORK), (2, batch(after), AT_WORK))
    assert ledger.since_start == Tally(anon_bytes=40 * MIB, zram_bytes=13 * MIB)
    assert ledger.since_start.net_bytes == 27 * MIB
    assert told(ledger).since_start == LedgerTally(
        evicted_anon_bytes=40 * MIB, zram_taken_bytes=13 * MIB
    )


def test_zram_that_grew_while_files_went_was_somebody_elses() -> None:
    before, pages = saw(file_bytes=80 * MIB), 40 * MIB // PAGE
    after = saw(file_bytes=40 * MIB, zram_used_bytes=9 * MIB, evicted_total_pages=pages)
    ledger = fed(Ledger(), (1, Inspected("/shop", before), AT_WORK), (2, batch(after), AT_WORK))
    assert ledger.since_start == Tally(file_bytes=40 * MIB)


def test_no_more_counts_than_the_write_can_have_taken() -> None:
    before, after = saw(file_bytes=80 * MIB), saw(evicted_total_pages=80 * MIB // PAGE)
    ledger = fed(
        Ledger(),
        (1, Inspected("/shop", before), AT_WORK),
        (2, batch(after, asked_pages=10), AT_WORK),
    )
    assert ledger.since_start.file_bytes == (10 + 64) * PAGE


@pytest.mark.parametrize(
    "events",
    [
        [(1, Inspected("/shop", None), AT_WORK), (2, batch(saw(evicted_total_pages=9)), AT_WORK)],
        [(1, Inspected("/shop", saw()), AT_WORK), (2, batch(None), AT_WORK)],
        [(1, Inspected("/shop", saw()), AT_WORK), (2, batch(saw()), AT_WORK)],
        [
            (1, Inspected("/shop", saw()), AT_WORK),
            (2, batch(saw("/other", evicted_total_pages=9), path="/other"), AT_WORK),
        ],
    ],
)
def test_without_a_reading_before_and_after_nothing_counts(
    events: list[tuple[float, Event, State]],
) -> None:
    assert fed(Ledger(), *events).since_start == Tally()


def test_batch_after_batch_is_counted_once() -> None:
    pages = 10 * MIB // PAGE
    readings = [saw(file_bytes=(90 - n) * MIB, evicted_total_pages=n * pages) for n in range(4)]
    events: list[tuple[float, Event, State]] = [(1, Inspected("/shop", readings[0]), AT_WORK)]
    events += [(2, batch(reading), AT_WORK) for reading in readings[1:]]
    assert fed(Ledger(), *events).since_start == Tally(file_bytes=30 * MIB)


# ---- a run, and the reading after it -------------------------------------------------------------


def test_a_run_that_took_nothing_is_no_run_and_needs_no_reading() -> None:
    ledger = fed(Ledger(), (1, TimerFired(), AT_WORK), (2, TimerFired(), IDLE))
    assert reading_due(ledger) is None
    assert told(ledger).run is None


def test_the_memory_is_read_once_after_a_run_when_the_kernel_has_had_its_time() -> None:
    ledger = evicted(100)
    assert reading_due(ledger) == at(2 + 4)
    ledger = accounted(ledger, account(6, 0, 0, 200, reported_mib=90))
    assert reading_due(ledger) is None
    run = told(ledger).run
    assert run is not None
    assert (run.began_at_us, run.ended_at_us) == (at(1), at(2))
    assert run.tally == LedgerTally(evicted_file_bytes=100 * MIB)
    assert (run.reportable_grew_bytes, run.reported_grew_bytes) == (100 * MIB, 90 * MIB)


def test_the_more_was_freed_the_longer_the_kernel_takes_but_a_minute_at_most() -> None:
    assert reading_due(evicted(1024)) == at(2 + 2 * (2 + 4))
    assert reading_due(evicted(1 << 20)) == at(2 + 60)


def test_a_reading_that_comes_too_soon_does_not_replace_that_one() -> None:
    ledger = accounted(evicted(100), account(3, 0, 0, 200, reported_mib=10))
    assert reading_due(ledger) == at(6)
    ledger = accounted(ledger, account(6, 0, 0, 200, reported_mib=90))
    run = told(ledger).run
    assert run is not None
    assert run.reported_grew_bytes == 90 * MIB


def test_what_is_reported_later_belongs_to_no_run() -> None:
    ledger = accounted(evicted(100), account(6, 0, 0, 200, reported_mib=90))
    ledger = accounted(ledger, account(50, 0, 0, 900, reported_mib=900))
    run = told(ledger).run
    assert run is not None
    assert run.reported_grew_bytes == 90 * MIB


def test_a_reading_that_was_begun_before_the_end_says_nothing_of_the_run() -> None:
    ledger = accounted(evicted(100), account(1.5, 0, 0, 200, reported_mib=10))
    run = told(ledger).run
    assert run is not None
    assert run.reported_grew_bytes is None


def test_a_run_before_the_first_reading_has_no_growth() -> None:
    ledger = fed(
        Ledger(),
        (1, Inspected("/shop", saw(file_bytes=MIB)), AT_WORK),
        (2, batch(saw(evicted_total_pages=256)), AT_WORK),
        (2, TimerFired(), IDLE),
    )
    ledger = accounted(ledger, account(9, 0, 0, 50, reported_mib=50))
    assert reading_due(ledger) is None
    run = told(ledger).run
    assert run is not None
    assert run.reported_grew_bytes is None


def compacted(pages: int) -> CompactionEnded:
    return CompactionEnded(0, "done", took_us=SECOND, migrated_pages=pages)


def test_what_a_compaction_moves_belongs_to_the_run_before_it_and_is_read_with_it() -> None:
    ledger = fed(evicted(100), (3, compacted(256), IDLE))
    assert reading_due(ledger) == at(3 + 4)
    run = told(accounted(ledger, account(7, 0, 0, 200, reported_mib=90))).run
    assert run is not None
    assert run.tally == LedgerTally(evicted_file_bytes=100 * MIB, migrated_bytes=MIB)
    assert (run.ended_at_us, run.reported_grew_bytes) == (at(3), 90 * MIB)


def test_a_compaction_during_a_run_is_part_of_it() -> None:
    ledger = fed(
        accounted(Ledger(), account(0, 0)),
        (1, TimerFired(), AT_WORK),
        (2, compacted(256), AT_WORK),
        (3, TimerFired(), IDLE),
    )
    run = told(ledger).run
    assert run is not None
    assert (run.began_at_us, run.ended_at_us) == (at(1), at(3))
    assert run.tally == LedgerTally(migrated_bytes=MIB)


def test_a_compaction_long_after_a_run_is_one_of_its_own() -> None:
    ledger = accounted(evicted(100), account(6, 0, 0, 200, reported_mib=90))
    ledger = fed(ledger, (50, compacted(256), IDLE))
    assert reading_due(ledger) == at(54)
    run = told(accounted(ledger, account(54, 0, 0, 200, reported_mib=120))).run
    assert run is not None
    assert (run.began_at_us, run.tally) == (at(49), LedgerTally(migrated_bytes=MIB))
    assert run.reported_grew_bytes == 30 * MIB
    assert told(ledger).since_start.migrated_bytes == MIB


def test_a_compaction_that_moved_nothing_is_no_run() -> None:
    assert reading_due(fed(Ledger(), (3, compacted(0), IDLE))) is None


def test_a_reading_that_failed_leaves_the_last_one_and_says_why() -> None:
    ledger = failed(accounted(Ledger(), account(1, 7)), "/proc/zoneinfo: gone")
    status = told(ledger)
    assert (status.problem, status.free_bytes) == ("/proc/zoneinfo: gone", 7 * MIB)
    assert told(accounted(ledger, account(2, 7))).problem is None


def test_before_the_first_reading_the_amounts_are_not_known() -> None:
    status = told(Ledger())
    assert (status.read_at_us, status.free_bytes, status.reported_bytes) == (None, None, None)
    assert (status.free_held_bytes, status.used_estimates_bytes) == ({}, {})
    assert status.reporting is None


# ---- why free memory stays with the host ---------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "reportable_mib", "held_mib"),
    [
        (account(0, 3, 5, 100, reported_mib=90), 100, {"fragmented": 8, "not_told_yet": 10}),
        (account(0, 3, 5, 100, reported_mib=None), 100, {"fragmented": 8, "not_told_yet": 100}),
        (account(0, 3, 5, 100, enough=False), 0, {"fragmented": 8, "below_watermark": 100}),
        (account(0, 3, 5, 9, negotiated=False), 0, {"reporting_off": 17}),
        (account(0, 3, 5, 9, order=None), 0, {"reporting_off": 17}),
        (account(0, 3, 5, 9, order=-1), 0, {"reporting_off": 17}),
        (account(0, 3, 5, 0, order=2, usual=1), 0, {"fragmented": 3, "order_too_high": 5}),
        (account(0, 3, 5, 9, order=3, usual=1), 0, {"fragmented": 3, "order_too_high": 14}),
        (account(0, 3, 5, 9, order=3, usual=None), 0, {"order_too_high": 17}),
        (account(0, 3, 5, 9, order=1, usual=2), 14, {"fragmented": 3, "not_told_yet": 14}),
    ],
)
def test_free_memory_that_the_host_was_not_told_of_has_a_cause(
    read: Account, reportable_mib: int, held_mib: dict[str, int]
) -> None:
    assert reportable_bytes(read) == reportable_mib * MIB
    held = {cause: size // MIB for cause, size in free_held_bytes(read).items()}
    assert held == held_mib


@st.composite
def accounts(draw: st.DrawFn) -> Account:
    order = draw(st.sampled_from([None, -1, 0, 1, 2, 3, 9]))
    zones = []
    for _ in range(draw(st.integers(1, 3))):
        free = draw(st.tuples(*[st.integers(0, 2**40)] * 4))
        large = sum(free[order:]) if order is not None and order >= 0 else 0
        zones.append(
            ZoneAccount(free, draw(st.integers(0, large)), enough_free=draw(st.booleans()))
        )
    sizes = st.integers(0, 2**40)
    return Account(
        at=Instant(draw(sizes)),
        total_bytes=draw(st.integers(0, 2**42)),
        negotiated=draw(st.booleans()) or order in (None, -1),
        order=order,
        usual_order=draw(st.sampled_from([None, 1, 2, 9])),
        zones=tuple(zones),
        anon_bytes=draw(sizes),
        cached_bytes=draw(sizes),
        shmem_bytes=draw(sizes),
        dirty_bytes=draw(sizes),
        unevictable_bytes=draw(sizes),
        pinned_bytes=draw(sizes),
        reclaimable_slab_bytes=draw(sizes),
        protected_bytes=draw(sizes),
        swap_free_bytes=draw(st.sampled_from([0, MIB])),
    )


@given(accounts())
def test_free_memory_is_reported_or_has_one_cause(read: Account) -> None:
    held = sum(free_held_bytes(read).values())
    if not read.negotiated:
        assert held == read.free_bytes
    else:
        assert held + (read.reported_bytes or 0) == read.free_bytes


@given(accounts(), st.integers(0, 2**40), st.integers(0, 2**40), st.booleans())
def test_memory_in_use_has_one_cause(read: Account, cold: int, dying: int, swap: bool) -> None:  # noqa: FBT001  # drawn
    causes = used_estimates_bytes(read, cold_bytes=cold, dying_bytes=dying, swap=swap)
    assert all(size > 0 for size in causes.values())
    assert sum(causes.values()) == max(0, read.total_bytes - read.free_bytes)


@given(st.lists(st.tuples(st.integers(0, 300), accounts()), min_size=1, max_size=6))
def test_what_was_taken_is_reported_or_free_or_used_again(
    steps: list[tuple[int, Account]],
) -> None:
    ledger, base = Ledger(), 0
    for file_mib, read in steps:
        pages = file_mib * MIB // PAGE
        before = saw(file_bytes=file_mib * MIB, evicted_total_pages=base)
        base += pages
        ledger = fed(
            ledger,
            (1, Inspected("/shop", before), AT_WORK),
            (2, batch(saw(evicted_total_pages=base)), AT_WORK),
            (2, TimerFired(), IDLE),
        )
        ledger = accounted(ledger, replace(read, negotiated=True))
    status, first = told(ledger), ledger.first
    assert first is not None
    taken = sum(mib for mib, _ in steps[1:]) * MIB
    held_before = sum(free_held_bytes(first).values()) + (first.reported_bytes or 0)
    held_now = sum(status.free_held_bytes.values()) + (status.reported_bytes or 0)
    used_again = status.used_again_estimate_bytes - status.freed_by_others_estimate_bytes
    assert taken == held_now - held_before + used_again
    assert 0 in (status.used_again_estimate_bytes, status.freed_by_others_estimate_bytes)


# ---- what the memory in use is used for ----------------------------------------------------------


def used(read: Account, **also: int) -> dict[str, int]:
    return {
        cause: size // MIB for cause, size in used_estimates_bytes(read, swap=True, **also).items()
    }


def test_memory_in_use_is_told_by_why_it_stays() -> None:
    read = account(
        0,
        24,
        anon_bytes=300 * MIB,
        cached_bytes=500 * MIB,
        shmem_bytes=40 * MIB,
        dirty_bytes=10 * MIB,
        unevictable_bytes=20 * MIB,
        pinned_bytes=5 * MIB,
        reclaimable_slab_bytes=60 * MIB,
        protected_bytes=100 * MIB,
        swap_free_bytes=MIB,
    )
    assert used(read, cold_bytes=200 * MIB, dying_bytes=7 * MIB) == {
        "kernel": 140,
        "reclaimable_slab": 60,
        "mlocked": 20,
        "pinned": 5,
        "dirty": 10,
        "dying_memcgs": 7,
        "cold": 200,
        "protected": 100,
        "hot": 458,
    }


@pytest.mark.parametrize(("swap_free", "swap"), [(0, True), (MIB, False)])
def test_without_swap_tmpfs_and_anonymous_memory_stay(swap_free: int, *, swap: bool) -> None:
    read = account(
        0,
        24,
        anon_bytes=300 * MIB,
        cached_bytes=500 * MIB,
        shmem_bytes=40 * MIB,
        swap_free_bytes=swap_free,
    )
    causes = used_estimates_bytes(read, swap=swap)
    assert causes["tmpfs_without_swap"] == 40 * MIB
    assert causes["anon_without_swap"] == 300 * MIB
    assert causes["hot"] == 460 * MIB


def test_a_survey_tells_what_dead_memcgs_keep() -> None:
    survey = Surveyed((), SAMPLE, out_of_reach_pages=512)
    ledger = fed(Ledger(), (1, survey, AT_WORK))
    ledger = accounted(ledger, account(2, 24, cached_bytes=100 * MIB))
    assert told(ledger).used_estimates_bytes["dying_memcgs"] == 2 * MIB


def test_what_is_cold_is_told_as_it_was_at_the_reading() -> None:
    ledger = accounted(Ledger(), account(2, 24, cached_bytes=100 * MIB), 30 * MIB)
    assert told(ledger).used_estimates_bytes["cold"] == 30 * MIB


# ---- over time -----------------------------------------------------------------------------------


def test_what_stayed_reported_is_summed_over_time_by_the_smaller_of_two_readings() -> None:
    ledger = Ledger()
    for seconds, mib in ((0, 100), (10, 40), (20, 70), (30, None), (40, 70), (50, 70)):
        ledger = accounted(ledger, account(seconds, 0, 0, 200, reported_mib=mib))
    assert told(ledger).reported_byte_seconds_total == (40 + 40 + 70) * 10 * MIB


def test_a_total_that_varlink_does_not_hold_is_cut() -> None:
    ledger = replace(Ledger(), reported_byte_us_total=10**30)
    assert told(ledger).reported_byte_seconds_total == INT_MAX


def test_what_the_host_said_is_shown_with_what_came_back_since_it_first_did() -> None:
    ledger = told_by_host(told_by_host(Ledger(), 900 * MIB, at(1)), 400 * MIB, at(5))
    status = told(ledger)
    assert (status.host_holds_bytes, status.host_said_at_us) == (400 * MIB, at(5))
    assert status.returned_bytes == 500 * MIB
    assert told(told_by_host(ledger, 950 * MIB, at(6))).returned_bytes == 0


def test_without_the_hosts_word_nothing_is_called_returned() -> None:
    assert told(accounted(Ledger(), account(1, 0, 0, 9, reported_mib=9))).returned_bytes is None


# ---- whether reporting works ---------------------------------------------------------------------


def test_evictions_that_led_to_something_reported_are_proof() -> None:
    ledger = accounted(evicted(100), account(6, 0, 0, 200, reported_mib=1))
    assert told(ledger).reporting is True


@pytest.mark.parametrize(
    ("read", "cause"),
    [
        (account(6, 0, 0, 200, negotiated=False), "reporting_off"),
        (account(6, 0, 0, 200, enough=False), "below_watermark"),
        (account(6, 200, 0, 0), "fragmented"),
        (account(6, 0, 0, 200, order=9, usual=2), "order_too_high"),
        (account(6, 0, 0, 200), "not_told_yet"),
        (account(6, 10, 0, 10), "used_again"),
    ],
)
def test_evictions_that_led_to_nothing_are_told_with_the_cause_of_most_of_it(
    read: Account, cause: str
) -> None:
    status = told(accounted(evicted(100), read))
    assert (status.reporting, status.not_reporting_because) == (False, cause)


@pytest.mark.parametrize(
    "ledger",
    [
        accounted(evicted(15), account(6, 200)),
        accounted(evicted(100), account(3, 200)),
        accounted(evicted(100), account(6, 0, 0, 200, reported_mib=None)),
        evicted(100),
    ],
    ids=["too little", "too soon", "unreadable", "not read yet"],
)
def test_what_does_not_tell_is_no_verdict(ledger: Ledger) -> None:
    status = told(ledger, 7)
    assert (status.reporting, status.not_reporting_because) == (None, None)


@pytest.mark.parametrize(
    ("read", "cause"),
    [
        (account(6, 200, 0, 0, reported_mib=None), "fragmented"),
        (account(6, 0, 0, 200, reported_mib=None, negotiated=False), "reporting_off"),
    ],
)
def test_what_cannot_even_be_reported_tells_though_nobody_may_read_the_flags(
    read: Account, cause: str
) -> None:
    status = told(accounted(evicted(100), read))
    assert (status.reporting, status.not_reporting_because) == (False, cause)


def test_a_verdict_has_the_sums_of_the_last_hour() -> None:
    ledger = accounted(evicted(100), account(6, 0, 0, 200, reported_mib=3))
    ledger = accounted(ledger, account(7, 0, 0, 200, reported_mib=1))
    ledger = accounted(ledger, account(8, 0, 0, 200, reported_mib=8))
    judged = verdict(ledger, at(600))
    assert (judged.reporting, judged.because) == (True, None)
    assert (judged.evicted_bytes, judged.grew_bytes) == (100 * MIB, 10 * MIB)
    assert verdict(ledger, at(3607)).grew_bytes == 7 * MIB
    assert verdict(ledger, at(3607)).evicted_bytes == 0
    assert verdict(ledger, at(3609)) == Verdict(None, None, 0, 0)


def test_a_verdict_lasts_an_hour() -> None:
    ledger = accounted(evicted(100), account(6, 200))
    assert told(ledger, 3605).reporting is False
    assert told(ledger, 3607).reporting is None


def test_many_readings_in_an_hour_are_folded_and_still_count() -> None:
    ledger = accounted(evicted(100), account(6, 200))
    for number in range(500):
        ledger = accounted(ledger, account(7 + number, 200))
    assert len(ledger.proofs) <= 64
    assert told(ledger, 600).reporting is False
