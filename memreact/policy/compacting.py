"""Compactions: look at free memory, gather it node by node where that pays, see what it brought.

A compaction is a turn of its own, so that it and an eviction never run at the same time, and what
pauses, holds and stops the one does so to the other. A node is the smallest piece: its child can be
killed, but what it has moved has moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from memreact.actions import (
    Because,
    Compact,
    Decision,
    Disarm,
    ReadFragmentation,
    ReadPressure,
)
from memreact.events import CompactionEnded, Fragmentation, Instant
from memreact.policy import gain, settling, threshold
from memreact.policy.eviction import WRITE_ENDS_US
from memreact.policy.gain import NodeHope
from memreact.policy.pressure import BURST_WINDOW_US, guest_stall_between, over, readable
from memreact.policy.squeeze import after_look, short_pages
from memreact.policy.state import (
    Baseline,
    CompactCounters,
    Compacting,
    Compaction,
    State,
    Step,
    Turn,
    nothing,
    sampled,
    with_turn,
)
from memreact.policy.yielding import arm_guest, break_off, ending, window_us, yield_to_pressure
from memreact.rules import CompactRules, Rules
from memreact.value import replace

__all__ = ["ended", "go_on", "look", "look_again", "overdue", "seen"]

# A node that is broken off so often by stalls below the limit is left to the next period.
_MOST_TRIES = 4


def look(state: State, rules: Rules, now: Instant, *, squeezes: bool = False) -> Step:
    """Begin with a look at free memory, as nothing else is under way.

    Args:
        state: What was remembered.
        rules: What is in force.
        now: The moment.
        squeezes: It is a piece of the squeeze, which forgets no stall in between.
    """
    counters = state.compact.counters
    counters = replace(counters, checks=counters.checks + 1)
    samples = state.samples if squeezes else ()
    state = replace(state, samples=samples, compact=replace(state.compact, counters=counters))
    turn = Turn(now, frozenset(), squeezes=squeezes, compaction=Compaction())
    return _read(state, turn, rules, with_movable=False)


def _read(state: State, turn: Turn, rules: Rules, *, with_movable: bool) -> Step:
    reading = ReadFragmentation(_order(rules), with_movable, _lets_go(state, turn, rules))
    return Step(with_turn(state, replace(turn, doing=reading)), (reading,))


def _lets_go(state: State, turn: Turn, rules: Rules) -> bool:
    """Whether CPUs let go of free pages first: not by Kata's rule, nor for a squeeze's first look.

    That one may come each second, as long as somebody holds the guest below a target.
    """
    if turn.squeezes and state.squeeze is not None:
        return state.squeeze.stage != "look"
    return rules.compact.by_gain


def _order(rules: Rules) -> int | Literal["auto"]:
    return "auto" if rules.compact.order is None else rules.compact.order


def look_again(state: State, turn: Turn, because: str) -> Step:
    """The ground moved, or the rules: what runs ends now, and free memory is looked at anew."""
    again = because != "clock_disturbed"  # clones of one guest would all do so at once
    return break_off(with_turn(state, ending(turn, Because(because), again=again)))


def go_on(
    state: State, turn: Turn, compaction: Compaction, rules: Rules, now: Instant
) -> Step | None:
    """The next thing of a compaction while nothing of it is under way; None while it waits."""
    if state.stopping:
        return _end(state, turn, Because("stopping"), rules, now)
    if state.pause is not None:
        return None
    if compaction.ends is not None:
        return _end(state, turn, compaction.ends, rules, now)
    if now < turn.hold_until:
        return None
    if turn.look:
        waits = replace(turn, look=False, hold_until=Instant(now + window_us(state, rules)))
        return Step(with_turn(state, waits), (ReadPressure(),))
    if compaction.stage == "look":
        return _read(state, turn, rules, with_movable=True)
    if compaction.nodes and not compaction.late:
        return _compact(state, turn, compaction, rules, now)
    return _measure(state, turn, compaction, rules, now)


def _compact(state: State, turn: Turn, compaction: Compaction, rules: Rules, now: Instant) -> Step:
    """The next node, with the guest's triggers armed before its child starts."""
    if now >= compaction.ends_by:
        return Step(with_turn(state, replace(turn, compaction=replace(compaction, late=True))))
    turn, arm = arm_guest(state, turn, rules)
    order, by_gain = _order(rules), rules.compact.by_gain
    write = Compact(
        compaction.nodes[0],
        compaction.ends_by,
        order,
        with_movable=not by_gain,
        let_go=_lets_go(state, turn, rules),
    )
    compaction = replace(compaction, breaks_at=compaction.ends_by)
    turn = replace(turn, compaction=compaction, doing=write, worked=True)
    return Step(with_turn(state, turn), (*arm, write))


