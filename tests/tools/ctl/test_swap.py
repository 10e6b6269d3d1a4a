"""The verbs about swap, and how what a guest says to them is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from memreact_schemas import swap
from memreact_tools.ctl.__main__ import main
from tests.tools.ctl.doubles import AREA, Failure, VarlinkDouble
from tests.tools.servers import serving

UUID = "2f1c4f43-0c2a-4a0f-8a1b-0123456789ab"


@pytest.fixture
def double() -> VarlinkDouble:
    """A daemon."""
    return VarlinkDouble()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, double: VarlinkDouble, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The daemon of this machine."""
    path = tmp_path / "io.memreact"
    monkeypatch.setenv("MEMREACT_ADDRESS", f"unix:{path}")
    with serving(path, double):
        yield


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("list", swap.ListSwap()),
        ("add memreact-swap0", swap.AddSwap(serial="memreact-swap0")),
        (
            f"add memreact-swap0 --make --uuid {UUID} --priority 3 --discard once --wait 1500ms",
            swap.AddSwap(
                serial="memreact-swap0",
                uuid=UUID,
                make=True,
                priority=3,
                discard="once",
                wait_ms=1500,
            ),
        ),
        (f"add {UUID}", swap.AddSwap(uuid=UUID)),
        ("add 01/00", swap.AddSwap(pci_path="01/00")),
        ("remove /dev/vdc", swap.RemoveSwap(path="/dev/vdc", deadline_seconds=60)),
        (
            "remove memreact-swap0 --deadline 10m",
            swap.RemoveSwap(serial="memreact-swap0", deadline_seconds=600),
        ),
    ],
)
def test_each_verb_makes_its_call(line: str, call: Struct, double: VarlinkDouble) -> None:
    assert main(["swap", *line.split()]) == 0
    assert double.calls == [(type(call).__name__, call)]


@pytest.mark.parametrize(
    "line",
    [
        "add /dev/vdc",
        "add vdc",
        "add 20/00",
        "add memreact-swap0 --priority 40000",
        "add memreact-swap0 --wait 2m",
        "add memreact-a-name-that-is-too-long",
        "add memreact-swap0 --uuid x",
        "remove 01/00 --deadline 2h",
        "remove 01/00 --deadline 0",
    ],
)
def test_what_names_no_disk_is_misuse(line: str, double: VarlinkDouble) -> None:
    assert main(["swap", *line.split()]) == 2
    assert double.calls == []


LIST = f"""\
PATH      SIZE      USED     PRIO  SERIAL          PCI    UUID
/dev/vdc  1024 MiB  300 MiB  7     memreact-swap0  01/00  {UUID}
/swap     8192 KiB  0 B      -2    -               -      -
! the device of /swap is gone: what lies there cannot be read any more
memory has room for 450 MiB of it
"""


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("list", LIST),
        (
            "add memreact-swap0",
            (
                "/dev/vdc: 1024 MiB of swap, made swap first; "
                "in 150 ms, 120 ms of them waiting for it\n"
            ),
        ),
        ("remove memreact-swap0", "/dev/vdc: no swap any more; 300 MiB came back in 2 s\n"),
    ],
)
def test_each_answer_is_told_to_people(
    line: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["swap", *line.split()]) == 0
    assert capsys.readouterr().out == text


def test_a_guest_without_swap_says_so(
    double: VarlinkDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    double.answers = {"ListSwap": swap.SwapAreas(areas=(), available_bytes=1, kept_bytes=2)}
    assert main(["swap", "list"]) == 0
    assert capsys.readouterr().out == "no swap is in use\n"


MIB = 1 << 20
REFUSED: list[tuple[Struct, str]] = [
    (
        swap.NoSuchDevice(wanted="PCI path 05/00", waited_us=3_000_000),
        "no disk with PCI path 05/00 came in 3 s",
    ),
    (
        swap.NotForSwap(path="/dev/vda", because="no_signature", detail="found ext4"),
        "/dev/vda is not taken (no_signature): found ext4",
    ),
    (swap.AlreadySwap(area=AREA), "/dev/vdc is in use as swap already, 1024 MiB of it"),
    (swap.NoSuchSwap(wanted="path /dev/vdd"), "no swap in use has path /dev/vdd"),
    (
        swap.NotEnoughMemory(
            path="/dev/vdc",
            used_bytes=300 * MIB,
            available_bytes=200 * MIB,
            kept_bytes=50 * MIB,
        ),
        (
            "/dev/vdc holds 300 MiB, and of 200 MiB that can be made available "
            "50 MiB have to stay: it is not removed"
        ),
    ),
    (
        swap.SwapoffEnded(
            path="/dev/vdc",
            because="pressure",
            back_bytes=20 * MIB,
            used_bytes=280 * MIB,
            took_us=4_000_000,
        ),
        "broken off (pressure) after 4 s: 20 MiB came back, /dev/vdc stays in use with 280 MiB",
    ),
    (
        swap.SwapRefused(path="/dev/vdc", doing="swapon", errno=22, why="Invalid argument"),
        "/dev/vdc: swapon: Invalid argument",
    ),
]


@pytest.mark.parametrize(("error", "text"), REFUSED, ids=lambda each: type(each).__name__)
def test_each_refusal_is_told_to_people(
    error: Struct, text: str, double: VarlinkDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    double.answers = {"AddSwap": Failure(f"io.memreact.{type(error).__name__}", error)}
    assert main(["swap", "add", "memreact-swap0"]) == 1
    assert capsys.readouterr().err.endswith(f": {text}\n")
