"""What a storm comes to: a table, and what is not as it has to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lab.latency_figures import percentile
from lab.storm_calls import KINDS
from lab.storm_daemon import Heard

__all__ = ["Figures", "Stream", "Usage", "table", "verdicts"]

_WARM_SHARE = 6  # of the run: memory is compared from there on
_GROWTH_BYTES_MAX = 1 << 20
_REACHED_PERCENT = 98
_PRESSURE_FROM_S = 30.0  # in less there may be no burst that is long enough


class Usage(NamedTuple):
    """What the daemon's process holds and has used.

    Args:
        at_s: When, on CLOCK_MONOTONIC.
        rss_bytes: All of its memory that is there.
        anon_bytes: Of that, what is its own and no file's.
        cpu_s: Of all its threads.
    """

    at_s: float
    rss_bytes: int
    anon_bytes: int
    cpu_s: float


class Stream(NamedTuple):
    """How one stream of calls went.

    Args:
        answered: Calls.
        wrong_total: Answers that were not right.
        wrong: The first of them.
        waited_us: From the sending to the answer, call by call.
    """

    answered: int
    wrong_total: int
    wrong: tuple[str, ...]
    waited_us: tuple[int, ...]


class Figures(NamedTuple):
    """What one storm came to.

    Args:
        seconds: Of calls.
        streams: By name.
        usage: Samples: before the first call, and then every second.
        changes: By so much the revision grew.
        evictions: That began and were broken off meanwhile.
        not_in_force: Keys whose last value that was sent is not in force, and what is.
        audited: Lines of the journal that tell of a change.
        heard: Pressure events, by the daemon's waiting thread.
        listened: By the independent listener, by resource.
        stalled_us: Where the triggers are, by resource.
        trouble: Lines of the journal that nobody expects.
    """

    seconds: float
    streams: Mapping[str, Stream]
    usage: tuple[Usage, ...]
    changes: int
    evictions: int
    not_in_force: Mapping[str, str]
    audited: int
    heard: Heard
    listened: Mapping[str, int]
    stalled_us: Mapping[str, int]
    trouble: tuple[str, ...]

    @property
    def valid(self) -> int:
        """Valid calls that were answered."""
        return sum(each.answered for name, each in self.streams.items() if KINDS[name].valid)

    @property
    def warm(self) -> Usage:
        """The first sample after everything was used for a while."""
        warm_at = self.usage[0].at_s + self.seconds / _WARM_SHARE
        return next(each for each in self.usage if each.at_s >= warm_at)


def table(figures: Figures) -> str:
    """All figures, for people."""
    return "\n".join([*_calls(figures), *_state(figures), *_process(figures)])


def _calls(figures: Figures) -> Iterator[str]:
    columns = f"{'calls':>7} {'a second':>8} {'wrong':>5} {'p50 us':>7} {'p99 us':>7} {'most':>8}"
    yield f"{'':16}  {columns}"
    for name, each in figures.streams.items():
        p50, p99 = (percentile(each.waited_us, percent) for percent in (50, 99))
        rate = each.answered / figures.seconds
        yield (
            f"{name:16}  {each.answered:7,} {rate:8.1f} {each.wrong_total:5} {p50:7,} {p99:7,} "
            f"{max(each.waited_us):8,}"
        )


def _state(figures: Figures) -> Iterator[str]:
    heard, listened = figures.heard, figures.listened
    apart = ", ".join(f"{name} {count}" for name, count in listened.items())
    stalled = ", ".join(f"{name} {us / 1e6:.1f} s" for name, us in figures.stalled_us.items())
    yield f"changes in force: {figures.changes:,}, in the journal: {figures.audited:,}"
    yield f"stalled: {stalled}"
    yield f"pressure events: the daemon heard {heard.steady}, the listener {apart}"
    yield f"events of the policy's own triggers: {heard.policy}; evictions: {figures.evictions:,}"


def _process(figures: Figures) -> Iterator[str]:
    first, warm, last = figures.usage[0], figures.warm, figures.usage[-1]
    cpu_percent = 100 * (last.cpu_s - first.cpu_s) / (last.at_s - first.at_s)
    for name, before, since, after in (
        ("RSS", first.rss_bytes, warm.rss_bytes, last.rss_bytes),
        ("anonymous", first.anon_bytes, warm.anon_bytes, last.anon_bytes),
    ):
        kib = f"{before >> 10:,}, {since >> 10:,}, {after >> 10:,}"
        yield f"{name} KiB before, after {warm.at_s - first.at_s:.0f} s, at the end: {kib}"
    yield f"CPU of the daemon: {cpu_percent:.0f} % of one core"


def verdicts(figures: Figures, rate: int) -> list[str]:
    """What is not as it has to be, in words; empty when all is.

    Args:
        figures: Of the storm.
        rate: Valid calls a second that were wanted, and as many invalid ones.
    """
    return [*_of_calls(figures, rate), *_of_changes(figures), *_of_the_daemon(figures)]


def _of_calls(figures: Figures, rate: int) -> Iterator[str]:
    for valid, name in ((True, "valid"), (False, "invalid")):
        streams = [each for key, each in figures.streams.items() if KINDS[key].valid is valid]
        answered = sum(each.answered for each in streams)
        wanted = rate * figures.seconds
        if answered * 100 < wanted * _REACHED_PERCENT:
            yield f"{answered:,} of {wanted:,.0f} {name} calls were answered in time"
    for name, each in figures.streams.items():
        if each.wrong_total:
            yield f"{name}: {each.wrong_total} answers are not right: {'; '.join(each.wrong)}"


def _of_changes(figures: Figures) -> Iterator[str]:
    for what, count in (("changes", figures.changes), ("audit lines", figures.audited)):
        if count != figures.valid:
            yield f"{count:,} {what} of {figures.valid:,} valid calls"
    for key, what in figures.not_in_force.items():
        yield f"{key} is {what}"


def _of_the_daemon(figures: Figures) -> Iterator[str]:
    heard, listened = figures.heard.steady, sum(figures.listened.values())
    if heard != listened:
        yield f"the daemon heard {heard} pressure events, the listener {listened}"
    if not listened and figures.seconds >= _PRESSURE_FROM_S:
        yield "there was no pressure event"
    grown = figures.usage[-1].anon_bytes - figures.warm.anon_bytes
    if grown > _GROWTH_BYTES_MAX:
        yield f"anonymous memory grew by {grown >> 10:,} KiB since it was warm"
    if figures.trouble:
        yield f"the journal tells of trouble: {'; '.join(figures.trouble)}"
