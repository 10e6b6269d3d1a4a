from __future__ import annotations

import os
import threading
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelio.cgroup import (
    DEPTH_MAX,
    PATH_BYTES_MAX,
    CgroupEvents,
    Mount,
    ancestors,
    find_cgroup2,
    has_memory,
    has_v1_memory,
    inode,
    own_path,
    parse_cgroup_events,
    parse_flat_keyed,
    parse_mountinfo,
    read_cgroup_events,
    read_procs,
    walk,
    within_bounds,
)
from kernelio.errors import MalformedReading, Refused, Unsupported, Vanished
from kernelio.layout import Layout
from tests.fake_guest import FakeGuest
from tests.few_fds import no_fds_left
from tests.goldens import GOLDEN, golden_files, golden_text

MOUNTINFO = "/proc/self/mountinfo"
ROOTS = [
    os.path.join(GOLDEN, path.removesuffix("/sys/fs/cgroup/cgroup.controllers"))
    for path in golden_files("sys/fs/cgroup/cgroup.controllers")
]

UNIFIED = "31 24 0:25 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


# --- mounts


@pytest.mark.parametrize("root", ROOTS)
def test_real_guests_have_one_tree_that_controls_memory(root: str) -> None:
    mount = find_cgroup2(root)
    assert mount is not None
    assert mount.path == "/sys/fs/cgroup"
    assert {"memory", "io", "cpu"} <= mount.controllers
    assert has_v1_memory(root) is False


def test_on_a_hybrid_system_the_tree_is_found_without_memory(guest: FakeGuest) -> None:
    guest.shows(MOUNTINFO, HYBRID)
    guest.shows("/sys/fs/cgroup/unified/cgroup.controllers", "\n")
    assert find_cgroup2(guest.root) == Mount("/sys/fs/cgroup/unified", frozenset())
    assert has_v1_memory(guest.root) is True


def test_without_version_2_there_is_no_tree(guest: FakeGuest) -> None:
    guest.shows(MOUNTINFO, "".join(HYBRID.splitlines(keepends=True)[:3]))
    assert find_cgroup2(guest.root) is None


def test_of_several_mounts_the_one_that_controls_memory_is_taken(guest: FakeGuest) -> None:
    guest.shows(MOUNTINFO, HYBRID + UNIFIED.replace("/sys/fs/cgroup", "/run/cgroup2"))
    guest.shows("/sys/fs/cgroup/unified/cgroup.controllers", "pids\n")
    guest.shows("/run/cgroup2/cgroup.controllers", "cpu memory\n")
    assert find_cgroup2(guest.root) == Mount("/run/cgroup2", frozenset({"cpu", "memory"}))


def test_a_mount_of_a_part_of_the_tree_is_left_aside(guest: FakeGuest) -> None:
    guest.shows(MOUNTINFO, UNIFIED.replace(" / /sys", " /shop.slice /sys"))
    guest.shows("/sys/fs/cgroup/cgroup.controllers", "memory\n")
    assert find_cgroup2(guest.root) is None


def test_a_mount_point_with_blanks_is_read_back(guest: FakeGuest) -> None:
    guest.shows(MOUNTINFO, UNIFIED.replace("/sys/fs/cgroup", r"/mnt/a\040b\134c\011"))
    guest.shows("/mnt/a b\\c\t/cgroup.controllers", "memory\n")
    assert find_cgroup2(guest.root) == Mount("/mnt/a b\\c\t", frozenset({"memory"}))


def test_a_mount_that_cannot_be_looked_into_controls_nothing(guest: FakeGuest) -> None:
    guest.shows(MOUNTINFO, UNIFIED)
    assert find_cgroup2(guest.root) == Mount("/sys/fs/cgroup", frozenset())


def test_a_malformed_mount_is_named(guest: FakeGuest) -> None:
    guest.shows(MOUNTINFO, UNIFIED + "42 31 nonsense\n")
    with pytest.raises(MalformedReading) as caught:
        find_cgroup2(guest.root)
    assert caught.value.line == "42 31 nonsense"


@pytest.mark.parametrize("path", golden_files("proc/self/mountinfo"))
def test_reads_as_many_mounts_as_real_kernels_print(path: str) -> None:
    mounts = parse_mountinfo(golden_text(path), path)
    words = [line.split() for line in golden_text(path).decode().splitlines()]
    assert [mount.path for mount in mounts] == [line[4] for line in words]
    assert [mount.kind for mount in mounts] == [line[line.index("-") + 1] for line in words]


