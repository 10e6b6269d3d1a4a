"""A turn that touches nothing: the very policy, on readings of now, with nobody who writes.

It is the next turn that would come by itself, at its moment: between two turns nothing becomes
cold, however old it is. What was read is older by then, and nobody has touched it or stalled.

Its actions are answered by a model of what they would do at the most. Generations are as the
kernel told them; an eviction takes all that it asks for, as far as the generations hold it, and an
aging finds nothing in use. So what comes out is an upper bound: the kernel lets go of no page that
it finds in use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import structs

from memreact.actions import (
    Action,
    Age,
    Because,
    Decision,
    Evict,
    Inspect,
    ReadPressure,
    Reclaim,
    Survey,
)
from memreact.events import (
    AgeResult,
    AgingEnded,
    BatchEnded,
    Event,
    Generation,
    Inspected,
    Inspection,
    Instant,
    MemcgView,
    NodeView,
    PressureSample,
    RulesChanged,
    RunAsked,
    StallSeen,
    Surveyed,
    TimerFired,
)
from memreact.policy.plan import is_within
from memreact.policy.state import Key, State, Step
from memreact.policy.step import step
from memreact.policy.swappiness import ANON_FIRST
from memreact.rules import Rules
from memreact.value import Struct, field, replace

__all__ = ["DryRun", "Taken", "dry_run", "undisturbed"]

_GENERATIONS = 4
_STEPS_MAX = 20_000
_AGING_US = 1_000
_BY = "dry run"

Look = Callable[[str], Inspection | None]
"""Reads a memcg closely; None where that cannot be done."""


class Taken(Struct, frozen=True):
    """What a turn would do to one memcg on one node.

    Args:
        anon_pages: Evicted, at the most.
        file_pages: The same.
        after_aging: Only after an aging, which may find more of it in use.
        because: The last reason that was given: why it ended, or why nothing was done.
    """

    anon_pages: int = 0
    file_pages: int = 0
    after_aging: bool = False
    because: Because | None = None

    @property
    def pages(self) -> int:
        """Both kinds together."""
        return self.anon_pages + self.file_pages


class DryRun(Struct, frozen=True):
    """What a turn would come to.

    Args:
        taken: By memcg and node.
        aged: How many would be aged.
        took_us: How long it would take.
        due_in_us: From the reading to its begin.
        refused: Why there would be no turn at all.
        ended: Why it ended; None where it did not within bounds.
    """

    taken: Mapping[Key, Taken] = field(default_factory=dict)
    aged: int = 0
    took_us: int = 0
    due_in_us: int = 0
    refused: Because | None = None
    ended: Because | None = None


def dry_run(  # noqa: PLR0913  # all that a turn would see
    state: State,
    rules: Rules,
    survey: Surveyed,
    look: Look,
    now: Instant,
    *,
    pages_per_ms: int,
) -> DryRun:
    """Take the next turn by these rules, of everything at once, without touching anything.

    What is under way, a pause and a hold are looked through: it is what would be if there were
    none of them.

    Args:
        state: As it is.
        rules: Those to try.
        survey: A reading of now.
        look: Called for each memcg that would be written to, once.
        now: The moment.
        pages_per_ms: How fast evictions are.
    """
    made = undisturbed(state, rules, now)
    at = Instant(max(now, min(made.state.due.values(), default=now)))
    model = _Model(survey, look, (now, at), max(1, pages_per_ms), state)
    made = step(made.state, RunAsked(None, _BY), rules, at)
    for decision in made.decisions:
        if decision.verdict == "refuse":
            return DryRun(refused=decision.because)
    if made.state.turn is None or made.state.turn.compaction is not None:
        return DryRun(refused=Because("disabled"))
    return model.run(made, rules)


def undisturbed(state: State, rules: Rules, now: Instant) -> Step:
    """The state by these rules if nothing were under way and nobody had said to wait."""
    state = replace(state, turn=None, pause=None, hold=None, squeeze=None, keep=None, samples=())
    return step(replace(state, stopping=False), RulesChanged(rules.revision), rules, now)


class _Model:
    """What is answered to the policy's actions."""

    def __init__(
        self,
        survey: Surveyed,
        look: Look,
        moments: tuple[Instant, Instant],
        pages_per_ms: int,
        state: State,
    ) -> None:
        self._surveyed_at, self._began = moments
        self._survey = survey
        self._views = {view.path: view for view in survey.memcgs}
        self._look = look
        self._looked: dict[str, Inspection | None] = {}
        self._lost: dict[str, tuple[int, int]] = {}
        self._now = self._began
        self._due_in_us = self._began - self._surveyed_at
        self._pages_per_ms = pages_per_ms
        self._page_bytes = state.guest.page_bytes if state.guest else 1
        self._taken: dict[Key, Taken] = {}
        self._has_aged: set[Key] = set()
        self._aged = 0

    def run(self, made: Step, rules: Rules) -> DryRun:
        """Go on until the turn is over."""
        for _ in range(_STEPS_MAX):
            ended = self._note(made.decisions)
            if ended is not None or made.state.turn is None:
                return self._done(ended)
            event = self._answer(made.actions)
            if event is None:
                if made.wake_at is None:
                    break
                self._now = Instant(max(self._now, made.wake_at))
                event = TimerFired()
            made = step(made.state, event, rules, self._now)
        return self._done(None)

    def _done(self, ended: Because | None) -> DryRun:
        took_us = self._now - self._began
        return DryRun(self._taken, self._aged, took_us, self._due_in_us, None, ended)

    def _note(self, decisions: tuple[Decision, ...]) -> Because | None:
        for decision in decisions:
            if decision.verdict == "turn":
                return decision.because
            if decision.path and decision.node is not None:
                key = decision.path, decision.node
                taken = self._taken.get(key, Taken())
                if decision.verdict == "end" or not taken.pages:
                    self._taken[key] = replace(taken, because=decision.because)
        return None

    def _answer(self, actions: tuple[Action, ...]) -> Event | None:
        for action in actions:
            match action:
                case Survey():
                    return self._surveyed()
                case Inspect(path):
                    return Inspected(path, self._inspection(path), "cannot be read")
                case Evict() | Reclaim():
                    return self._evicted(action)
                case Age():
                    return self._age(action)
                case ReadPressure(path=path):
                    return StallSeen(self._sample(path))
        return None

    def _sample(self, path: str | None = None) -> PressureSample:
        """The totals of the survey: nobody is hurt by what is not done."""
        guest = self._survey.pressure.guest
        saw = self._looked.get(path or "")
        return PressureSample(self._now, guest, path, saw.pressure.memcg_us if saw else 0)

    def _surveyed(self) -> Surveyed:
        grown, self._surveyed_at = self._now - self._surveyed_at, self._now
        self._views = {path: _older(view, grown) for path, view in self._views.items()}
        return structs.replace(
            self._survey, memcgs=tuple(self._views.values()), pressure=self._sample()
        )

    def _inspection(self, path: str) -> Inspection | None:
        if path not in self._looked:
            self._looked[path] = self._look(path)
        saw = self._looked[path]
        if saw is None:
            return None
        anon, file = self._lost_below(path)
        page = self._page_bytes
        guards = tuple(
            structs.replace(
                guard,
                current_bytes=max(
                    0, guard.current_bytes - sum(self._lost_below(guard.path)) * page
                ),
            )
            for guard in saw.guards
        )
        return structs.replace(
            saw,
            pressure=self._sample(path),
            guards=guards,
            anon_bytes=max(0, saw.anon_bytes - anon * page),
            file_bytes=max(0, saw.file_bytes - file * page),
            evicted_total_pages=saw.evicted_total_pages + anon + file,
            swap_free_bytes=max(0, saw.swap_free_bytes - self._all_anon() * page),
        )

    def _lost_below(self, top: str) -> tuple[int, int]:
        lost = [pages for path, pages in self._lost.items() if is_within(path, top)]
        return sum(anon for anon, _ in lost), sum(file for _, file in lost)

    def _all_anon(self) -> int:
        return sum(anon for anon, _ in self._lost.values())

    def _evicted(self, write: Evict | Reclaim) -> BatchEnded:
        node = write.node if isinstance(write, Evict) else 0
        anon, file = self._take(write, node)
        key, took = (write.path, node), anon + file
        before, lost = self._taken.get(key, Taken()), self._lost.get(write.path, (0, 0))
        self._taken[key] = replace(
            before,
            anon_pages=before.anon_pages + anon,
            file_pages=before.file_pages + file,
            after_aging=before.after_aging or key in self._has_aged,
        )
        self._lost[write.path] = lost[0] + anon, lost[1] + file
        took_us = max(1, took * 1000 // self._pages_per_ms)
        self._now = Instant(self._now + took_us)
        exhausted = isinstance(write, Reclaim) and took < write.pages
        return BatchEnded(
            write.path,
            node,
            write.pages,
            "done",
            self._inspection(write.path),
            took_us,
            self._now,
            exhausted=exhausted,
        )

    def _take(self, write: Evict | Reclaim, node: int) -> tuple[int, int]:
        view = self._views.get(write.path)
        if isinstance(write, Reclaim):
            saw = self._inspection(write.path)
            held = 0 if saw is None else saw.droppable_bytes // self._page_bytes
            return 0, min(write.pages, held)
        if view is None:
            return 0, 0
        left, anon, file = write.pages, 0, 0
        nodes = []
        for each in view.nodes:
            if each.node == node:
                each, anon, file = _without(each, write, left)  # noqa: PLW2901  # what is left of it
            nodes.append(each)
        self._views[write.path] = structs.replace(view, nodes=tuple(nodes))
        return anon, file

    def _age(self, action: Age) -> AgingEnded:
        for target in action.targets:
            view = self._views.get(target.path)
            if view is not None:
                nodes = tuple(
                    _aged(each) if each.node == target.node else each for each in view.nodes
                )
                self._views[target.path] = structs.replace(view, nodes=nodes)
                self._has_aged.add((target.path, target.node))
        self._aged += len(action.targets)
        self._now = Instant(self._now + _AGING_US * len(action.targets))
        results = tuple(AgeResult(t.path, t.node, "done") for t in action.targets)
        return AgingEnded(results, self._sample())


def _older(view: MemcgView, by_us: int) -> MemcgView:
    if not by_us:
        return view
    return structs.replace(
        view,
        nodes=tuple(
            NodeView(
                node.node,
                tuple(
                    Generation(each.seq, each.age_us + by_us, each.anon_pages, each.file_pages)
                    for each in node.generations
                ),
            )
            for node in view.nodes
        ),
    )


def _aged(node: NodeView) -> NodeView:
    """One more youngest generation; of five the two oldest become one."""
    if not node.generations:
        return node
    made = [*node.generations, Generation(node.generations[-1].seq + 1, 0, 0, 0)]
    if len(made) > _GENERATIONS:
        old, next_one, *rest = made
        made = [
            Generation(
                next_one.seq,
                next_one.age_us,
                old.anon_pages + next_one.anon_pages,
                old.file_pages + next_one.file_pages,
            ),
            *rest,
        ]
    return NodeView(node.node, tuple(made))


def _without(node: NodeView, write: Evict, pages: int) -> tuple[NodeView, int, int]:
    """What a write leaves, and the anon and file pages that it took, oldest first."""
    made, anon, file = [], 0, 0
    for each in node.generations:
        took_file = took_anon = 0
        if each.seq <= write.seq:
            took_file = min(pages, each.file_pages) if write.swappiness < ANON_FIRST else 0
            pages -= took_file
            took_anon = min(pages, each.anon_pages) if write.swappiness else 0
            pages -= took_anon
        anon, file = anon + took_anon, file + took_file
        made.append(
            Generation(
                each.seq, each.age_us, each.anon_pages - took_anon, each.file_pages - took_file
            )
        )
    return NodeView(node.node, tuple(made)), anon, file
