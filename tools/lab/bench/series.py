"""`make bench`: rivals beside workloads, one guest after the other; goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lab.bench.figures import stops_summary, summary
from lab.bench.loads import LOADS
from lab.bench.once import run_once
from lab.bench.page import page, picture
from lab.bench.results import STALL, Result, Run, Stops, line_of, missing, read_results
from lab.bench.rivals import NOTHING, RIVALS
from lab.bench.stops import run_stops
from lab.errors import LabError

__all__ = ["HEAD", "WORKLOADS", "Plan", "bench", "bench_page", "results_in"]

WORKLOADS = (*LOADS, STALL)
_EVERYBODY = tuple(RIVALS)
_THREE = (NOTHING, "model", "memreact")
HEAD = Path(__file__).with_name("page_head.md")
"""What stands on the page before the first table."""
_RIVALS = {"mixed": _EVERYBODY, "idle": _EVERYBODY, STALL: ("model", "damon", "memreact")}


class Plan(NamedTuple):
    """What is to be there in the end.

    Args:
        workloads: Names of WORKLOADS.
        rivals: Only these; empty for all that a workload is meant for.
        runs: Of each.
        seconds: Of each.
    """

    workloads: Sequence[str] = WORKLOADS
    rivals: Sequence[str] = ()
    runs: int = 3
    seconds: float = 120


def bench(package: Path, results: Path, plan: Plan) -> int:
    """Run what the file lacks, a line for each as soon as it is there; 1 if some runs failed.

    Args:
        package: Of memreact.
        results: The file.
        plan: What is wanted.
    """
    results.parent.mkdir(parents=True, exist_ok=True)
    failed = 0
    for workload in plan.workloads:
        meant = [r for r in _RIVALS.get(workload, _THREE) if not plan.rivals or r in plan.rivals]
        for _, rival, number in missing(results_in(results), [workload], meant, plan.runs):
            print(f"bench: {workload}, {rival}, run {number}", flush=True)
            try:
                result = _measure(package, workload, rival, number, plan)
            except LabError as error:  # the others are worth their time nevertheless
                print(f"bench: {workload}, {rival}, run {number} failed: {error}", flush=True)
                failed += 1
                continue
            with results.open("ab") as file:
                file.write(line_of(result))
            words = stops_summary(result) if isinstance(result, Stops) else summary(result)
            print(f"bench: {words}", flush=True)
    return 1 if failed else 0


def _measure(package: Path, workload: str, rival: str, number: int, plan: Plan) -> Run | Stops:
    if workload == STALL:
        return run_stops(package, rival, number)
    return run_once(package, workload, rival, number, plan.seconds)


def bench_page(results: Path, into: Path) -> int:
    """Make the page and its pictures of a result file, and keep that beside them; 0.

    Raises:
        LabError: The file has nothing, or something else.
    """
    try:
        found = results_in(results)
        into.write_text(page(HEAD.read_text(), found))
        into.with_suffix(".jsonl").write_bytes(b"".join(map(line_of, found)))
    except ValueError as error:
        raise LabError(f"{results}: {error}") from error
    for workload in {run.workload for run in found if isinstance(run, Run)}:
        file = into.with_name(f"{into.stem}-{workload}.svg")
        file.write_text(picture(runs_of(found, workload)))
    print(f"bench: {into} shows {len(found)} results of {results}")
    return 0


def results_in(path: Path) -> list[Result]:
    """All that is there; nothing where there is no file."""
    return read_results(path.read_bytes()) if path.exists() else []


def runs_of(results: Sequence[Result], workload: str) -> list[Run]:
    """Those of one workload."""
    return [each for each in results if isinstance(each, Run) and each.workload == workload]
