"""memreact-ctl on the host, through a hybrid socket as a guest's monitor has one, to the guest."""

from __future__ import annotations

import select
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from lab.hybrid import Bridge
from memreact_schemas import control
from memreact_schemas.config import DEFAULTS
from memreact_tools.address import UnixAddress, connect
from memreact_tools.ctl.varlink_client import call
from tests.official_openmetrics import families_of
from tests.system.control_guest import (
    Controlled,
    controlled,
    ctl_command,
    memreact_ctl,
    memreact_host,
)

VARLINK_PORT, TTRPC_PORT, METRICS_PORT = 1050, 1051, 1052
HYBRID_PORT = ("--hybrid-vsock-port", str(TTRPC_PORT))
HYBRID = ("--hybrid-vsock", *HYBRID_PORT)
U64_MAX = 2**64 - 1
PATIENCE_S = 30

Told = dict[str, Any]


class Host:
    """The host of one guest.

    Args:
        there: The guest.
        socket: Of its monitor.
    """

    def __init__(self, there: Controlled, socket: Path) -> None:
        self.there = there
        self.socket = socket

    def words(self, *words: str) -> list[str]:
        """A verb's words, with where the guest is."""
        return ["--address", f"unix:{self.socket}", "--hybrid-port", str(VARLINK_PORT), *words]

    def ctl(self, *words: str) -> str:
        """Do it, and return what people are told."""
        return memreact_ctl(*self.words(*words)).stdout

    def asked(self, *words: str) -> Told:
        """Do it, and return what programs are told."""
        return msgspec.json.decode(self.ctl(*words, "--json"), type=Told)

    def connect(
        self, *words: str, check: bool = True, stdin: str = "", hybrid: tuple[str, ...] = HYBRID
    ) -> subprocess.CompletedProcess[str]:
        """Do it in the words of Kata's agent-ctl."""
        address = ("--server-address", f"unix://{self.socket}")
        return memreact_ctl("connect", *address, *hybrid, *words, check=check, stdin=stdin)

    def call(self, method: str, parameters: Struct | None = None) -> Told:
        """Call a method without a command line."""
        address = UnixAddress(str(self.socket), hybrid_port=VARLINK_PORT)
        with connect(address, timeout_s=PATIENCE_S) as stream:
            answer = call(stream, f"io.memreact.{method}", parameters)
        return msgspec.json.decode(answer, type=Told)

    def push(self, table: str, key: str, value: object) -> None:
        """Put a value in force."""
        self.call("PatchSettings", control.PatchSettings(patch={table: {key: value}}))

    def settings(self) -> dict[str, Told]:
        """What is in force."""
        found: dict[str, Told] = self.call("GetSettings")["settings"]
        return found


@pytest.fixture(scope="module")
def host(package: Path) -> Iterator[Host]:
    """The host of a guest that lets loop-back in: by it the bridge comes."""
    with controlled(package) as there, Bridge(there.guest) as bridge:
        yield Host(there, bridge.path)


@pytest.fixture(autouse=True)
def as_it_was(host: Host) -> Iterator[None]:
    """Forget what a test pushed."""
    yield
    host.call("DropPushed")


def test_status_tells_of_the_guest_and_of_one_cgroup(host: Host) -> None:
    status = host.asked("status")["status"]
    assert status["cgroups_total"] > 1
    assert "/system.slice" in host.ctl("status", "--all")
    one = host.asked("status", "/system.slice")["status"]["cgroups"]
    assert one[0]["path"] == "/system.slice"
    assert one[0]["limits"]["current_bytes"] > 0


