"""The machine that QEMU makes: what is asked for, and the command line for it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from lab.kernels import DEFAULT_KERNEL, Kernel

__all__ = ["AGENT_PORT", "MachineOptions", "qemu_command"]

AGENT_PORT = "org.qemu.guest_agent.0"
_KERNEL_LINE = (
    "root=/dev/vda rw console=ttyS0 psi=1 mitigations=off systemd.show_status=0 "
    "random.trust_cpu=on net.ifnames=0 delayacct panic=-1"
)
_HOTPLUG_PORTS = 2  # q35's own bus takes no device later on


@dataclass(frozen=True, slots=True)
class MachineOptions:
    """What distinguishes one guest from another.

    Args:
        kernel: A name of lab.kernels.KERNELS.
        memory_mib: Of the guest, spread evenly over its nodes.
        cpus: Virtual CPUs.
        nodes: NUMA nodes.
        balloon: Whether there is a virtio balloon with free page reporting.
        append: More words for the kernel's command line.
        devices: More words for QEMU, such as ("-device", "vmgenid").
    """

    kernel: str = DEFAULT_KERNEL
    memory_mib: int = 1024
    cpus: int = 2
    nodes: int = 1
    balloon: bool = True
    append: str = ""
    devices: tuple[str, ...] = ()

    @property
    def node_bytes(self) -> int:
        """Memory of one node."""
        return self.memory_mib * 2**20 // self.nodes

    def key(self, *more: str) -> str:
        """Hash of these options, this file's command line and `more`."""
        words = "\0".join([repr(self), _source(), *more])
        return hashlib.sha256(words.encode()).hexdigest()[:16]


def qemu_command(
    options: MachineOptions, boot: Kernel, disk: Path, folder: Path, accelerator: str
) -> list[str]:
    """Words that start the machine, its sockets and serial log in `folder`.

    The disk is never written: what the guest writes is lost with it.
    """
    line = f"{_KERNEL_LINE} {options.append}".strip()
    return [
        *("qemu-system-x86_64", "-machine", "q35", *_ACCELERATORS[accelerator]),
        *("-m", str(options.memory_mib), "-smp", str(options.cpus), *_numa(options)),
        *("-nodefaults", "-display", "none", "-no-reboot", "-rtc", "base=utc"),
        *("-kernel", str(boot.image), "-initrd", str(boot.initrd), "-append", line),
        *("-drive", f"{_disk(disk)},id=root,snapshot=on", *_device("virtio-blk-pci,drive=root")),
        *("-drive", f"{_disk(boot.modules)},id=modules,readonly=on"),
        *_device("virtio-blk-pci,drive=modules"),
        *(_balloon() if options.balloon else []),
        *_device("virtio-rng-pci"),
        *_device("virtio-serial-pci,id=serial"),
        *_device(f"virtserialport,chardev=agent,name={AGENT_PORT}"),
        *("-chardev", f"socket,id=agent,path={folder}/agent,server=on,wait=off"),
        *("-serial", f"file:{folder}/serial.log", "-qmp", f"unix:{folder}/qmp,server=on,wait=off"),
        *(word for n in range(_HOTPLUG_PORTS) for word in _port(n)),
        *options.devices,
    ]


_ACCELERATORS = {
    "kvm": ("-accel", "kvm", "-cpu", "host"),
    "tcg": ("-accel", "tcg,thread=multi", "-cpu", "max"),
}


def writable_disk(command: list[str]) -> list[str]:
    """Let the guest write to its disk file: what a saved guest needs to go on with."""
    return [word.replace(",snapshot=on", "") for word in command]


def _disk(path: Path) -> str:
    return f"file={path},format=raw,if=none,cache=unsafe,discard=unmap"


def _device(words: str) -> tuple[str, str]:
    return ("-device", words)


def _balloon() -> tuple[str, str]:
    return _device("virtio-balloon-pci,id=balloon,free-page-reporting=on,deflate-on-oom=on")


def _port(number: int) -> tuple[str, str]:
    return _device(f"pcie-root-port,id=port{number},chassis={number + 1},slot={number + 1}")


def _numa(options: MachineOptions) -> list[str]:
    if options.nodes == 1:
        return []
    words: list[str] = []
    for node in range(options.nodes):
        words += ["-object", f"memory-backend-ram,id=ram{node},size={options.node_bytes}"]
        cpus = ",".join(f"cpus={cpu}" for cpu in range(node, options.cpus, options.nodes))
        words += ["-numa", f"node,nodeid={node},memdev=ram{node}" + (f",{cpus}" if cpus else "")]
    return words


def _source() -> str:
    return Path(__file__).read_text()
