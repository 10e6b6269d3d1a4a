from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from memreact_tools.host.swap.cloud_hypervisor import (
    CloudHypervisorMonitor,
    open_cloud_hypervisor,
)
from memreact_tools.host.swap.monitor import Disk
from memreact_tools.host.swap.trouble import StillHeld, SwapTrouble
from tests.tools.host.swap.ch_double import CloudHypervisorDouble
from tests.tools.servers import serving

GIB = 1 << 30
SWAP0 = Disk("swap0", "/srv/swap0", 0, "06")


@contextlib.contextmanager
def talking(
    tmp_path: Path, double: CloudHypervisorDouble, timeout_s: float = 20
) -> Iterator[CloudHypervisorMonitor]:
    """Ask a double."""
    with (
        serving(tmp_path / "api", double),
        open_cloud_hypervisor(f"{tmp_path}/api", timeout_s=timeout_s) as monitor,
    ):
        yield monitor


def test_it_says_who_it_is_and_what_the_guest_has(tmp_path: Path) -> None:
    with talking(tmp_path, CloudHypervisorDouble()) as monitor:
        assert (monitor.pid, monitor.called) == (os.getpid(), "")
        assert monitor.memory_bytes() == 2 * GIB
        assert monitor.disks() == []


def test_a_disk_comes_with_our_serial_and_goes_again(tmp_path: Path) -> None:
    double = CloudHypervisorDouble()
    with talking(tmp_path, double) as monitor:
        monitor.add("swap0", "/srv/swap0", direct=True)
        assert double.disks == {
            "memreact-swap0": {
                "id": "memreact-swap0",
                "serial": "memreact-swap0",
                "path": "/srv/swap0",
                "readonly": False,
                "direct": True,
            }
        }
        assert monitor.disks() == [SWAP0]
        monitor.remove("swap0")
        assert monitor.disks() == []
        monitor.remove("swap0")


def test_a_monitor_that_was_taken_over_names_no_file_by_its_disks(tmp_path: Path) -> None:
    double = CloudHypervisorDouble(held={"memreact-../x", "memreact-", "memreact-owner"})
    with talking(tmp_path, double) as monitor:
        monitor.add("swap0", "/srv/swap0", direct=True)
        assert monitor.disks() == [SWAP0]


def test_a_disk_that_the_guest_holds_is_there_until_it_lets_go(tmp_path: Path) -> None:
    double = CloudHypervisorDouble(lets_go=False)
    with talking(tmp_path, double) as monitor:
        monitor.add("swap0", "/srv/swap0", direct=True)
        for _ in range(2):
            with pytest.raises(StillHeld, match="memreact-swap0"):
                monitor.remove("swap0")
        assert monitor.disks() == [SWAP0._replace(path="")]
        double.held.clear()
        monitor.remove("swap0")


def test_what_it_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    with talking(tmp_path, CloudHypervisorDouble()) as monitor:
        monitor.add("swap0", "/srv/swap0", direct=True)
        with pytest.raises(SwapTrouble, match=r"vm.add-disk: 409 .*identifier not unique"):
            monitor.add("swap0", "/srv/swap0", direct=True)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "RemoteDisconnected|closed|reset"),
        (b"SSH-2.0\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "not Cloud Hypervisor's"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", "no HTTP|not Cloud"),
    ],
)
def test_what_is_no_answer_is_told_with_the_socket(tmp_path: Path, answer: bytes, why: str) -> None:
    double = CloudHypervisorDouble(instead=answer)
    with talking(tmp_path, double) as monitor, pytest.raises(SwapTrouble, match=f"/api: .*({why})"):
        monitor.memory_bytes()


def test_a_socket_that_is_not_there_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(SwapTrouble, match="No such file"),
        open_cloud_hypervisor(f"{tmp_path}/none", timeout_s=1),
    ):
        pass
