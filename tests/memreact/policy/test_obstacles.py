"""What is said to stand in the way does so: without it the policy decides otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from memreact.actions import Because, Decision, Evict, Reclaim
from memreact.events import (
    CapabilitiesRead,
    Generation,
    Guard,
    Inspection,
    Instant,
    MemcgView,
    NodeView,
    RunAsked,
    Surveyed,
)
from memreact.policy import refault
from memreact.policy.eviction import next_write, opened
from memreact.policy.obstacles import (
    Change,
    Do,
    Looked,
    Lower,
    Obstacle,
    Raise,
    Set,
    Wait,
    obstacles,
)
from memreact.policy.plan import plan
from memreact.policy.promotion import PromotionLore, Promotions
from memreact.policy.refault import Appetite
from memreact.policy.state import Candidate, Hold, Memcg, Pause, State, Turn
from memreact.rules import MemcgRules, Rules
from memreact.value import replace
from tests.memreact.policy.readings import inspection, sample
from tests.memreact.policy.simulated_guest import BASE, SimulatedGuest

PAGE = 4096
MIB = 1 << 20
SECOND = 1_000_000
PERIOD = BASE.period_us
NOW = Instant(10_000 * SECOND)
GUEST = CapabilitiesRead(
    page_bytes=PAGE,
    evicts="mglru",
    privileged_psi=True,
    own_path="/system.slice/memreact.service",
    boot_phase=0.0,
)
PAGES = 10_000


def ages(*periods: float, anon: int = PAGES, file: int = PAGES) -> tuple[Generation, ...]:
    return tuple(Generation(seq, int(age * PERIOD), anon, file) for seq, age in enumerate(periods))


COLD = ages(5, 4, 3.2, 1)
ROOMY = inspection(
    anon_bytes=4 * PAGES * PAGE, file_bytes=4 * PAGES * PAGE, swap_free_bytes=1 << 40
)


class Case:
    """One memcg, and the policy's decision on it, whatever is changed."""

    def __init__(
        self,
        generations: tuple[Generation, ...] = COLD,
        saw: Inspection = ROOMY,
        *,
        mine: MemcgRules = BASE,
        due_in: int = 0,
        now_stalled_us: tuple[int, int] = (0, 0),
        **memcg: object,
    ) -> None:
        self.generations = generations
        self.saw = saw
        self.mine = mine
        self.stall_us = now_stalled_us
        self.guest = GUEST
        self.rules = Rules(base=mine)
        self.memcg = Memcg("/shop", 7, **memcg)  # type: ignore[arg-type]
        self.due_in = due_in
        self.hold: Hold | None = None
        self.pause: Pause | None = None

    @property
    def state(self) -> State:
        """As the policy knows it."""
        return State(
            guest=self.guest,
            memcgs={"/shop": self.memcg},
            due={self.mine.period_us: Instant(NOW + self.due_in)},
            hold=self.hold,
            pause=self.pause,
        )

    def obstacles(self) -> list[Obstacle]:
        """All that stands in the way."""
        looked = Looked(self.memcg, 0, self.generations, self.mine, self.saw, self.stall_us)
        return list(obstacles(self.state, looked, self.rules, NOW))

    def one(self, code: str) -> Obstacle:
        """Give the only one of its kind."""
        (found,) = [each for each in self.obstacles() if each.because.code == code]
        return found

    def codes(self) -> list[str]:
        """All kinds."""
        return [each.because.code for each in self.obstacles()]

    def planned(self) -> Candidate | str:
        """The candidate that a turn now would make of it, or why there is none."""
        nodes = (NodeView(0, self.generations),)
        view = MemcgView("/shop", 7, 7, *self.stall_us, nodes, 4 * PAGES * PAGE)
        turn = Turn(NOW, frozenset({self.mine.period_us}), ripened=True)
        rules = replace(self.rules, base=self.mine)
        made = plan(self.state, turn, Surveyed((view,), sample(NOW)), rules, NOW)
        return made.candidates[0] if made.candidates else made.decisions[0].because.code

    def first_write(self) -> Evict | Reclaim | Because | str:
        """The first write of such a turn, or why there is none."""
        candidate = self.planned()
        if isinstance(candidate, str):
            return candidate
        appetite = refault.learn(
            self.memcg.appetite, self.saw.refault_total_pages, self.mine.period_us // 2, NOW
        )
        allowed = refault.allowance_pages(appetite, candidate.pages)
        return next_write(opened(candidate, allowed, self.saw, NOW), self.mine, self.guest, NOW)

    def does(self, change: Change) -> None:
        """Make it so."""
        match change:
            case Set(key, value):
                self._sets(key, value)
            case Lower(path, to_bytes):
                guards = tuple(
                    structs.replace(g, protected_bytes=to_bytes) if g.path == path else g
                    for g in self.saw.guards
                )
                self.saw = structs.replace(self.saw, guards=guards)
            case Do("thaw"):
                self.memcg = replace(self.memcg, frozen=False)
            case Do("resume"):
                self.hold = None
            case Do("add_swap"):
                self.saw = structs.replace(self.saw, swap_free_bytes=1 << 40)
            case Raise(path, "memory.swap.max"):
                assert path == self.saw.swap_limit_path
                self.saw = structs.replace(self.saw, swap_free_bytes=1 << 40, swap_limit_path=None)
            case Do("let_zram_take_more"):
                self.saw = structs.replace(self.saw, zram_left_bytes=1 << 40)
            case _:
                raise AssertionError(change)

    def _sets(self, key: str, value: bool | float | str) -> None:  # noqa: FBT001  # a setting's
        if key == "reclaim.percent_per_period":
            self.rules = replace(self.rules, reclaim_ppm_per_period=round(float(value) * 10_000))
            return
        field = {
            "eviction_run_aging_count_min": "aging_count_min",
            "period_psi_percent_limit": "period_limit_ppm",
            "eviction_psi_percent_limit": "eviction_limit_ppm",
            "floor_percent": "floor_ppm",
        }.get(key, key)
        crossed = round(float(value) * 10_000) if field.endswith("_ppm") else value
        self.mine = replace(self.mine, **{field: crossed})  # type: ignore[arg-type]
        self.rules = replace(self.rules, base=self.mine)


