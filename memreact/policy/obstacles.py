"""Why no more of a memcg is evicted, and what would have to change for it; nothing is changed here.

What stands in the way is found by the functions that decide, from the same figures. Where there are
several reasons of one kind, each is found as if those before it were gone. So doing what a change
says, to the rules, to the kernel's files or by waiting, and deciding again leaves it out.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

from msgspec import structs

from memreact.actions import Because
from memreact.events import CapabilitiesRead, Generation, Guard, Inspection, Instant
from memreact.policy import refault
from memreact.policy.generations import (
    KEPT,
    NEVER_WITHIN,
    cold_seq,
    emptied_seq,
    pages_up_to,
    periods_until_cold,
)
from memreact.policy.plan import LEAST_PAGES, forbidden, is_within, period_stall
from memreact.policy.protection import floor_bytes, overshoot_bytes, reclaimable_bytes
from memreact.policy.state import START, Memcg, State
from memreact.policy.swappiness import anon_refused, anon_room_pages
from memreact.rules import MemcgRules, Rules
from memreact.value import Struct, replace

__all__ = ["Change", "Do", "Looked", "Lower", "Obstacle", "Raise", "Set", "Wait", "obstacles"]

_PPM = 1_000_000
_PPM_PER_PERCENT = 10_000
_ALL_PAGES = 1 << 40
# As the kernel counts ages, see generations.py.
_ROUNDING_US = 50_000
_MOST_PERCENT_PER_PERIOD_PPM = 200_000
_USUAL_SWAPPINESS_MAX = 50
_MINUTE_US = 60_000_000


class Wait(Struct, frozen=True):
    """Time alone does it, if nothing else changes."""

    us: int


class Set(Struct, frozen=True):
    """A setting does it: of the memcg's rule, or with its table in the name."""

    key: str
    value: bool | int | float | str


class Lower(Struct, frozen=True):
    """What the kernel keeps for a memcg, its memory.min and memory.low, is to be this at most."""

    path: str
    to_bytes: int


class Raise(Struct, frozen=True):
    """A limit of a memcg is to be more than what it needs."""

    path: str
    file: str


class Do(Struct, frozen=True):
    """Somebody does something: "resume", "run_now", "thaw", "add_swap", "write_back", "unpin"."""

    what: str


Change = Wait | Set | Lower | Raise | Do


class Obstacle(Struct, frozen=True):
    """One thing that keeps pages from being evicted.

    Args:
        because: Why, as the policy says it.
        pages: How many stay for it, seen alone; None where that cannot be said.
        changes: What would take it away; of several each one is enough.
    """

    because: Because
    pages: int | None = None
    changes: tuple[Change, ...] = ()


class Looked(Struct, frozen=True):
    """A memcg on a node with all that is known of it now.

    Args:
        memcg: What is remembered of it.
        node: The node's number.
        generations: As old as they are now; empty where none are known.
        rules: What holds for it there.
        saw: What it looks like now; None where that could not be read.
        stall_us: Its own stall totals of now; None as above.
    """

    memcg: Memcg
    node: int
    generations: tuple[Generation, ...]
    rules: MemcgRules
    saw: Inspection | None = None
    stall_us: tuple[int, int] | None = None

    @property
    def cold_us(self) -> int:
        """How long nobody touched what is cold."""
        return self.rules.aging_count_min * self.rules.period_us


def obstacles(state: State, at: Looked, rules: Rules, now: Instant) -> Iterator[Obstacle]:
    """Give each obstacle, in the order in which they stand in the way.

    Args:
        state: As it is now.
        at: The memcg.
        rules: All that is in force.
        now: The moment.
    """
    guest = state.guest
    if guest is None or guest.idle_because is not None:
        yield Obstacle(Because("idle", {"detail": guest.idle_because or "" if guest else ""}))
        return
    yield from _standstill(state, now)
    for found in _forbidden(at, guest.own_path, now):
        yield found
        if found.because.code == "memreact_itself":
            return
    yield from _until_its_turn(state, at, now)
    if guest.evicts == "memory.reclaim":
        yield from _of_a_share(at, guest, rules)
    else:
        yield from _of_ages(state, at, guest, now)
    yield from _of_the_last_turn(state, at, rules, now)


