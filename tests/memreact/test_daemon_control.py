"""The daemon as its callers meet it: over its own sockets, while it runs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from memreact.events import RulesChanged
from tests.fake_guest import FakeGuest
from tests.memreact.full_guest import full_guest
from tests.memreact.test_daemon import BUSY, LOOPS, PATIENCE_S, UNHEARD, Running

SLOW = BUSY.replace("period_secs = 1\n", "period_secs = 3600\n")
Start = Callable[..., Running]


@pytest.fixture
def guest() -> Iterator[FakeGuest]:
    """A guest below a short path: the name of a unix socket has 107 bytes."""
    root = tempfile.mkdtemp(prefix="m", dir="/tmp")
    yield full_guest(FakeGuest(root))
    shutil.rmtree(root)


@pytest.fixture(params=LOOPS)
def start(request: pytest.FixtureRequest, guest: FakeGuest) -> Iterator[Start]:
    """Start a daemon on one of the two loops."""
    started: list[Running] = []

    def running(settings: str = SLOW) -> Running:
        with suppress(FileNotFoundError):
            os.unlink(guest.path("/notify"))  # of the one before
        started.append(Running(guest, settings, request.param))
        started[-1].hears("READY=1")
        return started[-1]

    yield running
    for one in started:
        one.close()


class Caller:
    """A connection to io.memreact."""

    def __init__(self, guest: FakeGuest) -> None:
        self._stream = socket.socket(socket.AF_UNIX)
        self._stream.settimeout(PATIENCE_S)
        self._stream.connect(guest.path("/run/memreact/io.memreact"))
        self._heard = b""

    def asks(self, method: str, *, more: bool = False, **parameters: object) -> dict[str, Any]:
        """Call a method and give the first answer's parameters."""
        self._call(method, more, parameters)
        return self.hears()

    def fails(self, method: str, *, more: bool = False, **parameters: object) -> dict[str, Any]:
        """Call a method and give the error that it answers with."""
        self._call(method, more, parameters)
        answer = self._answer()
        assert "error" in answer, answer
        return answer

    def hears(self) -> dict[str, Any]:
        """Give the next answer's parameters."""
        answer = self._answer()
        assert "error" not in answer, answer
        parameters: dict[str, Any] = answer.get("parameters", {})
        return parameters

    def _call(self, method: str, more: bool, parameters: dict[str, object]) -> None:  # noqa: FBT001
        call = {"method": f"io.memreact.{method}", "parameters": parameters, "more": more}
        self._stream.sendall(msgspec.json.encode(call) + b"\0")

    def _answer(self) -> dict[str, Any]:
        while b"\0" not in self._heard:
            data = self._stream.recv(1 << 16)
            assert data, "the daemon hung up"
            self._heard += data
        frame, _, self._heard = self._heard.partition(b"\0")
        answer: dict[str, Any] = msgspec.json.decode(frame)
        return answer

    def close(self) -> None:
        """Hang up."""
        self._stream.close()


@pytest.fixture
def call(guest: FakeGuest) -> Iterator[Callable[[], Caller]]:
    """Connect to the daemon."""
    callers: list[Caller] = []

    def connected() -> Caller:
        callers.append(Caller(guest))
        return callers[-1]

    yield connected
    for caller in callers:
        caller.close()


Call = Callable[[], Caller]


def test_a_push_is_in_force_when_it_is_answered(start: Start, call: Call) -> None:
    daemon, caller = start(), call()
    told = caller.asks("PatchSettings", patch={"memcg": {"disabled": True}})
    assert (told["revision"], told["changed"][0]["key"]) == (2, "memcg.disabled")
    assert caller.asks("GetStatus")["status"]["next_turn_at_us"] is None
    assert daemon.ends()[0] == 0
    assert RulesChanged(2) in [entry.event for entry in daemon.entries()]


def test_a_push_outlives_a_crash_of_the_daemon(start: Start, call: Call) -> None:
    daemon = start()
    call().asks("PatchSettings", patch={"memcg": {"swap": False, "swappiness_max": 7}})
    daemon.ends(signal.SIGKILL)
    start()
    told = call().asks("GetSettings")
    assert told["settings"]["memcg"]["swappiness_max"] == 7
    assert told["origins"]["memcg.swappiness_max"] == "pushed by root"
    assert told["revision"] > 2


def test_a_push_that_is_not_on_disk_shows_until_a_turn_could_write_it(
    guest: FakeGuest, start: Start, call: Call
) -> None:
    daemon, caller = start(), call()
    in_the_way = guest.path("/run/memreact/pushed.new")
    os.mkdir(in_the_way)
    caller.asks("PatchSettings", patch={"memcg": {"swappiness_max": 7}})
    assert "Is a directory" in caller.asks("GetStatus")["status"]["unsaved"]
    os.rmdir(in_the_way)
    caller.asks("RunNow")
    gives_up_at = time.monotonic() + PATIENCE_S
    while caller.asks("GetStatus", cgroups=False)["status"]["unsaved"] is not None:
        assert time.monotonic() < gives_up_at
    _, told = daemon.ends(signal.SIGKILL)
    assert [line.split()[0] for line in told.splitlines() if "_saved" in line] == [
        "settings_not_saved",
        "settings_saved",
    ]
    start()
    assert call().asks("GetSettings")["settings"]["memcg"]["swappiness_max"] == 7