PATHS = st.binary(max_size=30).map(lambda text: b"/" + text.replace(b"\0", b"0"))
ESCAPED = {byte: b"\\%03o" % byte for byte in b" \t\n\\#"}


@given(path=PATHS, tags=st.lists(st.sampled_from([b"shared:1", b"master:2"]), max_size=2))
def test_reads_back_every_mount_point(path: bytes, tags: list[bytes]) -> None:
    escaped = b"".join(ESCAPED.get(byte, bytes((byte,))) for byte in path)
    optional = b"".join(b" " + tag for tag in tags)
    line = b"31 24 0:25 / %s rw%s - cgroup cgroup rw,memory\n" % (escaped, optional)
    [mount] = parse_mountinfo(line, "mountinfo")
    assert os.fsencode(mount.path) == path
    assert (mount.shown, mount.kind, mount.options) == ("/", "cgroup", ("rw", "memory"))


@given(st.binary() | st.text("0123 /-cgroup2\\04\n").map(str.encode))
def test_any_mounts_parse_or_are_a_malformed_reading(text: bytes) -> None:
    with suppress(MalformedReading):
        assert len(parse_mountinfo(text, "mountinfo")) <= text.count(b"\n") + 1


# --- our own place


@pytest.mark.parametrize("path", golden_files("proc/self/cgroup"))
def test_reads_where_the_recording_process_was(path: str) -> None:
    where = own_path(os.path.join(GOLDEN, path.removesuffix("/proc/self/cgroup")))
    assert golden_text(path).endswith(f"0::{where}\n".encode())


def test_of_many_hierarchies_our_place_is_the_one_in_version_2(guest: FakeGuest) -> None:
    guest.shows("/proc/self/cgroup", "9:name=systemd:/a\n4:cpu,cpuacct:/b\n0::/c d:e\r/f\n")
    assert own_path(guest.root) == "/c d:e\r/f"


def test_without_version_2_our_place_is_unsupported(guest: FakeGuest) -> None:
    guest.shows("/proc/self/cgroup", "4:memory:/b\n")
    with pytest.raises(Unsupported):
        own_path(guest.root)


@pytest.mark.parametrize("text", ["", "0\n", "0:/c\n", "0::\n", "0::c\n"])
def test_a_malformed_place_is_told(guest: FakeGuest, text: str) -> None:
    guest.shows("/proc/self/cgroup", text)
    with pytest.raises(MalformedReading):
        own_path(guest.root)


# --- the tree


def test_parents_come_before_their_children_each_with_its_inode(guest: FakeGuest) -> None:
    for path in ("/system.slice/a b", "/system.slice/c", "/shop/x/y"):
        guest.has_memcg(path, cgroup_procs="")
    found = dict(walk(guest.layout))
    assert set(found) == {
        "/",
        "/system.slice",
        "/system.slice/a b",
        "/system.slice/c",
        "/shop",
        "/shop/x",
        "/shop/x/y",
    }
    order = list(found)
    for path in order[1:]:
        assert order.index(ancestors(path)[1]) < order.index(path)
    for path, number in found.items():
        assert number == inode(guest.layout.memcg_dir(path))


@pytest.mark.parametrize("root", ROOTS)
def test_walks_a_recorded_tree(root: str) -> None:
    assert {path for path, _ in walk(Layout(root=root))} >= {"/", "/a b", "/system.slice"}


def test_a_cgroup_that_vanishes_during_the_walk_is_passed_over(guest: FakeGuest) -> None:
    for path in ("/a/x", "/b/x", "/c/x"):
        guest.has_memcg(path)
    seen = []
    for path, _ in walk(guest.layout):
        seen.append(path)
        if path in ("/a", "/b", "/c"):
            guest.loses(f"/sys/fs/cgroup{path}/x")
            guest.loses(f"/sys/fs/cgroup{path}")
    assert sorted(seen) == ["/", "/a", "/b", "/c"]


def test_walks_through_a_tree_that_churns(guest: FakeGuest) -> None:
    guest.has_memcg("/stays")
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for number in range(20):
                guest.has_memcg(f"/brief{number}/below")
            for number in range(20):
                guest.loses(f"/sys/fs/cgroup/brief{number}")

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        for _ in range(100):
            assert {"/", "/stays"} <= {path for path, _ in walk(guest.layout)}
    finally:
        stop.set()
        churning.join()


