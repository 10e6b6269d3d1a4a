from __future__ import annotations

import os
from pathlib import Path

import pytest

from memreact_tools.host.qmp import Qemu, QmpTrouble, ask_qemu
from tests.tools.host.qemu_double import QemuDouble
from tests.tools.servers import serving

GIB = 1 << 30
SIZES = {"query-memory-size-summary": {"base-memory": GIB, "plugged-memory": 0}}
NAMED = {"query-name": {"name": "shop"}}


def ask(path: Path, double: QemuDouble, timeout_s: float = 20) -> Qemu:
    with serving(path / "qmp", double):
        return ask_qemu(f"{path}/qmp", timeout_s=timeout_s)


def test_it_tells_its_process_its_name_and_its_memory(tmp_path: Path) -> None:
    assert ask(tmp_path, QemuDouble({**SIZES, **NAMED})) == Qemu(os.getpid(), "shop", GIB, ())


def test_memory_that_was_plugged_in_is_told_in_its_parts(tmp_path: Path) -> None:
    answers = {
        "query-memory-size-summary": {"base-memory": GIB, "plugged-memory": 3 * GIB},
        "query-memory-devices": [
            {"type": "dimm", "data": {"size": GIB, "slot": 0}},
            {"type": "dimm", "data": {"size": 2 * GIB}},
        ],
        "query-name": {},
    }
    assert ask(tmp_path, QemuDouble(answers)) == Qemu(os.getpid(), "", 4 * GIB, (GIB, 2 * GIB))


@pytest.mark.parametrize(
    ("double", "why"),
    [
        (QemuDouble(NAMED), "query-memory-size-summary: none such"),
        (QemuDouble(greeting=b"SSH-2.0\n"), "not QEMU's"),
        (QemuDouble({**SIZES, "query-name": 7}), "not QEMU's"),
        (QemuDouble(greeting=b"x" * ((1 << 20) + 1)), "a line without an end"),
    ],
)
def test_what_is_no_answer_of_qemus_is_told(double: QemuDouble, why: str, tmp_path: Path) -> None:
    with pytest.raises(QmpTrouble, match=why):
        ask(tmp_path, double)


def test_a_socket_that_another_program_holds_gives_no_answer(tmp_path: Path) -> None:
    with pytest.raises(QmpTrouble, match="another program may hold it"):
        ask(tmp_path, QemuDouble(greeting=None), timeout_s=0.05)


def test_one_that_hangs_up_is_told(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "qmp", lambda _: None),
        pytest.raises(QmpTrouble, match=r"it hung up|reset"),
    ):
        ask_qemu(f"{tmp_path}/qmp", timeout_s=20)


def test_a_socket_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(QmpTrouble, match="No such file"):
        ask_qemu(f"{tmp_path}/none", timeout_s=1)
