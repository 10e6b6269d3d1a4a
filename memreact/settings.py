"""Settings from files and the kernel command line, laid over one another, origins kept.

Weakest first: the defaults; /usr/lib/memreact/memreact.toml; /etc/memreact/memreact.toml; the
drop-ins /etc/memreact/memreact.toml.d/*.toml in the order of their names; Kata's own files, its
runtime's and then its agent's, where they exist; the kernel command line; what was pushed. A file
that is named explicitly takes the place of all files. Whatever is wrong in a file is a
`SettingsError` that says where. What is passed over with a warning, so that no guest fails to boot
for it: a bad word on the kernel command line, a file that such a word names and that cannot be
used, and an option of Kata's that is not known here, for it may be of a newer one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import tomli
from msgspec.structs import replace

from kernelio.boot import read_cmdline
from kernelio.errors import KernelioError, Vanished
from kernelio.layout import Layout
from memreact.boot_settings import AGENT_FILE_WORD, BOOT_ORIGIN, BootSettings, boot_settings
from memreact.kata_settings import is_kata, kata_settings
from memreact.rules import Rules, rules_of
from memreact.settings_errors import SettingsError
from memreact.settings_value import config_from
from memreact_schemas.config import (
    DEFAULTS,
    NEVER,
    CgroupEntry,
    Compact,
    CompactPolicy,
    Config,
    overlay,
)

__all__ = [
    "DEFAULT_ORIGIN",
    "DROP_INS",
    "FILES",
    "KATA_FILE",
    "Layer",
    "Place",
    "Settings",
    "SettingsError",
    "config_from",
    "entry_key",
    "files_watched",
    "flatten",
    "keys_of_entry",
    "keys_of_threshold",
    "load",
    "load_file",
    "load_layer",
    "load_text",
    "merge",
    "read_layers",
    "said",
    "settings_of",
    "settle",
    "without_entries",
]

FILES = ("/usr/lib/memreact/memreact.toml", "/etc/memreact/memreact.toml")
DROP_INS = "/etc/memreact/memreact.toml.d"
KATA_FILE = "/etc/kata-containers/configuration.toml"
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
        origins: Of those keys that come from elsewhere than `origin`; of all keys, where several
            layers were made one.
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
    """Read all layers but the pushed one, and merge them.

    Args:
        explicit: The file that takes the place of the machine's; it must exist.
        root: Prefix of the machine's files: empty outside of tests.
        revision: Of the settings that are made.

    Raises:
        SettingsError: A file is unreadable, not TOML, or says what it may not.
    """
    return settle(read_layers(explicit, root=root), revision)


def read_layers(explicit: str | None = None, *, root: str = "") -> list[Layer]:
    """Read all layers but the pushed one, weakest first.

    Args:
        explicit: As for `load`.
        root: As for `load`.

    Raises:
        SettingsError: As for `load`.
    """
    boot = _boot(root)
    files = _files_of(root, boot) if explicit is None else [load_layer(explicit)]
    booted = Layer(BOOT_ORIGIN, boot.config, warnings=boot.warnings)
    return [Layer(DEFAULT_ORIGIN, DEFAULTS), *files, booted]


def files_watched(explicit: str | None = None, *, root: str = "") -> tuple[list[str], list[str]]:
    """Name the files that `load` reads, there or not, and the folders of which it reads any."""
    if explicit is not None:
        return [explicit], []
    kata = [path for path, _ in _kata_files(root, _boot(root))]
    return [*(root + file for file in FILES), *kata], [root + DROP_INS]


def settle(layers: Sequence[Layer], revision: int = 1) -> Settings:
    """Make one value of layers, weakest first; the weakest is the defaults, which say all keys."""
    return settings_of(flatten(layers), revision)


def settings_of(whole: Layer, revision: int) -> Settings:
    """Make settings of the one layer that all were made to."""
    config = whole.config
    return Settings(config, rules_of(config, revision), revision, whole.origins, whole.warnings)


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
        before = overlay(Config(compact=before), Config(compact=said.compact)).compact
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


def _boot(root: str) -> BootSettings:
    try:
        words = read_cmdline(Layout(root))
    except Vanished:
        return BootSettings()  # no /proc is mounted
    except KernelioError as error:
        return BootSettings(warnings=(f"{BOOT_ORIGIN} is not read: {error}",))
    return boot_settings(words)


def _files_of(root: str, boot: BootSettings) -> list[Layer]:
    """Read what there is of the machine's files."""
    layers = []
    for path in (*(root + file for file in FILES), *_drop_ins(root + DROP_INS)):
        data = _read(path)
        if data is not None:
            layers.append(_layer_of(_decoded(data, path), path))
    return [*layers, *_kata_layers(root, boot)]


