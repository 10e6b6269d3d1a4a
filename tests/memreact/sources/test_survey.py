"""One reading of every memcg."""

from __future__ import annotations

import os

from memreact.events import Generation, MemcgView, NodeView, Surveyed
from memreact.sources.survey import survey
from tests.fake_guest import FakeGuest
from tests.memreact.kernel_files import shows_memcg, shows_stall, stat

GENERATIONS = " node     0\n          7   9000         10          20\n          8   1000   1   2\n"


def lru_gen(*rows: tuple[int, str]) -> str:
    return "".join(f"memcg {number:5} {path}\n{GENERATIONS}" for number, path in rows)


def surveyed(guest: FakeGuest, *, mglru_works: bool = True) -> dict[str, MemcgView]:
    seen = survey(guest.layout, "/", mglru_works=mglru_works)
    assert seen.failed is None
    paths = [view.path for view in seen.memcgs]
    assert len(paths) == len(set(paths))
    return {view.path: view for view in seen.memcgs}


def shows_lru_gen(guest: FakeGuest, *rows: tuple[int, str]) -> None:
    guest.shows("/sys/kernel/debug/lru_gen", lru_gen(*rows))


def test_says_of_each_its_inode_id_stall_and_generations(guest: FakeGuest) -> None:
    directory = guest.has_memcg("/a b")
    shows_stall(guest, "/a b", 30, 12)
    shows_lru_gen(guest, (1, "/"), (77, "/a b"))
    assert surveyed(guest)["/a b"] == MemcgView(
        "/a b",
        os.stat(directory).st_ino,
        77,
        30,
        12,
        (NodeView(0, (Generation(7, 9_000_000, 10, 20), Generation(8, 1_000_000, 1, 2))),),
    )


def test_a_dying_one_of_the_same_path_is_not_taken_for_the_living(guest: FakeGuest) -> None:
    """Before 7.0 ids are small numbers, and the living one stands last."""
    guest.has_memcg("/a")
    shows_lru_gen(guest, (1, "/"), (40, "/a"), (41, "/a"), (42, "/a"))
    assert surveyed(guest)["/a"].memcg_id == 42


def test_where_the_id_is_the_inode_the_living_one_is_known_by_it(guest: FakeGuest) -> None:
    """From 7.0 on, wherever it stands."""
    inode = os.stat(guest.has_memcg("/a")).st_ino
    shows_lru_gen(guest, (40, "/a"), (inode, "/a"), (inode + 1, "/a"))
    assert surveyed(guest)["/a"].memcg_id == inode


def test_one_that_the_controller_has_no_id_for_has_no_generations(guest: FakeGuest) -> None:
    guest.has_memcg("/a")
    shows_lru_gen(guest, (0, "/a"), (0, ""))
    view = surveyed(guest)["/a"]
    assert view.memcg_id == 0
    assert view.nodes == ()


def test_an_id_of_zero_does_not_hide_the_living_one(guest: FakeGuest) -> None:
    guest.has_memcg("/a")
    shows_lru_gen(guest, (41, "/a"), (0, "/a"))
    assert surveyed(guest)["/a"].memcg_id == 41


def test_pages_of_removed_ones_without_an_id_are_counted(guest: FakeGuest) -> None:
    guest.has_memcg("/a")
    shows_lru_gen(guest, (1, "/"), (0, "/gone"), (0, "/a"), (41, "/a"), (40, "/dying"))
    seen = survey(guest.layout, "/", mglru_works=True)
    assert seen.out_of_reach_pages == 2 * (10 + 20 + 1 + 2)


def test_a_survey_of_many_ends_at_the_next_one_when_told_to(guest: FakeGuest) -> None:
    for number in range(50):
        guest.has_memcg(f"/c{number}")
    shows_lru_gen(guest, (1, "/"))
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return asked > 80

    seen = survey(guest.layout, "/", mglru_works=True, stopping=stopping)
    assert (failure(seen), asked) == ("memreact stops", 81)


