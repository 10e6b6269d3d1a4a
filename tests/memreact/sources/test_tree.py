"""The tree of cgroups, told by real inotify on a tree of directories."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernelio.cgroup import walk
from kernelio.errors import Refused
from kernelio.inotify import IN_Q_OVERFLOW, Inotify, Watched
from memreact.events import MemcgAppeared, MemcgChanged, MemcgGone
from memreact.sources.tree import CgroupTree
from tests.effort import examples
from tests.fake_guest import FakeGuest
from tests.few_fds import no_fds_left
from tests.memreact.kernel_files import events_text

TreeEvent = MemcgAppeared | MemcgChanged | MemcgGone


class OddInotify(Inotify):
    """A queue that may overflow, and that has so many watches and no more."""

    def __init__(self) -> None:
        super().__init__()
        self.overflows = False
        self.watches_left = 1 << 30

    def read(self) -> list[Watched]:
        """What is in the queue, or that it was too long."""
        events = super().read()
        if not self.overflows:
            return events
        self.overflows = False
        return [Watched(-1, IN_Q_OVERFLOW, "")]

    def add(self, path: str, mask: int) -> int:
        """Watch, as long as watches are left."""
        if not self.watches_left:
            raise Refused(path, errno.ENOSPC, "no watches left")
        self.watches_left -= 1
        return super().add(path, mask)


@pytest.fixture
def inotify() -> OddInotify:
    return OddInotify()


@pytest.fixture
def tree(guest: FakeGuest, inotify: OddInotify) -> Iterator[CgroupTree]:
    os.makedirs(guest.layout.cgroup_root)
    made = CgroupTree(guest.layout, inotify)
    yield made
    made.close()


def makes(guest: FakeGuest, path: str, *, populated: bool = True, frozen: bool = False) -> None:
    guest.has_memcg(path, cgroup_events=events_text(populated=populated, frozen=frozen))


def removes(guest: FakeGuest, path: str) -> None:
    shutil.rmtree(guest.layout.memcg_dir(path))


def becomes(guest: FakeGuest, path: str, *, populated: bool, frozen: bool) -> None:
    with open(f"{guest.layout.memcg_dir(path)}/cgroup.events", "r+b") as file:
        file.write(events_text(populated=populated, frozen=frozen).encode())


def inode(guest: FakeGuest, path: str) -> int:
    return os.stat(guest.layout.memcg_dir(path)).st_ino


def all_of(tree: CgroupTree) -> list[TreeEvent]:
    """Read until nothing is left, as the loop does."""
    events: list[TreeEvent] = []
    while more := tree._inotify.read():
        for watched in more:
            overflow = watched.mask & IN_Q_OVERFLOW
            events += tree.scan() if overflow else list(tree._meaning(watched))
    return events


def believed(events: list[TreeEvent], known: dict[str, int] | None = None) -> dict[str, int]:
    """Which cgroups there are, and their inodes, for one who heard of these events alone."""
    known = {} if known is None else known
    for event in events:
        match event:
            case MemcgAppeared():
                assert event.path not in known, f"{event.path} appeared twice"
                known[event.path] = event.inode
            case MemcgGone():
                assert event.path in known, f"{event.path} went twice"
                del known[event.path]
            case MemcgChanged():
                assert event.path in known
    return known


def real(guest: FakeGuest) -> dict[str, int]:
    top = guest.layout.cgroup_root
    return {
        os.path.normpath("/" + os.path.relpath(directory, top)): os.stat(directory).st_ino
        for directory, _, _ in os.walk(top)
    }


def test_at_start_all_that_exist_appear_parents_first(guest: FakeGuest, tree: CgroupTree) -> None:
    makes(guest, "/a/b", populated=False)
    makes(guest, "/a", frozen=True)
    assert tree.scan() == [
        MemcgAppeared("/", inode(guest, "/")),
        MemcgAppeared("/a", inode(guest, "/a"), frozen=True),
        MemcgAppeared("/a/b", inode(guest, "/a/b"), populated=False),
    ]
    assert tree.scan() == []


def test_one_that_is_made_later_appears(guest: FakeGuest, tree: CgroupTree) -> None:
    tree.scan()
    makes(guest, "/a")
    assert tree.read() == [MemcgAppeared("/a", inode(guest, "/a"))]


def test_children_made_before_their_parent_was_watched_appear(
    guest: FakeGuest, tree: CgroupTree
) -> None:
    tree.scan()
    makes(guest, "/a/b/c")
    makes(guest, "/a/b")
    makes(guest, "/a")
    assert [event.path for event in all_of(tree)] == ["/a", "/a/b", "/a/b/c"]


def test_one_that_is_removed_goes_and_takes_what_is_below_along(
    guest: FakeGuest, tree: CgroupTree
) -> None:
    makes(guest, "/a/b")
    tree.scan()
    removes(guest, "/a")
    assert sorted(event.path for event in all_of(tree)) == ["/a", "/a/b"]
    assert tree._watches.keys() == {"/"}
    assert set(tree._paths.values()) == {"/"}


def test_says_who_was_left_by_its_last_process_or_frozen(
    guest: FakeGuest, tree: CgroupTree
) -> None:
    makes(guest, "/a")
    tree.scan()
    becomes(guest, "/a", populated=False, frozen=False)
    assert tree.read() == [MemcgChanged("/a", populated=False, frozen=False)]
    becomes(guest, "/a", populated=False, frozen=True)
    assert tree.read() == [MemcgChanged("/a", populated=False, frozen=True)]


def test_an_event_without_a_change_says_nothing(guest: FakeGuest, tree: CgroupTree) -> None:
    makes(guest, "/a")
    tree.scan()
    becomes(guest, "/a", populated=True, frozen=False)
    assert tree.read() == []


def test_one_made_again_under_its_name_is_another(guest: FakeGuest, tree: CgroupTree) -> None:
    makes(guest, "/a")
    known = believed(tree.scan())
    os.rename(guest.layout.memcg_dir("/a"), guest.path("/elsewhere"))  # keeps its inode taken
    makes(guest, "/a", frozen=True)
    events = all_of(tree)
    # A rename is no cgroup's way to go: the tree sees a directory that is another than it knew.
    assert events[-1] == MemcgAppeared("/a", inode(guest, "/a"), frozen=True)
    assert believed(events, known) == real(guest)
    becomes(guest, "/a", populated=True, frozen=False)
    assert tree.read() == [MemcgChanged("/a", populated=True, frozen=False)]


def test_one_that_went_before_it_was_looked_at_leaves_no_trace(
    guest: FakeGuest, tree: CgroupTree
) -> None:
    known = believed(tree.scan())
    makes(guest, "/a")
    removes(guest, "/a")
    assert believed(all_of(tree), known) == real(guest)
    assert tree._known.keys() == {"/"}


def test_hundreds_in_a_burst_are_all_seen(guest: FakeGuest, tree: CgroupTree) -> None:
    known = believed(tree.scan())
    for number in range(400):
        makes(guest, f"/s/{number}")
        if number % 3 == 0:
            removes(guest, f"/s/{number}")
        if number % 9 == 0:
            makes(guest, f"/s/{number}")
    assert believed(all_of(tree), known) == real(guest)
    removes(guest, "/s")
    assert believed(all_of(tree), known) == {"/": inode(guest, "/")}
    assert tree.unwatched == 0


def test_one_read_of_a_burst_is_bounded(guest: FakeGuest, tree: CgroupTree) -> None:
    tree.scan()
    for number in range(1500):
        makes(guest, f"/{number}")
    first = tree.read()
    assert 0 < len(first) < 1500
    while more := tree.read():
        first += more
    assert len(first) == 1500


def test_after_an_overflow_the_whole_tree_is_compared(
    guest: FakeGuest, tree: CgroupTree, inotify: OddInotify
) -> None:
    for path in ("/stays", "/goes/below", "/changes"):
        makes(guest, path)
    known = believed(tree.scan())
    removes(guest, "/goes")
    makes(guest, "/comes/below")
    becomes(guest, "/changes", populated=False, frozen=False)
    inotify.overflows = True
    events = tree.read()
    assert MemcgChanged("/changes", populated=False, frozen=False) in events
    assert believed(events, known) == real(guest)
    makes(guest, "/comes/later")
    assert believed(tree.read(), known) == real(guest)


def test_without_watches_left_it_lives_on_and_counts_what_it_cannot_watch(
    guest: FakeGuest, tree: CgroupTree, inotify: OddInotify
) -> None:
    for number in range(4):
        makes(guest, f"/{number}")
    inotify.watches_left = 5
    assert believed(tree.scan()) == real(guest)
    assert tree.unwatched == 2
    makes(guest, "/later")
    assert [event.path for event in tree.read()] == ["/later"]
    removes(guest, "/later")
    assert [event.path for event in tree.read()] == ["/later"]


def surveyed(guest: FakeGuest) -> list[tuple[str, int]]:
    return list(walk(guest.layout))


def test_a_survey_fills_the_holes_that_missing_watches_leave(
    guest: FakeGuest, tree: CgroupTree, inotify: OddInotify
) -> None:
    for number in range(4):
        makes(guest, f"/{number}")
    inotify.watches_left = 5
    known = believed(tree.scan())
    [blind, *_] = tree._blind
    makes(guest, f"{blind}/below")
    becomes(guest, blind, populated=False, frozen=False)
    assert tree.read() == []
    events = tree.check(surveyed(guest))
    assert MemcgChanged(blind, populated=False, frozen=False) in events
    assert believed(events, known) == real(guest)
    removes(guest, f"{blind}/below")
    assert tree.read() == []
    assert believed(tree.check(surveyed(guest)), known) == real(guest)
    assert tree.check(surveyed(guest)) == []


def test_a_survey_that_is_older_than_what_was_told_since_changes_nothing(
    guest: FakeGuest, tree: CgroupTree
) -> None:
    makes(guest, "/goes/below")
    known = believed(tree.scan())
    old = surveyed(guest)
    removes(guest, "/goes")
    makes(guest, "/comes/below")
    believed(all_of(tree), known)
    assert tree.check(old) == []
    assert known == real(guest)


def test_one_made_again_unseen_is_met_when_a_survey_shows_its_inode(
    guest: FakeGuest, tree: CgroupTree, inotify: OddInotify
) -> None:
    makes(guest, "/a")
    inotify.watches_left = 0
    known = believed(tree.scan())
    os.rename(guest.layout.memcg_dir("/a"), guest.path("/elsewhere"))
    makes(guest, "/a")
    assert believed(tree.check(surveyed(guest)), known) == real(guest)


def test_a_memory_controller_that_comes_later_and_goes_again(
    guest: FakeGuest, tree: CgroupTree
) -> None:
    os.makedirs(guest.layout.memcg_dir("/a/b"))
    known = believed(tree.scan())
    assert known.keys() == {"/"}
    makes(guest, "/a/b")
    assert believed(tree.check(surveyed(guest)), known) == real(guest)
    for path in ("/a/b", "/a"):
        os.unlink(f"{guest.layout.memcg_dir(path)}/memory.current")
    assert believed(tree.check(surveyed(guest)), known).keys() == {"/"}


def test_what_cannot_be_read_for_a_moment_is_not_gone(guest: FakeGuest, tree: CgroupTree) -> None:
    makes(guest, "/a/b/c", populated=False)
    known = believed(tree.scan())
    with no_fds_left():
        assert tree.scan() == []
        assert tree.check([("/", known["/"])]) == []
    makes(guest, "/d")
    assert believed(tree.scan(), known) == real(guest)


def test_a_long_chain_is_forgotten_at_once(
    guest: FakeGuest, tree: CgroupTree, inotify: OddInotify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernelio.cgroup.DEPTH_MAX", 1200)
    monkeypatch.setattr("kernelio.cgroup._PATH_SIZE_MAX", 4000)
    chain = ["/d" * depth for depth in range(1, 1101)]
    for path in chain:
        os.mkdir(guest.layout.memcg_dir(path))
        guest.shows(f"/sys/fs/cgroup{path}/memory.current", "0\n")
    assert len(tree.scan()) == 1101
    for path in reversed(chain):  # rmtree would nest as many calls
        os.unlink(f"{guest.layout.memcg_dir(path)}/memory.current")
        os.rmdir(guest.layout.memcg_dir(path))
    inotify.overflows = True
    assert len(tree.read()) == 1100
    assert tree._known.keys() == tree.names.keys() == {"/"}


def test_too_many_and_too_deep_ones_are_counted_and_left_out(
    guest: FakeGuest, tree: CgroupTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernelio.cgroup.MEMCGS_MAX", 4)
    for path in ("/0", "/1", "/a/0", "/a/1", "/a/2"):
        makes(guest, path)
    known = believed(tree.scan())
    assert known.keys() == {"/", "/0", "/1", "/a"}
    assert tree.left_out == 3
    assert tree.check(surveyed(guest)) == []
    removes(guest, "/0")
    believed(all_of(tree), known)
    makes(guest, "/b")
    assert believed(tree.read(), known).keys() == {"/", "/1", "/a", "/b"}


def test_names_are_held_once(guest: FakeGuest, tree: CgroupTree) -> None:
    makes(guest, "/a/b")
    [event] = [event for event in tree.scan() if event.path == "/a/b"]
    assert tree.names["/a/b"] is event.path
    removes(guest, "/a")
    all_of(tree)
    assert tree.names.keys() == {"/"}


def test_a_cgroup_whose_state_cannot_be_understood_is_taken_for_populated(
    guest: FakeGuest, tree: CgroupTree
) -> None:
    guest.has_memcg("/a", cgroup_events="populated perhaps\n")
    assert tree.scan()[-1] == MemcgAppeared("/a", inode(guest, "/a"), populated=True)


def test_odd_names_are_names(guest: FakeGuest, tree: CgroupTree) -> None:
    tree.scan()
    for name in ("with blank", 'quo"te', "back\\x2dslash", "no\udcfftext", "ä"):
        makes(guest, f"/{name}")
        assert [event.path for event in tree.read()] == [f"/{name}"]


def test_a_guest_without_cgroups_has_an_empty_tree(guest: FakeGuest) -> None:
    tree = CgroupTree(guest.layout, Inotify())
    assert tree.scan() == []
    assert tree.read() == []
    tree.close()


DOINGS = st.tuples(
    st.sampled_from(["make", "remove", "read", "overflow"]),
    st.sampled_from(["/a", "/a/b", "/a/b/c", "/d", "/d/b"]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(150))
@given(doings=st.lists(DOINGS, max_size=25))
def test_whatever_happens_in_whatever_order_what_was_told_is_the_tree(
    guest: FakeGuest, doings: list[tuple[str, str]]
) -> None:
    shutil.rmtree(guest.layout.cgroup_root, ignore_errors=True)
    os.makedirs(guest.layout.cgroup_root)
    inotify = OddInotify()
    tree = CgroupTree(guest.layout, inotify)
    known = believed(tree.scan())
    for doing, path in doings:
        match doing:
            case "make":
                makes(guest, path)
            case "remove" if os.path.isdir(guest.layout.memcg_dir(path)):
                removes(guest, path)
            case "read":
                believed(tree.read(), known)
            case "overflow":
                inotify.overflows = True
    believed(tree.read(), known)
    believed(all_of(tree), known)
    told, there = known.keys(), real(guest).keys()
    tree.close()
    assert told == there
