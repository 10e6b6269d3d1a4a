"""The tree of cgroups as lines, and the decision log."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from memreact_schemas.status import CgroupLimits, DecisionRow, NextEviction
from memreact_tools.top.cells import cells, safe, tail
from memreact_tools.top.lines import Glyphs, Line, Part, Row, bar, title
from memreact_tools.top.model import Entry, GuestModel
from memreact_tools.top.tree import AGES, Place, View, use_of
from memreact_tools.top.words import brief, percent, short_span, size, verdict

__all__ = [
    "ages_bar",
    "log_line",
    "log_title",
    "page_bytes_of",
    "place_line",
    "table_head",
    "verdict_style",
]

_NUMBER = 5
_NAME_MIN = 18
_WHY_MIN = 14
_PATH_LEAST = 12
_ALL = 2**63 - 1


class _Column(NamedTuple):
    """A column of the tree.

    Args:
        head: Its heading.
        width: In cells.
        least: It is there from so many columns of the terminal on.
        sort: The key of SORTS that it shows.
    """

    head: str
    width: int
    least: int
    sort: str = ""


_COLUMNS = (
    _Column("USE", _NUMBER, 0, "use"),
    _Column("KEEP", _NUMBER, 0),
    _Column("LIMIT", _NUMBER, 0),
    _Column("AGES", 12, 0),
    _Column("COLD", _NUMBER, 100, "cold"),
    _Column("COLD%", _NUMBER, 0, "cold%"),
    _Column("SWAP", _NUMBER, 110, "swap"),
    _Column("STALL", 6, 110, "stall"),
    _Column("OUT", _NUMBER, 130, "evicted"),
)
_WIDER_AGES = ((150, 28), (110, 20))


class _Shape(NamedTuple):
    name: int
    columns: tuple[_Column, ...]
    why: int


def _shape(width: int) -> _Shape:
    """Share a width out: the figures take what they need, the name and the reason the rest."""
    columns = tuple(_sized(each, width) for each in _COLUMNS if width >= each.least)
    taken = sum(each.width + 1 for each in columns) + 1
    rest = max(width - taken, 0)
    name = max(rest * 52 // 100, min(_NAME_MIN, rest))
    return _Shape(name, columns, max(rest - name - 1, 0))


def _sized(column: _Column, width: int) -> _Column:
    if column.head == "AGES":
        for least, wider in _WIDER_AGES:
            if width >= least:
                return column._replace(width=wider)
    return column


def table_head(view: View, width: int, glyphs: Glyphs) -> Line:
    """The headings; the one that is sorted by stands out."""
    shape, row = _shape(width), Row(width, glyphs).put(" ", "head")
    name = "CGROUP" if not view.filter else f"CGROUP with {view.filter}"
    row.field(name, shape.name, "sorted" if view.sort == "name" else "head")
    for column in shape.columns:
        row.put(" ", "head")
        chosen = bool(column.sort) and column.sort == view.sort
        is_bar = column.head == "AGES"
        row.field(column.head, column.width, "sorted" if chosen else "head", right=not is_bar)
    row.put(" ", "head").field("LAST DECISION", shape.why, "head")
    return row.field("", row.left, "head").done()


def place_line(
    place: Place, models: Mapping[str, GuestModel], now_us: int, width: int, glyphs: Glyphs
) -> Line:
    """One line of the tree."""
    shape, row = _shape(width), Row(width, glyphs)
    model = models[place.guest]
    row.put(" ").field(_name(place, model, glyphs), shape.name, _name_style(place, model))
    for column in shape.columns:
        row.put(" ")
        _FIGURES[column.head](row, place, model, column.width, glyphs)
    return row.put(" ").parts(_why(place, model, now_us, shape.why)).done()


def _name(place: Place, model: GuestModel, glyphs: Glyphs) -> str:
    mark = {"open": glyphs.opened, "closed": glyphs.closed}.get(place.folds, " ")
    if place.node is None:
        return f"{mark} {safe(model.name)}"
    more = place.node.members - 1
    hidden = f" +{more}" if place.folds == "closed" and more else ""
    return f"{'  ' * place.depth}{mark} {place.node.name}{hidden}"


def _name_style(place: Place, model: GuestModel) -> str:
    if place.node is None:
        return {"live": "title", "lost": "bad"}.get(model.state, "warn")
    status = model.status
    if status is not None and status.at_work == place.node.path:
        return "busy"
    own = place.node.own
    if own is None or not own.populated:
        return "dim"
    return "frozen" if own.frozen else "name"


_Figure = Callable[[Row, Place, GuestModel, int, Glyphs], object]


def _limits(place: Place, model: GuestModel) -> CgroupLimits | None:
    use = model.uses.get(place.node.path) if place.node is not None else None
    return None if use is None else use.limits


def _use(row: Row, place: Place, model: GuestModel, width: int, _: Glyphs) -> object:
    if place.node is None:
        reading = model.reading
        used = None if reading is None else reading.total_bytes - reading.free_bytes
        return row.field(size(used), width, "value", right=True)
    if place.node.path == "/" and model.reading is not None and place.node.own is not None:
        used = model.reading.total_bytes - model.reading.free_bytes
        return row.field(size(used), width, "value", right=True)
    return row.field(size(use_of(model, place.node)), width, "value", right=True)


def _keep(row: Row, place: Place, model: GuestModel, width: int, _: Glyphs) -> object:
    """What the kernel keeps for it (memory.min and low), or the settings do."""
    limits, floor = _limits(place, model), None
    if place.node is not None and place.node.own is not None:
        floor = place.node.own.floor_bytes
    kept = max(limits.min_bytes, limits.low_bytes) if limits else 0
    kept = max(kept, floor or 0)
    return row.field(size(kept) if kept else "-", width, "keep" if kept else "dim", right=True)


def _limit(row: Row, place: Place, model: GuestModel, width: int, _: Glyphs) -> object:
    limits = _limits(place, model)
    bounds = [] if limits is None else [limits.high_bytes, limits.max_bytes]
    least = min((each for each in bounds if each is not None and each < _ALL), default=None)
    style = "dim"
    if least is not None and limits is not None:
        near = (limits.current_bytes or 0) * 10 >= least * 9
        style = "warn" if near else "limit"
    return row.field(size(least), width, style, right=True)


def _ages(row: Row, place: Place, _: GuestModel, width: int, glyphs: Glyphs) -> object:
    if place.node is None:
        return row.field("", width)
    return row.field_of(ages_bar(place.node.ages, width, glyphs), width)


def ages_bar(ages: Sequence[int], width: int, glyphs: Glyphs) -> list[Part]:
    """Anonymous memory from the youngest to the coldest, then page cache."""
    amounts = [(ages[at], glyphs.anon[at], f"anon{at}") for at in range(AGES)]
    amounts += [(ages[AGES + at], glyphs.file[at], f"file{at}") for at in range(AGES)]
    return bar(amounts, sum(ages), width)


def _cold(row: Row, place: Place, _: GuestModel, width: int, _g: Glyphs) -> object:
    cold = place.node.cold_bytes if place.node is not None else None
    return row.field(size(cold) if cold else "-", width, "cold" if cold else "dim", right=True)


def _cold_share(row: Row, place: Place, _: GuestModel, width: int, _g: Glyphs) -> object:
    node = place.node
    if node is None or not node.known_bytes:
        return row.field("-", width, "dim", right=True)
    share = 100 * node.cold_bytes // node.known_bytes
    return row.field(f"{share}%", width, "cold" if share else "dim", right=True)


def _swap(row: Row, place: Place, model: GuestModel, width: int, _: Glyphs) -> object:
    limits = _limits(place, model)
    swapped = 0 if limits is None else limits.swap_bytes
    return row.field(
        size(swapped) if swapped else "-", width, "swap" if swapped else "dim", right=True
    )


def _stall(row: Row, place: Place, model: GuestModel, width: int, _: Glyphs) -> object:
    ppm = model.stalls_ppm.get(place.node.path) if place.node is not None else None
    text = percent(ppm).replace(" ", "") if ppm else "-"
    return row.field(text, width, "warn" if ppm else "dim", right=True)


def _out(row: Row, place: Place, _: GuestModel, width: int, _g: Glyphs) -> object:
    out = place.node.evicted_bytes if place.node is not None else 0
    return row.field(size(out) if out else "-", width, "value" if out else "dim", right=True)


_FIGURES: dict[str, _Figure] = {
    "USE": _use,
    "KEEP": _keep,
    "LIMIT": _limit,
    "AGES": _ages,
    "COLD": _cold,
    "COLD%": _cold_share,
    "SWAP": _swap,
    "STALL": _stall,
    "OUT": _out,
}


def _why(place: Place, model: GuestModel, now_us: int, width: int) -> list[Part]:
    """The last decision on a cgroup: when, what and why; of a guest how it is."""
    if place.node is None:
        doing = model.status.doing if model.status and model.state == "live" else model.state
        return [(f"{doing}{': ' + model.why if model.why else ''}", "dim")]
    own = place.node.own
    row = model.last.get(place.node.path) or (own.last if own else None)
    if row is None:
        return [("" if own is None else _coming(own.next_eviction, model.there(now_us)), "dim")]
    ago = short_span(model.there(now_us) - row.at_us)
    style = "did" if row.verdict == "end" and row.figures.get("evicted_pages") else "why"
    reason = brief(row, page_bytes_of(model)) or verdict(row)
    parts: list[Part] = [(f"{ago:>4} ", "dim")] if width > _WHY_MIN else []
    return [*parts, (reason, style)]


def _coming(eviction: NextEviction, there_us: int) -> str:
    if eviction.at_us is None:
        return eviction.text
    return f"may go in {short_span(eviction.at_us - there_us)}"


def page_bytes_of(model: GuestModel) -> int:
    """The guest's page size; 0 while it is not known."""
    return model.status.page_bytes if model.status else 0


