"""Settings in force: whole or nothing, with a revision, and across restarts."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memreact.control.store import (
    Change,
    ChangedKey,
    NoSuchRule,
    RevisionConflict,
    RuleExists,
    SettingsStore,
)
from memreact.rules import rules_for
from memreact.run_dir import PUSHED_BYTES_MAX, PushedFile
from memreact.settings.errors import SettingsError
from memreact.settings.files import FILES, read_layers
from memreact.settings.layers import DEFAULT_ORIGIN, Layer, Settings
from memreact_schemas.config import (
    DEFAULTS,
    ENTRIES_MAX,
    U64_MAX,
    CgroupEntry,
    Compact,
    CompactPolicy,
    Config,
    Log,
    Memcg,
)


class Machine:
    """A machine's files, and what the daemon would have been told to put in force."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.applied: list[Settings] = []
        (root / "run").mkdir()
        self.pushed = PushedFile(str(root / "run/pushed"))
        self.store = self.restarted()

    def restarted(self) -> SettingsStore:
        """Begin anew with what the files say."""
        self.store = SettingsStore(self.layers, self.applied.append, self.pushed)
        return self.store

    def layers(self) -> list[Layer]:
        """Read the files."""
        return read_layers(root=str(self.root))

    def says(self, text: str) -> str:
        """Write the admin's file, and say where it is."""
        file = self.root / FILES[1].lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return str(file)

    def everything(self) -> tuple[Settings, int, bytes | None]:
        """All that a refused call must leave as it was."""
        return self.store.settings, len(self.applied), self.pushed.read()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


SWAP = Config(memcg=Memcg(swap=True))
A = CgroupEntry(path="/a", period_secs=7)
A_IN_FILE = "[[memcg.cgroup]]\npath = '/a'\nperiod_secs = 9\nswap = true\n"


def entry_of(store: SettingsStore, path: str, numa: tuple[int, ...] = ()) -> CgroupEntry | None:
    found = (entry for entry in store.settings.config.memcg.cgroup if entry.place == (path, numa))
    return next(found, None)


# --- one change


def test_a_patch_is_applied_before_it_is_answered(machine: Machine) -> None:
    change = machine.store.patch(SWAP, by="host")
    key = ChangedKey("memcg.swap", before=False, after=True, origin="pushed by host")
    assert change == Change(2, (key,))
    assert machine.applied == [machine.store.settings]
    assert machine.store.settings.rules.base.swap
    assert machine.store.settings.rules.revision == 2


def test_a_patch_that_changes_nothing_answers_the_revision_and_applies_nothing(
    machine: Machine,
) -> None:
    assert machine.store.patch(Config(), by="host") == Change(1, ())
    machine.store.patch(SWAP, by="host")
    assert machine.store.patch(SWAP, by="other") == Change(2, ())
    assert len(machine.applied) == 1


def test_what_was_pushed_as_it_stood_already_still_lies_over_a_later_file(machine: Machine) -> None:
    machine.store.patch(Config(memcg=Memcg(period_secs=600)), by="host")
    machine.says("[memcg]\nperiod_secs = 9\n")
    assert machine.store.reload().changed == ()
    assert machine.store.settings.config.memcg.period_secs == 600
    assert machine.store.settings.origins["memcg.period_secs"] == "pushed by host"


def test_a_dry_run_tells_what_would_change_and_changes_nothing(machine: Machine) -> None:
    before = machine.everything()
    change = machine.store.patch(SWAP, by="host", dry_run=True)
    assert [key.key for key in change.changed] == ["memcg.swap"]
    assert change.revision == 1
    assert machine.everything() == before


