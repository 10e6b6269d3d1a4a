"""Every setting at its bounds and past them, and layers over layers."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact_schemas.config import (
    DEFAULTS,
    LEFT_ALONE,
    NEVER,
    U64_MAX,
    CgroupEntry,
    Compact,
    Config,
    Control,
    Log,
    Memcg,
    Pressure,
    Reclaim,
    is_never,
    normal_path,
    overlay,
)

TEN_YEARS = 315_360_000
WHOLE = {
    ("memcg", "swappiness_max"): (0, 200),
    ("memcg", "period_secs"): (1, TEN_YEARS),
    ("memcg", "eviction_run_aging_count_min"): (0, U64_MAX),
    ("compact", "period_secs"): (1, TEN_YEARS),
    ("compact", "compact_sec_max"): (-(2**63), 2**63 - 1),
    ("compact", "compact_order"): (0, 255),
    ("compact", "compact_threshold"): (0, U64_MAX),
    ("compact", "compact_force_times"): (0, U64_MAX),
    ("pressure", "window_ms"): (500, 10_000),
    ("control", "varlink_port"): (1, 2**32 - 2),
    ("control", "ttrpc_port"): (1, 2**32 - 2),
    ("control", "metrics_port"): (1, 2**32 - 2),
    ("control", "metrics_tcp_port"): (0, 65_535),
    ("control", "metrics_cgroups"): (0, 1000),
    ("log", "decisions"): (16, 1_000_000),
    ("log", "flight_kib"): (0, 65_536),
    ("log", "flight_minutes"): (1, 1440),
    ("log", "flight_files"): (0, 16),
}
PERCENT = (
    ("memcg", "period_psi_percent_limit"),
    ("memcg", "eviction_psi_percent_limit"),
    ("compact", "period_psi_percent_limit"),
    ("compact", "compact_psi_percent_limit"),
    ("pressure", "system_psi_percent_limit"),
    ("swap", "max_promotion_percent_per_min"),
)
WORDS = {
    ("log", "level"): ("error", "warning", "notice", "info", "debug"),
    ("pressure", "resume"): ("period", "quiet"),
    ("reclaim", "without_mglru"): ("off", "memory.reclaim"),
    ("compact", "compact_order"): ("auto",),
}
SWITCHES = (
    ("memcg", "disabled"),
    ("memcg", "swap"),
    ("compact", "disabled"),
    ("reclaim", "beside_others"),
    ("control", "vsock"),
    ("control", "allow_guest"),
)


def taken(key: tuple[str, str], value: object) -> object:
    table, name = key
    config = msgspec.convert({table: {name: value}}, Config)
    return getattr(getattr(config, table), name)


def refused(key: tuple[str, str], value: object) -> None:
    with pytest.raises(msgspec.ValidationError, match=key[1]):
        taken(key, value)


@pytest.mark.parametrize(("key", "bounds"), WHOLE.items())
def test_a_whole_number_is_taken_at_its_bounds_and_refused_past_them(
    key: tuple[str, str], bounds: tuple[int, int]
) -> None:
    low, high = bounds
    assert (taken(key, low), taken(key, high)) == bounds
    refused(key, low - 1)
    refused(key, high + 1)
    refused(key, 2**64)
    refused(key, 2**200)


@pytest.mark.parametrize("key", WHOLE)
@pytest.mark.parametrize("value", [1.5, 1e400, "10", True, [], {}, float("nan")])
def test_a_whole_number_is_not_guessed_from_another_type(
    key: tuple[str, str], value: object
) -> None:
    refused(key, value)


@pytest.mark.parametrize("key", PERCENT)
def test_a_share_is_a_number_from_0_to_100_fractions_allowed(key: tuple[str, str]) -> None:
    assert [taken(key, value) for value in (0, 0.25, 1.17, 100)] == [0, 0.25, 1.17, 100]


@pytest.mark.parametrize("key", PERCENT)
@pytest.mark.parametrize(
    "value",
    [-0.001, 100.001, 256, 2**31, 2**63, 2**64, 10**400, float("inf"), float("nan"), "1", True],
)
def test_a_share_out_of_range_is_refused_and_never_wraps_round(
    key: tuple[str, str], value: object
) -> None:
    refused(key, value)


def test_the_share_taken_without_the_multi_gen_lru_is_over_0_and_at_most_20() -> None:
    key = ("reclaim", "percent_per_period")
    assert [taken(key, 0.001), taken(key, 20)] == [0.001, 20]
    for value in (0, 20.001, -1, float("nan")):
        refused(key, value)


@pytest.mark.parametrize(("key", "words"), WORDS.items())
def test_a_choice_takes_its_words_and_no_other(key: tuple[str, str], words: tuple[str]) -> None:
    assert tuple(taken(key, word) for word in words) == words
    for wrong in (*(word.upper() for word in words), "", "\ud800"):
        with pytest.raises((msgspec.ValidationError, UnicodeEncodeError)):
            taken(key, wrong)


@pytest.mark.parametrize("key", SWITCHES)
def test_a_switch_is_true_or_false(key: tuple[str, str]) -> None:
    assert [taken(key, value) for value in (True, False)] == [True, False]
    for wrong in (0, 1, "true", "yes"):
        refused(key, wrong)


def test_both_numbers_that_mean_never_are_taken_for_compact_force_times() -> None:
    key = ("compact", "compact_force_times")
    assert [taken(key, 2**63 - 1), taken(key, 2**64 - 1)] == [2**63 - 1, 2**64 - 1]


def test_what_forces_no_compaction_is_never() -> None:
    assert [is_never(value) for value in (0, 2**63 - 2, NEVER, 2**63, U64_MAX)] == [
        *(False, False),
        *(True, True, True),
    ]


@pytest.mark.parametrize("name", ["", "memreact", "_a-b.C9", "x" * 32])
def test_a_group_is_named(name: str) -> None:
    assert taken(("control", "group"), name) == name


@pytest.mark.parametrize("name", ["x" * 33, "a b", "/etc/passwd", "a:b", "a\n", "$(id)", "é", 7])
def test_what_cannot_be_the_name_of_a_group_is_refused(name: object) -> None:
    refused(("control", "group"), name)


@pytest.mark.parametrize("table", Config.__struct_fields__)
def test_an_unknown_key_is_refused_in_every_table(table: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `nonsense`"):
        msgspec.convert({table: {"nonsense": 1}}, Config)


def test_the_same_bounds_hold_for_a_cgroup_as_for_the_base() -> None:
    for key, value in (
        ("swappiness_max", 201),
        ("period_secs", 0),
        ("eviction_psi_percent_limit", 100.5),
        ("eviction_run_aging_count_min", 2**64),
        ("floor_bytes", 2**64),
        ("floor_bytes", -1),
        ("floor_percent", 101),
        ("numa", [1024]),
        ("numa", [-1]),
        ("numa", 1),
        ("no_subdir", 1),
    ):
        with pytest.raises(msgspec.ValidationError, match=key):
            msgspec.convert({"path": "/a", key: value}, CgroupEntry)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a/b/", "/a/b"),
        ("", "/"),
        ("/", "/"),
        ("///", "/"),
        ("/x", "/x"),
        ("system.slice/", "/system.slice"),
        ("a//b", "/a//b"),
        ("/a b", "/a b"),
    ],
)
def test_a_path_matches_with_and_without_its_outer_slashes(written: str, meant: str) -> None:
    assert normal_path(written) == meant
    assert CgroupEntry(path=written).path == meant


@pytest.mark.parametrize(
    "path", ["..", "/a/../b", "a/.", "./a", "/a\0b", "/a\nb", "/" + "x" * 4095]
)
def test_a_path_that_could_leave_the_tree_or_names_no_cgroup_is_refused(path: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="path"):
        msgspec.convert({"path": path}, CgroupEntry)


def test_a_path_of_the_longest_length_is_taken() -> None:
    assert normal_path("x" * 4094) == "/" + "x" * 4094


def test_a_name_may_have_dots_in_it() -> None:
    assert normal_path("/a..b/...") == "/a..b/..."


@given(st.text())
def test_a_normal_path_stays_as_it_is(text: str) -> None:
    try:
        path = normal_path(text)
    except ValueError:
        return
    assert normal_path(path) == path
    assert path.startswith("/")
    assert path == "/" or not path.endswith("/")


def test_nodes_are_a_set_whatever_their_order() -> None:
    assert CgroupEntry(path="/a", numa=(2, 1, 2)) == CgroupEntry(path="a/", numa=(1, 2))


def test_two_entries_of_one_place_are_refused_whatever_the_order_of_their_nodes() -> None:
    twice = [{"path": "/a", "numa": [1, 2]}, {"path": "a/", "numa": [2, 1]}]
    with pytest.raises(msgspec.ValidationError, match=r"one entry for each path and numa.*\[1\]"):
        msgspec.convert({"cgroup": twice}, Memcg)


def test_two_entries_of_one_path_may_name_different_nodes() -> None:
    both = msgspec.convert({"cgroup": [{"path": "/a", "numa": [1]}, {"path": "/a"}]}, Memcg)
    assert [entry.place for entry in both.cgroup] == [("/a", (1,)), ("/a", ())]


def test_more_entries_than_the_limit_are_refused() -> None:
    many = [{"path": f"/{number}"} for number in range(10_001)]
    assert len(msgspec.convert({"cgroup": many[1:]}, Memcg).cgroup) == 10_000
    with pytest.raises(msgspec.ValidationError, match="<= 10000"):
        msgspec.convert({"cgroup": many}, Memcg)


def test_the_defaults_say_every_key() -> None:
    for table in DEFAULTS.__struct_fields__:
        values = msgspec.structs.asdict(getattr(DEFAULTS, table))
        assert None not in values.values(), table


def test_the_defaults_stand_within_their_own_bounds() -> None:
    assert msgspec.convert(msgspec.to_builtins(DEFAULTS), Config) == DEFAULTS


def test_services_that_control_the_guest_are_left_alone_by_default() -> None:
    disabled = {entry.path for entry in DEFAULTS.memcg.cgroup if entry.disabled}
    assert disabled == set(LEFT_ALONE)
    assert {"/init.scope", "/system.slice/dbus.service", "/system.slice/ssh.service"} <= disabled


def test_an_own_entry_for_a_control_service_overrides_the_built_in_one() -> None:
    own = Config(memcg=Memcg(cgroup=(CgroupEntry(path="/init.scope", disabled=False),)))
    merged = overlay(DEFAULTS, own).memcg.cgroup
    assert [e.disabled for e in merged if e.path == "/init.scope"] == [False]
    assert len(merged) == len(LEFT_ALONE)


def test_a_layer_changes_only_the_keys_that_it_says() -> None:
    lower = Config(memcg=Memcg(swap=True, period_secs=30))
    upper = Config(memcg=Memcg(period_secs=60))
    assert overlay(lower, upper).memcg == Memcg(swap=True, period_secs=60)


def test_entries_for_other_nodes_of_the_same_path_are_entries_of_their_own() -> None:
    lower = Config(memcg=Memcg(cgroup=(CgroupEntry(path="/a", swap=True),)))
    upper = Config(memcg=Memcg(cgroup=(CgroupEntry(path="/a", numa=(1,), swap=False),)))
    assert [(e.numa, e.swap) for e in overlay(lower, upper).memcg.cgroup] == [
        ((), True),
        ((1,), False),
    ]


maybe_bool = st.none() | st.booleans()
percents = st.none() | st.floats(0, 100)
u64s = st.none() | st.integers(0, U64_MAX)
seconds = st.none() | st.integers(1, TEN_YEARS)
memcg_keys = {
    "disabled": maybe_bool,
    "swap": maybe_bool,
    "swappiness_max": st.none() | st.integers(0, 200),
    "period_secs": seconds,
    "period_psi_percent_limit": percents,
    "eviction_psi_percent_limit": percents,
    "eviction_run_aging_count_min": u64s,
}
entries = st.builds(
    CgroupEntry,
    path=st.sampled_from(["/", "/a", "/a/b", "/init.scope", '/"q\\']),
    numa=st.lists(st.integers(0, 3), max_size=2).map(tuple),
    no_subdir=maybe_bool,
    floor_bytes=u64s,
    floor_percent=percents,
    **memcg_keys,
)
configs = st.builds(
    Config,
    memcg=st.builds(
        Memcg,
        cgroup=st.lists(entries, max_size=4, unique_by=lambda entry: entry.place).map(tuple),
        **memcg_keys,
    ),
    compact=st.builds(
        Compact,
        disabled=maybe_bool,
        period_secs=seconds,
        compact_sec_max=st.none() | st.integers(-(2**63), 2**63 - 1),
        compact_order=st.none() | st.just("auto") | st.integers(0, 255),
        compact_force_times=u64s,
    ),
    pressure=st.builds(
        Pressure, system_psi_percent_limit=percents, resume=st.sampled_from(["quiet", None])
    ),
    reclaim=st.builds(Reclaim, beside_others=maybe_bool),
    control=st.builds(
        Control,
        vsock=maybe_bool,
        ttrpc_port=st.none() | st.integers(1, 9),
        group=st.sampled_from([None, "", "adm"]),
    ),
    log=st.builds(Log, decisions=st.none() | st.integers(16, 1_000_000)),
)


@given(configs)
def test_a_layer_over_nothing_and_nothing_over_a_layer_are_that_layer(config: Config) -> None:
    assert overlay(Config(), config) == config
    assert overlay(config, Config()) == config


@given(configs, configs)
def test_to_lay_a_layer_over_twice_changes_nothing_more(lower: Config, upper: Config) -> None:
    once = overlay(lower, upper)
    assert overlay(once, upper) == once


@given(configs, configs, configs)
def test_it_does_not_matter_which_two_neighbours_are_merged_first(
    low: Config, middle: Config, high: Config
) -> None:
    assert overlay(overlay(low, middle), high) == overlay(low, overlay(middle, high))


@given(configs)
def test_settings_survive_the_wire(config: Config) -> None:
    assert msgspec.json.decode(msgspec.json.encode(config), type=Config) == config