def test_set_get_unset_and_diff(host: Host) -> None:
    changed = host.asked("set", "memcg.swap=true", "memcg.period_secs=300")
    assert {each["key"]: each["after"] for each in changed["changed"]} == {
        "memcg.swap": "true",
        "memcg.period_secs": "300",
    }
    assert "300" in host.ctl("get", "memcg.period_secs")
    assert (host.settings()["memcg"]["swap"], host.settings()["memcg"]["period_secs"]) == (
        True,
        300,
    )
    assert "memcg.period_secs" in host.ctl("diff")
    host.ctl("unset", "memcg.period_secs")
    assert host.settings()["memcg"]["period_secs"] == DEFAULTS.memcg.period_secs
    assert "memcg.period_secs" not in host.ctl("diff")


def test_every_verb_tells_people_and_programs(host: Host) -> None:
    for words in (
        *(["status"], ["get"], ["doctor"], ["diff"], ["explain", "/"], ["log-level", "debug"]),
        *(["set", "memcg.swap=true"], ["unset", "memcg.swap"], ["pause", "60"], ["resume"]),
        *(["rule", "add", "/a.slice", "swap=true"], ["rule", "set", "/a.slice", "swap=false"]),
    ):
        assert host.ctl(*words, *(["--dry-run"] if "add" in words else []))
        told = msgspec.json.decode(host.ctl(*words, "--json"))
        assert isinstance(told, list if words == ["diff"] else dict)
    host.ctl("rule", "del", "/a.slice")
    assert host.settings()["log"]["level"] == "debug"


def test_a_dry_run_and_a_wrong_revision_change_nothing(host: Host) -> None:
    before = host.asked("get")
    assert host.asked("set", "--dry-run", "memcg.swap=true")["changed"][0]["after"] == "true"
    late = host.words("set", "--expect-revision", str(before["revision"] + 1), "memcg.swap=true")
    refused = memreact_ctl(*late, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert str(before["revision"]) in refused.stderr
    assert host.asked("get") == before


def test_a_misspelt_key_is_refused_and_the_near_one_named(host: Host) -> None:
    refused = memreact_ctl(*host.words("set", "memcg.perod_secs=5"), check=False)
    assert refused.returncode == 2
    assert "did you mean memcg.period_secs?" in refused.stderr


def test_rules_come_change_and_go(host: Host) -> None:
    def rule() -> Told | None:
        entries = host.settings()["memcg"]["cgroup"]
        return next((each for each in entries if each["path"] == "/test.slice"), None)

    host.ctl("rule", "add", "/test.slice", "swap=true")
    assert (found := rule()) is not None
    assert found["swap"] is True
    again = memreact_ctl(*host.words("rule", "add", "/test.slice", "swap=true"), check=False)
    assert again.returncode == 1
    host.ctl("rule", "set", "/test.slice", "period_secs=60")
    assert (found := rule()) is not None
    assert (found["swap"], found["period_secs"]) == (True, 60)
    host.ctl("rule", "del", "/test.slice")
    assert rule() is None


def test_pause_and_resume(host: Host) -> None:
    host.ctl("pause", "60", "--reason", "backup")
    hold = host.asked("status")["status"]["hold"]
    assert (hold["by"], hold["reason"]) == ("cid 1", "backup")
    refused = memreact_ctl(*host.words("run-now"), check=False)
    assert refused.returncode == 1
    host.ctl("resume")
    assert host.asked("status")["status"]["hold"] is None


def test_run_now_begins_a_turn_at_once(host: Host) -> None:
    def run(do: Callable[[str], object]) -> None:
        before = host.asked("status")["status"]["turns"]
        do("run-now")
        host.there.wait_for("GetStatus", lambda said: said["status"]["turns"] > before)

    # It would follow the first turn, and no other one begins while it lasts.
    host.push("compact", "disabled", value=True)
    run(host.ctl)
    run(host.asked)


def test_doctor_finds_what_it_finds_in_the_guest(host: Host) -> None:
    report = host.asked("doctor")["report"]
    assert report["capabilities"]["kernel"] == host.there.guest.release
    assert (report["idle_because"], report["reaches_host"]) == (None, True)
    assert host.there.guest.release in host.ctl("doctor")


def test_watch_prints_decisions_as_they_are_made(host: Host) -> None:
    words, environment = ctl_command(*host.words("watch", "--json"))
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE) as watching:
        try:
            host.there.wait_for("GetStatus", lambda said: said["status"]["subscribers"] == 1)
            host.ctl("run-now")
            assert watching.stdout is not None
            assert select.select([watching.stdout], [], [], PATIENCE_S)[0]
            item = msgspec.json.decode(watching.stdout.readline(), type=Told)
        finally:
            watching.kill()
    assert item["decision"]["number"] > 0
    host.there.wait_for("GetStatus", lambda said: said["status"]["subscribers"] == 0)


