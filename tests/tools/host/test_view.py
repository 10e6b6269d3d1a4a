"""What is held of each guest, and why: the host's figures beside the guest's own."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from memreact_schemas.control import GetStatus, HostHolds, NotPossible, StatusAnswer
from memreact_schemas.status import LedgerStatus, LedgerTally
from memreact_tools.address import UnixAddress
from memreact_tools.host import view as under_test
from memreact_tools.host.__main__ import main
from memreact_tools.host.machines import Machine
from memreact_tools.host.smaps import Held
from memreact_tools.host.view import explained, view_of
from tests.tools.ctl.doubles import Failure, VarlinkDouble
from tests.tools.ctl.statuses import STATUS
from tests.tools.host.processes import process
from tests.tools.servers import Serve, serving

MIB, GIB = 1 << 20, 1 << 30
LEDGER = LedgerStatus(
    read_at_us=5,
    total_bytes=980 * MIB,
    free_bytes=600 * MIB,
    reportable_bytes=570 * MIB,
    reported_bytes=560 * MIB,
    reported_byte_seconds_total=9 * GIB * 360,
    since_start=LedgerTally(evicted_file_bytes=400 * MIB),
    free_held_bytes={"fragmented": 30 * MIB, "not_told_yet": 10 * MIB},
    returned_bytes=300 * MIB,
)


def answering(ledger: LedgerStatus | None) -> VarlinkDouble:
    return VarlinkDouble({"GetStatus": StatusAnswer(status=replace(STATUS, ledger=ledger))})


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with one QEMU of 1 GiB, of which it holds 450 MiB."""
    proc = tmp_path / "proc"
    process(
        proc,
        7,
        ["qemu-system-x86_64", "-name", "shop", "-m", "1024"],
        (2 << 20, 50, 50, 0),
        (1 << 20, 450 << 10, 440 << 10, 4 << 10),
    )
    look = under_test.view
    monkeypatch.setattr(under_test, "view", lambda asked: look(asked, proc=str(proc)))
    return tmp_path


@pytest.fixture
def guest(host: Path) -> Iterator[VarlinkDouble]:
    """Its memreact."""
    double = answering(LEDGER)
    with serving(host / "s", double):
        yield double


def machine(tmp_path: Path) -> Machine:
    return Machine(7, "shop", (GIB,), UnixAddress(f"{tmp_path}/s"))


