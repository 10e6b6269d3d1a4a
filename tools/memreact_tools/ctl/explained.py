"""What explains a cgroup, for people."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from memreact_schemas.explanation import (
    Explanation,
    HarmStatus,
    ObstacleStatus,
    PressureNow,
    SettingHere,
)
from memreact_tools.ctl.amounts import bounded
from memreact_tools.ctl.delays import delays_in_words, milliseconds
from memreact_tools.ctl.show import amount, cgroup_in_words, decision_in_words, span
from memreact_tools.plain import plain

__all__ = ["explanation_in_words"]

_PERMYRIAD_PER_PERCENT = 100
_PPM_PER_PERCENT = 10_000
_NUMBER_MAX = 2**63 - 1  # of Varlink; it stands for all


class ExplainedSaid(Struct):
    """The answer of Explain, typed."""

    explanation: Explanation


def explanation_in_words(raw: bytes) -> str:
    """Say what a cgroup is, what was decided on it, and what would change that."""
    said = msgspec.json.decode(raw, type=ExplainedSaid).explanation
    return "\n".join(plain(line) for line in _lines(said))


def _lines(said: Explanation) -> Iterator[str]:
    yield from cgroup_in_words(said.cgroup, said.now_us)
    yield "protection:"
    yield from _protection(said)
    yield "pressure:"
    yield from _pressure(said.pressure)
    yield "waited, as the kernel counts its processes:"
    yield from _harm(said.harm, said.now_us)
    yield "settings:"
    yield from _settings(said.settings)
    yield "decided:"
    yield from _decided(said)
    yield "for more to be reclaimed:"
    for obstacle in said.obstacles:
        yield from _obstacle(obstacle)
    if not said.obstacles:
        yield "  nothing stands in the way"


def _protection(said: Explanation) -> Iterator[str]:
    for guard in said.guards:
        kept = "all" if guard.protected_bytes == _NUMBER_MAX else amount(guard.protected_bytes)
        spare = amount(guard.spare_bytes)
        yield f"  {guard.path}: {kept} of {amount(guard.current_bytes)} stay, {spare} may go"
    if said.kept_bytes is None:
        yield "  nothing is protected"
    else:
        yield f"  so {amount(said.kept_bytes)} of it stay, whatever is cold"


def _pressure(now: PressureNow) -> Iterator[str]:
    for name, share, total_us in (
        ("memory", now.memory_permyriad, now.memory_total_us),
        ("io", now.io_permyriad, now.io_total_us),
    ):
        if share is None or total_us is None:
            yield f"  {name}: cannot be read"
        else:
            percent = bounded(share) / _PERMYRIAD_PER_PERCENT
            in_all = f"{milliseconds(total_us)} since it was made"
            yield f"  {name}: {percent:.2f} % of the last 10 s, {in_all}"
    if now.own_stall_us is not None and now.own_over_us:
        share_ppm = now.own_stall_us * 1_000_000 // now.own_over_us
        limit = _percent(now.period_limit_ppm)
        since = f"{_percent(share_ppm)} of {span(now.own_over_us)} since its last turn"
        yield f"  its own: {since}, over {limit} a turn leaves it alone"
    window = span(now.window_us)
    yield (
        f"  over {_percent(now.eviction_limit_ppm)} of {window} its eviction is broken off,"
        f" over {_percent(now.guest_limit_ppm)} in the guest everything pauses"
    )


def _percent(ppm: int) -> str:
    return f"{bounded(ppm) / _PPM_PER_PERCENT:.4g} %"


def _harm(harm: HarmStatus, now_us: int) -> Iterator[str]:
    if harm.total is not None:
        yield f"  since they began: {delays_in_words(harm.total)}"
    last = harm.since_last_look
    if last is not None:
        ago = span(now_us - (last.since_us or now_us))
        yield f"  since the last look, {ago} ago: {delays_in_words(last)}"
    if harm.missing is not None:
        yield f"  ! {harm.missing}"


def _settings(settings: tuple[SettingHere, ...]) -> Iterator[str]:
    first = settings[0].node if settings else 0
    for each in settings:
        node = f" on node {each.node}" * (each.node != first)
        rule = f", rule {each.rule}" if each.rule is not None else ""
        yield f"  {each.key} = {each.value}{node}  ({each.origin}{rule})"


def _decided(said: Explanation) -> Iterator[str]:
    for row in said.decisions:
        yield f"  {span(said.now_us - row.at_us)} ago: {decision_in_words(row)}"
    if not said.decisions:
        yield "  nothing yet"


def _obstacle(obstacle: ObstacleStatus) -> Iterator[str]:
    node = f"node {obstacle.node}: " if obstacle.node is not None else ""
    yield f"  {node}{obstacle.text}"
    for way in obstacle.ways_out:
        yield f"    > {way.text}"
