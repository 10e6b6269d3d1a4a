"""What outlives a restart."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest

from memreact.run_dir import PUSHED_BYTES_MAX, PushedFile, RunDir
from tests.fake_guest import FakeGuest

SWITCH = "/sys/kernel/mm/lru_gen/enabled"


@pytest.fixture
def run_dir(guest: FakeGuest) -> Iterator[RunDir]:
    made = RunDir(guest.path("/run/memreact"))
    yield made
    made.release()


def held(run_dir: RunDir, name: str) -> str:
    with open(os.path.join(run_dir.path, name), encoding="utf-8") as file:
        return file.read()


def holds(run_dir: RunDir, name: str, text: str | bytes) -> None:
    os.makedirs(run_dir.path, exist_ok=True)
    with open(os.path.join(run_dir.path, name), "wb") as file:
        file.write(os.fsencode(text))


def test_the_lock_is_taken_once_and_names_its_holder(run_dir: RunDir) -> None:
    assert run_dir.take_lock()
    assert run_dir.locked
    assert held(run_dir, "lock") == f"{os.getpid()}\n"


def test_a_second_memreact_does_not_get_the_lock(run_dir: RunDir) -> None:
    run_dir.take_lock()
    second = RunDir(run_dir.path)
    assert not second.take_lock()
    assert not second.locked
    assert held(run_dir, "lock") == f"{os.getpid()}\n"


def test_the_lock_is_free_once_it_is_released(run_dir: RunDir) -> None:
    run_dir.take_lock()
    run_dir.release()
    second = RunDir(run_dir.path)
    assert second.take_lock()
    second.release()


def test_the_lock_of_a_killed_daemon_is_taken_over(run_dir: RunDir) -> None:
    holds(run_dir, "lock", "4194304000\nand more")
    assert run_dir.take_lock()
    assert held(run_dir, "lock") == f"{os.getpid()}\n"


def test_where_no_directory_can_be_made_we_are_alone_and_nothing_is_kept(guest: FakeGuest) -> None:
    guest.shows("/run", "a file")
    run_dir = RunDir(guest.path("/run/memreact"))
    assert run_dir.take_lock()
    assert not run_dir.locked
    assert 0 <= run_dir.phase() < 1
    assert not run_dir.remember_switch(guest.layout.lru_gen_enabled, "0x0000")
    assert run_dir.put_back(guest.layout).restored == []


def test_the_phase_is_drawn_once_a_boot(run_dir: RunDir) -> None:
    run_dir.take_lock()
    phase = run_dir.phase()
    assert 0 <= phase < 1
    assert run_dir.phase() == pytest.approx(phase, abs=1e-9)
    assert RunDir(run_dir.path).phase() == pytest.approx(phase, abs=1e-9)


def test_the_phase_is_drawn_anew_after_a_restore_and_kept_again(run_dir: RunDir) -> None:
    run_dir.take_lock()
    holds(run_dir, "phase", "0.25\n")
    assert run_dir.phase() == 0.25
    anew = run_dir.phase(draw_again=True)
    assert anew != 0.25
    assert run_dir.phase() == pytest.approx(anew, abs=1e-9)


@pytest.mark.parametrize("text", ["", "nan", "inf", "-1", "7", "1e400", "half", b"\xff\xfe", "0x1"])
def test_a_phase_that_is_none_is_drawn_anew(run_dir: RunDir, text: str | bytes) -> None:
    holds(run_dir, "phase", text)
    phase = run_dir.phase()
    assert 0 <= phase < 1
    assert run_dir.phase() == pytest.approx(phase, abs=1e-9)


def test_a_switch_is_put_back_as_it_was_found_first(guest: FakeGuest, run_dir: RunDir) -> None:
    guest.shows(SWITCH, "0x0007")
    run_dir.take_lock()
    assert run_dir.remember_switch(guest.layout.lru_gen_enabled, "0x0002")
    assert run_dir.remember_switch(guest.layout.lru_gen_enabled, "0x0007")  # of a restart
    assert run_dir.put_back(guest.layout).restored == [guest.layout.lru_gen_enabled]
    assert guest.received(SWITCH).startswith(b"0x0002")


def test_a_switch_is_put_back_once(guest: FakeGuest, run_dir: RunDir) -> None:
    guest.shows(SWITCH, "0x0007")
    run_dir.take_lock()
    run_dir.remember_switch(guest.layout.lru_gen_enabled, "0x0000")
    run_dir.put_back(guest.layout)
    guest.shows(SWITCH, "0x0005")  # somebody else's choice
    assert run_dir.put_back(guest.layout).restored == []
    assert guest.received(SWITCH) == b"0x0005"


@pytest.mark.parametrize(
    "line", ["{root}/etc/passwd\troot", "/proc/self/oom_score_adj\t0", "\t\n", "{root}{switch}", ""]
)
def test_a_file_that_we_would_not_have_switched_is_never_written(
    guest: FakeGuest, run_dir: RunDir, line: str
) -> None:
    guest.shows("/etc/passwd", "kept")
    holds(run_dir, "switched-on", line.format(root=guest.root, switch="/etc/passwd"))
    assert run_dir.put_back(guest.layout).restored == []
    assert guest.received("/etc/passwd") == b"kept"


def test_a_switch_that_takes_nothing_back_now_is_put_back_later(
    guest: FakeGuest, run_dir: RunDir
) -> None:
    run_dir.take_lock()
    os.makedirs(guest.path(SWITCH))  # cannot be written to, as root can whatever its mode says
    run_dir.remember_switch(guest.layout.lru_gen_enabled, "0x0002")
    restored, [error] = run_dir.put_back(guest.layout)
    assert restored == []
    assert error.path == guest.layout.lru_gen_enabled
    os.rmdir(guest.path(SWITCH))
    guest.shows(SWITCH, "0x0007")
    assert run_dir.put_back(guest.layout) == ([guest.layout.lru_gen_enabled], [])
    assert guest.received(SWITCH).startswith(b"0x0002")


def test_a_full_disk_is_told_and_leaves_nothing_half_recorded(
    guest: FakeGuest, run_dir: RunDir
) -> None:
    run_dir.take_lock()
    os.symlink("/dev/full", os.path.join(run_dir.path, "switched-on.new"))
    assert not run_dir.remember_switch(guest.layout.lru_gen_enabled, "0x0002")
    assert run_dir.put_back(guest.layout) == ([], [])


def test_a_switch_that_is_gone_is_forgotten(guest: FakeGuest, run_dir: RunDir) -> None:
    run_dir.take_lock()
    run_dir.remember_switch(guest.layout.lru_gen_enabled, "0x0000")
    assert run_dir.put_back(guest.layout).restored == []
    assert not os.path.exists(os.path.join(run_dir.path, "switched-on"))


def test_both_switches_are_put_back_at_the_end_and_one_alone_when_asked(
    guest: FakeGuest, run_dir: RunDir
) -> None:
    lists = guest.shows("/proc/sys/vm/percpu_pagelist_high_fraction", "8")
    guest.shows(SWITCH, "0x0007")
    run_dir.take_lock()
    for _ in range(2):
        assert run_dir.remember_switch(guest.layout.lru_gen_enabled, "0x0002")
        assert run_dir.remember_switch(lists, "0")
        assert run_dir.put_back_one(lists).restored == [lists]
        assert run_dir.put_back_one(lists).restored == []
    assert guest.received(SWITCH) == b"0x0007"
    run_dir.remember_switch(lists, "5")
    assert run_dir.put_back(guest.layout).restored == [guest.layout.lru_gen_enabled, lists]
    assert guest.received("/proc/sys/vm/percpu_pagelist_high_fraction") == b"5"


def test_others_may_pass_through_the_directory_and_not_list_it(run_dir: RunDir) -> None:
    run_dir.take_lock()
    assert os.stat(run_dir.path).st_mode & 0o777 == 0o711


# --- what was pushed


@pytest.fixture
def pushed(run_dir: RunDir) -> PushedFile:
    run_dir.take_lock()
    return run_dir.pushed


def test_a_second_memreact_reads_what_was_pushed_and_never_writes_it(run_dir: RunDir) -> None:
    run_dir.take_lock()
    run_dir.pushed.write(b"first")
    second = RunDir(run_dir.path)
    assert not second.take_lock()
    assert second.pushed.read() == b"first"
    with pytest.raises(OSError, match="Read-only"):
        second.pushed.write(b"second")
    assert second.pushed.set_aside() == second.pushed.path
    assert run_dir.pushed.read() == b"first"


def test_what_was_pushed_is_read_back_whole(pushed: PushedFile) -> None:
    assert pushed.read() is None
    for data in (b"one", b"", b"\0\xff" * 1000, b"x" * PUSHED_BYTES_MAX):
        pushed.write(data)
        assert pushed.read() == data


def test_what_was_pushed_is_for_its_owner_alone(pushed: PushedFile, run_dir: RunDir) -> None:
    holds(run_dir, "pushed.new", "of a crash")
    os.chmod(pushed.path + ".new", 0o644)
    pushed.write(b"x")
    assert os.stat(pushed.path).st_mode & 0o777 == 0o600
    assert sorted(os.listdir(run_dir.path)) == ["lock", "pushed"]


def test_a_link_in_the_way_is_replaced_and_not_followed(
    guest: FakeGuest, pushed: PushedFile
) -> None:
    other = guest.shows("/etc/passwd", "kept")
    for name in (pushed.path, pushed.path + ".new"):
        os.symlink(other, name)
    pushed.write(b"x")
    assert guest.received("/etc/passwd") == b"kept"
    assert pushed.read() == b"x"


def test_a_file_larger_than_is_ever_written_is_not_read(
    pushed: PushedFile, run_dir: RunDir
) -> None:
    holds(run_dir, "pushed", b"x" * (PUSHED_BYTES_MAX + 1))
    with pytest.raises(OSError, match="File too large"):
        pushed.read()
    aside = pushed.set_aside()
    assert pushed.read() is None
    assert os.path.getsize(aside) == PUSHED_BYTES_MAX + 1


def test_where_there_is_no_room_nothing_half_written_stays(
    pushed: PushedFile, run_dir: RunDir
) -> None:
    pushed.write(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            pushed.write(b"x" * 20)  # ten bytes of it find room
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(os.listdir(run_dir.path)) == ["lock", "pushed"]
    assert pushed.read() == b"old"


def test_a_write_that_fails_leaves_what_there_was(pushed: PushedFile, run_dir: RunDir) -> None:
    pushed.write(b"old")
    os.mkdir(pushed.path + ".new")
    with pytest.raises(OSError, match="directory"):
        pushed.write(b"new")
    assert pushed.read() == b"old"
