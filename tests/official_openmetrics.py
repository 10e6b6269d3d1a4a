"""Prometheus's own parser of OpenMetrics, which no test doubts."""

from __future__ import annotations

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

__all__ = ["families_of"]


def families_of(text: str) -> list[Metric]:
    """Read a whole text.

    Raises:
        ValueError: It is none.
    """
    return list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