def overdue(state: State, now: Instant) -> Step:
    """A node that takes too long is broken off, again and again until it ends."""
    turn = state.turn
    if turn is None or turn.compaction is None or not isinstance(turn.doing, Compact):
        return nothing(state)
    if now < turn.compaction.breaks_at:
        return nothing(state)
    later = replace(turn.compaction, breaks_at=Instant(now + WRITE_ENDS_US))
    return break_off(with_turn(state, replace(turn, compaction=later)))


# Looking


def seen(state: State, event: Fragmentation, rules: Rules, now: Instant) -> Step:
    """Take in how free memory lies: before a compaction, or after it."""
    turn = state.turn
    if turn is None or turn.compaction is None or not isinstance(turn.doing, ReadFragmentation):
        return nothing(state)
    compaction, reading = turn.compaction, turn.doing
    state = sampled(state, event.pressure, window_us(state, rules))
    state = with_turn(state, replace(turn, doing=None))
    if compaction.ends is not None or state.pause is not None:
        return nothing(state)
    if compaction.stage == "measure":
        return _with(state, replace(compaction, after=event))
    first = compaction.before is None
    if turn.squeezes and state.squeeze is not None and state.squeeze.stage == "look":
        return _with(state, replace(compaction, before=event, ends=Because("looked")))
    why_not = _why_not(state, event, rules) if first else None
    if first:
        checked = event.pressure if readable(event.pressure) else None
        state = replace(state, compact=replace(state.compact, checked=checked))
    if event.failed is not None:
        why_not = why_not or Because("reading_failed", {"detail": event.failed})
    if why_not is not None:
        return _with(state, replace(compaction, ends=why_not))
    state = replace(state, compact=_at_order(state.compact, event.order))
    compaction = replace(compaction, before=event)
    return _judged(state, compaction, rules, now, with_movable=reading.with_movable)


def _with(state: State, compaction: Compaction) -> Step:
    turn = state.turn
    return Step(state if turn is None else with_turn(state, replace(turn, compaction=compaction)))


def _why_not(state: State, event: Fragmentation, rules: Rules) -> Because | None:
    """Why this check is skipped; the first one only sets what the next compares with."""
    checked, mine = state.compact.checked, rules.compact
    if not readable(event.pressure):
        return Because("pressure_unreadable")
    if mine.longest_us <= 0:
        return Because("no_time")
    if checked is None:
        return None
    stall_us, over_us = guest_stall_between(checked, event.pressure)
    if not over((stall_us, over_us), mine.period_limit_ppm):
        return None
    saw: dict[str, int | str] = {"stall_us": stall_us, "over_us": over_us}
    return Because("period_stall_over_limit", {**saw, "limit_ppm": mine.period_limit_ppm})


def _at_order(known: Compacting, order: int) -> Compacting:
    """What is known at this order: at another one everything is another thing."""
    if known.order == order:
        return known
    return replace(known, order=order, base=Baseline(), zones={}, moved_permille={})


