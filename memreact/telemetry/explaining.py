"""Explains one cgroup: what it is, what holds for it, what was decided, what would change it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec
from msgspec import structs

from memreact.close_look import CloseLook
from memreact.events import Instant
from memreact.policy.obstacles import Looked, obstacles
from memreact.policy.protection import reclaimable_bytes
from memreact.policy.state import Memcg, State
from memreact.policy.yielding import window_us
from memreact.rules import CgroupRule, Rules, rules_for
from memreact.settings.layers import DEFAULT_ORIGIN, Settings, entry_key
from memreact.telemetry.decisions import INT_MAX, as_text
from memreact.telemetry.obstacle_text import ObstacleTeller
from memreact.telemetry.possible import aged, nodes_of
from memreact.telemetry.status import cgroups_of, hold_status, pause_status
from memreact.value import replace
from memreact_schemas.explanation import (
    Explanation,
    GuardStatus,
    HarmStatus,
    ObstacleStatus,
    PressureNow,
    SettingHere,
)
from memreact_schemas.status import DecisionRow

__all__ = ["explanation_of"]

_KEYS = (
    "disabled",
    "swap",
    "swappiness_max",
    "period_secs",
    "period_psi_percent_limit",
    "eviction_psi_percent_limit",
    "eviction_run_aging_count_min",
)
_KEYS_OF_RULES = ("floor_bytes", "floor_percent")
_PERMYRIAD = 100


def explanation_of(  # noqa: PLR0913  # it puts together what many know
    state: State,
    settings: Settings,
    path: str,
    look: CloseLook,
    *,
    decisions: tuple[DecisionRow, ...],
    now: Instant,
) -> Explanation:
    """Explain a cgroup that is known.

    Args:
        state: As it is now.
        settings: What is in force.
        path: The cgroup's own name.
        look: What it looks like now.
        decisions: The last ones that concern it, oldest first.
        now: The moment.
    """
    memcg, rules = state.memcgs[path], settings.rules
    name = as_text(path)
    (cgroup,) = islice(cgroups_of(state, rules, now, name, look.limits), 1)
    guards = tuple(_guards(state, memcg, rules, look))
    spare = min((guard.spare_bytes for guard in guards), default=None)
    return Explanation(
        now_us=now,
        cgroup=cgroup,
        settings=tuple(_settings(settings, memcg)),
        guards=guards,
        kept_bytes=_kept(look, spare),
        spare_bytes=spare,
        pressure=_pressure(state, memcg, rules, look, now),
        pause=pause_status(state),
        hold=hold_status(state),
        decisions=decisions,
        obstacles=tuple(_obstacles(state, settings, memcg, look, now)),
        harm=HarmStatus(
            total=look.waited.total,
            since_last_look=look.waited.since_last_look,
            missing=look.waited.missing,
        ),
    )


def _settings(settings: Settings, memcg: Memcg) -> Iterator[SettingHere]:
    """What holds on each node; on the later ones only what differs from the first."""
    first: dict[str, str] = {}
    for node in nodes_of(memcg):
        number = 0 if node is None else node.node
        for each in _on_node(settings, memcg.path, number):
            if first.setdefault(each.key, each.value) != each.value or number == _first(memcg):
                yield each


def _first(memcg: Memcg) -> int:
    node = nodes_of(memcg)[0]
    return 0 if node is None else node.node


def _on_node(settings: Settings, path: str, node: int) -> Iterator[SettingHere]:
    rule = _rule_of(settings.rules, path, node)
    entry = _entry(settings, rule)
    for key in (*_KEYS, *(_KEYS_OF_RULES if entry is not None else ())):
        own = None if entry is None else getattr(entry, key)
        value = getattr(settings.config.memcg, key, None) if own is None else own
        if value is None:
            continue
        table = "memcg" if own is None or rule is None else entry_key(_place(rule))
        yield SettingHere(
            node=node,
            key=key,
            value=msgspec.json.encode(value).decode(),
            rule=None if own is None or rule is None else as_text(rule.path),
            origin=settings.origins.get(f"{table}.{key}", DEFAULT_ORIGIN),
        )


def _rule_of(rules: Rules, path: str, node: int) -> CgroupRule | None:
    """The entry that holds for a cgroup on a node; None where it is the base."""
    mine = rules_for(rules, path, node)
    return next((rule for rule in rules.cgroups if rule.rules is mine), None)


def _place(rule: CgroupRule) -> tuple[str, tuple[int, ...]]:
    return rule.path, tuple(sorted(rule.numa))


def _entry(settings: Settings, rule: CgroupRule | None) -> object | None:
    if rule is None:
        return None
    place = _place(rule)
    return next((e for e in settings.config.memcg.cgroup if e.place == place), None)


def _guards(state: State, memcg: Memcg, rules: Rules, look: CloseLook) -> Iterator[GuardStatus]:
    """Each one that keeps something; the floor of the settings counts for the cgroup itself."""
    if look.saw is None or state.guest is None:
        return
    mine, size = rules_for(rules, memcg.path, _first(memcg)), state.guest.page_bytes
    for guard in look.saw.guards:
        alone = structs.replace(look.saw, guards=(guard,))
        above = guard.path != memcg.path
        rule = replace(mine, floor_bytes=0, floor_ppm=0) if above else mine
        spare, kept = reclaimable_bytes(alone, rule, size, anon=mine.swap)
        if spare is not None and kept is not None:
            yield GuardStatus(
                path=as_text(guard.path),
                current_bytes=min(guard.current_bytes, INT_MAX),
                protected_bytes=min(kept.protected_bytes, INT_MAX),
                spare_bytes=min(spare, INT_MAX),
            )


def _kept(look: CloseLook, spare: int | None) -> int | None:
    if spare is None or look.saw is None or not look.saw.guards:
        return None
    return max(0, look.saw.guards[0].current_bytes - spare)


def _pressure(
    state: State, memcg: Memcg, rules: Rules, look: CloseLook, now: Instant
) -> PressureNow:
    mine = rules_for(rules, memcg.path, _first(memcg))
    memory, io = (each.some if each else None for each in (look.memory, look.io))
    own = None
    if look.stall_us is not None and memcg.stall_us is not None:
        pairs = zip(look.stall_us, memcg.stall_us, strict=True)
        own = sum(max(0, new - old) for new, old in pairs)
    return PressureNow(
        memory_permyriad=None if memory is None else round(memory.avg10 * _PERMYRIAD),
        io_permyriad=None if io is None else round(io.avg10 * _PERMYRIAD),
        memory_total_us=None if memory is None else memory.total_us,
        io_total_us=None if io is None else io.total_us,
        own_stall_us=own,
        own_over_us=None if own is None else max(0, now - memcg.stall_at),
        period_limit_ppm=mine.period_limit_ppm,
        eviction_limit_ppm=mine.eviction_limit_ppm,
        guest_limit_ppm=rules.system_limit_ppm,
        window_us=window_us(state, rules),
    )


def _obstacles(
    state: State, settings: Settings, memcg: Memcg, look: CloseLook, now: Instant
) -> Iterator[ObstacleStatus]:
    """Those of each node; what is about all of them is told once."""
    told: set[tuple[str, int | None]] = set()
    rules, nodes = settings.rules, nodes_of(memcg)
    for node in nodes:
        number = 0 if node is None else node.node
        looked = Looked(
            memcg,
            number,
            () if node is None else aged(node, now - memcg.viewed_at),
            rules_for(rules, memcg.path, number),
            look.saw,
            look.stall_us,
        )
        teller = ObstacleTeller(
            as_text(memcg.path),
            number if len(nodes) > 1 else None,
            state.guest.page_bytes if state.guest else 0,
            look.keeps,
        )
        for obstacle in obstacles(state, looked, rules, now):
            once = obstacle.because.code, number if obstacle.pages is not None else None
            if once not in told or obstacle.because.code in _MANY:
                told.add(once)
                yield teller.tell(obstacle)


# There may be several of these on one node.
_MANY = frozenset({"anon_stays", "anon_would_stay", "not_cold_yet", "protected"})
