"""What is told of a squeeze while it runs, and what it came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from memreact.account import Account
from memreact.actions import Because, Decision
from memreact.events import Instant
from memreact.policy.squeeze import evicted_pages, gained_pages
from memreact.policy.state import Key, State, Step
from memreact.telemetry.ledger import (
    Ledger,
    free_held_bytes,
    reportable_bytes,
    tally_status,
    used_estimates_bytes,
)
from memreact.value import Struct, field

if TYPE_CHECKING:
    from memreact_schemas.control import SqueezeEnd, SqueezeProgress

__all__ = ["Ended", "Progress", "SqueezeFeed", "squeeze_end", "wanted_bytes"]


class Progress(Struct, frozen=True):
    """How far it is.

    Args:
        stage: What it does.
        evicted_bytes: So far.
        gained_bytes: What became reportable by the last look; None where nobody could look.
        deadline: When it ends at the latest.
    """

    stage: str
    evicted_bytes: int
    gained_bytes: int | None
    deadline: Instant

    def told(self, now: Instant) -> SqueezeProgress:
        """As it is told."""
        from memreact_schemas.control import SqueezeProgress  # noqa: PLC0415  # as callers are told

        return SqueezeProgress(
            stage=self.stage,
            evicted_bytes=self.evicted_bytes,
            reportable_grew_bytes=self.gained_bytes,
            left_us=max(0, self.deadline - now),
        )


class Ended(Struct, frozen=True):
    """How it ended.

    Args:
        because: Why, with its figures.
        left_alone: How many memcgs on nodes were left, by the last reason for each.
    """

    because: Because
    left_alone: dict[str, int] = field(default_factory=dict)


Listener = Callable[[Progress | Ended], None]


class SqueezeFeed:
    """Tells one follower what becomes of the squeeze that is under way; there is only one."""

    def __init__(self) -> None:
        self._listener: Listener | None = None
        self._last: Progress | None = None
        self._left: dict[Key, str] = {}
        self.closed = False
        """The daemon ends: nothing can be asked of it any more."""

    def follow(self, listener: Listener) -> None:
        """Tell this one, from the squeeze that begins next to its end."""
        self._listener, self._last, self._left = listener, None, {}

    def leave(self) -> None:
        """Tell nobody."""
        self._listener = None

    def close(self) -> None:
        """Tell nobody any more, for the daemon ends."""
        self.closed = True
        self.leave()

    def observe(self, made: Step) -> None:
        """Take in a step."""
        listener = self._listener
        if listener is None:
            return
        for decision in made.decisions:
            self._note(decision)
            refused = decision.verdict == "refuse" and self._last is None
            if decision.verdict == "squeezed" or refused:
                self.leave()
                listener(Ended(decision.because, dict(Counter(self._left.values()))))
                return
        self._tell(listener, made.state)

    def _note(self, decision: Decision) -> None:
        if decision.verdict in {"leave", "end"} and decision.node is not None:
            self._left[decision.path, decision.node] = decision.because.code

    def _tell(self, listener: Listener, state: State) -> None:
        squeeze, guest = state.squeeze, state.guest
        if squeeze is None or guest is None:
            return
        gained, size = gained_pages(squeeze), guest.page_bytes
        gained_bytes = None if gained is None else gained * size
        progress = Progress(
            squeeze.stage, evicted_pages(state) * size, gained_bytes, squeeze.deadline
        )
        if progress != self._last:
            self._last = progress
            listener(progress)


def wanted_bytes(account: Account, held_percent: int) -> int:
    """What is still to become reportable, so that the host holds no more than this share.

    Args:
        account: Where the memory is.
        held_percent: Of the memory that the guest's kernel has to give.
    """
    most = account.total_bytes * held_percent // 100
    return max(0, account.total_bytes - most - reportable_bytes(account))


def squeeze_end(  # noqa: PLR0913  # both ends of it, and how they are read
    ended: Ended,
    before: Ledger,
    after: Ledger,
    *,
    wanted: int | None,
    settled: bool,
    swap: bool,
    held_until: Instant | None = None,
) -> SqueezeEnd:
    """Tell what it came to.

    Args:
        ended: How it ended.
        before: The ledger, read before it.
        after: The ledger, read after it.
        wanted: What was to become reportable, in bytes.
        settled: The kernel had the time to report all of it.
        swap: Anonymous and shared memory may go by the settings.
        held_until: Until when what was wanted is kept.
    """
    then, account, saw = before.last, after.last, ended.because.saw
    detail = saw.get("detail") or saw.get("held_by")
    reported = None if account is None else account.reported_bytes
    used: dict[str, int] = {}
    if account is not None:
        cold, dying = after.cold_bytes, after.dying_bytes
        used = used_estimates_bytes(account, cold_bytes=cold, dying_bytes=dying, swap=swap)
    from memreact_schemas.control import SqueezeEnd  # noqa: PLC0415  # as callers are told

    return SqueezeEnd(
        because=ended.because.code,
        detail=None if detail is None else str(detail),
        wanted_bytes=wanted,
        tally=tally_status(after.since_start.minus(before.since_start)),
        reportable_bytes=None if account is None else reportable_bytes(account),
        reportable_grew_bytes=_grew(then, account, reportable_bytes),
        reported_bytes=reported,
        reported_grew_bytes=_grew(then, account, lambda each: each.reported_bytes),
        returned_bytes=None if after.host is None else _returned(after),
        settled=settled,
        took_us=int(saw.get("took_us", 0)),
        overrun_us=int(saw.get("overrun_us", 0)),
        held_until_us=held_until,
        free_held_bytes={} if account is None else free_held_bytes(account),
        used_estimates_bytes=used,
        left_alone=ended.left_alone,
        problem=after.problem,
    )


def _grew(
    then: Account | None, now: Account | None, figure: Callable[[Account], int | None]
) -> int | None:
    before = None if then is None else figure(then)
    after = None if now is None else figure(now)
    return None if before is None or after is None else after - before


def _returned(ledger: Ledger) -> int | None:
    host = ledger.host
    return None if host is None else max(0, host.first_bytes - host.held_bytes)
