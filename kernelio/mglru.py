"""The multi-gen LRU: reading generations, making new ones, evicting old ones.

Source: Documentation/admin-guide/mm/multigen_lru.rst; lru_gen_seq_show() and lru_gen_seq_write() in
mm/vmscan.c. debugfs is no ABI: the parser refuses what it does not know.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, Self

from kernelio.errors import MalformedReading, Refused
from kernelio.files import meaning_of, read_bytes, write_bytes
from kernelio.interruptible import write_interruptibly

__all__ = [
    "Generation",
    "LruGen",
    "MemcgGenerations",
    "NodeGenerations",
    "age_command",
    "evict_command",
    "parse_enabled",
    "parse_lru_gen",
    "read_enabled",
    "read_lru_gen",
    "write_enabled",
]

_BLOCK = 65536  # a longer read would hold the interpreter's lock, or the kernel's, for too long
_LONGEST = 8192  # bytes of a line: PATH_MAX and a number
_HEAD = re.compile(rb"\s*memcg\s+(\d{1,20})(?:\s(.*))?", re.DOTALL)
_NODE = re.compile(rb"\s*node\s+(\d{1,9})\s*")
_GENERATION = re.compile(rb"\s*(\d{1,20})\s+(\d{1,20})\s+(-?\d{1,20})\s+(-?\d{1,20})\s*")
_ENABLED = re.compile(rb"\s*(0x[0-9a-fA-F]{1,8}|\d{1,10})\s*")


class Generation(NamedTuple):
    """Pages last touched before the next generation was made; age_ms is since its own making."""

    seq: int
    age_ms: int
    anon_pages: int
    file_pages: int


class NodeGenerations(NamedTuple):
    """One memcg's generations on one NUMA node, oldest first, at least one."""

    node: int
    generations: tuple[Generation, ...]

    @property
    def min_seq(self) -> int:
        """Number of the oldest generation."""
        return self.generations[0].seq

    @property
    def max_seq(self) -> int:
        """Number of the youngest generation."""
        return self.generations[-1].seq


class MemcgGenerations(NamedTuple):
    """One memcg as lru_gen lists it.

    A removed memcg stays listed under its old path while pages are charged to it, so a path may
    come twice; id 0 stands for one that the memory controller has no id for.
    """

    memcg_id: int
    path: str
    nodes: tuple[NodeGenerations, ...]


def parse_lru_gen(lines: Iterable[bytes], path: str) -> Iterator[MemcgGenerations]:
    r"""Parse lru_gen line by line, giving each memcg as soon as it is complete.

    A memcg's path is the rest of its line, blanks and all, byte for byte as its directory is
    called: the kernel escapes nothing there (a `\x2d` is systemd's, and part of the name), and
    mkdir refuses a newline in a cgroup's name. Bytes that are no text become surrogates, as
    os.listdir gives them.

    Counts below zero, `-0` included, are 0. A node without generations is left out.

    Args:
        lines: The file's lines, with or without their newlines; empty ones are passed over.
        path: The file, for messages.

    Raises:
        MalformedReading: At the first line that is out of place.
    """
    memcg: _OpenMemcg | None = None
    for line in lines:
        if memcg is not None and memcg.takes(line):
            continue
        if not line.strip():
            continue
        if (head := _HEAD.fullmatch(line.rstrip(b"\n"))) is None:
            raise MalformedReading(path, os.fsdecode(line), _expected_after(memcg))
        if memcg is not None:
            yield memcg.closed()
        memcg = _OpenMemcg(int(head[1]), os.fsdecode(head[2] or b""))
    if memcg is not None:
        yield memcg.closed()


class _OpenMemcg:
    """A memcg whose lines are still coming."""

    def __init__(self, memcg_id: int, path: str) -> None:
        self.memcg_id = memcg_id
        self.path = path
        self.nodes: list[tuple[int, list[Generation]]] = []

    def takes(self, line: bytes) -> bool:
        """Take a line that belongs to it; False leaves it to somebody else."""
        if match := _GENERATION.fullmatch(line):
            return self._takes_generation(match)
        if match := _NODE.fullmatch(line):
            self.nodes.append((int(match[1]), []))
            return True
        return False

    def _takes_generation(self, match: re.Match[bytes]) -> bool:
        if not self.nodes:
            return False
        generations = self.nodes[-1][1]
        seq, age_ms, anon, file = map(int, match.groups())
        if generations and seq <= generations[-1].seq:
            return False
        generations.append(Generation(seq, age_ms, max(anon, 0), max(file, 0)))
        return True

    def closed(self) -> MemcgGenerations:
        """Make it a value."""
        nodes = tuple(NodeGenerations(node, tuple(gens)) for node, gens in self.nodes if gens)
        return MemcgGenerations(self.memcg_id, self.path, nodes)


def _expected_after(memcg: _OpenMemcg | None) -> str:
    if memcg is None:
        return "`memcg ID PATH`"
    if not memcg.nodes:
        return "`node N` or `memcg ID PATH`"
    return "`SEQ AGE_MS ANON FILE` in rising order, `node N` or `memcg ID PATH`"