def _judged(
    state: State, compaction: Compaction, rules: Rules, now: Instant, *, with_movable: bool
) -> Step:
    event = compaction.before
    if event is None:
        return nothing(state)
    hopes = gain.hopes(event, state.compact, now)
    longest_us = rules.compact.longest_us
    if state.turn is not None and state.turn.squeezes:
        chosen, because = _for_squeeze(state, event, hopes)
        if state.squeeze is not None:
            longest_us = min(longest_us, state.squeeze.deadline - now)
    elif rules.compact.by_gain:
        chosen, because = _by_gain(state, event, hopes)
        state, waits = _settled(state, chosen, event.page_bytes, rules, now)
        chosen, because = (chosen, because) if waits is None else ((), waits)
    else:
        runs = _by_threshold(state.compact, event, rules.compact, with_movable=with_movable)
        if runs is None:
            return _with(state, compaction)
        chosen, because = (hopes if runs[0] else ()), runs[1]
    if not chosen:
        return _with(state, replace(compaction, ends=because))
    return _begun(state, compaction, chosen, because, longest_us=longest_us, now=now)


def _by_gain(
    state: State, event: Fragmentation, hopes: tuple[NodeHope, ...]
) -> tuple[tuple[NodeHope, ...], Because]:
    """The nodes of which more becomes reportable than it costs, and the figures."""
    if state.guest is not None and not state.guest.reports:
        return (), Because("nobody_is_told")
    if all(event.order >= len(zone.free_by_order) for zone in event.zones):
        return (), Because("order_too_high", {"order": event.order})
    pay = tuple(hope for hope in hopes if hope.pays)
    told = pay or hopes[:1]
    saw: dict[str, int | str] = {"expected_bytes": sum(hope.expected_bytes for hope in told)}
    saw["cost_bytes"] = sum(hope.cost_bytes for hope in told)
    if not pay and not any(zone.free_pages > zone.headroom_pages for zone in event.zones):
        return (), Because("below_watermark", saw)
    return pay, Because("gain" if pay else "too_little_to_gain", saw)


def _settled(
    state: State, pay: tuple[NodeHope, ...], page_bytes: int, rules: Rules, now: Instant
) -> tuple[State, Because | None]:
    """Why what pays waits, in the state that knows since when it does; None where it begins."""
    known = state.compact
    settles_us = settling.settles_us(rules)
    if not pay:
        return replace(state, compact=replace(known, settling=None)), None
    expected_bytes = sum(hope.expected_bytes for hope in pay)
    evicted = settling.by_eviction(known.evicted_pages * page_bytes, expected_bytes)
    if known.asked or evicted or not settles_us:
        waits = settling.settled(expected_bytes, settles_us, now)
    else:
        waits = settling.waited(known.settling, expected_bytes, now)
    # It is kept until a compaction has come to its end: one that is broken off waits no more.
    state = replace(state, compact=replace(known, settling=waits))
    until = settling.settled_at(waits, settles_us)
    saw: dict[str, int | str] = {"expected_bytes": expected_bytes, "left_us": until - now}
    return state, None if now >= until else Because("settling", saw)


def _for_squeeze(
    state: State, event: Fragmentation, hopes: tuple[NodeHope, ...]
) -> tuple[tuple[NodeHope, ...], Because]:
    """The fewest nodes that should make reportable what is missing, of those that pay."""
    if state.compact.due is None:
        return (), Because("disabled")
    pay, because = _by_gain(state, event, hopes)
    short = None if state.squeeze is None else short_pages(state.squeeze, event)
    if short is None:
        return pay, because
    chosen: list[NodeHope] = []
    for hope in pay:
        if short > 0:
            chosen.append(hope)
            short -= hope.expected_bytes // event.page_bytes
    return tuple(chosen), because if chosen or not pay else Because("enough")


def _by_threshold(
    known: Compacting, event: Fragmentation, rules: CompactRules, *, with_movable: bool
) -> tuple[bool, Because] | None:
    """Whether it is time, and why; None where that needs the movable pages, which nobody read."""
    found = threshold.forced(rules, known.skips) or threshold.fallen(rules, event, known.base)
    if found is not None:
        return True, found
    return threshold.grown(rules, event, known.base) if with_movable else None