@pytest.mark.parametrize(
    ("patch", "found"),
    [
        (Config(memcg=Memcg(swap=True, swappiness_max=300)), "memcg.swappiness_max: found 300"),
        (Config(memcg=Memcg(period_secs=0)), "memcg.period_secs: found 0"),
        (Config(memcg=Memcg(period_secs=2**64 - 1)), "memcg.period_secs"),
        (Config(memcg=Memcg(eviction_psi_percent_limit=256)), "found 256, expected a number from"),
        (Config(compact=Compact(compact_order=256)), "compact.compact_order: found 256"),
        (Config(log=Log(level="loud")), 'log.level: found "loud"'),  # type: ignore[arg-type]
    ],
)
def test_a_value_out_of_range_is_refused_whole_though_no_decoder_saw_it(
    machine: Machine, patch: Config, found: str
) -> None:
    before = machine.everything()
    with pytest.raises(SettingsError) as caught:
        machine.store.patch(patch, by="host")
    assert found in str(caught.value)
    assert caught.value.origin == "host"
    assert machine.everything() == before


def test_both_numbers_that_mean_never_are_kept_as_they_came(machine: Machine) -> None:
    for never in (2**63 - 1, U64_MAX):
        machine.store.patch(Config(compact=Compact(compact_force_times=never)), by="host")
        assert machine.restarted().settings.config.compact.compact_force_times == never


def test_the_answer_notes_what_has_no_effect_beside_the_rest(machine: Machine) -> None:
    change = machine.store.patch(Config(memcg=Memcg(swappiness_max=60)), by="host")
    assert change.notes == ("memcg.swappiness_max has no effect while memcg.swap = false",)
    assert machine.store.patch(Config(log=Log(decisions=16)), by="host").notes == ()


CALLS: tuple[Callable[[SettingsStore, dict[str, Any]], Change], ...] = (
    lambda store, how: store.patch(SWAP, by="host", **how),
    lambda store, how: store.add_rule(A, by="host", **how),
    lambda store, how: store.set_rule(CgroupEntry(path="/init.scope", swap=True), by="h", **how),
    lambda store, how: store.delete_rule("/init.scope", by="host", **how),
    lambda store, how: store.drop(by="host", **how),
)


@pytest.mark.parametrize("call", CALLS)
def test_another_revision_than_expected_is_a_conflict_that_changes_nothing(
    machine: Machine, call: Callable[[SettingsStore, dict[str, Any]], Change]
) -> None:
    machine.store.patch(Config(memcg=Memcg(period_secs=8)), by="host")
    before = machine.everything()
    with pytest.raises(RevisionConflict) as caught:
        call(machine.store, {"expected_revision": 1})
    assert (caught.value.expected, caught.value.actual) == (1, 2)
    assert machine.everything() == before
    assert call(machine.store, {"expected_revision": 2, "dry_run": True}).changed
    assert machine.everything() == before
    assert call(machine.store, {"expected_revision": 2}).revision == 3
    assert len(machine.applied) == 2


# --- rules


def test_a_rule_is_added_set_and_deleted(machine: Machine) -> None:
    added = machine.store.add_rule(A, by="host")
    assert [(key.key, key.before, key.after) for key in added.changed] == [
        ("memcg.cgroup[/a]", None, "/a"),
        ("memcg.cgroup[/a].period_secs", None, 7),
    ]
    machine.store.set_rule(CgroupEntry(path="a/", swap=True), by="host")
    assert entry_of(machine.store, "/a") == CgroupEntry(path="/a", period_secs=7, swap=True)
    deleted = machine.store.delete_rule("/a/", by="host")
    assert [(key.key, key.after, key.origin) for key in deleted.changed] == [
        ("memcg.cgroup[/a]", None, ""),
        ("memcg.cgroup[/a].swap", None, ""),
        ("memcg.cgroup[/a].period_secs", None, ""),
    ]
    assert machine.store.settings.config == DEFAULTS


def test_to_add_a_rule_twice_is_refused_whatever_the_order_of_its_nodes(machine: Machine) -> None:
    machine.store.add_rule(CgroupEntry(path="/a", numa=(2, 1)), by="host")
    before = machine.everything()
    with pytest.raises(RuleExists) as caught:
        machine.store.add_rule(CgroupEntry(path="a", numa=(1, 2), swap=True), by="host")
    assert caught.value.place == ("/a", (1, 2))
    assert machine.everything() == before


