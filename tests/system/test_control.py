"""memreact as it is called in its guest: by varlinkctl, by a Go client, by other users."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from lab.errors import CommandFailed
from lab.workload import Cgroup, Workload
from memreact.actions import BreakOff, Evict
from memreact.events import RulesChanged
from memreact.telemetry.trace import Entry
from tests.system.conftest import Programs
from tests.system.control_guest import HERE, VSOCK, Answered, Controlled, controlled
from tests.system.go_client import Answer
from tests.system.service import batches, turns

IDL = "/usr/lib/python3/dist-packages/memreact_schemas/{}.varlink"
INTERFACES = ("io.memreact", "org.varlink.service")
METHOD = re.compile(r"^method (\w+)", re.MULTILINE)
AGENTS = ("unix:/run/memreact/agent.sock", "vsock:1:1051")
MEMCG_SET = "grpc.AgentService/MemAgentMemcgSet"
COMPACT_SET = "grpc.AgentService/MemAgentCompactSet"
PERMISSION_DENIED = "org.varlink.service.PermissionDenied"
READER_DENIED = 7
COLD_MIB = 400
MIB = 1 << 20
TRIES = 3
SECONDS = 1_000_000


@pytest.fixture(scope="module")
def there(package: Path) -> Iterator[Controlled]:
    """The guest."""
    with controlled(package) as made:
        yield made


@pytest.fixture(autouse=True)
def as_it_was(there: Controlled) -> Iterator[None]:
    """Forget what a test pushed."""
    yield
    there.asked("DropPushed")


@pytest.fixture(params=[HERE, VSOCK], ids=["unix", "vsock"])
def address(request: pytest.FixtureRequest) -> str:
    """Each way for varlinkctl to get there."""
    found: str = request.param
    return found


@pytest.fixture(params=AGENTS, ids=["unix", "vsock"])
def agent(request: pytest.FixtureRequest) -> str:
    """Each way to Kata's calls."""
    found: str = request.param
    return found


@pytest.mark.parametrize("interface", INTERFACES)
def test_varlinkctl_finds_the_idl_valid(there: Controlled, interface: str) -> None:
    assert there.varlinkctl("validate-idl", IDL.format(interface)).code == 0


def test_varlinkctl_is_told_who_serves_and_what(there: Controlled, address: str) -> None:
    told = there.varlinkctl("-j", "info", address).stdout
    info = msgspec.json.decode(told, type=dict[str, str | list[str]])
    assert info["product"] == "memreact"
    assert sorted(info["interfaces"]) == sorted(INTERFACES)


@pytest.mark.parametrize("interface", INTERFACES)
def test_varlinkctl_introspects_every_method(
    there: Controlled, address: str, interface: str
) -> None:
    committed = there.guest.get(IDL.format(interface)).decode()
    told = there.varlinkctl("introspect", address, interface).stdout
    assert sorted(METHOD.findall(told)) == sorted(METHOD.findall(committed))
    again = there.varlinkctl("validate-idl", stdin=told.encode(), check=False)
    assert again.code == 0, again.stderr


def test_varlinkctl_changes_settings_and_sees_them(there: Controlled, address: str) -> None:
    before = there.asked("GetSettings", address)
    patch = {"memcg": {"swap": True, "period_secs": 300}}
    answer = there.asked("PatchSettings", address, patch=patch)
    assert answer["revision"] == before["revision"] + 1
    assert [each["key"] for each in answer["changed"]] == ["memcg.swap", "memcg.period_secs"]
    after = there.asked("GetSettings", address)
    assert (after["settings"]["memcg"]["swap"], after["revision"]) == (True, answer["revision"])
    who = "root" if address == HERE else "cid 1"
    assert after["origins"]["memcg.period_secs"] == f"pushed by {who}"


