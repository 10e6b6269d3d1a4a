"""Settings from files: read, laid over one another, and each value's origin kept.

Weakest first: the defaults, /usr/lib/memreact/memreact.toml, /etc/memreact/memreact.toml, and the
drop-ins /etc/memreact/memreact.toml.d/*.toml in the order of their names. A file that is named
explicitly takes the place of all of these and lies over the defaults alone: what holds can then be
read off that one file. Whatever is wrong in a file is a `SettingsError` that says where.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import msgspec
import tomli
from msgspec.structs import replace

from memreact.rules import Rules, rules_from
from memreact.settings_errors import SettingsError, explain
from memreact_schemas.config import DEFAULTS, CgroupEntry, Config, overlay

__all__ = [
    "DEFAULT_ORIGIN",
    "DROP_INS",
    "FILES",
    "Layer",
    "Place",
    "Settings",
    "SettingsError",
    "config_from",
    "entry_key",
    "keys_of_entry",
    "load",
    "load_file",
    "load_text",
    "merge",
    "read_layers",
    "said",
    "settle",
    "without_entries",
]

FILES = ("/usr/lib/memreact/memreact.toml", "/etc/memreact/memreact.toml")
DROP_INS = "/etc/memreact/memreact.toml.d"
DEFAULT_ORIGIN = "default"
_PLACE_KEYS = ("path", "numa")
_FILE_BYTES_MAX = 1 << 20
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


Place = tuple[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source says.

    Args:
        origin: Where it comes from: a file's path, "default", "kernel command line".
        config: Only the keys that it says are not None.
        deleted: Entries of weaker layers that hold no more; those of `config` are laid over that.
        origins: Of those keys that come from elsewhere than `origin`.
        warnings: What was passed over when it was read.
    """

    origin: str
    config: Config
    deleted: frozenset[Place] = frozenset()
    origins: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
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


def load(explicit: str | None = None, *, root: str = "", revision: int = 1) -> Settings:
    """Read all layers of files.

    Args:
        explicit: The only file to read; it must exist. None reads those of the machine, if any.
        root: Prefix of the machine's files: empty outside of tests.
        revision: Of the settings that are made.

    Raises:
        SettingsError: A file is unreadable, not TOML, or says what it may not.
    """
    return settle(read_layers(explicit, root=root), revision)


def read_layers(explicit: str | None = None, *, root: str = "") -> list[Layer]:
    """Read what there is to be read: all layers but the pushed one, weakest first.

    Args:
        explicit: As for `load`.
        root: As for `load`.

    Raises:
        SettingsError: As for `load`.
    """
    files = _files_of(root) if explicit is None else [Layer(explicit, load_file(explicit))]
    return [Layer(DEFAULT_ORIGIN, DEFAULTS), *files]


def settle(layers: Sequence[Layer], revision: int = 1) -> Settings:
    """Make one value of layers, weakest first."""
    config = merge(layers)
    warnings = tuple(warning for layer in layers for warning in layer.warnings)
    return Settings(config, rules_from(config, revision), revision, _origins(layers), warnings)


def merge(layers: Sequence[Layer]) -> Config:
    """Lay them over one another, weakest first, key by key; cgroups by their path and nodes."""
    return reduce(_laid_over, layers, Config())


def _laid_over(lower: Config, layer: Layer) -> Config:
    return overlay(without_entries(lower, layer.deleted), layer.config)


def without_entries(config: Config, places: Collection[Place]) -> Config:
    """Leave out the entries of these places."""
    kept = tuple(entry for entry in config.memcg.cgroup if entry.place not in places)
    if len(kept) == len(config.memcg.cgroup):
        return config
    return replace(config, memcg=replace(config.memcg, cgroup=kept))


def _origins(layers: Sequence[Layer]) -> dict[str, str]:
    origins: dict[str, str] = {}
    for layer in layers:
        for place in layer.deleted:
            for key in keys_of_entry(place):
                origins.pop(key, None)
        for key, _ in said(layer.config):
            origins[key] = layer.origins.get(key, layer.origin)
    return origins


def said(config: Config) -> Iterator[tuple[str, object]]:
    """List the keys that a layer says, with their values."""
    for table in config.__struct_fields__:
        values = getattr(config, table)
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


def _files_of(root: str) -> list[Layer]:
    """Read what there is of the machine's files."""
    layers = []
    for path in (*(root + file for file in FILES), *_drop_ins(root + DROP_INS)):
        data = _read(path)
        if data is not None:
            layers.append(Layer(path, _load_bytes(data, path)))
    return layers


def _drop_ins(folder: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        if error.errno in _ABSENT:
            return []
        raise SettingsError(folder, f"cannot be listed: {os.strerror(error.errno or 0)}") from error
    wanted = (name for name in names if name.endswith(".toml") and not name.startswith("."))
    return [f"{folder}/{name}" for name in wanted]


def load_file(path: str) -> Config:
    """Read one file as a layer.

    Raises:
        SettingsError: It is absent, unreadable, not TOML, or says what it may not.
    """
    data = _read(path)
    if data is None:
        raise SettingsError(path, "there is no such file")
    return _load_bytes(data, path)


def _read(path: str) -> bytes | None:
    """Read a file whole, None if it is absent."""
    try:
        with open(path, "rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except ValueError as error:  # a NUL in the path
        raise SettingsError(repr(path), "a path without NUL") from error
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise SettingsError(path, f"cannot be read: {os.strerror(error.errno or 0)}") from error
    if len(data) > _FILE_BYTES_MAX:
        raise SettingsError(
            path, f"a file of at most {_FILE_BYTES_MAX} bytes", found="a larger one"
        )
    return data


def _load_bytes(data: bytes, path: str) -> Config:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        raise SettingsError(
            path,
            "text in UTF-8",
            found=f"the byte 0x{data[error.start]:02x}",
            line=before.count(b"\n") + 1,
            column=len(before) - before.rfind(b"\n"),
        ) from error
    return load_text(text, path)


def load_text(text: str, origin: str) -> Config:
    """Read TOML as a layer.

    Raises:
        SettingsError: It is not TOML, or says what it may not.
    """
    try:
        value = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise SettingsError(
            origin, f"not TOML: {error.msg}", line=error.lineno, column=error.colno
        ) from error
    except RecursionError as error:
        raise SettingsError(origin, "not taken: nested too deeply") from error
    except ValueError as error:  # such as a number of more digits than Python reads
        raise SettingsError(origin, f"not TOML: {error}") from error
    return config_from(value, origin, text)


def config_from(value: object, origin: str, text: str = "") -> Config:
    """Check a parsed layer.

    Args:
        value: Tables, lists and plain values, as TOML and JSON have them.
        origin: Named in the error.
        text: The TOML that it was parsed from, to tell the line.

    Raises:
        SettingsError: An unknown key, a wrong type, or a value out of its range.
    """
    try:
        return msgspec.convert(value, Config)
    except msgspec.ValidationError as error:
        raise explain(str(error), value, origin, text) from error
    except (UnicodeEncodeError, RecursionError) as error:
        raise SettingsError(origin, f"not taken: {error}") from error