def _kata_files(root: str, boot: BootSettings) -> list[tuple[str, bool]]:
    """List Kata's files, weakest first, and whether they should be there."""
    named = [(root + boot.agent_file, True)] if boot.agent_file else []
    return [(root + KATA_FILE, False), *named]


def _kata_layers(root: str, boot: BootSettings) -> Iterator[Layer]:
    """Read what Kata's files say of its mem-agent; what else they say is theirs.

    A file that a word of the kernel command line names is taken like the word: one that cannot be
    used is passed over with a warning.
    """
    for path, named in _kata_files(root, boot):
        try:
            yield from _kata_file(path, named=named)
        except SettingsError as error:
            if not named:
                raise
            yield Layer(path, Config(), warnings=(f"{BOOT_ORIGIN}: {AGENT_FILE_WORD}: {error}",))


def _kata_file(path: str, *, named: bool) -> Iterator[Layer]:
    data = _read(path)
    if data is not None:
        value = _toml_of(text := _decoded(data, path), path)
        yield _of_kata(value, path, text)
    elif named:
        warning = f"{BOOT_ORIGIN}: {AGENT_FILE_WORD} names {path}, which does not exist"
        yield Layer(path, Config(), warnings=(warning,))


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
    """Read what one file says.

    Raises:
        SettingsError: As for `load_layer`.
    """
    return load_layer(path).config


def load_layer(path: str) -> Layer:
    """Read one file as a layer, in our form or in one of Kata's.

    Raises:
        SettingsError: It is absent, unreadable, not TOML, or says what it may not.
    """
    data = _read(path)
    if data is None:
        raise SettingsError(path, "there is no such file")
    return _layer_of(_decoded(data, path), path)


def _open_at_once(path: str, flags: int) -> int:
    """A named pipe would else be waited for until somebody writes to it."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _read(path: str) -> bytes | None:
    """Read a file whole, None if it is absent."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SettingsError(path, "a plain file", found="something else, such as a pipe")
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


def _decoded(data: bytes, path: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        raise SettingsError(
            path,
            "text in UTF-8",
            found=f"the byte 0x{data[error.start]:02x}",
            line=before.count(b"\n") + 1,
            column=len(before) - before.rfind(b"\n"),
        ) from error


def load_text(text: str, origin: str) -> Config:
    """Read what TOML says: in our form, or in one of Kata's.

    Raises:
        SettingsError: It is not TOML, or says what it may not.
    """
    return _layer_of(text, origin).config


def _layer_of(text: str, origin: str) -> Layer:
    value = _toml_of(text, origin)
    if is_kata(value):
        return _of_kata(value, origin, text)
    return Layer(origin, config_from(value, origin, text))


def _of_kata(value: dict[str, object], origin: str, text: str) -> Layer:
    found = kata_settings(value, origin, text)
    config = config_from(found.tables, origin, text, found.written)
    return Layer(origin, config, warnings=tuple(found.warnings))


def _toml_of(text: str, origin: str) -> dict[str, object]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise SettingsError(
            origin, f"not TOML: {error.msg}", line=error.lineno, column=error.colno
        ) from error
    except RecursionError as error:
        raise SettingsError(origin, "not taken: nested too deeply") from error
    except ValueError as error:  # such as a number of more digits than Python reads
        raise SettingsError(origin, f"not TOML: {error}") from error