# Nothing begins


def test_where_nothing_stands_in_the_way_only_what_is_in_use_is_told() -> None:
    case = Case(ages(5, 4, 3.2, 1, anon=0))
    assert case.codes() == ["in_use"]
    assert case.one("in_use").pages == 2 * PAGES
    assert isinstance(case.first_write(), Evict)


def test_a_guest_in_which_nothing_may_be_done_has_one_obstacle() -> None:
    case = Case()
    case.guest = structs.replace(GUEST, idle_because="no PSI")
    assert [each.because for each in case.obstacles()] == [Because("idle", {"detail": "no PSI"})]


def test_before_anything_is_known_of_the_guest_there_is_one_obstacle() -> None:
    looked = Looked(Memcg("/shop", 7), 0, (), BASE)
    (found,) = obstacles(State(), looked, Rules(base=BASE), NOW)
    assert found.because.code == "idle"


def test_a_hold_ends_by_itself_or_when_it_is_ended() -> None:
    case = Case()
    case.hold = Hold(NOW, Instant(NOW + SECOND), "root")
    assert case.one("held").changes == (Wait(SECOND), Do("resume"))
    case.does(Do("resume"))
    assert "held" not in case.codes()


def test_a_pause_is_told_with_what_hurt() -> None:
    case = Case()
    hurt = Because("guest_stall_over_limit", {"stall_us": 1, "over_us": 2, "limit_ppm": 3})
    case.pause = Pause(NOW, Instant(NOW + SECOND), hurt)
    assert case.obstacles()[0] == Obstacle(hurt, None, (Wait(SECOND),))


