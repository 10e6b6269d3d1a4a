"""What is told of one cgroup: figures from the policy's own, and each change as a command."""

from __future__ import annotations

import pytest

from kernelio.memcg import Protection
from kernelio.psi import Pressure, PressureLine
from memreact.actions import Because, Decision
from memreact.close_look import CloseLook, Waited
from memreact.events import CapabilitiesRead, Generation, Guard, Instant, NodeView
from memreact.policy.obstacles import Do, Lower, Obstacle, Raise, Set, Wait
from memreact.policy.state import Hold, Memcg, State
from memreact.settings.files import load_text
from memreact.settings.layers import DEFAULT_ORIGIN, Layer, Settings, settle
from memreact.telemetry.decisions import DecisionLog
from memreact.telemetry.explaining import explanation_of
from memreact.telemetry.obstacle_text import ObstacleTeller
from memreact.value import replace
from memreact_schemas.config import DEFAULTS
from memreact_schemas.explanation import Explanation, SettingHere, WayOut
from memreact_schemas.status import Delays
from tests.memreact.policy.readings import inspection
from tests.memreact.telemetry.test_status import COLD, NOW, PERIOD_US, memcg_of, node_of, state_of

MIB = 1 << 20
FILE = "/etc/memreact/memreact.toml"
PRESSURE = Pressure(PressureLine(1.25, 0.0, 0.0, 7_000), None)
SAW = inspection(
    "/shop/db",
    guards=(Guard("/shop/db", 100 * MIB, 0), Guard("/shop", 150 * MIB, 120 * MIB)),
    file_bytes=90 * MIB,
)
LOOK = CloseLook(
    saw=SAW,
    stall_us=(3_000, 1_000),
    memory=PRESSURE,
    keeps={"/shop": Protection(0, 120 * MIB)},
    waited=Waited(Delays(processes=2, reclaim_us=5)),
)


def settings_of(text: str = "") -> Settings:
    return settle([Layer(DEFAULT_ORIGIN, DEFAULTS), Layer(FILE, load_text(text, FILE))])


def explained(
    state: State, text: str = "", look: CloseLook = LOOK, log: DecisionLog | None = None
) -> Explanation:
    decisions = () if log is None else log.rows_on("/shop/db", 40)
    return explanation_of(state, settings_of(text), "/shop/db", look, decisions=decisions, now=NOW)


def shop(*nodes: NodeView, **keys: object) -> State:
    return state_of(memcg_of("/shop/db", *(nodes or (node_of(*COLD),)), **keys))


def test_each_setting_is_told_with_who_said_it() -> None:
    text = '[memcg]\nswap = true\n[[memcg.cgroup]]\npath = "/shop"\nfloor_percent = 5\n'
    told = {each.key: each for each in explained(shop(), text).settings}
    assert told["swap"] == SettingHere(node=0, key="swap", value="true", origin=FILE)
    assert told["floor_percent"] == SettingHere(
        node=0, key="floor_percent", value="5.0", rule="/shop", origin=FILE
    )
    assert told["period_secs"].origin == DEFAULT_ORIGIN
    assert "floor_bytes" not in told


def test_of_another_node_only_what_differs_there_is_told() -> None:
    text = '[[memcg.cgroup]]\npath = "/shop"\nnuma = [1]\nswap = true\n'
    state = shop(node_of(*COLD), node_of(*COLD, number=1))
    told = explained(state, text)
    assert [(each.node, each.key) for each in told.settings if each.node == 1] == [(1, "swap")]
    assert {obstacle.node for obstacle in told.obstacles} >= {0, 1}


def test_each_guard_is_told_and_the_floor_that_they_make() -> None:
    told = explained(shop())
    (guard,) = told.guards
    assert (guard.path, guard.protected_bytes) == ("/shop", 120 * MIB)
    assert told.spare_bytes == guard.spare_bytes < 30 * MIB
    assert told.kept_bytes == 100 * MIB - guard.spare_bytes


def test_a_floor_of_the_settings_counts_for_the_cgroup_itself_alone() -> None:
    text = f'[[memcg.cgroup]]\npath = "/shop/db"\nfloor_bytes = {90 * MIB}\n'
    told = explained(shop(), text)
    assert [each.protected_bytes for each in told.guards] == [90 * MIB, 120 * MIB]
    assert told.kept_bytes is not None
    assert told.kept_bytes > 90 * MIB


def test_where_nothing_is_protected_nothing_is_told() -> None:
    told = explained(shop(), look=CloseLook(saw=inspection("/shop/db")))
    assert (told.guards, told.kept_bytes, told.spare_bytes) == ((), None, None)


def test_pressure_is_told_beside_its_limits() -> None:
    state = shop(stall_us=(1_000, 0), stall_at=Instant(NOW - 1_000_000))
    told = explained(state).pressure
    assert (told.memory_permyriad, told.memory_total_us) == (125, 7_000)
    assert (told.io_permyriad, told.io_total_us) == (None, None)
    assert (told.own_stall_us, told.own_over_us) == (3_000, 1_000_000)
    assert (told.period_limit_ppm, told.guest_limit_ppm) == (10_000, 100_000)


def test_the_decisions_that_concern_it_are_told() -> None:
    log = DecisionLog(100)
    log.add(NOW, Decision("leave", Because("x"), "/shop/db"))
    told = explained(shop(), log=log).decisions
    assert [(row.path, row.verdict) for row in told] == [("/shop/db", "leave")]


