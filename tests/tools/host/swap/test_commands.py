from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from memreact_tools.host.__main__ import main
from memreact_tools.host.swap.commands import wait_s
from memreact_tools.host.swap.files import open_home
from memreact_tools.host.swap.owner import owner_of
from memreact_tools.host.swap.sizing import Pace
from tests.tools.host.kata import CONFIGURATION
from tests.tools.host.swap.ch_double import CloudHypervisorDouble
from tests.tools.host.swap.guest_double import GuestDouble
from tests.tools.servers import serving

MIB = 1 << 20
Said = pytest.CaptureFixture[str]


@pytest.fixture
def double(tmp_path: Path) -> Iterator[CloudHypervisorDouble]:
    """A monitor that this process is."""
    double = CloudHypervisorDouble()
    with serving(tmp_path / "api", double):
        yield double


def host(tmp_path: Path, verb: str, *words: str) -> int:
    """Run the command with the tests' folder, one percent of the guest's 2 GiB."""
    settings = [f"guest_swap_path={tmp_path}/swap", "guest_swap_size_percent=1"]
    pairs = [word for pair in settings for word in ("--set", pair)]
    force = ["--force"] if verb == "add" else []  # the tests' folder may lie on a tmpfs
    return main(["swap", verb, *words, *pairs, *force])


def left(tmp_path: Path) -> list[str]:
    """The files of all guests."""
    return sorted(each.name for each in (tmp_path / "swap").rglob("*") if each.is_file())


def test_a_guest_is_given_swap_that_is_listed_and_taken_away_again(
    tmp_path: Path, double: CloudHypervisorDouble, capsys: Said
) -> None:
    where = f"ch:{tmp_path}/api"
    assert host(tmp_path, "add", where) == 0
    assert "swap0, 20 MiB, is a disk of the guest's" in capsys.readouterr().out
    assert host(tmp_path, "add", where) == 0
    worth, unused = capsys.readouterr().out.splitlines()
    assert worth == "the guest has the swap that it is worth"
    assert unused.startswith("swap0: in the guest, but not in use (")
    assert host(tmp_path, "list") == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["GUEST", "FILE", "MIB", "TAKES", "USED", "PCI", "STATE"]
    assert row.split() == [
        where, f"{tmp_path}/swap/guest.{os.getpid()}/swap0", "20", "0", "-", "06", "disk",
    ]  # fmt: skip
    assert host(tmp_path, "remove", where, "--swapped-off") == 0
    assert double.disks == {}
    assert left(tmp_path) == []
    capsys.readouterr()
    assert host(tmp_path, "list") == 0
    assert capsys.readouterr().out == "no guest has swap from here\n"


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[GuestDouble]:
    """A memreact in the guest."""
    double = GuestDouble()
    with serving(tmp_path / "guest", double):
        yield double


def test_a_guest_with_a_memreact_is_asked_to_swap_and_asked_to_swap_off(
    tmp_path: Path, double: CloudHypervisorDouble, inside: GuestDouble, capsys: Said
) -> None:
    where = f"ch:{tmp_path}/api"
    assert host(tmp_path, "add", f"{where}=unix:{tmp_path}/guest") == 0
    assert "the guest swaps to swap0" in capsys.readouterr().out
    inside.used["memreact-swap0"] = 7 * MIB
    assert host(tmp_path, "list") == 0  # it is remembered where the guest's is
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[4:] == ["7", "06", "in", "use"]
    assert host(tmp_path, "remove", where) == 0
    assert (inside.used, double.disks, left(tmp_path)) == ({}, {}, [])
    assert inside.calls[-1] == ("RemoveSwap", "memreact-swap0")


def test_what_a_guest_has_swapped_out_makes_it_more(
    tmp_path: Path, double: CloudHypervisorDouble, inside: GuestDouble
) -> None:
    where = f"ch:{tmp_path}/api=unix:{tmp_path}/guest"
    assert host(tmp_path, "add", where) == 0
    inside.used["memreact-swap0"] = 20 * MIB
    assert host(tmp_path, "add", where, "--most", "1") == 0
    assert list(double.disks) == ["memreact-swap0"]
    assert host(tmp_path, "add", where) == 0
    assert sorted(double.disks) == ["memreact-swap0", "memreact-swap1"]


