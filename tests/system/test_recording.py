"""Turns of a real guest, recorded, and decided again on the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.guest import Guest
from lab.workload import Cgroup, Workload
from memreact.replay.command import Reading
from memreact.replay.moments import moments
from memreact.replay.verify import Replayed, verify
from memreact_schemas.recording import opened, read_lines
from tests.system.service import RecordProperty, Service, turns

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
