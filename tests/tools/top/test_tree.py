"""Cgroups as a tree: sums, order, folding, filter."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from memreact_schemas.status import CgroupStatus
from memreact_tools.top.model import GuestModel
from memreact_tools.top.source import Read, Told, TreeSeen
from memreact_tools.top.tree import SORTS, Node, Place, View, forest_of, places_of
from tests.tools.top.guests import MIB, cgroup, reading, status, use

NAMES = st.text(st.characters(codec=None, exclude_characters="/\0\n"), min_size=1, max_size=6)
PATHS = st.lists(NAMES, min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts))


def guest_of(*cgroups: CgroupStatus, name: str = "g", uses: tuple[Any, ...] = ()) -> GuestModel:
    guest = GuestModel(name)
    guest.take(Told(name, 0, TreeSeen(status(cgroups))))
    guest.take(Told(name, 0, Read(reading(cgroups=uses))))
    return guest


def shown(guest: GuestModel, view: View | None = None) -> list[Place]:
    forests = {guest.name: forest_of(guest.cgroups)}
    return places_of({guest.name: guest}, forests, view or View())


def paths(places: list[Place]) -> list[str]:
    return [place.node.path if place.node else "" for place in places]


def test_a_parent_has_the_sums_of_what_is_below_it() -> None:
    root = forest_of(
        {
            "/a": cgroup("/a", [(0, 0), (0, 0), (0, 0), (1, 2)]),
            "/a/b": cgroup("/a/b", [(3, 4), (0, 0), (0, 0), (0, 0)], cold_mib=7),
        }
    )
    assert root is not None
    (a,) = root.children
    assert a.known_bytes == 10 * MIB
    assert (a.cold_bytes, a.members) == (7 * MIB, 2)


def test_a_generation_is_as_old_as_the_one_after_it_says() -> None:
    root = forest_of({"/a": cgroup("/a", [(1, 0), (2, 0), (4, 0), (8, 0)])})
    assert root is not None
    # Cold after 15 minutes: untouched for 20, 10, 2 and 0.
    assert [each // MIB for each in root.ages[:4]] == [8, 4, 2, 1]


def test_a_parent_that_is_not_told_is_put_in() -> None:
    root = forest_of({"/a/b/c": cgroup("/a/b/c")})
    assert root is not None
    node, found = root, []
    while node.children:
        (node,) = node.children
        found.append((node.path, node.own is None))
    assert found == [("/a", True), ("/a/b", True), ("/a/b/c", False)]


def test_without_cgroups_there_is_no_tree() -> None:
    assert forest_of({}) is None
    assert shown(GuestModel("g")) == []


def test_the_largest_comes_first_and_the_same_by_name() -> None:
    guest = guest_of(
        cgroup("/small", [(0, 1)]),
        cgroup("/big", [(0, 9)]),
        cgroup("/also", [(0, 1)]),
    )
    assert paths(shown(guest)) == ["/", "/big", "/also", "/small"]
    assert paths(shown(guest, View(reverse=True))) == ["/", "/also", "/small", "/big"]
    assert paths(shown(guest, View(sort="name"))) == ["/", "/also", "/big", "/small"]
    assert paths(shown(guest, View(sort="name", reverse=True)))[1:] == ["/small", "/big", "/also"]


def test_what_the_kernel_says_counts_before_generations() -> None:
    guest = guest_of(cgroup("/a", [(0, 9)]), cgroup("/b", [(0, 1)]), uses=(use("/b", 100),))
    assert paths(shown(guest)) == ["/", "/b", "/a"]


def test_every_order_shows_every_cgroup() -> None:
    guest = guest_of(cgroup("/a", [(1, 1)], cold_mib=1), cgroup("/b"), uses=(use("/a", 1),))
    for sort in SORTS:
        assert set(paths(shown(guest, View(sort=sort)))) == {"/", "/a", "/b"}


def test_what_is_folded_hides_what_is_below_it() -> None:
    guest = guest_of(cgroup("/a"), cgroup("/a/b"), cgroup("/a/b/c"))
    view = View(turned={("g", "/a")})
    assert [
        (p, place.folds)
        for p, place in zip(paths(shown(guest, view)), shown(guest, view), strict=True)
    ] == [
        ("/", "open"),
        ("/a", "closed"),
    ]


def test_a_large_tree_is_folded_below_its_second_level_at_first() -> None:
    many = [cgroup(f"/{a}/{b}/c") for a in range(5) for b in range(20)]
    guest = guest_of(*many)
    assert max(place.depth for place in shown(guest)) == 1 + 1
    assert len(shown(guest)) == 1 + 5 + 100
    opened = View(
        turned={
            ("g", place.node.path)
            for place in shown(guest)
            if place.folds == "closed" and place.node
        }
    )
    assert len(shown(guest, opened)) == 1 + 5 + 100 + 100


def test_a_filter_keeps_what_matches_and_all_above_it_unfolded() -> None:
    guest = guest_of(cgroup("/a/Redis"), cgroup("/a/other"), cgroup("/b"))
    view = View(filter="redis", turned={("g", "/a")})
    assert paths(shown(guest, view)) == ["/", "/a", "/a/Redis"]
    assert shown(guest, View(filter="nothing like it")) == [shown(guest)[0]._replace(folds="")]


def test_a_filter_finds_a_name_by_what_is_shown_of_it() -> None:
    guest = guest_of(cgroup("/a\x1b[2J"), cgroup("/b"))
    assert paths(shown(guest, View(filter="\\x1b"))) == ["/", "/a\x1b[2J"]


def test_what_uses_nothing_may_be_left_out() -> None:
    guest = guest_of(cgroup("/empty"), cgroup("/full", [(0, 1)]))
    assert paths(shown(guest, View(hide_empty=True))) == ["/", "/full"]


def test_several_guests_are_lines_of_their_own_and_folded_at_first() -> None:
    guests = {name: guest_of(cgroup("/a"), name=name) for name in ("one", "two")}
    forests = {name: forest_of(guest.cgroups) for name, guest in guests.items()}
    closed = places_of(guests, forests, View())
    assert [(place.guest, place.folds, place.node) for place in closed] == [
        ("one", "closed", None),
        ("two", "closed", None),
    ]
    opened = places_of(guests, forests, View(turned={("two", "")}))
    assert [place.depth for place in opened] == [0, 0, 1, 2]


@given(st.lists(PATHS, max_size=20))
def test_any_paths_become_a_tree_with_each_of_them_in_it_once(found: list[str]) -> None:
    root = forest_of({path: cgroup(path) for path in found})
    nodes: list[Node] = [] if root is None else [root]
    for node in nodes:
        nodes += node.children
    held = [node.path for node in nodes]
    assert len(held) == len(set(held))
    assert set(found) <= set(held) | {"/"}
    assert all(node.name.isprintable() for node in nodes)