def read_lru_gen(path: str) -> Iterator[MemcgGenerations]:
    """Read lru_gen, a block at a time, giving each memcg as soon as it is complete.

    Raises:
        Unsupported: No multi-gen LRU here, or debugfs is not mounted or locked down.
        MalformedReading: The file says something else.
    """
    return parse_lru_gen(_lines_of(path), path)


def _lines_of(path: str) -> Iterator[bytes]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            rest = b""
            while block := os.read(fd, _BLOCK):
                *lines, rest = (rest + block).split(b"\n")
                yield from lines
                if len(rest) > _LONGEST:
                    raise MalformedReading(path, os.fsdecode(rest), "an end of the line")
            yield rest
        finally:
            os.close(fd)
    except OSError as error:
        raise meaning_of(error, path, fixed=True) from error


def parse_enabled(text: bytes, path: str) -> int:
    """Parse the switches: 1 is the main one, 2 and 4 clear accessed bits in batches.

    Raises:
        MalformedReading: It is no number.
    """
    match = _ENABLED.fullmatch(text)
    if match is None:
        raise MalformedReading(path, os.fsdecode(text), "a number such as 0x0007")
    return int(match[1], 16 if match[1].startswith(b"0x") else 10)


def read_enabled(path: str) -> int:
    """Read the switches, of which the kernel shows only what the hardware can do.

    Raises:
        Unsupported: The multi-gen LRU is not in this kernel.
    """
    return parse_enabled(read_bytes(path, fixed=True), path)


def write_enabled(path: str, mask: int | Literal["y"]) -> None:
    """Set the switches; "y" is all of them.

    Changing the main one moves every page of the guest to another list, under locks that creating a
    cgroup waits for: not while anybody is in a hurry.

    Raises:
        Unsupported, Refused: As write_bytes.
    """
    write_bytes(path, b"y" if mask == "y" else b"%d" % mask, fixed=True)


def evict_command(
    memcg_id: int, node: int, seq: int, *, swappiness: int | Literal["max"], pages: int
) -> bytes:
    """Spell the eviction of generations up to `seq`, of at most about `pages` pages.

    Args:
        memcg_id: As lru_gen lists it, of this very reading: before 7.0 ids are reused.
        node: NUMA node.
        seq: At most max_seq - 2: the two youngest generations cannot be evicted.
        swappiness: 0 leaves anonymous memory alone, 200 takes it first, and `max` (Linux 6.16) file
            pages not at all. From 6.14 on the write ends when the generations up to `seq` are gone
            of all kinds that it may take, and takes younger ones of the other kind until then.
        pages: A batch ends at 64 pages, so a little more may go; far less too, with success.
    """
    share = b"max" if swappiness == "max" else b"%d" % swappiness
    return b"- %d %d %d %s %d" % (memcg_id, node, seq, share, pages)


def age_command(
    memcg_id: int, node: int, max_seq: int, *, can_swap: bool, force_scan: bool = True
) -> bytes:
    """Spell the making of a new youngest generation, number max_seq + 1.

    Args:
        memcg_id: As lru_gen lists it, of this very reading.
        node: NUMA node.
        max_seq: The youngest generation now. If somebody else aged meanwhile, kernels before 6.14
            do nothing and say that all is well: compare max_seq afterwards.
        can_swap: Look at anonymous memory too.
        force_scan: Walk page tables even where four generations exist; the oldest two then merge.
    """
    return b"+ %d %d %d %d %d" % (memcg_id, node, max_seq, can_swap, force_scan)


class LruGen:
    """An open lru_gen to give commands to, one per write: the first error would hide the rest."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path

    @classmethod
    def open(cls, path: str) -> Self:
        """Open the file for writing; close it in the end.

        Raises:
            Unsupported: No multi-gen LRU here, or debugfs is not mounted or locked down.
        """
        try:
            return cls(os.open(path, os.O_WRONLY | os.O_CLOEXEC), path)
        except OSError as error:
            raise meaning_of(error, path, fixed=True) from error

    def age(
        self, memcg_id: int, node: int, max_seq: int, *, can_swap: bool, force_scan: bool = True
    ) -> None:
        """Make a new youngest generation; nothing breaks this off. See age_command.

        Raises:
            Refused: No such memcg or node, or max_seq is not reached yet (EINVAL); without
                force_scan, that there is nothing to do (ERANGE, EEXIST).
        """
        command = age_command(memcg_id, node, max_seq, can_swap=can_swap, force_scan=force_scan)
        self._give(command)

    def evict(
        self, memcg_id: int, node: int, seq: int, *, swappiness: int | Literal["max"], pages: int
    ) -> None:
        """Evict from generations up to `seq`; see evict_command. Success tells no amount.

        Raises:
            Interrupted: A kick broke it off; what was evicted until then is gone.
            Refused: No such memcg or node, or one of the two youngest generations (EINVAL).
        """
        self._give(evict_command(memcg_id, node, seq, swappiness=swappiness, pages=pages))

    def _give(self, command: bytes) -> None:
        try:
            write_interruptibly(self._fd, command)
        except OSError as error:
            if error.errno == errno.EINVAL:
                detail = f"refused `{command.decode()}`"
                raise Refused(self._path, errno.EINVAL, detail) from error
            raise meaning_of(error, self._path, fixed=True) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
