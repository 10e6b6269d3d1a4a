"""kernelio on live kernels, through the installed package on Debian's Python."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guest import Guest
from lab.kernels import DEFAULT_KERNEL
from lab.machine import MachineOptions
from lab.record import record
from lab.workload import Cgroup, zram_swap
from tests.goldens import GOLDEN, golden_files
from tests.system.conftest import Decoded, Programs
from tests.system.rungs import AT_BOOT, SECOND_KERNEL, TRAITS, kernels
from tests.system.service import stopped_for_good

MIB = 1 << 20


@pytest.fixture(scope="module", params=kernels(DEFAULT_KERNEL, SECOND_KERNEL))
def live(request: pytest.FixtureRequest, package: Path) -> Iterator[Guest]:
    """A guest of each kernel, its lru_gen switched on and swap on zram."""
    with Guest.restore(MachineOptions(kernel=request.param), package) as guest:
        stopped_for_good(guest)
        guest.run("echo y > /sys/kernel/mm/lru_gen/enabled")
        zram_swap(guest, 256)
        yield guest


@pytest.fixture(scope="module")
def readings(live: Guest) -> Decoded:
    """All that kernelio reads there."""
    return Programs(live).run("readings")


def test_memory_is_what_qemu_was_asked_for(live: Guest, readings: Decoded) -> None:
    meminfo = readings["meminfo"]
    assert isinstance(meminfo, dict)
    asked = live.options.memory_mib * MIB
    assert 0.9 * asked < meminfo["total_bytes"] < asked
    assert 0 < meminfo["free_bytes"] < meminfo["total_bytes"]


def test_buddy_blocks_add_up_to_about_what_meminfo_calls_free(readings: Decoded) -> None:
    meminfo, free = readings["meminfo"], readings["free_bytes"]
    assert isinstance(meminfo, dict)
    assert isinstance(free, int)
    assert abs(free - meminfo["free_bytes"]) < 64 * MIB  # per-CPU lists are in one of them only


def test_swap_is_the_zram_device_that_was_made(readings: Decoded) -> None:
    swaps = readings["swaps"]
    assert isinstance(swaps, list)
    assert [device["path"] for device in swaps] == ["/dev/zram0"]
    assert 255 * MIB < swaps[0]["size_bytes"] < 256 * MIB


def test_the_balloon_reports_free_pages_of_order_nine(readings: Decoded) -> None:
    balloons = readings["balloons"]
    assert isinstance(balloons, list)
    assert [balloon["reporting"] for balloon in balloons] == [True]
    assert readings["order"] == 9


def test_lru_gen_lists_the_memcgs_of_the_tree(readings: Decoded) -> None:
    memcgs, cgroups = readings["memcgs"], readings["cgroups"]
    assert isinstance(memcgs, dict)
    assert isinstance(cgroups, list)
    assert {"/", "/init.scope", "/system.slice"} <= set(memcgs) & set(cgroups)
    assert set(memcgs.values()) <= {2, 3, 4}
    # 6.1 boots with it off, the others with all parts on.
    assert readings["lru_gen_enabled"] in {0, 7}


def test_cgroup2_is_mounted_with_the_memory_controller(readings: Decoded) -> None:
    mount = readings["mount"]
    assert isinstance(mount, list)
    assert mount[0] == "/sys/fs/cgroup"
    assert "memory" in mount[1]
    assert readings["v1_memory"] is False
    assert readings["own_path"] == "/system.slice/qemu-guest-agent.service"


def test_a_slice_holds_at_least_what_its_stat_counts(readings: Decoded) -> None:
    stat, events = readings["slice_stat"], readings["slice_events"]
    assert isinstance(stat, dict)
    assert isinstance(readings["slice_bytes"], int)
    assert 0 < stat["file_bytes"] <= readings["slice_bytes"] + 4 * MIB
    assert events == {"populated": True, "frozen": False}


def test_root_may_arm_windows_shorter_than_two_seconds(readings: Decoded) -> None:
    assert readings["sys_resource"] is True
    assert readings["short_windows"] is True


def test_delays_of_a_task_are_told_since_the_boot_line_asks_for_them(readings: Decoded) -> None:
    delays = readings["delays"]
    assert isinstance(delays, dict)
    assert delays["cpu_us"] > 0
    assert "delayacct" in readings["cmdline"]  # type: ignore[operator]  # a list


def test_the_release_is_that_of_the_package(live: Guest, readings: Decoded) -> None:
    major, minor, *_rest = live.release.split(".")
    assert readings["release"] == [int(major), int(minor)]


@pytest.mark.kernels
def test_in_what_it_differs_from_other_kernels_is_what_the_page_says(live: Guest) -> None:
    empty = Cgroup(live, "/traits")
    found = Programs(live).run("traits", empty.folder, empty.path)
    empty.remove()
    written = {name: by_kernel[live.options.kernel] for name, by_kernel in TRAITS.items()}
    assert {AT_BOOT: written[AT_BOOT], **found} == written


def test_the_goldens_can_be_recorded_again(
    live: Guest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("golden") / live.options.kernel
    names = record(live, folder)
    golden = {path for path in golden_files("*") if path.startswith(f"{live.options.kernel}/")}
    lost = {
        path
        for path in golden
        if os.path.isfile(os.path.join(GOLDEN, path))
        and path.removeprefix(f"{live.options.kernel}/") not in names
    }
    assert not lost
