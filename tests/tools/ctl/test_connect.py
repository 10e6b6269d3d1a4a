from __future__ import annotations

import io
import json
import os
import shlex
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from memreact_schemas.agent import (
    KeyValue,
    MemAgentCompactConfig,
    MemAgentMemcgConfig,
    Status,
)
from memreact_tools.ctl.__main__ import main
from memreact_tools.ctl.ttrpc_client import BrokenConnection, Client
from tests.tools.ctl.doubles import START, AgentDouble
from tests.tools.servers import monitor, serving

AUTO_VALUES = (KeyValue(key="agent-ctl-cfg", value="auto-values"),)


def _messages(double: AgentDouble) -> list[object]:
    return [message for _, message in double.calls]


def _methods(double: AgentDouble) -> list[str]:
    return [f"{request.service}/{request.method}" for request, _ in double.calls]


# Every option that can be changed while a container runs, as the how-to has it.
SEEDS: list[tuple[str, Struct]] = [
    ('MemAgentMemcgSet json://{"disabled":true}', MemAgentMemcgConfig(disabled=True)),
    ('MemAgentMemcgSet json://{"swap":true}', MemAgentMemcgConfig(swap=True)),
    ('MemAgentMemcgSet json://{"swappiness_max":50}', MemAgentMemcgConfig(swappiness_max=50)),
    ('MemAgentMemcgSet json://{"period_secs":600}', MemAgentMemcgConfig(period_secs=600)),
    (
        'MemAgentMemcgSet json://{"period_psi_percent_limit":1}',
        MemAgentMemcgConfig(period_psi_percent_limit=1),
    ),
    (
        'MemAgentMemcgSet json://{"eviction_psi_percent_limit":1}',
        MemAgentMemcgConfig(eviction_psi_percent_limit=1),
    ),
    (
        'MemAgentMemcgSet json://{"eviction_run_aging_count_min":3}',
        MemAgentMemcgConfig(eviction_run_aging_count_min=3),
    ),
    ('MemAgentCompactSet json://{"disabled":false}', MemAgentCompactConfig(disabled=False)),
    ('MemAgentCompactSet json://{"period_secs":600}', MemAgentCompactConfig(period_secs=600)),
    (
        'MemAgentCompactSet json://{"period_psi_percent_limit":1}',
        MemAgentCompactConfig(period_psi_percent_limit=1),
    ),
    (
        'MemAgentCompactSet json://{"compact_psi_percent_limit":5}',
        MemAgentCompactConfig(compact_psi_percent_limit=5),
    ),
    (
        'MemAgentCompactSet json://{"compact_sec_max":180}',
        MemAgentCompactConfig(compact_sec_max=180),
    ),
    ('MemAgentCompactSet json://{"compact_order":9}', MemAgentCompactConfig(compact_order=9)),
    (
        'MemAgentCompactSet json://{"compact_threshold":1024}',
        MemAgentCompactConfig(compact_threshold=1024),
    ),
    (
        'MemAgentCompactSet json://{"compact_force_times":18446744073709551615}',
        MemAgentCompactConfig(compact_force_times=2**64 - 1),
    ),
    (
        'MemAgentMemcgSet json://{"swap":true,"swappiness_max":60}',
        MemAgentMemcgConfig(swap=True, swappiness_max=60),
    ),
    ("MemAgentMemcgSet", MemAgentMemcgConfig()),
]


@pytest.mark.parametrize(
    "switch", ["--hybrid-vsock", "--hybrid-vsock true", "--hybrid-vsock false"]
)
@pytest.mark.parametrize(("command", "message"), SEEDS, ids=[command for command, _ in SEEDS])
def test_the_how_tos_lines_work_as_they_stand(
    command: str, message: Struct, switch: str, tmp_path: Path
) -> None:
    line = f"connect --server-address \"unix://{tmp_path}/kata.hvsock\" {switch} --cmd '{command}'"
    double = AgentDouble()
    with serving(tmp_path / "kata.hvsock", monitor(double, 1024)):
        assert main(shlex.split(line)) == 0
    assert _messages(double) == [message]
    (request, _) = double.calls[0]
    assert request.service == "grpc.AgentService"
    assert request.metadata == AUTO_VALUES
    assert request.timeout_nano == 0