def test_varlinkctl_is_told_what_is_wrong(there: Controlled, address: str) -> None:
    said = '{"patch":{"memcg":{"swap":true,"swappiness_max":201}}}'
    refused = there.varlinkctl("call", address, "io.memreact.PatchSettings", said, check=False)
    assert refused.code != 0
    assert "io.memreact.SettingsRefused" in refused.stderr
    assert "memcg.swappiness_max" in refused.stdout + refused.stderr
    assert there.in_force("memcg.swap") is False


def test_varlinkctl_follows_decisions_as_they_are_made(there: Controlled, address: str) -> None:
    followed = "/run/followed.json"
    follow = there.guest.start(
        f"MEMREACT_ADDRESS=vsock:1:1050 exec varlinkctl -j --more call {address} "
        f"io.memreact.Watch '{{\"status\":true}}' > {followed}"
    )
    there.wait_for("GetStatus", lambda said: said["status"]["subscribers"] == 1)
    there.asked("RunNow")
    there.wait_for("GetStatus", lambda _: _last_number(there.guest.get(followed)) > 0)
    assert follow.poll() is None
    follow.kill("TERM")
    said = there.wait_for("GetStatus", lambda said: said["status"]["subscribers"] == 0)
    rows = _rows(there.guest.get(followed))
    assert said["status"]["dropped"] == 0
    assert [row for row in rows if row["status"]]
    numbers = [row["decision"]["number"] for row in rows if row["decision"]]
    assert numbers == [*range(numbers[0], numbers[-1] + 1)]


def _rows(printed: bytes) -> list[Answered]:
    """Decode what varlinkctl printed, RFC 7464's separators left out, to its last whole line."""
    lines = printed[: printed.rfind(b"\n") + 1].replace(b"\x1e", b"").splitlines()
    return [msgspec.json.decode(line, type=Answered) for line in lines]


def _last_number(printed: bytes) -> int:
    numbers = [row["decision"]["number"] for row in _rows(printed) if row["decision"]]
    return max(numbers, default=0)


def test_the_go_client_sets_and_asks_as_katas_does(there: Controlled, agent: str) -> None:
    answers = there.go(
        agent,
        f'{MEMCG_SET}={{"swap":true,"swappiness_max":60}}',
        f'{COMPACT_SET}={{"compact_sec_max":"-1","compact_force_times":"18446744073709551615"}}',
        "grpc.Health/Check",
        "grpc.Health/Version",
        "grpc.AgentService/NoSuch",
        'grpc.AgentService/AddSwap={"PCIPath":[30]}',
        f'{MEMCG_SET}={{"swappiness_max":201}}',
    )
    assert answers[:3] == [
        Answer(MEMCG_SET, 0, "", {}),
        Answer(COMPACT_SET, 0, "", {}),
        Answer("grpc.Health/Check", 0, "", {"status": 1}),
    ]
    assert answers[3].answer["grpc_version"] == "0.0.1"
    assert (answers[4].code, answers[4].message) == (12, "NoSuch method")
    assert answers[5].code == 13
    assert "PCI path 1e" in answers[5].message
    assert answers[6].code == 3
    settings = there.asked("GetSettings")["settings"]
    assert (settings["memcg"]["swap"], settings["memcg"]["swappiness_max"]) == (True, 60)
    assert settings["compact"]["compact_sec_max"] == -1
    who = "root" if agent.startswith("unix") else "cid 1"
    assert there.origin("compact.compact_sec_max") == f"pushed by {who}"


def test_processes_of_the_guest_are_closed_out_of_vsock_unless_settings_let_them(
    there: Controlled,
) -> None:
    there.asked("PatchSettings", patch={"control": {"allow_guest": False}})
    with pytest.raises(CommandFailed):
        there.go(AGENTS[1], "grpc.Health/Check")
    assert there.varlinkctl("info", VSOCK, check=False).code != 0
    assert 'refused peer="cid 1" verb=connect' in there.journal()
    there.asked("DropPushed")
    assert [each.code for each in there.go(AGENTS[1], "grpc.Health/Check")] == [0]


