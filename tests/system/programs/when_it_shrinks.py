"""Wait until a cgroup's memory begins to go, then do one thing to it: DIRECTORY WHAT WORDS...

`kill SIGNAL PID` sends a signal, `write FILE VALUE` writes a file of the cgroup, `remove` kills
what is in it and removes it, `call ADDRESS JSON` makes a Varlink call. Prints the cgroup's file
bytes before, then, and a moment after.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import msgspec

from kernelio import memcg
from kernelio.errors import Vanished
from memreact_tools.address import connect, parse_address

_BEGUN_BYTES = 8 << 20
_SETTLED_S = 0.5


def main(directory: str, what: str, words: list[str]) -> None:
    """Wait, act, and tell."""
    before, full = file_bytes(directory), current_bytes(directory)
    with open("/run/watching", "w"):
        pass
    # memory.stat may be two seconds behind, in which all is gone; memory.current never is.
    while current_bytes(directory) > full - _BEGUN_BYTES:
        pass
    then = file_bytes(directory)
    ACTIONS[what](directory, *words)
    time.sleep(_SETTLED_S)
    answer = {"before_bytes": before, "then_bytes": then, "after_bytes": file_bytes(directory)}
    sys.stdout.write(msgspec.json.encode(answer).decode())


def file_bytes(directory: str) -> int:
    """File bytes of the cgroup; 0 once it is gone."""
    try:
        return memcg.read_memory_stat(directory).file_bytes
    except Vanished:
        return 0


def current_bytes(directory: str) -> int:
    """All that the cgroup holds; 0 once it is gone."""
    try:
        return memcg.read_current(directory)
    except Vanished:
        return 0


def kill(_directory: str, number: str, pid: str) -> None:
    """Send a signal."""
    os.kill(int(pid), int(number))


def write(directory: str, name: str, value: str) -> None:
    """Write a file of the cgroup."""
    with open(f"{directory}/{name}", "w") as file:
        file.write(value)


def remove(directory: str) -> None:
    """Kill what is in it and remove it as soon as it is empty."""
    write(directory, "cgroup.kill", "1")
    while True:
        try:
            os.rmdir(directory)
        except OSError:  # not empty yet
            time.sleep(0.001)
        else:
            return


def call(_directory: str, address: str, frame: str) -> None:
    """Make a call, and wait for its answer."""
    with connect(parse_address(address), timeout_s=30) as stream:
        stream.sendall(frame.encode() + b"\0")
        while not stream.recv(1 << 16).endswith(b"\0"):
            pass


ACTIONS: dict[str, Callable[..., None]] = {
    "kill": kill,
    "write": write,
    "remove": remove,
    "call": call,
}

main(sys.argv[1], sys.argv[2], sys.argv[3:])
