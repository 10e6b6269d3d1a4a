"""OpenMetrics text: how metrics are written, so that Prometheus and its like read them.

A family's lines stand together: what it is, then its samples. Names end in the unit.

Source: OpenMetrics 1.0, "Text format"
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Literal, NamedTuple, TypeAlias

__all__ = [
    "CONTENT_TYPE",
    "END",
    "Family",
    "Kind",
    "Labels",
    "Sample",
    "counted",
    "escaped",
    "head_of",
    "histogram",
    "line_of",
    "stateset",
]

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

END = "# EOF\n"
"""The last line; without it an answer was cut off."""

Kind: TypeAlias = Literal["counter", "gauge", "histogram", "gaugehistogram", "stateset", "info"]

Labels: TypeAlias = Mapping[str, str]

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Family(NamedTuple):
    """What is the same for all samples of one name.

    Args:
        name: Without what a kind adds to it, such as `_total`; it ends in the unit.
        kind: What its numbers mean.
        about: What they are, for people: one line.
        unit: Of its numbers; empty for plain counts and states.
        labels: What tells its samples apart.
    """

    name: str
    kind: Kind
    about: str
    unit: str = ""
    labels: tuple[str, ...] = ()


class Sample(NamedTuple):
    """One number.

    Args:
        suffix: What its kind adds to the name: "_total", "_bucket", or nothing.
        labels: By name.
        value: The number.
    """

    suffix: str
    labels: Labels
    value: float


def escaped(text: str) -> str:
    """Write a text so that it stays on its line and between its quotes."""
    return text.translate(_ESCAPES)


def head_of(family: Family) -> str:
    """Write what a family is."""
    unit = f"# UNIT {family.name} {family.unit}\n" if family.unit else ""
    return (
        f"# TYPE {family.name} {family.kind}\n{unit}# HELP {family.name} {escaped(family.about)}\n"
    )


def line_of(family: Family, sample: Sample) -> str:
    """Write one sample."""
    pairs = ",".join(f'{name}="{escaped(text)}"' for name, text in sample.labels.items())
    labels = f"{{{pairs}}}" if pairs else ""
    return f"{family.name}{sample.suffix}{labels} {sample.value}\n"


def counted(value: float, labels: Labels | None = None) -> Sample:
    """Say how often, or how much, up to now; it only grows."""
    return Sample("_total", labels or {}, value)


def stateset(family: Family, states: Iterable[str], now: str) -> Iterator[Sample]:
    """Say which of some states holds."""
    for state in states:
        yield Sample("", {family.name: state}, int(state == now))


def histogram(
    family: Family,
    bounds: Iterable[float],
    each: Iterable[float],
    total: float,
    labels: Labels | None = None,
) -> Iterator[Sample]:
    """Say how many, or how much, there is up to each bound.

    Args:
        family: A histogram, or one of what is there now.
        bounds: The upper ends, without the last one, which is infinite.
        each: What is between two of them; one more than there are bounds.
        total: All that was counted, each times its own value.
        labels: Of all its samples.
    """
    labels = labels or {}
    ends = [*(str(float(bound)) for bound in bounds), "+Inf"]
    up_to = list(accumulate(each))
    for end, value in zip(ends, up_to, strict=True):
        yield Sample("_bucket", {**labels, "le": end}, value)
    g = "g" if family.kind == "gaugehistogram" else ""
    yield Sample(f"_{g}count", labels, up_to[-1])
    yield Sample(f"_{g}sum", labels, total)
