from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from memreact_tools.host.swap.owner import Owner, identity, lives, owner_of
from memreact_tools.host.swap.trouble import SwapTrouble


def test_this_process_lives_and_opens_files_as_its_user() -> None:
    assert lives(owner_of(os.getpid(), "qmp:/q"))
    assert identity(os.getpid()) == (os.geteuid(), os.getegid())


def test_a_process_that_ended_is_gone_even_before_it_is_reaped() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        owner = owner_of(process.pid, "qmp:/q")
        assert lives(owner)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not lives(owner)
    with pytest.raises(SwapTrouble, match="not to be seen"):
        owner_of(process.pid, "qmp:/q")


@pytest.mark.parametrize("change", [{"boot": "another"}, {"started": 1}])
def test_one_with_the_same_number_is_another(change: dict[str, object]) -> None:
    owner = owner_of(os.getpid(), "qmp:/q")
    assert not lives(msgspec.structs.replace(owner, **change))


def test_a_name_with_blanks_and_brackets_hides_no_field(tmp_path: Path) -> None:
    stat = tmp_path / "7" / "stat"
    stat.parent.mkdir()
    stat.write_text("7 (a) R 1) S " + " ".join(str(n) for n in range(4, 50)) + "\n")
    assert owner_of(7, "qmp:/q", proc=str(tmp_path)).started == 22


def test_whose_the_files_are_is_not_guessed_where_the_process_is_gone(tmp_path: Path) -> None:
    with pytest.raises(SwapTrouble, match="gone"):
        identity(7, proc=str(tmp_path))


def test_an_owner_is_read_back() -> None:
    owner = Owner("b", 7, 8, "qmp:/q")
    assert msgspec.json.decode(msgspec.json.encode(owner), type=Owner) == owner
