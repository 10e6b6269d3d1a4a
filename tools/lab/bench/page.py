"""docs/benchmarks.md and its pictures, made of a result file. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence

from lab.bench.figures import (
    COLUMNS,
    Column,
    gib_minutes,
    latencies,
    micro_table,
    run_table,
    stops_table,
    usual_us,
)
from lab.bench.results import Machine, Micro, Result, Run, Stops
from lab.bench.rivals import NOTHING
from lab.plot import Panel, plot

__all__ = ["beside", "losses", "page", "picture"]

_OURS = "memreact"
_MIB = 1 << 20
_LOSES = "What memreact loses at here, by more than a twentieth:"
_WINS = "Nobody was better than memreact at any of these by more than a twentieth."
_SOONEST = "nobody stopped sooner than memreact"
_TIE = 0.05  # of the better one: less is no difference that these runs could show

_WORKLOADS = {
    "mixed": "350 MiB of files read once, 100 MiB touched once, 40 MiB in use all the time.",
    "redis": "redis with 150 MB of values, of which a fifth is asked for 40 times a second.",
    "build": "an archive is packed from a cold cache; then nothing; at the end the same again.",
    "churn": "256 MiB are taken, touched and given back again, once a second.",
    "idle": "nothing, with periods of ten minutes: what it costs to wait for the next turn.",
}
_MAIN = {
    "held (GiB·min)": "What the host holds beside memreact, in GiB·min,",
    "CPU per GiB given back (s)": "The processor time that memreact uses per GiB given back",
}
# What a rival that gives nothing back is always better at.
_OF_WORK = {"CPU (s)", "wake-ups (1/min)", "RSS (MiB)", "anon (MiB)", "private (MiB)"}
_LESS_IS_BETTER = {
    *("held, end (MiB)", "held (GiB·min)", "T50 (s)", "T90 (s)", "free, yet held (MiB)"),
    *("CPU per GiB given back (s)", "refaults (pages)", "major faults", "stalled (ms)"),
    *("passes over 5 ms", "lost (ms)", "p50 (ms)", "p99 (ms)", "job (s)", "job again (s)"),
    *_OF_WORK,
}


def page(head: str, results: Sequence[Result]) -> str:
    """The whole page, as Markdown.

    Args:
        head: What stands before the first table.
        results: What was measured.

    Raises:
        ValueError: There is nothing to show.
    """
    if not results:
        raise ValueError("there is no result to show")
    micro = [each for each in results if isinstance(each, Micro)]
    runs = [each for each in results if isinstance(each, Run)]
    parts = [
        _section(workload, [run for run in runs if run.workload == workload])
        for workload in dict.fromkeys(run.workload for run in runs)
    ]
    if stops := [each for each in results if isinstance(each, Stops)]:
        parts.append(_stops_section(stops))
    if micro:
        parts.append(_micro_section(micro))
    return "\n".join([head, *parts])


def _section(workload: str, runs: Sequence[Run]) -> str:
    lost = losses(runs)
    return "\n".join(
        [
            f"## {workload}\n",
            f"{_what(workload)} Repeat it: `make bench WORKLOADS={workload}`.\n",
            f"{_where(runs)}\n",
            f"![what the host held](benchmarks-{workload}.svg)\n",
            f"{run_table(runs)}\n",
            *_notes(runs),
            *(f"{sentence}\n" for sentence in beside(runs)),
            "What memreact loses at here:\n"
            if lost
            else "Nobody beside it was better at anything.",
            *(f"- {sentence}" for sentence in lost),
            "",
        ]
    )


def _what(workload: str) -> str:
    name, _, cgroups = workload.partition("-")
    return f"{cgroups} empty cgroups." if cgroups else _WORKLOADS[name]


def _notes(runs: Iterable[Run]) -> Iterator[str]:
    """What rivals say of themselves, the last run's."""
    said = {run.rival: run.note for run in runs if run.note}
    for rival, note in said.items():
        yield f"- `{rival}`: {note}"
    if said:
        yield ""


def _where(measured: Sequence[Result]) -> str:
    """The machines and the commits."""
    commits = ", ".join(dict.fromkeys(each.commit for each in measured))
    machines = [each.machine for each in measured]
    kinds = dict.fromkeys(_machine(machine) for machine in machines)
    loads = [machine.load for machine in machines]
    busy = f"the load of the machine when they began: {min(loads):.1f} to {max(loads):.1f}"
    return f"Measured at {commits} on {'; and on '.join(kinds)}; {busy}."


