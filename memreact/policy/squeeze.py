"""A squeeze: what an operator wants to become reportable now, how far it is, and why it is over.

Only one at a time. It evicts by the rules that hold for every turn, and goes beyond what is cold
only where a number of bytes was asked for, the coldest first. It ends at its target, at its
deadline or at the first pause for the guest's sake, whichever comes first.
"""

from __future__ import annotations

from memreact.actions import Because, Decision
from memreact.events import (
    Fragmentation,
    Instant,
    SqueezeAsked,
    SqueezeCancelled,
    SqueezeReleased,
)
from memreact.policy.gain import reportable_pages
from memreact.policy.plan import LEAST_PAGES, is_within
from memreact.policy.state import Compaction, Keep, Squeeze, State, Step, Turn, nothing, with_turn
from memreact.policy.yielding import break_off, ending
from memreact.value import replace

__all__ = [
    "KEEP_ENDS_US",
    "KEEP_LOOKS_US",
    "SQUEEZE_ENDS_US",
    "after_look",
    "after_turn",
    "begin_keeping",
    "checked",
    "evicted_pages",
    "gained_pages",
    "keep_looks_at",
    "keep_over",
    "left_pages",
    "over",
    "reportable",
    "short_pages",
    "squeeze_asked",
    "squeeze_cancelled",
    "squeeze_released",
    "squeeze_unmeasured",
    "why_not_squeeze",
    "with_keep_due",
]

SQUEEZE_ENDS_US = 3_600_000_000
"""An hour: no squeeze is longer, whatever was asked for."""

KEEP_ENDS_US = 86_400_000_000
"""A day: nothing is kept for longer, whatever was asked for."""

KEEP_LOOKS_US = (1_000_000, 16_000_000)
"""What is kept is looked at so soon while it shrinks, and at least so often while nothing moves."""

# After these what was asked for is kept; whoever else ends it wants it no more.
_KEPT_AFTER = frozenset({"target", "nothing_left", "deadline", "pressure"})

_CLOCK_STOOD = frozenset({"suspend", "snapshot_restored"})


def squeeze_asked(state: State, event: SqueezeAsked, now: Instant) -> Step:
    """Begin a squeeze, or say why not; a turn under way gives way to it."""
    deadline = Instant(min(event.deadline, now + SQUEEZE_ENDS_US))
    why = why_not_squeeze(state, event.path)
    if why is None and deadline <= now:
        why = Because("too_late")
    if why is not None:
        refused = Because(why.code, {"by": event.by, **why.saw})
        return Step(state, (), (Decision("refuse", refused),))
    hold_us = min(event.hold_us, KEEP_ENDS_US)
    squeeze = Squeeze(event.by, event.path, now, deadline, event.target_pages, hold_us=hold_us)
    saw: dict[str, int | str] = {"by": event.by, "within": event.path, "for_us": deadline - now}
    if event.target_pages is not None:
        saw["target_pages"] = event.target_pages
    told = Decision("squeeze", Because("asked", saw))
    return Step(state, (), (told,)).then(_make_way(replace(state, squeeze=squeeze)))


def _make_way(state: State) -> Step:
    """End the turn under way as soon as its work has returned; it is due again after this."""
    turn, because = state.turn, Because("gives_way")
    if turn is None:
        return nothing(state)
    turn = ending(turn, because, again=True)
    if turn.eviction is not None and turn.eviction.ends is None:
        turn = replace(turn, eviction=replace(turn.eviction, ends=because))
    return break_off(with_turn(state, turn))