def test_one_line_tells_both_sides_and_why_they_differ(
    host: Path, guest: VarlinkDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", f"pid:7=unix:{host}/s"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    figures = ["TOTAL", "HELD", "REPORTABLE", "REPORTED", "RETURNED", "GIB*H", "GUEST"]
    assert head.split()[:7] == figures
    assert row.split("  ")[0].strip() == "1024 MiB"
    columns = [part.strip() for part in row.split("  ") if part.strip()]
    assert columns[1:7] == ["450 MiB", "570 MiB", "560 MiB", "300 MiB", "0.90", "shop"]
    words = "in use 424 MiB, fragmented 30 MiB, not told yet 10 MiB, less never touched 10 MiB"
    assert columns[7] == f"{words}, less swapped out 4096 KiB"
    assert guest.calls == [("GetStatus", GetStatus(cgroups=False, ledger=True))]


def test_the_guest_is_told_what_is_held_and_asked_what_it_makes_of_it(
    host: Path, guest: VarlinkDouble
) -> None:
    assert main(["view", "--tell", f"pid:7=unix:{host}/s"]) == 0
    assert guest.calls == [
        ("GetStatus", GetStatus(cgroups=False, ledger=True)),
        ("HostHolds", HostHolds(held_bytes=450 * MIB)),
        ("GetStatus", GetStatus(cgroups=False)),
    ]


def test_for_programs_all_figures_are_told(
    host: Path, guest: VarlinkDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", "--json", f"pid:7=unix:{host}/s"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["name"], told["pid"], told["address"]) == ("shop", 7, f"unix:{host}/s")
    assert (told["mapped_bytes"], told["held_bytes"]) == (GIB, 450 * MIB)
    assert (told["held_share_bytes"], told["swapped_bytes"]) == (440 * MIB, 4 * MIB)
    assert told["gib_hours"] == pytest.approx(0.9)
    assert sum(told["because_bytes"].values()) == told["held_bytes"]


def test_a_guest_whose_address_is_not_known_is_half_told(
    host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view"]) == 1
    _, row, trouble = capsys.readouterr().out.splitlines()
    assert row.split() == ["1024", "MiB", "450", "MiB", *"----", "shop"]
    assert trouble.startswith("! shop: its address is not known")


def test_a_process_that_is_gone_is_half_told(
    host: Path, guest: VarlinkDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    (host / "proc/7/smaps").unlink()
    assert main(["view", f"pid:7=unix:{host}/s"]) == 1
    _, row, trouble = capsys.readouterr().out.splitlines()
    assert row.split()[:5] == ["980", "MiB", "-", "570", "MiB"]
    assert "No such file" in trouble


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (StatusAnswer(status=STATUS), "it keeps no ledger"),
        (
            StatusAnswer(
                status=replace(
                    STATUS, ledger=LedgerStatus(since_start=LedgerTally(), problem="no zoneinfo")
                )
            ),
            "no zoneinfo",
        ),
        (Failure("io.memreact.NotPossible", NotPossible(why="not now")), "not possible now"),
        (Failure("org.varlink.service.PermissionDenied", {}), "permission denied"),
        ({"status": 7}, "Expected `object`"),
    ],
)
def test_what_a_guest_does_not_tell_is_said(answer: object, why: str, host: Path) -> None:
    with serving(host / "s", VarlinkDouble({"GetStatus": answer})):
        told = view_of(machine(host), proc=f"{host}/proc")
    assert told.held_bytes == 450 * MIB
    assert told.reported_bytes is None
    assert why in told.trouble[0]


def test_a_guest_whose_answer_is_no_text_is_said(host: Path) -> None:
    def answers(stream: socket.socket) -> None:
        stream.recv(1 << 16)
        stream.sendall(b'{"parameters":{"status":{"version":"\x97"}}}\0')

    with serving(host / "s", answers):
        (trouble,) = view_of(machine(host), proc=f"{host}/proc").trouble
    assert "the answer is no Varlink" in trouble


HUGE = 10**400
"""More than a float holds; JSON has it."""


def replies(text: str) -> Serve:
    """Answer any call with these parameters."""

    def serve(stream: socket.socket) -> None:
        stream.recv(1 << 16)
        stream.sendall(b'{"parameters":%s}\0' % text.encode())

    return serve


def ledger_with(**figures: int) -> str:
    """A status as a guest writes it, with figures of any size."""
    said = json.loads(msgspec.json.encode(StatusAnswer(status=replace(STATUS, ledger=LEDGER))))
    said["status"]["ledger"] |= figures
    return json.dumps(said)


@pytest.mark.parametrize("flags", [[], ["--json"]])
@pytest.mark.parametrize(
    "figures",
    [
        {"reported_byte_seconds_total": HUGE},
        {"total_bytes": HUGE, "returned_bytes": -HUGE},
        {"free_bytes": HUGE, "reported_bytes": HUGE},
    ],
)
def test_a_guest_that_says_figures_without_measure_leaves_the_others_their_rows(
    figures: dict[str, int],
    flags: list[str],
    host: Path,
    guest: VarlinkDouble,
    capsys: pytest.CaptureFixture[str],
) -> None:
    process(host / "proc", 12, ["qemu", "-name", "odd", "-m", "64"], (64 << 10, 9, 9, 0))
    with serving(host / "odd", replies(ledger_with(**figures))):
        code = main(["view", *flags, f"pid:12=unix:{host}/odd", f"pid:7=unix:{host}/s"])
    assert code == 0
    said = capsys.readouterr().out
    assert "odd" in said
    assert "shop" in said
    assert "0" * 100 not in said


def test_whatever_goes_wrong_with_a_guest_is_its_own_trouble(
    host: Path, guest: VarlinkDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_held: Held, _ledger: LedgerStatus) -> dict[str, int]:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(under_test, "explained", breaks)
    told = view_of(machine(host), proc=f"{host}/proc")
    assert told.held_bytes == 450 * MIB
    assert told.trouble == (f"unix:{host}/s: what it says cannot be read: a bug of ours",)


def test_a_guest_that_hangs_up_and_one_that_is_not_there_are_said(host: Path) -> None:
    with serving(host / "s", lambda _: None):
        (hung_up,) = view_of(machine(host), proc=f"{host}/proc").trouble
    (host / "s").unlink()
    (absent,) = view_of(machine(host), proc=f"{host}/proc").trouble
    assert str(host) in hung_up
    assert "is memreact, or the guest, running?" in absent


def test_a_monitor_that_does_not_tell_its_sizes_is_read_by_what_the_guest_has(
    host: Path, guest: VarlinkDouble
) -> None:
    parts = ((500 << 10, 200 << 10, 0, 0), (500 << 10, 100 << 10, 0, 0), (64, 5, 0, 0))
    process(host / "proc", 8, ["firecracker"], *parts)
    fc = Machine(8, "firecracker 8", (), UnixAddress(f"{host}/s"))
    assert view_of(fc, proc=f"{host}/proc").held_bytes == 300 * MIB


def test_several_guests_are_told_in_order(
    host: Path, guest: VarlinkDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    process(
        host / "proc",
        12,
        ["qemu-system-x86_64", "-name", "a\x1bb", "-m", "64"],
        (64 << 10, 9, 9, 0),
    )
    assert main(["view", f"pid:12=unix:{host}/s", f"pid:7=unix:{host}/s"]) == 0
    _, one, other = capsys.readouterr().out.splitlines()
    assert "  a\\x1bb  " in one
    assert "  shop  " in other


def test_a_host_without_machines_says_so(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "proc/7/cmdline").write_bytes(b"bash\0")
    assert main(["view"]) == 1
    assert "try pid:N" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("guests", "code"),
    [(["7"], 2), (["pid:99"], 2), (["pid:7=vsock:x:1"], 2), (["qmp:/none"], 1)],
)
def test_what_cannot_be_found_is_told(
    guests: list[str], code: int, host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", *guests]) == code
    assert capsys.readouterr().err.startswith("memreact-host: ")


@pytest.mark.parametrize("timeout", ["0", "-1", "inf", "nan", "x"])
def test_a_time_that_is_none_is_misuse(timeout: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["view", "--timeout", timeout])
    assert ended.value.code == 2


def test_a_guest_that_reports_nothing_is_pointed_out(
    host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(host / "s", answering(replace(LEDGER, reporting=False))):
        assert main(["view", f"pid:7=unix:{host}/s"]) == 0
    assert "led to nothing reported" in capsys.readouterr().out


AMOUNT = st.integers(0, 2**50)


@given(
    held=st.builds(Held, AMOUNT, AMOUNT, AMOUNT, AMOUNT),
    free=AMOUNT,
    reported=st.none() | AMOUNT,
    causes=st.dictionaries(st.sampled_from(["fragmented", "not_told_yet"]), AMOUNT),
)
def test_the_causes_add_up_to_what_is_held(
    held: Held, free: int, reported: int | None, causes: dict[str, int]
) -> None:
    ledger = replace(LEDGER, free_bytes=free, reported_bytes=reported, free_held_bytes=causes)
    assert sum(explained(held, ledger).values()) == held.rss_bytes


def test_what_was_reported_and_is_held_all_the_same_has_that_name() -> None:
    held = Held(GIB, GIB, GIB, 0)
    assert explained(held, LEDGER)["reported_yet_held"] == 560 * MIB
    assert "unexplained" in explained(held, replace(LEDGER, reported_bytes=0))
