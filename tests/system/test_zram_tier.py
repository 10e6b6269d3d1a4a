"""zram that memreact sets up in a real guest: used first, kept over restarts, put back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lab.guest import Guest
from lab.workload import Cgroup, Workload, zram_swap
from tests.system.service import RecordProperty, Service

MIB = 1 << 20
COLD_MIB = 120
SETTINGS = """\
[memcg]
period_secs = 3600
swap = true
swappiness_max = 200
[swap]
zram_percent = 40
zram_algorithm = "zstd"
[pressure]
system_psi_percent_limit = 100  # no swapoff is broken off, however slow this machine is
"""
# It is set up, and taken away, beside all else: the kernel's own table tells when that is done.
THERE = "timeout 60 sh -c 'until grep -o \"zram[0-9]*\" /proc/swaps; do sleep 0.1; done'"
NO_MORE = "timeout 60 sh -c 'while grep -q zram /proc/swaps; do sleep 0.1; done'"
SIZED = "cat /sys/block/zram*/disksize 2>/dev/null | grep -vcx 0"
STOPPED = (
    "systemctl stop memreact.service && timeout 60 sh -c "
    '\'while [ "$(systemctl is-active memreact-put-back.service)" != inactive ]; '
    "do sleep 0.1; done'"
)


@pytest.fixture(scope="module")
def service(package: Path) -> Iterator[Service]:
    """The service of a guest that has no swap."""
    with Guest.restore(package=package) as guest:
        yield Service(guest)


def in_use(service: Service) -> list[list[str]]:
    """Rows of /proc/swaps."""
    return [
        line.split() for line in service.guest.run("tail -n +2 /proc/swaps").stdout.splitlines()
    ]


def warnings(service: Service) -> list[str]:
    """What status warns of."""
    told = service.guest.run("memreact-ctl --json status").stdout
    found: list[str] = msgspec.json.decode(told)["status"]["warnings"]
    return found


def told_of(pattern: str) -> str:
    """A command that ends once status warns of it."""
    return f"timeout 60 sh -c 'until memreact-ctl status | grep \"{pattern}\"; do sleep 0.2; done'"


def test_it_is_used_kept_over_restarts_changed_and_put_back(
    service: Service, record_property: RecordProperty
) -> None:
    service.start(SETTINGS)
    name = service.guest.run(THERE).stdout.strip()
    ((path, kind, size_kb, _, priority),) = in_use(service)
    assert (path, kind, priority) == (f"/dev/{name}", "partition", "32767")
    memory_kb = int(service.guest.run("awk '/MemTotal/ {print $2}' /proc/meminfo").stdout)
    assert memory_kb * 40 // 100 - 8 < int(size_kb) <= memory_kb * 40 // 100
    assert "[zstd]" in service.guest.run(f"cat /sys/block/{name}/comp_algorithm").stdout
    cgroup = Cgroup(service.guest, "/test.slice/cold")
    cold = Workload(cgroup, "marked_anon", str(COLD_MIB))
    crc = cold.lines()[0].figures["crc"]
    service.guest.run(f"memreact-ctl squeeze 80M --scope {cgroup.path} --deadline 60s")
    used_kb = int(in_use(service)[0][3])
    taken = int(service.guest.run(f"cat /sys/block/{name}/mm_stat").stdout.split()[2])
    told = msgspec.json.decode(service.guest.run("memreact-ctl --json status").stdout)
    ledger = told["status"]["ledger"]["since_start"]
    record_property("swapped out, taken, by the ledger", (used_kb << 10, taken, ledger))
    assert used_kb > 60 << 10
    assert 0 < ledger["zram_taken_bytes"] <= taken < used_kb << 10

    service.guest.run("systemctl restart memreact.service")
    assert in_use(service)[0][0] == path  # whoever opened it, it is still called so
    service.guest.run(f"kill -KILL {service.pid}")
    service.guest.run("timeout 60 sh -c 'until memreact-ctl status; do sleep 0.5; done'")
    assert in_use(service)[0][:2] == [path, "partition"]
    assert int(in_use(service)[0][3]) > 60 << 10
    assert service.guest.run(SIZED, check=False).stdout == "1\n"

    service.guest.run("memreact-ctl set swap.zram_algorithm=lz4")
    service.guest.run(
        "timeout 60 sh -c 'until grep -q .lz4. /sys/block/zram*/comp_algorithm && "
        "grep -q zram /proc/swaps; do sleep 0.1; done'"
    )
    assert service.guest.run(SIZED, check=False).stdout == "1\n"
    assert warnings(service) == []
    cold.signal("USR1")
    assert cold.wait_for("read").figures["crc"] == crc
    service.guest.run("memreact-ctl set swap.zram_percent=0")
    service.guest.run(NO_MORE)
    service.guest.run("memreact-ctl unset --all")
    service.guest.run(THERE)

    service.guest.run(STOPPED)
    assert in_use(service) == []
    assert service.guest.run(SIZED, check=False).stdout == "0\n"
    cold.signal("USR1")
    assert cold.wait_for("read", after=2).figures["crc"] == crc
    cold.stop()
    cgroup.remove()
    lines = service.guest.run("journalctl -b -u memreact.service -o cat | grep zram_").stdout
    record_property("journal", lines)
    assert "zram_set_up path=/dev/zram" in lines
    assert "zram_not_settled" not in lines


def test_where_zram_is_swap_already_that_is_left_alone_and_told(service: Service) -> None:
    zram_swap(service.guest, 64)
    service.start(SETTINGS)
    service.guest.run(told_of("zram0 is swap already, and is not memreact.s"))
    assert [row[0] for row in in_use(service)] == ["/dev/zram0"]
    service.guest.run(STOPPED)
    assert [row[0] for row in in_use(service)] == ["/dev/zram0"]
    service.guest.run("swapoff /dev/zram0 && echo 1 > /sys/block/zram0/reset")


def test_where_there_is_no_zram_memreact_runs_without_and_says_so(service: Service) -> None:
    service.guest.run(
        "rmmod zram && systemctl mask --runtime modprobe@zram.service && ! ls /sys/block/zram*"
    )
    service.start(SETTINGS)
    service.guest.run(told_of("setting up zram: not in this kernel"))
    assert service.guest.run("systemctl is-active memreact.service").stdout == "active\n"
    service.guest.run(STOPPED)
