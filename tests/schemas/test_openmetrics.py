"""OpenMetrics text as Prometheus's own parser reads it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric

from memreact_schemas.openmetrics import (
    END,
    Family,
    Sample,
    counted,
    head_of,
    histogram,
    line_of,
    stateset,
)
from tests.official_openmetrics import families_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
COUNTS = st.lists(st.integers(min_value=0, max_value=2**62), min_size=1, max_size=20)


def read_back(family: Family, *samples: Sample) -> Metric:
    lines = "".join(line_of(family, sample) for sample in samples)
    (found,) = families_of(head_of(family) + lines + END)
    return found


@given(TEXT, TEXT, st.integers(min_value=0, max_value=2**63 - 1))
def test_texts_and_numbers_are_read_back(about: str, label: str, value: int) -> None:
    family = Family("a_bytes", "gauge", about, "bytes", ("of",))
    found = read_back(family, Sample("", {"of": label}, value))
    assert found.documentation == about
    (sample,) = found.samples
    assert (sample.labels, sample.value) == ({"of": label}, value)


def test_a_counter_is_told_with_its_suffix() -> None:
    family = Family("turns", "counter", "Turns.")
    assert head_of(family) + line_of(family, counted(7)) == (
        "# TYPE turns counter\n# HELP turns Turns.\nturns_total 7\n"
    )


def test_of_some_states_one_holds() -> None:
    family = Family("doing", "stateset", "What.", labels=("doing",))
    found = read_back(family, *stateset(family, ("idle", "resting"), "resting"))
    by_state = {each.labels["doing"]: each.value for each in found.samples}
    assert by_state == {"idle": 0, "resting": 1}


@given(COUNTS, st.sampled_from(["histogram", "gaugehistogram"]))
def test_a_histogram_counts_up_to_each_bound(each: list[int], kind: str) -> None:
    family = Family("a_seconds", kind, "How long.", "seconds")  # type: ignore[arg-type]
    bounds = [2.0**n for n in range(len(each) - 1)]
    found = read_back(family, *histogram(family, bounds, each, 5))
    samples = {(s.name, s.labels.get("le")): s.value for s in found.samples}
    g = "g" if kind == "gaugehistogram" else ""
    assert samples[f"a_seconds_{g}count", None] == samples["a_seconds_bucket", "+Inf"] == sum(each)
    assert samples[f"a_seconds_{g}sum", None] == 5
    for number, bound in enumerate(bounds, 1):
        assert samples["a_seconds_bucket", str(bound)] == sum(each[:number])