def test_a_rule_that_a_file_says_exists_too(machine: Machine) -> None:
    machine.says(A_IN_FILE)
    machine.restarted()
    with pytest.raises(RuleExists):
        machine.store.add_rule(A, by="host")
    machine.store.set_rule(A, by="host")
    assert entry_of(machine.store, "/a") == CgroupEntry(path="/a", period_secs=7, swap=True)


def test_to_set_or_delete_an_unknown_rule_is_refused_and_changes_nothing(machine: Machine) -> None:
    machine.store.add_rule(A, by="host")
    before = machine.everything()
    with pytest.raises(NoSuchRule) as caught:
        machine.store.set_rule(CgroupEntry(path="/a", numa=(1,)), by="host")
    assert caught.value.place == ("/a", (1,))
    with pytest.raises(NoSuchRule):
        machine.store.delete_rule("/b", by="host")
    assert machine.everything() == before


def test_one_of_two_rules_of_a_path_is_deleted_by_its_nodes_in_any_order(machine: Machine) -> None:
    machine.store.add_rule(CgroupEntry(path="/a", numa=(1, 2), swap=True), by="host")
    machine.store.add_rule(A, by="host")
    machine.store.delete_rule("/a", (2, 1), by="host")
    assert entry_of(machine.store, "/a", (1, 2)) is None
    assert entry_of(machine.store, "/a") == A


def test_a_deleted_rule_of_a_file_stays_away_over_reload_and_restart_until_it_is_dropped(
    machine: Machine,
) -> None:
    machine.says(A_IN_FILE)
    machine.restarted()
    machine.store.delete_rule("/a", by="host")
    machine.says(A_IN_FILE + "floor_bytes = 5\n")
    machine.store.reload()
    assert entry_of(machine.restarted(), "/a") is None
    assert not [key for key in machine.store.settings.origins if "[/a]" in key]
    machine.store.drop(["memcg.cgroup[/a]"], by="host")
    whole = CgroupEntry(path="/a", period_secs=9, swap=True, floor_bytes=5)
    assert entry_of(machine.store, "/a") == whole


def test_a_rule_added_over_a_deleted_one_takes_nothing_from_the_file(machine: Machine) -> None:
    machine.says(A_IN_FILE)
    machine.restarted()
    machine.store.delete_rule("/a", by="host")
    machine.store.add_rule(A, by="host")
    assert entry_of(machine.restarted(), "/a") == A
    machine.store.delete_rule("/a", by="host")
    assert entry_of(machine.store, "/a") is None


def test_a_pushed_rule_that_is_deleted_hides_no_later_one_of_a_file(machine: Machine) -> None:
    machine.store.add_rule(A, by="host")
    machine.store.delete_rule("/a", by="host")
    machine.says(A_IN_FILE)
    machine.store.reload()
    assert entry_of(machine.store, "/a") == CgroupEntry(path="/a", period_secs=9, swap=True)


def test_a_key_of_a_deleted_rule_can_be_dropped_and_nothing_happens(machine: Machine) -> None:
    store = machine.store
    store.delete_rule("/init.scope", by="host")
    key = "memcg.cgroup[/init.scope].disabled"
    assert store.drop([key], by="host", dry_run=True).changed == ()
    assert store.drop([key], by="host").changed == ()
    assert not any(entry.path == "/init.scope" for entry in store.settings.config.memcg.cgroup)


def test_files_with_too_many_entries_show_in_status_and_keep_a_start_from_happening(
    machine: Machine,
) -> None:
    entries = (f"[[memcg.cgroup]]\npath = '/{n}'\nswap = false\n" for n in range(ENTRIES_MAX))
    machine.says("".join(entries))
    with pytest.raises(SettingsError, match=f"at most {ENTRIES_MAX} entries"):
        machine.store.reload()
    assert machine.store.problem is not None
    assert machine.store.settings.revision == 1
    with pytest.raises(SettingsError, match="settings files"):
        machine.restarted()


