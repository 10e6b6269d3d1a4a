"""What files cannot fake about pressure: readiness, removal, a write broken off."""

from __future__ import annotations

import errno

import msgspec

from lab.guest import Guest
from lab.workload import Cgroup, Workload
from tests.system.conftest import Programs
from tests.system.rungs import EACH_KERNEL

pytestmark = EACH_KERNEL
MIB = 1 << 20
SECOND_US = 1_000_000


def test_a_stall_fires_the_trigger_of_its_cgroup_and_no_sooner(
    programs: Programs, cgroup: Cgroup
) -> None:
    stall = Workload(cgroup, "stall", cgroup.folder)
    waiting = programs.start("wait_for_trigger", cgroup.folder, "20000", "500000")
    programs.guest.run("until [ -e /run/waiting ]; do sleep 0.05; done; rm /run/waiting")
    assert waiting.poll() is None
    stall.signal("USR1")
    first_us = stall.wait_for("stalled").figures["first_us"]
    answer = waiting.wait(60)
    told = msgspec.json.decode(answer.stdout)
    assert [(event["name"], event["gone"]) for event in told["fired"]] == [("armed", False)]
    assert told["stall_us"] >= 20_000
    assert first_us < told["fired"][0]["at_us"] < first_us + SECOND_US


def test_the_trigger_of_a_removed_cgroup_is_told_once(programs: Programs) -> None:
    told = programs.run("lose_a_cgroup", "/sys/fs/cgroup/doomed")
    first = told["first"]
    assert isinstance(first, list)
    assert [(event["name"], event["gone"]) for event in first] == [("doomed", True)]
    assert told["second"] == []
    assert told["errno_of_the_open_fd"] == errno.ENODEV
    assert told["path_vanished"] is True


def test_a_kick_breaks_off_an_eviction_inside_the_kernel(
    programs: Programs, cgroup: Cgroup
) -> None:
    Workload(cgroup, "cold_files", "300")
    told = programs.run("break_off", cgroup.folder, cgroup.path)
    before, after = told["before_bytes"], told["after_bytes"]
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert before >= 300 * MIB
    assert told["interrupted"] is True
    assert 0 < after < before
    assert after > before // 4  # without the kick, nearly nothing is left


def test_the_same_eviction_goes_to_its_end_when_nothing_kicks_it(
    programs: Programs, cgroup: Cgroup
) -> None:
    Workload(cgroup, "cold_files", "100")
    told = programs.run("break_off", cgroup.folder, cgroup.path, "never")
    assert told["interrupted"] is False
    assert told["after_bytes"] < 10 * MIB  # type: ignore[operator]  # a number


def test_most_of_what_is_reclaimed_and_compacted_is_gone_from_the_host(
    debian: Guest, cgroup: Cgroup
) -> None:
    cold = Workload(cgroup, "cold_files", "200")
    held = debian.held_bytes()
    cgroup.set("memory.reclaim", "190M")
    debian.run("echo 1 > /proc/sys/vm/compact_memory")  # only blocks of 2 MiB are reported
    debian.wait_held_below(held - 100 * MIB)  # the rest may stay scattered
    assert cold.running.poll() is None  # nothing died for it
