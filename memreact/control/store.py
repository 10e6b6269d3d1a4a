"""The settings in force: what changes them, and that a change is whole or nothing.

Every change makes the same way: a new pushed layer or newly read files, merged with the rest; then
the revision grows, the pushed file is written, the settings are applied, and only then the caller
is answered. Whatever is refused is refused before the first of these. A pushed file that cannot be
written refuses nothing: it shows as unsaved, and is tried again with whatever comes next.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import msgspec
from msgspec.structs import replace as with_keys

from memreact.control.effect import without_effect
from memreact.control.pushed import PUSHED_ORIGIN, Pushed, decode, encode
from memreact.control.ways import check_ways, ways_moved
from memreact.run_dir import PUSHED_BYTES_MAX, PushedFile
from memreact.settings.errors import SettingsError, known_key
from memreact.settings.layers import (
    Layer,
    Place,
    Settings,
    entry_key,
    flatten,
    keys_of_threshold,
    said,
    settings_of,
    settle,
)
from memreact.settings.tables import config_from
from memreact.value import Struct
from memreact_schemas.config import (
    ENTRIES_MAX,
    CgroupEntry,
    Config,
    Memcg,
    normal_path,
)

__all__ = [
    "Change",
    "ChangedKey",
    "NoSuchRule",
    "RevisionConflict",
    "RuleExists",
    "SettingsStore",
]


class RevisionConflict(Exception):  # noqa: N818  # the call's own word for it
    """The settings are at another revision than the caller has seen.

    Args:
        expected: By the caller.
        actual: In force.
    """

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(f"expected revision {expected}, but {actual} is in force")
        self.expected = expected
        self.actual = actual


class RuleExists(Exception):  # noqa: N818  # the call's own word for it
    """There is an entry for this path and these nodes already."""

    def __init__(self, place: Place) -> None:
        super().__init__(f"{entry_key(place)} exists already: set it instead")
        self.place = place


class NoSuchRule(Exception):  # noqa: N818  # the call's own word for it
    """There is no entry for this path and these nodes."""

    def __init__(self, place: Place) -> None:
        super().__init__(f"{entry_key(place)} does not exist")
        self.place = place


class ChangedKey(Struct, frozen=True):
    """One key that changed.

    Args:
        key: As origins name it, such as `memcg.swap` or `memcg.cgroup[/a].swap`; an entry itself,
            `memcg.cgroup[/a]`, has its path for a value.
        before: Its value; None where nobody said it.
        after: Its value; None where nobody says it now.
        origin: Of the new value; empty where there is none.
    """

    key: str
    before: object
    after: object
    origin: str


class Change(Struct, frozen=True):
    """What a call did, or with a dry run would have done.

    Args:
        revision: In force now.
        changed: The keys that have another value now.
        notes: What the caller should know, such as a key that has no effect beside the others.
    """

    revision: int
    changed: tuple[ChangedKey, ...]
    notes: tuple[str, ...] = ()


class SettingsStore:
    """Holds the settings in force.

    Args:
        read_files: Reads all weaker layers, weakest first.
        apply: Puts settings in force; it is not called for those that are in force at the start.
        pushed: Where pushed settings survive a restart.

    Raises:
        SettingsError: A file is wrong, and nothing is in force yet that could be kept.
    """

    def __init__(
        self,
        read_files: Callable[[], Sequence[Layer]],
        apply: Callable[[Settings], None],
        pushed: PushedFile,
    ) -> None:
        self._read_files = read_files
        self._apply = apply
        self._file = pushed
        self._pushed, revision, self._warnings = _restored(pushed)
        self._below = self._read()
        self.problem: SettingsError | None = None
        self.unsaved: str | None = None
        """Why a restarted daemon would not know what was pushed last; None while it would."""
        self.saving_changed: Callable[[], None] = _nobody_told
        """Told when `unsaved` has become another."""
        self.settings = settle([self._below, self._pushed.layer], revision)
        self._in_vain = frozenset(without_effect(self.settings.config))
        if revision > 1:
            self._save(encode(self._pushed, revision))

    def patch(
        self,
        patch: Config,
        *,
        by: str,
        expected_revision: int | None = None,
        dry_run: bool = False,
        over_vsock: bool = False,
    ) -> Change:
        """Set the keys that `patch` says, entries of cgroups too; all or none.

        Args:
            patch: What to set.
            by: The peer who asks.
            expected_revision: Refuse if another one is in force.
            dry_run: Tell what would change, and change nothing.
            over_vsock: Whether AF_VSOCK is the way by which it is asked.

        Raises:
            SettingsError: A value is out of its range, or the whole is too large; it would close
                the way by which it is asked, or have two services listen on one port.
            RevisionConflict: Another revision is in force.
        """
        self._expect(expected_revision)
        patch = _checked(patch, by)
        fresh = _free_to_choose(self._pushed, patch, self.settings.config).with_patch(patch, by)
        self._check_ways(fresh, by, over_vsock=over_vsock)
        return self._put_in_force(self._below, fresh, dry_run=dry_run)

    def foresee(self, patch: Config, *, by: str) -> Settings:
        """Tell which settings would be in force with `patch`; nothing is changed.

        Raises:
            SettingsError: As for `patch`.
        """
        patch = _checked(patch, by)
        fresh = _free_to_choose(self._pushed, patch, self.settings.config).with_patch(patch, by)
        whole = flatten([self._below, fresh.layer])
        return settings_of(whole, self.settings.revision + 1, self.settings)

    def add_rule(
        self,
        entry: CgroupEntry,
        *,
        by: str,
        expected_revision: int | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Add an entry for a cgroup.

        Raises:
            RuleExists: There is one for the same path and nodes.
            SettingsError: As for `patch`.
            RevisionConflict: As for `patch`.
        """
        self._expect(expected_revision)
        if self._has(entry.place):
            raise RuleExists(entry.place)
        fresh = self._pushed.with_entry(_checked_entry(entry, by), by)
        return self._put_in_force(self._below, fresh, dry_run=dry_run)

    def set_rule(
        self,
        entry: CgroupEntry,
        *,
        by: str,
        expected_revision: int | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Set keys of an entry that there is; those that are not given stay.

        Raises:
            NoSuchRule: There is none for this path and these nodes.
            SettingsError: As for `patch`.
            RevisionConflict: As for `patch`.
        """
        self._expect(expected_revision)
        if not self._has(entry.place):
            raise NoSuchRule(entry.place)
        fresh = self._pushed.with_entry(_checked_entry(entry, by), by)
        return self._put_in_force(self._below, fresh, dry_run=dry_run)

    def delete_rule(
        self,
        path: str,
        numa: tuple[int, ...] = (),
        *,
        by: str,
        expected_revision: int | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Delete an entry, though a file says it: until a reboot, or until it is dropped.

        Raises:
            NoSuchRule: There is none for this path and these nodes.
            SettingsError: No cgroup can have this path.
            RevisionConflict: As for `patch`.
        """
        self._expect(expected_revision)
        place = _place(path, numa, by)
        if not self._has(place):
            raise NoSuchRule(place)
        said_below = any(entry.place == place for entry in self._below.config.memcg.cgroup)
        fresh = self._pushed.without_rule(place, said_below=said_below)
        return self._put_in_force(self._below, fresh, dry_run=dry_run)

    def drop(
        self,
        keys: Sequence[str] = (),
        *,
        by: str,
        expected_revision: int | None = None,
        dry_run: bool = False,
        over_vsock: bool = False,
    ) -> Change:
        """Forget what was pushed, so that files show again.

        Args:
            keys: As origins name them, or whole tables; all that was pushed where there are none.
            by: The peer who asks.
            expected_revision: As for `patch`.
            dry_run: As for `patch`.
            over_vsock: As for `patch`.

        Raises:
            SettingsError: There is no such key, or the ways in that show again are refused as for
                `patch`.
            RevisionConflict: As for `patch`.
        """
        self._expect(expected_revision)
        fresh = self._pushed if keys else Pushed()
        for key in keys:
            fresh = fresh.without_key(known_key(key, by))
        self._check_ways(fresh, by, over_vsock=over_vsock)
        return self._put_in_force(self._below, fresh, dry_run=dry_run)

    def reload(self) -> Change:
        """Read the files again.

        Raises:
            SettingsError: One is wrong; what is in force stays, and `problem` tells it.
        """
        try:
            change = self._put_in_force(self._read(), self._pushed, dry_run=False)
        except SettingsError as error:
            self.problem = error
            raise
        self.problem = None
        return change

    def _read(self) -> Layer:
        """Read all weaker layers, as one."""
        layers = self._read_files()
        below = flatten([*layers, Layer("", Config(), warnings=self._warnings)])
        # Seen now, not when a push would be one too many: at a start nothing else would refuse it.
        _check_entries(below.config, "settings files")
        return below

    def _check_ways(self, pushed: Pushed, by: str, *, over_vsock: bool) -> None:
        check_ways(
            self.settings.config.control,
            self._below.config.control,
            pushed.config.control,
            origin=f"{PUSHED_ORIGIN} by {by}",
            over_vsock=over_vsock,
        )

    def _put_in_force(self, below: Layer, pushed: Pushed, *, dry_run: bool) -> Change:
        before = self.settings
        whole = flatten([below, pushed.layer])
        config, revision = whole.config, before.revision + (whole.config != before.config)
        data = _within_bounds(config, encode(pushed, revision))
        after = settings_of(whole, revision, before)
        changed = _differences(before, after)
        in_vain = tuple(without_effect(config))
        notes = (
            *ways_moved(before.config.control, config.control),
            *_rule_chosen(before.config, after.config, below.config, pushed.config),
            *(note for note in in_vain if note not in self._in_vain),
        )
        if dry_run:
            return Change(before.revision, changed, notes)
        unsaved = self.unsaved
        if changed or pushed != self._pushed or unsaved is not None:
            self._save(data)
        if self.unsaved is not None:
            notes += (f"holds until the daemon restarts: {self.unsaved}",)
        self._below, self._pushed, self._in_vain = below, pushed, frozenset(in_vain)
        self.settings = after
        if changed:
            self._apply(after)
        if self.unsaved != unsaved:
            self.saving_changed()
        return Change(after.revision, changed, notes)

    def save_again(self) -> None:
        """Write what could not be written, if there is any."""
        unsaved = self.unsaved
        if unsaved is None:
            return
        self._save(encode(self._pushed, self.settings.revision))
        if self.unsaved != unsaved:
            self.saving_changed()

    def _save(self, data: bytes) -> None:
        self.unsaved = None
        try:
            self._file.write(data)
        except OSError as error:
            self.unsaved = f"{self._file.path} is not written: {os.strerror(error.errno or 0)}"

    def _expect(self, revision: int | None) -> None:
        if revision is not None and revision != self.settings.revision:
            raise RevisionConflict(revision, self.settings.revision)

    def _has(self, place: Place) -> bool:
        return any(entry.place == place for entry in self.settings.config.memcg.cgroup)


def _nobody_told() -> None:
    """For as long as nobody wants to know."""


def _restored(file: PushedFile) -> tuple[Pushed, int, tuple[str, ...]]:
    """Read what an earlier daemon was told; what cannot be read is set aside, with a warning."""
    try:
        data = file.read()
        if data is None:
            return Pushed(), 1, ()
        pushed, revision = decode(data, file.path)
    except (SettingsError, OSError) as error:
        aside = file.set_aside()
        return Pushed(), 1, (f"pushed settings are lost, their file is now {aside}: {error}",)
    return pushed, revision + 1, ()


def _checked(patch: Config, by: str) -> Config:
    """Check what may have been put together without a decoder."""
    return config_from(msgspec.to_builtins(patch), by)


def _free_to_choose(pushed: Pushed, patch: Config, before: Config) -> Pushed:
    """Forget a rule of compaction that was pushed, where the patch sets keys of the other one.

    The layer then chooses by its keys, so that none is pushed in vain, for as long as it has them.
    """
    keys = keys_of_threshold(patch.compact, before.compact)
    by_gain = before.compact_policy.rule == "gain"
    return pushed.without_key("compact_policy.rule") if keys and by_gain else pushed


def _rule_chosen(before: Config, after: Config, below: Config, pushed: Config) -> Iterator[str]:
    """Tell that keys that were pushed have chosen the rule that they are of."""
    keys = keys_of_threshold(pushed.compact, below.compact)
    rule = after.compact_policy.rule
    if keys and pushed.compact_policy.rule is None and rule != before.compact_policy.rule:
        yield f'compact_policy.rule = "{rule}" is chosen by compact.{" and compact.".join(keys)}'


def _checked_entry(entry: CgroupEntry, by: str) -> CgroupEntry:
    return _checked(Config(memcg=Memcg(cgroup=(entry,))), by).memcg.cgroup[0]


def _place(path: str, numa: tuple[int, ...], by: str) -> Place:
    try:
        return normal_path(path), tuple(sorted(set(numa)))
    except ValueError as error:
        raise SettingsError(by, str(error), key="path") from error


def _within_bounds(config: Config, data: bytes) -> bytes:
    if len(data) > PUSHED_BYTES_MAX:
        limit = f"at most {PUSHED_BYTES_MAX} bytes of pushed settings"
        raise SettingsError(PUSHED_ORIGIN, limit, found="more")
    _check_entries(config, PUSHED_ORIGIN)
    return data


def _check_entries(config: Config, origin: str) -> None:
    if len(config.memcg.cgroup) > ENTRIES_MAX:
        limit = f"at most {ENTRIES_MAX} entries in all layers"
        raise SettingsError(origin, limit, key="memcg.cgroup")


def _differences(before: Settings, after: Settings) -> tuple[ChangedKey, ...]:
    was = dict(said(_where_unlike(before.config, after.config)))
    now = dict(said(_where_unlike(after.config, before.config)))
    return tuple(
        ChangedKey(key, was.get(key), now.get(key), after.origins.get(key, ""))
        for key in dict.fromkeys((*now, *was))
        if was.get(key) != now.get(key)
    )


def _where_unlike(config: Config, other: Config) -> Config:
    """Keep the tables and entries that are not the same in the other: far fewer to look at."""
    tables = {
        table: getattr(config, table)
        for table in config.__struct_fields__
        if getattr(config, table) != getattr(other, table)
    }
    unlike = Config(**tables)
    others = {entry.place: entry for entry in other.memcg.cgroup}
    cgroup = tuple(each for each in unlike.memcg.cgroup if others.get(each.place) != each)
    return with_keys(unlike, memcg=with_keys(unlike.memcg, cgroup=cgroup))