def test_a_built_in_rule_can_be_deleted(machine: Machine) -> None:
    rules = machine.store.settings.rules
    assert rules_for(rules, "/init.scope", 0).disabled
    machine.store.delete_rule("/init.scope", by="host")
    assert rules_for(machine.applied[-1].rules, "/init.scope", 0) == rules.base
    assert entry_of(machine.restarted(), "/init.scope") is None
    assert rules_for(machine.store.settings.rules, "/init.scope", 0) == rules.base


@pytest.mark.parametrize("path", ["/a/../b", "a\0b", "/" + "x" * 5000])
def test_a_path_that_no_cgroup_has_is_refused(machine: Machine, path: str) -> None:
    with pytest.raises(SettingsError) as caught:
        machine.store.delete_rule(path, by="host")
    assert caught.value.key == "path"


# --- what was pushed is dropped


def test_dropping_all_lets_the_files_show_again(machine: Machine) -> None:
    machine.says("[memcg]\nperiod_secs = 9\n" + A_IN_FILE)
    machine.restarted()
    before = machine.store.settings
    machine.store.patch(Config(memcg=Memcg(period_secs=8, swap=True)), by="host")
    machine.store.add_rule(CgroupEntry(path="/b", swap=True), by="host")
    machine.store.delete_rule("/a", by="host")
    machine.store.drop(by="host")
    assert machine.store.settings.config == before.config
    assert machine.store.settings.origins == before.origins
    assert machine.restarted().settings.config == before.config


@pytest.mark.parametrize(
    ("keys", "left"),
    [
        (["memcg.swap"], {"memcg.period_secs", "b", "b.swap", "b.period_secs", "log.decisions"}),
        (["memcg"], {"log.decisions"}),
        (["log", "memcg.swap"], {"memcg.period_secs", "b", "b.swap", "b.period_secs"}),
        (["memcg.cgroup"], {"memcg.swap", "memcg.period_secs", "log.decisions"}),
        (
            ["memcg.cgroup[/b].swap", "log"],
            {"memcg.swap", "memcg.period_secs", "b", "b.period_secs"},
        ),
        (
            ["memcg.cgroup[/b].swap", "memcg.cgroup[/b].period_secs", "log"],
            {"memcg.swap", "memcg.period_secs"},
        ),
        (
            ["memcg.disabled", "memcg.cgroup[/z].swap", "memcg.cgroup[/b].path", "log", "swap"],
            {"memcg.swap", "memcg.period_secs", "b", "b.swap", "b.period_secs"},
        ),
    ],
)
def test_some_keys_are_dropped_and_the_others_stay(
    machine: Machine, keys: list[str], left: set[str]
) -> None:
    machine.store.patch(Config(memcg=Memcg(swap=True, period_secs=8)), by="host")
    machine.store.patch(Config(log=Log(decisions=16)), by="host")
    entry = CgroupEntry(path="/b", swap=True, period_secs=5)
    machine.store.add_rule(entry, by="host")
    machine.store.drop(keys, by="host")
    origins = machine.restarted().settings.origins
    pushed = {key for key, origin in origins.items() if origin == "pushed by host"}
    assert {key.replace("memcg.cgroup[/b]", "b") for key in pushed} == left


@pytest.mark.parametrize(
    "key", ["memcg.swapp", "mem", "", "memcg.", "memcg.cgroup[/a].swapp", "memcg.cgroup[x]", ".a"]
)
def test_an_unknown_key_cannot_be_dropped(machine: Machine, key: str) -> None:
    machine.store.patch(SWAP, by="host")
    before = machine.everything()
    with pytest.raises(SettingsError, match="found the unknown key"):
        machine.store.drop(["memcg.swap", key], by="host")
    assert machine.everything() == before


# --- files