def test_a_guest_that_keeps_its_swap_is_told_and_nothing_is_taken(
    tmp_path: Path, double: CloudHypervisorDouble, inside: GuestDouble, capsys: Said
) -> None:
    where = f"ch:{tmp_path}/api=unix:{tmp_path}/guest"
    assert host(tmp_path, "add", where) == 0
    figures = {"path": "/dev/vdb", "used_bytes": 9, "available_bytes": 8, "kept_bytes": 7}
    inside.refuses["RemoveSwap"] = ("NotEnoughMemory", figures)
    capsys.readouterr()
    assert host(tmp_path, "remove", where) == 1
    assert "memreact-swap0" in capsys.readouterr().err
    assert list(double.disks) == ["memreact-swap0"]


def test_a_named_memreact_that_does_not_answer_is_no_success(
    tmp_path: Path, double: CloudHypervisorDouble, capsys: Said
) -> None:
    where = f"ch:{tmp_path}/api=unix:{tmp_path}/nobody"
    assert host(tmp_path, "add", where) == 1
    assert "not in use" in capsys.readouterr().out
    assert list(double.disks) == ["memreact-swap0"]
    assert host(tmp_path, "remove", where) == 1
    assert "--swapped-off" in capsys.readouterr().err
    assert host(tmp_path, "remove", where, "--swapped-off") == 0
    assert left(tmp_path) == []


