"""Whether a workload is being hurt: exact stall totals over a sliding window."""

from __future__ import annotations

from memreact.actions import Trigger
from memreact.events import GuestPressure, Instant, PressureSample

__all__ = [
    "BURST_STALL_US",
    "BURST_TRIGGER_US",
    "BURST_WINDOW_US",
    "Samples",
    "Stall",
    "guest_stall_between",
    "guest_stall_us",
    "ladder",
    "memcg_stall_between",
    "over",
    "readable",
    "remember",
    "worst_guest_stall",
    "worst_memcg_stall",
]

Samples = tuple[PressureSample, ...]
"""Readings while work runs, oldest first."""

# The quick rung. The kernel looks ten times in a window, so a short one is what makes it quick;
# it fires on what is still below any limit, and the exact totals decide what follows.
BURST_STALL_US = 2_000
BURST_TRIGGER_US = 40_000
# How long to stay away after a stall that was below the limit.
BURST_WINDOW_US = 100_000
_PPM = 1_000_000
_MOST_SAMPLES = 256

Stall = tuple[int, int]
"""Stalled microseconds, and the microseconds that they are a share of."""


def ladder(limit_ppm: int, window_us: int) -> tuple[Trigger, ...]:
    """The triggers for a limit on memory and io stall together.

    Each file's trigger is armed at half the limit: whenever the sum is over, one of them fires.
    The first rung sees a burst at once, the second a slow growth over the whole window.
    """
    half = max(1, limit_ppm * window_us // _PPM // 2)
    burst = Trigger(min(half, BURST_STALL_US), min(BURST_TRIGGER_US, window_us))
    slow = Trigger(min(half, window_us), window_us)
    return (burst,) if burst == slow else (burst, slow)


def remember(samples: Samples, sample: PressureSample, window_us: int) -> Samples:
    """Add a reading; keep one that is older than the window, so that it is always covered.

    Two threads read, so a reading may arrive after a younger one. One that could not be read is
    told by being the last, and covers nothing.
    """
    *before, last = sorted((*samples, sample), key=_at)
    ordered = [*filter(readable, before), last]
    since = ordered[-1].at - window_us
    keep = max((i for i, s in enumerate(ordered) if s.at <= since), default=0)
    return tuple(ordered[keep:][-_MOST_SAMPLES:])


def _at(sample: PressureSample) -> Instant:
    return sample.at


def readable(sample: PressureSample) -> bool:
    """Whether the guest's totals could be read; the others only ever make its stall smaller."""
    return sample.guest.guest_us is not None


def guest_stall_us(then: GuestPressure, now: GuestPressure) -> int:
    """The guest's stall without what memreact caused itself.

    `some` is a union: what stalls at the same time as memreact would vanish in the difference,
    so the largest of the others is the least it can be.
    """
    guest, own = _grown(then.guest_us, now.guest_us), _grown(then.own_us, now.own_us)
    if not own:
        return guest
    others = (
        now.others_us[name] - us for name, us in then.others_us.items() if name in now.others_us
    )
    return min(guest, max(guest - own, *others, 0))


def _grown(then: int | None, now: int | None) -> int:
    """What a total grew by; of one that could not be read nobody knows."""
    return 0 if then is None or now is None else max(0, now - then)


def guest_stall_between(then: PressureSample, now: PressureSample) -> Stall:
    """The guest's stall from one reading to another."""
    return guest_stall_us(then.guest, now.guest), now.at - then.at


def memcg_stall_between(then: PressureSample, now: PressureSample) -> Stall:
    """The same for the memcg that both are of."""
    return _grown(then.memcg_us, now.memcg_us), now.at - then.at


def worst_guest_stall(samples: Samples, window_us: int) -> Stall:
    """The guest's stall since the reading that makes it the largest share of at least a window."""
    known = [sample for sample in samples if readable(sample)]
    return _worst([guest_stall_between(then, known[-1]) for then in known], window_us)


def worst_memcg_stall(samples: Samples, path: str, window_us: int) -> Stall:
    """The same for one memcg, by the readings that are of it."""
    mine = [each for each in samples if each.memcg == path and each.memcg_us is not None]
    return _worst([memcg_stall_between(then, mine[-1]) for then in mine], window_us)


def over(stall: Stall, limit_ppm: int) -> bool:
    """Whether the share is above the limit; fractions count."""
    stall_us, window_us = stall
    return stall_us * _PPM > limit_ppm * window_us


def _worst(stalls: list[Stall], window_us: int) -> Stall:
    spans = [(stall_us, max(elapsed, window_us)) for stall_us, elapsed in stalls]
    return max(spans, key=lambda stall: stall[0] / stall[1], default=(0, window_us))
