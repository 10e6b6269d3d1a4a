from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memreact_tools.address import AddressError, UnixAddress, VsockAddress
from memreact_tools.host.machines import (
    Machine,
    MachineError,
    find_machines,
    machine_of,
    machines_here,
)
from tests.tools.host.processes import process
from tests.tools.host.qemu_double import QemuDouble
from tests.tools.servers import serving

MIB, GIB = 1 << 20, 1 << 30


def found(tmp_path: Path, *command: str) -> Machine:
    process(tmp_path, 7, list(command))
    return machine_of("pid:7", proc=str(tmp_path))


@pytest.mark.parametrize(
    ("words", "sizes"),
    [
        (["-m", "1024"], (GIB,)),
        (["-m", "2G"], (2 * GIB,)),
        (["-m", "1.5g"], (GIB + GIB // 2,)),
        (["-m", "size=1048576k,slots=2,maxmem=8G"], (GIB,)),
        (["-m", "slots=2,size=512"], (512 * MIB,)),
        (["-m", "1024", "-m", "2048"], (2 * GIB,)),
        (["-m", "lots"], ()),
        ([], ()),
        (
            [
                *("-m", "2048", "-object", "memory-backend-ram,id=ram0,size=1073741824"),
                *("-object", "memory-backend-ram,id=ram1,size=0x40000000"),
            ],
            (GIB, GIB),
        ),
        (
            [
                *("-m", "size=1024"),
                *("-object", '{"qom-type":"memory-backend-memfd","id":"r","size":1073741824}'),
                *("-object", '{"qom-type":"secret","id":"s"}', "-object", "{broken"),
                *("-object", "rng-random,id=r,filename=/dev/urandom"),
            ],
            (GIB,),
        ),
    ],
)
def test_qemus_command_line_tells_the_sizes_of_its_memory(
    words: list[str], sizes: tuple[int, ...], tmp_path: Path
) -> None:
    assert found(tmp_path, "/usr/bin/qemu-system-x86_64", *words).sizes == sizes


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["-name", "shop"], "shop"),
        (["-name", "guest=shop,debug-threads=on"], "shop"),
        (["-name", "guest=shop,,guest=bank,debug-threads=on"], "shop,guest=bank"),
        ([], "qemu-system-x86_64 7"),
    ],
)
def test_a_machine_is_called_as_its_monitor_calls_it(
    words: list[str], name: str, tmp_path: Path
) -> None:
    assert found(tmp_path, "qemu-system-x86_64", *words).name == name


@pytest.mark.parametrize(
    ("word", "address"),
    [
        ("vhost-vsock-pci,id=v,guest-cid=42", VsockAddress(42, 1050)),
        ('{"driver":"vhost-vsock-pci","guest-cid":42,"id":"v"}', VsockAddress(42, 1050)),
        ('{"driver":"vhost-vsock-pci","guest-cid":"42"}', VsockAddress(42, 1050)),
        ("id=v,driver=vhost-vsock-ccw,guest-cid=42", VsockAddress(42, 1050)),
        ("vhost-vsock-pci,id=v,,guest-cid=7,guest-cid=42", VsockAddress(42, 1050)),
        ("vhost-vsock-pci,guest-cid=2", None),
        ("vhost-vsock-pci,guest-cid=4294967295", None),
        ("vhost-vsock-pci,guest-cid=many", None),
        ('{"driver":"vhost-vsock-pci","guest-cid":', None),
        ('{"driver":"vhost-vsock-pci","guest-cid":42,"id":"\udc80"}', None),
        ('{"driver":' + "[" * 100_000, None),
        ("virtio-rng-pci", None),
    ],
)
def test_qemus_command_line_tells_where_its_guest_is_asked(
    word: str, address: VsockAddress | None, tmp_path: Path
) -> None:
    assert found(tmp_path, "qemu-system-x86_64", "-device", word).address == address


@pytest.mark.parametrize(
    "words",
    [
        ["-name", "guest=web guest-cid=7,debug-threads=on"],
        ["-name", "guest=web,,guest-cid=7"],
        ["-name", 'guest={"driver":"vhost-vsock-pci","guest-cid":7}'],
        ["-device", "virtio-blk-pci,serial=vhost-vsock-pci,guest-cid=7"],
        ["-device", '{"driver":"virtio-blk-pci","serial":"guest-cid=7"}'],
        ["-append", "vhost-vsock-pci,guest-cid=7"],
        ["-object", "vhost-vsock-pci,guest-cid=7"],
    ],
)
@pytest.mark.parametrize(
    ("own", "address"),
    [
        ([], None),
        (["-device", "vhost-vsock-pci,guest-cid=5"], VsockAddress(5, 1050)),
        (["--device", '{"driver":"vhost-vsock-pci","guest-cid":5}'], VsockAddress(5, 1050)),
    ],
)
def test_a_guest_that_is_called_like_another_ones_vsock_is_not_taken_for_it(
    words: list[str], own: list[str], address: VsockAddress | None, tmp_path: Path
) -> None:
    assert found(tmp_path, "qemu-system-x86_64", *words, *own).address == address


