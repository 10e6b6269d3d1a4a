from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact_tools.host.swap.filesystem import (
    available_bytes,
    kind_of,
    parse_mounts,
    takes_direct_io,
)

MOUNTS = b"""\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:21 / /run rw,nosuid - tmpfs tmpfs rw,size=100k
24 22 0:31 / /run\\040time rw - xfs /dev/vdb rw
25 23 0:40 / /run/disk rw master:3 - btrfs /dev/vdc rw
26 22 0:41 / /var rw - ext4 /dev/vdd rw
27 26 0:42 / /var rw - ramfs none rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/running", "ext4"),
        ("/run", "tmpfs"),
        ("/run/kata-containers/swap", "tmpfs"),
        ("/run/disk/swap", "btrfs"),
        ("/run time/swap", "xfs"),
        ("/var/lib/swap", "ramfs"),
    ],
)
def test_the_mount_that_is_nearest_and_on_top_says_the_type(
    path: str, kind: str, tmp_path: Path
) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(MOUNTS)
    assert kind_of(path, mounts=str(table)) == kind


@given(st.binary())
def test_any_table_is_read_or_passed_over(text: bytes) -> None:
    assert all(point.startswith("/") and kind for point, kind in parse_mounts(text.split(b"\n")))


def test_this_machines_own_table_is_read() -> None:
    assert kind_of("/proc") == "proc"


def test_what_is_available_is_counted_in_fragments(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        said = os.statvfs(tmp_path)
        assert 0 <= available_bytes(fd) <= said.f_bfree * said.f_frsize
    finally:
        os.close(fd)


def test_direct_reads_are_tried_and_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1 << 16))
    (tmp_path / "link").symlink_to("file")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        known = {"ext4": True, "xfs": True, "btrfs": True}.get(kind_of(str(tmp_path)))
        assert known in (None, takes_direct_io("file", folder=fd))
        assert not takes_direct_io("link", folder=fd)
        assert not takes_direct_io("none", folder=fd)
    finally:
        os.close(fd)


def test_a_file_that_has_no_direct_reads_is_known() -> None:
    fd = os.open("/proc", os.O_RDONLY)
    try:
        assert not takes_direct_io("version", folder=fd)
    finally:
        os.close(fd)