def test_a_dying_one_without_a_directory_is_left_out(guest: FakeGuest) -> None:
    guest.has_memcg("/a")
    shows_lru_gen(guest, (5, "/a"), (6, "/gone"))
    assert surveyed(guest).keys() == {"/", "/a"}


def test_one_that_appeared_after_lru_gen_was_read_has_no_generations_yet(guest: FakeGuest) -> None:
    guest.has_memcg("/new")
    shows_lru_gen(guest, (1, "/"))
    assert surveyed(guest)["/new"].nodes == ()


def test_one_without_pressure_files_has_not_stalled(guest: FakeGuest) -> None:
    guest.has_memcg("/a")
    shows_lru_gen(guest, (5, "/a"))
    view = surveyed(guest)["/a"]
    assert (view.memory_stall_us, view.io_stall_us) == (0, 0)
    assert view.nodes != ()


def failure(seen: Surveyed) -> str:
    assert seen.memcgs == ()
    assert seen.failed is not None
    return seen.failed


def test_a_survey_without_lru_gen_says_why(guest: FakeGuest) -> None:
    guest.has_memcg("/a")
    assert "lru_gen" in failure(survey(guest.layout, "/", mglru_works=True))


def test_a_survey_of_a_malformed_lru_gen_says_which_line(guest: FakeGuest) -> None:
    guest.has_memcg("/a")
    guest.shows("/sys/kernel/debug/lru_gen", lru_gen((1, "/")) + "memcg x /a\n")
    assert "memcg x /a" in failure(survey(guest.layout, "/", mglru_works=True))


def test_a_survey_without_a_cgroup_tree_says_so(guest: FakeGuest) -> None:
    shows_lru_gen(guest, (1, "/"))
    assert "no cgroup tree" in failure(survey(guest.layout, "/", mglru_works=True))
    assert "no cgroup tree" in failure(survey(guest.layout, "/", mglru_works=False))


def test_on_the_rung_below_the_leaves_are_read_with_what_they_use(guest: FakeGuest) -> None:
    for path in ("/a", "/a/b", "/c"):
        shows_memcg(guest, path, memory_current="4096\n")
    seen = surveyed(guest, mglru_works=False)
    assert seen.keys() == {"/a/b", "/c"}
    assert all(view.current_bytes == 4096 and view.memcg_id == 0 for view in seen.values())


def test_on_the_rung_below_one_without_the_controller_uses_nothing(guest: FakeGuest) -> None:
    guest.has_memcg("/a")
    assert surveyed(guest, mglru_works=False)["/a"].current_bytes == 0


SWAPS = "Filename Type Size Used Priority\n/dev/vdb partition\t1048572\t0\t-2\n"


def test_what_came_back_from_swap_is_read_where_there_is_swap(guest: FakeGuest) -> None:
    shows_memcg(guest, "/a", memory_stat=stat(workingset_refault_anon=7))
    shows_memcg(guest, "/b", memory_stat=stat() + "pswpin 8\nzswpin 1\n")
    guest.has_memcg("/without the controller")
    shows_lru_gen(guest, (5, "/a"), (6, "/b"))
    seen = surveyed(guest)
    assert {view.promoted_total_pages for view in seen.values()} == {None}
    guest.shows("/proc/swaps", SWAPS)
    for works in (True, False):
        seen = surveyed(guest, mglru_works=works)
        totals = [seen[f"/{name}"].promoted_total_pages for name in "ab"]
        assert totals == [7, 9]
        assert seen["/without the controller"].promoted_total_pages is None


def test_carries_the_pressure_of_its_moment(guest: FakeGuest) -> None:
    shows_stall(guest, "", 8, 1)
    guest.has_memcg("/a")
    shows_lru_gen(guest, (5, "/a"))
    assert survey(guest.layout, "/", mglru_works=True).pressure.guest.guest_us == 9