def _standstill(state: State, now: Instant) -> Iterator[Obstacle]:
    if state.hold is not None:
        left = state.hold.until - now
        saw: dict[str, int | str] = {"by": state.hold.by, "left_us": left}
        yield Obstacle(Because("held", saw), None, (Wait(left), Do("resume")))
    if state.pause is not None:
        looks_in = max(0, state.pause.check_at - now)
        yield Obstacle(state.pause.because, None, (Wait(looks_in),))


def _forbidden(at: Looked, own_path: str, now: Instant) -> Iterator[Obstacle]:
    memcg, mine, pages = at.memcg, at.rules, sum(_may_go(at))
    while (because := forbidden(memcg, mine, own_path, now)) is not None:
        match because.code:
            case "disabled":
                yield Obstacle(because, pages, (Set("disabled", value=False),))
                mine = replace(mine, disabled=False)
            case "frozen":
                yield Obstacle(because, pages, (Do("thaw"),))
                memcg = replace(memcg, frozen=False)
            case "after_oom":
                yield Obstacle(because, pages, (Wait(memcg.away_until - now),))
                memcg = replace(memcg, away_until=START)
            case _:
                yield Obstacle(because, pages)
                return


def _until_its_turn(state: State, at: Looked, now: Instant) -> Iterator[Obstacle]:
    """What is cold waits for the turn; and at the turn it counts what was stalled since the last.

    The turn after it begins to count anew.
    """
    left = _due_in(state, at, now)
    pages = sum(_may_go(at))
    if left and pages >= LEAST_PAGES and state.turn is None:
        because = Because("next_turn", {"left_us": left})
        yield Obstacle(because, pages, (Wait(left), Do("run_now")))
    if at.stall_us is None or at.rules.disabled:
        return
    stalled = period_stall(at.memcg, at.stall_us, at.rules, Instant(now + left))
    if stalled is not None:
        anew = Wait(left + at.rules.period_us)
        yield Obstacle(stalled, pages, (*_limit("period_psi_percent_limit", stalled), anew))


def _due_in(state: State, at: Looked, now: Instant) -> int:
    return max(0, state.due.get(at.rules.period_us, now) - now)


