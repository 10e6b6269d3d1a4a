"""Settings as the policy reads them: complete, in integers, looked up fast.

`rules_from` is the one place where settings cross over. A limit is a share of time in parts per
million (`period_limit_ppm`; 1 % is 10,000): fractions of a percent hold, and every comparison is
one of integers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import TypeVar

from memreact.value import Struct, field
from memreact_schemas.config import (
    DEFAULTS,
    CgroupEntry,
    Config,
    Memcg,
    MemcgKeys,
    is_never,
    overlay,
)

__all__ = [
    "CgroupRule",
    "CompactRules",
    "MemcgRules",
    "Rules",
    "rules_for",
    "rules_from",
    "rules_of",
]

_US_PER_SEC = 1_000_000
_US_PER_MS = 1_000
_PPM_PER_PERCENT = 10_000

_Value = TypeVar("_Value")


class MemcgRules(Struct, frozen=True):
    """What holds for one cgroup on one node.

    Args:
        disabled: Neither age nor evict.
        swap: Anonymous memory may go too.
        swappiness_max: Upper bound of the computed swappiness, of 200.
        period_us: Time between turns.
        period_limit_ppm: Stall, per million of the period, over which a turn is skipped.
        eviction_limit_ppm: Stall, per million of a window, over which an eviction stops.
        aging_count_min: Periods that memory is untouched before it is cold.
        floor_bytes: Never take the cgroup below this.
        floor_ppm: Nor below this share, per million, of its limit.
    """

    disabled: bool
    swap: bool
    swappiness_max: int
    period_us: int
    period_limit_ppm: int
    eviction_limit_ppm: int
    aging_count_min: int
    floor_bytes: int = 0
    floor_ppm: int = 0


class CompactRules(Struct, frozen=True):
    """What holds for compaction.

    Args:
        disabled: Never compact.
        period_us: Time between checks.
        period_limit_ppm: Stall, per million of the time since the last check, that skips a check.
        limit_ppm: Stall, per million of a window, over which a compaction stops.
        longest_us: What one may take; none begins where that is nothing.
        order: Blocks below it are fragments; None is the one that the kernel reports from.
        by_gain: Compact when it pays; else by the two that follow.
        threshold_pages: By how much free memory must have fallen, or fragments have grown.
        force_times: So many checks in a row without a compaction force one; None is never.
    """

    disabled: bool = False
    period_us: int = 600 * _US_PER_SEC
    period_limit_ppm: int = 10_000
    limit_ppm: int = 50_000
    longest_us: int = 180 * _US_PER_SEC
    order: int | None = None
    by_gain: bool = True
    threshold_pages: int = 1024
    force_times: int | None = None


class CgroupRule(Struct, frozen=True):
    """One entry for a cgroup; `rules` has the base filled in where the entry says nothing.

    Args:
        path: As the kernel writes it.
        numa: Nodes that it speaks of; empty means all that no other entry of this path names.
        no_subdir: It speaks of this cgroup alone, not of those below.
        rules: What holds there.
    """

    path: str
    numa: frozenset[int]
    no_subdir: bool
    rules: MemcgRules


class _Pick(Struct):
    """What the entries of one path say: for the nodes that they name, and for the rest."""

    by_node: dict[int, MemcgRules] = field(default_factory=dict)
    rest: MemcgRules | None = None

    def add(self, rule: CgroupRule) -> None:
        """Take in one more entry; of two that name a node, the first one keeps it."""
        for node in rule.numa:
            self.by_node.setdefault(node, rule.rules)
        if not rule.numa and self.rest is None:
            self.rest = rule.rules


@dataclass(frozen=True)  # it indexes itself, which a Struct does not compare without
class Rules:
    """Everything that the policy goes by, at one revision.

    Args:
        base: What holds where no entry matches.
        cgroups: The entries.
        compact: What holds for compaction.
        system_limit_ppm: Stall of the whole guest, per million of a window, that stops work.
        window_us: Length of the sliding window.
        resume_quiet: A cgroup's own stall pauses it for a quiet window, not until its next period.
        reclaim_without_mglru: Use memory.reclaim where the multi-gen LRU is missing.
        reclaim_ppm_per_period: Share of memory.current that it takes, per million.
        beside_others: Work although somebody else reclaims in this guest.
        promotion_limit_ppm_per_min: What may come back from swap each minute, per million of what a
            cgroup touches, before no more anonymous memory goes; 0 is no limit.
        log_level: The least important that reaches the journal.
        decisions_kept: Length of the decision log.
        revision: Grows by one with each change.
    """

    base: MemcgRules
    cgroups: tuple[CgroupRule, ...] = ()
    compact: CompactRules = CompactRules()  # noqa: RUF009  # frozen: one may stand for all
    system_limit_ppm: int = 100_000
    window_us: int = 1_000_000
    resume_quiet: bool = False
    reclaim_without_mglru: bool = False
    reclaim_ppm_per_period: int = 20_000
    beside_others: bool = False
    promotion_limit_ppm_per_min: int = 2_000
    log_level: str = "info"
    decisions_kept: int = 4096
    revision: int = 1

    def work_like(self, other: Rules) -> bool:
        """Whether all that is done to memory is done by both in the same way."""
        return _of_work(self) == _of_work(other)

    @cached_property
    def here(self) -> dict[str, _Pick]:
        """The entries by path: a turn looks up every cgroup of the guest itself."""
        return _by_path(self.cgroups)

    @cached_property
    def below(self) -> dict[str, _Pick]:
        """Those that speak of what is below too: a turn looks there on the way up."""
        return _by_path(rule for rule in self.cgroups if not rule.no_subdir)


_TOLD_ALONE = {"revision", "log_level", "decisions_kept"}
_of_work = attrgetter(
    *(each.name for each in dataclasses.fields(Rules) if each.name not in _TOLD_ALONE)
)


def rules_for(rules: Rules, path: str, node: int) -> MemcgRules:
    """Find what holds for a cgroup on a node: the nearest entry upwards, or the base.

    At each level an entry that names the node comes before the one that names none. An entry with
    `no_subdir` is seen only at its own path. A node that no entry names falls back to the base.
    """
    picks = rules.here
    while True:
        pick = picks.get(path)
        if pick is not None:
            found = pick.by_node.get(node) or pick.rest
            if found is not None:
                return found
        if path in {"/", ""}:
            return rules.base
        path = path[: path.rfind("/")] or "/"
        picks = rules.below


def rules_from(config: Config, revision: int = 1) -> Rules:
    """Cross over from settings to rules; what `config` does not say is the default."""
    return rules_of(overlay(DEFAULTS, config), revision)


def rules_of(whole: Config, revision: int, before: tuple[Config, Rules] | None = None) -> Rules:
    """Cross over from settings that say every key; a built-in entry that they lack is none here.

    Args:
        whole: Settings.
        revision: Theirs.
        before: Settings and their rules: what is the same in both is taken over.
    """
    pressure, reclaim, log = whole.pressure, whole.reclaim, whole.log
    base, cgroups = _memcg_of(whole.memcg, before)
    return Rules(
        base=base,
        cgroups=cgroups,
        compact=_compact_from(whole),
        system_limit_ppm=_ppm(_said(pressure.system_psi_percent_limit)),
        window_us=_said(pressure.window_ms) * _US_PER_MS,
        resume_quiet=pressure.resume == "quiet",
        reclaim_without_mglru=reclaim.without_mglru == "memory.reclaim",
        reclaim_ppm_per_period=_ppm(_said(reclaim.percent_per_period)),
        beside_others=_said(reclaim.beside_others),
        promotion_limit_ppm_per_min=_rate_ppm(_said(whole.swap.max_promotion_percent_per_min)),
        log_level=_said(log.level),
        decisions_kept=_said(log.decisions),
        revision=revision,
    )


def _memcg_of(
    memcg: Memcg, before: tuple[Config, Rules] | None
) -> tuple[MemcgRules, tuple[CgroupRule, ...]]:
    """The base and the entries, of which there may be thousands."""
    if before is not None and memcg == before[0].memcg:
        return before[1].base, before[1].cgroups
    base = _base_from(memcg)
    return base, tuple(_cgroup_from(entry, base) for entry in memcg.cgroup)


def _base_from(memcg: Memcg) -> MemcgRules:
    return MemcgRules(
        disabled=_said(memcg.disabled),
        swap=_said(memcg.swap),
        swappiness_max=_said(memcg.swappiness_max),
        period_us=_said(memcg.period_secs) * _US_PER_SEC,
        period_limit_ppm=_ppm(_said(memcg.period_psi_percent_limit)),
        eviction_limit_ppm=_ppm(_said(memcg.eviction_psi_percent_limit)),
        aging_count_min=_said(memcg.eviction_run_aging_count_min),
    )


def _compact_from(whole: Config) -> CompactRules:
    compact, force_times = whole.compact, _said(whole.compact.compact_force_times)
    order = compact.compact_order
    return CompactRules(
        disabled=_said(compact.disabled),
        period_us=_said(compact.period_secs) * _US_PER_SEC,
        period_limit_ppm=_ppm(_said(compact.period_psi_percent_limit)),
        limit_ppm=_ppm(_said(compact.compact_psi_percent_limit)),
        longest_us=_said(compact.compact_sec_max) * _US_PER_SEC,
        order=order if isinstance(order, int) else None,
        by_gain=whole.compact_policy.rule == "gain",
        threshold_pages=_said(compact.compact_threshold),
        force_times=None if is_never(force_times) else force_times,
    )


def _cgroup_from(entry: CgroupEntry, base: MemcgRules) -> CgroupRule:
    rules = MemcgRules(
        disabled=_or(entry.disabled, base.disabled),
        swap=_or(entry.swap, base.swap),
        swappiness_max=_or(entry.swappiness_max, base.swappiness_max),
        period_us=_us(entry, base),
        period_limit_ppm=_ppm_or(entry.period_psi_percent_limit, base.period_limit_ppm),
        eviction_limit_ppm=_ppm_or(entry.eviction_psi_percent_limit, base.eviction_limit_ppm),
        aging_count_min=_or(entry.eviction_run_aging_count_min, base.aging_count_min),
        floor_bytes=_or(entry.floor_bytes, base.floor_bytes),
        floor_ppm=_ppm_or(entry.floor_percent, base.floor_ppm),
    )
    return CgroupRule(entry.path, frozenset(entry.numa), bool(entry.no_subdir), rules)


def _us(keys: MemcgKeys, base: MemcgRules) -> int:
    return base.period_us if keys.period_secs is None else keys.period_secs * _US_PER_SEC


def _ppm(percent: float) -> int:
    return round(percent * _PPM_PER_PERCENT)


def _rate_ppm(percent: float) -> int:
    """0 is no limit, and nothing else may become it."""
    return max(1, _ppm(percent)) if percent else 0


def _ppm_or(percent: float | None, otherwise: int) -> int:
    return otherwise if percent is None else _ppm(percent)


def _or(value: _Value | None, otherwise: _Value) -> _Value:
    return otherwise if value is None else value


def _said(value: _Value | None) -> _Value:
    if value is None:  # DEFAULTS says every key; a test holds it to that
        raise ValueError("a setting has no default")
    return value


def _by_path(cgroups: Iterable[CgroupRule]) -> dict[str, _Pick]:
    picks: dict[str, _Pick] = {}
    for rule in sorted(cgroups, key=_node_list):
        picks.setdefault(rule.path, _Pick()).add(rule)
    return picks


def _node_list(rule: CgroupRule) -> list[int]:
    return sorted(rule.numa)
