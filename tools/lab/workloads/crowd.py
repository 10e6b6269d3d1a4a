"""Make many cgroups, each with a little page cache of its own, and stay in none of them."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator

from lab.workloads.lines import say

_FOLDER = "/var/cache/crowd"
_EACH = 64 << 10
_IN_ONE = 50
_CONTROLLERS = "+memory +io"


def main() -> None:
    """Make them all, say so, and wait for the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("top", help="folder of the cgroup they are made in")
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    own = _own_folder()
    os.makedirs(_FOLDER, exist_ok=True)
    for number, folder in enumerate(_folders(arguments.top, arguments.count)):
        _enter(folder)
        _touch(f"{_FOLDER}/{number}")
    _enter(own)
    say("ready", cgroups=arguments.count)
    signal.sigwait({signal.SIGTERM})


def _folders(top: str, count: int) -> Iterator[str]:
    """Make them, some dozens in each of as many as that takes."""
    _write(f"{top}/cgroup.subtree_control", _CONTROLLERS)
    for number in range(count):
        above = f"{top}/job-{number // _IN_ONE:03}.slice"
        if number % _IN_ONE == 0:
            os.mkdir(above)
            _write(f"{above}/cgroup.subtree_control", _CONTROLLERS)
        folder = f"{above}/task-{number:05}.scope"
        os.mkdir(folder)
        yield folder


def _own_folder() -> str:
    with open("/proc/self/cgroup") as file:
        return "/sys/fs/cgroup" + file.read().rpartition("::")[2].strip()


def _enter(folder: str) -> None:
    _write(f"{folder}/cgroup.procs", str(os.getpid()))


def _touch(path: str) -> None:
    """Whoever writes a page first is charged for it."""
    with open(path, "wb") as file:
        file.write(bytes(_EACH))


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
