"""Make a cgroup and remove it until the ids of cgroups are above a number: DIRECTORY NUMBER.

Each of a cgroup's files takes an id too, so a thousand cgroups are tens of thousands of them.
"""

from __future__ import annotations

import os
import sys

import msgspec


def main(directory: str, number: int) -> None:
    """Print how many it took."""
    made = last = 0
    while last <= number:
        os.mkdir(directory)
        last = os.stat(directory).st_ino
        os.rmdir(directory)
        made += 1
    sys.stdout.write(msgspec.json.encode({"made": made, "last": last}).decode())


main(sys.argv[1], int(sys.argv[2]))
