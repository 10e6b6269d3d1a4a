"""Which rules hold for a cgroup on a node."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact.rules import MemcgRules, Rules, rules_for, rules_from
from memreact.rules import rules_of as rules_from_whole
from memreact.value import replace
from memreact_schemas.config import (
    DEFAULTS,
    LEFT_ALONE,
    U64_MAX,
    CgroupEntry,
    Compact,
    Config,
    Log,
    Memcg,
    Pressure,
    Reclaim,
    Swap,
    overlay,
)


def rules_of(*entries: CgroupEntry, disabled: bool | None = None) -> Rules:
    return rules_from(Config(memcg=Memcg(cgroup=entries, disabled=disabled)))


def entry(path: str, mark: int, *numa: int, no_subdir: bool = False) -> CgroupEntry:
    """Make an entry that is known again by its swappiness."""
    return CgroupEntry(path=path, swappiness_max=mark, numa=numa, no_subdir=no_subdir)


def marks(rules: Rules, path: str, nodes: tuple[int, ...] = (0, 1)) -> dict[int, int]:
    return {node: rules_for(rules, path, node).swappiness_max for node in nodes}


BASE = 50


def test_an_entry_without_nodes_holds_on_all_nodes_and_for_what_is_below() -> None:
    assert marks(rules_of(entry("/a", 7)), "/a/b") == {0: 7, 1: 7}


def test_an_entry_with_no_subdir_holds_for_its_own_path_alone() -> None:
    rules = rules_of(entry("/a", 7, no_subdir=True))
    assert marks(rules, "/a") == {0: 7, 1: 7}
    assert marks(rules, "/a/b") == {0: BASE, 1: BASE}


def test_a_node_that_the_nearer_entry_does_not_name_goes_to_the_next_one_upwards() -> None:
    assert marks(rules_of(entry("/a/b", 7, 1), entry("/a", 8)), "/a/b") == {1: 7, 0: 8}


def test_a_node_that_no_entry_names_falls_back_to_the_base() -> None:  # D11
    assert marks(rules_of(entry("/a", 7, 1)), "/a") == {1: 7, 0: BASE}


def test_an_entry_that_names_the_node_comes_before_the_one_that_names_none() -> None:
    rules = rules_of(entry("/a", 8), entry("/a", 7, 1))
    assert marks(rules, "/a") == {0: 8, 1: 7}


def test_of_two_entries_that_name_a_node_the_one_with_the_smaller_list_keeps_it() -> None:
    rules = rules_of(entry("/a", 8, 1, 2), entry("/a", 7, 0, 1))
    assert marks(rules, "/a", (0, 1, 2)) == {0: 7, 1: 7, 2: 8}


def test_a_no_subdir_entry_does_not_hide_the_one_above_it_from_what_is_below() -> None:
    rules = rules_of(entry("/a", 8), entry("/a/b", 7, no_subdir=True))
    assert marks(rules, "/a/b/c") == {0: 8, 1: 8}
    assert marks(rules, "/a/b") == {0: 7, 1: 7}


def test_an_entry_for_the_root_holds_everywhere_unless_no_subdir() -> None:
    assert marks(rules_of(entry("/", 7)), "/x/y") == {0: 7, 1: 7}
    assert marks(rules_of(entry("/", 7)), "/") == {0: 7, 1: 7}
    alone = rules_of(entry("/", 7, no_subdir=True))
    assert marks(alone, "/x") == {0: BASE, 1: BASE}
    assert marks(alone, "/") == {0: 7, 1: 7}


def test_a_path_written_without_its_leading_slash_matches() -> None:  # D12
    assert marks(rules_of(entry("system.slice/", 7)), "/system.slice/x.service") == {0: 7, 1: 7}


def test_a_name_that_only_begins_alike_is_another_cgroup() -> None:
    assert marks(rules_of(entry("/a", 7)), "/ab") == {0: BASE, 1: BASE}


def test_what_an_entry_leaves_out_is_the_bases() -> None:
    rules = rules_from(
        Config(
            memcg=Memcg(
                swap=True,
                period_secs=30,
                eviction_run_aging_count_min=5,
                cgroup=(CgroupEntry(path="/a", eviction_run_aging_count_min=1),),
            )
        )
    )
    here = rules_for(rules, "/a", 0)
    assert here == replace(rules.base, aging_count_min=1)  # D10
    assert here.swap
    assert here.period_us == 30_000_000


def test_an_entry_may_switch_on_what_the_base_switches_off() -> None:
    rules = rules_of(CgroupEntry(path="/a", disabled=False), disabled=True)
    assert [rules_for(rules, path, 0).disabled for path in ("/a", "/b")] == [False, True]


@pytest.mark.parametrize("path", LEFT_ALONE)
def test_a_control_service_is_left_alone_with_all_that_is_below_it(path: str) -> None:
    rules = rules_from(Config())
    assert rules_for(rules, path, 0).disabled
    assert rules_for(rules, f"{path}/udev", 1).disabled


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/system.slice",
        "/user.slice/user-0.slice/session-1.scope",
        "/system.slice/docker-1.scope",
    ],
)
def test_sessions_containers_and_slices_are_not_left_alone(path: str) -> None:
    assert not rules_for(rules_from(Config()), path, 0).disabled


def test_the_seeds_defaults_hold_where_nothing_is_said() -> None:
    assert rules_from(Config()).base == MemcgRules(
        disabled=False,
        swap=False,
        swappiness_max=50,
        period_us=600_000_000,
        period_limit_ppm=10_000,
        eviction_limit_ppm=10_000,
        aging_count_min=3,
        floor_bytes=0,
        floor_ppm=0,
    )


def test_only_0_lets_any_share_come_back_from_swap() -> None:
    found = [
        rules_from(Config(swap=Swap(max_promotion_percent_per_min=percent)))
        for percent in (0.0, 0.2, 1e-9)
    ]
    assert [rules.promotion_limit_ppm_per_min for rules in found] == [0, 2_000, 1]


def test_a_fraction_of_a_percent_is_not_rounded_to_a_whole_one() -> None:
    rules = rules_from(
        Config(
            memcg=Memcg(
                period_psi_percent_limit=1.17,
                eviction_psi_percent_limit=0.25,
                cgroup=(CgroupEntry(path="/a", floor_percent=12.5, floor_bytes=U64_MAX),),
            )
        )
    )
    assert (rules.base.period_limit_ppm, rules.base.eviction_limit_ppm) == (11_700, 2_500)
    assert rules_for(rules, "/a", 0).floor_ppm == 125_000
    assert rules_for(rules, "/a", 0).floor_bytes == U64_MAX


def test_pressure_reclaim_and_log_cross_over_in_the_policys_units() -> None:
    rules = rules_from(
        Config(
            pressure=Pressure(system_psi_percent_limit=12.5, window_ms=2000, resume="quiet"),
            reclaim=Reclaim(
                without_mglru="memory.reclaim", percent_per_period=0.5, beside_others=True
            ),
            log=Log(level="debug", decisions=16),
        ),
        revision=7,
    )
    assert (rules.system_limit_ppm, rules.window_us, rules.resume_quiet) == (
        125_000,
        2_000_000,
        True,
    )
    assert (rules.reclaim_without_mglru, rules.reclaim_ppm_per_period) == (True, 5_000)
    assert (rules.beside_others, rules.log_level, rules.decisions_kept) == (True, "debug", 16)
    assert rules.revision == 7


def test_rules_made_by_hand_are_the_defaults_where_nothing_is_given() -> None:
    default = rules_from(Config())
    assert Rules(base=default.base, cgroups=default.cgroups) == default


def test_every_number_that_means_never_forces_no_compaction() -> None:
    def forced_after(times: int) -> int | None:
        return rules_from(Config(compact=Compact(compact_force_times=times))).compact.force_times

    assert [forced_after(times) for times in (0, 2, 2**63 - 2)] == [0, 2, 2**63 - 2]
    assert [forced_after(times) for times in (2**63 - 1, U64_MAX)] == [None, None]


def test_rules_that_replace_others_are_looked_up_in_their_own_entries() -> None:
    rules = replace(rules_of(entry("/a", 7)), cgroups=rules_of(entry("/b", 8)).cgroups)
    assert [marks(rules, path, (0,))[0] for path in ("/a", "/b")] == [BASE, 8]


def wanted(entries: tuple[CgroupEntry, ...], path: str, node: int) -> int:
    """Look up as the specification words it, level by level and without an index."""
    names = path.strip("/").split("/") if path != "/" else []
    for depth in range(len(names), -1, -1):
        level = "/" + "/".join(names[:depth])
        at = sorted((e for e in entries if e.path == level), key=lambda e: (not e.numa, e.numa))
        for candidate in at:
            if candidate.no_subdir and level != path:
                continue
            if not candidate.numa or node in candidate.numa:
                return candidate.swappiness_max or 0
    return BASE


paths = st.sampled_from(["/", "/a", "/a/b", "/a/b/c", "/b"])
numbered = st.lists(
    st.tuples(paths, st.lists(st.integers(0, 2), max_size=2).map(tuple), st.booleans()),
    max_size=8,
    unique_by=lambda key: (key[0], frozenset(key[1])),
).map(
    lambda keys: tuple(
        entry(path, 100 + mark, *numa, no_subdir=alone)
        for mark, (path, numa, alone) in enumerate(keys)
    )
)


@given(numbered, paths, st.integers(0, 3))
def test_the_index_finds_what_a_walk_through_all_entries_finds(
    entries: tuple[CgroupEntry, ...], path: str, node: int
) -> None:
    assert rules_for(rules_of(*entries), path, node).swappiness_max == wanted(entries, path, node)


@given(numbered, numbered, st.sampled_from([None, 1, 99]), st.sampled_from([None, 1, 99]))
def test_rules_made_from_others_are_those_made_anew(
    before: tuple[CgroupEntry, ...], now: tuple[CgroupEntry, ...], was: int | None, is_: int | None
) -> None:
    config, fresh = (
        overlay(DEFAULTS, Config(memcg=Memcg(cgroup=entries, swappiness_max=mark)))
        for entries, mark in ((before, was), (now, is_))
    )
    known = rules_from_whole(config, 1)
    assert rules_from_whole(fresh, 2, (config, known)) == rules_from_whole(fresh, 2)
    assert rules_from_whole(config, 3, (config, known)).cgroups is known.cgroups


def test_the_defaults_need_no_more_than_they_say() -> None:
    assert rules_from(DEFAULTS) == rules_from(Config())
