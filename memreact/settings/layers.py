"""Layers of settings, laid over one another, weakest first, with the origin of each key kept.

Weakest first: the defaults; files; the kernel command line; what was pushed. Nothing is read here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import reduce

from msgspec.structs import replace

from memreact.rules import Rules, rules_of
from memreact.value import Struct, field
from memreact_schemas.config import (
    DEFAULTS,
    NEVER,
    CgroupEntry,
    Compact,
    CompactPolicy,
    Config,
    is_silent,
    overlay,
    overlay_table,
)

__all__ = [
    "DEFAULT_ORIGIN",
    "Layer",
    "Place",
    "Settings",
    "entry_key",
    "flatten",
    "keys_of_entry",
    "keys_of_threshold",
    "merge",
    "said",
    "settings_of",
    "settle",
    "without_entries",
]

DEFAULT_ORIGIN = "default"
_PLACE_KEYS = ("path", "numa")


Place = tuple[str, tuple[int, ...]]


class Layer(Struct, frozen=True):
    """What one source says.

    Args:
        origin: Where it comes from: a file's path, "default", "kernel command line".
        config: Only the keys that it says are not None.
        deleted: Entries of weaker layers that hold no more; those of `config` are laid over that.
        origins: Of those keys that come from elsewhere than `origin`; of all keys, where several
            layers were made one.
        warnings: What was passed over when it was read.
    """

    origin: str
    config: Config
    deleted: frozenset[Place] = frozenset()
    origins: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Settings(Struct, frozen=True):
    """All layers merged.

    Args:
        config: Complete: every key has a value.
        rules: The same for the policy.
        revision: Grows by one with each change.
        origins: Which layer each key comes from, by `memcg.swap` or `memcg.cgroup[/a].swap`.
        warnings: What was passed over, such as a bad word on the kernel command line.
    """

    config: Config
    rules: Rules
    revision: int
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def settle(layers: Sequence[Layer], revision: int = 1) -> Settings:
    """Make one value of layers, weakest first; the weakest is the defaults, which say all keys."""
    return settings_of(flatten(layers), revision)


def settings_of(whole: Layer, revision: int, before: Settings | None = None) -> Settings:
    """Make settings of the one layer that all were made to.

    Args:
        whole: That layer.
        revision: Of the new settings.
        before: Settings whose rules are taken over where nothing changed, for they cost the most.
    """
    config = whole.config
    known = None if before is None else (before.config, before.rules)
    rules = rules_of(config, revision, known)
    return Settings(config, rules, revision, whole.origins, whole.warnings)


def flatten(layers: Sequence[Layer]) -> Layer:
    """Make one layer of several, weakest first, that says the same with the same origins."""
    layers = list(_choosing(layers))
    warnings = tuple(warning for layer in layers for warning in layer.warnings)
    origin = layers[0].origin if layers else ""
    return Layer(origin, merge(layers), origins=_origins(layers), warnings=warnings)


def keys_of_threshold(said: Compact, before: Compact) -> tuple[str, ...]:
    """List what is said of the rule "threshold" alone, and differs from what holds before it."""
    threshold, times = said.compact_threshold, said.compact_force_times
    until_now = before.compact_force_times
    unlike = {
        "compact_threshold": threshold not in (None, before.compact_threshold),
        "compact_force_times": times is not None and _times(times) != _times(until_now),
    }
    return tuple(key for key, differs in unlike.items() if differs)


def _times(said: int | None) -> int | None:
    """A count in one form: all that mean never are one."""
    return None if said is None else min(said, NEVER)


def _choosing(layers: Sequence[Layer]) -> Iterator[Layer]:
    """The same layers; one that sets a key of the rule "threshold" chooses that rule by it.

    No setting is taken without effect, whatever a file was written for. One that names the rule
    itself has chosen. The rule leaves with the key that chose it, and is of the same origin.
    """
    before = DEFAULTS.compact
    for layer in layers:
        said = layer.config
        keys = keys_of_threshold(said.compact, before)
        before = overlay_table(before, said.compact)
        if keys and said.compact_policy.rule is None:
            yield _with_threshold(layer, f"compact.{keys[0]}")
        else:
            yield layer


def _with_threshold(layer: Layer, key: str) -> Layer:
    config = replace(layer.config, compact_policy=CompactPolicy(rule="threshold"))
    origins = {**layer.origins, "compact_policy.rule": layer.origins.get(key, layer.origin)}
    return Layer(layer.origin, config, layer.deleted, origins, layer.warnings)


def merge(layers: Sequence[Layer]) -> Config:
    """Lay them over one another, weakest first, key by key; cgroups by their path and nodes."""
    if not layers:
        return Config()
    return reduce(_laid_over, layers[1:], layers[0].config)


def _laid_over(lower: Config, layer: Layer) -> Config:
    return overlay(without_entries(lower, layer.deleted), layer.config)


def without_entries(config: Config, places: Collection[Place]) -> Config:
    """Leave out the entries of these places."""
    if not places:
        return config
    kept = tuple(entry for entry in config.memcg.cgroup if entry.place not in places)
    if len(kept) == len(config.memcg.cgroup):
        return config
    return replace(config, memcg=replace(config.memcg, cgroup=kept))


def _origins(layers: Sequence[Layer]) -> dict[str, str]:
    origins: dict[str, str] = dict(layers[0].origins) if layers else {}
    for layer in layers[1:] if origins else layers:
        for place in layer.deleted:
            for key in keys_of_entry(place):
                origins.pop(key, None)
        origins.update(_origins_in(layer))
    return origins


def _origins_in(layer: Layer) -> dict[str, str]:
    return {key: layer.origins.get(key, layer.origin) for key, _ in said(layer.config)}


def said(config: Config) -> Iterator[tuple[str, object]]:
    """List the keys that a layer says, with their values."""
    for table in config.__struct_fields__:
        values = getattr(config, table)
        if is_silent(values):
            continue
        for key in values.__struct_fields__:
            value = getattr(values, key)
            if key == "cgroup":
                for entry in value:
                    yield from _said_of(entry)
            elif value is not None:
                yield f"{table}.{key}", value


def entry_key(place: Place) -> str:
    """Name an entry as origins do: `memcg.cgroup[/a]`, or with its nodes `memcg.cgroup[/a 0,1]`."""
    path, numa = place
    nodes = ",".join(map(str, numa))
    return f"memcg.cgroup[{path} {nodes}]" if nodes else f"memcg.cgroup[{path}]"


def keys_of_entry(place: Place) -> tuple[str, ...]:
    """Name an entry and every key that it could say."""
    name = entry_key(place)
    keys = (key for key in CgroupEntry.__struct_fields__ if key not in _PLACE_KEYS)
    return (name, *(f"{name}.{key}" for key in keys))


def _said_of(entry: CgroupEntry) -> Iterator[tuple[str, object]]:
    name = entry_key(entry.place)
    yield name, entry.path
    for key in entry.__struct_fields__:
        value = getattr(entry, key)
        if key not in _PLACE_KEYS and value is not None:
            yield f"{name}.{key}", value