def test_a_member_of_the_group_reads_and_changes_nothing(there: Controlled) -> None:
    told = there.varlinkctl("-j", "call", HERE, "io.memreact.GetStatus", "{}", user="reader")
    assert msgspec.json.decode(told.stdout)["status"]["version"]
    for call in ('PatchSettings {"patch":{"memcg":{"swap":true}}}', "RunNow {}"):
        method, _, said = call.partition(" ")
        called = ("call", HERE, f"io.memreact.{method}", said)
        refused = there.varlinkctl(*called, user="reader", check=False)
        assert PERMISSION_DENIED in refused.stderr
        assert re.search(rf'refused peer="uid \d+" verb=\S*{method} ', there.journal())
    check, refused_set = there.go(
        AGENTS[0], "grpc.Health/Check", f'{MEMCG_SET}={{"swap":true}}', user="reader"
    )
    assert (check.code, refused_set.code) == (0, READER_DENIED)
    assert there.in_force("memcg.swap") is False


def test_anybody_else_is_not_let_in(there: Controlled) -> None:
    assert there.varlinkctl("info", HERE, user="stranger", check=False).code != 0
    with pytest.raises(CommandFailed):
        there.go(AGENTS[0], "grpc.Health/Check", user="stranger")


def test_disabling_over_vsock_breaks_off_the_eviction_that_runs(there: Controlled) -> None:
    outcomes: set[str] = set()
    for _ in range(TRIES):  # between two writes there is nothing to break off
        cgroup = Cgroup(there.guest, "/test.slice/one")
        told, after = _disabled_in_mid_eviction(there, cgroup)
        cgroup.remove()
        outcomes |= {one.outcome for one in batches(after, cgroup.path)}
        assert not [each for entry in after for each in entry.actions if isinstance(each, Evict)]
        assert told["before_bytes"] >= 256 * MIB
        assert told["after_bytes"] > told["before_bytes"] // 10
        if outcomes:
            assert BreakOff() in after[0].actions
            break
    assert outcomes == {"broken_off"}


def _disabled_in_mid_eviction(
    there: Controlled, cgroup: Cgroup
) -> tuple[dict[str, int], list[Entry]]:
    """Disable as soon as much cold memory begins to go; what went, and the trace from then on."""
    there.fresh()
    Workload(cgroup, "cold_files", str(COLD_MIB))
    disable = {"patch": {"memcg": {"disabled": True}}}
    frame = msgspec.json.encode({"method": "io.memreact.PatchSettings", "parameters": disable})
    acting = Programs(there.guest).start(
        "when_it_shrinks", cgroup.folder, "call", "vsock:1:1050", frame.decode()
    )
    there.guest.run("until [ -e /run/watching ]; do sleep 0.05; done; rm /run/watching")
    there.asked("PatchSettings", patch={"memcg": {"period_secs": 2}})
    told = msgspec.json.decode(acting.wait(90).stdout, type=dict[str, int])
    return told, _after_the_last_change_of_rules(there.service.trace())


def _after_the_last_change_of_rules(trace: list[Entry]) -> list[Entry]:
    changes = [at for at, entry in enumerate(trace) if isinstance(entry.event, RulesChanged)]
    return trace[changes[-1] :]


def test_a_shorter_period_moves_the_timer(there: Controlled) -> None:
    there.fresh()
    there.asked("PatchSettings", VSOCK, patch={"memcg": {"period_secs": 36_000}})
    before = there.wait_for("GetStatus", lambda said: said["status"]["doing"] == "resting")
    status = before["status"]
    assert status["next_turn_at_us"] - status["now_us"] > 10 * SECONDS
    begun = len(turns(there.service.trace()))
    there.asked("PatchSettings", VSOCK, patch={"memcg": {"period_secs": 3}})
    status = there.asked("GetStatus")["status"]
    assert status["next_turn_at_us"] is None or (
        status["next_turn_at_us"] - status["now_us"] <= 3 * SECONDS
    )
    there.service.wait_turns(begun + 2)