def test_a_walk_holds_no_fd_while_the_caller_has_its_turn(guest: FakeGuest) -> None:
    guest.has_memcg("/a/b")
    before = len(os.listdir("/proc/self/fd"))
    for _ in walk(guest.layout):
        assert len(os.listdir("/proc/self/fd")) == before


def test_without_a_tree_a_walk_is_unsupported(guest: FakeGuest) -> None:
    with pytest.raises(Unsupported):
        list(walk(guest.layout))


def test_a_file_in_place_of_the_tree_is_unsupported(guest: FakeGuest) -> None:
    guest.shows("/sys/fs/cgroup", "")
    with pytest.raises(Unsupported):
        list(walk(guest.layout))
    with pytest.raises(Unsupported):
        inode(guest.path("/sys/fs/cgroup/shop"))


def test_a_root_that_cannot_be_read_ends_the_walk(guest: FakeGuest) -> None:
    guest.has_memcg("/a")
    with no_fds_left(), pytest.raises(Refused):
        list(walk(guest.layout))


def makes_a_chain(guest: FakeGuest, names: list[str]) -> None:
    """Memcgs one in the other, deeper than a path can say."""
    guest.has_memcg("/chain")
    fd = os.open(guest.layout.memcg_dir("/chain"), os.O_PATH)
    for name in names:
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_PATH, dir_fd=fd)
        os.close(fd)
        os.close(os.open("memory.current", os.O_CREAT | os.O_WRONLY, dir_fd=below))
        fd = below
    os.close(fd)


def test_a_chain_deeper_than_a_path_can_say_hides_none_of_the_others(guest: FakeGuest) -> None:
    makes_a_chain(guest, ["d" * 250] * 20)
    guest.has_memcg("/shop/till")
    found = {path for path, _ in walk(guest.layout)}
    assert {"/", "/chain", "/shop", "/shop/till"} <= found
    assert max(map(len, found)) <= PATH_BYTES_MAX


def test_those_that_cannot_be_read_end_nothing_but_themselves(guest: FakeGuest) -> None:
    for path in ("/a/x", "/b/x", "/c/x"):
        guest.has_memcg(path)
    walking = walk(guest.layout)
    found = [next(walking)[0] for _ in range(5)]
    with no_fds_left():
        assert list(walking) == []
    assert set(found) > {"/", "/a", "/b", "/c"}


def test_deep_ones_are_left_out(guest: FakeGuest) -> None:
    makes_a_chain(guest, ["d"] * 2 * DEPTH_MAX)
    assert len(list(walk(guest.layout))) == DEPTH_MAX + 1


