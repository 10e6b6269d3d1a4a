"""A compaction that touches nothing: what the very policy says to free memory as it lies."""

from __future__ import annotations

from memreact.actions import Because, Decision, ReadFragmentation
from memreact.events import Fragmentation, Instant
from memreact.policy.compacting import look
from memreact.policy.dry_run import undisturbed
from memreact.policy.state import State
from memreact.policy.step import step
from memreact.rules import Rules
from memreact.value import Struct, replace

__all__ = ["DryCompaction", "dry_compaction", "order_asked"]


class DryCompaction(Struct, frozen=True):
    """What a look at free memory would lead to.

    Args:
        because: Why a compaction would begin, or why none would.
        expected_bytes: What should become reportable by it; 0 where none would begin.
    """

    because: Because
    expected_bytes: int = 0


def order_asked(state: State, rules: Rules, now: Instant) -> ReadFragmentation | None:
    """The reading that a look by these rules begins with; None where there would be no look."""
    idle = undisturbed(state, rules, now).state
    if idle.compact.due is None:
        return None
    first = look(idle, rules, now).actions[0]
    return first if isinstance(first, ReadFragmentation) else None


def dry_compaction(
    state: State, rules: Rules, seen: Fragmentation | None, now: Instant
) -> DryCompaction:
    """Look at free memory by these rules.

    What a turn would free before is not in it: nobody knows in what pieces that will lie. Nor is
    the time for which it would wait until free memory has settled.

    Args:
        state: As it is.
        rules: Those to try.
        seen: How free memory lies, its movable part with it; None where nobody would look.
        now: The moment.
    """
    idle = undisturbed(state, rules, now).state
    if seen is None or idle.compact.due is None:
        return DryCompaction(Because("disabled" if rules.compact.disabled else "not_possible"))
    # How long it waits for free memory to settle is no part of what it would come to.
    made = look(replace(idle, compact=replace(idle.compact, asked=True)), rules, now)
    said: tuple[Decision, ...] = ()
    while not said and any(isinstance(each, ReadFragmentation) for each in made.actions):
        made = step(made.state, seen, rules, now)
        said = made.decisions
    because = said[0].because if said else Because("not_possible")
    turn = made.state.turn
    begun = None if turn is None else turn.compaction
    return DryCompaction(because, 0 if begun is None else begun.expected_bytes)