def log_title(
    model: GuestModel, width: int, glyphs: Glyphs, *, many: bool = False, hidden: int = 0
) -> Line:
    """The heading of the decision log, with what is missing in it.

    Args:
        model: Of the guest.
        width: In cells.
        glyphs: What to draw with.
        many: Say of which guest, for there are several.
        hidden: Decisions that are not shown, for nothing was done.
    """
    made = model.status.decisions if model.status else 0
    where = f" of {safe(model.name)}" if many else ""
    lost = f", {model.dropped} not told in time" if model.dropped else ""
    alone = f", {hidden} that left something alone are hidden (a)" if hidden else ""
    return title(f"decisions{where}: {made}{lost}{alone}", width, glyphs)


def log_line(
    entry: Entry, clock: Callable[[int], str], page_bytes: int, width: int, glyphs: Glyphs
) -> Line:
    """One decision, or a remark of ours.

    Args:
        entry: Which.
        clock: Writes a moment as the time of day.
        page_bytes: Of the guest.
        width: In cells.
        glyphs: What to draw with.
    """
    row = Row(width, glyphs).put(" ").put(f"{clock(entry.at_us)} ", "dim")
    if entry.row is None:
        return row.put(entry.text, "title").done()
    decision = entry.row
    row.field(verdict(decision), 13, verdict_style(decision)).put(" ")
    why = brief(decision, page_bytes)
    if decision.path:
        room = max(row.left - cells(safe(why)) - 1, _PATH_LEAST)
        row.put(f"{tail(decision.path, room, glyphs.cut)} ", "name")
    return row.put(why, "why").done()


def verdict_style(row: DecisionRow) -> str:
    """How much a decision matters, as a style."""
    over = "over_limit" in row.because or row.because in ("oom", "limit_hit")
    if row.verdict == "pause" or (over and row.verdict == "end"):
        return "bad"
    if over or row.verdict in ("hold", "refuse"):
        return "warn"
    if row.figures.get("evicted_pages") or row.verdict in ("compacted", "squeezed"):
        return "did"
    return "good" if row.verdict in ("resume", "turn") else "dim"