def test_memreact_top_shows_real_figures_of_the_guest_there_and_from_its_host(host: Host) -> None:
    words, environment = ctl_command(*host.words("--json", "-n", "2"))
    words[words.index("memreact_tools.ctl")] = "memreact_tools.top"
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, env=environment, timeout=60)
    first, last = (msgspec.json.decode(line, type=Told) for line in done.stdout.splitlines())
    total_kib = int(host.there.guest.run("awk '/^MemTotal/ {print $2}' /proc/meminfo").stdout)
    assert first["reading"]["total_bytes"] == total_kib << 10
    assert last["reading"]["own"]["rss_bytes"] > 10 << 20
    assert last["reading"]["at_us"] >= first["reading"]["at_us"]
    assert {"/", "/system.slice"} <= {each["path"] for each in last["status"]["cgroups"]}
    assert {each["path"] for each in last["uses"]} <= {
        each["path"] for each in last["status"]["cgroups"]
    }
    assert any(each["limits"]["current_bytes"] for each in last["uses"])
    printed = host.there.guest.run("memreact-top --batch -n 1").stdout
    assert "system.slice" in printed


def test_several_guests_are_asked_at_once_and_one_that_is_not_there_is_told(host: Host) -> None:
    nobody = f"hvsock:{host.socket}:7"
    address = f"hvsock:{host.socket}:{VARLINK_PORT}"
    told = memreact_ctl(
        *("--address", address, "--address", nobody, "--timeout", "2s"),
        *("set", "memcg.swap=true"),
        check=False,
    )
    assert told.returncode == 1
    assert "1 done, 1 failed" in told.stdout
    assert host.settings()["memcg"]["swap"] is True


def test_where_loop_back_is_not_let_in_the_client_is_told_so_and_the_next_one_is_served(
    host: Host,
) -> None:
    host.there.asked("PatchSettings", patch={"control": {"allow_guest": False}})
    refused = memreact_ctl(*host.words("get", "--timeout", "3s"), check=False)
    assert refused.returncode == 1
    host.there.asked("DropPushed")
    assert host.settings()["control"]["allow_guest"] is True


MEMCG_OPTIONS = {
    "disabled": True,
    "swap": True,
    "swappiness_max": 60,
    "period_secs": 300,
    "period_psi_percent_limit": 2,
    "eviction_psi_percent_limit": 3,
    "eviction_run_aging_count_min": 5,
}
COMPACT_OPTIONS = {
    "disabled": True,
    "period_secs": 301,
    "period_psi_percent_limit": 2,
    "compact_psi_percent_limit": 6,
    "compact_sec_max": -1,
    "compact_order": 9,
    "compact_threshold": 2048,
    "compact_force_times": U64_MAX,
}
OTHER = {"compact_order": "auto"}
OPTIONS = [
    *(("MemAgentMemcgSet", "memcg", key, value) for key, value in MEMCG_OPTIONS.items()),
    *(("MemAgentCompactSet", "compact", key, value) for key, value in COMPACT_OPTIONS.items()),
]


