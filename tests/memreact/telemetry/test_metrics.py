"""What a guest tells Prometheus, read back by its own parser: the figures of status."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric

from kernelio.process import MemoryCost
from memreact.actions import Because, Decision
from memreact.events import (
    Event,
    Generation,
    Instant,
    MemcgAppeared,
    MemcgGone,
    NodeView,
    TimerFired,
)
from memreact.own_cost import OwnCost
from memreact.policy.state import CompactCounters, Counters, Memcg, State
from memreact.telemetry.families import ALL, CGROUPS, OTHERS
from memreact.telemetry.measures import Measures
from memreact.telemetry.metrics import AGE_BOUNDS_S, Exporter, Seen
from memreact.telemetry.status import Surroundings, cgroups_of
from memreact.value import replace
from memreact_schemas.openmetrics import Family
from memreact_schemas.status import LedgerStatus, LedgerTally
from tests.memreact.telemetry.test_status import (
    COLD,
    GUEST,
    NOW,
    RULES,
    memcg_of,
    node_of,
    state_of,
)
from tests.official_openmetrics import families_of

COST = OwnCost(1.5, 0.5, 0.25, 0.125, 99, MemoryCost(20 << 20, 15 << 20, 16 << 20, 20 << 20))
LEDGER = LedgerStatus(
    read_at_us=NOW - 3_000_000,
    total_bytes=900,
    free_bytes=300,
    reportable_bytes=200,
    reported_bytes=150,
    reported_byte_seconds_total=77,
    since_start=LedgerTally(
        evicted_file_bytes=64, evicted_anon_bytes=32, zram_taken_bytes=8, migrated_bytes=4
    ),
    free_held_bytes={"fragmented": 100, "not_told_yet": 50},
    used_estimates_bytes={"dirty": 5},
    host_holds_bytes=700,
    host_said_at_us=NOW - 9_000_000,
    returned_bytes=11,
    reporting=False,
    not_reporting_because="fragmented",
)
AROUND = Surroundings("1.2", Instant(5), "a problem", ("a warning",), 9, 2, 3, ledger=LEDGER)

Told = dict[str, Metric]
Labels = tuple[tuple[str, str], ...]


def seen(state: State, *, most: int = 100, measures: Measures | None = None) -> Seen:
    return Seen(state, RULES, NOW, AROUND, measures or Measures(), COST, most)


def told(about: Seen, exporter: Exporter | None = None) -> Told:
    text = "".join((exporter or Exporter()).tell(about))
    return {family.name: family for family in families_of(text)}


def values(metrics: Told, name: str, suffix: str = "") -> dict[Labels, float]:
    """The samples of a family, by their labels."""
    found = metrics[name].samples if name in metrics else []
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for sample in found
        if sample.name == name + suffix
    }


def value(metrics: Told, name: str, suffix: str = "", /, **labels: str) -> float:
    return values(metrics, name, suffix)[tuple(sorted(labels.items()))]


def counters(times: int, **because: int) -> Counters:
    reasons = MappingProxyType(because)
    return Counters(agings=times, evictions=times, evicted_pages=times, because=reasons)


def test_every_family_is_told_and_is_what_it_says() -> None:
    measures = Measures()
    decision = Decision("skip", Because("too_little"), "/a")
    counted = counters(2, too_little=1)
    state = state_of(memcg_of("/a", node_of(*COLD), counters=counted))
    compact = CompactCounters(runs=1, because=MappingProxyType({"not_worth_it": 4}))
    state = replace(state, compact=replace(state.compact, counters=compact))
    measures.observe(TimerFired(), state, (decision,), 0)
    measures.rates.add(1 << 24)
    metrics = told(seen(state, measures=measures))
    expected = {family.name: family for family in ALL if family.name != "memreact_kept_bytes"}
    assert metrics.keys() == expected.keys()
    for name, family in expected.items():
        found = metrics[name]
        assert (found.type, found.unit, found.documentation) == (
            family.kind,
            family.unit,
            family.about,
        )
        labels = {label for sample in found.samples for label in sample.labels}
        assert labels - {"le"} == set(family.labels), name


@pytest.mark.parametrize("family", ALL, ids=lambda family: family.name)
def test_a_name_ends_in_its_unit_and_says_no_kind(family: Family) -> None:
    assert family.name.startswith("memreact_")
    assert not family.unit or family.name.endswith(f"_{family.unit}")
    assert not family.name.endswith(("_total", "_bucket", "_count", "_sum", "_info"))
    assert family.about.endswith(".")
    assert "\n" not in family.about


def test_names_are_told_once() -> None:
    assert len({family.name for family in ALL}) == len(ALL)


def test_the_figures_of_a_cgroup_are_those_of_its_status() -> None:
    state = state_of(
        memcg_of("/a", node_of(*COLD), counters=counters(3, done=2)),
        memcg_of("/b", node_of(*COLD[2:]), node_of(*COLD, number=1), populated=False),
        memcg_of("/c"),
        Memcg("/never/surveyed", 9),
    )
    metrics = told(seen(state))
    for status in cgroups_of(state, RULES, NOW):
        own = {"cgroup": status.path}
        name = "memreact_cgroup_memory_bytes"
        assert value(metrics, name, kind="anon", **own) == status.anon_bytes
        assert value(metrics, name, kind="file", **own) == status.file_bytes
        assert value(metrics, "memreact_cgroup_cold_bytes", **own) == status.cold_bytes
        counted = status.counters
        assert value(metrics, "memreact_cgroup_agings", "_total", **own) == counted.agings
        name = "memreact_cgroup_evicted_bytes"
        assert value(metrics, name, "_total", **own) == counted.evicted_bytes
        because = values(metrics, "memreact_cgroup_decisions", "_total")
        mine = {
            dict(key)["because"]: n for key, n in because.items() if ("cgroup", status.path) in key
        }
        assert mine == counted.because


def test_the_ledger_is_told_as_status_tells_it() -> None:
    metrics = told(seen(state_of()))
    assert value(metrics, "memreact_free_held_bytes", cause="fragmented") == 100
    assert value(metrics, "memreact_evicted_bytes", "_total", kind="file") == 64
    assert value(metrics, "memreact_reported_byte_seconds", "_total") == 77
    assert value(metrics, "memreact_ledger_age_seconds") == 3
    assert value(metrics, "memreact_reporting", memreact_reporting="no") == 1
    assert value(metrics, "memreact_reporting", memreact_reporting="yes") == 0
    assert values(metrics, "memreact_not_reporting") == {(("because", "fragmented"),): 1}


def test_what_is_not_known_is_left_out() -> None:
    nothing = replace(AROUND, ledger=LedgerStatus(since_start=LedgerTally()))
    about = seen(State())._replace(around=nothing, cost=COST._replace(memory=None))
    metrics = told(about)
    for name in ("reported_bytes", "ledger_age_seconds", "not_reporting", "resident_bytes"):
        assert f"memreact_{name}" not in metrics
    assert value(metrics, "memreact_reporting", memreact_reporting="unknown") == 1
    assert "memreact_evicted_bytes" not in told(about._replace(around=replace(AROUND, ledger=None)))


def test_all_memory_is_in_the_working_set_by_its_age() -> None:
    state = state_of(memcg_of("/a", node_of(*COLD)), memcg_of("/b", node_of(*COLD)))
    metrics = told(seen(state))
    name = "memreact_memory_age_seconds"
    size = 4096 * 2 * len(COLD)
    assert value(metrics, name, "_gcount", kind="anon") == 10 * size
    assert value(metrics, name, "_gcount", kind="file") == 100 * size
    expected = sum(age / 1e6 for age in COLD) * 2 * 10 * 4096
    assert value(metrics, name, "_gsum", kind="anon") == pytest.approx(expected)
    young = sum(age <= 600_000_000 for age in COLD)
    assert value(metrics, name, "_bucket", kind="file", le="600.0") == young * 2 * 100 * 4096
    assert len(values(metrics, name, "_bucket")) == 2 * (len(AGE_BOUNDS_S) + 1)


def with_size(path: str, pages: int, inode: int = 1, **counted: object) -> Memcg:
    node = NodeView(0, (Generation(1, COLD[0], 0, pages),))
    return replace(memcg_of(path, node, **counted), inode=inode)


def names(metrics: Told) -> set[str]:
    return {dict(key)["cgroup"] for key in values(metrics, "memreact_cgroup_cold_bytes")}


def test_beyond_the_limit_the_largest_are_named_and_the_rest_is_summed_up() -> None:
    memcgs = [with_size(f"/{n}", n, counters=counters(n)) for n in range(1, 301)]
    metrics = told(seen(state_of(*memcgs), most=2))
    assert names(metrics) == {"/300", "/299", OTHERS}
    rest = sum(range(1, 299))
    name = "memreact_cgroup_memory_bytes"
    assert value(metrics, name, cgroup=OTHERS, kind="file") == rest * 4096
    assert value(metrics, "memreact_cgroup_agings", "_total", cgroup=OTHERS) == rest
    assert value(metrics, "memreact_agings", "_total") == sum(range(1, 301))


def test_the_number_of_lines_is_bounded_whatever_the_number_of_cgroups() -> None:
    def lines(count: int) -> int:
        memcgs = [with_size(f"/{n}", n, counters=counters(n, done=1)) for n in range(count)]
        return "".join(Exporter().tell(seen(state_of(*memcgs), most=10))).count("\n")

    assert lines(2000) == lines(11)


def test_a_limit_of_none_names_nobody() -> None:
    assert names(told(seen(state_of(with_size("/a", 5)), most=0))) == {OTHERS}


def test_those_that_were_named_stay_so_until_they_are_gone() -> None:
    exporter = Exporter()
    small, large = with_size("/small", 1, 1), with_size("/large", 9, 2)
    assert names(told(seen(state_of(small), most=1), exporter)) == {"/small"}
    both = state_of(small, large)
    assert names(told(seen(both, most=1), exporter)) == {"/small", OTHERS}
    again = state_of(replace(small, inode=3), large)
    metrics = told(seen(again, most=1), exporter)
    assert names(metrics) == {"/large", OTHERS}


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["count", "come", "go", "scrape", "grow"]),
        st.integers(min_value=0, max_value=4),
    ),
    max_size=60,
)


@given(CHANGES, st.integers(min_value=0, max_value=3))
def test_no_counter_ever_shrinks_while_its_cgroup_lives(
    changes: Sequence[tuple[str, int]], most: int
) -> None:
    exporter, measures = Exporter(), Measures()
    memcgs: dict[str, Memcg] = {}
    lives, before = dict.fromkeys(range(5), 0), dict[tuple[Labels, int], float]()
    for what, which in changes:
        path = f"/{which}"
        event: Event = TimerFired()
        known = memcgs.get(path)
        if what == "come" and known is None:
            lives[which] += 1
            memcgs[path] = with_size(path, which, inode=lives[which] * 10 + which)
            event = MemcgAppeared(path, memcgs[path].inode)
        elif what == "go" and known is not None:
            del memcgs[path]
            event = MemcgGone(path)
        elif what == "count" and known is not None:
            memcgs[path] = replace(known, counters=counters(known.counters.agings + 3))
        elif what == "grow" and known is not None:
            grown = with_size(path, 99, known.inode)
            memcgs[path] = replace(known, view=grown.view)
        state = State(guest=GUEST, memcgs=MappingProxyType(dict(memcgs)))
        measures.observe(event, state, (), 0)
        if what == "scrape":
            metrics = told(seen(state, most=most, measures=measures), exporter)
            before = _not_less(metrics, lives, before)


def _not_less(
    metrics: Told, lives: dict[int, int], before: dict[tuple[Labels, int], float]
) -> dict[tuple[Labels, int], float]:
    """Compare each counter with what it was, if it is the same cgroup's."""
    now = {}
    for family in (*(f.name for f in CGROUPS if f.kind == "counter"), "memreact_agings"):
        for labels, number in values(metrics, family, "_total").items():
            cgroup = dict(labels).get("cgroup", OTHERS)
            life = 0 if cgroup == OTHERS else lives[int(cgroup[1:])]
            key = ((*labels, ("family", family)), life)
            assert number >= before.get(key, 0), key
            now[key] = number
    return {**before, **now}


@given(st.text())
def test_no_name_of_a_cgroup_breaks_a_line(name: str) -> None:
    path = "/" + name.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
    metrics = told(seen(state_of(with_size(path, 5))))
    (found,) = names(metrics)
    assert found.startswith("/")
    if name.isprintable():
        assert found == path
