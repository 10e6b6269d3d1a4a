"""Which rung of each ladder this guest and the rules allow."""

from __future__ import annotations

import os

import msgspec
import pytest

from memreact.capabilities import Capabilities, find_capabilities
from memreact.events import CapabilitiesRead
from memreact.ground import break_ground, capabilities_read, switch_on, would_switch_on
from memreact.rules import Rules, rules_from
from memreact.run_dir import RunDir
from memreact.telemetry.journal import Journal
from memreact.value import replace
from memreact_schemas.config import DEFAULTS
from tests.fake_guest import FakeGuest
from tests.memreact.full_guest import ENABLED, LRU_GEN, full_guest

RULES = rules_from(DEFAULTS)


@pytest.fixture
def can(guest: FakeGuest) -> Capabilities:
    return find_capabilities(full_guest(guest).layout, own_pid=1)


def read(can: Capabilities, rules: Rules = RULES, *, alone: bool = True) -> CapabilitiesRead:
    return capabilities_read(can, rules, "/own", 0.25, alone=alone)


def idle(can: Capabilities, rules: Rules = RULES, *, alone: bool = True) -> str | None:
    return read(can, rules, alone=alone).idle_because


def test_a_full_guest_has_nothing_to_idle_for(can: Capabilities) -> None:
    seen = read(can)
    wanted = CapabilitiesRead(can.page_size, "mglru", True, "/own", 0.25)  # noqa: FBT003
    assert seen == msgspec.structs.replace(wanted, reports=False)  # it has no balloon


def test_free_memory_is_gathered_where_the_kernel_can_and_for_a_host_that_is_told(
    guest: FakeGuest, can: Capabilities
) -> None:
    assert not read(can).compacts
    guest.shows("/sys/devices/system/node/node0/compact", "")
    able = find_capabilities(guest.layout, own_pid=1)
    assert able.compaction
    assert guest.received("/sys/devices/system/node/node0/compact") == b""
    seen = read(msgspec.structs.replace(able, page_reporting=True))
    assert (seen.compacts, seen.reports) == (True, True)


@pytest.mark.parametrize(
    ("kernel", "anon_alone", "takes_swappiness"),
    [
        ("6.1.0-37-amd64", "200", False),
        ("6.8.12", "200", False),
        ("6.9.0", "200", True),
        ("6.13.1", "200", True),
        ("6.14.0", "after_file", True),
        ("6.15.9", "after_file", True),
        ("6.16.0", "max", True),
        ("7.0.1", "max", True),
        ("", "after_file", False),
    ],
)
def test_what_a_kernel_does_with_a_swappiness_is_known_by_its_release(
    can: Capabilities, kernel: str, anon_alone: str, *, takes_swappiness: bool
) -> None:
    seen = read(msgspec.structs.replace(can, kernel=kernel))
    assert (seen.anon_alone, seen.reclaim_takes_swappiness) == (anon_alone, takes_swappiness)


@pytest.mark.parametrize(
    ("lacks", "because"),
    [
        ({"cgroup_root": None}, "no cgroup v2 memory controller"),
        ({"memory_controller": False}, "no cgroup v2 memory controller"),
        ({"psi": "none"}, "no pressure stall information"),
        ({"rivals": ("DAMON_RECLAIM", "x")}, "DAMON_RECLAIM, x reclaims here"),
        ({"mglru": "absent"}, "no multi-gen LRU"),
        ({"mglru": "unreachable"}, "no multi-gen LRU"),
    ],
)
def test_what_is_missing_is_why_we_idle(
    can: Capabilities, lacks: dict[str, object], because: str
) -> None:
    found = idle(msgspec.structs.replace(can, **lacks))
    assert found is not None
    assert because in found


def test_beside_another_memreact_we_idle_whatever_the_rules_say(can: Capabilities) -> None:
    found = idle(can, replace(RULES, beside_others=True), alone=False)
    assert found == "another memreact runs in this guest"


def test_beside_other_reclaimers_we_work_if_told_to(can: Capabilities) -> None:
    rival = msgspec.structs.replace(can, rivals=("DAMON_RECLAIM",))
    assert idle(rival, replace(RULES, beside_others=True)) is None


def test_memory_reclaim_is_used_only_if_asked_for_and_there(can: Capabilities) -> None:
    asked = replace(RULES, reclaim_without_mglru=True)
    without = msgspec.structs.replace(can, mglru="absent")
    assert read(without, asked).evicts == "memory.reclaim"
    assert idle(without, asked) is None
    neither = msgspec.structs.replace(without, memory_reclaim=False)
    assert read(neither, asked).evicts == "nothing"
    assert read(can, asked).evicts == "mglru"


def test_slow_triggers_are_not_privileged(can: Capabilities) -> None:
    assert not read(msgspec.structs.replace(can, psi="slow")).privileged_psi


