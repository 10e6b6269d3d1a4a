"""A guest whose memreact is talked to: by varlinkctl and a Go client there, by us from its host."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lab.agent import Result
from lab.errors import DeadlinePassed
from lab.guest import Guest
from lab.machine import MachineOptions
from lab.workload import zram_swap
from tests.system.go_client import Answer, answers_of, built, words
from tests.system.service import Service

__all__ = [
    "AGENT_FILE",
    "BAD_WORD",
    "HERE",
    "SETTINGS",
    "VSOCK",
    "Answered",
    "Command",
    "Controlled",
    "controlled",
    "ctl_command",
    "memreact_ctl",
    "memreact_host",
]

ROOT = Path(__file__).parents[2]
AGENT_FILE = "/etc/agent.toml"
BAD_WORD = "memreact.memcg.perod_secs=5"
_BOOT_WORDS = (
    f"agent.config_file={AGENT_FILE} {BAD_WORD} "
    "agent.mem_agent_compact_period_secs=900 memreact.pressure.window_ms=2000"
)
SETTINGS = "[control]\nallow_guest = true\n[memcg]\nswappiness_max = 30\n"
HERE, VSOCK = "unix:/run/memreact/io.memreact", "exec:/usr/bin/memreact-vsock"
_VSOCK_ENV = "MEMREACT_ADDRESS=vsock:1:1050"
_GO_CLIENT = "/opt/ttrpc_client"
_READER, _STRANGER = "reader", "stranger"
_ZRAM_MIB = 256
_PATIENCE_S = 30
_POLL_S = 0.2

Answered = dict[str, Any]


class Controlled:
    """A guest's memreact and who calls it; `fresh` makes it as it was.

    Args:
        guest: With the package, and with words for memreact on its kernel's command line.
    """

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.service = Service(guest)
        guest.put(built(), _GO_CLIENT)
        guest.run(
            f"chmod 755 {_GO_CLIENT} && useradd -r -G memreact {_READER} && useradd -r {_STRANGER}"
        )

    def fresh(self) -> None:
        """Start with the settings above, and nothing of what was pushed before."""
        self.service.stop()
        self.guest.run(f"rm -rf /etc/memreact/memreact.toml.d {AGENT_FILE} /run/memreact/*")
        self.service.start(SETTINGS)

    def varlinkctl(
        self, *arguments: str, user: str = "root", check: bool = True, stdin: bytes = b""
    ) -> Result:
        """Run systemd's client there; the address `VSOCK` is by loop-back to port 1050."""
        command = [*_as(user), "/usr/bin/env", _VSOCK_ENV, "varlinkctl", *arguments]
        return self.guest.run(command, check=check, stdin=stdin)

    def asked(self, method: str, address: str = HERE, **parameters: object) -> Answered:
        """Call a method of io.memreact by varlinkctl, and decode the answer."""
        said = msgspec.json.encode(parameters).decode()
        told = self.varlinkctl("-j", "call", address, f"io.memreact.{method}", said).stdout
        return msgspec.json.decode(told, type=Answered)

    def go(self, address: str, *calls: str, user: str = "root") -> list[Answer]:
        """Call by the Go client.

        Raises:
            CommandFailed: Nobody could be called.
        """
        told = self.guest.run([*_as(user), _GO_CLIENT, *words(address, *calls)])
        return answers_of(told.stdout)

    def in_force(self, key: str) -> object:
        """The value of a key such as `memcg.swap`."""
        table, _, name = key.partition(".")
        return self.asked("GetSettings")["settings"][table][name]

    def origin(self, key: str) -> object:
        """Where the value of a key comes from."""
        return self.asked("GetSettings")["origins"][key]

    def wait_for(self, method: str, met: Callable[[Answered], bool]) -> Answered:
        """Ask until the answer is as wanted, and return it.

        Raises:
            DeadlinePassed: It never was.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while not met(answer := self.asked(method)):
            if time.monotonic() > deadline:
                raise DeadlinePassed(f"{method} still says {answer}")
            time.sleep(_POLL_S)
        return answer

    def journal(self) -> str:
        """What memreact said since it was started last."""
        since = self.service.shown("InvocationID")
        return self.guest.run(f"journalctl -o cat _SYSTEMD_INVOCATION_ID={since}").stdout


def _as(user: str) -> list[str]:
    return [] if user == "root" else ["/sbin/runuser", "-u", user, "--"]


@contextmanager
def controlled(package: Path) -> Iterator[Controlled]:
    """Restore such a guest, its memreact running with the settings above, and swap on zram."""
    with Guest.restore(MachineOptions(append=_BOOT_WORDS), package) as guest:
        zram_swap(guest, _ZRAM_MIB)
        made = Controlled(guest)
        made.fresh()
        yield made


class Command(NamedTuple):
    """What to start, and in which environment."""

    words: list[str]
    environment: dict[str, str]


def ctl_command(*arguments: str) -> Command:
    """Say how memreact-ctl of this folder is started on this machine."""
    folders = [str(ROOT / name) for name in ("", "schemas", "tools")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    return Command([sys.executable, "-m", "memreact_tools.ctl", *arguments], environment)


def memreact_host(*arguments: str) -> str:
    """Run memreact-host of this folder on this machine, and return what it printed.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    words, environment = ctl_command(*arguments)
    words[words.index("memreact_tools.ctl")] = "memreact_tools.host"
    done = subprocess.run(
        words, check=True, stdout=subprocess.PIPE, text=True, env=environment, timeout=60
    )
    return done.stdout


def memreact_ctl(
    *arguments: str, check: bool = True, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run memreact-ctl on this machine.

    Raises:
        subprocess.CalledProcessError: It failed, and `check` is asked for; stderr has been shown.
    """
    command = ctl_command(*arguments)
    done = subprocess.run(
        command.words,
        check=False,
        capture_output=True,
        text=True,
        input=stdin,
        env=command.environment,
        timeout=60,
    )
    if check and done.returncode:
        sys.stderr.write(done.stderr)
        done.check_returncode()
    return done