def test_a_file_that_changed_is_in_force_without_a_signal(
    guest: FakeGuest, start: Start, call: Call
) -> None:
    start()
    guest.shows("/etc/mine.toml", SLOW.replace("3600", "1800") + UNHEARD)
    caller, gives_up_at = call(), time.monotonic() + PATIENCE_S
    while caller.asks("GetSettings")["settings"]["memcg"]["period_secs"] != 1800:
        assert time.monotonic() < gives_up_at


def test_a_bad_file_shows_in_status_and_changes_nothing(
    guest: FakeGuest, start: Start, call: Call
) -> None:
    start()
    guest.shows("/etc/mine.toml", "[memcg]\nperiod_secs = 0\n")
    caller, gives_up_at = call(), time.monotonic() + PATIENCE_S
    while (problem := caller.asks("GetStatus")["status"]["problem"]) is None:
        assert time.monotonic() < gives_up_at
    assert "mine.toml:2" in problem
    assert caller.asks("GetSettings")["settings"]["memcg"]["period_secs"] == 3600


def test_a_louder_log_leaves_work_alone(start: Start, call: Call) -> None:
    daemon = start()
    assert call().asks("SetLogLevel", level="debug")["revision"] == 2
    daemon.ends()
    assert not [entry for entry in daemon.entries() if isinstance(entry.event, RulesChanged)]


def test_decisions_are_followed(start: Start, call: Call) -> None:
    start()
    follower = call()
    assert follower.asks("Watch", more=True, status=True)["status"]["version"]
    call().asks("PatchSettings", patch={"memcg": {"period_secs": 7200}})
    while (told := follower.hears())["decision"] is None:
        pass
    assert told["decision"]["because"] == "rules_changed"


def test_a_hold_is_seen_and_ends_when_it_is_asked_to(start: Start, call: Call) -> None:
    start()
    caller = call()
    caller.asks("Pause", seconds=600, reason="a backup")
    assert caller.asks("GetStatus")["status"]["hold"]["reason"] == "a backup"
    caller.asks("Resume")
    assert caller.asks("GetStatus")["status"]["hold"] is None


def test_a_turn_can_be_asked_for(start: Start, call: Call) -> None:
    daemon, caller = start(), call()
    caller.asks("RunNow")
    gives_up_at = time.monotonic() + PATIENCE_S
    while not caller.asks("GetStatus", cgroups=False)["status"]["turns"]:
        assert time.monotonic() < gives_up_at
    assert daemon.ends()[0] == 0


def test_doctor_is_the_doctor_of_this_guest(start: Start, call: Call) -> None:
    start()
    report = call().asks("GetDoctor")["report"]
    assert {finding["job"] for finding in report["findings"]} >= {"evict it", "return to host"}


def test_a_cgroup_is_explained(start: Start, call: Call) -> None:
    daemon, caller = start(), call()
    caller.asks("RunNow")
    gives_up_at = time.monotonic() + PATIENCE_S
    while not caller.asks("GetStatus", cgroups=False)["status"]["turns"]:
        assert time.monotonic() < gives_up_at
    told = caller.asks("Explain", path="/shop")["explanation"]
    assert told["cgroup"]["path"] == "/shop"
    assert {each["key"]: each["origin"] for each in told["settings"]}["period_secs"].endswith(
        "mine.toml"
    )
    assert told["decisions"][-1]["verdict"] == "turn"
    assert {"next_turn", "in_use"} <= {each["because"] for each in told["obstacles"]}
    assert told["harm"]["total"] is not None or told["harm"]["missing"]
    answer = caller.fails("Explain", path="/nobody")
    assert answer["parameters"]["why"] == "no_such_cgroup: /nobody"
    assert daemon.ends()[0] == 0


def test_the_sockets_are_gone_after_the_end(guest: FakeGuest, start: Start) -> None:
    daemon = start()
    assert os.path.exists(guest.path("/run/memreact/agent.sock"))
    daemon.ends()
    assert not os.path.exists(guest.path("/run/memreact/agent.sock"))
    assert not os.path.exists(guest.path("/run/memreact/io.memreact"))


def test_a_look_tells_of_the_cgroups_that_exist_alone(start: Start, call: Call) -> None:
    start()
    told = call().asks("Look", paths=["/shop", "/no-such", "/é"])["reading"]
    assert [each["path"] for each in told["cgroups"]] == ["/shop"]
    assert told["cgroups"][0]["limits"]["current_bytes"] == 100 << 20
    assert told["cgroups_total"] >= 2
    assert told["total_bytes"] > 0