def _machine(machine: Machine) -> str:
    text = f"{machine.cpus} processors, {machine.memory_mib} MiB, Linux {machine.kernel}"
    return f"{text}, in a guest of {machine.guest}" if machine.guest else text


def _stops_section(stops: Sequence[Stops]) -> str:
    what = (
        "Evictions of a cgroup full of cold file cache are interrupted: how long they go on, by "
        "how that cgroup shrinks. `disable` is each one's own way to be told to stop."
    )
    return "\n".join(
        [
            "## stall\n",
            f"{what} Repeat it: `make bench WORKLOADS=stall`.\n",
            f"{_where(stops)}\n",
            stops_table(stops),
            "",
            *_lost_stops(stops),
            "",
        ]
    )


def _lost_stops(stops: Sequence[Stops]) -> Iterator[str]:
    for kind in dict.fromkeys(kind for each in stops for kind in each.latency_us):
        rivals = dict.fromkeys(each.rival for each in stops)
        middle = {r: statistics.median(us) for r in rivals if (us := latencies(stops, r, kind))}
        ours = middle.get(_OURS)
        sooner = [r for r, us in middle.items() if ours is not None and us < ours]
        yield f"- {kind}: {'sooner than memreact: ' + ', '.join(sooner) if sooner else _SOONEST}"


def _micro_section(micro: Sequence[Micro]) -> str:
    what = "What parts of memreact cost, without a guest. Repeat it: `make bench-native`."
    return "\n".join(
        [
            "## Parts\n",
            f"{what}\n",
            f"{_where(micro)}\n",
            micro_table(micro),
            "",
        ]
    )


def losses(runs: Sequence[Run]) -> list[str]:
    """What a rival was better at by more than a twentieth, a sentence for each figure."""
    usual = usual_us(runs)
    return [
        sentence
        for column in COLUMNS
        if column.name in _LESS_IS_BETTER and (sentence := _loss(column, runs, usual))
    ]


def beside(runs: Sequence[Run]) -> list[str]:
    """How memreact's main figures compare with those of each, a sentence for each figure."""
    usual = usual_us(runs)
    told = []
    for name, words in _MAIN.items():
        column = next(each for each in COLUMNS if each.name == name)
        rivals = [r for r in dict.fromkeys(run.rival for run in runs) if r != _OURS]
        medians = {rival: _median(column, runs, rival, usual) for rival in rivals}
        ours = _median(column, runs, _OURS, usual)
        shares = [
            f"{100 * ours / theirs:.0f} % of that of {rival}"
            for rival, theirs in medians.items()
            if ours is not None and theirs
        ]
        if shares:
            told.append(f"{words} is {', '.join(shares)}.")
    return told


def _loss(column: Column, runs: Sequence[Run], usual: float) -> str:
    medians = {rival: _median(column, runs, rival, usual) for rival in {r.rival for r in runs}}
    ours = medians.get(_OURS)
    if ours is None:
        return ""
    better = {
        rival: value
        for rival, value in medians.items()
        if value is not None
        and ours - value > _TIE * ours
        and ours - value >= 10.0**-column.digits
        and not (rival == NOTHING and column.name in _OF_WORK)
    }
    digits = column.digits
    told = ", ".join(
        f"{rival} {better[rival]:,.{digits}f}" for rival in sorted(better, key=lambda r: better[r])
    )
    return f"{column.name}: {ours:,.{digits}f}, beside {told}" if told else ""


def _median(column: Column, runs: Sequence[Run], rival: str, usual: float) -> float | None:
    told = [column.figure(run, usual) for run in runs if run.rival == rival]
    values = [value for value in told if value is not None]
    return statistics.median(values) if values else None


def picture(runs: Sequence[Run]) -> str:
    """What the host held over time beside each rival, as SVG: of its runs the one in the middle.

    Raises:
        ValueError: There is no run.
    """
    panels = []
    for rival in dict.fromkeys(run.rival for run in runs):
        ranked = sorted((r for r in runs if r.rival == rival), key=lambda r: gib_minutes(r.held))
        middle = ranked[(len(ranked) - 1) // 2]
        points = [(each.at_s, each.held_bytes / _MIB) for each in middle.held]
        panels.append(Panel(f"{rival}: MiB held", points))
    return plot("Guest memory that the host holds", panels)
