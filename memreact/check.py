"""`memreact check`: are these settings right, and what do they come to?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from msgspec.structs import replace as with_keys

from kernelio.layout import Layout
from memreact.capabilities import find_capabilities, find_memreact
from memreact.control.effect import keys_said, one_line, without_effect, without_effect_here
from memreact.control.pushed import Pushed, decode
from memreact.ground import capabilities_read
from memreact.run_dir import RUN_DIR, PushedFile, RunDir
from memreact.settings.errors import SettingsError
from memreact.settings.files import load_layer, read_layers
from memreact.settings.layers import DEFAULT_ORIGIN, Layer, Settings, entry_key, settle
from memreact.value import replace
from memreact_schemas.config import DEFAULTS, CgroupEntry

__all__ = ["EXIT_BAD", "EXIT_GOOD", "check", "printed"]

EXIT_GOOD = 0
EXIT_BAD = 2

_BUILT_IN = {entry.place: entry for entry in DEFAULTS.memcg.cgroup}


def check(path: str | None, *, show_all: bool = False, root: str = "") -> tuple[int, str]:
    """Validate settings and print what they come to.

    Args:
        path: The file to check, over the defaults alone; None checks all layers of the machine,
            what was pushed among them.
        show_all: Print every setting, not only those that differ from the defaults.
        root: Prefix of the machine's files: empty outside of tests.

    Returns:
        The exit code, and the text: for `EXIT_GOOD` TOML for stdout, else the error for stderr.
    """
    try:
        settings = settle(_all_layers(root) if path is None else _alone(path))
    except SettingsError as error:
        return EXIT_BAD, f"{error}\n"
    in_vain = (*without_effect(settings.config), *_without_effect_here(settings, root))
    warned = (*settings.warnings, *_deleted(settings), *in_vain)
    warnings = "".join(f"# warning: {one_line(warning)}\n" for warning in warned)
    return EXIT_GOOD, warnings + printed(settings, show_all=show_all)


def _alone(path: str) -> list[Layer]:
    return [Layer(DEFAULT_ORIGIN, DEFAULTS), load_layer(path)]


def _all_layers(root: str) -> list[Layer]:
    return [*read_layers(root=root), _pushed(RunDir(root + RUN_DIR).pushed)]


def _pushed(file: PushedFile) -> Layer:
    """Read what was pushed, and leave its file alone."""
    try:
        data = file.read()
        return Pushed().layer if data is None else decode(data, file.path)[0].layer
    except (SettingsError, OSError) as error:  # only root may read it, for one
        warning = f"what was pushed is not shown: {error}"
    return replace(Pushed().layer, warnings=(warning,))


def _deleted(settings: Settings) -> Iterator[str]:
    """Name the built-in entries that are gone: TOML cannot say it."""
    places = {entry.place for entry in settings.config.memcg.cgroup}
    for place in _BUILT_IN.keys() - places:
        yield f"{entry_key(place)}, which is built in, was deleted by a call"


def _without_effect_here(settings: Settings, root: str) -> Iterator[str]:
    layout = Layout(root)
    # A daemon that runs is not in the way of its own settings.
    own_pid = find_memreact(layout) or os.getpid()
    can = find_capabilities(layout, own_pid=own_pid)
    if can.mglru == "off":
        can = with_keys(can, mglru="on")  # the daemon does it
    found = capabilities_read(can, settings.rules, "/", 0.0, alone=True)
    # Without root nothing can be opened: that says nothing of the service.
    idle_because = found.idle_because if can.root else None
    yield from without_effect_here(settings.config, can, idle_because)


def printed(settings: Settings, *, show_all: bool = False) -> str:
    """Write settings as TOML that reads back as the same settings, each with its origin."""
    blocks = [*_tables(settings, show_all=show_all)]
    if not blocks:
        return "# all settings are at their defaults\n"
    return "\n".join(blocks)


def _tables(settings: Settings, *, show_all: bool) -> Iterator[str]:
    config, origins = settings.config, settings.origins
    for table in config.__struct_fields__:
        values, defaults = getattr(config, table), getattr(DEFAULTS, table)
        lines = [
            _line(key, getattr(values, key), origins.get(f"{table}.{key}"))
            for key in values.__struct_fields__
            if key != "cgroup" and (show_all or getattr(values, key) != getattr(defaults, key))
        ]
        if lines:
            yield "".join([f"[{table}]\n", *lines])
        if table == "memcg":
            yield from _entries(config.memcg.cgroup, origins, show_all=show_all)


def _entries(
    entries: tuple[CgroupEntry, ...], origins: Mapping[str, str], *, show_all: bool
) -> Iterator[str]:
    for entry in entries:
        built_in = None if show_all else _BUILT_IN.get(entry.place)
        if entry != built_in:
            yield "".join(["[[memcg.cgroup]]\n", *_entry_lines(entry, built_in, origins)])


def _entry_lines(
    entry: CgroupEntry, built_in: CgroupEntry | None, origins: Mapping[str, str]
) -> Iterator[str]:
    name = entry_key(entry.place)
    yield _line("path", entry.path, origins.get(name))
    if entry.numa:
        yield _line("numa", entry.numa, origins.get(name))
    for key in keys_said(entry):
        value = getattr(entry, key)
        if value != getattr(built_in, key, None):
            yield _line(key, value, origins.get(f"{name}.{key}"))


def _line(key: str, value: object, origin: str | None) -> str:
    comment = f"  # {one_line(origin)}" if origin else ""
    return f"{key} = {_toml(value)}{comment}\n"


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case str():
            return '"' + "".join(map(_escaped, value)) + '"'
        case tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return repr(value)


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character < " " or character == "\x7f":
        return f"\\u{ord(character):04x}"
    return character
