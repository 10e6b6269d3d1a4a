"""What opens over the screen: the figures behind a decision, all of one cgroup, and the help."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from memreact_schemas.status import CgroupStatus, DecisionRow, NodeStatus
from memreact_tools.ctl.show import amount, span
from memreact_tools.top.lines import Glyphs, Line, Part, Row, bar
from memreact_tools.top.model import Entry, GuestModel
from memreact_tools.top.table import page_bytes_of, verdict_style
from memreact_tools.top.tree import SORTS, Node
from memreact_tools.top.words import figure, percent, verdict

__all__ = ["KEYS", "cgroup_sheet", "decision_sheet", "help_sheet"]

_LABEL = 20
_NUMBER_MAX = 2**63 - 1
_AGES = 3

KEYS = (
    ("q", "leave"),
    ("?", "this help"),
    ("up down", "move; page up, page down, home and end too"),
    ("tab", "from the tree to the decisions and back"),
    ("enter", "what is behind the line: all of a cgroup, or a decision's figures"),
    ("left right", "fold and unfold; space does either"),
    ("*", "fold or unfold everything"),
    ("s S", f"sort by the next of {', '.join(SORTS)}; the other way round"),
    ("/", "show only cgroups with this in their path; empty shows all"),
    ("e", "leave out cgroups that use nothing"),
    ("f", "follow the newest decision again"),
    ("a", "all decisions, also those that left something alone"),
    ("escape", "close what is open, end the filter"),
)
PLAYER_KEYS = (
    ("p", "play, or stand still"),
    (".", "to the next decision"),
    ("+ -", "faster, slower"),
    ("[ ]", "ten seconds back, on"),
    ("j", "jump to a time after the begin, as in 90 or 5m"),
)

_Pairs = Iterator[tuple[str, str, str]]


def decision_sheet(
    entry: Entry, model: GuestModel, clock: Callable[[int], str], width: int, glyphs: Glyphs
) -> list[Line]:
    """A decision with every figure behind it; a remark of ours as it is."""
    pairs = (
        _remark_pairs(entry, clock)
        if entry.row is None
        else _decision_pairs(entry.at_us, entry.row, page_bytes_of(model), clock)
    )
    return [_pair(*each, width, glyphs) for each in pairs]


def _remark_pairs(entry: Entry, clock: Callable[[int], str]) -> _Pairs:
    yield "when", clock(entry.at_us), ""
    yield "", entry.text, "title"


def _decision_pairs(
    at_us: int, row: DecisionRow, page_bytes: int, clock: Callable[[int], str]
) -> _Pairs:
    yield "decision", f"{verdict(row)} ({row.verdict})", verdict_style(row)
    yield "because", row.because.replace("_", " "), "title"
    yield "cgroup", row.path or "the whole guest", "name"
    if row.node is not None:
        yield "node", str(row.node), ""
    yield "when", f"{clock(at_us)}, number {row.number}", ""
    for name, value in row.figures.items():
        label, text = figure(name, value, page_bytes)
        yield label, text, "value"
    for name, text in row.words.items():
        yield name.replace("_", " "), text, "value"


def _pair(label: str, text: str, style: str, width: int, glyphs: Glyphs) -> Line:
    return Row(width, glyphs).put(" ").field(label, _LABEL, "label").put(text, style).done()


def cgroup_sheet(
    node: Node, model: GuestModel, now_us: int, width: int, glyphs: Glyphs
) -> list[Line]:
    """Everything that is known of one cgroup, without what is below it."""
    there_us = model.there(now_us)
    lines = [_pair("cgroup", node.path, "title", width, glyphs)]
    own = node.own
    if own is None:
        return [*lines, _pair("", "memreact does not follow it", "dim", width, glyphs)]
    lines += [_pair(*each, width, glyphs) for each in _cgroup_pairs(node, own, model, there_us)]
    for on_node in own.nodes:
        lines += _generations(on_node, width, glyphs)
    return lines


def _cgroup_pairs(node: Node, own: CgroupStatus, model: GuestModel, there_us: int) -> _Pairs:
    state = "populated" if own.populated else "empty"
    yield "state", f"{state}{', frozen' if own.frozen else ''}", ""
    yield from _use_pairs(node, own, model)
    yield "in generations", f"{amount(own.anon_bytes)} anon, {amount(own.file_bytes)} file", "value"
    yield "cold", amount(own.cold_bytes), "cold"
    coming = own.next_eviction
    when = "" if coming.at_us is None else f"in {span(coming.at_us - there_us)}, "
    yield "next eviction", f"{when}{coming.text}", ""
    counters = own.counters
    done = f"{counters.agings} agings, {counters.evictions} evictions"
    yield "done", f"{done} of {amount(counters.evicted_bytes)}", "did"
    if own.pressure is not None:
        share = own.pressure.stall_us * 1_000_000 // max(own.pressure.over_us, 1)
        text = f"{percent(share)} of {span(own.pressure.over_us)}"
        yield "stalled", f"{text}, limit {percent(own.pressure.limit_ppm)}", ""
    last = model.last.get(node.path) or own.last
    if last is not None:
        ago = span(there_us - last.at_us)
        text = f"{verdict(last)}: {last.because.replace('_', ' ')}, {ago} ago"
        yield "last decision", text, "why"
        for name, value in last.figures.items():
            label, said = figure(name, value, page_bytes_of(model))
            yield f"  {label}", said, "value"
    for because, times in sorted(counters.because.items(), key=lambda each: -each[1]):
        yield f"  {times} times", because.replace("_", " "), "dim"


def _use_pairs(node: Node, own: CgroupStatus, model: GuestModel) -> _Pairs:
    use = model.uses.get(node.path)
    if use is not None:
        limits = use.limits
        if limits.current_bytes is not None:
            yield "in use", f"{amount(limits.current_bytes)} with all below it", "value"
        kept = (("memory.min", limits.min_bytes), ("memory.low", limits.low_bytes))
        for label, size in (
            *((label, size or None) for label, size in kept),
            ("memory.high", limits.high_bytes),
            ("memory.max", limits.max_bytes),
            ("swapped out", limits.swap_bytes or None),
            ("memory.swap.max", limits.swap_max_bytes),
        ):
            if size is not None:
                yield label, "all" if size >= _NUMBER_MAX else amount(size), "limit"
    if own.floor_bytes is not None:
        yield "floor", f"{amount(own.floor_bytes)}, by the settings", "keep"


def _generations(on_node: NodeStatus, width: int, glyphs: Glyphs) -> Iterator[Line]:
    """A bar for each, the youngest first; ages are those of the status that told them."""
    rule = f"rule {on_node.rule}" if on_node.rule is not None else "the base's rule"
    off = ", disabled" if on_node.disabled else ""
    swap = "anon too" if on_node.swap else "file alone"
    yield Row(width, glyphs).done()
    text = f"{rule}{off}, every {span(on_node.period_us)}, {swap}"
    yield _pair(f"node {on_node.node}", text, "", width, glyphs)
    most = max((each.anon_bytes + each.file_bytes for each in on_node.generations), default=0)
    for at, each in enumerate(reversed(on_node.generations)):
        age = min(at, _AGES)
        row = Row(width, glyphs).put(" ").field(f"  {span(each.age_us)} old", _LABEL, "label")
        sizes = f"{amount(each.anon_bytes)} anon, {amount(each.file_bytes)} file"
        row.field(sizes, 28, "value")
        amounts = (
            (each.anon_bytes, glyphs.anon[age], f"anon{age}"),
            (each.file_bytes, glyphs.file[age], f"file{age}"),
        )
        yield row.parts(bar(amounts, most, max(row.left - 1, 0))).done()


def help_sheet(width: int, glyphs: Glyphs, *, plays: bool) -> list[Line]:
    """Keys, and what the signs mean."""
    row = Row(width, glyphs).put(" memreact-top", "brand")
    lines = [row.put(" shows what memreact does, and changes nothing.").done()]
    for key, text in (*KEYS, *(PLAYER_KEYS if plays else ())):
        line = Row(width, glyphs).put(" ").field(key, 12, "key").put(text)
        lines.append(line.done())
    lines.append(Row(width, glyphs).done())
    lines += [
        Row(width, glyphs).put(" ").field(label, 12, "label").parts(parts).done()
        for label, parts in _legend(glyphs)
    ]
    return lines


def _legend(glyphs: Glyphs) -> Iterator[tuple[str, list[Part]]]:
    for kind, chars in (("anon", glyphs.anon), ("file", glyphs.file)):
        parts: list[Part] = []
        for at, words in enumerate(("just used", "untouched", "longer", "cold")):
            parts += [(chars[at] * 2, f"{kind}{at}"), (f" {words}  ", "")]
        yield f"AGES, {kind}", parts
    yield "KEEP", [("memory.min or low, or a floor of the settings", "")]
    yield "LIMIT", [("memory.high or max, the smaller; COLD% of what is in generations", "")]
    yield "waiting", [("time in which somebody waited for memory or io; the top is the limit", "")]
    yield f"{glyphs.mark} {glyphs.pause}", [("a trigger fired; memreact stayed away", "")]
    flow = f" {glyphs.flow} ".join(("free", "reportable", "reported", "returned"))
    yield "to the host", [(flow, "")]
    yield "", [("free in blocks that are large enough; told to the host; gone there", "")]
