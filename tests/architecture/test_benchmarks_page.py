"""The page of benchmarks has the figures of its result file, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.bench.page import page, picture
from lab.bench.results import Run
from lab.bench.series import HEAD, results_in, runs_of

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = results_in(DOCS / "benchmarks.jsonl")
WORKLOADS = sorted({run.workload for run in RESULTS if isinstance(run, Run)})


def test_the_page_is_what_its_result_file_makes() -> None:
    assert (DOCS / "benchmarks.md").read_text() == page(HEAD.read_text(), RESULTS)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_each_picture_is_what_the_result_file_makes(workload: str) -> None:
    drawn = (DOCS / f"benchmarks-{workload}.svg").read_text()
    assert drawn == picture(runs_of(RESULTS, workload))