def test_what_the_settings_leave_alone_goes_when_they_do_not() -> None:
    case = Case(mine=replace(BASE, disabled=True))
    assert case.planned() == "disabled"
    found = case.one("disabled")
    assert found.pages == 2 * PAGES  # of both cold generations, without swap
    case.does(found.changes[0])
    assert isinstance(case.planned(), Candidate)


def test_of_several_that_forbid_it_each_is_told_and_all_have_to_go() -> None:
    case = Case(mine=replace(BASE, disabled=True), frozen=True)
    assert case.codes()[:2] == ["disabled", "frozen"]
    for found in case.obstacles()[:2]:
        assert isinstance(case.planned(), str)
        case.does(found.changes[0])
    assert isinstance(case.planned(), Candidate)


def test_after_an_oom_it_is_time_alone() -> None:
    case = Case(away_until=Instant(NOW + 5))
    assert case.planned() == "after_oom"
    assert case.one("after_oom").changes == (Wait(5),)


def test_memreact_itself_is_told_nothing_more() -> None:
    case = Case()
    case.guest = structs.replace(GUEST, own_path="/shop")
    assert case.codes() == ["memreact_itself"]
    assert case.obstacles()[0].changes == ()


def test_what_is_cold_waits_for_its_turn_or_for_run_now() -> None:
    guest = SimulatedGuest()
    memcg = guest.add("/shop")
    guest.fill(memcg, "file", 100)
    guest.run_for(4 * PERIOD + PERIOD // 2)  # evicted at each turn; then there is more
    memcg.nodes[0].held[:] = []
    guest.fill(memcg, "file", 50)
    memcg.nodes[0].held[0].seq = memcg.nodes[0].min_seq
    state, now = guest.watched.state, Instant(guest.now)
    looked = Looked(state.memcgs["/shop"], 0, memcg.nodes[0].generations(guest.now), BASE, ROOMY)
    (found,) = [
        each
        for each in obstacles(state, looked, guest.rules, now)
        if each.because.code == "next_turn"
    ]
    left, run_now = found.changes
    assert run_now == Do("run_now")
    assert left == Wait(state.due[PERIOD] - now)
    evicted = memcg.evicted
    guest.tell(RunAsked("/shop", "root"))
    guest.run_for(10 * SECOND)
    assert memcg.evicted > evicted


@pytest.mark.parametrize("stall_us", [7 * SECOND, PERIOD // 2])
def test_a_stall_since_the_last_turn_would_be_below_the_limit_that_is_told(stall_us: int) -> None:
    then: dict[str, Any] = {"stall_us": (0, 0), "stall_at": Instant(NOW - PERIOD)}
    case = Case(now_stalled_us=(stall_us, 0), **then)
    assert case.planned() == "period_stall_over_limit"
    limit, anew = case.one("period_stall_over_limit").changes
    assert anew == Wait(PERIOD)
    case.does(limit)
    assert isinstance(case.planned(), Candidate)
    assert "period_stall_over_limit" not in case.codes()


def test_a_stall_that_no_limit_allows_counts_anew_after_the_next_turn() -> None:
    then: dict[str, Any] = {"stall_us": (0, 0), "stall_at": Instant(NOW - PERIOD)}
    case = Case(now_stalled_us=(PERIOD, PERIOD), due_in=5, **then)
    assert case.one("period_stall_over_limit").changes == (Wait(PERIOD + 5),)


def test_a_stall_is_forgiven_at_the_turn_after_the_next() -> None:
    guest = SimulatedGuest()
    memcg = guest.add("/shop")
    guest.fill(memcg, "file", 100)
    guest.run_for(2 * PERIOD + PERIOD // 2)
    guest.stall(200_000, PERIOD // 4, "/shop")
    guest.run_for(PERIOD // 4)
    state, now = guest.watched.state, Instant(guest.now)
    known = state.memcgs["/shop"]
    stall = guest.watched.state.memcgs["/shop"]
    totals = (PERIOD // 4 * 200_000 // 1_000_000, 0)
    looked = Looked(known, 0, memcg.nodes[0].generations(guest.now), BASE, ROOMY, totals)
    assert stall.stall_us is not None
    (found,) = [
        each
        for each in obstacles(state, looked, guest.rules, now)
        if each.because.code == "period_stall_over_limit"
    ]
    (wait,) = [each for each in found.changes if isinstance(each, Wait)]
    guest.run_until(now + wait.us - SECOND)
    assert guest.codes("/shop", "leave")[-1] == "period_stall_over_limit"
    assert memcg.evicted == 0
    guest.run_for(60 * SECOND)
    assert memcg.evicted > 0


# Not cold yet


def test_a_generation_that_is_too_young_goes_under_the_count_that_is_told() -> None:
    case = Case(ages(5, 2.5, 2, 1))
    assert case.planned() == "nothing_cold_yet"
    found = case.one("nothing_cold_yet")
    assert found.pages == 2 * PAGES
    assert Set("eviction_run_aging_count_min", 2) in found.changes
    case.does(Set("eviction_run_aging_count_min", 2))
    assert isinstance(case.planned(), Candidate)
    assert "nothing_cold_yet" not in case.codes()


def test_what_was_made_at_once_proves_nothing_and_no_count_helps() -> None:
    found = Case(ages(2, 2, 2, 2)).one("nothing_cold_yet")
    assert not any(isinstance(change, Set) for change in found.changes)


@pytest.mark.parametrize(
    ("periods", "code"), [(0.4, "in_use"), (1.4, "nothing_cold_yet"), (2.4, "nothing_cold_yet")]
)
def test_the_wait_that_is_told_ends_with_an_eviction(periods: float, code: str) -> None:
    guest = SimulatedGuest()
    memcg = guest.add("/shop")
    guest.fill(memcg, "file", 100)
    guest.run_for(int(periods * PERIOD))
    state, now = guest.watched.state, Instant(guest.now)
    looked = Looked(state.memcgs["/shop"], 0, memcg.nodes[0].generations(guest.now), BASE, ROOMY)
    found = list(obstacles(state, looked, guest.rules, now))
    assert [each.because.code for each in found] == [code]
    (wait,) = [change for change in found[0].changes if isinstance(change, Wait)]
    guest.run_until(now + wait.us - SECOND)
    assert memcg.evicted == 0
    guest.run_for(30 * SECOND)
    assert memcg.evicted > 0


def test_a_younger_generation_beside_a_cold_one_is_told_too() -> None:
    case = Case(ages(6, 4, 2.5, 1))
    found = case.one("not_cold_yet")
    assert found.pages == 2 * PAGES
    (count,) = [change for change in found.changes if isinstance(change, Set)]
    case.does(count)
    candidate = case.planned()
    assert isinstance(candidate, Candidate)
    assert candidate.seq == 1
    assert "not_cold_yet" not in case.codes()


def test_what_will_not_be_cold_within_sight_has_no_wait() -> None:
    mine = replace(BASE, aging_count_min=1_000)
    case = Case(mine=mine)
    assert not any(isinstance(change, Wait) for change in case.one("nothing_cold_yet").changes)


def test_an_emptied_memcg_waits_for_no_age() -> None:
    case = Case(ages(1, 1, 1, 1), populated=False)
    assert "nothing_cold_yet" not in case.codes()


def test_less_than_a_batch_is_told_as_that() -> None:
    case = Case(ages(5, 4, 3.2, 1, anon=0, file=20))
    assert case.one("too_little_cold").pages == 40


def test_a_memcg_without_generations_is_told_as_that() -> None:
    assert Case(()).codes() == ["no_generations"]


# Anonymous memory


def _anon_reasons(case: Case) -> list[str | int]:
    return [
        each.because.saw["anon"] for each in case.obstacles() if each.because.code == "anon_stays"
    ]


def test_cold_anonymous_memory_goes_when_swap_is_on() -> None:
    case = Case(ages(5, 4, 3.2, 1, file=0))
    assert case.planned() == "too_little_cold"
    found = case.one("anon_stays")
    assert found == Obstacle(
        Because("anon_stays", {"anon": "swap_not_asked_for", "cold_pages": 2 * PAGES}),
        2 * PAGES,
        (Set("swap", value=True),),
    )
    case.does(found.changes[0])
    assert isinstance(case.first_write(), Evict)
    assert "anon_stays" not in case.codes()


def test_each_reason_for_which_anonymous_memory_stays_is_told_and_all_have_to_go() -> None:
    saw = structs.replace(
        ROOMY,
        swap_free_bytes=0,
        zram_left_bytes=0,
        zram_stored_bytes=100 * MIB,
        zram_used_bytes=99 * MIB,
    )
    case = Case(ages(5, 4, 3.2, 1, file=0), saw, mine=replace(BASE, swappiness_max=0))
    assert _anon_reasons(case) == [
        "swap_not_asked_for",
        "swappiness_max_is_0",
        "swap_exhausted",
        "zram_full",
        "zram_saves_nothing",
    ]
    found = [each for each in case.obstacles() if each.because.code == "anon_stays"]
    assert found[-1].changes == ()  # its pages compress no better for anything that is done
    for each in found[:-1]:
        assert not isinstance(case.first_write(), Evict)
        case.does(each.changes[0])
    assert not isinstance(case.first_write(), Evict)
    case.saw = structs.replace(case.saw, zram_used_bytes=10 * MIB)
    assert isinstance(case.first_write(), Evict)
    assert not _anon_reasons(case)


def test_anonymous_memory_that_is_not_cold_yet_needs_more_than_a_wait_where_it_may_not_go() -> None:
    saw = structs.replace(ROOMY, swap_free_bytes=0)
    case = Case(ages(2, 1, 0.5, 0, file=0), saw)
    found = [each for each in case.obstacles() if each.because.code == "anon_would_stay"]
    assert [each.because.saw for each in found] == [
        {"anon": why, "anon_pages": 4 * PAGES} for why in ("swap_not_asked_for", "swap_exhausted")
    ]
    for each in found:
        assert "anon_would_stay" in case.codes()
        case.does(each.changes[0])
    assert "anon_would_stay" not in case.codes()


def test_what_is_cold_is_told_as_that_and_not_again_as_what_is_younger() -> None:
    assert "anon_would_stay" not in Case(ages(5, 4, 1, 0.5, file=0)).codes()


def test_where_swap_has_room_for_some_the_rest_is_told() -> None:
    saw = structs.replace(ROOMY, swap_free_bytes=(PAGES + 256) * PAGE)
    case = Case(ages(5, 4, 3.2, 1, file=0), saw, mine=replace(BASE, swap=True))
    found = case.one("anon_stays")
    assert found.pages == PAGES
    case.does(found.changes[0])
    assert "anon_stays" not in case.codes()


def test_where_zram_is_what_has_room_for_some_that_is_told() -> None:
    saw = structs.replace(ROOMY, zram_left_bytes=(PAGES + 256) * PAGE)
    case = Case(ages(5, 4, 3.2, 1, file=0), saw, mine=replace(BASE, swap=True))
    found = case.one("anon_stays")
    assert (found.pages, found.because.saw["anon"]) == (PAGES, "zram_full")
    case.does(found.changes[0])
    assert "anon_stays" not in case.codes()


def test_a_limit_of_swap_is_told_with_whose_it_is() -> None:
    saw = structs.replace(ROOMY, swap_free_bytes=0, swap_limit_path="/shop.slice")
    case = Case(ages(5, 4, 3.2, 1, file=0), saw, mine=replace(BASE, swap=True))
    found = case.one("anon_stays")
    assert found.because.saw["anon"] == "swap_limit_reached"
    assert found.changes == (Raise("/shop.slice", "memory.swap.max"),)
    case.does(found.changes[0])
    assert "anon_stays" not in case.codes()


def test_what_comes_back_from_swap_stays_below_the_limit_that_is_told() -> None:
    back = Promotions(500, 2 * PERIOD, 40_000, 100)
    assert back.over_limit
    lore = PromotionLore(9, Instant(0), back)
    case = Case(mine=replace(BASE, swap=True), due_in=3, promotion=lore)
    found = case.one("anon_stays")
    assert found.because.saw["anon"] == "promotions_over_limit"
    limit, anew = found.changes
    assert anew == Wait(3)
    assert isinstance(limit, Set)
    assert limit.key == "swap.max_promotion_percent_per_min"
    ppm = round(float(limit.value) * 10_000)
    assert not back._replace(limit_ppm_per_min=ppm).over_limit
    assert back._replace(limit_ppm_per_min=ppm - 1).over_limit


def test_where_all_that_is_touched_comes_back_each_minute_only_the_next_turn_helps() -> None:
    lore = PromotionLore(9, Instant(0), Promotions(500, SECOND, 100, 100))
    case = Case(mine=replace(BASE, swap=True), due_in=3, promotion=lore)
    assert case.one("anon_stays").changes == (Wait(3),)


# Protection


def guarded(*guards: Guard, **keys: object) -> Inspection:
    return structs.replace(ROOMY, guards=guards, **keys)


def test_below_the_protection_that_is_told_all_that_is_cold_may_go() -> None:
    saw = guarded(
        Guard("/shop", 400 * MIB, 0),
        Guard("/shop.slice", 500 * MIB, 500 * MIB),
    )
    case = Case(ages(5, 4, 3.2, 1, anon=0), saw)
    write = case.first_write()
    assert isinstance(write, Because)
    assert write.code == "protected"
    found = case.one("protected")
    assert found.because == write
    assert found.pages == 2 * PAGES
    case.does(found.changes[0])
    assert "protected" not in case.codes()
    again = case.first_write()
    assert isinstance(again, Evict)
    assert again.pages == min(2 * PAGES, 64 * MIB // PAGE)


def test_each_of_several_guards_is_told_the_one_that_keeps_most_first() -> None:
    saw = guarded(Guard("/a", 400 * MIB, 380 * MIB), Guard("/", 500 * MIB, 499 * MIB), path="/a")
    case = Case(ages(5, 4, 3.2, 1, anon=0), saw)
    found = [each for each in case.obstacles() if each.because.code == "protected"]
    assert [each.because.saw["guard"] for each in found] == ["/", "/a"]
    assert (found[0].pages or 0) > (found[1].pages or 0) > 0
    for each in found:
        assert "protected" in case.codes()
        case.does(each.changes[0])
    assert "protected" not in case.codes()


@pytest.mark.parametrize(
    ("mine", "key"),
    [
        (replace(BASE, floor_bytes=390 * MIB), "floor_bytes"),
        (replace(BASE, floor_ppm=900_000), "floor_percent"),
    ],
)
def test_a_floor_of_the_settings_is_told_as_the_setting(mine: MemcgRules, key: str) -> None:
    saw = guarded(Guard("/shop", 400 * MIB, 0), limit_bytes=440 * MIB)
    case = Case(ages(5, 4, 3.2, 1, anon=0), saw, mine=mine)
    (change,) = case.one("protected").changes
    assert isinstance(change, Set)
    assert change.key == key
    case.does(change)
    assert "protected" not in case.codes()


def test_behind_a_floor_the_kernels_protection_is_told_too() -> None:
    saw = guarded(Guard("/shop", 400 * MIB, 380 * MIB))
    case = Case(ages(5, 4, 3.2, 1, anon=0), saw, mine=replace(BASE, floor_bytes=395 * MIB))
    kinds = [type(each.changes[0]) for each in case.obstacles() if each.because.code == "protected"]
    assert kinds == [Set, Lower]


# What earlier turns taught


def test_after_refaults_so_many_quiet_turns_let_all_of_it_go() -> None:
    case = Case(ages(5, 4, 3.2, 1, anon=0), due_in=7, appetite=Appetite(halvings=2))
    found = case.one("refaults")
    write = case.first_write()
    assert isinstance(write, Evict)
    assert found.pages == 2 * PAGES - write.pages
    assert found.changes == (Wait(7 + 2 * PERIOD),)
    for _ in range(2):
        appetite = refault.evicted(case.memcg.appetite, 100, 0, Instant(0))
        learnt = refault.learn(appetite, 0, PERIOD // 2, NOW)
        case.memcg = replace(case.memcg, appetite=learnt)
    assert "refaults" not in case.codes()


def test_refaults_of_what_is_below_it_are_not_its_own() -> None:
    case = Case(appetite=Appetite(halvings=2))
    state = replace(case.state, memcgs={**case.state.memcgs, "/shop/web": Memcg("/shop/web", 8)})
    looked = Looked(case.memcg, 0, COLD, BASE, ROOMY, (0, 0))
    codes = [each.because.code for each in obstacles(state, looked, case.rules, NOW)]
    assert "refaults" not in codes


def ended(code: str, **saw: int | str) -> Decision:
    return Decision("end", Because(code, saw), "/shop", 0)


def test_under_the_limit_that_is_told_the_eviction_is_not_broken_off() -> None:
    def evict_in_stall(limit_ppm: int) -> SimulatedGuest:
        base = replace(BASE, eviction_limit_ppm=limit_ppm)
        guest = SimulatedGuest(Rules(base=base))
        guest.slower = 40
        memcg = guest.add("/shop")
        guest.fill(memcg, "file", 400)
        guest.run_until_write("/shop")
        guest.stall(15_000, 10 * SECOND, "/shop")
        guest.run_for(60 * SECOND)
        return guest

    guest = evict_in_stall(10_000)
    memcg = guest.watched.state.memcgs["/shop"]
    assert guest.codes("/shop", "end") == ["stall_over_limit"]
    looked = Looked(memcg, 0, COLD, BASE, ROOMY)
    found = list(obstacles(guest.watched.state, looked, guest.rules, Instant(guest.now)))[-1]
    assert found.because.code == "stall_over_limit"
    (limit,) = [c for c in found.changes if isinstance(c, Set) and not c.key.startswith("press")]
    ppm = round(float(limit.value) * 10_000)
    assert "stall_over_limit" not in evict_in_stall(ppm + 1_000).codes("/shop", "end")


@pytest.mark.parametrize(
    ("last", "changes"),
    [
        (ended("no_progress_dirty", left_pages=9), (Do("write_back"),)),
        (ended("no_progress_pinned", left_pages=9), (Do("unpin"),)),
        (ended("no_progress_in_use", left_pages=9), (Wait(7),)),
        (ended("limit_hit", path="/shop/a"), (Raise("/shop/a", "memory.high"), Wait(7))),
        (ended("limit_hit", times=2), (Raise("/shop", "memory.high"), Wait(7))),
        (
            ended("guest_stall_over_limit", stall_us=5, over_us=100),
            (Set("pressure.system_psi_percent_limit", 5.0), Wait(7)),
        ),
        (ended("not_quiet_yet"), (Set("pressure.resume", "quiet"), Wait(7))),
    ],
)
def test_why_its_last_eviction_ended_early_is_told(
    last: Decision, changes: tuple[Change, ...]
) -> None:
    found = Case(due_in=7, last=last).one(last.because.code)
    assert found.changes == changes
    assert found.pages == last.because.saw.get("left_pages")


@pytest.mark.parametrize("code", ["cold_gone", "squeezed", "rules_changed"])
def test_an_eviction_that_took_all_it_should_is_no_obstacle(code: str) -> None:
    assert code not in Case(last=ended(code)).codes()


def test_on_the_rung_below_a_larger_share_takes_more() -> None:
    view = MemcgView("/shop", 7, 0, 0, 0, (), 4 * PAGES * PAGE)
    case = Case((), view=view)
    case.guest = structs.replace(GUEST, evicts="memory.reclaim")
    before = case.planned()
    (change,) = case.one("share_of_a_period").changes
    case.does(change)
    after = case.planned()
    assert isinstance(before, Candidate)
    assert isinstance(after, Candidate)
    assert after.pages == 2 * before.pages
    for _ in range(4):
        if "share_of_a_period" in case.codes():
            case.does(case.one("share_of_a_period").changes[0])
    assert "share_of_a_period" not in case.codes()


# All together

SIZES = st.integers(0, 600) | st.integers(0, 200_000)
FREE = st.integers(0, 400 * MIB) | st.just(1 << 40)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A memcg in which much stands in the way."""
    count = draw(st.integers(1, 4))
    apart = draw(st.lists(st.floats(0.2, 3), min_size=count, max_size=count))
    found = tuple(
        Generation(seq, int(sum(apart[seq:]) * PERIOD), draw(SIZES), draw(SIZES))
        for seq in range(count)
    )
    current = draw(st.integers(1, 800)) * MIB
    guards = tuple(
        Guard(path, current + above * MIB, draw(st.integers(0, 900)) * MIB)
        for above, path in enumerate(("/shop", "/slice"))
    )
    saw = structs.replace(
        ROOMY,
        guards=guards,
        limit_bytes=draw(st.sampled_from([None, 900 * MIB])),
        swap_free_bytes=draw(FREE),
        zram_left_bytes=draw(st.none() | FREE),
        swap_limit_path=draw(st.sampled_from([None, "/slice"])),
    )
    mine = replace(
        BASE,
        disabled=draw(st.booleans()),
        swap=draw(st.booleans()),
        swappiness_max=draw(st.sampled_from([0, 50])),
        aging_count_min=draw(st.integers(1, 5)),
        floor_bytes=draw(st.integers(0, 300)) * MIB,
        floor_ppm=draw(st.integers(0, 1_000_000)),
    )
    return Case(found, saw, mine=mine, frozen=draw(st.booleans()))


@given(cases())
def test_whoever_does_all_that_settings_and_the_kernel_can_do_leaves_nothing_but_ages(
    case: Case,
) -> None:
    for _ in range(12):
        changes = [
            change
            for each in case.obstacles()
            for change in each.changes
            if isinstance(change, Set | Lower | Raise | Do) and change != Do("run_now")
        ]
        if not changes:
            break
        case.does(changes[0])
    left = set(case.codes())
    ages_alone = {"in_use", "nothing_cold_yet", "not_cold_yet", "too_little_cold"}
    assert left <= ages_alone
    write = case.first_write()
    if left & {"nothing_cold_yet", "too_little_cold"}:
        assert isinstance(write, str)
    elif isinstance(write, str):
        assert write in {"nothing_cold_yet", "too_little_cold"}
    else:
        assert not isinstance(write, Because) or write.code == "cold_gone"


@given(cases())
def test_explaining_says_protected_exactly_where_the_policy_would(case: Case) -> None:
    write = case.first_write()
    if isinstance(write, Because) and write.code == "protected":
        assert write.saw["guard"] in {
            each.because.saw["guard"]
            for each in case.obstacles()
            if each.because.code == "protected"
        }