def test_a_list_for_programs_says_the_same(
    tmp_path: Path, double: CloudHypervisorDouble, capsys: Said
) -> None:
    assert host(tmp_path, "add", f"ch:{tmp_path}/api") == 0
    capsys.readouterr()
    assert host(tmp_path, "list", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["serial"] in double.disks
    assert (row["size_bytes"], row["allocated_bytes"]) == (20 * MIB, 0)


def test_a_list_for_programs_has_nothing_that_a_terminal_acts_on(
    tmp_path: Path, double: CloudHypervisorDouble, capsys: Said
) -> None:
    assert host(tmp_path, "add", f"ch:{tmp_path}/api") == 0
    body = "no\x9b2J\u202e\x1b".encode()
    double.instead = b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    capsys.readouterr()
    assert host(tmp_path, "list", "--json") == 0
    said = capsys.readouterr().out
    assert said.replace("\n", "").isprintable()
    (row,) = json.loads(said)
    assert row["state"].endswith(body.decode())


def test_nothing_is_taken_away_before_somebody_says_that_the_guest_does_not_use_it(
    tmp_path: Path, double: CloudHypervisorDouble, capsys: Said
) -> None:
    where = f"ch:{tmp_path}/api"
    assert host(tmp_path, "add", where) == 0
    assert host(tmp_path, "remove", where) == 1
    assert "without memreact, swapoff there" in capsys.readouterr().err
    assert list(double.disks) == ["memreact-swap0"]
    double.lets_go = False
    assert host(tmp_path, "remove", where, "--swapped-off", "--file", "swap0") == 1
    assert "ask again" in capsys.readouterr().err
    assert left(tmp_path) == ["owner", "swap0"]
    double.held.clear()
    assert host(tmp_path, "remove", where) == 0  # it has no disk any more that it could swap to
    assert left(tmp_path) == []


def test_what_a_dead_guest_left_is_cleared_without_naming_one(tmp_path: Path, capsys: Said) -> None:
    with open_home(f"{tmp_path}/swap", in_memory_too=True) as home:
        dead = owner_of(os.getpid(), "ch:/api")
        home.make_folder("shop.7", type(dead)(dead.boot, dead.pid, 1, dead.monitor))
    (tmp_path / "swap" / "shop.7" / "swap0").touch()
    assert host(tmp_path, "list") == 0
    assert "its guest is gone" in capsys.readouterr().out
    assert host(tmp_path, "remove") == 0
    assert "is deleted" in capsys.readouterr().out
    assert left(tmp_path) == []


def test_a_guest_that_does_not_answer_is_listed_with_the_reason(
    tmp_path: Path, capsys: Said
) -> None:
    with open_home(f"{tmp_path}/swap", in_memory_too=True) as home:
        home.make_folder("shop.7", owner_of(os.getpid(), f"qmp:{tmp_path}/none"))
    (tmp_path / "swap" / "shop.7" / "swap0").touch()
    assert host(tmp_path, "list") == 0
    assert "not known: " in capsys.readouterr().out


def test_a_guest_that_another_one_is_at_work_for_is_listed_so(tmp_path: Path, capsys: Said) -> None:
    owner = owner_of(os.getpid(), f"qmp:{tmp_path}/none")
    with (
        open_home(f"{tmp_path}/swap", in_memory_too=True) as home,
        home.claimed(owner, "shop") as folder,
    ):
        folder.make("swap0", MIB, uid=os.geteuid(), gid=os.getegid())
        assert host(tmp_path, "list") == 0
        assert "not known: another memreact-host is at work" in capsys.readouterr().out


def test_a_guest_that_lacks_room_gets_none_and_is_told(
    tmp_path: Path, double: CloudHypervisorDouble, capsys: Said
) -> None:
    words = ["--set", "guest_swap_size_percent=1000000000"]
    settings = ["--set", f"guest_swap_path={tmp_path}/swap", "--force"]
    assert main(["swap", "add", f"ch:{tmp_path}/api", *settings, *words]) == 1
    assert "MiB are missing" in capsys.readouterr().err
    assert (double.disks, left(tmp_path)) == ({}, [])


def test_katas_file_says_whether_and_how_much(
    tmp_path: Path, double: CloudHypervisorDouble, capsys: Said
) -> None:
    file = tmp_path / "configuration.toml"
    file.write_text(CONFIGURATION)
    where = f"ch:{tmp_path}/api"
    assert host(tmp_path, "add", where, "--kata", str(file)) == 1
    assert "enable_guest_swap is not true" in capsys.readouterr().err
    file.write_text(CONFIGURATION.replace("enable_guest_swap = false", "enable_guest_swap = true"))
    assert host(tmp_path, "add", where, "--kata", str(file)) == 0
    assert list(double.disks) == ["memreact-swap0"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["list", "--set", "guest_swap_percent=1"], 2),
        (["list", "--set", "guest_swap_size_percent=-1"], 2),
        (["add", "qmp:/none/qmp", "--set", "guest_swap_path=relative"], 2),
        (["add", "qmp:/none/qmp", "--set", "guest_swap_path=/proc/none"], 1),
        (["list", "--kata", "/none"], 1),
    ],
)
def test_what_cannot_be_done_ends_with_its_code(words: list[str], code: int, capsys: Said) -> None:
    assert main(["swap", *words]) == code
    assert capsys.readouterr().err.startswith("memreact-host: ")


@pytest.mark.parametrize(
    ("due_us", "seconds"), [(None, 10), (1_500_000, 1.5), (60_000_000, 10), (0, 10), (-5, 10)]
)
def test_a_guest_is_looked_at_when_something_is_due_and_every_ten_seconds(
    due_us: int | None, seconds: float
) -> None:
    assert wait_s(Pace(1, due_us), 0) == seconds
    assert wait_s(None, 0) == 10


@pytest.mark.parametrize(
    ("guest", "why"),
    [
        ("pid:7", "neither qmp:/PATH nor ch:/PATH"),
        ("qmp:", "neither qmp:/PATH nor ch:/PATH"),
        ("x", "neither qmp:/PATH nor ch:/PATH"),
        ("qmp:/q=vsock:7:-1", "a vsock port is 0 to"),
    ],
)
def test_a_guest_that_is_written_wrong_is_refused(guest: str, why: str, capsys: Said) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["swap", "add", guest])
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("percent", ["-1", "many"])
def test_a_share_that_is_none_is_refused(percent: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["swap", "add", "qmp:/q", "--most", percent])
    assert ended.value.code == 2
