"""What a turn would come to by other rules: readings of now, and the policy's dry run on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from msgspec import structs

from kernelio.errors import KernelioError
from kernelio.layout import Layout
from memreact.events import Inspection, Instant, NodeView, Surveyed
from memreact.ground import read_folios
from memreact.policy.asked import why_not_run
from memreact.policy.dry_compaction import DryCompaction, dry_compaction, order_asked
from memreact.policy.dry_run import DryRun, dry_run
from memreact.policy.state import Key, State
from memreact.rules import Rules, rules_for
from memreact.sources.fragmentation import read_fragmentation
from memreact.sources.inspection import inspect
from memreact.sources.survey import survey
from memreact.value import replace

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
        unaged: Of whom the anonymous memory has no ages that say anything: see `_unaged`.
        compaction: What a look at free memory would lead to, by the rules in force and by the
            others.
        held_up: Why no turn can begin just now.
    """

    now: DryRun
    then: DryRun
    unprotected: DryRun
    unstalled: DryRun
    unaged: frozenset[Key]
    compaction: tuple[DryCompaction, DryCompaction]
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

    unaged = frozenset(_unaged(seen, before, after))
    anew = _at_its_oldest(seen, unaged)

    def run(rules: Rules, state: State, look: Callable[[str], Inspection | None]) -> DryRun:
        survey = seen if rules is before else anew
        return dry_run(state, rules, survey, look, now, pages_per_ms=pages_per_ms)

    why = why_not_run(state, None)
    return Prospects(
        now=run(before, state, looks),
        then=run(after, state, looks),
        unprotected=run(after, state, looks.unprotected),
        unstalled=run(after, _unstalled(state), looks),
        unaged=unaged,
        compaction=(
            _compaction(layout, own_path, state, before, now),
            _compaction(layout, own_path, state, after, now),
        ),
        held_up=None if why is None else why.code,
    )


def _unaged(seen: Surveyed, before: Rules, after: Rules) -> Iterator[Key]:
    """Those that swap nothing so far, and would.

    An aging without swap looks at no anonymous page, and makes the oldest of their generations the
    youngest as it is: its number and its age say nothing about them.
    Source: inc_min_seq() and should_skip_vma() in mm/vmscan.c
    """
    for view in seen.memcgs:
        for node in view.nodes:
            swapped = rules_for(before, view.path, node.node).swap
            if not swapped and rules_for(after, view.path, node.node).swap:
                yield view.path, node.node


def _at_its_oldest(seen: Surveyed, unaged: frozenset[Key]) -> Surveyed:
    """As if all anonymous memory without an age were in the oldest generation: it may be so."""
    memcgs = tuple(
        structs.replace(
            view,
            nodes=tuple(
                _anon_oldest(node) if (view.path, node.node) in unaged else node
                for node in view.nodes
            ),
        )
        for view in seen.memcgs
    )
    return structs.replace(seen, memcgs=memcgs)


def _anon_oldest(node: NodeView) -> NodeView:
    if not node.generations:
        return node
    anon = sum(each.anon_pages for each in node.generations)
    oldest, *others = (structs.replace(each, anon_pages=0) for each in node.generations)
    return NodeView(node.node, (structs.replace(oldest, anon_pages=anon), *others))


def _compaction(
    layout: Layout, own_path: str, state: State, rules: Rules, now: Instant
) -> DryCompaction:
    asked = order_asked(state, rules, now)
    if asked is None:
        return dry_compaction(state, rules, None, now)
    size = None if state.guest is None else state.guest.page_bytes
    movable = not rules.compact.by_gain
    seen = read_fragmentation(layout, own_path, asked.order, with_movable=movable, page_bytes=size)
    return dry_compaction(state, rules, seen, now)


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
