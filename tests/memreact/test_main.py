"""The command line, as a person or systemd calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from memreact import __version__
from memreact.__main__ import main
from memreact.run_dir import RunDir
from tests.fake_guest import FakeGuest
from tests.memreact.full_guest import ENABLED, full_guest

PATIENCE_S = 30
HERE = {"PYTHONPATH": os.pathsep.join(sys.path), "PATH": os.environ.get("PATH", "")}


def memreact(*arguments: str, **environ: str) -> tuple[int, str, str]:
    """Run it as a process of its own: status, standard output, standard error."""
    ended = subprocess.run(
        [sys.executable, "-m", "memreact", *arguments],
        env=HERE | environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_run_on_a_file_that_is_not_there_is_misuse(guest: FakeGuest) -> None:
    missing = guest.path("/etc/missing.toml")
    code, out, err = memreact("run", "--config", missing)
    assert (code, out) == (2, "")
    assert err.startswith("memreact: ")
    assert missing in err
    assert "there is no such file" in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[memcg]\nperiod_sex = 1\n", "period_secs"),
        ("[memcg\n", "not TOML"),
        ("[memcg]\nperiod_secs = 'soon'\n", "period_secs"),
        ("[memcg]\nperiod_secs = -1\n", "period_secs"),
    ],
)
def test_run_refuses_to_start_on_bad_settings(guest: FakeGuest, text: str, says: str) -> None:
    file = guest.shows("/etc/bad.toml", text)
    code, out, err = memreact("run", "--config", file)
    assert (code, out) == (2, "")
    assert says in err
    assert file in err
    assert "Traceback" not in err


def test_run_with_a_trace_that_cannot_be_written_says_so(guest: FakeGuest) -> None:
    file = guest.shows("/etc/good.toml", "[memcg]\ndisabled = true\n")
    code, _, err = memreact("run", "--config", file, "--trace", guest.path("/no/such/directory"))
    assert code == 1
    assert guest.path("/no/such/directory") in err
    assert "Traceback" not in err


@pytest.mark.parametrize("lean", ["0", "1"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_either_loop_is_loaded_with_and_without_tls(lean: str, loop: str) -> None:
    program = (
        "import os, sys; from memreact._lean import leave_out_tls;"
        "left = leave_out_tls(os.environ);"
        "from memreact.process import _loop_factory; made = _loop_factory(sys.argv[1])();"
        "made.run_until_complete(__import__('asyncio').sleep(0)); made.close(); print(left)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, loop],
        env=HERE | {"MEMREACT_LEAN": lean},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (ended.stdout, ended.stderr) == (f"{lean == '1'}\n", "")


def test_check_of_a_good_file_prints_what_differs(
    guest: FakeGuest, capsys: pytest.CaptureFixture[str]
) -> None:
    file = guest.shows("/etc/good.toml", "[memcg]\nperiod_secs = 77\n")
    assert main(["check", file]) == 0
    said = capsys.readouterr()
    assert "period_secs = 77" in said.out
    assert "window_ms" not in said.out
    assert main(["check", "--all", file]) == 0
    assert "window_ms" in capsys.readouterr().out


def test_check_of_a_bad_file_exits_with_2(
    guest: FakeGuest, capsys: pytest.CaptureFixture[str]
) -> None:
    file = guest.shows("/etc/bad.toml", "[memcg]\nperiod_sex = 1\n")
    assert main(["check", file]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "period_secs" in said.err


def test_unit_prints_the_unit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unit", "--print", "--systemd", "257"]) == 0
    said = capsys.readouterr().out
    assert "Type=notify-reload" in said
    assert "ExecStart=" in said


def test_unit_prints_the_other_unit_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unit", "--print", "memreact-put-back.service"]) == 0
    assert "ExecStop=/usr/bin/memreact put-back\n" in capsys.readouterr().out


def test_unit_names_the_command_where_it_lies(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/memreact/bin/memreact"])
    assert main(["unit", "--print"]) == 0
    assert "ExecStart=/opt/memreact/bin/memreact run\n" in capsys.readouterr().out


def test_unit_wants_to_be_told_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["unit"])
    assert ended.value.code == 2
    assert "--print" in capsys.readouterr().err


def test_put_back_says_what_it_restored_and_then_nothing(
    guest: FakeGuest, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never on the machine at hand, where a real one may run."""
    full_guest(guest)
    run_dir = RunDir(guest.path("/run/memreact"))
    run_dir.take_lock()
    run_dir.remember_switch(guest.layout.lru_gen_enabled, "0x0000")
    run_dir.release()
    monkeypatch.setattr("memreact.run_dir.RunDir", lambda: run_dir)
    monkeypatch.setattr("kernelio.layout.Layout", lambda: guest.layout)
    assert main(["put-back"]) == 0
    assert capsys.readouterr().out == f"put back {guest.layout.lru_gen_enabled}\n"
    assert guest.received(ENABLED).startswith(b"0x0000")
    assert main(["put-back"]) == 0
    assert capsys.readouterr().out == ""
    run_dir.remember_switch(guest.layout.lru_gen_enabled, "0x0000")
    guest.loses(ENABLED)
    os.makedirs(guest.path(ENABLED))  # takes nothing
    assert main(["put-back"]) == 1
    assert guest.layout.lru_gen_enabled in capsys.readouterr().err


def test_doctor_answers_on_this_machine_whatever_it_lacks() -> None:
    code, out, err = memreact("doctor")
    assert (code, err) == (0, "")
    assert "memreact" in out
    code, out, err = memreact("doctor", "--json")
    assert (code, err) == (0, "")
    assert out.startswith("{")


def test_doctor_proves_it_or_names_the_rung_that_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], guest: FakeGuest
) -> None:
    monkeypatch.setattr("memreact.prove.Layout", lambda: guest.layout)
    assert main(["doctor", "--prove"]) == 1
    assert "The host gets nothing back: balloon: no virtio balloon" in capsys.readouterr().out
    assert main(["doctor", "--prove", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["proved"] is False


def test_version_is_that_of_the_package() -> None:
    assert memreact("--version") == (0, f"memreact {__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["dance"], ["run", "--loop", "gevent"]])
def test_misuse_exits_with_2_and_says_how_it_is_used(arguments: list[str]) -> None:
    code, out, err = memreact(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("usage: memreact")
