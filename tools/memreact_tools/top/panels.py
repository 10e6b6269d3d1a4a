"""The upper part of the screen: how a guest is, where its memory is, who waits, what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from memreact_schemas.status import LedgerStatus, Status
from memreact_tools.ctl.show import span
from memreact_tools.top.cells import cells, safe, tail
from memreact_tools.top.chart import Chart, marks_line, spark_line, spark_rows
from memreact_tools.top.lines import Glyphs, Line, Part, Row, bar, title
from memreact_tools.top.model import GuestModel
from memreact_tools.top.words import percent, rate, short_span, size

__all__ = ["WIDE", "Scene", "panels"]

WIDE = 110
"""Columns from which on two panels stand side by side."""

_TALL = 40
_LEFT_SHARE = 46  # percent of the width
_LABEL = 11
_VALUE = 6
_BAR_MAX = 64
_NOTE_MOST = 30
_STALE_US = 15_000_000
_STATES = {
    "paused": "bad",
    "held": "warn",
    "idle": "warn",
    "stopping": "warn",
    "starting": "warn",
    "evicting": "busy",
    "aging": "busy",
    "surveying": "busy",
    "compacting": "busy",
    "resting": "good",
}


class Scene(NamedTuple):
    """What lines are made for.

    Args:
        width: In cells.
        height: Of the whole screen, in lines.
        now_us: The moment on the source's clock.
        glyphs: What to draw with.
        clock: The time of day, or where a recording stands.
        note: Of the guest that is shown, where there are several.
    """

    width: int
    height: int
    now_us: int
    glyphs: Glyphs
    clock: str = ""
    note: str = ""


def panels(guest: GuestModel, scene: Scene) -> list[Line]:
    """Everything above the tree."""
    lines = [_headline(guest, scene), *_notices(guest, scene)]
    if guest.status is None:
        return lines
    if scene.width >= WIDE:
        return [*lines, *_side_by_side(guest, scene), _footline(guest, guest.status, scene)]
    return [*lines, *_stacked(guest, guest.status, scene), _footline(guest, guest.status, scene)]


def _headline(guest: GuestModel, scene: Scene) -> Line:
    row = Row(scene.width, scene.glyphs).put(" memreact", "brand")
    status = guest.status
    if status is not None:
        row.put(f" {status.version}", "dim")
    if scene.note:
        row.put(f"  {tail(scene.note, _NOTE_MOST, scene.glyphs.cut)}", "title")
    row.put(f"  {scene.glyphs.dot} ", _state_style(guest, scene))
    row.put(_state(guest, scene), _state_style(guest, scene))
    if status is not None and guest.state == "live":
        coming = _coming(guest, status, scene)
        room = row.left - cells(safe(scene.clock)) - 2
        row.put(coming if cells(safe(coming)) <= room else "", "dim")
    return row.to_right(f"{scene.clock} ", "dim").done()


def _state_style(guest: GuestModel, scene: Scene) -> str:
    if guest.state != "live":
        return "bad" if guest.state == "lost" else "warn"
    if guest.silent_us(scene.now_us):
        return "bad"
    return "good" if guest.status is None else _STATES.get(guest.status.doing, "good")


def _state(guest: GuestModel, scene: Scene) -> str:
    if guest.state == "connecting":
        return "connecting"
    if guest.state == "lost":
        return "no connection"
    if silent := guest.silent_us(scene.now_us):
        return f"no answer for {span(silent)}"
    status = guest.status
    if status is None:
        return "connected"
    return f"{status.doing} {status.at_work}" if status.at_work else status.doing


def _coming(guest: GuestModel, status: Status, scene: Scene) -> str:
    there_us = guest.there(scene.now_us)
    if status.next_turn_at_us is not None:
        left_us = status.next_turn_at_us - there_us
        return f", next turn in {span(left_us)}" if left_us > 0 else ", a turn is due"
    if status.pause is not None:
        return f" for {span(there_us - status.pause.since_us)}: {_words(status.pause.because)}"
    return ""


def _words(code: str) -> str:
    return code.replace("_", " ")


def _notices(guest: GuestModel, scene: Scene) -> Iterator[Line]:
    """What is out of the usual, a line each."""
    for style, text in _out_of_the_usual(guest, scene):
        yield Row(scene.width, scene.glyphs).put(f" ! {text}", style).done()


def _out_of_the_usual(guest: GuestModel, scene: Scene) -> Iterator[tuple[str, str]]:
    status, there_us = guest.status, guest.there(scene.now_us)
    if guest.state == "lost":
        since = span(scene.now_us - guest.changed_at_us)
        ago = f", for {since}; what is shown is from before" if status is not None else ""
        yield "bad", f"{guest.why}{ago}; trying again"
    if status is None:
        return
    if status.idle_because:
        yield "warn", f"idle: {status.idle_because}"
    if status.hold is not None:
        left = span(status.hold.until_us - there_us)
        reason = f" ({status.hold.reason})" if status.hold.reason else ""
        yield "warn", f"held by {status.hold.by} for another {left}{reason}"
    if status.squeeze is not None:
        evicted = size(status.squeeze.evicted_bytes)
        yield "warn", f"squeezed by {status.squeeze.by}: {evicted} evicted"
    if status.problem:
        yield "bad", f"a change of settings was not taken: {status.problem}"
    if status.unsaved:
        yield "warn", f"a restart would lose what was pushed last: {status.unsaved}"
    if status.ledger is not None and status.ledger.reporting is False:
        because = _words(status.ledger.not_reporting_because or "unknown")
        yield "bad", f"evictions of the last hour led to nothing reported: {because}"


def _side_by_side(guest: GuestModel, scene: Scene) -> list[Line]:
    left_width = scene.width * _LEFT_SHARE // 100
    right_width = scene.width - left_width - 2
    rows = 8 if scene.height >= _TALL else 6
    left = _memory_panel(guest, scene._replace(width=left_width))
    right = _pressure_panel(guest, scene._replace(width=right_width), rows)
    blank = Row(left_width, scene.glyphs).done()
    left += [blank] * (rows - len(left))
    gap: Line = (("  ", ""),)
    return [(*one, *gap, *other) for one, other in zip(left[:rows], right, strict=True)]


def _memory_panel(guest: GuestModel, scene: Scene) -> list[Line]:
    head = title("where the memory is", scene.width, scene.glyphs)
    return [head, *(_stage(each, scene) for each in _stages(guest, scene.now_us))]


class _Stage(NamedTuple):
    """A line of the funnel; None is what this guest does not show."""

    label: str
    amount: int | None
    of: int
    style: str
    note: str = ""


def _stages(guest: GuestModel, now_us: int) -> Iterator[_Stage]:
    """What is in use, then each stage on the way to the host, and what was swapped."""
    status, reading = guest.status, guest.reading
    ledger = status.ledger if status else None
    total = _total(guest)
    free = _free(guest)
    used = None if free is None or not total else total - free
    yield _Stage("in use", used, total, "used", f"of {size(total)}" if total else "")
    yield _Stage("free", free, total, "free")
    yield from _told_stages(ledger, total, _age_of(guest, now_us))
    if reading is not None:
        for area in reading.swap:
            zram = area.zram_taken_bytes
            kind = "swap" if zram is None else "zram"
            note = f"of {size(area.size_bytes)}"
            if zram is not None and zram and area.used_bytes:
                note += f", in {size(zram)} of memory"
            yield _Stage(kind, area.used_bytes, area.size_bytes, "swap", note)


def _age_of(guest: GuestModel, now_us: int) -> str:
    """How long ago the ledger was read, where that is long enough to matter."""
    ledger = guest.status.ledger if guest.status else None
    if ledger is None or ledger.read_at_us is None:
        return ""
    ago_us = guest.there(now_us) - ledger.read_at_us
    return f"{short_span(ago_us)} ago" if ago_us >= _STALE_US else ""


def _told_stages(ledger: LedgerStatus | None, total: int, age: str) -> Iterator[_Stage]:
    reportable = ledger.reportable_bytes if ledger else None
    reported = ledger.reported_bytes if ledger else None
    returned = ledger.returned_bytes if ledger else None
    yield _Stage("reportable", reportable, total, "reportable", age)
    yield _Stage("reported", reported, total, "reported", age)
    note = ""
    if ledger is not None and ledger.host_holds_bytes is not None:
        note = f"host holds {size(ledger.host_holds_bytes)}"
    elif ledger is not None:
        note = "the host does not tell"
    yield _Stage("returned", returned, total, "returned", note)


def _total(guest: GuestModel) -> int:
    ledger = guest.status.ledger if guest.status else None
    if guest.reading is not None:
        return guest.reading.total_bytes
    return (ledger.total_bytes or 0) if ledger else 0


def _free(guest: GuestModel) -> int | None:
    ledger = guest.status.ledger if guest.status else None
    if guest.reading is not None:
        return guest.reading.free_bytes
    return ledger.free_bytes if ledger else None


def _stage(stage: _Stage, scene: Scene) -> Line:
    row = Row(scene.width, scene.glyphs).put(" ")
    row.field(stage.label, _LABEL, "label")
    row.field(size(stage.amount), _VALUE, "value", right=True).put(" ")
    note = f" {stage.note}" if stage.note else ""
    width = max(min(row.left - len(note) - 1, _BAR_MAX), 0)
    row.parts(_gauge(stage, width, scene.glyphs))
    return row.put(note, "dim").done()


def _gauge(stage: _Stage, width: int, glyphs: Glyphs) -> list[Part]:
    """A bar with eighths of a cell at its end, and dots for the rest."""
    if stage.amount is None or stage.of <= 0:
        return [(glyphs.rest * width, "rest")]
    eighths = round(8 * width * max(min(stage.amount, stage.of), 0) / stage.of)
    whole, part = divmod(eighths, 8)
    if not glyphs.parts:
        whole, part = whole + (part >= 4), 0  # noqa: PLR2004  # half a cell
    text = glyphs.full * whole + (glyphs.parts[part - 1] if part else "")
    return [(text, stage.style), (glyphs.rest * (width - len(text)), "rest")]


def _pressure_panel(guest: GuestModel, scene: Scene, rows: int) -> list[Line]:
    chart = _chart(guest, scene, scene.width - 2)
    text = f"waiting for memory and io: {_now_of(guest)}"
    lines = [title(text, scene.width, scene.glyphs)]
    lines += [
        Row(scene.width, scene.glyphs).put(" ").parts(parts).done()
        for parts in spark_rows(chart, rows - 2, scene.glyphs)
    ]
    return [*lines, _marks(chart, scene)]


def _chart(guest: GuestModel, scene: Scene, width: int) -> Chart:
    limit = guest.status.pressure.limit_ppm if guest.status and guest.status.pressure else None
    return Chart.of(guest, scene.now_us, width, limit)


def _now_of(guest: GuestModel) -> str:
    if guest.reading is not None and guest.reading.memory_stall_us is None:
        return "n/a, no PSI here"
    if not guest.points:
        return "-"
    point = guest.points[-1]
    return f"{percent(point.memory_ppm)} + {percent(point.io_ppm)}"


def _marks(chart: Chart, scene: Scene) -> Line:
    row = Row(scene.width, scene.glyphs).put(" ").parts(marks_line(chart, scene.glyphs))
    return row.done()


def _stacked(guest: GuestModel, status: Status, scene: Scene) -> Iterator[Line]:
    """The same in few lines: a bar of all memory, the funnel, the stalls."""
    yield _memory_line(guest, status, scene)
    yield _funnel_line(guest, status, scene)
    width = scene.width - _LABEL - 10
    chart = _chart(guest, scene, width)
    row = Row(scene.width, scene.glyphs).put(" ").field("waiting", _LABEL, "label")
    row.parts(spark_line(chart, scene.glyphs))
    yield row.to_right(f"{percent(guest.points[-1].ppm) if guest.points else '-'} ", "value").done()
    row = Row(scene.width, scene.glyphs).put(" ").field(chart.length, _LABEL, "dim")
    yield row.parts(marks_line(chart, scene.glyphs)).done()


def _memory_line(guest: GuestModel, status: Status, scene: Scene) -> Line:
    total, free, ledger = _total(guest), _free(guest) or 0, status.ledger
    reported = min((ledger.reported_bytes or 0) if ledger else 0, free)
    row = Row(scene.width, scene.glyphs).put(" ").field("memory", _LABEL, "label")
    text = f" {size(total - free)} in use of {size(total)} " if total else " n/a "
    amounts = (
        (total - free, scene.glyphs.full, "used"),
        (free - reported, scene.glyphs.anon[2], "free"),
        (reported, scene.glyphs.anon[3], "reported"),
    )
    row.parts(bar(amounts, total, max(row.left - len(text), 0)))
    return row.to_right(text.strip() + " ", "value").done()


def _funnel_line(guest: GuestModel, status: Status, scene: Scene) -> Line:
    row = Row(scene.width, scene.glyphs).put(" ")
    free = _free(guest)
    row.field("to the host", _LABEL + 1, "label").put("free ", "dim").put(size(free), "free")
    age = _age_of(guest, scene.now_us)
    for stage in _told_stages(status.ledger, 0, age):
        row.put(f" {scene.glyphs.flow} ", "rule").put(f"{stage.label} ", "dim")
        row.put(size(stage.amount), stage.style)
    return row.to_right(f"{age} ", "dim").done()


def _footline(guest: GuestModel, status: Status, scene: Scene) -> Line:
    """What was done, what is swapped, and what memreact costs."""
    row = Row(scene.width, scene.glyphs).put(" ")
    row.field("done", _LABEL, "label")
    row.put(f"{size(status.counters.evicted_bytes)} evicted in {status.turns} turns", "value")
    if scene.width < WIDE:
        row.parts(_swap_parts(guest))
    else:
        row.parts(_done_parts(status))
    return row.to_right(f"{_cost(guest)} ", "dim").done()


def _swap_parts(guest: GuestModel) -> Sequence[Part]:
    areas = guest.reading.swap if guest.reading else ()
    if not areas:
        return [(", no swap", "dim")]
    used, taken = sum(a.used_bytes for a in areas), sum(a.zram_taken_bytes or 0 for a in areas)
    zram = f" in {size(taken)} zram" if taken else ""
    return [(f", {size(used)} swapped{zram}", "swap")]


def _done_parts(status: Status) -> Sequence[Part]:
    compaction = status.compaction
    parts: list[Part] = [(f", {status.counters.agings} agings", "dim")]
    if compaction is not None and compaction.runs:
        gained = size(compaction.gained_bytes)
        parts.append((f", {compaction.runs} compactions for {gained}", "dim"))
    return parts


def _cost(guest: GuestModel) -> str:
    own = guest.own()
    if own is None:
        return "" if guest.recorded else "its cost: n/a"
    cpu = "" if own.cpu_ppm is None else f"{percent(own.cpu_ppm)} cpu, "
    woken = "" if own.wake_ups_per_ks is None else f", {rate(own.wake_ups_per_ks)} wake-ups"
    return f"itself: {cpu}{size(own.cost.rss_bytes)}{woken}"