LINES: list[tuple[str, list[str], str]] = [
    ("--cmd Check Version", ["Check", "Version"], "Check: SERVING\nVersion: grpc 0.0.1, agent 9\n"),
    ("--cmd Check --cmd Version", ["Check", "Version"], "Check: SERVING\n"),
    ("-c Check", ["Check"], "Check: SERVING\n"),
    ("--cmd list", [], "MemAgentMemcgSet\nMemAgentCompactSet\n"),
    ("--cmd help", [], "MemAgentMemcgSet\n"),
    ("--cmd 'echo a b'", [], "a b\n"),
    ("--cmd 'repeat 3' Check", ["Check"] * 3, "Check: SERVING\n" * 3),
    ("--cmd Check quit Version", ["Check"], "Check: SERVING\n"),
    ("--cmd 'sleep 1ms' Check", ["Check"], "Check: SERVING\n"),
    ("--no-auto-values true --interactive=x --cmd Check", ["Check"], "Check: SERVING\n"),
]


@pytest.mark.parametrize("line", LINES, ids=[line for line, _, _ in LINES])
def test_lists_of_commands_are_done_in_order(
    line: tuple[str, list[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, methods, said = line
    double = AgentDouble()
    with serving(tmp_path / "s", double):
        assert main(shlex.split(f"connect --server-address unix:{tmp_path}/s {text}")) == 0
    assert _methods(double) == [f"grpc.Health/{method}" for method in methods]
    assert capsys.readouterr().out.startswith(said)


def test_each_service_has_a_connection_of_its_own(tmp_path: Path) -> None:
    double = AgentDouble()
    with serving(tmp_path / "s", double):
        commands = ["Check", "MemAgentMemcgSet", "Version", "MemAgentCompactSet"]
        assert main(["connect", "--server-address", f"unix:{tmp_path}/s", "-c", *commands]) == 0
    assert double.connections == 2
    assert len(double.calls) == 4


def test_another_hybrid_port_can_be_named(tmp_path: Path) -> None:
    double = AgentDouble()
    with serving(tmp_path / "s", monitor(double, 1051)):
        line = f"connect --server-address unix:{tmp_path}/s --hybrid-vsock --hybrid-vsock-port 1051"
        assert main([*line.split(), "-c", "Check"]) == 0


def test_a_time_limit_is_told_to_the_service(tmp_path: Path) -> None:
    double = AgentDouble()
    with serving(tmp_path / "s", double):
        line = f"connect --server-address unix:{tmp_path}/s --timeout 5s --no-auto-values"
        assert main([*line.split(), "-c", "Check"]) == 0
    assert double.calls[0][0].timeout_nano == 5_000_000_000
    assert double.calls[0][0].metadata == ()


def test_a_message_in_a_file_is_sent(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"disabled": true}')
    double = AgentDouble()
    with serving(tmp_path / "s", double):
        command = f"MemAgentMemcgSet file://{tmp_path}/m.json"
        assert main(["connect", "--server-address", f"unix:{tmp_path}/s", "--cmd", command]) == 0
    assert _messages(double) == [MemAgentMemcgConfig(disabled=True)]


@pytest.mark.parametrize(
    ("commands", "why"),
    [
        (["Check", 'MemAgentMemcgSet json://{"swp":true}'], "did you mean swap?"),
        (["Check", 'MemAgentMemcgSet json://{"swap":1}'], "true or false"),
        (["Check", "Dance"], "no command is named 'Dance'"),
        ([], "no command"),
    ],
)
def test_a_wrong_command_ends_with_2_and_nothing_is_sent(
    commands: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    double = AgentDouble()
    flags = [part for each in commands for part in ("--cmd", each)]
    with serving(tmp_path / "s", double):
        assert main(["connect", "--server-address", f"unix:{tmp_path}/s", *flags]) == 2
    assert double.connections == 0
    assert why in capsys.readouterr().err


DISABLED = {"MemAgentMemcgSet": Status(code=13, message="mem-agent is disabled\x1b[2J")}


def test_the_first_error_stops_the_list_and_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    double = AgentDouble(DISABLED)
    with serving(tmp_path / "s", double):
        commands = ["Check", "MemAgentMemcgSet", "Version"]
        assert main(["connect", "--server-address", f"unix:{tmp_path}/s", "-c", *commands]) == 1
    said = capsys.readouterr()
    assert said.out == "Check: SERVING\n"
    assert "MemAgentMemcgSet: INTERNAL: mem-agent is disabled\\x1b[2J\n" in said.err
    assert len(double.calls) == 2


@pytest.mark.parametrize("switch", ["--ignore-errors", "--ignore-errors=true"])
def test_errors_can_be_ignored(
    switch: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    double = AgentDouble(DISABLED)
    with serving(tmp_path / "s", double):
        line = ["connect", "--server-address", f"unix:{tmp_path}/s", switch]
        assert main([*line, "-c", "MemAgentMemcgSet", "AddSwapPath", "Check"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("ignored: MemAgentMemcgSet: INTERNAL")
    assert said[1] == "ignored: AddSwapPath: UNIMPLEMENTED: AddSwapPath method"
    assert said[2] == "Check: SERVING"


def test_for_programs_each_command_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path / "s", AgentDouble()):
        line = ["connect", "--json", "--server-address", f"unix:{tmp_path}/s"]
        assert main([*line, "-c", "Version", "MemAgentMemcgSet"]) == 0
    said = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert said == [
        {"command": "Version", "answer": {"grpc_version": "0.0.1", "agent_version": "9"}},
        {"command": "MemAgentMemcgSet", "answer": {}},
    ]


def test_commands_are_read_from_whoever_types_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = 'Check\n\nDance\nMemAgentMemcgSet json://{"swap":true}\nquit\nVersion\n'
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    double = AgentDouble()
    with serving(tmp_path / "s", double):
        assert main(["connect", "--server-address", f"unix:{tmp_path}/s", "--interactive"]) == 1
    said = capsys.readouterr()
    assert said.out == "Check: SERVING\nMemAgentMemcgSet: done\n"
    assert "no command is named 'Dance'" in said.err
    assert len(double.calls) == 2


def test_many_guests_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    double = AgentDouble()
    with serving(tmp_path / "a", double):
        flags = ["--server-address", f"unix:{tmp_path}/a", "--server-address", f"unix:{tmp_path}/b"]
        assert main(["connect", *flags, "-c", "Check"]) == 1
    said = capsys.readouterr()
    assert said.out == f"unix:{tmp_path}/a:\n  Check: SERVING\n"
    assert f"unix:{tmp_path}/b: Check: there is no such socket" in said.err


OK = bytes.fromhex("00000002 00000001 0200 0a00")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "ended before"),
        (OK[:-1], "ended before"),
        (b"HTTP/1.1 400 Bad Request\r\n", "that is no ttRPC"),
        (bytes.fromhex("00000001 00000001 0200 0a"), "the answer is no ttRPC"),
        (bytes.fromhex("00000004 00000001 0200 0a020863"), "code 99: "),
    ],
)
def test_a_broken_answer_ends_with_1(
    said: bytes, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def speak(stream: socket.socket) -> None:
        stream.recv(1000)
        stream.sendall(said.replace(b"\x08\x63", b"\x08\x63"))

    with serving(tmp_path / "s", speak):
        line = ["connect", "--server-address", f"unix:{tmp_path}/s"]
        assert main([*line, "-c", "MemAgentMemcgSet"]) == 1
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("answer", [OK, bytes.fromhex("00000000 00000001 0200")])
def test_the_bytes_on_the_wire_are_those_of_katas_client(answer: bytes, tmp_path: Path) -> None:
    seen = b""

    def speak(stream: socket.socket) -> None:
        nonlocal seen
        while len(seen) < 51:
            seen += stream.recv(1000)
        stream.sendall(answer)

    with serving(tmp_path / "s", speak):
        line = ["connect", "--server-address", f"unix:{tmp_path}/s", "--no-auto-values"]
        assert main([*line, "-c", 'MemAgentMemcgSet json://{"swap":true}']) == 0
    assert seen == (
        bytes.fromhex("00000029 00000001 0100 0a11")
        + b"grpc.AgentService"
        + bytes.fromhex("1210")
        + b"MemAgentMemcgSet"
        + bytes.fromhex("1a021001")
    )


def test_a_silent_agent_is_not_waited_for_longer_than_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(stream: socket.socket) -> None:
        while stream.recv(1000):
            pass

    with serving(tmp_path / "s", silent):
        line = ["connect", "--server-address", f"unix:{tmp_path}/s", "--timeout", "50ms"]
        assert main([*line, "-c", "Check"]) == 1
    assert "Check: no answer in time" in capsys.readouterr().err


def test_the_options_of_the_seeds_client_are_all_taken(tmp_path: Path) -> None:
    double = AgentDouble()
    with serving(tmp_path / "s", monitor(double, 1024)):
        line = (
            f"-l debug connect --server-address unix://{tmp_path}/s --hybrid-vsock true"
            " --hybrid-vsock-port 1024 --timeout 5s --ignore-errors true --no-auto-values true"
            " --interactive false -c Check"
        )
        assert main(line.split()) == 0
    assert msgspec.to_builtins(double.calls[0][0])["method"] == "Check"


def test_a_connection_that_is_gone_before_the_call_is_told() -> None:
    client, server = socket.socketpair()
    server.close()
    with client, pytest.raises(BrokenConnection, match="before the call was sent"):
        Client(client).call("grpc.Health", "Check", b"")


def test_whoever_stops_reading_is_not_told_of_a_broken_pipe(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with serving(tmp_path / "s", AgentDouble()):
        words = ["connect", "--server-address", f"unix:{tmp_path}/s", "-c", "repeat -1", "Check"]
        ended = subprocess.run(
            [sys.executable, "-c", START, *words],
            stdout=write_end,
            stderr=subprocess.PIPE,
            check=False,
            timeout=50,
        )
    os.close(write_end)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_an_agent_that_trickles_is_not_waited_for_longer_than_a_call_may_take() -> None:
    ours, theirs = socket.socketpair()
    over = threading.Event()

    def trickle() -> None:
        theirs.sendall(struct.pack(">IIBB", 1 << 20, 1, 2, 0))
        while not over.wait(0.02):
            theirs.sendall(b" ")

    with ours, theirs:
        ours.settimeout(0.2)
        talking = threading.Thread(target=trickle, daemon=True)
        talking.start()
        with pytest.raises(TimeoutError):
            Client(ours).call("grpc.Health", "Check", b"")
        over.set()
        talking.join(20)


def test_several_guests_are_a_line_each_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "addresses").write_text(f"unix:{tmp_path}/s # first\nunix:{tmp_path}/none\n")
    words = ["connect", "--json", "--address-file", f"{tmp_path}/addresses", "--cmd", "Check"]
    with serving(tmp_path / "s", AgentDouble()):
        assert main(words) == 1
    by_address = {
        each["address"]: each for each in map(json.loads, capsys.readouterr().out.splitlines())
    }
    assert len(by_address[f"unix:{tmp_path}/s"]["answer"]) == 1
    assert by_address[f"unix:{tmp_path}/none"]["error"]["code"] == "unreachable"


def test_a_code_of_an_agent_is_told_to_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "addresses").write_text(f"unix:{tmp_path}/s\n")
    words = ["--json", "--address-file", f"{tmp_path}/addresses"]
    double = AgentDouble(refuse={"MemAgentMemcgSet": Status(code=3, message="no")})
    with serving(tmp_path / "s", double):
        assert main([*words, "connect", "--cmd", "MemAgentMemcgSet"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize("option", [["--address", "unix:/b"], ["--hybrid-port", "7"]])
def test_options_that_are_not_for_connect_are_refused(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["connect", "--server-address", "unix:/a", "--cmd", "Check"]
    assert main([*option, *words]) == 2
    assert f"not {option[0]}" in capsys.readouterr().err


def test_the_time_limit_may_stand_before_connect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(stream: socket.socket) -> None:
        while stream.recv(1000):
            pass

    words = ["connect", "--server-address", f"unix:{tmp_path}/s", "--cmd", "Check"]
    with serving(tmp_path / "s", silent):
        assert main(["--timeout", "50ms", *words]) == 1
    assert "no answer in time" in capsys.readouterr().err
