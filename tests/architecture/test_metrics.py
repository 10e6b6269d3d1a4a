"""Metrics are documented, and what is made of them names none that there is not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from memreact.telemetry.families import ALL
from memreact_schemas.config import Control
from memreact_schemas.openmetrics import Family
from memreact_tools.host.metrics.merge import FAMILIES, FAMILIES_MAX, LINES_MAX

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/metrics.md").read_text()
JOURNAL = (ROOT / "docs/journal.md").read_text()
ALERTS = ROOT / "packaging/metrics/alerts.yml"
DASHBOARD = ROOT / "packaging/metrics/dashboard.json"
SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "gaugehistogram": ("_bucket", "_gcount", "_gsum"),
    "info": ("_info",),
}
WORD = re.compile("`([a-z_]+)`")
NAME = re.compile(r"\bmemreact_[a-z_]+")
SAMPLES = {
    family.name + suffix: family
    for family in (*ALL, *FAMILIES)
    for suffix in SUFFIXES.get(family.kind, ("",))
}


def _row(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return f"| `{family.name}` | {family.kind} | {labels} | {family.about} |"


def test_every_family_is_documented_and_no_other() -> None:
    told = [line for line in PAGE.splitlines() if line.startswith("| `memreact_")]
    assert told == [_row(family) for family in (*FAMILIES, *ALL)]


def test_no_guest_tells_more_than_its_host_reads() -> None:
    msgspec.convert({"metrics_cgroups": 1000}, Control)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"metrics_cgroups": 1001}, Control)
    reasons, actions = _words_of("because"), _words_of("action")
    of_cgroups = 1001 * (6 + len(reasons))  # and the others as one
    of_the_guest = len(reasons) * len(actions) + 40 * len(ALL)
    assert len(reasons) > 60
    assert of_cgroups + of_the_guest < LINES_MAX
    assert 5 * len(ALL) < FAMILIES_MAX


def _words_of(head: str) -> set[str]:
    """The first column of a table of the journal's page."""
    table = JOURNAL.split(f"| {head} |")[1].split("\n\n")[0]
    return {word for row in table.splitlines()[2:] for word in WORD.findall(row.split("|")[1])}


def _unknown(text: str) -> set[str]:
    """Names of no sample; a stateset's label has the name of its family."""
    return {name for name in NAME.findall(text) if name not in SAMPLES}


@pytest.mark.parametrize("file", [ALERTS, DASHBOARD], ids=lambda file: file.name)
def test_alerts_and_dashboard_name_metrics_that_there_are(file: Path) -> None:
    assert NAME.findall(file.read_text())
    assert not _unknown(file.read_text())


def test_a_metric_that_there_is_not_is_noticed() -> None:
    text = "rate(memreact_turns[5m]) + memreact_turns_total + memreact_gone"
    assert _unknown(text) == {"memreact_turns", "memreact_gone"}


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels:
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert all(target["expr"] for target in panel["targets"])
    assert {each["name"] for each in dashboard["templating"]["list"]} == {"datasource", "guest"}
