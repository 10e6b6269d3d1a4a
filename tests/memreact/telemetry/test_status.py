"""What the daemon does, did, and can do first when: in one line, and in full."""

from __future__ import annotations

from itertools import islice

import msgspec
import pytest

from memreact.actions import (
    Age,
    AgeTarget,
    Because,
    Compact,
    Decision,
    Inspect,
    ReadFragmentation,
    Survey,
)
from memreact.events import (
    CapabilitiesRead,
    Generation,
    GuestPressure,
    Instant,
    MemcgView,
    NodeView,
    PressureSample,
)
from memreact.policy.promotion import PromotionLore, Promotions
from memreact.policy.state import (
    Candidate,
    CompactCounters,
    Compacting,
    Compaction,
    Counters,
    Eviction,
    Hold,
    Keep,
    Memcg,
    Pause,
    Squeeze,
    State,
    Turn,
    Work,
    ZoneLore,
)
from memreact.rules import Rules, rules_from
from memreact.telemetry.possible import all_cold_bytes
from memreact.telemetry.status import Surroundings, cgroups_of, status_line, status_of
from memreact.value import replace
from memreact_schemas.config import DEFAULTS, CgroupEntry, Config, overlay
from memreact_schemas.config import Memcg as MemcgTable
from memreact_schemas.status import (
    CgroupLimits,
    CgroupStatus,
    LedgerStatus,
    LedgerTally,
    NextEviction,
    Status,
)

RULES = rules_from(DEFAULTS)
PERIOD_US = RULES.base.period_us
GUEST = CapabilitiesRead(4096, "mglru", True, "/own", 0.5)  # noqa: FBT003  # positional
NOW = Instant(7_000_000_000)
AROUND = Surroundings("1.2", Instant(5), "a problem", ("a warning",), 9, 2, 3, unsaved="no room")
COLD = (5 * PERIOD_US, 4 * PERIOD_US, 3 * PERIOD_US, PERIOD_US)


def seconds(count: float) -> int:
    return int(count * 1_000_000)


def line(state: State, rules: Rules = RULES) -> str:
    return status_line(state, rules, NOW, lambda at: f"<{(at - NOW) // 1_000_000}>")


def node_of(*ages_us: int, number: int = 0) -> NodeView:
    generations = tuple(Generation(seq, age, 10, 100) for seq, age in enumerate(ages_us))
    return NodeView(number, generations)


def memcg_of(path: str, *nodes: NodeView, **keys: object) -> Memcg:
    view = MemcgView(path, 1, 1, 0, 0, nodes)
    known: dict[str, object] = {"view": view, "viewed_at": NOW}
    return Memcg(path, 1, **(known | keys))  # type: ignore[arg-type]


def state_of(*memcgs: Memcg, due_in_s: float = 90) -> State:
    due = {PERIOD_US: Instant(NOW + seconds(due_in_s))}
    return State(guest=GUEST, memcgs={memcg.path: memcg for memcg in memcgs}, due=due)


def with_ages(*ages_us: int, **keys: object) -> State:
    """A guest with one memcg whose generations have these ages, oldest first."""
    return state_of(memcg_of("/a", node_of(*ages_us), **keys))


def rules_with(*entries: CgroupEntry, **base: object) -> Rules:
    table = MemcgTable(cgroup=entries, **base)  # type: ignore[arg-type]
    return rules_from(overlay(DEFAULTS, Config(memcg=table)))


def full(state: State, rules: Rules = RULES) -> Status:
    return status_of(state, rules, NOW, AROUND, cgroups_of(state, rules, NOW))


def only(state: State, rules: Rules = RULES) -> CgroupStatus:
    (found,) = cgroups_of(state, rules, NOW)
    return found


def next_of(state: State, rules: Rules = RULES) -> NextEviction:
    return only(state, rules).next_eviction


# One line


