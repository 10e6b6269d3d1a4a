"""Answers of the daemon, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from msgspec import Raw, Struct

from memreact_schemas.config import DEFAULTS
from memreact_schemas.control import (
    Busy,
    ChangedKey,
    Doctor,
    NoSuchRule,
    NotPossible,
    RevisionConflict,
    RuleExists,
    SettingsInForce,
    SettingsRefused,
    SqueezeEnd,
    SqueezeItem,
    tables_to_wire,
)
from memreact_schemas.status import (
    CgroupStatus,
    CompactionStatus,
    Counters,
    DecisionRow,
    HurtStatus,
    LedgerStatus,
    NextEviction,
    PromotionStatus,
    SqueezeStatus,
    StallShare,
    Status,
)
from memreact_tools.ctl import swap
from memreact_tools.ctl.amounts import amount, bounded, span
from memreact_tools.ctl.delays import delays_in_words
from memreact_tools.plain import plain

__all__ = [
    "amount",
    "cgroup_in_words",
    "changed_in_words",
    "decision_in_words",
    "differing",
    "differing_for_programs",
    "doctor_in_words",
    "item_in_words",
    "picked",
    "refusal_in_words",
    "settings_by_key",
    "settings_in_words",
    "span",
    "squeeze_in_words",
    "squeeze_progress_in_words",
    "status_in_words",
]

_GIB_HOUR = (1 << 30) * 3600
_CGROUPS_MAX = 20
_NUMBER_MAX = 2**63 - 1  # of Varlink; what is larger is cut to it


class StatusSaid(Struct):
    """The answer of GetStatus, with its status typed."""

    status: Status


class ChangedSaid(Struct):
    """What came of a change; without a revision where none was asked for."""

    changed: tuple[ChangedKey, ...] = ()
    notes: tuple[str, ...] = ()
    revision: int | None = None


class ItemSaid(Struct):
    """An answer of Watch, typed."""

    decision: DecisionRow | None = None
    status: Status | None = None
    dropped: int = 0


def changed_in_words(raw: bytes, *, dry_run: bool) -> str:
    """Say what a change came to."""
    answer = msgspec.json.decode(raw, type=ChangedSaid)
    count = len(answer.changed)
    if answer.revision is None:
        head = "nothing to change"
    elif not count:
        head = f"revision {answer.revision}: nothing to change"
    else:
        would = "would change" if dry_run else "changed"
        head = f"revision {answer.revision}: {count} {would}"
    lines = [
        f"  {each.key}: {_json_or_none(each.before)} -> {_json_or_none(each.after)}"
        + (f"  ({each.origin})" if each.origin else "")
        for each in answer.changed
    ]
    return _text([head, *lines, *(f"  note: {note}" for note in answer.notes)])


def _json_or_none(text: str | None) -> str:
    return "nothing" if text is None else text


def _text(lines: Iterable[str]) -> str:
    return "\n".join(plain(line) for line in lines)


def settings_by_key(tables: Mapping[str, object]) -> dict[str, str]:
    """Return every value, as JSON, by `memcg.swap` or `memcg.cgroup[/a 0].swap`."""
    found: dict[str, str] = {}
    for table, keys in tables.items():
        for key, value in keys.items() if isinstance(keys, Mapping) else ():
            if isinstance(value, list) and (table, key) == ("memcg", "cgroup"):
                found.update(_rules_by_key(value))
            else:
                found[f"{table}.{key}"] = _json(value)
    return found


def _rules_by_key(rules: Sequence[Mapping[str, object]]) -> Iterator[tuple[str, str]]:
    for rule in rules:
        nodes = rule.get("numa")
        numa = ",".join(map(str, nodes)) if isinstance(nodes, list) else ""
        place = f"{rule.get('path')} {numa}".rstrip()
        for key, value in rule.items():
            if key not in ("path", "numa"):
                yield f"memcg.cgroup[{place}].{key}", _json(value)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def settings_in_words(raw: bytes, keys: Sequence[str] = ()) -> str:
    """Say what is in force and where it comes from.

    Args:
        raw: The answer of GetSettings.
        keys: Keys, or beginnings of them up to a dot; all if there are none.
    """
    answer = msgspec.json.decode(raw, type=SettingsInForce)
    values = settings_by_key(answer.settings)
    picked = {key: value for key, value in values.items() if _wanted(key, keys)}
    lines = _in_columns(
        (f"{key} = {value}", answer.origins.get(key, "default")) for key, value in picked.items()
    )
    return _text([*lines, *_trouble_of(answer)])


def _wanted(key: str, keys: Sequence[str]) -> bool:
    return not keys or any(key == each or key.startswith((f"{each}.", f"{each}[")) for each in keys)


def _in_columns(rows: Iterable[tuple[str, str]]) -> list[str]:
    held = list(rows)
    width = max((len(left) for left, _ in held), default=0)
    return [f"{left:<{min(width, 60)}}  {right}".rstrip() for left, right in held]


def _trouble_of(answer: SettingsInForce) -> Iterator[str]:
    if answer.problem is not None:
        yield f"! a change was not taken: {_problem(answer.problem)}"
    yield from _unsaved(answer.unsaved)
    for warning in answer.warnings:
        yield f"! {warning}"


def _unsaved(because: str | None) -> Iterator[str]:
    if because:
        yield f"! a restart of the daemon would lose what was pushed last: {because}"


def _problem(problem: Struct) -> str:
    said = {field: getattr(problem, field) for field in problem.__struct_fields__}
    place = ":".join(str(said[part]) for part in ("origin", "line", "column") if said[part])
    found = f"found {said['found']}, expected " if said["found"] else ""
    return ": ".join(part for part in (place, said["key"], f"{found}{said['expected']}") if part)


def differing(raw: bytes) -> str:
    """Say what is not as it is by default."""
    answer = msgspec.json.decode(raw, type=SettingsInForce)
    rows = [
        (f"{each.key}: {_or_nothing(each.default)} -> {_or_nothing(each.value)}", each.origin)
        for each in _differences(answer)
    ]
    lines = _in_columns(rows) or ["nothing differs from the defaults"]
    return _text([*lines, *_trouble_of(answer)])


def _or_nothing(value: Raw | None) -> str:
    return "nothing" if value is None else bytes(value).decode()


def differing_for_programs(raw: bytes) -> bytes:
    """Write what is not as it is by default as a list of key, default, value and origin."""
    return msgspec.json.encode([*_differences(msgspec.json.decode(raw, type=SettingsInForce))])


class Difference(Struct):
    """One value that is not the default; None where there is none."""

    key: str
    default: Raw | None
    value: Raw | None
    origin: str


def _differences(answer: SettingsInForce) -> Iterator[Difference]:
    now, usual = settings_by_key(answer.settings), settings_by_key(_usual())
    for key in [*now, *(key for key in usual if key not in now)]:
        if not _same(now.get(key), usual.get(key)):
            values = (_raw(usual.get(key)), _raw(now.get(key)))
            yield Difference(key, *values, answer.origins.get(key, ""))


def _raw(text: str | None) -> Raw | None:
    return None if text is None else Raw(text.encode())


def picked(raw: bytes, keys: Sequence[str]) -> bytes:
    """Return an answer of GetSettings with the keys that were asked for alone.

    Args:
        raw: The answer.
        keys: Keys, or beginnings of them up to a dot; all if there are none.
    """
    if not keys:
        return raw
    answer = msgspec.json.decode(raw, type=_Answer)
    tables = {
        name: {key: value for key, value in table.items() if _asked_for(f"{name}.{key}", keys)}
        for name, table in answer.settings.items()
    }
    origins = {key: at for key, at in answer.origins.items() if _wanted(key, keys)}
    said = msgspec.json.decode(raw, type=dict[str, Raw])
    said["settings"] = Raw(msgspec.json.encode({name: of for name, of in tables.items() if of}))
    said["origins"] = Raw(msgspec.json.encode(origins))
    return msgspec.json.encode(said)


class _Answer(Struct):
    settings: dict[str, dict[str, Raw]]
    origins: dict[str, str]


def _asked_for(key: str, keys: Sequence[str]) -> bool:
    return _wanted(key, keys) or any(each.startswith(f"{key}[") for each in keys)


def _usual() -> dict[str, object]:
    tables: dict[str, object] = msgspec.json.decode(msgspec.json.encode(tables_to_wire(DEFAULTS)))
    return tables


def _same(one: str | None, other: str | None) -> bool:
    """Compare values in JSON, in which 1 is 1.0."""
    if one is None or other is None:
        return one is other
    return bool(msgspec.json.decode(one) == msgspec.json.decode(other))


def doctor_in_words(raw: bytes) -> str:
    """Say what can be done in the guest, and what stands in the way."""
    report = msgspec.json.decode(raw, type=Doctor).report
    width = max((len(each.job) for each in report.findings), default=0)
    lines = [f"memreact {report.version}, Linux {report.capabilities.kernel}"]
    for each in report.findings:
        lines.append(f"{each.job:<{width}}  {each.status:<7}  {each.backend}: {each.detail}")
        if each.remedy:
            lines.append(f"{'':<{width}}  {'':<7}  > {each.remedy}")
    if report.idle_because is not None:
        lines.append(f"memreact stays idle: {report.idle_because}")
    way = "can" if report.reaches_host else "cannot"
    return _text([*lines, f"Freed memory {way} go back to the host."])


def status_in_words(raw: bytes, *, path: str | None = None, everything: bool = False) -> str:
    """Say what goes on.

    Args:
        raw: The answer of GetStatus.
        path: One cgroup that was asked for, which is told in full.
        everything: Tell of every cgroup, not of the largest alone.
    """
    status = msgspec.json.decode(raw, type=StatusSaid).status
    lines = list(_guest(status))
    if path is not None:
        for each in status.cgroups:
            lines += ["", *cgroup_in_words(each, status.now_us)]
    elif status.cgroups:
        lines += ["", *_cgroup_table(status, everything=everything)]
    return _text(lines)


def _guest(status: Status) -> Iterator[str]:
    at_work = f" {status.at_work}" if status.at_work else ""
    up = span(status.now_us - status.started_at_us)
    yield f"memreact {status.version}, up {up}, settings of revision {status.revision}"
    yield f"now: {status.doing}{at_work}"
    if status.idle_because:
        yield f"idle: {status.idle_because}"
    yield from _out_of_the_usual(status)
    if status.next_turn_at_us is not None:
        yield f"next turn: in {span(status.next_turn_at_us - status.now_us)}"
    yield f"next eviction: {_next(status.next_eviction, status.now_us)}"
    if status.pressure is not None:
        yield f"pressure: {_share(status.pressure)}"
    if status.hurt is not None:
        yield from _hurt(status.hurt, status.now_us)
    turns = "1 turn" if status.turns == 1 else f"{status.turns} turns"
    yield f"done: {turns}, {_counters(status.counters)}"
    if status.ledger is not None:
        yield from _ledger(status.ledger, status.now_us)
    if status.compaction is not None:
        yield from _compaction(status.compaction, status.now_us)
    yield from _trouble(status)


def _trouble(status: Status) -> Iterator[str]:
    if status.problem:
        yield f"! a change was not taken: {status.problem}"
    yield from _unsaved(status.unsaved)
    if status.dropped:
        yield f"! {status.dropped} decisions were not told: a follower read too slowly"
    for warning in status.warnings:
        yield f"! {warning}"


def _compaction(known: CompactionStatus, now_us: int) -> Iterator[str]:
    order = "" if known.order is None else f", order {known.order}"
    at_us = known.next_look_at_us
    next_look = "" if at_us is None else f", next look in {span(at_us - now_us)}"
    yield f"compactions: {known.runs} in {known.checks} looks{order}{next_look}"
    if known.runs:
        off = f"{known.broken_off} broken off, " * bool(known.broken_off)
        moved = f"{amount(known.moved_bytes)} moved in {span(known.took_us)}"
        gain = f"expected {amount(known.expected_bytes)}, became reportable"
        yield f"  {off}{moved}; {gain} {amount(known.gained_bytes)}"
    if known.last is not None:
        yield f"  last: {span(now_us - known.last.at_us)} ago, {decision_in_words(known.last)}"
    for zone, until_us in sorted(known.left_alone_until_us.items()):
        left = span(until_us - now_us)
        yield f"  zone {zone} is left alone for another {left}: it brought too little"


def _out_of_the_usual(status: Status) -> Iterator[str]:
    if status.hold is not None:
        left = span(status.hold.until_us - status.now_us)
        why = f" ({status.hold.reason})" if status.hold.reason else ""
        yield f"held by {status.hold.by} for another {left}{why}"
    if status.squeeze is not None:
        yield _under_way(status.squeeze, status.now_us)
    if status.keep is not None:
        left, kept = span(status.keep.until_us - status.now_us), status.keep.reportable_bytes
        yield f"kept reportable for {status.keep.by}: {amount(kept)}, for another {left}"
    if status.pause is not None:
        since = span(status.now_us - status.pause.since_us)
        yield f"paused for {since}: {status.pause.because}{_figures(status.pause.figures)}"


def _hurt(hurt: HurtStatus, now_us: int) -> Iterator[str]:
    yield f"waited when work was broken off last, {span(now_us - hurt.at_us)} ago:"
    for each in hurt.cgroups:
        yield f"  {each.path}: {delays_in_words(each.delays)}"


def _under_way(squeeze: SqueezeStatus, now_us: int) -> str:
    of = "what is cold" if squeeze.target_bytes is None else amount(squeeze.target_bytes)
    left, evicted = span(squeeze.deadline_us - now_us), amount(squeeze.evicted_bytes)
    where = "" if squeeze.scope == "/" else f" of {squeeze.scope}"
    return f"squeezed by {squeeze.by}: {of}{where}, {evicted} evicted, another {left} at most"


def _ledger(ledger: LedgerStatus, now_us: int) -> Iterator[str]:
    tally = ledger.since_start
    evicted = f"{amount(tally.evicted_file_bytes)} file, {amount(tally.evicted_anon_bytes)} anon"
    zram = f", for which zram took {amount(tally.zram_taken_bytes)}" * bool(tally.zram_taken_bytes)
    moved = f"; {amount(tally.migrated_bytes)} moved" * bool(tally.migrated_bytes)
    yield f"evicted: {evicted}{zram}{moved}"
    if ledger.read_at_us is not None:
        yield from _stock(ledger, now_us)
    if ledger.host_holds_bytes is not None and ledger.host_said_at_us is not None:
        returned = ledger.returned_bytes or 0
        less = f", {amount(returned)} less than at first" * bool(returned)
        ago = span(now_us - ledger.host_said_at_us)
        yield f"the host holds {amount(ledger.host_holds_bytes)}{less}; it said so {ago} ago"
    if ledger.reporting is False:
        because = ledger.not_reporting_because
        yield f"! evictions of the last hour led to nothing reported: {because}"
    if ledger.problem:
        yield f"! where the memory is could not be read: {ledger.problem}"


def _stock(ledger: LedgerStatus, now_us: int) -> Iterator[str]:
    reported = "unknown" if ledger.reported_bytes is None else amount(ledger.reported_bytes)
    free, reportable = amount(ledger.free_bytes or 0), amount(ledger.reportable_bytes or 0)
    hours = bounded(ledger.reported_byte_seconds_total) / _GIB_HOUR
    ago = span(now_us - (ledger.read_at_us or 0))
    told = f"reportable {reportable}, reported {reported}, {hours:.2f} GiB*h in all"
    yield f"free: {free}, {told}, {ago} ago"
    if ledger.free_held_bytes:
        yield f"  free and not told: {_causes(ledger.free_held_bytes)}"
    if ledger.used_estimates_bytes:
        yield f"  in use, estimated: {_causes(ledger.used_estimates_bytes)}"
    again, others = ledger.used_again_estimate_bytes, ledger.freed_by_others_estimate_bytes
    if again:
        yield f"  evicted and in use again, estimated: {amount(again)}"
    if others:
        yield f"  freed by others, estimated: {amount(others)}"


def _causes(causes: Mapping[str, int]) -> str:
    ordered = sorted(causes.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{cause.replace('_', ' ')} {amount(size)}" for cause, size in ordered)


def _next(eviction: NextEviction, now_us: int) -> str:
    if eviction.at_us is None:
        return eviction.text
    return f"in {span(eviction.at_us - now_us)}, {eviction.text}"


def _share(share: StallShare) -> str:
    of = 100 * bounded(share.stall_us) / share.over_us if share.over_us else 0.0
    limit = f"limit {bounded(share.limit_ppm) / 10_000:g} %"
    return f"{of:.2f} % stalled of {span(share.over_us)}, {limit}"


def _promotion(back: PromotionStatus) -> str:
    limit = f"limit {bounded(back.limit_ppm_per_min) / 10_000:g} % a minute"
    of = f"{amount(back.promoted_bytes)} within {span(back.over_us)}"
    said = f"{of}, {amount(back.workingset_bytes)} in use, {limit}"
    return f"{said}: no more goes there" if back.over_limit else said


def _counters(counters: Counters) -> str:
    evicted = amount(counters.evicted_bytes)
    return f"{counters.agings} agings, {counters.evictions} evictions of {evicted} in all"


def _figures(figures: Mapping[str, object]) -> str:
    return "".join(f" {key}={value}" for key, value in figures.items())


def _cgroup_table(status: Status, *, everything: bool) -> list[str]:
    shown = sorted(status.cgroups, key=lambda each: (-each.anon_bytes - each.file_bytes, each.path))
    left = 0 if everything else max(len(shown) - _CGROUPS_MAX, 0)
    shown = shown[: len(shown) - left]
    rows = [("ANON", "FILE", "COLD", "EVICTED", "CGROUP")]
    for each in shown:
        sizes = (each.anon_bytes, each.file_bytes, each.cold_bytes, each.counters.evicted_bytes)
        rows.append((*map(amount, sizes), each.path))  # type: ignore[arg-type]  # four sizes
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(f"{row[at]:>{widths[at]}}" for at in range(4)), row[4]]) for row in rows]
    return [*lines, f"and {left} more: --all"] if left else lines


def cgroup_in_words(each: CgroupStatus, now_us: int) -> Iterator[str]:
    """Say all that a status tells of a cgroup."""
    state = "populated" if each.populated else "empty"
    yield f"{each.path}: {state}{', frozen' if each.frozen else ''}"
    sizes = f"{amount(each.anon_bytes)} anon, {amount(each.file_bytes)} file"
    yield f"  in its generations: {sizes}, of it {amount(each.cold_bytes)} cold"
    yield f"  next eviction: {_next(each.next_eviction, now_us)}"
    yield f"  done: {_counters(each.counters)}"
    for because, times in sorted(each.counters.because.items()):
        yield f"    {because}: {times}"
    if each.last is not None:
        yield f"  last: {span(now_us - each.last.at_us)} ago, {decision_in_words(each.last)}"
    if each.pressure is not None:
        yield f"  pressure: {_share(each.pressure)}"
    if each.promotion is not None:
        yield f"  back from swap: {_promotion(each.promotion)}"
    if each.away_until_us is not None:
        yield f"  left alone for another {span(each.away_until_us - now_us)}"
    yield from _protection(each)
    for node in each.nodes:
        rule = f"rule {node.rule}" if node.rule is not None else "the base's rule"
        off = ", disabled" if node.disabled else ""
        yield f"  node {node.node}: {rule}{off}, every {span(node.period_us)}"
        for generation in node.generations:
            yield (
                f"    generation {generation.seq}: {span(generation.age_us)} old,"
                f" {amount(generation.anon_bytes)} anon, {amount(generation.file_bytes)} file"
            )


def _protection(each: CgroupStatus) -> Iterator[str]:
    if each.floor_bytes is not None:
        yield f"  floor: {amount(each.floor_bytes)}"
    if each.limits is not None:
        said = {field: getattr(each.limits, field) for field in each.limits.__struct_fields__}
        parts = [
            f"{key.removesuffix('_bytes')} {'all' if value == _NUMBER_MAX else amount(value)}"
            for key, value in said.items()
            if value is not None
        ]
        yield f"  memory: {', '.join(parts)}"


def decision_in_words(row: DecisionRow) -> str:
    """Say one decision on one line."""
    node = f" node={row.node}" if row.node is not None else ""
    where = f" {row.path}" if row.path else ""
    said = _figures({**row.figures, **row.words})
    return f"{row.verdict}{where}{node} because={row.because}{said}"


def item_in_words(raw: bytes) -> str:
    """Say one item of a stream."""
    item = msgspec.json.decode(raw, type=ItemSaid)
    dropped = f"  ({item.dropped} decisions dropped so far)" if item.dropped else ""
    if item.decision is not None:
        moment = bounded(item.decision.at_us) / 1_000_000
        return _text([f"{moment:.3f} {decision_in_words(item.decision)}{dropped}"])
    if item.status is not None:
        return _text([*_guest(item.status)])
    return _text([dropped.strip()])


def squeeze_progress_in_words(raw: bytes) -> str:
    """Say how far a squeeze is; what a later service shaped anew is told as it came."""
    try:
        progress = msgspec.json.decode(raw, type=SqueezeItem).progress
    except msgspec.MsgspecError:
        return plain(raw.decode(errors="replace"))
    if progress is None:
        return ""
    grew = progress.reportable_grew_bytes
    more = "" if grew is None else f", {_change_of(grew)} reportable"
    left = span(progress.left_us)
    return plain(f"{progress.stage}: {amount(progress.evicted_bytes)} evicted{more}, {left} left")


def squeeze_in_words(raw: bytes) -> str:
    """Say what a squeeze came to, and why it brought no more."""
    end = msgspec.json.decode(raw, type=SqueezeItem).end
    return _text(["no end was told"] if end is None else _squeezed(end))


def _squeezed(end: SqueezeEnd) -> Iterator[str]:
    detail = f" ({end.detail})" if end.detail else ""
    evicted = end.tally.evicted_file_bytes + end.tally.evicted_anon_bytes
    grew = [
        f"{_change_of(size)} {what}"
        for size, what in (
            (end.reportable_grew_bytes, "reportable"),
            (end.reported_grew_bytes, "reported"),
        )
        if size is not None
    ]
    figures = ", ".join([f"{amount(evicted)} evicted", *grew, f"in {span(end.took_us)}"])
    yield f"{_SQUEEZE_ENDS.get(end.because, end.because)}{detail}: {figures}"
    if end.held_until_us is not None:
        yield "  it is kept so from now on: `squeeze --release` lets go"
    if end.overrun_us:
        yield f"  {span(end.overrun_us)} of it past the deadline"
    if end.returned_bytes is not None:
        yield f"  returned, as the host said: {amount(end.returned_bytes)}"
    if not end.settled:
        yield "  the kernel had no time to report all of it: more will follow"
    for what, causes in (
        ("free and not told", end.free_held_bytes),
        ("in use, estimated", end.used_estimates_bytes),
    ):
        if causes:
            yield f"  {what}: {_causes(causes)}"
    if end.left_alone:
        ordered = sorted(end.left_alone.items(), key=lambda each: (-each[1], each[0]))
        yield "  cgroups by node: " + ", ".join(f"{code} {times}" for code, times in ordered)
    if end.problem:
        yield f"! where the memory is could not be read: {end.problem}"


def _change_of(size: int) -> str:
    return f"{amount(abs(size))} {'less' if size < 0 else 'more'}"


_SQUEEZE_ENDS = {
    "target": "reached",
    "cold_gone": "all that was cold is gone",
    "deadline": "its time is over",
    "pressure": "the guest was hurt",
    "nothing_left": "nothing more may go",
}


def refusal_in_words(name: str, raw: bytes) -> str:
    """Say why a service refused."""
    kind = name.rpartition(".")[2]
    say = _REFUSALS.get(kind)
    try:
        return plain(say(raw) if say else _plainly(name, raw))
    except Exception:  # noqa: BLE001  # whatever a guest says in it, its no is told
        return plain(f"{name} {raw.decode(errors='replace')}")


def _plainly(name: str, raw: bytes) -> str:
    said = msgspec.json.decode(raw)
    return f"{name}{_figures(said) if isinstance(said, dict) else ''}"


def _refused(raw: bytes) -> str:
    return f"refused: {_problem(msgspec.json.decode(raw, type=SettingsRefused))}"


def _conflict(raw: bytes) -> str:
    said = msgspec.json.decode(raw, type=RevisionConflict)
    return f"revision {said.actual} is in force, not {said.expected}: nothing was changed"


def _exists(raw: bytes) -> str:
    said = msgspec.json.decode(raw, type=RuleExists)
    return f"{said.path}{_nodes(said.numa)} has a rule already: change it with `rule set`"


def _no_rule(raw: bytes) -> str:
    said = msgspec.json.decode(raw, type=NoSuchRule)
    return f"{said.path}{_nodes(said.numa)} has no rule"


def _nodes(numa: Sequence[int]) -> str:
    return f" on node {','.join(map(str, numa))}" if numa else ""


def _not_possible(raw: bytes) -> str:
    why = msgspec.json.decode(raw, type=NotPossible).why
    code, colon, path = why.partition(": ")
    if code == "no_such_cgroup" and colon:
        why = f"there is no cgroup {path}"
    return f"not possible now: {why}"


def _busy(raw: bytes) -> str:
    said = msgspec.json.decode(raw, type=Busy)
    return f"busy: a squeeze of {said.by} is under way, for another {span(said.left_us)} at most"


def _denied(_raw: bytes) -> str:
    return "permission denied: root may change settings, the group memreact may read them"


_REFUSALS = {
    "SettingsRefused": _refused,
    "RevisionConflict": _conflict,
    "RuleExists": _exists,
    "NoSuchRule": _no_rule,
    "NotPossible": _not_possible,
    "Busy": _busy,
    "PermissionDenied": _denied,
    **swap.REFUSALS,
}