def test_a_long_path_counts_as_it_lies_in_memory() -> None:
    assert within_bounds("/" + "d" * (PATH_BYTES_MAX - 1))
    assert not within_bounds("/" + "d" * PATH_BYTES_MAX)
    assert within_bounds("/" + "\N{PILE OF POO}" * (PATH_BYTES_MAX // 5))
    assert not within_bounds("/" + "d" * (PATH_BYTES_MAX // 2) + "\N{PILE OF POO}")


def test_of_too_many_those_near_the_root_are_given(
    guest: FakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kernelio.cgroup.MEMCGS_MAX", 8)
    for number in range(12):
        guest.has_memcg(f"/user/app/{number}")
    guest.has_memcg("/shop/till")
    found = [path for path, _ in walk(guest.layout)]
    assert len(found) == 8
    assert {"/", "/user", "/shop", "/user/app", "/shop/till"} <= set(found)


def test_a_cgroup_without_the_memory_controller_is_passed_over(guest: FakeGuest) -> None:
    guest.has_memcg("/shop")
    os.makedirs(f"{guest.layout.cgroup_root}/cpu-alone/below")
    assert [path for path, _ in walk(guest.layout)] == ["/", "/shop"]
    assert not has_memory(guest.layout.memcg_dir("/cpu-alone"))
    assert has_memory(guest.layout.memcg_dir("/shop"))


def test_a_walk_gives_the_very_names_that_are_kept(guest: FakeGuest) -> None:
    guest.has_memcg("/shop/till")
    kept = {path: path for path, _ in walk(guest.layout)}
    assert all(path is kept[path] for path, _ in walk(guest.layout, names=kept))


def test_links_are_not_followed(guest: FakeGuest) -> None:
    directory = guest.has_memcg("/a")
    os.symlink("..", f"{directory}/up")
    assert [path for path, _ in walk(guest.layout)] == ["/", "/a"]


def test_a_cgroup_recreated_under_its_name_is_told_apart_and_a_removed_one_vanished(
    guest: FakeGuest,
) -> None:
    directory = guest.has_memcg("/shop")
    old = inode(directory)
    os.rename(directory, directory + ".old")  # keeps the number taken, as a dying cgroup does
    assert inode(guest.has_memcg("/shop")) != old
    guest.loses("/sys/fs/cgroup/shop")
    with pytest.raises(Vanished):
        inode(directory)


# --- one cgroup


@pytest.mark.parametrize("path", golden_files("cgroup.events"))
def test_reads_back_the_events_of_real_kernels(path: str) -> None:
    events = parse_cgroup_events(golden_text(path), path)
    assert golden_text(path) == b"populated %d\nfrozen %d\n" % events


@pytest.mark.parametrize("root", ROOTS)
def test_the_root_group_is_populated_and_never_frozen(root: str) -> None:
    assert read_cgroup_events(f"{root}/sys/fs/cgroup") == CgroupEvents(populated=True, frozen=False)


@given(populated=st.booleans(), frozen=st.booleans())
def test_reads_back_every_state(populated: bool, frozen: bool) -> None:  # noqa: FBT001
    text = b"populated %d\nfrozen %d\n" % (populated, frozen)
    assert parse_cgroup_events(text, "x") == CgroupEvents(populated, frozen)


def test_a_kernel_that_cannot_freeze_shows_nobody_frozen(guest: FakeGuest) -> None:
    directory = guest.has_memcg("/shop", cgroup_events="populated 1\n")
    assert read_cgroup_events(directory) == CgroupEvents(populated=True, frozen=False)


def test_events_of_a_removed_cgroup_are_vanished(guest: FakeGuest) -> None:
    with pytest.raises(Vanished):
        read_cgroup_events(guest.layout.memcg_dir("/gone"))
    with pytest.raises(Vanished):
        read_procs(guest.layout.memcg_dir("/gone"))


def test_events_without_population_are_malformed() -> None:
    with pytest.raises(MalformedReading):
        parse_cgroup_events(b"frozen 0\n", "x")


@given(st.binary() | st.text("populated frozen01\n").map(str.encode))
def test_any_events_parse_or_are_a_malformed_reading(text: bytes) -> None:
    with suppress(MalformedReading):
        assert parse_cgroup_events(text, "x").populated in (True, False)


KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=64)


@given(st.dictionaries(KEYS, st.integers(0, 2**64 - 1), max_size=8))
def test_reads_back_every_flat_keyed_file(values: dict[str, int]) -> None:
    text = "".join(f"{key} {value}\n" for key, value in values.items())
    assert parse_flat_keyed(text.encode(), "x") == values


@pytest.mark.parametrize("line", ["high", "high ", "high -1", "high 1 2", "high  1", " high 1", ""])
def test_a_flat_keyed_line_that_is_none_is_named(line: str) -> None:
    with pytest.raises(MalformedReading) as caught:
        parse_flat_keyed(f"low 0\n{line}\nmax 0\n".encode(), "memory.events")
    assert caught.value.line == line


def test_reads_the_pids_of_a_cgroup(guest: FakeGuest) -> None:
    assert read_procs(guest.has_memcg("/shop", cgroup_procs="1\n4194304\n0\n")) == (1, 4194304, 0)
    assert read_procs(guest.has_memcg("/empty", cgroup_procs="")) == ()


@pytest.mark.parametrize("path", golden_files("cgroup.procs"))
def test_reads_back_the_pids_of_real_cgroups(path: str) -> None:
    pids = read_procs(os.path.join(GOLDEN, os.path.dirname(path)))
    assert golden_text(path) == b"".join(b"%d\n" % pid for pid in pids)


def test_a_malformed_pid_is_named(guest: FakeGuest) -> None:
    with pytest.raises(MalformedReading) as caught:
        read_procs(guest.has_memcg("/shop", cgroup_procs="1\nx\n"))
    assert caught.value.line == "x"


@pytest.mark.parametrize(
    ("path", "layers"),
    [
        ("/a/b/c", ("/a/b/c", "/a/b", "/a", "/")),
        ("/a", ("/a", "/")),
        ("/", ("/",)),
        ("", ("/",)),
    ],
)
def test_the_layers_above_a_cgroup(path: str, layers: tuple[str, ...]) -> None:
    assert ancestors(path) == layers
