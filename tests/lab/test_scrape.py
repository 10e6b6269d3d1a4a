"""What a status says is found among the series of a guest, or is said to be missing."""

from __future__ import annotations

import msgspec
import pytest

from lab.prometheus import Found
from lab.scrape import Status, compared
from memreact.telemetry.status import cgroups_of, status_of
from tests.memreact.telemetry.test_metrics import AROUND, counters
from tests.memreact.telemetry.test_status import (
    COLD,
    NOW,
    RULES,
    memcg_of,
    node_of,
    state_of,
)
from tests.official_openmetrics import families_of
from tests.tools.host.metrics.guests import text_of

STATE = state_of(memcg_of("/a", node_of(*COLD)), memcg_of("/b", counters=counters(0)))


@pytest.fixture
def status() -> Status:
    """As memreact-ctl gives it."""
    cgroups = tuple(cgroups_of(STATE, RULES, NOW))
    said = msgspec.json.encode(status_of(STATE, RULES, NOW, AROUND, cgroups))
    found: Status = msgspec.json.decode(said)
    return found


def series() -> list[Found]:
    """As Prometheus has them."""
    own = {"guest": "one", "job": "host", "instance": "127.0.0.1:1"}
    return [
        Found({**sample.labels, **own, "__name__": sample.name}, sample.value)
        for family in families_of(text_of("/a", "/b"))
        for sample in family.samples
        if "/b" not in sample.labels.values() or "memory" not in sample.name
    ]


def test_every_figure_is_found_and_the_same(status: Status) -> None:
    found = [each for each in compared(status, series()) if "/b" not in each.name]
    assert len(found) > 15
    assert [each for each in found if not each.same] == []


def test_what_is_missing_or_another_number_is_told(status: Status) -> None:
    fewer = [each for each in series() if each.labels["__name__"] != "memreact_free_bytes"]
    other = [
        each._replace(value=-1) if "turns" in each.labels["__name__"] else each for each in fewer
    ]
    wrong = {each.name: each.scraped for each in compared(status, other) if not each.same}
    assert {name: wrong[name] for name in ("memreact_free_bytes", "memreact_turns_total")} == {
        "memreact_free_bytes": None,
        "memreact_turns_total": -1,
    }
    assert "memreact_cgroup_memory_bytes /b anon" in wrong
