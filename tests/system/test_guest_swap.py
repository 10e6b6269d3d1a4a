"""A disk of the host becomes swap of a guest, holds memory that comes back right, and goes.

The steps stand upon one another: each test leaves the guest as it found it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lab.agent import Result, Running
from lab.disks import Disk
from lab.guest import Guest
from lab.workload import Cgroup, Workload
from tests.system.service import RecordProperty, Service

MIB = 1 << 20
SERIAL, OTHER = "memreact-swap0", "somebody-elses"
COLD_MIB, SQUEEZED, HOG_MIB = 200, "150M", 520
SETTINGS = "[memcg]\nperiod_secs = 3600\nswap = true\nswappiness_max = 200\n"
SOCKET = "unix:///run/memreact/agent.sock"

Told = dict[str, Any]


@pytest.fixture(scope="module")
def service(package: Path) -> Iterator[Service]:
    """The service of a guest that has no swap."""
    with Guest.restore(package=package) as guest:
        made = Service(guest)
        made.start(SETTINGS)
        yield made


@pytest.fixture
def disk(service: Service, tmp_path: Path) -> Iterator[Disk]:
    """A disk that was made for swap, not plugged in yet; unplugged after the test."""
    made = Disk(service.guest, tmp_path, SERIAL, 256)
    yield made
    made.unplug()


def ctl(service: Service, *words: str, check: bool = True) -> Result:
    """Run memreact-ctl in the guest."""
    return service.guest.run(["/usr/bin/memreact-ctl", *words], check=check, timeout_s=120)


def begin(service: Service, *words: str) -> Running:
    """Begin to run it."""
    return service.guest.start(["/usr/bin/memreact-ctl", *words])


def told(service: Service, *words: str) -> Told:
    """What it says for programs."""
    return msgspec.json.decode(ctl(service, "--json", *words).stdout, type=Told)


def refusal(service: Service, *words: str) -> str:
    """Why it was not done."""
    ended = ctl(service, *words, check=False)
    assert ended.code == 1, ended
    return ended.stderr


def swaps(service: Service) -> list[str]:
    """Lines of /proc/swaps, without the head."""
    return service.guest.run("tail -n +2 /proc/swaps").stdout.splitlines()


def test_a_disk_that_comes_later_is_waited_for_used_and_given_back(
    service: Service, disk: Disk, record_property: RecordProperty
) -> None:
    exposed = service.guest.run("systemd-analyze security --no-pager memreact.service | tail -1")
    record_property("exposure", exposed.stdout)
    waiting = begin(service, "--json", "swap", "add", SERIAL, "--make", "--wait", "30s")
    disk.plug()
    added = msgspec.json.decode(waiting.wait(60).stdout, type=Told)
    area = added["area"]
    record_property("waited for, ms, and took, ms", (added["waited_us"], added["took_us"]))
    assert (area["serial"], area["ours"], area["size_bytes"]) == (SERIAL, True, 256 * MIB - 4096)
    assert [line.split()[0] for line in swaps(service)] == [area["path"]]
    again = refusal(service, "swap", "add", SERIAL)
    assert "is in use as swap already" in again

    cgroup = Cgroup(service.guest, "/test.slice/cold")
    cold = Workload(cgroup, "cold_anon", str(COLD_MIB), "--random", "--sum")
    crc = cold.lines()[0].figures["crc"]
    told(service, "squeeze", SQUEEZED, "--scope", cgroup.path, "--deadline", "60s")
    used = told(service, "swap", "list")["areas"][0]["used_bytes"]
    record_property("MiB in swap, and in the host's file", (used >> 20, disk.allocated_bytes >> 20))
    assert used > 100 * MIB
    assert disk.allocated_bytes > used * 9 // 10  # pages of zeros are not written

    hog = Workload(Cgroup(service.guest, "/test.slice/hog"), "cold_anon", str(HOG_MIB))
    too_small = refusal(service, "swap", "remove", SERIAL)
    record_property("refused", too_small)
    assert "have to stay: it is not removed" in too_small
    hog.stop()

    service.guest.run("systemctl restart memreact.service")
    # Under a name that swapoff finds, though whoever called swapon is gone, and its mounts with it.
    assert [line.split()[0] for line in swaps(service)] == [area["path"]]
    service.guest.run(["test", "-b", area["path"]])
    removed = told(service, "swap", "remove", SERIAL)
    record_property("came back, bytes, in us", (removed["area"]["used_bytes"], removed["took_us"]))
    assert removed["area"]["used_bytes"] > 100 * MIB
    assert swaps(service) == []
    cold.signal("USR1")
    assert cold.wait_for("touched").figures["crc"] == crc
    record_property("MiB in the host's file after it", disk.allocated_bytes >> 20)
    cold.stop()
    cgroup.remove()
    lines = service.guest.run("journalctl -b -u memreact.service -o cat | grep swap_").stdout
    assert "swap_added path=/dev/vd" in lines
    assert "swap_removed path=" in lines


def test_what_was_not_made_for_swap_is_not_taken(
    service: Service, disk: Disk, tmp_path: Path
) -> None:
    assert "no disk with serial memreact-swap9 came in" in refusal(
        service, "swap", "add", "memreact-swap9", "--wait", "100ms"
    )
    assert "no disk with PCI path 1f/00 came in 3 s" in refusal(service, "swap", "add", "1f/00")
    disk.plug()
    assert "no_signature" in refusal(service, "swap", "add", SERIAL, "--wait", "10s")
    other = Disk(service.guest, tmp_path, OTHER, 64, port=1)
    other.plug()
    name = service.guest.run(f"grep -lx {OTHER} /sys/block/vd*/serial | cut -d/ -f4").stdout.strip()
    path = service.guest.run(f"readlink /sys/block/{name}").stdout
    pci_path = "/".join(part[8:10] for part in path.split("/") if part.startswith("0000:"))
    assert "not_ours" in refusal(service, "swap", "add", pci_path, "--make")
    service.guest.run(f"mkswap -q /dev/{name}")
    uuid = service.guest.run(f"blkid -p -s UUID -o value /dev/{name}").stdout.strip()
    assert "not_ours" in refusal(service, "swap", "add", pci_path)
    wrong = "00000000-0000-4000-8000-000000000000"
    assert "other_uuid" in refusal(service, "swap", "add", pci_path, "--uuid", wrong)
    assert told(service, "swap", "add", uuid)["area"]["pci_path"] == pci_path
    assert told(service, "swap", "remove", f"/dev/{name}")["area"]["uuid"] == uuid
    kata_calls(service, pci_path, name)
    other.unplug()


def kata_calls(service: Service, pci_path: str, name: str) -> None:
    """As Kata's runtime asks for it: by the place, and by a path."""

    def asked(method: str, message: str, *, check: bool = True) -> Result:
        command = ("--cmd", f"{method} json://{message}")
        return ctl(service, "connect", "--server-address", SOCKET, *command, check=check)

    slots = ",".join(str(int(slot, 16)) for slot in pci_path.split("/"))
    assert asked("AddSwap", f'{{"PCIPath":[{slots}]}}').stdout == "AddSwap: done\n"
    again = asked("AddSwap", f'{{"PCIPath":[{slots}]}}', check=False)
    assert "libc::swapon get error Device or resource busy (os error 16)" in again.stderr
    told(service, "swap", "remove", f"/dev/{name}")
    for path, why in (
        (f"/dev/{name}", "does not begin with memreact-"),
        ("/dev/null", "no whole virtio disk"),
        ("/etc/passwd", "no whole virtio disk"),
        ("/dev/nowhere", "there is no disk /dev/nowhere"),
    ):
        refused = asked("AddSwapPath", f'{{"path":"{path}"}}', check=False)
        assert refused.code == 1
        assert why in refused.stderr
    assert swaps(service) == []


def test_a_disk_that_goes_while_it_is_swap_is_survived_and_told(
    service: Service, disk: Disk, record_property: RecordProperty
) -> None:
    disk.plug()
    told(service, "swap", "add", SERIAL, "--make", "--wait", "10s")
    disk.guest.qmp("device_del", {"id": SERIAL})
    lost = "journalctl -b -u memreact.service -o cat | grep -c swap_lost"
    service.guest.run(
        f"for i in $(seq 100); do [ $({lost}) = 0 ] || exit 0; sleep 0.1; done; exit 1"
    )
    record_property("listed", swaps(service))
    (area,) = told(service, "swap", "list")["areas"]
    assert area["lost"]
    assert any(
        "its device is gone" in line for line in told(service, "status")["status"]["warnings"]
    )
    assert service.guest.run("systemctl is-active memreact.service").stdout == "active\n"