def why_not_squeeze(state: State, path: str) -> Because | None:
    """Why no squeeze can begin now; None when one can.

    Args:
        state: As it is now.
        path: Of the memcg that it would be for, with those below it.
    """
    cannot = _guest_cannot(state)
    if cannot is not None:
        return cannot
    if state.hold is not None:
        return Because("held", {"held_by": state.hold.by})
    if state.keep is not None:
        keep = state.keep
        return Because("squeeze_under_way", {"held_by": keep.by, "until_us": keep.until})
    if state.squeeze is not None:
        squeeze = state.squeeze
        saw: dict[str, int | str] = {"held_by": squeeze.by, "until_us": squeeze.deadline}
        return Because("squeeze_under_way", saw)
    if state.pause is not None:
        return Because("paused", {"detail": state.pause.because.code})
    if not state.due:
        return Because("disabled")
    if path != "/" and not any(is_within(known, path) for known in state.memcgs):
        return Because("no_such_cgroup", {"detail": path})
    return None


def _guest_cannot(state: State) -> Because | None:
    guest = state.guest
    if guest is None or state.stopping:
        return Because("stopping" if state.stopping else "starting")
    if guest.idle_because is not None:
        return Because("idle", {"detail": guest.idle_because})
    return None if guest.reports else Because("nobody_is_told")


def squeeze_cancelled(state: State, event: SqueezeCancelled) -> Step:
    """Whoever asked is gone: the guest keeps the rest of its memory."""
    return _ending(state, Because("cancelled", {"by": event.by}))


def squeeze_released(state: State, event: SqueezeReleased, now: Instant) -> Step:
    """Keep nothing any more; a squeeze that runs for it, or before it, ends."""
    ended = _ending(state, Because("released", {"held_by": event.by}))
    return ended.then(_let_go(ended.state, Because("released", {"by": event.by}), now))


def keep_over(state: State, now: Instant) -> Step:
    """Let go when the time is over, whatever happens just then: the guest keeps its memory."""
    if state.keep is None or now < state.keep.until:
        return nothing(state)
    return _let_go(state, Because("hold_over", {"by": state.keep.by}), now)


def _let_go(state: State, because: Because, now: Instant) -> Step:
    keep = state.keep
    if keep is None:
        return nothing(state)
    told = Because(because.code, {**because.saw, "kept_us": now - keep.since})
    return Step(replace(state, keep=None), (), (Decision("let_go", told),))


def keep_looks_at(state: State) -> Instant | None:
    """When it is looked at next whether enough is reportable; None while that may not be."""
    keep = state.keep
    if keep is None or state.squeeze is not None or _guest_cannot(state) is not None:
        return None
    if state.hold is not None or state.pause is not None or not state.due:
        return None
    return keep.seen_at if keep.due else Instant(keep.seen_at + keep.apart_us)


def begin_keeping(state: State, now: Instant) -> State | None:
    """The state in which that is looked at; None if it is not due."""
    keep, looks_at = state.keep, keep_looks_at(state)
    if keep is None or looks_at is None or now < looks_at:
        return None
    deadline = Instant(min(keep.until, now + keep.round_us))
    squeeze = Squeeze(keep.by, keep.path, now, deadline, 0, order=keep.order)
    squeeze = replace(squeeze, at_least_pages=keep.pages)
    return replace(state, squeeze=squeeze, keep=replace(keep, due=False))


def squeeze_unmeasured(state: State, cause: str, now: Instant) -> Step:
    """End it where nobody can say how much of its time is over."""
    if cause not in _CLOCK_STOOD:
        return nothing(state)
    released = _let_go(state, Because(cause), now)
    state = released.state
    return released.then(_ending_unmeasured(state, cause))


def _ending_unmeasured(state: State, cause: str) -> Step:
    return _ending(state, Because("clock_disturbed", {"cause": cause}))


def checked(state: State, now: Instant) -> Step:
    """End it when something ends it that is not in its own work."""
    why = None if state.squeeze is None else _why_end(state, state.squeeze, now)
    return nothing(state) if why is None else _ending(state, why)


def _why_end(state: State, squeeze: Squeeze, now: Instant) -> Because | None:
    if state.stopping:
        return Because("stopping")
    if state.hold is not None:
        return Because("held", {"held_by": state.hold.by})
    if state.pause is not None:
        return Because("pressure", {**state.pause.because.saw, "detail": state.pause.because.code})
    if now >= squeeze.deadline:
        return Because("deadline")
    return None if state.due else Because("disabled")