def _begun(  # noqa: PLR0913  # what, where, why, and until when
    state: State,
    compaction: Compaction,
    chosen: tuple[NodeHope, ...],
    because: Because,
    *,
    longest_us: int,
    now: Instant,
) -> Step:
    nodes = tuple(hope.node for hope in chosen)
    compaction = replace(
        compaction,
        stage="run",
        nodes=nodes,
        expected_bytes=sum(hope.expected_bytes for hope in chosen),
        started_at=now,
        ends_by=Instant(now + longest_us),
    )
    counters = state.compact.counters
    counters = replace(counters, runs=counters.runs + 1)
    state = replace(state, compact=replace(state.compact, counters=counters))
    saw = {**because.saw, "nodes": ",".join(map(str, nodes))}
    if state.compact.order is not None:
        saw["order"] = state.compact.order
    told = Decision("compact", Because(because.code, saw))
    return Step(_with(state, compaction).state, (), (told,))


# The end of a node


def ended(state: State, event: CompactionEnded, rules: Rules, now: Instant) -> Step:
    """One node is through, or was broken off."""
    turn = state.turn
    if turn is None or turn.compaction is None or not isinstance(turn.doing, Compact):
        return nothing(state)
    if event.node != turn.doing.node:
        return nothing(state)
    compaction = _counted(turn.compaction, event)
    state = with_turn(state, replace(turn, doing=None, compaction=compaction))
    if event.after is not None:
        state = sampled(state, event.after.pressure, window_us(state, rules))
    if compaction.ends is not None or state.pause is not None:
        return nothing(state)
    if event.outcome == "done":
        step = _with(state, _done(compaction, event))
    elif event.outcome in {"broken_off", "held_back"}:
        step = _broken_off(state, compaction, event, now)
    else:
        saw: dict[str, int | str] = {"outcome": event.outcome, "detail": event.detail}
        step = _with(state, replace(compaction, ends=Because("refused", saw)))
    return step.then(yield_to_pressure(step.state, rules, now))


def _counted(compaction: Compaction, event: CompactionEnded) -> Compaction:
    moved = compaction.moved.get(event.node, 0) + event.migrated_pages
    return replace(
        compaction,
        moved={**compaction.moved, event.node: moved},
        took_us=compaction.took_us + event.took_us,
        after=None,
    )


def _done(compaction: Compaction, event: CompactionEnded) -> Compaction:
    after, before = event.after, compaction.before
    usable = after is not None and before is not None and after.failed is None
    if after is not None and before is not None:
        usable = usable and after.order == before.order
    return replace(
        compaction,
        nodes=compaction.nodes[1:],
        done=(*compaction.done, event.node),
        after=after if usable else None,
        tries=0,
    )


def _broken_off(state: State, compaction: Compaction, event: CompactionEnded, now: Instant) -> Step:
    """By its time, or by a stall that turned out to be below the limit: then it is tried again."""
    turn = state.turn
    if turn is None:
        return nothing(state)
    if now >= compaction.ends_by:
        late = replace(compaction, late=True, done=(*compaction.done, event.node))
        return _with(state, late)
    tries = compaction.tries + 1
    saw: dict[str, int | str] = {"outcome": event.outcome, "took_us": event.took_us}
    because = Because("stall_below_limit", {**saw, "tries": tries})
    if tries > _MOST_TRIES:
        return _with(state, replace(compaction, ends=because))
    until = Instant(now + (BURST_WINDOW_US << tries))
    turn = replace(turn, compaction=replace(compaction, tries=tries), hold_until=until, look=True)
    told = Decision("hold", because, node=event.node)
    return Step(with_turn(state, turn), (), (told,))


# The end of a compaction