def test_idle_says_why() -> None:
    idle = State(guest=CapabilitiesRead(4096, "nothing", True, "/", 0.5, "nothing to do"))  # noqa: FBT003
    assert line(idle) == "idle: nothing to do (memreact doctor says more)"


def test_a_pause_says_since_when_and_why() -> None:
    since = Instant(NOW - seconds(12.7))
    paused = State(guest=GUEST, pause=Pause(since, NOW, Because("guest_stall_over_limit")))
    assert line(paused) == "paused since <-13>: guest_stall_over_limit"


def test_a_squeeze_says_who_how_much_and_until_when() -> None:
    squeeze = Squeeze("cid 2", "/shop", NOW, Instant(NOW + seconds(60)), 100, evicted_pages=7)
    state = State(guest=GUEST, squeeze=squeeze)
    told = full(state).squeeze
    assert told is not None
    assert (told.by, told.scope, told.deadline_us - NOW) == ("cid 2", "/shop", seconds(60))
    size = GUEST.page_bytes
    assert (told.target_bytes, told.evicted_bytes, told.gained_bytes) == (
        100 * size,
        7 * size,
        None,
    )
    cold = full(
        replace(
            state, squeeze=replace(squeeze, target_pages=None, base_pages=3, reportable_pages=5)
        )
    )
    assert cold.squeeze is not None
    assert (cold.squeeze.target_bytes, cold.squeeze.gained_bytes) == (None, 2 * size)
    assert line(state).startswith("squeezed for cid 2 until ")


def test_what_is_kept_is_told() -> None:
    keep = Keep(
        "cid 2",
        "/",
        50,
        9,
        NOW,
        Instant(NOW + seconds(60)),
        seconds(5),
        seen_pages=50,
        seen_at=NOW,
        apart_us=seconds(1),
        told="target",
    )
    told = full(State(guest=GUEST, keep=keep)).keep
    assert told is not None
    assert (told.by, told.scope, told.until_us - told.since_us) == ("cid 2", "/", seconds(60))
    assert told.reportable_bytes == 50 * GUEST.page_bytes


def test_a_hold_says_who_for_how_long_and_why() -> None:
    held = State(guest=GUEST, hold=Hold(NOW, Instant(NOW + seconds(60)), "cid 2", "backup"))
    assert line(held) == "held by cid 2 until <60>: backup"
    silent = replace(held, hold=Hold(NOW, Instant(NOW - 1), "uid 0"))
    assert line(silent) == "held by uid 0 until <-1>"


def test_before_there_is_a_cgroup_it_says_so() -> None:
    wanted = "0 cgroups, 0 MiB evicted; next turn at <90>; eviction possible (no cgroups seen yet)"
    assert line(state_of()) == wanted


def test_just_after_the_start_it_says_what_cannot_be_sooner() -> None:
    fresh = replace(state_of(Memcg("/a", 1)), look=True, soon=Instant(NOW + seconds(2)))
    assert line(fresh).endswith("; eviction possible from <90> (nobody has looked yet)")


def test_where_every_rule_is_disabled_nothing_is_due() -> None:
    assert "nothing due: every rule is disabled" in line(State(guest=GUEST))


def test_what_was_evicted_is_added_up() -> None:
    evicted = with_ages(0, counters=Counters(evicted_pages=512))
    assert line(evicted).startswith("1 cgroups, 2 MiB evicted; ")


def test_a_turn_is_work() -> None:
    busy = replace(with_ages(0), turn=Turn(NOW, frozenset({PERIOD_US})))
    assert "; at work; " in line(busy)


