"""docs/architecture.md shows the rooms of the code as it stands."""

from __future__ import annotations

from pathlib import Path

import grimp
import pytest

import architecture

PAGE = Path(__file__).parents[2] / "docs/architecture.md"


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """All imports between our modules."""
    return grimp.build_graph(*architecture.PACKAGES, cache_dir=None)


def test_the_picture_is_what_the_code_imports(graph: grimp.ImportGraph) -> None:
    page = PAGE.read_text()
    begin, end = page.index(architecture.BEGIN), page.index(architecture.END)
    assert page[begin:end] + architecture.END == architecture.picture(graph)


def test_an_import_that_is_new_changes_the_picture(graph: grimp.ImportGraph) -> None:
    before = architecture.picture(graph)
    other = grimp.build_graph(*architecture.PACKAGES, cache_dir=None)
    other.add_import(importer="kernelio.psi", imported="memreact.daemon")
    assert architecture.picture(other) != before


def test_no_rooms_import_one_another_in_a_circle(graph: grimp.ImportGraph) -> None:
    left = architecture.ways(graph)
    while lowest := {room for room, others in left.items() if not others & left.keys()}:
        left = {room: others for room, others in left.items() if room not in lowest}
    assert not left


def test_every_room_holds_modules_that_exist(graph: grimp.ImportGraph) -> None:
    named = {
        name for rooms in architecture.FLOORS.values() for held in rooms.values() for name in held
    }
    assert named <= graph.modules


def test_a_module_that_no_room_names_is_told() -> None:
    with pytest.raises(LookupError, match=r"memreact\.novelty stands in no room"):
        architecture.room_of("memreact.novelty")


def test_an_arrow_that_a_longer_way_implies_is_left_out() -> None:
    found = {"a": {"b", "c"}, "b": {"c"}, "c": set[str]()}
    assert list(architecture.drawn(found)) == [("a", "b"), ("b", "c")]
