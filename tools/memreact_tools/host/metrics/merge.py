"""Metrics of several guests as one text: each sample says whose it is.

A guest is not trusted: what it says is taken apart line by line, and written again only if it is
metrics of memreact that do not speak of another guest.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import NamedTuple

from memreact_schemas.openmetrics import END, Family, escaped

__all__ = [
    "FAMILIES",
    "FAMILIES_MAX",
    "GUEST",
    "LINES_MAX",
    "Malformed",
    "Metrics",
    "merged",
    "parse_metrics",
]

GUEST = "guest"
"""The label that says whose a sample is."""

FAMILIES = (
    Family(
        "memreact_up", "gauge", "1 for a guest that answered, 0 for one that did not.", "", (GUEST,)
    ),
    Family(
        "memreact_scrape_seconds",
        "gauge",
        "How long a guest took to answer, or until it was given up.",
        "seconds",
        (GUEST,),
    ),
)
"""What is said of a guest here, and by no guest."""

LINES_MAX = 120_000
"""Of one guest: 1,000 cgroups, which is all that settings let it name, and the others as one have
six lines each and one for every reason there is, of which no cgroup meets more than a few."""

FAMILIES_MAX = 1000
"""Of one guest: there are less than a hundred."""

_OURS = frozenset(family.name for family in FAMILIES)

_SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "stateset": ("",),
    "info": ("_info",),
    "histogram": ("_bucket", "_count", "_sum"),
    "gaugehistogram": ("_bucket", "_gcount", "_gsum"),
}
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"'
_SAMPLE = re.compile(
    rf"(?P<name>memreact_[a-z0-9_]{{1,200}})(?:\{{(?P<labels>{_LABEL}(?:,{_LABEL})*)?\}})?"
    r" (?P<value>-?\d{1,30}(?:\.\d{1,30})?(?:e[+-]?\d{1,3})?)",
    re.ASCII,
)
_LABEL_NAME = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="(?:[^"\\\n]|\\[\\"n])*"(?:,|\Z)', re.ASCII)
_ABOUT = re.compile(
    r"# (TYPE|UNIT|HELP) (memreact_[a-z0-9_]{1,200})(?: ([^\n]{0,1000}))?", re.ASCII
)
_SHOWN = 80


class Malformed(ValueError):  # noqa: N818  # reads as what it is
    """A guest's text is not what memreact writes."""


class _Line(NamedTuple):
    """One sample, in the words of the guest."""

    name: str
    labels: str
    value: str


@dataclass(slots=True)
class _Family:
    """The lines of one name."""

    about: dict[str, str] = field(default_factory=dict)
    lines: list[_Line] = field(default_factory=list)


_Meaning = tuple[str | None, str | None]

Metrics = Mapping[str, _Family]
"""What one guest says, by family."""


def parse_metrics(text: str) -> Metrics:
    """Take a guest's text apart.

    Raises:
        Malformed: It is cut off, a line is none that memreact writes, or there are too many.
    """
    if not f"\n{text}".endswith(f"\n{END}"):
        raise Malformed("it is cut off")
    if text.count("\n") > LINES_MAX:
        raise Malformed(f"it has more than {LINES_MAX} lines")
    families: dict[str, _Family] = {}
    seen: set[tuple[str, str]] = set()
    name = ""
    for line in text[: -len(END)].split("\n")[:-1]:  # other ends of lines are within names
        if about := _ABOUT.fullmatch(line):
            if about[2] in _OURS or (about[2] != name and about[2] in families):
                raise _bad(line)
            name = about[2]
            if len(families) >= FAMILIES_MAX and name not in families:
                raise Malformed(f"it has more than {FAMILIES_MAX} families")
            families.setdefault(name, _Family()).about[about[1]] = about[3] or ""
            continue
        sample = _parse_sample(line, name, families)
        if (sample.name, sample.labels) in seen:
            raise _bad(line)
        seen.add((sample.name, sample.labels))
        families[name].lines.append(sample)
    return families


def _parse_sample(line: str, family: str, families: Mapping[str, _Family]) -> _Line:
    found = _SAMPLE.fullmatch(line)
    if found is None or family not in families:
        raise _bad(line)
    kind = families[family].about.get("TYPE", "")
    if found["name"] not in {family + suffix for suffix in _SUFFIXES.get(kind, ())}:
        raise _bad(line)
    labels = found["labels"] or ""
    names = _LABEL_NAME.findall(labels)
    if GUEST in names or len(set(names)) < len(names):
        raise _bad(line)
    # Prometheus drops a whole scrape for a name that is its own, or a number that no float holds.
    if any(name.startswith("__") for name in names) or not isfinite(float(found["value"])):
        raise _bad(line)
    return _Line(found["name"], labels, found["value"])


def _bad(line: str) -> Malformed:
    return Malformed(f"memreact writes no line as {line[:_SHOWN]!r}")


def merged(guests: Mapping[str, Metrics]) -> Iterator[str]:
    """Write the families of all guests, each once.

    A family means what most guests mean by its name, of as many the first. Samples of one that
    means something else, as another version may, are left out.

    Args:
        guests: What each said, by its name.
    """
    for name, about in _most_said(guests.values()):
        lines = [
            line
            for guest, metrics in guests.items()
            if name in metrics and _meaning(metrics[name].about) == _meaning(about)
            for line in _lines(guest, metrics[name])
        ]
        yield _head(name, about) + "".join(lines)


def _most_said(said: Iterable[Metrics]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield what each family means to most: one guest alone changes that for nobody."""
    times: dict[str, Counter[_Meaning]] = {}
    firsts: dict[tuple[str, _Meaning], Mapping[str, str]] = {}
    for metrics in said:
        for name, family in metrics.items():
            meaning = _meaning(family.about)
            times.setdefault(name, Counter())[meaning] += 1
            firsts.setdefault((name, meaning), family.about)
    for name, meanings in times.items():
        ((most, _),) = meanings.most_common(1)
        yield name, firsts[name, most]


def _meaning(about: Mapping[str, str]) -> _Meaning:
    return about.get("TYPE"), about.get("UNIT")


def _head(name: str, about: Mapping[str, str]) -> str:
    return "".join(
        f"# {key} {name} {about[key]}\n" for key in ("TYPE", "UNIT", "HELP") if key in about
    )


def _lines(guest: str, family: _Family) -> Iterator[str]:
    own = f'{GUEST}="{escaped(guest)}"'
    for name, labels, value in family.lines:
        yield f"{name}{{{own}{',' if labels else ''}{labels}}} {value}\n"
