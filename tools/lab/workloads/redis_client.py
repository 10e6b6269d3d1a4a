"""A client of the guest's redis: fill it with large values, then ask for a fifth of them, steadily.

Prints a line a second with the requests of that second; every request is also appended to a file,
two 64-bit numbers each: when it was due (CLOCK_MONOTONIC, microseconds) and how long it took.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import struct
import time

from lab.workloads.lines import monotonic_us, say

_PORT = 6379
_TEXT = b"all the king's horses and all the king's men, "
_BLOCK = 4096
_SECOND_US = 1_000_000
_RANDOM = 1024  # of each block: what a page of such values compresses to at best
_RECORD = struct.Struct("<QQ")


class Redis:
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", _PORT), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb", buffering=1 << 17)

    def ask(self, *words: bytes) -> bytes:
        """Send a command and return its answer, a status or a value."""
        request = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self._socket.sendall(b"*%d\r\n%s" % (len(words), request))
        head = self._reader.readline()
        if head[:1] == b"+":
            return head[1:-2]
        if head[:1] != b"$" or head == b"$-1\r\n":
            raise ConnectionError(f"redis answered {head!r} to {words[0]!r} {words[1]!r}")
        answer: bytes = self._reader.read(int(head[1:]) + 2)
        return answer[:-2]


def main() -> None:
    """Fill, say so, then ask until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--values", type=int, default=1500)
    parser.add_argument("--value-bytes", type=int, default=100_000)
    parser.add_argument("--per-second", type=float, default=40.0)
    parser.add_argument("--log", required=True, help="file for every request")
    arguments = parser.parse_args()
    redis = Redis()
    for number in range(arguments.values):
        redis.ask(b"SET", key(number), value(arguments.value_bytes))
    say("ready", bytes=arguments.values * arguments.value_bytes)
    query(redis, arguments.values // 5, arguments.per_second, arguments.log)


def key(number: int) -> bytes:
    """The key of a value; neighbours in number were stored one after the other."""
    return b"value:%06d" % number


def value(size: int) -> bytes:
    """A value that compresses about as well as text and numbers do."""
    blocks = (
        os.urandom(_RANDOM) + (_TEXT * 70)[: _BLOCK - _RANDOM] for _ in range(-(-size // _BLOCK))
    )
    return b"".join(blocks)[:size]


def query(redis: Redis, hot: int, per_second: float, log: str) -> None:
    """Ask for one of the first `hot` values at each due moment, and record what it took.

    A request that could not be sent when it was due, because the one before still ran, is counted
    from when it was due.
    """
    every_us = int(_SECOND_US / per_second)
    chosen = random.Random(1)  # noqa: S311  # which value is asked for is no secret
    due_us = monotonic_us() + every_us
    ended_us = second_us = due_us
    took: list[int] = []
    with open(log, "ab", buffering=0) as file:
        while True:
            time.sleep(max(0, due_us - monotonic_us()) / 1e6)
            since_us = due_us if ended_us > due_us else monotonic_us()
            redis.ask(b"GET", key(chosen.randrange(hot)))
            ended_us = monotonic_us()
            took.append(ended_us - since_us)
            file.write(_RECORD.pack(due_us, took[-1]))
            if ended_us - second_us >= _SECOND_US:
                say("second", requests=len(took), worst_us=max(took))
                took, second_us = [], ended_us
            due_us += every_us


if __name__ == "__main__":
    main()