@pytest.mark.parametrize(
    ("ages", "possible_in_s"),
    [
        # Cold already: the next turn evicts.
        (COLD, 90),
        # Newborn: four generations of one age; each period ages once.
        ((0, 0, 0, 0), 90 + 3 * PERIOD_US // 1_000_000),
    ],
)
def test_says_when_the_first_eviction_is_possible(
    ages: tuple[int, ...], possible_in_s: int
) -> None:
    wanted = f"eviction possible from <{possible_in_s}> (untouched for 3 periods is cold)"
    assert line(with_ages(*ages)).endswith(wanted)


def test_a_turn_that_is_overdue_is_due_now() -> None:
    late = replace(with_ages(*COLD), due={PERIOD_US: Instant(NOW - 5)})
    assert "next turn at <0>; eviction possible from <0>" in line(late)


# When the next eviction can be, and why not sooner


def test_generations_grow_older_between_a_survey_and_the_turn() -> None:
    survey_was = Instant(NOW - PERIOD_US)
    seen = with_ages(4 * PERIOD_US, 3 * PERIOD_US, 2 * PERIOD_US, PERIOD_US, viewed_at=survey_was)
    assert next_of(seen).at_us == NOW + seconds(90)
    assert only(seen).nodes[0].generations[0].age_us == 5 * PERIOD_US


@pytest.mark.parametrize(
    ("keys", "waits_for"),
    [
        ({"frozen": True}, "frozen"),
        ({"view": None}, "first_survey"),
        ({"view": MemcgView("/a", 1, 1, 0, 0)}, "too_little"),
    ],
)
def test_says_what_a_memcg_waits_for(keys: dict[str, object], waits_for: str) -> None:
    found = next_of(with_ages(*COLD, **keys))
    assert found.waits_for == waits_for
    assert found.text


def test_anonymous_memory_alone_waits_for_swap() -> None:
    anon = NodeView(0, tuple(Generation(seq, age, 900, 0) for seq, age in enumerate(COLD)))
    state = state_of(memcg_of("/a", anon))
    assert next_of(state).waits_for == "too_little"
    assert next_of(state, rules_with(swap=True)).waits_for == "next_turn"
    assert only(state).cold_bytes == 0
    assert only(state, rules_with(swap=True)).cold_bytes == 2 * 900 * 4096


def test_an_emptied_memcg_waits_for_no_age() -> None:
    found = next_of(with_ages(0, 0, 0, 0, populated=False))
    assert (found.waits_for, found.at_us) == ("next_turn", NOW + seconds(90))


def test_ages_that_are_never_reached_are_not_promised() -> None:
    found = next_of(with_ages(*COLD), rules_with(eviction_run_aging_count_min=2**64 - 1))
    assert (found.waits_for, found.at_us) == ("ages", None)


def test_a_disabled_memcg_and_our_own_wait_for_nothing() -> None:
    off = rules_with(CgroupEntry(path="/a", disabled=True))
    assert next_of(with_ages(*COLD), off).waits_for == "disabled"
    assert next_of(state_of(memcg_of("/own/x", node_of(*COLD)))).waits_for == "memreact_itself"


def test_a_period_that_is_not_due_says_so() -> None:
    assert next_of(replace(with_ages(*COLD), due={})).waits_for == "disabled"


def test_nothing_is_possible_in_an_idle_guest() -> None:
    idle = replace(with_ages(*COLD), guest=msgspec.structs.replace(GUEST, idle_because="psi=0"))
    assert next_of(idle).at_us is None


def test_a_hold_and_an_oom_put_it_off() -> None:
    until = Instant(NOW + seconds(200))
    held = replace(with_ages(*COLD), hold=Hold(NOW, until, "cid 2"))
    assert next_of(held).at_us == until
    away = only(with_ages(*COLD, away_until=until))
    assert (away.next_eviction.at_us, away.away_until_us) == (until, until)


def test_without_generations_a_share_can_go_at_the_next_turn() -> None:
    guest = msgspec.structs.replace(GUEST, evicts="memory.reclaim")
    below = replace(state_of(memcg_of("/a")), guest=guest)
    assert next_of(below).waits_for == "next_turn"


def test_the_soonest_of_all_is_the_guests() -> None:
    young, cold = memcg_of("/y", node_of(0, 0, 0, 0)), memcg_of("/c", node_of(*COLD))
    unknown = Memcg("/u", 1)
    for memcgs in ((young, cold, unknown), (unknown, cold, young)):
        state = state_of(*memcgs)
        assert full(state).next_eviction.at_us == NOW + seconds(90)
        assert full(state).next_eviction.waits_for == "next_turn"
        assert status_of(state, RULES, NOW, AROUND).next_eviction == full(state).next_eviction
    assert full(state_of(unknown)).next_eviction.waits_for == "first_survey"


# In full


def test_a_status_says_what_it_was_told() -> None:
    status = full(state_of())
    assert (status.version, status.started_at_us, status.now_us) == ("1.2", 5, NOW)
    assert (status.problem, status.warnings) == ("a problem", ("a warning",))
    assert status.unsaved == "no room"
    assert (status.decisions, status.subscribers, status.dropped) == (9, 2, 3)
    assert status.rungs == {"evict": "mglru", "pressure": "any window"}
    assert status.next_turn_at_us == NOW + seconds(90)


TARGET = AgeTarget("/a", 1, 1, 0, 3, can_swap=False)


@pytest.mark.parametrize(
    ("work", "doing"),
    [
        (None, "resting"),
        (Survey(), "surveying"),
        (Inspect("/a"), "evicting"),
        (Age((TARGET,)), "aging"),
        (ReadFragmentation("auto"), "compacting"),
        (Compact(0, 9), "compacting"),
    ],
)
def test_says_what_it_is_at(work: Work | None, doing: str) -> None:
    state = replace(with_ages(*COLD), turn=Turn(NOW, frozenset({PERIOD_US}), doing=work))
    assert full(state).doing == doing
    assert full(state).next_turn_at_us is None
    assert full(replace(state, turn=None)).doing == "resting"


def test_says_what_compactions_were_to_bring_and_brought() -> None:
    guest = msgspec.structs.replace(GUEST, compacts=True)
    counters = CompactCounters(checks=5, runs=2, moved_pages=3, gained_bytes=7, because={"done": 2})
    last = Decision("compacted", Because("done", {"gained_bytes": 7}))
    known = Compacting(due=NOW, order=9, counters=counters, last=last, last_at=Instant(3))
    state = replace(with_ages(*COLD), guest=guest, compact=known)
    told = full(state).compaction
    assert told is not None
    assert (told.next_look_at_us, told.order, told.checks, told.runs) == (NOW, 9, 5, 2)
    assert (told.moved_bytes, told.gained_bytes) == (3 * GUEST.page_bytes, 7)
    assert told.because == {"done": 2}
    assert told.last is not None
    assert (told.last.at_us, told.last.figures) == (3, {"gained_bytes": 7})
    under_way = full(replace(state, turn=Turn(NOW, frozenset(), compaction=Compaction())))
    assert under_way.compaction is not None
    assert under_way.compaction.next_look_at_us is None


def test_says_which_zones_are_left_alone_because_compacting_did_not_pay() -> None:
    guest = msgspec.structs.replace(GUEST, compacts=True)
    later = Instant(NOW + seconds(60))
    zones = {
        (0, "Normal"): ZoneLore(left_until=later, misses=2),
        (0, "DMA32"): ZoneLore(left_until=later),
        (1, "Normal"): ZoneLore(left_until=NOW, misses=1),
    }
    state = replace(with_ages(*COLD), guest=guest, compact=Compacting(zones=zones))
    told = full(state).compaction
    assert told is not None
    assert told.left_alone_until_us == {"0/Normal": later}


def test_says_nothing_of_compactions_where_there_can_be_none() -> None:
    assert full(with_ages(*COLD)).compaction is None


def test_says_what_stands_before_all_work() -> None:
    pause = Pause(Instant(3), Instant(4), Because("oom", {"path": "/a", "times": 1}), checks=2)
    state = replace(with_ages(*COLD), pause=pause)
    assert full(state).doing == "paused"
    told = full(state).pause
    assert told is not None
    assert (told.since_us, told.looks_at_us, told.looks) == (3, 4, 2)
    assert (told.because, told.figures) == ("oom", {"times": 1})
    held = replace(state, hold=Hold(NOW, Instant(NOW + seconds(100)), "cid 2", "x"))
    assert full(held).doing == "held"
    assert full(held).next_turn_at_us == NOW + seconds(100)
    told_hold = full(held).hold
    assert told_hold is not None
    assert (told_hold.by, told_hold.reason) == ("cid 2", "x")
    assert full(replace(held, stopping=True)).doing == "stopping"
    assert full(State()).doing == "starting"
    idle = replace(state, guest=msgspec.structs.replace(GUEST, idle_because="psi=0"))
    assert (full(idle).doing, full(idle).idle_because) == ("idle", "psi=0")


def test_says_which_memcg_is_at_work() -> None:
    eviction = Eviction(Candidate("/a", 1, 1, 0, 1, 5, 5))
    state = replace(with_ages(*COLD), turn=Turn(NOW, frozenset(), eviction=eviction))
    assert full(state).at_work == "/a"


def test_the_guests_pressure_is_the_worst_of_the_window() -> None:
    samples = tuple(
        PressureSample(Instant(NOW + at), GuestPressure(us)) for at, us in ((0, 0), (500_000, 9))
    )
    found = full(replace(with_ages(*COLD), samples=samples)).pressure
    assert found is not None
    assert (found.stall_us, found.over_us, found.limit_ppm) == (9, 1_000_000, 100_000)
    assert full(with_ages(*COLD)).pressure is None


def test_counters_are_added_up_with_their_reasons() -> None:
    one = Counters(agings=1, evictions=2, evicted_pages=3, because={"cold_gone": 2})
    two = Counters(agings=5, because={"cold_gone": 1, "frozen": 1})
    state = state_of(memcg_of("/a", counters=one), memcg_of("/b", counters=two))
    status = full(state)
    assert (status.counters.agings, status.counters.evictions) == (6, 2)
    assert status.counters.evicted_bytes == 3 * 4096
    assert status.counters.because == {"cold_gone": 3, "frozen": 1}
    assert status.cgroups[0].counters.because == {"cold_gone": 2}


def test_a_cgroup_tells_its_nodes_and_the_entry_that_holds_on_each() -> None:
    entry = CgroupEntry(path="/a", numa=(1,), swap=True)
    state = state_of(memcg_of("/a", node_of(*COLD), node_of(*COLD, number=1)))
    told = only(state, rules_with(entry))
    assert [(node.node, node.rule, node.swap) for node in told.nodes] == [
        (0, None, False),
        (1, "/a", True),
    ]
    assert told.cold_bytes == (200 + 220) * 4096
    assert (told.anon_bytes, told.file_bytes) == (80 * 4096, 800 * 4096)


def test_a_rule_of_a_parent_is_told_by_the_parents_path() -> None:
    told = only(state_of(memcg_of("/a/b", node_of(*COLD))), rules_with(CgroupEntry(path="/a")))
    assert told.nodes[0].rule == "/a"


def test_the_last_decision_is_told_with_its_moment() -> None:
    last = Decision("leave", Because("anon_stays", {"cold_pages": 3, "anon": "off"}), "/a", 0)
    told = only(with_ages(*COLD, last=last, last_at=Instant(44))).last
    assert told is not None
    assert (told.at_us, told.verdict, told.because) == (44, "leave", "anon_stays")
    assert (told.figures, told.words) == ({"cold_pages": 3}, {"anon": "off"})


def test_pressure_of_a_cgroup_is_its_own_since_its_last_turn() -> None:
    parent = MemcgView("/a", 1, 1, 900, 70)
    child = MemcgView("/a/b", 1, 1, 500, 50)
    begun = {"stall_us": (100, 20), "stall_at": Instant(NOW - 5_000)}
    state = state_of(memcg_of("/a", view=parent, **begun), memcg_of("/a/b", view=child))
    first, second = cgroups_of(state, RULES, NOW)
    assert first.pressure is not None
    assert (first.pressure.stall_us, first.pressure.over_us) == (300, 5_000)
    assert second.pressure is None


def test_what_came_back_from_swap_is_told_as_it_was_judged() -> None:
    back = Promotions(pages=1_000, over_us=PERIOD_US, workingset_pages=500, limit_ppm_per_min=2_000)
    told = only(state_of(memcg_of("/a", promotion=PromotionLore(9, NOW, back)))).promotion
    assert told is not None
    assert (told.promoted_bytes, told.workingset_bytes) == (1_000 * 4096, 500 * 4096)
    assert (told.over_us, told.limit_ppm_per_min, told.over_limit) == (PERIOD_US, 2_000, True)
    assert only(state_of(memcg_of("/a"))).promotion is None


def test_what_settings_and_the_kernel_keep_is_told_of_the_one_that_was_asked_for() -> None:
    rules = rules_with(CgroupEntry(path="/a", floor_percent=50.0))
    limits = CgroupLimits(current_bytes=5, low_bytes=7, max_bytes=4_000)
    state = state_of(memcg_of("/a"), memcg_of("/a/b"), memcg_of("/ab"))
    one, other = cgroups_of(state, rules, NOW, "/a", limits)
    assert (one.path, one.limits, one.floor_bytes) == ("/a", limits, 2_000)
    assert (other.path, other.limits, other.floor_bytes) == ("/a/b", None, None)


def test_numbers_that_varlink_cannot_hold_are_its_largest() -> None:
    entry = CgroupEntry(path="/a", floor_bytes=2**64 - 1, eviction_run_aging_count_min=2**64 - 1)
    told = only(with_ages(*COLD), rules_with(entry))
    assert told.floor_bytes == 2**63 - 1
    assert told.nodes[0].aging_count_min == 2**63 - 1


def test_a_name_that_is_no_text_is_told_all_the_same() -> None:
    odd = "/caf\udcc3\udca9"
    last = Decision("leave", Because("vanished", {"detail": odd}), odd)
    state = state_of(memcg_of(odd, node_of(*COLD), last=last))
    status = full(state)
    assert msgspec.json.decode(msgspec.json.encode(status), type=Status) == status
    assert status.cgroups[0].path == "/caf\\udcc3\\udca9"


def test_cgroups_are_told_one_at_a_time() -> None:
    many = state_of(*(memcg_of(f"/{number:04}", node_of(*COLD)) for number in range(300)))
    telling = cgroups_of(many, RULES, NOW)
    assert [told.path for told in islice(telling, 2)] == ["/0000", "/0001"]
    assert len(list(telling)) == 298
    assert full(many).cgroups_total == 300


def test_what_is_cold_in_all_memcgs_is_summed_without_those_that_are_left_alone() -> None:
    state = state_of(
        memcg_of("/a", node_of(*COLD)),
        memcg_of("/b", node_of(*COLD)),
        memcg_of("/c", node_of(*COLD)),
        memcg_of("/unseen", view=None),
    )
    rules = rules_with(CgroupEntry(path="/c", disabled=True))
    each = next(cgroups_of(state, rules, NOW, "/a")).cold_bytes
    assert each > 0
    assert all_cold_bytes(state, rules, NOW) == 2 * each
    assert all_cold_bytes(State(), rules, NOW) == 0


def test_the_ledger_is_part_of_the_status() -> None:
    ledger = LedgerStatus(since_start=LedgerTally(evicted_file_bytes=5))
    status = status_of(State(), RULES, NOW, Surroundings("1", Instant(0), ledger=ledger))
    assert status.ledger == ledger
