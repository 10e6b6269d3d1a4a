"""Asks every guest for its metrics, some at a time, and says which of them did not answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from memreact_schemas.openmetrics import END, Sample, head_of, line_of
from memreact_tools.address import Address
from memreact_tools.ctl.guests import Round, Trouble
from memreact_tools.host.metrics.fetch import fetch
from memreact_tools.host.metrics.merge import (
    FAMILIES,
    GUEST,
    Malformed,
    Metrics,
    merged,
    parse_metrics,
)

__all__ = ["Gathered", "gather"]

_UP, _TOOK = FAMILIES


class Gathered(NamedTuple):
    """What was gathered.

    Args:
        text: OpenMetrics, whole.
        troubles: Why a guest did not answer, by its name.
    """

    text: str
    troubles: Mapping[str, str]


def gather(
    guests: Mapping[Address, str],
    *,
    timeout_s: float,
    parallel: int,
    within_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Gathered:
    """Ask every guest once.

    Args:
        guests: Names by address.
        timeout_s: Seconds that each may take.
        parallel: How many are asked at the same time.
        within_s: Seconds that all of them may take; whoever was not asked by then is told of as one
            that did not answer.
        clock: Reads the time.
    """
    ends_at = None if within_s is None else clock() + within_s
    answers: dict[str, Metrics] = {}
    took: dict[str, float] = {}

    def ask(address: Address) -> tuple[bytes, str]:
        began = clock()
        left_s = timeout_s if ends_at is None else min(timeout_s, ends_at - began)
        try:
            if left_s <= 0:
                raise Trouble("there was no time left to ask it", code="timeout")
            answers[guests[address]] = parse_metrics(fetch(address, left_s))
        except Malformed as error:
            raise Trouble(str(error), code="broken") from error
        finally:
            took[guests[address]] = clock() - began
        return b"", ""

    outcomes = Round(tuple(guests), ask, parallel=parallel)
    troubles = {guests[each.address]: each.text for each in outcomes if each.failed}
    names = list(guests.values())
    told = {name: answers[name] for name in names if name in answers}
    return Gathered("".join(_text(names, told, took)), troubles)


def _text(
    names: list[str], answers: Mapping[str, Metrics], took: Mapping[str, float]
) -> Iterator[str]:
    yield head_of(_UP)
    yield from (line_of(_UP, Sample("", {GUEST: name}, int(name in answers))) for name in names)
    yield head_of(_TOOK)
    yield from (line_of(_TOOK, Sample("", {GUEST: name}, round(took[name], 6))) for name in names)
    yield from merged(answers)
    yield END