def _measure(state: State, turn: Turn, compaction: Compaction, rules: Rules, now: Instant) -> Step:
    """Read what it brought, unless that came with the last answer; then compare and end."""
    if compaction.after is None:
        measuring = replace(turn, compaction=replace(compaction, stage="measure"))
        return _read(state, measuring, rules, with_movable=not rules.compact.by_gain)
    because = Because("out_of_time" if compaction.late else "done")
    before, after = compaction.before, compaction.after
    if before is None or after.failed is not None or after.order != before.order:
        return _end(state, turn, because, rules, now)
    known = state.compact
    hoped = gain.hopes(before, known, compaction.started_at)
    hoped = tuple(hope for hope in hoped if hope.node in compaction.done)
    period_us, moved = rules.compact.period_us, compaction.moved
    fresh = gain.learnt(known, hoped, before, after, moved, period_us=period_us, now=now)
    gained_bytes = sum(gain.gained_pages(before, after).values()) * after.page_bytes
    told = tuple(_back_offs(known, fresh, now))
    counters = replace(
        fresh.counters,
        expected_bytes=fresh.counters.expected_bytes + compaction.expected_bytes,
        gained_bytes=fresh.counters.gained_bytes + gained_bytes,
    )
    fresh = replace(fresh, counters=counters)
    if not compaction.late:
        fresh = replace(fresh, base=threshold.baseline(after), skips=0, settling=None)
    because = Because(because.code, {"gained_bytes": gained_bytes})
    ended_here = _end(replace(state, compact=fresh), turn, because, rules, now)
    return Step(ended_here.state, ended_here.actions, (*told, *ended_here.decisions))


def _back_offs(known: Compacting, fresh: Compacting, now: Instant) -> Iterator[Decision]:
    """The zones that brought much less than was expected."""
    for key, lore in fresh.zones.items():
        before = known.zones.get(key)
        if lore.misses > (before.misses if before else 0):
            node, zone = key
            saw: dict[str, int | str] = {"zone": zone, "left_pages": lore.left_pages}
            saw |= {"yield_ppm": lore.yield_ppm, "for_us": lore.left_until - now}
            yield Decision("back_off", Because("gained_too_little", saw), node=node)


def _end(state: State, turn: Turn, because: Because, rules: Rules, now: Instant) -> Step:
    """Remember when and why it ended, and when the next look is due."""
    compaction = turn.compaction or Compaction()
    began = compaction.stage != "look"
    if turn.squeezes:
        state = replace(state, squeeze=after_look(state.squeeze, compaction))
    if turn.squeezes and not began:  # the checks that are due are another matter
        return _let_go(state, turn, state.compact)
    told = Decision("compacted" if began else "skip", _summary(compaction, because))
    known = state.compact
    again = now if compaction.again else _next_look(known, rules, now)
    passed = not began and not compaction.again and not state.stopping
    known = replace(
        known,
        due=None if known.due is None else again,
        ended_at=now,
        asked=False,
        evicted_pages=0,
        skips=known.skips + passed,
        counters=_totals(known.counters, compaction, because.code),
        last=told,
        last_at=now,
    )
    let_go = _let_go(state, turn, known)
    return replace(let_go, decisions=(told,))


def _next_look(known: Compacting, rules: Rules, now: Instant) -> Instant:
    """A period later, or when free memory has settled."""
    later = Instant(now + rules.compact.period_us)
    if known.settling is None:
        return later
    settled_at = settling.settled_at(known.settling, settling.settles_us(rules))
    return later if settled_at <= now else min(later, settled_at)


def _let_go(state: State, turn: Turn, known: Compacting) -> Step:
    samples = state.samples if turn.squeezes else ()
    state = replace(state, turn=None, pause=None, samples=samples, compact=known)
    return Step(state, (Disarm(""),) if turn.armed else ())


def _summary(compaction: Compaction, because: Because) -> Because:
    if compaction.stage == "look":
        return because
    saw: dict[str, int | str] = {"expected_bytes": compaction.expected_bytes}
    saw["moved_pages"] = sum(compaction.moved.values())
    saw["took_us"] = compaction.took_us
    return Because(because.code, {**saw, **because.saw})


def _totals(counters: CompactCounters, compaction: Compaction, code: str) -> CompactCounters:
    broken_off = compaction.stage != "look" and code != "done"
    return replace(
        counters,
        broken_off=counters.broken_off + broken_off,
        moved_pages=counters.moved_pages + sum(compaction.moved.values()),
        took_us=counters.took_us + compaction.took_us,
        because={**counters.because, code: counters.because.get(code, 0) + 1},
    )
