"""Figures and reasons in words: short ones for columns, long ones where there is room."""

from __future__ import annotations

from collections.abc import Mapping

from memreact_schemas.status import DecisionRow
from memreact_tools.ctl.amounts import amount, bounded, span

__all__ = ["brief", "figure", "percent", "rate", "short_span", "size", "verdict"]

_UNITS = "BKMGTPE"
_KIB = 1024
_ALL = 2**63 - 1  # of Varlink; what is larger is cut to it
_PPM_PER_PERCENT = 10_000
_TEN = 10
_HUNDRED = 100

_VERDICTS = {
    "leave": "left alone",
    "end": "ended",
    "hold": "held on",
    "pause": "paused",
    "resume": "goes on",
    "turn": "turn over",
    "run": "turn asked for",
    "rules": "new settings",
    "skip": "no compaction",
    "compact": "compacts",
    "compacted": "compacted",
    "back_off": "backs off",
    "let_go": "let go",
}
_WAITED = "waited"
_WAITS = {
    "reclaim_us": "reclaim",
    "swap_in_us": "swap-in",
    "thrashing_us": "thrashing",
    "compact_us": "compaction",
    "block_io_us": "disk",
}
_SAID_WITHOUT = {"done", "turn_over"}  # the verdict says it all


def size(amount_bytes: int | None) -> str:
    """Bytes in at most five cells, as 412M or 1.2G."""
    if amount_bytes is None:
        return "-"
    if amount_bytes >= _ALL:
        return "all"
    number, unit = float(bounded(amount_bytes)), 0
    while number >= 1000 and unit < len(_UNITS) - 1:  # noqa: PLR2004  # four digits are too wide
        number /= _KIB
        unit += 1
    digits = 0
    if unit and number < 9.95:  # noqa: PLR2004  # rounds to 10
        digits = 2 if unit >= _UNITS.index("G") else 1
    return f"{number:.{digits}f}{_UNITS[unit]}"


def short_span(microseconds: int) -> str:
    """A length of time in at most four cells, as 12s, 3m, 2h or 40d."""
    seconds = max(bounded(microseconds), 0) // 1_000_000
    for unit, of in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * of or (unit == "d" and seconds >= of):
            return f"{seconds // of}{unit}"
    return f"{seconds}s"


def percent(ppm: int) -> str:
    """A share with as many digits as say something, as 0.02 % or 12 %."""
    share = bounded(ppm) / _PPM_PER_PERCENT
    digits = 0 if share >= _TEN or not ppm else 1 if share >= 1 else 2
    return f"{share:.{digits}f} %"


def rate(per_ks: int) -> str:
    """So many in a thousand seconds, as times a second."""
    each = bounded(per_ks) / 1000
    return f"{each:.0f}/s" if each >= _HUNDRED else f"{each:.1f}/s"


def verdict(row: DecisionRow) -> str:
    """What was decided, for people."""
    return _VERDICTS.get(row.verdict, row.verdict.replace("_", " "))


def brief(row: DecisionRow, page_bytes: int) -> str:
    """Why, in a few words, and the one figure that matters most."""
    because = "" if row.because in _SAID_WITHOUT else row.because.replace("_", " ")
    figures = row.figures
    if (pages := figures.get("evicted_pages")) and page_bytes:
        out = f"{size(pages * page_bytes)} out"
        because = f"{out}, {because}" if because else out
    if (gained := figures.get("gained_bytes")) is not None and row.verdict == "compacted":
        because = f"{because}, {size(gained)} gained".removeprefix(", ")
    if row.because == _WAITED:
        because = f"{because}{_longest_wait(figures)}"
    if (possible := figures.get("possible_in_us")) is not None:
        because = f"{because}, {short_span(possible)}"
    return because


def _longest_wait(figures: Mapping[str, int]) -> str:
    kinds = {kind: figures[name] for name, kind in _WAITS.items() if figures.get(name)}
    if not kinds:
        return ""
    longest = max(kinds, key=lambda kind: kinds[kind])
    return f" {span(kinds[longest])}, {longest}"


def figure(name: str, value: int, page_bytes: int) -> tuple[str, str]:
    """A figure's name without its unit, and the value with it."""
    stem, _, unit = name.rpartition("_")
    if unit == "us" and stem:
        return stem.replace("_", " "), span(value)
    if unit == "bytes" and stem:
        return stem.replace("_", " "), amount(value)
    if unit == "pages" and stem:
        size_of = f", {amount(value * page_bytes)}" if page_bytes else ""
        return stem.replace("_", " "), f"{value} pages{size_of}"
    if unit == "ppm" and stem:
        return stem.replace("_", " "), percent(value)
    return name.replace("_", " "), str(value)
