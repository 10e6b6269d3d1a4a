from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from lab.plot import Mark, Panel, plot

PANELS = [
    Panel("held, MiB", [(0.0, 700.0), (10.0, 400.0)]),
    Panel("each request, ms", [(1.0, 5.0), (2.0, 6.0), (3.0, 7.0)], joined=False),
]


def test_a_plot_is_well_formed_whatever_its_names_hold() -> None:
    drawn = plot("<a> & b", PANELS, [Mark(5.0, "stall < limit")])
    root = ET.fromstring(drawn)  # noqa: S314  # our own text
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "<a> & b" in texts
    assert "stall < limit" in texts


def test_each_point_that_is_not_joined_is_a_dot() -> None:
    assert plot("x", PANELS).count('class="dot"') == 3


def test_nothing_to_plot_is_said() -> None:
    with pytest.raises(ValueError, match="nothing to plot"):
        plot("x", [Panel("empty", [])])