def _limit(key: str, because: Because) -> tuple[Set, ...]:
    """The limit under which what was stalled would have stayed, if there is one."""
    stall, over = because.saw.get("stall_us"), because.saw.get("over_us")
    if not isinstance(stall, int) or not isinstance(over, int) or not over:
        return ()
    ppm = -(-stall * _PPM // over)
    return (Set(key, ppm / _PPM_PER_PERCENT),) if ppm <= _PPM else ()


def _of_a_share(at: Looked, guest: CapabilitiesRead, rules: Rules) -> Iterator[Obstacle]:
    """Nobody knows what is cold: a small share a period, and no more."""
    view, ppm = at.memcg.view, rules.reclaim_ppm_per_period
    if view is None or not at.memcg.populated or ppm >= _MOST_PERCENT_PER_PERIOD_PPM:
        return
    pages = view.current_bytes // guest.page_bytes
    because = Because("share_of_a_period", {"of_pages": pages, "share_ppm": ppm})
    more = min(2 * ppm, _MOST_PERCENT_PER_PERIOD_PPM) / _PPM_PER_PERCENT
    changes = (Set("reclaim.percent_per_period", more),)
    yield Obstacle(because, pages - pages * ppm // _PPM, changes)


def _of_ages(state: State, at: Looked, guest: CapabilitiesRead, now: Instant) -> Iterator[Obstacle]:
    if not at.generations:
        yield Obstacle(Because("no_generations"))
        return
    yield from _too_young(state, at, now)
    anon, file = _cold(at)
    if 0 < anon + file < LEAST_PAGES:
        yield Obstacle(Because("too_little_cold", {"cold_pages": anon + file}), anon + file)
    elif anon + file:
        yield from _anon_that_stays(at, anon, _due_in(state, at, now), guest.page_bytes)
        may_go = sum(_may_go(at)) or anon + file
        yield from _protected(at, may_go, guest.page_bytes)
        yield from _refaulted(state, at, may_go, now)
    if anon < LEAST_PAGES:
        yield from _anon_that_would_stay(at, guest.page_bytes)


def _seq(at: Looked) -> int | None:
    if at.memcg.populated:
        return cold_seq(at.generations, at.cold_us)
    return emptied_seq(at.generations)


def _cold(at: Looked) -> tuple[int, int]:
    """Cold anon and file pages, whether they may go or not."""
    seq = _seq(at)
    return (0, 0) if seq is None else pages_up_to(at.generations, seq)


def _may_go(at: Looked) -> tuple[int, int]:
    anon, file = _cold(at)
    return (anon if at.rules.swap and at.rules.swappiness_max else 0), file


def _too_young(state: State, at: Looked, now: Instant) -> Iterator[Obstacle]:
    """Generations that are not cold yet, the oldest first; and the youngest, which never are."""
    seq = _seq(at)
    found = at.generations
    for place, generation in enumerate(found[:-KEPT]):
        if generation.pages and (seq is None or generation.seq > seq):
            yield _ripening(state, at, place, now, first=seq is None)
            seq = generation.seq
    young = [place for place, each in enumerate(found) if each.pages][-KEPT:]
    young = [place for place in young if place >= len(found) - KEPT]
    if young:
        saw: dict[str, int | str] = {"touched_within_us": found[young[0]].age_us}
        pages = sum(found[place].pages for place in young)
        yield Obstacle(Because("in_use", saw), pages, _time_alone(state, at, young[0], now))


def _ripening(state: State, at: Looked, place: int, now: Instant, *, first: bool) -> Obstacle:
    generation, idle = at.generations[place], at.generations[place + 1].age_us
    saw: dict[str, int | str] = {"seq": generation.seq, "idle_us": idle}
    saw["cold_after_us"] = at.cold_us
    changes: tuple[Change, ...] = _time_alone(state, at, place, now)
    for wait in changes:
        if isinstance(wait, Wait):
            saw["possible_in_us"] = wait.us
    count = (idle + _ROUNDING_US) // at.rules.period_us
    if 0 < count < at.rules.aging_count_min and idle < generation.age_us:
        changes = (*changes, Set("eviction_run_aging_count_min", count))
    because = Because("nothing_cold_yet", saw) if first else Because("not_cold_yet", saw)
    return Obstacle(because, generation.pages, changes)


def _time_alone(state: State, at: Looked, place: int, now: Instant) -> tuple[Wait, ...]:
    """Until the turn at which it is cold if nobody touches it; nothing where that is far off."""
    left, mine = _due_in(state, at, now), at.rules
    then = tuple(_older(g, left) for g in at.generations)
    periods = periods_until_cold(then, place, mine.period_us, mine.aging_count_min)
    return () if periods >= NEVER_WITHIN else (Wait(left + periods * mine.period_us),)


def _older(generation: Generation, by_us: int) -> Generation:
    return structs.replace(generation, age_us=generation.age_us + by_us)


def _anon_that_stays(at: Looked, pages: int, due_in: int, page_bytes: int) -> Iterator[Obstacle]:
    """Each reason for which cold anonymous pages stay; all of them have to go."""
    if at.saw is None or pages < LEAST_PAGES:
        return
    saw = yield from _refusals(at, at.saw, "anon_stays", {"cold_pages": pages}, page_bytes)
    yield from _no_room(saw, pages, page_bytes)
    yield from _comes_back(at, pages, due_in)


def _anon_that_would_stay(at: Looked, page_bytes: int) -> Iterator[Obstacle]:
    """Each reason for which anonymous pages stay however old they get: no wait helps them."""
    pages = sum(each.anon_pages for each in at.generations)
    if at.saw is not None and pages >= LEAST_PAGES:
        yield from _refusals(at, at.saw, "anon_would_stay", {"anon_pages": pages}, page_bytes)


def _refusals(
    at: Looked, saw: Inspection, code: str, counted: dict[str, int], page_bytes: int
) -> Generator[Obstacle, None, Inspection]:
    """Each reason for which no anonymous page goes; returns what is seen without them."""
    mine, (pages,) = at.rules, counted.values()
    while (why := anon_refused(mine, saw, page_bytes)) is not None:
        because = Because(code, {"anon": why, **counted})
        match why:
            case "swap_not_asked_for":
                yield Obstacle(because, pages, (Set("swap", value=True),))
                mine = replace(mine, swap=True)
            case "swappiness_max_is_0":
                yield Obstacle(because, pages, (Set("swappiness_max", _USUAL_SWAPPINESS_MAX),))
                mine = replace(mine, swappiness_max=_USUAL_SWAPPINESS_MAX)
            case "swap_exhausted" | "swap_limit_reached" | "zram_full":
                change, saw = _widened(why, saw, page_bytes)
                yield Obstacle(because, pages, (change,))
            case _:  # how well pages compress is for nobody to change, and nothing comes behind it
                yield Obstacle(because, pages)
                break
    return saw


def _widened(why: str, saw: Inspection, page_bytes: int) -> tuple[Change, Inspection]:
    """The change that gives anonymous pages more room, and what is so then."""
    if why == "zram_full":
        return Do("let_zram_take_more"), structs.replace(saw, zram_left_bytes=None)
    free, limit = _ALL_PAGES * page_bytes, saw.swap_limit_path
    wide = structs.replace(saw, swap_free_bytes=free, swap_limit_path=None)
    return (Do("add_swap") if limit is None else Raise(limit, "memory.swap.max")), wide


def _no_room(saw: Inspection, pages: int, page_bytes: int) -> Iterator[Obstacle]:
    """Swap has room for some of it: what is left over stays, and each limit has to go."""
    while (room := anon_room_pages(saw, page_bytes)) < pages:
        left = saw.zram_left_bytes
        why = "swap_exhausted" if saw.swap_limit_path is None else "swap_limit_reached"
        why = "zram_full" if left is not None and left <= saw.swap_free_bytes else why
        because = Because("anon_stays", {"anon": why, "cold_pages": pages})
        change, saw = _widened(why, saw, page_bytes)
        yield Obstacle(because, pages - room, (change,))


def _comes_back(at: Looked, pages: int, due_in: int) -> Iterator[Obstacle]:
    """So much came back from swap that no more went there; the next turn judges anew."""
    back = at.memcg.promotion.last
    if back is None or not back.over_limit:
        return
    because = Because("anon_stays", {"anon": "promotions_over_limit", **back.figures()})
    changes: tuple[Change, ...] = (Wait(due_in),)
    if back.workingset_pages:
        over_us = max(back.over_us, _MINUTE_US) * back.workingset_pages
        ppm = -(-back.pages * _PPM * _MINUTE_US // over_us)
        if ppm <= _PPM:
            limit = Set("swap.max_promotion_percent_per_min", ppm / _PPM_PER_PERCENT)
            changes = (limit, *changes)
    yield Obstacle(because, pages, changes)


def _protected(at: Looked, pages: int, page_bytes: int) -> Iterator[Obstacle]:
    """Each of those that keep some of what is cold, the one that keeps most first."""
    mine, saw = at.rules, at.saw
    if saw is None:
        return
    anon, wanted = bool(mine.swap), pages * page_bytes
    overshoot = overshoot_bytes(saw, page_bytes, anon=anon)
    for _ in range(len(saw.guards) + 2):  # the two floors are of the settings
        spare, guard = reclaimable_bytes(saw, mine, page_bytes, anon=anon)
        if spare is None or guard is None or spare >= wanted:
            return
        figures: dict[str, int | str] = {"guard": guard.path, "current_bytes": guard.current_bytes}
        because = Because("protected", {**figures, "protected_bytes": guard.protected_bytes})
        keep = max(0, guard.current_bytes - overshoot - wanted)
        change, mine, saw = _without(guard, keep, mine, saw)
        yield Obstacle(because, (wanted - spare) // page_bytes, (change,))


def _without(
    guard: Guard, keep: int, mine: MemcgRules, saw: Inspection
) -> tuple[Change, MemcgRules, Inspection]:
    """The change that lets a guard keep only so much, and what is so then."""
    own, limit = guard.path == saw.path, saw.limit_bytes
    if own and guard.protected_bytes == mine.floor_bytes:
        return Set("floor_bytes", keep), replace(mine, floor_bytes=keep), saw
    if own and limit and guard.protected_bytes == floor_bytes(mine, limit):
        ppm = keep * _PPM // limit
        return Set("floor_percent", ppm / _PPM_PER_PERCENT), replace(mine, floor_ppm=ppm), saw
    guards = tuple(
        structs.replace(each, protected_bytes=keep) if each.path == guard.path else each
        for each in saw.guards
    )
    return Lower(guard.path, keep), mine, structs.replace(saw, guards=guards)


def _refaulted(state: State, at: Looked, pages: int, now: Instant) -> Iterator[Obstacle]:
    """Less may go than is cold, for what went before came back; each quiet turn doubles it."""
    saw, mine, path = at.saw, at.rules, at.memcg.path
    if saw is None or any(known != path and is_within(known, path) for known in state.memcgs):
        return
    appetite = refault.learn(at.memcg.appetite, saw.refault_total_pages, mine.period_us // 2, now)
    allowed = refault.allowance_pages(appetite, pages)
    if allowed < pages:
        because = Because("refaults", {"cold_pages": pages, "halvings": appetite.halvings})
        wait = _due_in(state, at, now) + appetite.halvings * mine.period_us
        yield Obstacle(because, pages - allowed, (Wait(wait),))


def _of_the_last_turn(state: State, at: Looked, rules: Rules, now: Instant) -> Iterator[Obstacle]:
    """Why its last eviction ended before all was gone, where only the eviction could find out."""
    last = at.memcg.last
    if last is None or last.verdict != "end" or last.node != at.node:
        return
    because, path = last.because, at.memcg.path
    left = because.saw.get("left_pages")
    pages = left if isinstance(left, int) else None
    again = Wait(_due_in(state, at, now))
    match because.code:
        case "stall_over_limit" | "not_quiet_yet":
            quiet = () if rules.resume_quiet else (Set("pressure.resume", "quiet"),)
            limit = _limit("eviction_psi_percent_limit", because)
            yield Obstacle(because, pages, (*limit, *quiet, again))
        case "guest_stall_over_limit":
            limit = _limit("pressure.system_psi_percent_limit", because)
            yield Obstacle(because, pages, (*limit, again))
        case "limit_hit":
            where = because.saw.get("path")
            hit = where if isinstance(where, str) else path
            yield Obstacle(because, pages, (Raise(hit, "memory.high"), again))
        case "no_progress_dirty":
            yield Obstacle(because, pages, (Do("write_back"),))
        case "no_progress_pinned":
            yield Obstacle(because, pages, (Do("unpin"),))
        case "no_progress_in_use" | "refused" | "pressure_unreadable" | "out_of_time":
            yield Obstacle(because, pages, (again,))
