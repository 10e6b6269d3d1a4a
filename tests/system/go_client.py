"""The Go client of `programs/ttrpc_client`, built from Debian's own packages.

Nothing comes from the network but those packages: Go finds them below /usr/share/gocode, where
Debian puts them, when it is told to look for no modules.
"""

from __future__ import annotations

import functools
import os
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

__all__ = ["Answer", "answers_of", "begun", "built", "words"]

ROOT = Path(__file__).parents[2]
PACKAGES = ("golang-go", "golang-github-containerd-ttrpc-dev", "golang-google-protobuf-dev")
_SOURCE = "./tests/system/programs/ttrpc_client"
_BINARY = ROOT / "build/ttrpc_client"


class Answer(msgspec.Struct, frozen=True):
    """What one call came to.

    Args:
        call: As in `grpc.Health/Check`.
        code: Of gRPC's; 0 is OK.
        message: Why not.
        answer: The answer's message.
    """

    call: str
    code: int
    message: str
    answer: dict[str, str | int]


@functools.cache
def begun() -> Future[Path]:
    """Begin to build the client: Go and a new build take a minute, in which guests can boot."""
    builder = ThreadPoolExecutor(1, "go")
    building = builder.submit(_build)
    builder.shutdown(wait=False)
    return building


def built() -> Path:
    """Wait for the client; it runs on any Linux of this machine.

    Raises:
        subprocess.CalledProcessError: It could not be built; Go has said why on stderr.
    """
    return begun().result()


def _build() -> Path:
    subprocess.run([str(ROOT / "packaging/need"), *PACKAGES], check=True)
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOPATH": "/usr/share/gocode",
        "GOCACHE": str(ROOT / "build/go-cache"),
        "CGO_ENABLED": "0",
    }
    build = ["nice", "go", "build", "-trimpath", "-ldflags=-s -w", "-o", str(_BINARY), _SOURCE]
    subprocess.run(build, cwd=ROOT, env=environment, check=True)
    return _BINARY


def words(address: str, *calls: str, at_once: bool = False) -> list[str]:
    """The client's arguments.

    Args:
        address: `unix:PATH` or `vsock:CID:PORT`.
        calls: Each as in `grpc.AgentService/MemAgentMemcgSet={"swap":true}`.
        at_once: Have them all in flight together.
    """
    return [*(["-at-once"] if at_once else []), address, *calls]


def answers_of(printed: str) -> list[Answer]:
    """Read what the client printed, one answer for each call in their order."""
    return [msgspec.json.decode(line, type=Answer) for line in printed.splitlines()]