@pytest.mark.parametrize(
    "words",
    [
        ["--memory", "size=1G,shared=on", "--vsock", "cid=3,socket=/run/ch.vsock"],
        ["--memory=size=1024M", "--vsock=cid=3,socket=/run/ch.vsock"],
    ],
)
def test_cloud_hypervisors_command_line_tells_both(words: list[str], tmp_path: Path) -> None:
    machine = found(tmp_path, "cloud-hypervisor", *words)
    address = UnixAddress("/run/ch.vsock", 1050)
    assert machine == Machine(7, "cloud-hypervisor 7", (GIB,), address)


def test_what_a_command_line_does_not_tell_stays_open(tmp_path: Path) -> None:
    machine = found(tmp_path, "cloud-hypervisor", "--vsock", "cid=3", "--memory", "size=some")
    assert machine == Machine(7, "cloud-hypervisor 7")


def test_all_known_monitors_are_found_and_nothing_else(tmp_path: Path) -> None:
    for pid, program in ((30, "firecracker"), (4, "/usr/bin/qemu-system-aarch64"), (5, "bash")):
        process(tmp_path, pid, [program])
    process(tmp_path, 2, [])  # a thread of the kernel's
    (tmp_path / "99").mkdir()  # gone meanwhile
    (tmp_path / "self").mkdir()
    names = ["qemu-system-aarch64 4", "firecracker 30"]
    assert [machine.name for machine in find_machines(proc=str(tmp_path))] == names
    assert len(machines_here([], proc=str(tmp_path))) == 2


def test_an_address_that_is_given_counts(tmp_path: Path) -> None:
    process(tmp_path, 7, ["qemu-system-x86_64", "-device", "vhost-vsock-pci,guest-cid=42"])
    for text, address in (
        ("pid:7=vsock:9:4", VsockAddress(9, 4)),
        ("pid:7=hvsock:/a=b:5", UnixAddress("/a=b", 5)),
        ("pid:7=unix:@name", UnixAddress("@name")),
    ):
        assert machine_of(text, proc=str(tmp_path)).address == address
    (one, other) = machines_here(["pid:7", "pid:7=unix:/s"], port=8, proc=str(tmp_path))
    assert (one.address, other.address) == (VsockAddress(42, 8), UnixAddress("/s"))


def test_by_its_socket_qemu_is_found_and_knows_better_than_its_command_line(tmp_path: Path) -> None:
    process(tmp_path, os.getpid(), ["qemu-system-x86_64", "-m", "1024"])
    answers: dict[str, object] = {
        "query-memory-size-summary": {"base-memory": GIB, "plugged-memory": 2 * GIB},
        "query-memory-devices": [{"type": "dimm", "data": {"size": 2 * GIB}}],
        "query-name": {"name": "shop"},
    }
    with serving(tmp_path / "qmp", QemuDouble(answers)):
        machine = machine_of(f"qmp:{tmp_path}/qmp=unix:/s", proc=str(tmp_path))
    assert machine == Machine(os.getpid(), "shop", (GIB, 2 * GIB), UnixAddress("/s"))


def test_by_its_socket_alone_its_memory_is_known_all_the_same(tmp_path: Path) -> None:
    answers = {"query-memory-size-summary": {"base-memory": GIB}, "query-name": {}}
    with serving(tmp_path / "qmp", QemuDouble(answers)):
        machine = machine_of(f"qmp:{tmp_path}/qmp", proc=str(tmp_path))
    assert machine == Machine(os.getpid(), f"qemu {os.getpid()}", (GIB,))


@pytest.mark.parametrize("text", ["7", "pid:", "pid:x", "vm:7", "pid:7=tcp:1", "pid:٣", "qmp:"])
def test_what_names_no_machine_is_refused(text: str, tmp_path: Path) -> None:
    process(tmp_path, 7, ["qemu-system-x86_64"])
    with pytest.raises((MachineError, AddressError)):
        machine_of(text, proc=str(tmp_path))


def test_a_process_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no process 12"):
        machine_of("pid:12", proc=str(tmp_path))


@given(
    words=st.lists(st.text(st.characters(blacklist_characters="\0", codec="utf-8"), max_size=30))
)
def test_any_command_line_is_read(
    words: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    for program in ("qemu-system-x86_64", "cloud-hypervisor"):
        folder = tmp_path_factory.mktemp("proc")
        line = [program, "-m", *words, "-object", *words, "--memory", *words, "--vsock", *words]
        line += [each for word in words for each in ("-device", word)]
        process(folder, 7, line)
        assert all(size > 0 for size in machine_of("pid:7", proc=str(folder)).sizes)
