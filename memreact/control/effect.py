"""What is set in vain: keys that change nothing beside the others."""

from __future__ import annotations

from collections.abc import Iterator

from memreact.control.ways import VSOCK_PORTS, ports_shared
from memreact.settings.layers import entry_key, keys_of_threshold
from memreact_schemas.config import DEFAULTS, CgroupEntry, Config, Control
from memreact_schemas.doctor import Capabilities

__all__ = ["keys_said", "one_line", "without_effect", "without_effect_here"]

_PLACE = ("path", "numa")
_MOUNT = "/sys/fs/cgroup"
_BUILT_IN = {entry.place: entry for entry in DEFAULTS.memcg.cgroup}


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
    if config.memcg.cgroup == DEFAULTS.memcg.cgroup:  # as in most guests
        return
    taken: dict[str, set[int]] = {}
    for entry in sorted(config.memcg.cgroup, key=lambda entry: entry.numa):
        claimed = taken.setdefault(entry.path, set())
        if entry != _BUILT_IN.get(entry.place):
            yield from _in_vain_entry(entry, config, claimed)
        claimed.update(entry.numa)


def _in_vain_tables(config: Config) -> Iterator[str]:
    yield from _in_vain_compact(config)
    memcg, reclaim = config.memcg, config.reclaim
    if not memcg.eviction_run_aging_count_min:
        yield "memcg.eviction_run_aging_count_min = 0 takes what was in use a moment ago for cold"
    swaps = any(entry.swap for entry in memcg.cgroup)
    if memcg.swappiness_max != DEFAULTS.memcg.swappiness_max and not (memcg.swap or swaps):
        yield "memcg.swappiness_max has no effect while memcg.swap = false"
    limit = config.swap.max_promotion_percent_per_min
    if limit != DEFAULTS.swap.max_promotion_percent_per_min and not (memcg.swap or swaps):
        yield "swap.max_promotion_percent_per_min has no effect while memcg.swap = false"
    if reclaim.without_mglru == "off" and (
        reclaim.percent_per_period != DEFAULTS.reclaim.percent_per_period
    ):
        yield 'reclaim.percent_per_period has no effect while reclaim.without_mglru = "off"'
    yield from _in_vain_control(config.control)


def _odd_path(name: str, path: str) -> Iterator[str]:
    """Name what people write who think of the file system, or of a shell."""
    if "//" in path:
        yield f"{name}: no cgroup has an empty name in its path"
    if path.startswith(_MOUNT):
        yield f"{name}: a path begins at the top of the cgroup tree, without {_MOUNT}"
    if "*" in path:
        yield f"{name}: a path is one cgroup and those below it, * is no wildcard"


def _in_vain_compact(config: Config) -> Iterator[str]:
    compact = config.compact
    if compact.disabled:
        for key in compact.__struct_fields__:
            if key != "disabled" and getattr(compact, key) != getattr(DEFAULTS.compact, key):
                yield f"compact.{key} has no effect while compact.disabled = true"
    elif config.compact_policy.rule == "gain":
        for key in keys_of_threshold(compact, DEFAULTS.compact):
            yield f'compact.{key} has no effect while compact_policy.rule = "gain"'


def _in_vain_control(control: Control) -> Iterator[str]:
    for key in (*VSOCK_PORTS, "allow_guest"):
        if not control.vsock and getattr(control, key) != getattr(DEFAULTS.control, key):
            yield f"control.{key} has no effect while control.vsock = false"
    for one, other in ports_shared(control) if control.vsock else ():
        yield f"control.{other} is control.{one} too: only one of them is listened on"


def _in_vain_entry(entry: CgroupEntry, config: Config, claimed: set[int]) -> Iterator[str]:
    name, keys = one_line(entry_key(entry.place)), keys_said(entry)
    if not keys:
        yield f"{name} says nothing"
    yield from _odd_path(name, entry.path)
    if again := claimed.intersection(entry.numa):
        nodes = ", ".join(map(str, sorted(again)))
        yield f"{name}: another entry of this path already speaks of node {nodes}"
    base = config.memcg
    if base.disabled if entry.disabled is None else entry.disabled:
        for key in (key for key in keys if key not in {"disabled", "no_subdir"}):
            yield f"{name}.{key} has no effect on a disabled cgroup"
    elif entry.swappiness_max is not None and not (base.swap if entry.swap is None else entry.swap):
        yield f"{name}.swappiness_max has no effect while swap = false"


def without_effect_here(
    config: Config, can: Capabilities, idle_because: str | None
) -> Iterator[str]:
    """Name what this guest has no use for.

    Args:
        config: Settings, merged over the defaults.
        can: What was found here.
        idle_because: Why memreact does nothing at all here; None where it works.
    """
    memcg = config.memcg
    all_off = memcg.disabled and all(entry.disabled is not False for entry in memcg.cgroup)
    if idle_because is not None and not all_off:
        yield f"[memcg] has no effect here: {idle_because}"
    if not can.swap:
        named = [entry_key(entry.place) for entry in memcg.cgroup if entry.swap]
        for name in ["memcg"] * bool(memcg.swap) + named:
            yield f"{one_line(name)}.swap = true has no effect here: this guest has no swap"
    if can.mglru in ("on", "off") and config.reclaim.without_mglru != "off":
        yield "reclaim.without_mglru has no effect here: this kernel has the multi-gen LRU"
    for entry in memcg.cgroup:
        for node in sorted(set(entry.numa).difference(can.nodes)):
            yield f"{one_line(entry_key(entry.place))}: this guest has no node {node}"