def test_a_changed_file_is_put_in_force_and_its_difference_told(machine: Machine) -> None:
    file = machine.says("[memcg]\nperiod_secs = 9\n")
    change = machine.store.reload()
    assert change == Change(2, (ChangedKey("memcg.period_secs", 600, 9, file),))
    assert machine.applied == [machine.store.settings]
    assert machine.store.reload() == Change(2, ())


def test_a_bad_file_keeps_what_is_in_force_and_shows_until_it_is_right(machine: Machine) -> None:
    machine.says("[memcg]\nperiod_secs = 9\n")
    machine.store.reload()
    before = machine.everything()
    file = machine.says("[memcg]\nperiod_secs = 0\n")
    with pytest.raises(SettingsError):
        machine.store.reload()
    assert machine.everything() == before
    assert str(machine.store.problem).startswith(f"{file}:2: memcg.period_secs: found 0")
    machine.store.patch(SWAP, by="host")
    assert machine.store.problem is not None
    assert machine.store.settings.config.memcg.period_secs == 9
    machine.says("[memcg]\nperiod_secs = 9\n")
    machine.store.reload()
    assert machine.store.problem is None


def test_a_bad_file_at_the_start_is_refused(machine: Machine) -> None:
    machine.says("[memcg]\nperiod_secs = 0\n")
    with pytest.raises(SettingsError):
        machine.restarted()


# --- across restarts


def test_what_was_pushed_survives_a_restart_with_who_said_it(machine: Machine) -> None:
    machine.store.patch(SWAP, by="host")
    machine.store.add_rule(CgroupEntry(path="/a\n".strip(), numa=(0,), swap=True), by="root")
    before = machine.store.settings
    after = machine.restarted().settings
    assert (after.config, after.origins) == (before.config, before.origins)
    assert after.revision > before.revision
    assert len(machine.applied) == 2  # the daemon starts with `settings`; nothing is applied to it


def test_revisions_go_on_growing_over_restarts_and_reloads(machine: Machine) -> None:
    seen = [machine.store.patch(SWAP, by="host").revision]
    for secs in range(1, 4):
        seen.append(machine.restarted().settings.revision)
        machine.says(f"[memcg]\nperiod_secs = {secs}\n")
        seen.append(machine.store.reload().revision)
    assert seen == sorted(set(seen))


def test_the_file_is_its_owners_alone(machine: Machine) -> None:
    machine.store.patch(SWAP, by="host")
    assert stat.S_IMODE(os.stat(machine.pushed.path).st_mode) == 0o600
    assert os.listdir(os.path.dirname(machine.pushed.path)) == ["pushed"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"{",
        b"[" * 100_000,
        b"null",
        b"{}",
        b'{"revision":0}',
        b'{"revision":9223372036854775807}',
        b'{"revision":2,"nonsense":1}',
        b'{"revision":2,"config":{"memcg":{"swap":1}}}',
        b'{"revision":2,"config":{"memcg":{"swapp":true}}}',
        b'{"revision":2,"by":{"memcg.swap":7}}',
        b"x" * (PUSHED_BYTES_MAX + 1),
    ],
)
def test_a_corrupted_file_is_set_aside_with_a_warning_and_the_start_goes_on(
    machine: Machine, data: bytes
) -> None:
    with open(machine.pushed.path, "wb") as file:
        file.write(data)
    settings = machine.restarted().settings
    assert settings.config == DEFAULTS
    (warning,) = settings.warnings
    assert warning.startswith(
        f"pushed settings are lost, their file is now {machine.pushed.path}.b"
    )
    assert os.path.exists(machine.pushed.path + ".bad")
    assert machine.store.patch(SWAP, by="host").revision == 2
    assert machine.restarted().settings.config.memcg.swap


def test_where_nothing_can_be_written_a_change_holds_and_its_answer_says_how_long(
    machine: Machine,
) -> None:
    os.rmdir(os.path.dirname(machine.pushed.path))
    change = machine.store.patch(SWAP, by="host")
    assert change.notes == (
        (
            f"holds until the daemon restarts: {machine.pushed.path} is not written: "
            "No such file or directory"
        ),
    )
    assert machine.applied[-1].config.memcg.swap


