"""What was pushed: one layer of settings, changed by calls, and the file that it survives in."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace as with_keys

from memreact.settings.errors import SettingsError
from memreact.settings.layers import Layer, Place, entry_key, keys_of_entry, said, without_entries
from memreact.settings.tables import config_from
from memreact.value import Struct, field, replace
from memreact_schemas.config import CgroupEntry, Config, Memcg, overlay

__all__ = ["PUSHED_ORIGIN", "Pushed", "decode", "encode"]

PUSHED_ORIGIN = "pushed"
_REVISION_MAX = 2**62  # one more always fits the wire


class Pushed(Struct, frozen=True):
    """All that was pushed and still holds.

    Args:
        config: The keys that were pushed.
        deleted: Entries of files, or built in, that were deleted.
        by: Who pushed each key.
    """

    config: Config = field(default_factory=Config)
    deleted: frozenset[Place] = frozenset()
    by: Mapping[str, str] = field(default_factory=dict)

    @property
    def layer(self) -> Layer:
        """The same, as the strongest layer of settings."""
        origins = {key: f"{PUSHED_ORIGIN} by {name}" for key, name in self.by.items()}
        return Layer(PUSHED_ORIGIN, self.config, self.deleted, origins)

    def with_patch(self, patch: Config, by: str) -> Pushed:
        """Lay more keys over those that are there."""
        said_by = {key: by for key, _ in said(patch)}
        return replace(self, config=overlay(self.config, patch), by={**self.by, **said_by})

    def with_entry(self, entry: CgroupEntry, by: str) -> Pushed:
        """Lay one entry over what was pushed for its place."""
        return self.with_patch(Config(memcg=Memcg(cgroup=(entry,))), by)

    def without_rule(self, place: Place, *, said_below: bool) -> Pushed:
        """Delete an entry; one that a weaker layer says is hidden from now on."""
        hidden = {place} if said_below else set()
        return replace(self._forgetting(place), deleted=self.deleted | hidden)

    def without_key(self, key: str) -> Pushed:
        """Forget one key, one table or one entry; what was not pushed is none the worse."""
        for place in self._places():
            if key == entry_key(place):
                return replace(self._forgetting(place), deleted=self.deleted - {place})
            if key in keys_of_entry(place):
                return self._without_entry_key(place, key)
        table, _, name = key.partition(".")
        if not name:
            return self._without_table(table)
        if key.startswith("memcg.cgroup"):
            return self._without_entries() if key == "memcg.cgroup" else self
        values = getattr(self.config, table)
        config = with_keys(self.config, **{table: with_keys(values, **{name: None})})
        return replace(self, config=config, by=_without(self.by, key))

    def _without_entries(self) -> Pushed:
        fresh = self
        for place in self._places():
            fresh = fresh._forgetting(place)
        return replace(fresh, deleted=frozenset())

    def _places(self) -> list[Place]:
        return [*(entry.place for entry in self.config.memcg.cgroup), *self.deleted]

    def _forgetting(self, place: Place) -> Pushed:
        config = without_entries(self.config, {place})
        return replace(self, config=config, by=_without(self.by, *keys_of_entry(place)))

    def _without_entry_key(self, place: Place, key: str) -> Pushed:
        entries = (entry for entry in self.config.memcg.cgroup if entry.place == place)
        before = next(entries, None)
        if before is None:  # a rule that was deleted, and of which nothing was pushed since
            return self
        entry = with_keys(before, **{key.rpartition(".")[2]: None})
        if entry == CgroupEntry(path=entry.path, numa=entry.numa):
            return self._forgetting(place)
        cgroup = tuple(entry if each is before else each for each in self.config.memcg.cgroup)
        config = with_keys(self.config, memcg=with_keys(self.config.memcg, cgroup=cgroup))
        return replace(self, config=config, by=_without(self.by, key))

    def _without_table(self, table: str) -> Pushed:
        config = with_keys(self.config, **{table: getattr(Config(), table)})
        keys = [key for key in self.by if key.startswith(f"{table}.")]
        deleted = frozenset() if table == "memcg" else self.deleted
        return Pushed(config, deleted, _without(self.by, *keys))


def _without(by: Mapping[str, str], *keys: str) -> dict[str, str]:
    return {key: name for key, name in by.items() if key not in keys}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The file's content."""

    revision: int
    config: dict[str, object] = {}
    deleted: list[tuple[str, tuple[int, ...]]] = []
    by: dict[str, str] = {}


def encode(pushed: Pushed, revision: int) -> bytes:
    """Write what was pushed, and the revision in force, as JSON."""
    config = _said_alone(msgspec.to_builtins(pushed.config))
    file = _File(revision, config, sorted(pushed.deleted), dict(pushed.by))
    return msgspec.json.encode(file)


def decode(data: bytes, origin: str) -> tuple[Pushed, int]:
    """Read what `encode` wrote.

    Raises:
        SettingsError: It is something else, or says what settings may not.
    """
    try:
        file = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(origin, f"not what memreact wrote: {error}") from error
    if not 1 <= file.revision <= _REVISION_MAX:
        raise SettingsError(origin, "not what memreact wrote: no such revision")
    config = config_from(file.config, origin)
    return Pushed(config, frozenset(file.deleted), file.by), file.revision


def _said_alone(config: dict[str, dict[str, object]]) -> dict[str, object]:
    """Leave out the keys that say nothing, and the tables that hold no others."""
    tables = ((key, _said_in(each)) for key, each in config.items())
    return {key: table for key, table in tables if table}


def _said_in(table: dict[str, object]) -> dict[str, object]:
    said_here = {key: value for key, value in table.items() if value is not None}
    entries = said_here.pop("cgroup", ())
    if isinstance(entries, (list, tuple)) and entries:
        said_here["cgroup"] = [_said_in(entry) for entry in entries]
    return said_here
