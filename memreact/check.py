"""`memreact check`: are these settings right, and what do they come to?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from memreact.settings import Settings, SettingsError, entry_key, load
from memreact_schemas.config import DEFAULTS, CgroupEntry, Config

__all__ = ["EXIT_BAD", "EXIT_GOOD", "check", "printed", "without_effect"]

EXIT_GOOD = 0
EXIT_BAD = 2

_BUILT_IN = {entry.place: entry for entry in DEFAULTS.memcg.cgroup}
_PLACE = ("path", "numa")


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
        settings = load(path, root=root)
    except SettingsError as error:
        return EXIT_BAD, f"{error}\n"
    warnings = "".join(f"# warning: {warning}\n" for warning in without_effect(settings.config))
    return EXIT_GOOD, warnings + printed(settings, show_all=show_all)


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
    name = entry_key(entry)
    yield _line("path", entry.path, origins.get(name))
    if entry.numa:
        yield _line("numa", entry.numa, origins.get(name))
    for key in _keys_said(entry):
        value = getattr(entry, key)
        if value != getattr(built_in, key, None):
            yield _line(key, value, origins.get(f"{name}.{key}"))


def _keys_said(entry: CgroupEntry) -> list[str]:
    keys = (key for key in entry.__struct_fields__ if key not in _PLACE)
    return [key for key in keys if getattr(entry, key) is not None]


def _line(key: str, value: object, origin: str | None) -> str:
    comment = f"  # {_one_line(origin)}" if origin else ""
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


def _one_line(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def without_effect(config: Config) -> Iterator[str]:
    """Name what is said in vain in these settings, which are merged over the defaults."""
    yield from _in_vain_tables(config)
    taken: dict[str, set[int]] = {}
    for entry in sorted(config.memcg.cgroup, key=lambda entry: entry.numa):
        claimed = taken.setdefault(entry.path, set())
        yield from _in_vain_entry(entry, config, claimed)
        claimed.update(entry.numa)


def _in_vain_tables(config: Config) -> Iterator[str]:
    for key in config.compact.__struct_fields__:
        if getattr(config.compact, key) != getattr(DEFAULTS.compact, key):
            yield f"compact.{key} is kept, but this version does not compact yet"
    memcg, reclaim = config.memcg, config.reclaim
    swaps = any(entry.swap for entry in memcg.cgroup)
    if memcg.swappiness_max != DEFAULTS.memcg.swappiness_max and not (memcg.swap or swaps):
        yield "memcg.swappiness_max has no effect while memcg.swap = false"
    if reclaim.without_mglru == "off" and (
        reclaim.percent_per_period != DEFAULTS.reclaim.percent_per_period
    ):
        yield 'reclaim.percent_per_period has no effect while reclaim.without_mglru = "off"'


def _in_vain_entry(entry: CgroupEntry, config: Config, claimed: set[int]) -> Iterator[str]:
    name, keys = _one_line(entry_key(entry)), _keys_said(entry)
    if not keys:
        yield f"{name} says nothing"
    if "//" in entry.path:
        yield f"{name}: no cgroup has an empty name in its path"
    if again := claimed.intersection(entry.numa):
        nodes = ", ".join(map(str, sorted(again)))
        yield f"{name}: another entry of this path already speaks of node {nodes}"
    base = config.memcg
    if base.disabled if entry.disabled is None else entry.disabled:
        for key in (key for key in keys if key not in {"disabled", "no_subdir"}):
            yield f"{name}.{key} has no effect on a disabled cgroup"
    elif entry.swappiness_max is not None and not (base.swap if entry.swap is None else entry.swap):
        yield f"{name}.swappiness_max has no effect while swap = false"
