"""A turn that touches nothing says at least what a real one would do, and why no more."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from memreact.actions import Evict, Reclaim
from memreact.events import Inspection, Instant, RunAsked, Surveyed
from memreact.policy.dry_run import DryRun, dry_run
from memreact.rules import CgroupRule, Rules
from memreact.value import replace
from tests.memreact.policy.simulated_guest import BASE, MB, PAGES_PER_MB, SECOND, SimulatedGuest

PERIOD = 60 * SECOND
RULES = Rules(base=replace(BASE, period_us=PERIOD))
SWAPS = Rules(base=replace(BASE, period_us=PERIOD, swap=True))


def foresee(guest: SimulatedGuest, rules: Rules, **changed: object) -> DryRun:
    """Dry, on what the guest shows now."""
    views = tuple(guest._view(memcg) for memcg in guest.memcgs.values())

    def look(path: str) -> Inspection | None:
        return guest._inspection(path)

    state = replace(guest.watched.state, **changed)  # type: ignore[arg-type]  # fields of it
    survey = Surveyed(views, guest._sample())
    return dry_run(state, rules, survey, look, Instant(guest.now), pages_per_ms=200)


def pages(run: DryRun) -> int:
    return sum(each.pages for each in run.taken.values())


def cold_guest(rules: Rules = RULES) -> SimulatedGuest:
    """One memcg with 300 MB of files and 100 MB of anonymous memory, cold but for its turn."""
    guest = SimulatedGuest(replace(rules, base=replace(rules.base, disabled=True)))
    memcg = guest.add("/shop")
    guest.swap_free = 1 << 30
    guest.fill(memcg, "file", 300)
    guest.fill(memcg, "anon", 100)
    for _ in range(5):
        guest.now += PERIOD
        memcg.nodes[0].age(guest.now)
    guest.now += PERIOD
    return guest


def really(guest: SimulatedGuest, rules: Rules) -> int:
    """What a turn begun now evicts."""
    guest.set_rules(rules)
    before = sum(memcg.evicted for memcg in guest.memcgs.values())
    guest.tell(RunAsked(None, "uid 0"))
    guest.run_while(lambda: guest.watched.state.turn is not None)
    return sum(memcg.evicted for memcg in guest.memcgs.values()) - before


def test_what_is_cold_is_what_the_turn_then_evicts() -> None:
    guest = cold_guest()
    run = foresee(guest, RULES)
    assert pages(run) == 300 * PAGES_PER_MB
    assert run.ended is not None
    assert really(guest, RULES) == pages(run)


def test_between_two_turns_it_is_the_next_one_that_is_foreseen() -> None:
    guest = SimulatedGuest(RULES)
    memcg = guest.add("/shop")
    guest.fill(memcg, "file", 300)
    foreseen, evicted = [], []
    for turns in range(1, 7):
        guest.run_for(PERIOD // 3)
        run, before = foresee(guest, RULES), memcg.evicted
        assert run.due_in_us == min(guest.watched.state.due.values()) - guest.now
        guest.run_while(lambda: guest.watched.state.turns <= turns)  # noqa: B023  # at once
        foreseen.append(pages(run))
        evicted.append(memcg.evicted - before)
    assert evicted == foreseen
    assert sum(evicted) == 300 * PAGES_PER_MB


def test_with_swap_anonymous_memory_goes_too() -> None:
    guest = cold_guest()
    run = foresee(guest, SWAPS)
    taken = run.taken["/shop", 0]
    assert (taken.anon_pages, taken.file_pages) == (100 * PAGES_PER_MB, 300 * PAGES_PER_MB)
    assert really(guest, SWAPS) == pages(run)


def test_nothing_is_written_and_the_state_stays_as_it_was() -> None:
    guest = cold_guest()
    state, actions = guest.watched.state, list(guest.actions)
    foresee(guest, SWAPS)
    assert guest.watched.state is state
    assert guest.actions == actions
    assert guest.memcgs["/shop"].writes == []


def test_protection_forbids_and_says_so() -> None:
    guest = cold_guest()
    guest.memcgs["/shop"].low_bytes = 1 << 40
    run = foresee(guest, RULES)
    assert pages(run) == 0
    assert run.taken["/shop", 0].because is not None
    assert run.taken["/shop", 0].because.code == "protected"


def test_a_floor_forbids_only_what_is_below_it() -> None:
    guest = cold_guest()
    kept = replace(RULES.base, floor_bytes=250 * MB)
    rule = CgroupRule("/shop", frozenset(), no_subdir=False, rules=kept)
    run = foresee(guest, replace(RULES, cgroups=(rule,)))
    assert 148 * PAGES_PER_MB < pages(run) <= 150 * PAGES_PER_MB


def test_who_stalled_in_its_last_period_is_left_alone() -> None:
    guest = SimulatedGuest(RULES)
    guest.fill(guest.add("/shop"), "file", 300)
    guest.run_for(3 * PERIOD)
    guest.stall(900_000, PERIOD, "/shop")
    guest.now += PERIOD
    run = foresee(guest, RULES)
    assert run.taken["/shop", 0].because is not None
    assert run.taken["/shop", 0].because.code == "period_stall_over_limit"
    memcgs = {p: replace(m, stall_us=None) for p, m in guest.watched.state.memcgs.items()}
    assert (
        foresee(guest, RULES, memcgs=memcgs).taken["/shop", 0].because
        != run.taken["/shop", 0].because
    )


def test_what_becomes_cold_by_the_aging_of_the_turn_is_told_as_such() -> None:
    guest = cold_guest()
    guest.memcgs["/shop"].nodes[0].born = {
        seq: guest.now - (9 - at) * PERIOD
        for at, seq in enumerate(guest.memcgs["/shop"].nodes[0].born)
    }
    for held in guest.memcgs["/shop"].nodes[0].held:
        held.seq = guest.memcgs["/shop"].nodes[0].max_seq - 1
    run = foresee(guest, RULES)
    assert run.aged == 1
    assert run.taken["/shop", 0].after_aging
    assert pages(run) == 300 * PAGES_PER_MB


def test_switched_off_there_is_no_turn() -> None:
    guest = cold_guest()
    off = Rules(base=replace(BASE, disabled=True))
    run = foresee(guest, off)
    assert run.refused is not None
    assert run.refused.code == "disabled"


def test_a_memcg_that_cannot_be_read_is_not_reckoned_with() -> None:
    guest = cold_guest()
    views = tuple(guest._view(memcg) for memcg in guest.memcgs.values())
    survey = Surveyed(views, guest._sample())
    run = dry_run(
        guest.watched.state, RULES, survey, lambda _: None, Instant(guest.now), pages_per_ms=0
    )
    assert pages(run) == 0


def test_without_generations_it_is_the_share_of_a_period() -> None:
    rules = replace(RULES, reclaim_without_mglru=True, reclaim_ppm_per_period=100_000)
    guest = SimulatedGuest(rules, evicts="memory.reclaim")
    guest.fill(guest.add("/shop"), "file", 300)
    guest.now += PERIOD
    run = foresee(guest, rules)
    assert 28 * PAGES_PER_MB < pages(run) <= 31 * PAGES_PER_MB
    assert not any(isinstance(action, Evict | Reclaim) for _, action in guest.actions)


@settings(max_examples=40)
@given(st.data())
def test_no_turn_evicts_more_than_was_foreseen(data: st.DataObject) -> None:
    draw = data.draw
    rules = Rules(
        base=replace(
            BASE,
            period_us=PERIOD,
            swap=draw(st.booleans()),
            aging_count_min=draw(st.integers(1, 3)),
        )
    )
    guest = SimulatedGuest(rules, anon_alone=draw(st.sampled_from(["200", "max", "after_file"])))
    guest.swap_free = draw(st.sampled_from([0, 1 << 30]))
    for name in draw(st.sets(st.sampled_from(["/a", "/a/b", "/c"]), min_size=1)):
        memcg = guest.add(name, low_bytes=draw(st.sampled_from([0, 0, 50 * MB])))
        for kind in ("anon", "file"):
            guest.fill(memcg, kind, draw(st.integers(1, 200)), hot=draw(st.booleans()))
    guest.run_for(draw(st.integers(1, 5)) * PERIOD)
    guest.now += draw(st.integers(0, 59)) * SECOND
    if guest.watched.state.turn is not None:
        return
    run = foresee(guest, rules)
    assert really(guest, rules) <= pages(run) + 64 * max(1, len(run.taken))
