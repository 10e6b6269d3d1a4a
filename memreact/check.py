"""`memreact check`: are these settings right, and what do they come to?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from memreact.effect import keys_said, one_line, without_effect
from memreact.settings import (
    DEFAULT_ORIGIN,
    Layer,
    Settings,
    SettingsError,
    entry_key,
    load,
    load_file,
    settle,
)
from memreact_schemas.config import DEFAULTS, CgroupEntry

__all__ = ["EXIT_BAD", "EXIT_GOOD", "check", "printed"]

EXIT_GOOD = 0
EXIT_BAD = 2

_BUILT_IN = {entry.place: entry for entry in DEFAULTS.memcg.cgroup}


def check(path: str | None, *, show_all: bool = False, root: str = "") -> tuple[int, str]:
    """Validate settings and print what they come to.

    Args:
        path: The file to check; None checks the files of the machine.
        show_all: Print every setting, not only those that differ from the defaults.
        root: Prefix of the machine's files: empty outside of tests.

    Returns:
        The exit code, and the text: for `EXIT_GOOD` TOML for stdout, else the error for stderr.
    """
    try:
        settings = load(root=root) if path is None else _alone(path)
    except SettingsError as error:
        return EXIT_BAD, f"{error}\n"
    warned = (*settings.warnings, *without_effect(settings.config))
    warnings = "".join(f"# warning: {one_line(warning)}\n" for warning in warned)
    return EXIT_GOOD, warnings + printed(settings, show_all=show_all)


def _alone(path: str) -> Settings:
    return settle([Layer(DEFAULT_ORIGIN, DEFAULTS), Layer(path, load_file(path))])


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
