"""What a real QEMU does is in tests/system; here it errs, and answers in pieces."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from memreact_tools.host.swap.qemu import QemuMonitor, open_qemu
from memreact_tools.host.swap.trouble import StillHeld, SwapTrouble
from tests.tools.host.swap.qmp_double import Port, error, event
from tests.tools.servers import serving

DONE: dict[str, object] = {"return": {}}
DISK = "memreact-swap0"


@contextlib.contextmanager
def talking(
    tmp_path: Path, double: Port, timeout_s: float = 20, patience_s: float = 20
) -> Iterator[QemuMonitor]:
    """A conversation with a double."""
    opened = open_qemu(f"{tmp_path}/qmp", timeout_s=timeout_s, patience_s=patience_s)
    with serving(tmp_path / "qmp", double), opened as qemu:
        yield qemu


def test_it_says_who_it_is_and_what_the_guest_has(tmp_path: Path) -> None:
    with talking(tmp_path, Port()) as qemu:
        assert (qemu.pid, qemu.called) == (os.getpid(), "shop")
        assert qemu.memory_bytes() == (1 << 30) + (1 << 20)


def test_a_file_is_plugged_in_so_that_discards_reach_it_and_a_full_disk_stops_no_guest(
    tmp_path: Path,
) -> None:
    double = Port()
    with talking(tmp_path, double) as qemu:
        qemu.add("swap0", "/srv/swap0", direct=True)
    (node,) = double.named("blockdev-add")
    cache = {"direct": True, "no-flush": False}
    file = {"driver": "file", "filename": "/srv/swap0", "discard": "unmap", "cache": cache}
    assert node["file"] == file
    assert (node["node-name"], node["discard"], node["cache"]) == (DISK, "unmap", cache)
    (device,) = double.named("device_add")
    assert device == {
        "driver": "virtio-blk-pci",
        "id": DISK,
        "drive": DISK,
        "serial": DISK,
        "bus": "bus0",
        "werror": "report",
        "rerror": "report",
    }
    assert len(DISK) <= 20  # the serial of a virtio disk is no longer


def test_where_the_device_is_refused_the_file_is_closed_again(tmp_path: Path) -> None:
    double = Port({"device_add": [error("no slot")]})
    with talking(tmp_path, double) as qemu, pytest.raises(SwapTrouble, match="no slot"):
        qemu.add("swap0", "/srv/swap0", direct=False)
    assert double.named("blockdev-del") == [{"node-name": DISK}]


def test_where_the_file_cannot_be_opened_no_device_is_made(tmp_path: Path) -> None:
    double = Port({"blockdev-add": [error("Could not open '/srv/swap0': Permission denied")]})
    with talking(tmp_path, double) as qemu, pytest.raises(SwapTrouble, match="Permission denied"):
        qemu.add("swap0", "/srv/swap0", direct=False)
    assert double.named("device_add") == []


def test_a_qemu_that_was_taken_over_names_no_file_by_its_disks(tmp_path: Path) -> None:
    names = ["../../../../etc/x", "swap0/../../x", "owner", "", "swap²", "swap00", "swap0"]
    nodes = [{"node-name": f"memreact-{name}", "file": "/srv/swap0"} for name in names]
    double = Port({"query-named-block-nodes": [{"return": nodes}]})
    with talking(tmp_path, double) as qemu:
        assert [disk.name for disk in qemu.disks()] == ["swap0"]


DELETED = event("DEVICE_DELETED", DISK)
PIECE = b'ta": {"device": "memreact-swap0"}}\r\n'


@pytest.mark.parametrize(
    "answers",
    [
        [DONE, DELETED],
        [DELETED, DONE],
        [event("DEVICE_DELETED", "another"), DONE, event("DEVICE_DELETED", None), DELETED],
        [error(f"Device {DISK} is already in the process of unplug"), DELETED],
        [b'{"retu', b'rn": {}}\r\n\r\n{"event": "DEVICE_DELETED", "da', PIECE],
        [error(f"Device '{DISK}' not found", "DeviceNotFound")],
    ],
    ids=["after", "before", "among others", "asked before", "in pieces", "gone before"],
)  # fmt: skip
def test_a_file_is_closed_once_the_guest_has_let_its_disk_go(
    tmp_path: Path, answers: list[object]
) -> None:
    double = Port({"device_del": answers})
    with talking(tmp_path, double) as qemu:
        qemu.remove("swap0")
    assert [each.execute for each in double.asked][-2:] == ["device_del", "blockdev-del"]


@pytest.mark.parametrize(
    ("answers", "why", "patience_s"),
    [
        ([DONE, event("DEVICE_DELETED", "memreact-swap1")], "has not let memreact-swap0 go", 0.1),
        ([DONE, event("DEVICE_UNPLUG_GUEST_ERROR", DISK)], "refuses", 20),
    ],
)
def test_a_file_stays_open_while_the_guest_holds_its_disk(
    tmp_path: Path, answers: list[object], why: str, patience_s: float
) -> None:
    double = Port({"device_del": answers})
    talk = talking(tmp_path, double, patience_s=patience_s)
    with talk as qemu, pytest.raises(StillHeld, match=why):
        qemu.remove("swap0")
    assert double.named("blockdev-del") == []


def test_a_file_that_qemu_holds_a_moment_longer_is_asked_for_again(tmp_path: Path) -> None:
    double = Port({"device_del": [DONE, DELETED]})
    double.once["blockdev-del"] = [error(f"Node {DISK} is in use"), event("JOB", "x")]
    with talking(tmp_path, double) as qemu:
        qemu.remove("swap0")
    assert len(double.named("blockdev-del")) == 2


def test_a_file_that_something_else_uses_is_told(tmp_path: Path) -> None:
    double = Port({"device_del": [DONE, DELETED], "blockdev-del": [error("Node x is in use")]})
    talk = talking(tmp_path, double, patience_s=0.1)
    with talk as qemu, pytest.raises(SwapTrouble, match="is in use"):
        qemu.remove("swap0")


def test_a_file_that_qemu_has_forgotten_is_as_good_as_closed(tmp_path: Path) -> None:
    gone = error("gone", "DeviceNotFound")
    unknown = error(f"Failed to find node with node-name='{DISK}'")
    with talking(tmp_path, Port({"device_del": [gone], "blockdev-del": [unknown]})) as qemu:
        qemu.remove("swap0")


@pytest.mark.parametrize(
    ("double", "why"),
    [
        (Port({"query-memory-size-summary": [None]}), "hung up|reset"),
        (Port({"query-memory-size-summary": [b'{"return": {"base', None]}), "hung up|reset"),
        (Port({"query-memory-size-summary": [{"return": {"base-memory": "much"}}]}), "not QEMU's"),
        (Port({"query-memory-size-summary": [b"\xff\n"]}), "not QEMU's"),
        (Port({"query-memory-size-summary": [error("no")]}), "query-memory-size-summary: no"),
        (Port({"qmp_capabilities": [None]}), "hung up|reset"),
    ],
)
def test_what_is_no_answer_is_told_with_the_socket(tmp_path: Path, double: Port, why: str) -> None:
    with (
        pytest.raises(SwapTrouble, match=rf"/qmp: .*({why})"),
        talking(tmp_path, double) as qemu,
    ):
        qemu.memory_bytes()


def test_events_alone_are_no_answer(tmp_path: Path) -> None:
    double = Port({"query-memory-size-summary": [event("RESET", "x")]})
    with (
        pytest.raises(SwapTrouble, match="no answer in time"),
        talking(tmp_path, double, 0.5) as qemu,
    ):
        qemu.memory_bytes()


def test_a_socket_that_is_not_there_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(SwapTrouble, match="No such file"),
        open_qemu(f"{tmp_path}/none", timeout_s=1),
    ):
        pass


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ([{"return": []}], "it has none"),
        ([{"return": [{"name": "vga", "type": "child<VGA>"}]}], "it has none"),
    ],
)
def test_a_guest_without_a_port_is_told_what_it_lacks(
    tmp_path: Path, answer: list[object], why: str
) -> None:
    with (
        talking(tmp_path, Port({"qom-list": answer})) as qemu,
        pytest.raises(SwapTrouble, match=f"pcie-root-port.*{why}"),
    ):
        qemu.add("swap0", "/srv/swap0", direct=True)