@pytest.mark.parametrize(
    ("command", "table", "key", "value"), OPTIONS, ids=[f"{row[1]}.{row[2]}" for row in OPTIONS]
)
def test_each_option_is_set_in_kata_s_words(
    host: Host, command: str, table: str, key: str, value: int
) -> None:
    host.push(table, key, not value if isinstance(value, bool) else OTHER.get(key, 1))
    said = msgspec.json.encode({key: value}).decode()
    host.connect("--cmd", f"{command} json://{said}")
    told = host.asked("get", f"{table}.{key}")
    assert told["settings"][table][key] == ("9" if key == "compact_order" else value)
    assert told["origins"][f"{table}.{key}"] == "pushed by cid 1"


@pytest.mark.parametrize(
    "hybrid",
    [
        (*HYBRID_PORT, "--hybrid-vsock"),
        (*HYBRID_PORT, "--hybrid-vsock", "true"),
        (*HYBRID_PORT, "--hybrid-vsock", "false"),
    ],
)
def test_hybrid_vsock_is_switched_on_with_and_without_a_value(
    host: Host, hybrid: tuple[str, ...]
) -> None:
    host.connect("--cmd", 'MemAgentMemcgSet json://{"disabled":true}', hybrid=hybrid)
    assert host.settings()["memcg"]["disabled"] is True


def test_a_message_comes_from_a_file(host: Host, tmp_path: Path) -> None:
    message = tmp_path / "m.json"
    message.write_text('{"swap":true,"swappiness_max":60}\n')
    host.connect("-c", f"MemAgentMemcgSet file://{message}")
    memcg = host.settings()["memcg"]
    assert (memcg["swap"], memcg["swappiness_max"]) == (True, 60)


def test_both_values_for_never_are_taken(host: Host) -> None:
    for never in (2**63 - 1, U64_MAX):
        host.connect("-c", f'MemAgentCompactSet json://{{"compact_force_times":{never}}}')
        assert host.settings()["compact"]["compact_force_times"] == never


def test_health_and_version_by_one_option_with_two_commands(host: Host) -> None:
    told = host.connect("--cmd", "Check", "Version", "--timeout", "5s").stdout.splitlines()
    assert told[0] == "Check: SERVING"
    assert told[1].startswith("Version: grpc 0.0.1, agent ")


def test_a_command_without_an_argument_changes_nothing(host: Host) -> None:
    before = host.asked("get")
    assert "done" in host.connect("--cmd", "MemAgentMemcgSet").stdout
    assert host.asked("get") == before


def test_the_list_of_commands_needs_nobody_to_connect_to() -> None:
    told = memreact_ctl("connect", "--server-address", "unix:///nowhere", "--cmd", "list").stdout
    assert {"MemAgentMemcgSet", "MemAgentCompactSet", "Check", "Version"} <= set(told.split())


def test_the_built_in_commands_go_on_in_order_until_quit(host: Host) -> None:
    commands = ("echo so far", "repeat 3", "Check", "sleep 10ms", "quit", "echo never")
    told = host.connect("--cmd", *commands).stdout.splitlines()
    assert told == ["so far", *["Check: SERVING"] * 3]


def test_the_first_error_ends_a_list_unless_errors_are_ignored(host: Host) -> None:
    commands = ("--cmd", "AddSwap", 'MemAgentMemcgSet json://{"swap":true}')
    failed = host.connect(*commands, check=False)
    assert failed.returncode == 1
    assert "AddSwap" in failed.stderr
    assert host.settings()["memcg"]["swap"] is False
    host.connect("--ignore-errors", "true", "--no-auto-values", "true", *commands)
    assert host.settings()["memcg"]["swap"] is True


def test_commands_are_typed_one_after_the_other(host: Host) -> None:
    typed = 'Check\nMemAgentMemcgSet json://{"swap":true}\nquit\n'
    told = host.connect("--interactive", "true", stdin=typed).stdout.splitlines()
    assert told == ["Check: SERVING", "MemAgentMemcgSet: done"]
    assert host.settings()["memcg"]["swap"] is True


