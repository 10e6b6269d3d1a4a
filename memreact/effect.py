"""What is set in vain: keys that change nothing beside the others."""

from __future__ import annotations

from collections.abc import Iterator

from memreact.settings import entry_key
from memreact_schemas.config import DEFAULTS, CgroupEntry, Config

__all__ = ["keys_said", "one_line", "without_effect"]

_PLACE = ("path", "numa")


def keys_said(entry: CgroupEntry) -> list[str]:
    """List the keys that an entry says, but for what it is the entry of."""
    keys = (key for key in entry.__struct_fields__ if key not in _PLACE)
    return [key for key in keys if getattr(entry, key) is not None]


def one_line(text: str) -> str:
    """Write what may hold line feeds so that it cannot break a line."""
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
    name, keys = one_line(entry_key(entry.place)), keys_said(entry)
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