@pytest.mark.parametrize(
    ("lacks", "alone", "would"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"psi": "none"}, True, False),
        ({"rivals": ("DAMON_RECLAIM",)}, True, False),
        ({"memory_controller": False}, True, False),
        ({"mglru": "on"}, True, False),
        ({"mglru": "absent"}, True, False),
        ({"mglru": "unreachable"}, True, False),
    ],
)
def test_the_lru_is_switched_on_only_where_that_is_all_that_is_missing(
    can: Capabilities, lacks: dict[str, object], *, alone: bool, would: bool
) -> None:
    off = msgspec.structs.replace(can, **({"mglru": "off"} | lacks))
    assert would_switch_on(off, RULES, alone=alone) == would


def test_the_lru_is_not_switched_on_where_every_rule_is_disabled(can: Capabilities) -> None:
    off = msgspec.structs.replace(can, mglru="off")
    disabled = replace(RULES, base=replace(RULES.base, disabled=True))
    assert not would_switch_on(off, disabled, alone=True)


def switched(guest: FakeGuest, run_dir: RunDir) -> list[str]:
    lines: list[str] = []
    switch_on(guest.layout, run_dir, Journal(write=lines.append))
    return lines


def test_switching_on_is_told_and_remembered(guest: FakeGuest) -> None:
    full_guest(guest, mglru="0x0002\n")
    run_dir = RunDir(guest.path("/run/memreact"))
    run_dir.take_lock()
    assert switched(guest, run_dir) == ["lru_gen_switched_on before=0x0002\n"]
    assert guest.received(ENABLED).startswith(b"7")
    guest.shows(ENABLED, "0x0007\n")
    assert switched(guest, run_dir) == []
    assert run_dir.put_back(guest.layout).restored == [guest.layout.lru_gen_enabled]
    assert guest.received(ENABLED).startswith(b"0x0002")
    run_dir.release()


def test_what_could_never_be_put_back_is_not_switched_on(guest: FakeGuest) -> None:
    full_guest(guest, mglru="0x0002\n")
    run_dir = RunDir(guest.path("/run/memreact"))
    run_dir.take_lock()
    os.symlink("/dev/full", guest.path("/run/memreact/switched-on.new"))
    (line,) = switched(guest, run_dir)
    assert line.startswith("lru_gen_not_switched_on error=")
    assert guest.received(ENABLED) == b"0x0002\n"
    run_dir.release()


def test_a_switch_that_cannot_be_read_is_left_alone(guest: FakeGuest) -> None:
    full_guest(guest, mglru="perhaps\n")
    (line,) = switched(guest, RunDir(guest.path("/run/memreact")))
    assert line.startswith("lru_gen_not_switched_on error=")
    assert guest.received(ENABLED) == b"perhaps\n"


def test_lru_gen_is_opened_only_to_be_used(guest: FakeGuest, can: Capabilities) -> None:
    seen = read(can)
    ground, said = break_ground(guest.layout, "/own", seen)
    assert ground.lru_gen is not None
    assert said == seen
    ground.close()
    idle_too = msgspec.structs.replace(seen, idle_because="x")
    assert break_ground(guest.layout, "/own", idle_too)[0].lru_gen is None
    below = msgspec.structs.replace(seen, evicts="memory.reclaim")
    assert break_ground(guest.layout, "/own", below)[0].lru_gen is None


def test_where_lru_gen_cannot_be_opened_that_is_why_we_idle(
    guest: FakeGuest, can: Capabilities
) -> None:
    guest.loses(LRU_GEN)
    ground, said = break_ground(guest.layout, "/own", read(can))
    assert ground.lru_gen is None
    assert said.idle_because is not None
    assert guest.path(LRU_GEN) in said.idle_because


def test_folios_of_a_size_between_count_though_files_are_in_pages(
    guest: FakeGuest, can: Capabilities
) -> None:
    thp = "/sys/kernel/mm/transparent_hugepage"
    guest.shows(f"{thp}/enabled", "[always] madvise never\n")
    guest.shows(f"{thp}/shmem_enabled", "always within_size advise [never] deny force\n")
    guest.shows(f"{thp}/hpage_pmd_size", "2097152\n")
    guest.shows(f"{thp}/hugepages-64kB/enabled", "[always] inherit madvise never\n")
    guest.shows("/proc/self/mounts", "/dev/vda / ext4 rw 0 0\n")
    ground, _ = break_ground(
        guest.layout, "/own", msgspec.structs.replace(read(can), evicts="nothing")
    )
    assert ground.folios == (can.page_size, 64 << 10, 2 << 20)


def test_folios_are_pages_where_nothing_else_is_known(guest: FakeGuest, can: Capabilities) -> None:
    ground, _ = break_ground(
        guest.layout, "/own", msgspec.structs.replace(read(can), evicts="nothing")
    )
    assert min(ground.folios) >= can.page_size