def test_a_value_out_of_range_is_refused_by_the_guest(host: Host) -> None:
    refused = host.connect("-c", 'MemAgentMemcgSet json://{"swappiness_max":201}', check=False)
    assert refused.returncode == 1
    assert "memcg.swappiness_max: found 201" in refused.stderr


# ---- metrics -------------------------------------------------------------------------------------

SCRAPE = """
import socket, sys
tcp = sys.argv[1] == "tcp"
where = ("127.0.0.1", 9752) if tcp else "/run/memreact/metrics.sock"
with socket.socket(socket.AF_INET if tcp else socket.AF_UNIX) as stream:
    stream.connect(where)
    stream.sendall(b"GET /metrics HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    print(stream.makefile("rb").readline().decode())
"""


def scraped(host: Host, how: str, user: str) -> str:
    """The first line that a user of the guest is answered with, or nothing."""
    as_user = ["/sbin/runuser", "-u", user, "--", "/usr/bin/python3", "-c", SCRAPE, how]
    return host.there.guest.run(as_user, check=False).stdout.strip()


def gathered(host: Host) -> dict[tuple[str, ...], float]:
    """What memreact-host gathers, by name and labels but for the guest's."""
    text = memreact_host("metrics", "--once", f"shop=hvsock:{host.socket}:{METRICS_PORT}")
    samples = [sample for family in families_of(text) for sample in family.samples]
    assert {sample.labels["guest"] for sample in samples} == {"shop"}
    return {
        (s.name, *(value for name, value in s.labels.items() if name != "guest")): s.value
        for s in samples
    }


def test_the_metrics_that_the_host_gathers_are_the_figures_of_status(host: Host) -> None:
    status = host.asked("status", "--ledger")["status"]
    found, ledger = gathered(host), status["ledger"]
    assert found["memreact_up",] == 1
    for name in ("free_bytes", "reportable_bytes", "reported_bytes"):
        assert found[f"memreact_{name}",] == ledger[name], name
    assert found["memreact_guest_memory_bytes",] == ledger["total_bytes"]
    for cause, size in ledger["free_held_bytes"].items():
        assert found["memreact_free_held_bytes", cause] == size
    named = {key[1] for key in found if key[0] == "memreact_cgroup_cold_bytes"}
    assert {each["path"] for each in status["cgroups"]} <= named
    for each in status["cgroups"]:
        own = each["counters"]
        assert found["memreact_cgroup_agings_total", each["path"]] == own["agings"]
        evicted = found["memreact_cgroup_evicted_bytes_total", each["path"]]
        assert evicted == own["evicted_bytes"]
    assert found["memreact_resident_bytes",] > found["memreact_resident_anon_bytes",] > 8 << 20
    assert found["memreact_wakeups_total",] > 0


def test_who_may_read_metrics_in_the_guest(host: Host) -> None:
    assert scraped(host, "unix", "reader") == "HTTP/1.1 200 OK"
    assert scraped(host, "unix", "stranger") == ""


def test_localhost_is_served_where_the_unit_lets_it(host: Host) -> None:
    host.ctl("set", "control.metrics_tcp_port=9752")
    warnings = host.asked("status")["status"]["warnings"]
    assert [each for each in warnings if "no AF_INET" in each]
    assert scraped(host, "tcp", "stranger") == ""
    drop_in = b"[Service]\nRestrictAddressFamilies=AF_INET\nIPAddressAllow=localhost\n"
    folder = "/run/systemd/system/memreact.service.d"
    host.there.guest.put_bytes(drop_in, f"{folder}/metrics.conf")
    host.there.guest.run("systemctl daemon-reload && systemctl restart memreact")
    try:
        assert scraped(host, "tcp", "stranger") == "HTTP/1.1 200 OK"
    finally:
        host.there.guest.run(f"rm {folder}/metrics.conf && systemctl daemon-reload")