def _ending(state: State, because: Because) -> Step:
    squeeze, turn = state.squeeze, state.turn
    if squeeze is None or squeeze.ends is not None:
        return nothing(state)
    state = replace(state, squeeze=replace(squeeze, ends=because))
    return break_off(state) if turn is not None and turn.squeezes else nothing(state)


def over(state: State, now: Instant) -> Step | None:
    """Tell how it ended, when what was under way has returned; None while it is not over."""
    squeeze = state.squeeze
    if squeeze is None or squeeze.ends is None:
        return None
    saw: dict[str, int | str] = {"by": squeeze.by, "evicted_pages": evicted_pages(state)}
    gained = gained_pages(squeeze)
    if gained is not None:
        saw["gained_pages"] = gained
    saw |= {"took_us": now - squeeze.asked_at, "overrun_us": max(0, now - squeeze.deadline)}
    told = Decision("squeezed", Because(squeeze.ends.code, {**squeeze.ends.saw, **saw}))
    if state.keep is not None and squeeze.at_least_pages is not None:
        return _kept_on(state, state.keep, squeeze, told, now)
    ended = Step(replace(state, squeeze=None), (), (told,))
    return ended.then(_kept(ended.state, squeeze, now))


def _kept_on(state: State, keep: Keep, squeeze: Squeeze, told: Decision, now: Instant) -> Step:
    """After a look for what is kept; it is told of if it took something, or ended otherwise."""
    evicted, code = evicted_pages(state) > 0, told.because.code
    tells = evicted or code != keep.told
    keep = replace(
        keep,
        apart_us=_looks_apart(keep, squeeze, now, evicted=evicted),
        seen_pages=squeeze.reportable_pages,
        seen_at=now,
        told=code,
    )
    state = replace(state, squeeze=None, keep=keep)
    return Step(state, (), (told,) if tells else ())


def _looks_apart(keep: Keep, squeeze: Squeeze, now: Instant, *, evicted: bool) -> int:
    """How long until the next look: before what shrinks has shrunk half the way to the target.

    Where nothing shrinks, or nobody could look, or nothing may go, each time twice as long.
    """
    soonest_us, latest_us = KEEP_LOOKS_US
    room = squeeze.reportable_pages - keep.pages
    shrunk = keep.seen_pages - squeeze.reportable_pages if squeeze.base_pages is not None else 0
    if evicted:
        apart_us = soonest_us
    elif shrunk > 0:
        apart_us = max(0, room) * (now - keep.seen_at) // (2 * shrunk)
    else:
        apart_us = 2 * keep.apart_us
    return min(max(apart_us, soonest_us), latest_us)


def _kept(state: State, squeeze: Squeeze, now: Instant) -> Step:
    """Keep what was asked for from now on, if that was asked for too."""
    ends, base, target = squeeze.ends, squeeze.base_pages, squeeze.target_pages
    until = Instant(squeeze.asked_at + squeeze.hold_us)
    if ends is None or ends.code not in _KEPT_AFTER or until <= now:
        return nothing(state)
    if base is None or target is None:
        return nothing(state)
    keep = Keep(
        squeeze.by,
        squeeze.path,
        base + target,
        squeeze.order,
        squeeze.asked_at,
        until,
        squeeze.deadline - squeeze.asked_at,
        seen_pages=squeeze.reportable_pages,
        seen_at=now,
        apart_us=KEEP_LOOKS_US[0],
        told=ends.code,
    )
    saw: dict[str, int | str] = {"by": keep.by, "pages": keep.pages, "for_us": until - now}
    return Step(replace(state, keep=keep), (), (Decision("keep", Because("asked", saw)),))


# How far it is


def evicted_pages(state: State) -> int:
    """What it has evicted so far."""
    squeeze, turn = state.squeeze, state.turn
    if squeeze is None:
        return 0
    if turn is None or not turn.squeezes:
        return squeeze.evicted_pages
    under_way = turn.eviction.evicted_pages if turn.eviction else 0
    return squeeze.evicted_pages + turn.evicted_pages + under_way


