"""A Cloud Hypervisor, as far as the description of its API says what it does with disks."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

import msgspec

__all__ = ["CloudHypervisorDouble"]

GIB = 1 << 30


@dataclass
class CloudHypervisorDouble:
    """Serves one connection after another, one question each.

    Args:
        lets_go: Whether its guest lets a disk go at once.
        instead: What is sent for every question, as it is.
        disks: What it has, by identifier.
        held: What its guest has been asked to let go.
    """

    lets_go: bool = True
    instead: bytes | None = None
    disks: dict[str, dict[str, object]] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)

    def __call__(self, stream: socket.socket) -> None:
        """Serve one connection."""
        with stream.makefile("rb") as said:
            request = said.readline().split()
            if not request:
                return
            length = 0
            while (line := said.readline()) not in (b"\r\n", b""):
                key, _, value = line.partition(b":")
                length = int(value) if key.lower() == b"content-length" else length
            body = msgspec.json.decode(said.read(length)) if length else {}
        if self.instead is not None:
            stream.sendall(self.instead)
            return
        status, answer = self._answer(request[0].decode(), request[1].decode(), body)
        data = b"" if answer is None else msgspec.json.encode(answer)
        stream.sendall(b"HTTP/1.1 %s\r\nServer: Cloud Hypervisor API\r\n" % status.encode())
        stream.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(data), data))

    def _answer(self, verb: str, path: str, body: dict[str, object]) -> tuple[str, object]:
        mark = str(body.get("id"))
        match verb, path:
            case "GET", "/api/v1/vm.info":
                return "200 OK", self._info()
            case "PUT", "/api/v1/vm.add-disk" if mark in self.disks:
                return "409 Conflict", ["Error from API", "identifier not unique"]
            case "PUT", "/api/v1/vm.add-disk":
                self.disks[mark] = body
                return "200 OK", {"id": mark, "bdf": "0000:00:06.0"}
            case "PUT", "/api/v1/vm.remove-device" if mark in self.disks:
                del self.disks[mark]
                if not self.lets_go:
                    self.held.add(mark)
                return "204 No Content", None
            case _:
                return "404 Not Found", None

    def _info(self) -> object:
        tree = {mark: {"id": mark, "pci_bdf": "0000:00:06.0"} for mark in {*self.disks, *self.held}}
        tree["_virtio-pci-_net0"] = {"id": "_virtio-pci-_net0", "pci_bdf": "0000:00:02.0"}
        memory = {"size": GIB, "hotplug_size": 4 * GIB, "hotplugged_size": GIB}
        disks = [{"path": "/rootfs", "id": "_disk0"}, *self.disks.values()]
        config = {"memory": memory, "disks": disks, "payload": {}}
        return {"config": config, "state": "Running", "device_tree": tree}
