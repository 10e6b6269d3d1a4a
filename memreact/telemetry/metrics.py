"""What goes on in a guest as numbers for Prometheus and its like; see docs/metrics.md.

It tells what a status tells and what was counted as it happened, and reads of the machine only what
memreact itself takes. It is imported when somebody asks for the first time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from memreact.events import Generation, Instant, NodeView
from memreact.own_cost import OwnCost
from memreact.policy.state import Memcg, State
from memreact.rules import Rules, rules_for
from memreact.telemetry.decisions import as_text
from memreact.telemetry.families import (
    ABOUT,
    CGROUPS,
    GUEST,
    LEDGER,
    OTHERS,
    REPORTING,
    SPREADS,
    STATES,
    WORKING_SET,
)
from memreact.telemetry.measures import Measures, counts_of
from memreact.telemetry.possible import aged, cold_pages
from memreact.telemetry.status import Surroundings, doing_of
from memreact_schemas.openmetrics import (
    END,
    Family,
    Sample,
    counted,
    head_of,
    histogram,
    line_of,
    stateset,
)
from memreact_schemas.status import LedgerStatus

__all__ = ["AGE_BOUNDS_S", "Exporter", "Seen"]

AGE_BOUNDS_S = (10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400)
"""Seconds since memory was last found in use."""

_US_PER_SEC = 1_000_000
_AT_ONCE = 64
_BECAUSE = "because:"


class Seen(NamedTuple):
    """What is told of, as it was at one moment.

    Args:
        state: Of the policy.
        rules: In force.
        now: The moment.
        around: What the policy does not know.
        measures: What was counted.
        cost: What memreact takes.
        cgroups_max: So many cgroups are named.
    """

    state: State
    rules: Rules
    now: Instant
    around: Surroundings
    measures: Measures
    cost: OwnCost
    cgroups_max: int


class _Figures(NamedTuple):
    """Of one memcg."""

    memcg: Memcg
    anon_bytes: int
    file_bytes: int
    cold_bytes: int
    counts: Mapping[str, int]

    @property
    def size(self) -> int:
        return self.anon_bytes + self.file_bytes


class _Ages:
    """Bytes by age, of one kind."""

    def __init__(self) -> None:
        self.each = [0] * (len(AGE_BOUNDS_S) + 1)
        self.byte_us = 0

    def add(self, age_us: int, size: int) -> None:
        self.each[bisect_left(AGE_BOUNDS_S, age_us / _US_PER_SEC)] += size
        self.byte_us += size * age_us


class Exporter:
    """Tells of one daemon, again and again; it remembers which cgroups it named.

    Those that were named stay so until they are gone: what is counted of all others together never
    shrinks then, as counters must not.
    """

    def __init__(self) -> None:
        self._named: dict[str, tuple[int, Mapping[str, int]]] = {}
        self._among_others: dict[str, int] = {}
        self._told: Counter[str] = Counter()
        """What was counted of those that were named, while they were."""

    def tell(self, seen: Seen) -> Iterator[str]:
        """Write it in parts: whoever takes them may do something else in between."""
        gone = Counter(seen.measures.gone)
        ages = {"anon": _Ages(), "file": _Ages()}
        figures: list[_Figures] = []
        for number, memcg in enumerate(seen.state.memcgs.values(), 1):
            figures.append(_figures(seen, memcg, ages))
            if number % _AT_ONCE == 0:
                yield ""
        totals = gone
        for each in figures:
            totals.update(each.counts)
        yield from _families(_of_guest(seen, totals))
        yield from _families(_of_ledger(seen))
        yield from _families(_of_measures(seen.measures, ages))
        yield from self._of_cgroups(seen, figures, totals)
        yield END

    def _of_cgroups(
        self, seen: Seen, figures: list[_Figures], totals: Counter[str]
    ) -> Iterator[str]:
        named, others = self._choose(figures, seen.cgroups_max)
        rest = totals - self._told  # of what is counted; nothing is below zero
        size = _page_bytes(seen.state)
        page: dict[str, list[Sample]] = {family.name: [] for family in CGROUPS}
        for number, each in enumerate(named, 1):
            _add(page, as_text(each.memcg.path), each, each.counts, size)
            if number % _AT_ONCE == 0:
                yield ""
        if others or rest:
            _add(page, OTHERS, _sum_of(others), rest, size)
        yield from _families((family, page[family.name]) for family in CGROUPS)

    def _choose(
        self, figures: Iterable[_Figures], most: int
    ) -> tuple[list[_Figures], list[_Figures]]:
        """Take those that were named before, then the largest, while there is room."""

        def first(each: _Figures) -> tuple[bool, int]:
            return self._was_named(each.memcg), each.size

        ordered = sorted(figures, key=first, reverse=True)
        named, others = ordered[:most], ordered[most:]
        for each in named:
            self._told.update(self._since_last(each))
        self._named = {each.memcg.path: (each.memcg.inode, each.counts) for each in named}
        self._among_others = {each.memcg.path: each.memcg.inode for each in others}
        named.sort(key=lambda each: each.memcg.path)
        return named, others

    def _was_named(self, memcg: Memcg) -> bool:
        known = self._named.get(memcg.path)
        return known is not None and known[0] == memcg.inode

    def _since_last(self, each: _Figures) -> Mapping[str, int]:
        """What one that is named has counted that nobody was told of before."""
        memcg = each.memcg
        if self._was_named(memcg):
            return Counter(each.counts) - Counter(self._named[memcg.path][1])
        if self._among_others.get(memcg.path) == memcg.inode:
            return {}  # it was told with the others, and stays with them
        return each.counts


def _figures(seen: Seen, memcg: Memcg, ages: Mapping[str, _Ages]) -> _Figures:
    anon = file = cold = 0
    size = _page_bytes(seen.state)
    for node in memcg.view.nodes if memcg.view else ():
        grown = aged(node, seen.now - memcg.viewed_at)
        for generation in grown:
            anon += generation.anon_pages
            file += generation.file_pages
            ages["anon"].add(generation.age_us, generation.anon_pages * size)
            ages["file"].add(generation.age_us, generation.file_pages * size)
        cold += _cold(seen, memcg, node, grown)
    counts = counts_of(memcg.counters)
    return _Figures(memcg, anon * size, file * size, cold * size, counts)


def _cold(seen: Seen, memcg: Memcg, node: NodeView, grown: tuple[Generation, ...]) -> int:
    mine = rules_for(seen.rules, memcg.path, node.node)
    return sum(cold_pages(grown, mine, populated=memcg.populated))


def _sum_of(figures: Iterable[_Figures]) -> _Figures:
    anon = file = cold = 0
    for each in figures:
        anon += each.anon_bytes
        file += each.file_bytes
        cold += each.cold_bytes
    return _Figures(Memcg(OTHERS, 0), anon, file, cold, {})


def _add(
    page: Mapping[str, list[Sample]],
    name: str,
    figures: _Figures,
    counts: Mapping[str, int],
    page_bytes: int,
) -> None:
    mine = {"cgroup": name}
    memory, cold, agings, evictions, evicted, decisions = page.values()
    memory.append(Sample("", {**mine, "kind": "anon"}, figures.anon_bytes))
    memory.append(Sample("", {**mine, "kind": "file"}, figures.file_bytes))
    cold.append(Sample("", mine, figures.cold_bytes))
    agings.append(counted(counts.get("agings", 0), mine))
    evictions.append(counted(counts.get("evictions", 0), mine))
    evicted.append(counted(counts.get("evicted_pages", 0) * page_bytes, mine))
    for key, times in counts.items():
        if key.startswith(_BECAUSE):
            because = {"because": key.removeprefix(_BECAUSE)}
            decisions.append(counted(times, {**mine, **because}))


def _families(families: Iterable[tuple[Family, Iterable[Sample]]]) -> Iterator[str]:
    """Write families; one without a sample is left out."""
    for family, samples in families:
        lines = [line_of(family, sample) for sample in samples]
        if lines:
            yield head_of(family) + "".join(lines)


Written = Iterator[tuple[Family, Iterable[Sample]]]


def _plain(families: Iterable[Family], values: Mapping[str, float | None]) -> Written:
    """Families of one sample each; what is not known is left out."""
    for family in families:
        value = values[family.name]
        if value is not None:
            suffix = "_total" if family.kind == "counter" else ""
            yield family, (Sample(suffix, {}, value),)


def _by(label: str, values: Mapping[str, float], suffix: str = "") -> list[Sample]:
    return [Sample(suffix, {label: key}, value) for key, value in sorted(values.items())]


def _of_guest(seen: Seen, totals: Mapping[str, int]) -> Written:
    state, around, cost = seen.state, seen.around, seen.cost
    size, compact = _page_bytes(state), state.compact.counters
    build, doing, decisions, compact_decisions, cpu = ABOUT
    yield build, (Sample("_info", {"version": around.version}, 1),)
    yield doing, stateset(doing, STATES, doing_of(state))
    made = sorted(seen.measures.decisions.items())
    yield (
        decisions,
        (
            counted(times, {"verdict": verdict, "because": because})
            for (verdict, because), times in made
        ),
    )
    yield compact_decisions, _by("because", compact.because, "_total")
    yield cpu, _cpu(cost)
    yield from _plain(
        GUEST,
        {
            "memreact_uptime_seconds": (seen.now - around.started_at) / _US_PER_SEC,
            "memreact_settings_revision": seen.rules.revision,
            "memreact_settings_refused": int(around.problem is not None),
            "memreact_settings_unsaved": int(around.unsaved is not None),
            "memreact_warnings": len(around.warnings),
            "memreact_turns": state.turns,
            "memreact_cgroups": len(state.memcgs),
            "memreact_agings": totals.get("agings", 0),
            "memreact_evictions": totals.get("evictions", 0),
            "memreact_squeezing": int(state.squeeze is not None),
            "memreact_kept_bytes": state.keep.pages * size if state.keep else None,
            "memreact_followers": around.subscribers,
            "memreact_followers_dropped": around.dropped,
            "memreact_compaction_checks": compact.checks,
            "memreact_compactions": compact.runs,
            "memreact_compactions_broken_off": compact.broken_off,
            "memreact_compaction_moved_bytes": compact.moved_pages * size,
            "memreact_compaction_expected_bytes": compact.expected_bytes,
            "memreact_compaction_gained_bytes": compact.gained_bytes,
            "memreact_compaction_seconds": compact.took_us / _US_PER_SEC,
            "memreact_wakeups": cost.wakeups,
            "memreact_resident_bytes": cost.memory and cost.memory.rss_bytes,
            "memreact_resident_anon_bytes": cost.memory and cost.memory.anon_bytes,
        },
    )


def _cpu(cost: OwnCost) -> Iterator[Sample]:
    for of, mode, seconds in (
        ("memreact", "user", cost.user_s),
        ("memreact", "system", cost.system_s),
        ("children", "user", cost.children_user_s),
        ("children", "system", cost.children_system_s),
    ):
        yield counted(seconds, {"of": of, "mode": mode})


def _of_ledger(seen: Seen) -> Written:
    ledger = seen.around.ledger
    if ledger is None:
        return
    reporting, not_reporting, evicted, free_held, used = REPORTING
    word = {True: "yes", False: "no", None: "unknown"}[ledger.reporting]
    yield reporting, stateset(reporting, ("yes", "no", "unknown"), word)
    because = ledger.not_reporting_because
    yield not_reporting, [] if because is None else _by("because", {because: 1})
    took = ledger.since_start
    kinds = {"file": took.evicted_file_bytes, "anon": took.evicted_anon_bytes}
    yield evicted, _by("kind", kinds, "_total")
    yield free_held, _by("cause", ledger.free_held_bytes)
    yield used, _by("cause", ledger.used_estimates_bytes)
    yield from _plain(LEDGER, _ledger_values(ledger, seen.now))


def _ledger_values(ledger: LedgerStatus, now: Instant) -> dict[str, float | None]:
    read_at, said_at = ledger.read_at_us, ledger.host_said_at_us
    return {
        "memreact_zram_taken_bytes": ledger.since_start.zram_taken_bytes,
        "memreact_migrated_bytes": ledger.since_start.migrated_bytes,
        "memreact_reported_byte_seconds": ledger.reported_byte_seconds_total,
        "memreact_ledger_age_seconds": None if read_at is None else (now - read_at) / _US_PER_SEC,
        "memreact_ledger_failed": int(ledger.problem is not None),
        "memreact_guest_memory_bytes": ledger.total_bytes,
        "memreact_free_bytes": ledger.free_bytes,
        "memreact_reportable_bytes": ledger.reportable_bytes,
        "memreact_reported_bytes": ledger.reported_bytes,
        "memreact_used_again_estimate_bytes": ledger.used_again_estimate_bytes,
        "memreact_freed_by_others_estimate_bytes": ledger.freed_by_others_estimate_bytes,
        "memreact_host_holds_bytes": ledger.host_holds_bytes,
        "memreact_host_said_age_seconds": None
        if said_at is None
        else (now - said_at) / _US_PER_SEC,
        "memreact_returned_bytes": ledger.returned_bytes,
    }


def _of_measures(measures: Measures, ages: Mapping[str, _Ages]) -> Written:
    stops, rates = SPREADS
    yield stops, chain.from_iterable(_stops(stops, measures))
    spread = measures.rates
    yield rates, histogram(rates, spread.bounds, spread.each, spread.total)
    yield (
        WORKING_SET,
        chain.from_iterable(
            histogram(
                WORKING_SET,
                AGE_BOUNDS_S,
                found.each,
                found.byte_us / _US_PER_SEC,
                {"kind": kind},
            )
            for kind, found in ages.items()
        ),
    )


def _stops(family: Family, measures: Measures) -> Iterator[Iterator[Sample]]:
    for by, spread in (("stall", measures.stops_by_stall), ("other", measures.stops_by_others)):
        bounds = [bound / _US_PER_SEC for bound in spread.bounds]
        yield histogram(family, bounds, spread.each, spread.total / _US_PER_SEC, {"by": by})


def _page_bytes(state: State) -> int:
    return state.guest.page_bytes if state.guest else 0
