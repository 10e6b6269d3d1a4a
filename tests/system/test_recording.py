"""Turns of a real guest recorded, decided again on the host, and foreseen for other settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from lab.guest import Guest
from lab.workload import Cgroup, Workload
from memreact.replay.command import Reading
from memreact.replay.moments import moments
from memreact.replay.verify import Replayed, verify
from memreact_schemas.recording import opened, read_lines
from tests.system.service import RecordProperty, Service, turns

MIB = 1 << 20
SETTINGS = "[memcg]\nperiod_secs = 5\n[log]\nlevel = 'debug'\n"
RECORDED_S = 30


@pytest.fixture(scope="module")
def service(debian: Guest) -> Service:
    """The service of that guest, stopped."""
    return Service(debian)


def fetched(guest: Guest, path: str, to: Path) -> Path:
    """Copy a file of the guest."""
    to.write_bytes(guest.get(path))
    return to


def replayed(path: Path) -> Replayed:
    """Decide it again, here."""
    reading = Reading()
    with opened(str(path)) as file:
        done = verify(moments(reading.lines(read_lines(file))))
    assert reading.cut is None
    return done


def test_what_was_recorded_while_turns_ran_is_decided_again_on_the_host(
    service: Service, cgroup: Cgroup, tmp_path: Path, record_property: RecordProperty
) -> None:
    guest = service.guest
    Workload(cgroup, "cold_files", "150")
    sibling = Cgroup(guest, "/test.slice/steady")
    Workload(sibling, "steady_io", "--percent", "4")
    service.start(SETTINGS)
    service.wait_turns(1)
    words = ["/usr/bin/memreact-ctl", "record", "-o", "/run/r.jsonl.gz"]
    guest.run([*words, "--for", f"{RECORDED_S}s", "--status-every", "5s"], timeout_s=90)
    guest.run(["/usr/bin/memreact-ctl", "record", "--flight", "-o", "/run/f.jsonl"])
    count = len(turns(service.trace()))
    service.stop()
    sibling.remove()
    record_property("turns", count)
    for name in ("r.jsonl.gz", "f.jsonl"):
        file = fetched(guest, f"/run/{name}", tmp_path / name)
        done = replayed(file)
        record_property(
            f"{name}: bytes, steps, decisions", [file.stat().st_size, done.steps, done.decisions]
        )
        assert done.difference is None
        assert done.steps > 20
        assert done.decisions > 5
    guest.run("rm /run/r.jsonl.gz /run/f.jsonl")


def what_if(guest: Guest, *pairs: str) -> dict[str, Any]:
    """Ask for what other settings would come to."""
    told = guest.run(["/usr/bin/memreact-ctl", "--json", "what-if", *pairs]).stdout
    found: dict[str, Any] = msgspec.json.decode(told)
    return found


def test_three_what_ifs_on_a_live_guest_are_told_and_touch_nothing(
    service: Service, cgroup: Cgroup, record_property: RecordProperty
) -> None:
    guest = service.guest
    kept = Cgroup(guest, "/test.slice/kept")
    kept.set("memory.low", "1G")
    Workload(cgroup, "cold_anon", "64")
    Workload(kept, "cold_files", "100")
    service.start(SETTINGS)
    service.wait_turns(8)  # touched before the first, it is in use up to the second
    before = cgroup.number("memory.stat", "anon")
    answers = [
        what_if(guest, pair)
        for pair in (
            "memcg.swap=true",
            "memcg.eviction_run_aging_count_min=1",
            "memcg.disabled=true",
        )
    ]
    for answer in answers:
        now, then = answer["now"], answer["then"]
        record_property(
            answer["changed"][0]["key"],
            f"{now['at_most_bytes'] / MIB:.1f} MiB now, {then['at_most_bytes'] / MIB:.1f} MiB "
            f"then, of it {then['anon_bytes'] / MIB:.1f} anonymous, in {then['took_us'] / 1e6:.2f} "
            f"s; protection forbids {then['protected_bytes'] / MIB:.1f} MiB; "
            f"refused: {then.get('refused')}",
        )
    assert cgroup.number("memory.stat", "anon") > before - MIB
    words = ["/usr/bin/memreact-ctl", "what-if", "memcg.swap=true"]
    record_property("as people see it", "\n" + guest.run(words).stdout)
    row = next(each for each in answers[0]["cgroups"] if each["path"] == cgroup.path)
    guest.run(["/usr/bin/memreact-ctl", "set", "memcg.swap=true"])
    count = len(turns(service.trace()))
    service.wait_turns(count + 3)
    service.stop()
    gone = before - cgroup.number("memory.stat", "anon")
    record_property("MiB of it that went when it was set", gone / MIB)
    kept.remove()
    assert row["then_anon_bytes"] > 40 * MIB
    assert gone > 40 * MIB
    assert answers[0]["then"]["protected_bytes"] > 50 * MIB
    assert answers[2]["then"]["refused"] == "disabled"