def test_what_was_waited_is_told_as_it_was_read() -> None:
    told = explained(shop())
    assert told.harm.total == Delays(processes=2, reclaim_us=5)
    assert told.harm.missing is None


def test_a_hold_is_told_once_however_many_nodes() -> None:
    state = shop(node_of(*COLD), node_of(*COLD, number=1))
    told = explained(replace(state, hold=Hold(NOW, Instant(NOW + 5_000_000), "root")))
    assert [each.because for each in told.obstacles].count("held") == 1
    assert told.hold is not None


def test_protection_is_told_with_the_file_the_figures_and_what_to_write() -> None:
    large = tuple(Generation(seq, age, 0, 20_000) for seq, age in enumerate(COLD))
    told = explained(shop(NodeView(0, large)))
    (found,) = [each for each in told.obstacles if each.because == "protected"]
    assert found.text.startswith("memory.low of /shop protects 120 MiB of its 150 MiB: ")
    (way,) = found.ways_out
    assert (way.kind, way.key, way.path) == ("lower", "memory.low", "/shop")
    assert way.text.startswith("lower memory.low of /shop to ")


def test_a_cgroup_that_was_never_surveyed_is_explained_too() -> None:
    state = state_of(Memcg("/shop/db", 1))
    told = explained(state, look=CloseLook())
    assert [each.because for each in told.obstacles] == ["no_generations"]
    assert told.cgroup.path == "/shop/db"


def test_where_nothing_may_be_done_that_is_told() -> None:
    guest = CapabilitiesRead(4096, "nothing", True, "/", 0.5, "no PSI")  # noqa: FBT003  # positional
    told = explained(replace(shop(), guest=guest))
    assert [each.text for each in told.obstacles] == ["nothing may be done in this guest: no PSI"]


# In words

TELLER = ObstacleTeller("/shop/d b", None, 4096, {"/shop": Protection(9, 3)})


def way(change: Wait | Set | Lower | Raise | Do, teller: ObstacleTeller = TELLER) -> WayOut:
    (found,) = teller.tell(Obstacle(Because("protected"), 1, (change,))).ways_out
    return found


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (Wait(90_000_000), "wait: in 1 min 30 s it may be so by itself"),
        (Wait(0), "the next turn looks"),
        (Set("swap", value=True), "memreact-ctl rule put '/shop/d b' swap=true"),
        (Set("pressure.resume", "quiet"), "memreact-ctl set pressure.resume=quiet"),
        (Lower("/shop", 5 * MIB), "lower memory.min of /shop to 5 MiB"),
        (Raise("/shop", "memory.high"), "raise memory.high of /shop"),
        (Do("run_now"), "begin it now: memreact-ctl run-now '/shop/d b'"),
    ],
)
def test_each_way_out_is_told_as_what_to_do(
    change: Wait | Set | Lower | Raise | Do, text: str
) -> None:
    assert way(change).text == text


def test_where_there_are_several_nodes_a_rule_is_for_one() -> None:
    teller = ObstacleTeller("/shop", 1, 4096, {})
    found = way(Set("swap", value=True), teller)
    assert found.text == "memreact-ctl rule put /shop --numa 1 swap=true"


def test_the_text_has_the_figures() -> None:
    because = Because("anon_stays", {"anon": "swap_not_asked_for", "cold_pages": 24_320})
    told = TELLER.tell(Obstacle(because, 24_320, (Set("swap", value=True),)))
    assert told.text == "swap is off: 95 MiB of cold anonymous memory stay"
    assert told.withheld_bytes == 95 * MIB
    assert (told.figures, told.words) == ({"cold_pages": 24_320}, {"anon": "swap_not_asked_for"})


def test_anonymous_memory_that_is_not_cold_yet_is_told_to_need_swap_beside_the_wait() -> None:
    young = tuple(Generation(seq, age, 25_600, 0) for seq, age in enumerate((4_000_000, 9_000)))
    told = explained(
        shop(NodeView(0, young)),
        "[memcg]\nswap = true\n",
        CloseLook(saw=inspection("/shop/db", anon_bytes=200 * MIB, swap_free_bytes=0)),
    )
    (found,) = [each for each in told.obstacles if each.because == "anon_would_stay"]
    assert found.text == (
        "no swap is free that it may use: 200 MiB of anonymous memory would stay, however old"
    )
    assert found.ways_out[0].text.startswith("give the guest a swap area: ")


def test_a_generation_says_when_it_is_old_enough() -> None:
    saw: dict[str, int | str] = {"idle_us": 18 * 60_000_000, "cold_after_us": 3 * PERIOD_US}
    because = Because("nothing_cold_yet", {**saw, "possible_in_us": 12 * 60_000_000})
    text = TELLER.tell(Obstacle(because, 25_600)).text
    assert (
        text
        == "100 MiB untouched for 18 min 0 s are cold after 30 min 0 s, at a turn in 12 min 0 s"
    )


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("stall_over_limit", "its last eviction was broken off: 30 ms of 1 s (3.00 %), limit 1 %"),
        ("guest_stall_over_limit", "the guest stalled: 30 ms of 1 s (3.00 %), limit 1 %"),
        ("a_new_word", "a new word"),
    ],
)
def test_a_stall_is_told_with_its_share(code: str, text: str) -> None:
    saw: dict[str, int | str] = {"stall_us": 30_000, "over_us": 1_000_000, "limit_ppm": 10_000}
    assert TELLER.tell(Obstacle(Because(code, saw))).text == text
