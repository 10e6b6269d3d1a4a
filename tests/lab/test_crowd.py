"""memreact-top on a terminal that nobody reads, counted; and what that is told as."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.counted_top import Counts
from lab.crowd import looked_at
from lab.crowd_figures import Span, table
from lab.errors import LabError
from memreact_tools.address import parse_address
from tests.tools.servers import serving
from tests.tools.top.guests import FakeDaemon, cgroup, decision


def test_what_comes_to_it_and_what_it_shows_is_counted(tmp_path: Path) -> None:
    daemon = FakeDaemon([cgroup(f"/{name}", [(1, 9)]) for name in "abc"])
    daemon.decide(decision(1, path="/a"))
    with serving(tmp_path / "s", daemon.serve):
        counts = looked_at(parse_address(f"unix:{tmp_path / 's'}"), 0.5)
        daemon.hang_up()
    assert counts.seconds >= 0.5
    assert 0 < counts.frames <= counts.frames_due + 1
    assert counts.readings > 0
    assert counts.cpu_us > 0
    assert counts.resident_bytes > 1 << 20
    assert (counts.left_out, counts.dropped) == (0, 0)


def test_where_there_is_nothing_to_see_it_ends_all_the_same(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="counted nothing"):
        looked_at(parse_address(f"unix:{tmp_path / 'nobody'}"), 0, patience_s=0)


def test_figures_are_told_as_shares_and_rates() -> None:
    alone, seen = Span(10, 200_000, 1, 20 << 20), Span(20, 3_000_000, 2, 21 << 20)
    counts = Counts(10, 100, 97, 90, 50, 3, 1000, 0, 7, 2_500_000, 64 << 20)
    rows = dict(line.split("  ", 1) for line in table(alone, seen, counts).splitlines())
    assert {name: told.strip() for name, told in rows.items()} == {
        "the daemon, nobody looks": "2.0 % of a CPU in 1 turns, 20.0 MiB anonymous",
        "the daemon, looked at": "15.0 % of a CPU in 2 turns, 21.0 MiB anonymous",
        "memreact-top": "25.0 % of a CPU, 64 MiB; 3 of 100 frames dropped, 9.0 a second shown",
        "what came to it": "5.0 readings and 100 decisions a second; all cgroups 3 times",
        "lost": "0 decisions not told in time, 7 not taken in time",
    }
