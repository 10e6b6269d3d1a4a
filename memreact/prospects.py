"""What a turn would come to by other rules: readings of now, and the policy's dry run on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from msgspec import structs

from kernelio.errors import KernelioError
from kernelio.layout import Layout
from memreact.events import Inspection, Instant
from memreact.ground import read_folios
from memreact.policy.asked import why_not_run
from memreact.policy.dry_run import DryRun, dry_run
from memreact.policy.state import State
from memreact.rules import Rules
from memreact.sources.inspection import inspect
from memreact.sources.survey import survey

__all__ = ["PAGES_PER_MS", "Prospects", "prospects"]

PAGES_PER_MS = 100
"""How fast evictions are where none has been seen yet: a slow machine's."""

_LOOKS_MAX = 512


class Prospects(NamedTuple):
    """Dry runs of one moment.

    Args:
        now: By the rules in force.
        then: By the others.
        unprotected: By the others, if no cgroup were protected.
        unstalled: By the others, if no cgroup had stalled in its last period.
        held_up: Why no turn can begin just now.
    """

    now: DryRun
    then: DryRun
    unprotected: DryRun
    unstalled: DryRun
    held_up: str | None


def prospects(  # noqa: PLR0913  # what a turn sees
    layout: Layout,
    state: State,
    before: Rules,
    after: Rules,
    clock: Callable[[], Instant],
    *,
    pages_per_ms: int,
) -> Prospects:
    """Read the guest and take dry runs; on a thread of its own, for it reads many files."""
    guest = state.guest
    own_path = "/" if guest is None else guest.own_path
    works = guest is not None and guest.evicts == "mglru"
    seen = survey(layout, own_path, mglru_works=works)
    looks = _Looks(layout, own_path, 4096 if guest is None else guest.page_bytes)
    now = clock()

    def run(rules: Rules, state: State, look: Callable[[str], Inspection | None]) -> DryRun:
        return dry_run(state, rules, seen, look, now, pages_per_ms=pages_per_ms)

    why = why_not_run(state, None)
    return Prospects(
        now=run(before, state, looks),
        then=run(after, state, looks),
        unprotected=run(after, state, looks.unprotected),
        unstalled=run(after, _unstalled(state), looks),
        held_up=None if why is None else why.code,
    )


class _Looks:
    """Reads each memcg once."""

    def __init__(self, layout: Layout, own_path: str, page_bytes: int) -> None:
        self._layout = layout
        self._own_path = own_path
        self._folios = read_folios(layout, page_bytes)
        self._seen: dict[str, Inspection | None] = {}

    def __call__(self, path: str) -> Inspection | None:
        if path not in self._seen:
            if len(self._seen) >= _LOOKS_MAX:
                return None
            self._seen[path] = self._read(path)
        return self._seen[path]

    def unprotected(self, path: str) -> Inspection | None:
        """The same, as if nothing were kept for it."""
        saw = self(path)
        return None if saw is None else structs.replace(saw, guards=())

    def _read(self, path: str) -> Inspection | None:
        try:
            return inspect(self._layout, self._own_path, path, self._folios)
        except KernelioError:
            return None


def _unstalled(state: State) -> State:
    """The state in which no memcg's idle phase has a beginning to compare with."""
    return replace(
        state, memcgs={path: replace(each, stall_us=None) for path, each in state.memcgs.items()}
    )
