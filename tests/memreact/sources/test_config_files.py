"""Settings files that come, change and go."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernelio.inotify import Inotify
from memreact.sources.config_files import WATCHES_MAX, ConfigFiles

FILE = "etc/memreact/memreact.toml"
FOLDER = "etc/memreact/memreact.toml.d"

Watching = Callable[..., ConfigFiles]


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Watching]:
    made = []

    def watch(*files: str, folders: tuple[str, ...] = (FOLDER,)) -> ConfigFiles:
        paths = [str(tmp_path / file) for file in files or (FILE,)]
        made.append(ConfigFiles(paths, [str(tmp_path / folder) for folder in folders], Inotify()))
        return made[-1]

    yield watch
    for each in made:
        each.close()


def write(root: Path, path: str, text: str = "x") -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def put(root: Path, path: str, text: str = "x") -> Path:
    """Write a file beside and rename it into place."""
    return write(root, f"{path}.new", text).replace(root / path)


def readable(files: ConfigFiles) -> bool:
    poll = select.poll()
    poll.register(files.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def test_without_a_change_there_is_nothing_to_read(tmp_path: Path, watching: Watching) -> None:
    write(tmp_path, FILE)
    files = watching()
    (tmp_path / FILE).read_text()
    assert not readable(files)
    assert not files.read()


@pytest.mark.parametrize(
    "change",
    [
        lambda root: write(root, FILE, "other"),
        lambda root: put(root, FILE),
        lambda root: (root / FILE).unlink(),
        lambda root: (root / FILE).rename(root / "elsewhere"),
        lambda root: (root / FILE).chmod(0o600),
        lambda root: write(root, f"{FOLDER}/10.toml"),
        lambda root: put(root, f"{FOLDER}/10.toml"),
        lambda root: (root / f"{FOLDER}/00.toml").unlink(),
        lambda root: (root / FOLDER).rename(root / "elsewhere"),
        lambda root: (root / "etc/memreact").rename(root / "etc/elsewhere"),
        lambda root: (root / "etc").rename(root / "elsewhere"),
    ],
)
def test_each_change_is_told_once(
    tmp_path: Path, watching: Watching, change: Callable[[Path], object]
) -> None:
    write(tmp_path, FILE)
    write(tmp_path, f"{FOLDER}/00.toml")
    files = watching()
    change(tmp_path)
    assert readable(files)
    assert files.read()
    assert not files.read()


def test_a_burst_is_told_once(tmp_path: Path, watching: Watching) -> None:
    files = watching()
    for number in range(100):
        write(tmp_path, f"{FOLDER}/{number}.toml")
        put(tmp_path, FILE)
    assert files.read()
    assert not files.read()


def test_what_lies_beside_on_the_way_is_not_told(tmp_path: Path, watching: Watching) -> None:
    write(tmp_path, FILE)
    files = watching()
    write(tmp_path, "etc/resolv.conf")
    write(tmp_path, "etc/memreact/other.toml")
    (tmp_path / "etc/other").mkdir()
    assert not files.read()


def test_a_folder_that_appears_later_is_followed_from_then_on(
    tmp_path: Path, watching: Watching
) -> None:
    files = watching()
    assert not files.unwatched
    (tmp_path / "etc").mkdir()
    assert files.read()
    (tmp_path / "etc/memreact").mkdir()
    assert files.read()
    write(tmp_path, FILE)
    assert files.read()
    (tmp_path / FOLDER).mkdir()
    assert files.read()
    write(tmp_path, f"{FOLDER}/a.toml")
    assert files.read()
    assert not files.read()


def test_a_whole_tree_that_is_moved_into_place_is_followed(
    tmp_path: Path, watching: Watching
) -> None:
    files = watching()
    write(tmp_path, f"fresh/{FILE}")
    (tmp_path / "fresh/etc").rename(tmp_path / "etc")
    assert files.read()
    write(tmp_path, FILE, "other")
    assert files.read()


def test_a_folder_that_was_removed_and_made_again_is_followed(
    tmp_path: Path, watching: Watching
) -> None:
    write(tmp_path, f"{FOLDER}/a.toml").unlink()
    files = watching()
    (tmp_path / FOLDER).rmdir()
    assert files.read()
    (tmp_path / FOLDER).mkdir()
    assert files.read()
    write(tmp_path, f"{FOLDER}/b.toml")
    assert files.read()


def test_a_link_is_followed_and_told_when_it_is_swapped(tmp_path: Path, watching: Watching) -> None:
    one, two = write(tmp_path, "one/a.toml"), write(tmp_path, "two/b.toml")
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).symlink_to(one)
    files = watching()
    one.write_text("other")
    assert files.read()
    (tmp_path / "link").symlink_to("../../two/b.toml")
    (tmp_path / "link").replace(tmp_path / FILE)
    assert files.read()
    one.write_text("nobody's any more")
    assert not files.read()
    two.write_text("other")
    assert files.read()


def test_a_link_among_the_folders_is_told_when_it_is_swapped(
    tmp_path: Path, watching: Watching
) -> None:
    """As a volume of Kubernetes does it: file, to ..data/file, to a dated folder."""
    write(tmp_path, "v/..1/a.toml")
    write(tmp_path, "v/..2/a.toml")
    (tmp_path / "v/..data").symlink_to("..1")
    (tmp_path / "v/a.toml").symlink_to("..data/a.toml")
    files = watching("v/a.toml")
    (tmp_path / "v/..fresh").symlink_to("..2")
    (tmp_path / "v/..fresh").replace(tmp_path / "v/..data")
    assert files.read()
    write(tmp_path, "v/..2/a.toml", "other")
    assert files.read()


def test_a_link_to_nowhere_is_told_when_its_file_appears(
    tmp_path: Path, watching: Watching
) -> None:
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).symlink_to(tmp_path / "far/../later.toml")
    (tmp_path / "far").mkdir()
    files = watching()
    write(tmp_path, "later.toml")
    assert files.read()


def test_a_link_among_the_drop_ins_is_followed(tmp_path: Path, watching: Watching) -> None:
    far = write(tmp_path, "far/a.toml")
    (tmp_path / FOLDER).mkdir(parents=True)
    files = watching()
    (tmp_path / FOLDER / "a.toml").symlink_to(far)
    assert files.read()
    far.write_text("other")
    assert files.read()


def test_a_circle_of_links_ends(tmp_path: Path, watching: Watching) -> None:
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).symlink_to(tmp_path / FILE)
    files = watching()
    (tmp_path / FILE).unlink()
    assert files.read()


def test_a_file_that_is_written_under_another_name_is_told(
    tmp_path: Path, watching: Watching
) -> None:
    file = write(tmp_path, FILE)
    os.link(file, tmp_path / "other-name")
    files = watching()
    (tmp_path / "other-name").write_text("other")
    assert files.read()


def test_watches_are_bounded_and_taken_back(tmp_path: Path, watching: Watching) -> None:
    many = [f"{number}/a.toml" for number in range(WATCHES_MAX)]
    for path in many:
        write(tmp_path, path)
    files = watching(*many)
    assert files.unwatched
    with open(f"/proc/self/fdinfo/{files.fileno()}", encoding="ascii") as info:
        assert sum(line.startswith("inotify ") for line in info) == WATCHES_MAX
    for path in many:
        (tmp_path / path).unlink()
        (tmp_path / path).parent.rmdir()
    assert files.read()
    with open(f"/proc/self/fdinfo/{files.fileno()}", encoding="ascii") as info:
        assert sum(line.startswith("inotify ") for line in info) < 20
    assert not files.unwatched


def test_events_that_were_lost_count_as_a_change(tmp_path: Path, watching: Watching) -> None:
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
        queue = int(file.read())
    (tmp_path / "etc").mkdir()
    files = watching()
    (tmp_path / "etc/x").touch()
    for _ in range(queue // 4 + 1):
        os.rename(tmp_path / "etc/x", tmp_path / "etc/y")
        os.rename(tmp_path / "etc/y", tmp_path / "etc/x")
    answers = [files.read() for _ in range(queue // 1000)]
    assert any(answers)


def test_a_neighbour_of_a_folder_on_the_way_wakes_nobody(
    tmp_path: Path, watching: Watching
) -> None:
    write(tmp_path, FILE)
    files = watching()
    write(tmp_path, "beside")
    write(tmp_path, "etc/beside")
    assert not readable(files)