def gained_pages(squeeze: Squeeze) -> int | None:
    """What has become reportable from its first look to its last; None where nobody could look."""
    return None if squeeze.base_pages is None else squeeze.reportable_pages - squeeze.base_pages


def left_pages(state: State) -> int | None:
    """What is still to be evicted before the next look; None where no number was asked for."""
    squeeze = state.squeeze
    if squeeze is None or squeeze.target_pages is None:
        return None
    return squeeze.enough_pages - evicted_pages(state)


def short_pages(squeeze: Squeeze, seen: Fragmentation | None) -> int | None:
    """What is missing to the target; None where no number was asked for.

    Args:
        squeeze: So far.
        seen: A look that is not part of it yet, if there is one.
    """
    if squeeze.target_pages is None:
        return None
    gained = gained_pages(squeeze)
    if gained is None:
        return squeeze.target_pages - squeeze.evicted_pages
    if seen is not None:
        gained = reportable(seen, squeeze.order) - (squeeze.base_pages or 0)
    return squeeze.target_pages - gained


def reportable(seen: Fragmentation, order: int) -> int:
    """Pages that the kernel would report, of the zones that it reports of."""
    return sum(
        reportable_pages(zone, order)
        for zone in seen.zones
        if zone.free_pages > zone.headroom_pages
    )


# What comes next


def with_keep_due(state: State, turn: Turn) -> State:
    """The state in which what is kept is looked at, since a turn of a period ended."""
    if state.keep is None or turn.squeezes or not turn.periods:
        return state
    return replace(state, keep=replace(state.keep, due=True))


def after_turn(squeeze: Squeeze | None, turn: Turn) -> Squeeze | None:
    """The squeeze after a turn: its evictions count, and free memory is looked at next."""
    if squeeze is None or not turn.squeezes:
        return squeeze
    return replace(
        squeeze,
        stage="gather",
        evicted_pages=squeeze.evicted_pages + turn.evicted_pages,
        agings=squeeze.agings + bool(turn.aged),
        dropped=squeeze.dropped | turn.dropped | turn.aside.keys(),
        dry=turn.evicted_pages < LEAST_PAGES and not turn.aged,
    )


def after_look(squeeze: Squeeze | None, compaction: Compaction) -> Squeeze | None:
    """The squeeze after a look at free memory: it is at its target, or evicts on."""
    if squeeze is None or squeeze.ends is not None:
        return squeeze
    gathered = squeeze.stage == "gather"
    if compaction.ends is not None and compaction.ends.code == "stall_over_limit":
        hurt = compaction.ends
        return replace(squeeze, ends=Because("pressure", {**hurt.saw, "detail": hurt.code}))
    squeeze = _looked(squeeze, compaction.after or compaction.before)
    short = short_pages(squeeze, None)
    if short is None:
        ends = Because("cold_gone") if gathered else None
    elif short <= 0:
        ends = Because("target")
    else:
        ends = Because("nothing_left", {"short_pages": short}) if gathered and squeeze.dry else None
    enough = squeeze.evicted_pages + max(0, short or 0)
    return replace(squeeze, stage="evict", enough_pages=enough, ends=ends)


def _looked(squeeze: Squeeze, seen: Fragmentation | None) -> Squeeze:
    if seen is None or seen.failed is not None:
        return squeeze
    if squeeze.base_pages is None:
        # What was evicted before anybody could look counts as it is.
        wanted = squeeze.at_least_pages
        order = seen.order if wanted is None else squeeze.order
        base = reportable(seen, order) - squeeze.evicted_pages
        target = squeeze.target_pages if wanted is None else max(0, wanted - base)
        squeeze = replace(squeeze, order=order, base_pages=base, target_pages=target)
    return replace(squeeze, reportable_pages=reportable(seen, squeeze.order))