class Room:
    """Whether the file of what was pushed can be written, and what was told of that."""

    def __init__(self, machine: Machine) -> None:
        self._folder = os.path.dirname(machine.pushed.path)
        self.told: list[str | None] = []
        store = machine.store
        store.saving_changed = lambda: self.told.append(store.unsaved)

    def goes(self) -> None:
        """From now on nothing can be written."""
        os.rename(self._folder, self._folder + ".away")

    def comes(self) -> None:
        """From now on it can be."""
        os.rename(self._folder + ".away", self._folder)


@pytest.fixture
def room(machine: Machine) -> Room:
    return Room(machine)


LOUD = Config(log=Log(level="debug"))
OCCASIONS: dict[str, Callable[[Machine], object]] = {
    "another change": lambda machine: machine.store.patch(LOUD, by="host"),
    "the same change again": lambda machine: machine.store.patch(SWAP, by="host"),
    "a reload of files that say the same": lambda machine: machine.store.reload(),
    "a turn or the stop": lambda machine: machine.store.save_again(),
}


@pytest.mark.parametrize("occasion", OCCASIONS)
def test_what_could_not_be_written_shows_until_it_is_at_the_next_occasion(
    machine: Machine, room: Room, occasion: str
) -> None:
    room.goes()
    assert machine.store.unsaved is None
    machine.store.patch(SWAP, by="host")
    why = f"{machine.pushed.path} is not written: No such file or directory"
    assert machine.store.unsaved == why
    OCCASIONS[occasion](machine)
    assert machine.store.unsaved == why
    room.comes()
    OCCASIONS[occasion](machine)
    assert machine.store.unsaved is None
    assert room.told == [why, None]
    settings = machine.store.settings
    restarted = machine.restarted()
    assert restarted.settings.config == settings.config
    assert restarted.settings.revision == settings.revision + 1


def test_a_dry_run_is_no_occasion_to_write(machine: Machine, room: Room) -> None:
    room.goes()
    machine.store.patch(SWAP, by="host")
    room.comes()
    machine.store.patch(LOUD, by="host", dry_run=True)
    assert machine.store.unsaved is not None
    assert machine.pushed.read() is None


def test_what_is_as_it_should_be_is_not_written_again(machine: Machine, room: Room) -> None:
    machine.store.patch(SWAP, by="host")
    room.goes()
    machine.store.save_again()
    machine.store.reload()
    assert (machine.store.unsaved, room.told) == (None, [])


def test_a_start_that_cannot_write_its_revision_shows_that(machine: Machine) -> None:
    machine.store.patch(SWAP, by="host")
    os.mkdir(machine.pushed.path + ".new")
    assert machine.restarted().unsaved == f"{machine.pushed.path} is not written: Is a directory"


# --- bounds


def test_more_pushed_settings_than_their_file_may_hold_are_refused(machine: Machine) -> None:
    entries = tuple(CgroupEntry(path=f"/{n}/" + "x" * 4000, swap=True) for n in range(300))
    before = machine.everything()
    with pytest.raises(SettingsError, match="at most 1048576 bytes of pushed settings"):
        machine.store.patch(Config(memcg=Memcg(cgroup=entries)), by="host")
    assert machine.everything() == before


def test_more_entries_in_all_than_one_layer_may_have_are_refused(machine: Machine) -> None:
    entries = tuple(CgroupEntry(path=f"/{n}") for n in range(ENTRIES_MAX))
    with pytest.raises(SettingsError, match=f"at most {ENTRIES_MAX} entries in all layers"):
        machine.store.patch(Config(memcg=Memcg(cgroup=entries)), by="host")
    assert machine.store.settings.config == DEFAULTS


