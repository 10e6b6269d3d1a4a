from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from memreact_tools.host.replace_file import read_text, replace_text


def test_the_mode_stays_and_nothing_is_left_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("old")
    file.chmod(0o604)
    replace_text(str(file), "new\r\n")
    assert file.read_bytes() == b"new\r\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o604
    assert os.listdir(tmp_path) == ["c.toml"]


def test_a_symbolic_link_stays_one_and_what_it_names_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    file = tmp_path / "real/c.toml"
    file.write_text("old")
    (tmp_path / "link").symlink_to("real/c.toml")
    replace_text(str(tmp_path / "link"), "new")
    assert (tmp_path / "link").is_symlink()
    assert file.read_text() == "new"


def test_a_reader_has_the_whole_old_file_after_the_exchange(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("old")
    with file.open() as reader:
        replace_text(str(file), "new")
        assert reader.read() == "old"


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_beside_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "c.toml"
    file.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        replace_text(str(file), "\udc00")
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["c.toml"]


def test_line_ends_are_read_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b"a\r\nb\n")
    assert read_text(str(tmp_path / "c.toml")) == "a\r\nb\n"
