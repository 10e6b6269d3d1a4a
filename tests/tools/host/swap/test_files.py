from __future__ import annotations

import contextlib
import os
import resource
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest

from memreact_tools.host.swap.files import FileThere, Home, open_home
from memreact_tools.host.swap.filesystem import IN_MEMORY, kind_of
from memreact_tools.host.swap.owner import owner_of
from memreact_tools.host.swap.trouble import NoSwapFile, SwapTrouble

GIB = 1 << 30
ME = {"uid": os.geteuid(), "gid": os.getegid()}
OWNER = owner_of(os.getpid(), "qmp:/q")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the folder of all guests is to be."""
    return tmp_path / "lib" / "swap"


def home(path: Path, *, make: bool = True) -> AbstractContextManager[Home]:
    """The folder of all guests, wherever the tests' own folder lies."""
    return open_home(str(path), in_memory_too=True, make=make)


def test_a_file_is_of_holes_and_its_users_alone(path: Path) -> None:
    with home(path) as here:
        here.make_folder("shop.7", OWNER)
        with here.folder("shop.7") as folder:
            made = folder.make("swap0", 40 * GIB, **ME)
            assert folder.files() == [FileThere("swap0", 40 * GIB, 0)]
    status = os.stat(made)
    assert made == f"{path}/shop.7/swap0"
    assert stat.filemode(status.st_mode) == "-rw-------"
    assert (status.st_uid, status.st_gid, status.st_blocks) == (*ME.values(), 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_goes_to_the_user_that_runs_the_guest(path: Path) -> None:
    with home(path) as here:
        here.make_folder("shop.7", OWNER)
        with here.folder("shop.7") as folder:
            status = os.stat(folder.make("swap0", GIB, uid=64055, gid=103))
    assert (status.st_uid, status.st_gid) == (64055, 103)
    assert path.joinpath("shop.7").stat().st_uid == 0


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of more than a MiB can be made, whatever the file system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_size_that_the_file_system_has_not_leaves_nothing(path: Path, small_files: None) -> None:
    with home(path) as here:
        here.make_folder("shop.7", OWNER)
        with here.folder("shop.7") as folder:
            with pytest.raises(SwapTrouble, match="no files of that size"):
                folder.make("swap0", GIB, **ME)
            assert folder.files() == []


@pytest.mark.parametrize("plant", ["file", "link"])
def test_what_lies_there_already_is_not_written_to(path: Path, plant: str) -> None:
    victim = path.parent.parent / "victim"
    victim.write_text("kept")
    with home(path) as here:
        here.make_folder("shop.7", OWNER)
        planted = path / "shop.7" / "swap0"
        if plant == "link":
            planted.symlink_to(victim)
        else:
            planted.write_text("kept")
        with here.folder("shop.7") as folder, pytest.raises(SwapTrouble, match="there already"):
            folder.make("swap0", GIB, **ME)
    assert victim.read_text() == planted.read_text() == "kept"


def test_files_come_by_number_and_what_is_not_ours_is_none(path: Path) -> None:
    with home(path) as here:
        here.make_folder("shop.7", OWNER)
        for name in ("swap10", "swap9", "swap01", "swapx", "notes"):
            (path / "shop.7" / name).touch()
        (path / "shop.7" / "swap1").mkdir()
        (path / "shop.7" / "swap2").symlink_to("notes")
        with here.folder("shop.7") as folder:
            assert [file.name for file in folder.files()] == ["swap9", "swap10"]


@pytest.mark.parametrize(
    "name", ["../../../kept", "../other.8/swap0", "/kept", "owner", "swap01", "swap0\n", ""]
)
def test_what_is_no_name_of_a_swap_file_is_neither_made_nor_deleted(path: Path, name: str) -> None:
    with home(path) as here:
        for each in ("shop.7", "other.8"):
            here.make_folder(each, OWNER)
        kept = [path.parent.parent / "kept", path / "other.8" / "swap0", path / "shop.7" / "owner"]
        kept[0].touch()
        kept[1].touch()
        with here.folder("shop.7") as folder:
            with pytest.raises(NoSwapFile, match="no swap file is called"):
                folder.remove(name)
            with pytest.raises(NoSwapFile, match="no swap file is called"):
                folder.make(name, GIB, **ME)
    assert all(each.exists() for each in kept)


def test_a_folder_of_a_guest_goes_with_all_that_is_ours(path: Path) -> None:
    with home(path) as here:
        here.make_folder("shop.7", OWNER)
        (path / "shop.7" / "swap0").touch()
        (path / "shop.7" / "owner.new").touch()
        assert here.remove_folder("shop.7")
        assert here.names() == []


def test_a_folder_with_something_else_in_it_stays_and_still_says_whose_it_is(path: Path) -> None:
    with home(path) as here:
        here.make_folder("shop.7", OWNER)
        (path / "shop.7" / "notes").touch()
        (path / "shop.7" / "swap0").touch()
        assert not here.remove_folder("shop.7")
        with here.folder("shop.7") as folder:
            assert folder.owner() == OWNER
            assert folder.files() == []


@pytest.mark.parametrize(
    ("called", "name"),
    [("shop", "shop"), ("../a b/..", "a-b"), ("", "guest"), ("ü", "guest"), ("x" * 99, "x" * 64)],
)
def test_a_folder_is_named_after_the_guest_and_its_process(
    path: Path, called: str, name: str
) -> None:
    with home(path) as here:
        assert here.name_for(OWNER, called) == f"{name}.{os.getpid()}"


def test_the_folder_that_a_guest_has_is_taken_over(path: Path) -> None:
    with home(path) as here:
        here.make_folder("old", OWNER)
        here.make_folder("other", msgspec.structs.replace(OWNER, started=1))
        assert here.name_for(OWNER, "renamed") == "old"


@pytest.mark.parametrize("text", ["", "{}", "null", '{"boot":"","pid":1,"started":2}'])
def test_an_owner_that_cannot_be_read_is_none(path: Path, text: str) -> None:
    with home(path) as here:
        here.make_folder("shop.7", OWNER)
        (path / "shop.7" / "owner").write_text(text)
        with here.folder("shop.7") as folder:
            assert folder.owner() is None


def test_what_files_may_still_take_is_promised(path: Path) -> None:
    with home(path) as here:
        for name in ("a.1", "b.2"):
            here.make_folder(name, OWNER)
            with here.folder(name) as folder:
                folder.make("swap0", GIB, **ME)
        written = path / "b.2" / "swap0"
        with written.open("r+b") as file:
            file.write(b"x" * (1 << 20))
            os.fsync(file.fileno())
        allocated = written.stat().st_blocks * 512
        assert allocated >= 1 << 20
        assert here.room().promised_bytes == 2 * GIB - allocated


def test_one_at_a_time_is_at_a_step_that_asks_nobody(path: Path) -> None:
    with home(path) as one, open_home(str(path), in_memory_too=True, wait_s=0) as other:
        with (
            one.alone(),
            pytest.raises(SwapTrouble, match="another memreact-host is at work"),
            other.alone(),
        ):
            pass
        with other.alone():
            assert other.names() == []


def test_a_step_of_another_one_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with home(path) as one, home(path) as other, contextlib.ExitStack() as step:
        step.enter_context(one.alone())
        monkeypatch.setattr(time, "sleep", lambda _seconds: step.close())
        with other.alone():
            assert other.names() == []


def test_for_one_guest_one_is_at_work_at_a_time_and_for_others_others_are(path: Path) -> None:
    neighbour = msgspec.structs.replace(OWNER, pid=1)
    with home(path) as one, home(path) as other:
        with one.claimed(OWNER, "shop") as folder:
            with (
                pytest.raises(SwapTrouble, match=f"another memreact-host .*/shop.{OWNER.pid}"),
                other.claimed(OWNER, "shop"),
            ):
                pass
            with other.claimed(neighbour, "bank"):
                assert other.names() == ["bank.1", f"shop.{OWNER.pid}"]
            folder.make("swap0", GIB, **ME)
        assert other.names() == [f"shop.{OWNER.pid}"]
        with other.claimed(OWNER, "shop") as folder:
            folder.remove("swap0")
        assert other.names() == []


@pytest.mark.parametrize("which", ["itself", "above"])
def test_a_place_where_others_may_write_is_refused(path: Path, which: str) -> None:
    path.mkdir(parents=True)
    (path if which == "itself" else path.parent).chmod(0o777)
    with pytest.raises(SwapTrouble, match="can be written by others"), home(path):
        pass


def test_a_sticky_folder_above_is_no_danger_but_one_is_as_the_place_itself(path: Path) -> None:
    path.mkdir(parents=True)
    path.parent.chmod(0o1777)
    with home(path) as here:
        assert here.names() == []
    path.chmod(0o1777)
    with pytest.raises(SwapTrouble, match="can be written by others"), home(path):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
def test_a_place_and_a_folder_of_somebody_elses_are_refused(path: Path) -> None:
    with home(path) as here:
        here.make_folder("shop.7", OWNER)
        os.chown(path / "shop.7", 1, 1)
        with pytest.raises(SwapTrouble, match="another user"), here.folder("shop.7"):
            pass
    os.chown(path, 1, 1)
    with pytest.raises(SwapTrouble, match="others"), home(path):
        pass


def test_a_path_through_a_link_is_the_place_that_it_leads_to(path: Path) -> None:
    path.mkdir(parents=True)
    link = path.parent / "link"
    link.symlink_to(path)
    with home(link) as here:
        assert here.path == str(path)


def test_a_link_in_place_of_a_guests_folder_is_none(path: Path) -> None:
    with home(path) as here:
        (path / "shop.7").symlink_to("/")
        assert here.names() == []
        with pytest.raises(OSError, match=r"Not a directory|Too many"), here.folder("shop.7"):
            pass


def test_a_place_that_is_not_there_is_made_or_told(path: Path) -> None:
    with pytest.raises(FileNotFoundError), home(path, make=False):
        pass
    with home(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o711


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(SwapTrouble, match="absolute"), open_home("swap"):
        pass


@pytest.mark.skipif(
    kind_of("/dev/shm") not in IN_MEMORY or os.geteuid() != 0,  # noqa: S108  # it is asked for
    reason="nothing here lies in memory, or it is not ours",
)
def test_a_place_in_memory_is_refused_with_the_reason() -> None:
    there = f"/dev/shm/memreact-{os.getpid()}"  # noqa: S108  # what is in memory is wanted
    os.mkdir(there, 0o700)
    try:
        with pytest.raises(SwapTrouble, match="takes the memory"), open_home(there):
            pass
        with open_home(there, in_memory_too=True) as here:
            assert here.names() == []
    finally:
        os.rmdir(there)