def test_a_key_of_the_threshold_chooses_that_rule_and_the_answer_says_so(
    machine: Machine,
) -> None:
    change = machine.store.patch(Config(compact=Compact(compact_threshold=2048)), by="host")
    assert {each.key: each.after for each in change.changed} == {
        "compact.compact_threshold": 2048,
        "compact_policy.rule": "threshold",
    }
    assert change.notes == (
        'compact_policy.rule = "threshold" is chosen by compact.compact_threshold',
    )
    assert machine.store.settings.origins["compact_policy.rule"] == "pushed by host"
    assert not machine.store.settings.rules.compact.by_gain


def test_what_is_in_force_already_chooses_nothing(machine: Machine) -> None:
    same = Compact(compact_threshold=1024, compact_force_times=2**63 - 1)
    change = machine.store.patch(Config(compact=same), by="host")
    assert machine.store.settings.config.compact_policy.rule == "gain"
    assert change.notes == ()


def test_a_patch_that_names_the_rule_gets_it_and_is_told_what_is_set_in_vain(
    machine: Machine,
) -> None:
    patch = Config(
        compact=Compact(compact_threshold=2048), compact_policy=CompactPolicy(rule="gain")
    )
    change = machine.store.patch(patch, by="host")
    assert machine.store.settings.config.compact_policy.rule == "gain"
    (note,) = change.notes
    assert note.startswith("compact.compact_threshold has no effect while")


def test_a_pushed_rule_gives_way_to_a_later_key_of_the_other(machine: Machine) -> None:
    def rule() -> str | None:
        return machine.store.settings.config.compact_policy.rule

    machine.store.patch(Config(compact_policy=CompactPolicy(rule="gain")), by="host")
    machine.store.patch(Config(compact=Compact(compact_force_times=0)), by="host")
    assert rule() == "threshold"
    machine.store.drop(["compact", "compact_policy"], by="host")
    assert rule() == "gain"


def test_the_rule_that_a_key_chose_leaves_with_the_key(machine: Machine) -> None:
    store, key = machine.store, "compact_policy.rule"
    store.patch(Config(compact=Compact(compact_force_times=5)), by="host")
    assert machine.restarted().settings.config.compact_policy.rule == "threshold"
    assert machine.store.settings.origins[key] == "pushed by host"
    change = machine.store.drop(["compact.compact_force_times"], by="root")
    assert {each.key: each.after for each in change.changed} == {
        "compact.compact_force_times": DEFAULTS.compact.compact_force_times,
        key: "gain",
    }
    assert machine.store.settings.origins[key] == DEFAULT_ORIGIN
    assert change.notes == ()


def test_the_rule_is_of_whoever_pushed_the_key_that_chose_it(machine: Machine) -> None:
    machine.store.patch(Config(memcg=Memcg(swap=True)), by="host")
    machine.store.patch(Config(compact=Compact(compact_threshold=9)), by="root")
    assert machine.store.settings.origins["compact_policy.rule"] == "pushed by root"


def test_a_key_set_back_by_hand_lets_the_rule_go_as_well(machine: Machine) -> None:
    machine.store.patch(Config(compact=Compact(compact_threshold=2048)), by="host")
    change = machine.store.patch(Config(compact=Compact(compact_threshold=1024)), by="host")
    assert machine.store.settings.config.compact_policy.rule == "gain"
    assert change.notes == ()


def test_a_rule_that_was_pushed_stays_when_a_key_of_it_leaves(machine: Machine) -> None:
    threshold = CompactPolicy(rule="threshold")
    machine.store.patch(Config(compact_policy=threshold), by="host")
    machine.store.patch(Config(compact=Compact(compact_threshold=2048)), by="host")
    machine.store.drop(["compact.compact_threshold"], by="host")
    assert machine.store.settings.config.compact_policy.rule == "threshold"


def test_a_dry_run_tells_the_rule_that_a_key_would_choose(machine: Machine) -> None:
    patch = Config(compact=Compact(compact_force_times=5))
    (note,) = machine.store.patch(patch, by="host", dry_run=True).notes
    assert note == 'compact_policy.rule = "threshold" is chosen by compact.compact_force_times'
    assert machine.store.settings.config == DEFAULTS
