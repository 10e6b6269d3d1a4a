"""The ledger: what evictions took, what the host was told of it, and why no more.

    taken - what zram took = grown reported + grown free, by cause + used again - freed by others

Two things come in: readings of one memcg before and after each write (`observed`), and readings of
the whole memory (`accounted`), one after a run and one whenever somebody asks. What the memory in
use is used for are estimates: a page that is both dirty and protected counts once, by the first of
the causes that it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from memreact.account import Account, ZoneAccount
from memreact.events import (
    BatchEnded,
    CompactionEnded,
    Event,
    Inspected,
    Inspection,
    Instant,
    Surveyed,
)
from memreact.policy.protection import overshoot_bytes
from memreact.policy.state import State
from memreact.telemetry.decisions import INT_MAX
from memreact.value import Struct, field, replace
from memreact_schemas.status import LedgerRun, LedgerStatus, LedgerTally

__all__ = [
    "PASS_US",
    "Host",
    "Ledger",
    "Proof",
    "Run",
    "Tally",
    "Verdict",
    "accounted",
    "failed",
    "free_held_bytes",
    "ledger_status",
    "observed",
    "reading_due",
    "reportable_bytes",
    "settles_us",
    "tally_status",
    "told_by_host",
    "used_estimates_bytes",
    "verdict",
]

_US_PER_SEC = 1_000_000
_HOUR_US = 3600 * _US_PER_SEC
_PROOFS_MAX = 64
_JUDGED_BYTES = 16 << 20
"""Less than this evicted in an hour tells nothing: it may lie in pieces, or be in use again."""

# mm/page_reporting.c: a pass begins 2 s after a block was freed, and takes at least 32 blocks of
# each list; seen are 256 MiB in each.
PASS_US = 2 * _US_PER_SEC
PASS_BYTES = 256 << 20
_SETTLES_US_MAX = 60 * _US_PER_SEC


class Tally(Struct, frozen=True):
    """Bytes that evictions took, what zram took for that, and what compactions moved."""

    file_bytes: int = 0
    anon_bytes: int = 0
    zram_bytes: int = 0
    migrated_bytes: int = 0

    @property
    def net_bytes(self) -> int:
        """What that gave."""
        return max(0, self.file_bytes + self.anon_bytes - self.zram_bytes)

    def minus(self, other: Tally) -> Tally:
        """What is in this one and not in an earlier one."""
        return Tally(
            self.file_bytes - other.file_bytes,
            self.anon_bytes - other.anon_bytes,
            self.zram_bytes - other.zram_bytes,
            self.migrated_bytes - other.migrated_bytes,
        )

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(
            self.file_bytes + other.file_bytes,
            self.anon_bytes + other.anon_bytes,
            self.zram_bytes + other.zram_bytes,
            self.migrated_bytes + other.migrated_bytes,
        )


class Run(Struct, frozen=True):
    """A run of evictions and the compactions after it, and what it led to.

    Args:
        began_at: Its begin.
        before: The last reading before it.
        ended_at: Its end.
        tally: What it took.
        read_at: When the reading after it was.
        reportable_grew_bytes: The difference of the two.
        reported_grew_bytes: The same; None where that cannot be read.
    """

    began_at: Instant
    before: Account | None = None
    ended_at: Instant | None = None
    tally: Tally = field(default_factory=Tally)
    read_at: Instant | None = None
    reportable_grew_bytes: int | None = None
    reported_grew_bytes: int | None = None


class Proof(Struct, frozen=True):
    """What was evicted before a reading, and by how much more was reported and reportable then."""

    at: Instant
    evicted_bytes: int
    grew_bytes: int
    reportable_grew_bytes: int


class Verdict(Struct, frozen=True):
    """Whether the evictions of the last hour led to something that the host was told.

    Args:
        reporting: False where they did not; None where it cannot be told.
        because: The cause of most of it, where they did not.
        evicted_bytes: What they took, until the last reading.
        grew_bytes: By how much more was reported then; what readings saw shrink is not taken off.
    """

    reporting: bool | None
    because: str | None
    evicted_bytes: int
    grew_bytes: int


class Host(Struct, frozen=True):
    """What the host holds of this guest: when it first said so, and when it did last."""

    first_bytes: int
    held_bytes: int
    at: Instant


class Ledger(Struct, frozen=True):
    """All that is remembered.

    Args:
        seen: The memcg at work, as it was read last.
        since_start: What was taken.
        evicted_at: When something was, last.
        run: The one under way.
        last_run: The last one that took something.
        unread: What was taken since the last reading of the whole.
        first: The first such reading.
        last: The last one.
        taken_at_first: What had been taken by then.
        taken_at_last: The same.
        reported_byte_us_total: What stayed reported from one reading to the next.
        proofs: Of the last hour.
        host: What the host said.
        dying_bytes: Of memcgs that were removed and that nobody can be asked to evict.
        cold_bytes: What was cold at the last reading.
        problem: Why the last reading failed.
    """

    seen: Inspection | None = None
    since_start: Tally = field(default_factory=Tally)
    evicted_at: Instant | None = None
    run: Run | None = None
    last_run: Run | None = None
    unread: Tally = field(default_factory=Tally)
    first: Account | None = None
    last: Account | None = None
    taken_at_first: Tally = field(default_factory=Tally)
    taken_at_last: Tally = field(default_factory=Tally)
    reported_byte_us_total: int = 0
    proofs: tuple[Proof, ...] = ()
    host: Host | None = None
    dying_bytes: int = 0
    cold_bytes: int = 0
    problem: str | None = None


# ---- what comes in -------------------------------------------------------------------------------


def observed(ledger: Ledger, event: Event, state: State, now: Instant) -> Ledger:
    """Take in an event, and the state after it.

    Args:
        ledger: So far.
        event: What happened.
        state: What the policy made of it.
        now: When.
    """
    page_bytes = state.guest.page_bytes if state.guest else 0
    match event:
        case Surveyed():
            ledger = replace(ledger, dying_bytes=event.out_of_reach_pages * page_bytes)
        case Inspected():
            ledger = replace(ledger, seen=event.inspection)
        case BatchEnded():
            ledger = _after_batch(ledger, event, page_bytes, now)
        case CompactionEnded():
            ledger = _after_compaction(ledger, event, page_bytes, now)
        case _:
            pass
    return _run_of(ledger, state, now)


def _after_batch(ledger: Ledger, event: BatchEnded, page_bytes: int, now: Instant) -> Ledger:
    before, after = ledger.seen, event.after
    ledger = replace(ledger, seen=after)
    if before is None or after is None or before.path != after.path:
        return ledger
    taken = _taken(before, after, event.asked_pages, page_bytes)
    if taken == Tally():
        return ledger
    run = ledger.run or Run(now, ledger.last)
    return replace(
        ledger,
        since_start=ledger.since_start.plus(taken),
        unread=ledger.unread.plus(taken),
        evicted_at=now,
        run=replace(run, tally=run.tally.plus(taken)),
    )


def _after_compaction(
    ledger: Ledger, event: CompactionEnded, page_bytes: int, now: Instant
) -> Ledger:
    """What was moved belongs to the run under way, to that before it, or makes one of its own."""
    moved = Tally(migrated_bytes=event.migrated_pages * page_bytes)
    if moved == Tally():
        return ledger
    ledger = replace(ledger, since_start=ledger.since_start.plus(moved))
    if ledger.run is not None:
        return replace(ledger, run=replace(ledger.run, tally=ledger.run.tally.plus(moved)))
    run = ledger.last_run
    if run is None or run.read_at is not None:
        run = Run(Instant(now - event.took_us), ledger.last)
    return replace(ledger, last_run=replace(run, ended_at=now, tally=run.tally.plus(moved)))


def _taken(before: Inspection, after: Inspection, asked_pages: int, page_bytes: int) -> Tally:
    """What a write took; of both kinds it is told apart by what memory.stat lost of either."""
    most = asked_pages * page_bytes + overshoot_bytes(before, page_bytes)
    pages = max(0, after.evicted_total_pages - before.evicted_total_pages)
    got = min(most, pages * page_bytes)
    anon_lost = max(0, before.swappable_bytes - after.swappable_bytes)
    file_lost = max(0, before.droppable_bytes - after.droppable_bytes)
    lost = anon_lost + file_lost
    anon = got * anon_lost // lost if lost else 0
    zram = max(0, after.zram_used_bytes - before.zram_used_bytes) if anon else 0
    return Tally(got - anon, anon, min(zram, anon))


def _run_of(ledger: Ledger, state: State, now: Instant) -> Ledger:
    run = ledger.run
    if state.turn is not None:
        begun = Run(state.turn.started_at, ledger.last)
        return ledger if run is not None else replace(ledger, run=begun)
    if run is None:
        return ledger
    if run.tally == Tally():
        return replace(ledger, run=None)
    return replace(ledger, run=None, last_run=replace(run, ended_at=now))


def accounted(ledger: Ledger, account: Account, cold_bytes: int = 0) -> Ledger:
    """Take in a reading of the whole memory.

    Args:
        ledger: So far.
        account: The reading.
        cold_bytes: What is cold by the settings at that moment, and will go in its turn.
    """
    last = ledger.last
    fresh = replace(
        ledger,
        last=account,
        taken_at_last=ledger.since_start,
        cold_bytes=cold_bytes,
        last_run=_read_after(ledger.last_run, account),
        problem=None,
    )
    if last is None:
        return replace(fresh, first=account, taken_at_first=ledger.since_start, unread=Tally())
    grew = _grew(last.reported_bytes, account.reported_bytes)
    reportable_grew = reportable_bytes(account) - reportable_bytes(last)
    proof = Proof(account.at, ledger.unread.net_bytes, max(0, grew or 0), max(0, reportable_grew))
    recent = [each for each in ledger.proofs if account.at - each.at <= _HOUR_US]
    return replace(
        fresh,
        unread=Tally(),
        reported_byte_us_total=ledger.reported_byte_us_total + _stayed(last, account),
        proofs=_bounded([*recent, proof]),
    )


def failed(ledger: Ledger, why: str) -> Ledger:
    """Remember why a reading failed; the last good one stands."""
    return replace(ledger, problem=why)


def _grew(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _stayed(last: Account, account: Account) -> int:
    """What was reported at both ends was so in between, or was told again: the smaller counts."""
    if last.reported_bytes is None or account.reported_bytes is None:
        return 0
    return min(last.reported_bytes, account.reported_bytes) * max(0, account.at - last.at)


def _bounded(proofs: list[Proof]) -> tuple[Proof, ...]:
    """Fold the oldest two together where there are too many."""
    if len(proofs) > _PROOFS_MAX:
        one, other, *rest = proofs
        proofs = [_together(one, other), *rest]
    return tuple(proofs)


def _together(one: Proof, other: Proof) -> Proof:
    return Proof(
        other.at,
        one.evicted_bytes + other.evicted_bytes,
        one.grew_bytes + other.grew_bytes,
        one.reportable_grew_bytes + other.reportable_grew_bytes,
    )


def _read_after(run: Run | None, account: Account) -> Run | None:
    """The last run with what it led to, until the kernel has had its time."""
    if run is None or run.ended_at is None or account.at < run.ended_at:
        return run
    if run.read_at is not None and run.read_at >= _settled_at(run):
        return run
    before, reported = run.before, account.reported_bytes
    if before is None:
        return replace(run, read_at=account.at)
    return replace(
        run,
        read_at=account.at,
        reportable_grew_bytes=reportable_bytes(account) - reportable_bytes(before),
        reported_grew_bytes=_grew(before.reported_bytes, reported),
    )


def told_by_host(ledger: Ledger, held_bytes: int, now: Instant) -> Ledger:
    """Take in what the host says that it holds."""
    first = held_bytes if ledger.host is None else ledger.host.first_bytes
    return replace(ledger, host=Host(first, held_bytes, now))


# ---- when to read --------------------------------------------------------------------------------


def reading_due(ledger: Ledger) -> Instant | None:
    """When the whole is to be read for the run that ended, once; None where that is done."""
    run = ledger.last_run
    if run is None or run.ended_at is None:
        return None
    due = _settled_at(run)
    return None if run.read_at is not None and run.read_at >= due else due


def _settled_at(run: Run) -> Instant:
    """By then the kernel has had the time to tell the host of what this run freed."""
    return Instant((run.ended_at or run.began_at) + settles_us(run.tally))


def settles_us(tally: Tally) -> int:
    """How long the kernel takes, as far as is known, to tell the host of what was freed."""
    passes = 2 + tally.net_bytes // PASS_BYTES
    return min(passes * PASS_US, _SETTLES_US_MAX)


# ---- why no more ---------------------------------------------------------------------------------


def reportable_bytes(account: Account) -> int:
    """Free in blocks of the reporting order, in zones that the kernel reports from."""
    if not _reports(account):
        return 0
    return sum(_large(account, zone) for zone in account.zones if zone.enough_free)


def _reports(account: Account) -> bool:
    return account.negotiated and account.order is not None and account.order >= 0


def _large(account: Account, zone: ZoneAccount) -> int:
    return sum(zone.free_by_order[account.order or 0 :])


def free_held_bytes(account: Account) -> dict[str, int]:
    """Free memory that the host was not told of, by cause; all of it."""
    if not _reports(account):
        return _some({"reporting_off": account.free_bytes})
    causes = dict.fromkeys(_FREE_CAUSES, 0)
    for zone in account.zones:
        for cause, size in _held_in(account, zone):
            causes[cause] += size
    return _some(causes)


_FREE_CAUSES = ("fragmented", "order_too_high", "below_watermark", "not_told_yet")


def _held_in(account: Account, zone: ZoneAccount) -> Iterable[tuple[str, int]]:
    order = account.order or 0
    usual = account.usual_order
    if usual is None or usual > order:
        usual = order
    if usual == order and order >= len(zone.free_by_order):
        yield "order_too_high", zone.free_bytes
        return
    yield "fragmented", sum(zone.free_by_order[:usual])
    yield "order_too_high", sum(zone.free_by_order[usual:order])
    # Where nobody may read the flags, none of it counts as told.
    untold = _large(account, zone) - (zone.reported_bytes or 0)
    yield ("not_told_yet" if zone.enough_free else "below_watermark"), max(0, untold)


def used_estimates_bytes(
    account: Account, *, cold_bytes: int = 0, dying_bytes: int = 0, swap: bool = True
) -> dict[str, int]:
    """Memory in use, by the first cause that it has; all of it.

    Args:
        account: The reading.
        cold_bytes: What is cold by the settings and will go in its turn.
        dying_bytes: Of memcgs that were removed.
        swap: Anonymous and shared memory may go by the settings.
    """
    left = max(0, account.total_bytes - account.free_bytes)
    slab = min(left, account.reclaimable_slab_bytes)
    pages = min(left - slab, account.anon_bytes + account.cached_bytes)
    may_swap = swap and account.swap_free_bytes > 0
    claims = {
        "mlocked": account.unevictable_bytes,
        "pinned": account.pinned_bytes,
        "tmpfs_without_swap": 0 if may_swap else account.shmem_bytes,
        "anon_without_swap": 0 if may_swap else account.anon_bytes,
        "dirty": account.dirty_bytes,
        "dying_memcgs": dying_bytes,
        "cold": cold_bytes,
        "protected": account.protected_bytes,
        "hot": pages,
    }
    causes = {"kernel": left - slab - pages, "reclaimable_slab": slab}
    for cause, size in claims.items():
        causes[cause] = min(pages, size)
        pages -= causes[cause]
    return _some(causes)


def _some(causes: Mapping[str, int]) -> dict[str, int]:
    return {cause: size for cause, size in causes.items() if size}


def verdict(ledger: Ledger, now: Instant) -> Verdict:
    """Judge the readings of the last hour.

    Args:
        ledger: As it is.
        now: The moment.
    """
    recent = [proof for proof in ledger.proofs if now - proof.at <= _HOUR_US]
    evicted = sum(proof.evicted_bytes for proof in recent)
    grew = sum(proof.grew_bytes for proof in recent)
    if grew:
        return Verdict(reporting=True, because=None, evicted_bytes=evicted, grew_bytes=grew)
    untold = evicted < _JUDGED_BYTES or reading_due(ledger) is not None
    if untold or ledger.last is None or _may_be_reported_unseen(ledger.last, recent):
        return Verdict(reporting=None, because=None, evicted_bytes=evicted, grew_bytes=0)
    because = _why_not(ledger.last, evicted)
    return Verdict(reporting=False, because=because, evicted_bytes=evicted, grew_bytes=0)


def _may_be_reported_unseen(account: Account, recent: Iterable[Proof]) -> bool:
    """Where the flags cannot be read, only what cannot even be reported tells something."""
    unseen = account.reported_bytes is None and _reports(account)
    return unseen and any(proof.reportable_grew_bytes for proof in recent)


def _why_not(account: Account, evicted_bytes: int) -> str:
    """The cause of most of what was evicted in that hour: still free, or in use again."""
    held = free_held_bytes(account)
    cause, size = max(held.items(), key=lambda each: each[1], default=("", 0))
    return cause if cause and size >= evicted_bytes // 2 else "used_again"


# ---- what is told --------------------------------------------------------------------------------


def ledger_status(ledger: Ledger, now: Instant, *, swap: bool = True) -> LedgerStatus:
    """Tell all of it.

    Args:
        ledger: As it is.
        now: The moment.
        swap: Anonymous and shared memory may go by the settings.
    """
    account, host = ledger.last, ledger.host
    judged = verdict(ledger, now)
    again = _used_again(ledger)
    used: dict[str, int] = {}
    if account is not None:
        cold, dying = ledger.cold_bytes, ledger.dying_bytes
        used = used_estimates_bytes(account, cold_bytes=cold, dying_bytes=dying, swap=swap)
    return LedgerStatus(
        read_at_us=account.at if account else None,
        problem=ledger.problem,
        total_bytes=account.total_bytes if account else None,
        free_bytes=account.free_bytes if account else None,
        reportable_bytes=reportable_bytes(account) if account else None,
        reported_bytes=account.reported_bytes if account else None,
        reported_byte_seconds_total=min(ledger.reported_byte_us_total // _US_PER_SEC, INT_MAX),
        since_start=tally_status(ledger.since_start),
        run=_run(ledger.last_run),
        free_held_bytes=free_held_bytes(account) if account else {},
        used_estimates_bytes=used,
        used_again_estimate_bytes=max(0, again),
        freed_by_others_estimate_bytes=max(0, -again),
        host_holds_bytes=host.held_bytes if host else None,
        host_said_at_us=host.at if host else None,
        returned_bytes=max(0, host.first_bytes - host.held_bytes) if host else None,
        reporting=judged.reporting,
        not_reporting_because=judged.because,
    )


def _used_again(ledger: Ledger) -> int:
    """What of that which was evicted between the first and the last reading is not free any more.

    Negative where more became free than was evicted.
    """
    first, last = ledger.first, ledger.last
    if first is None or last is None:
        return 0
    evicted = ledger.taken_at_last.net_bytes - ledger.taken_at_first.net_bytes
    return evicted - (last.free_bytes - first.free_bytes)


def tally_status(tally: Tally) -> LedgerTally:
    """Tell of what was taken."""
    return LedgerTally(
        evicted_file_bytes=tally.file_bytes,
        evicted_anon_bytes=tally.anon_bytes,
        zram_taken_bytes=tally.zram_bytes,
        migrated_bytes=tally.migrated_bytes,
    )


def _run(run: Run | None) -> LedgerRun | None:
    if run is None or run.ended_at is None:
        return None
    return LedgerRun(
        began_at_us=run.began_at,
        ended_at_us=run.ended_at,
        tally=tally_status(run.tally),
        reportable_grew_bytes=run.reportable_grew_bytes,
        reported_grew_bytes=run.reported_grew_bytes,
    )
