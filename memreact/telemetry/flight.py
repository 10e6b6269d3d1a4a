"""The flight recorder: the last lines, compressed, in so many bytes of memory and no more.

It is a row of segments. Each begins with a checkpoint, so that the oldest one may leave at any time
and what is left can still be decided again. Lines are gathered and then packed into blocks; each is
a whole member of a gzip file, so that a file of them is written without unpacking anything.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator

from memreact.events import Instant

__all__ = ["Flight", "packed", "unpacked"]

_BLOCK_BYTES = 32 << 10
_SEGMENTS = 4
# The least of zlib's memory, 48 KiB while a block is packed: keys repeat within a line or two.
_LEVEL, _WINDOW_BITS, _MEMORY = 1, 13, 5
_GZIP = 16


class _Segment:
    """What follows one checkpoint."""

    __slots__ = ("began_at", "blocks", "head", "size")

    def __init__(self, began_at: Instant, checkpoint: bytes) -> None:
        self.began_at = began_at
        self.blocks = [checkpoint]
        self.head = self.size = len(checkpoint)

    def add(self, block: bytes) -> None:
        self.blocks.append(block)
        self.size += len(block)


class Flight:
    """Keeps lines until they are too many or too old.

    Args:
        most_bytes: In memory; 0 keeps nothing.
        most_us: How old the oldest line may become before it leaves; it does so with those that
            follow the same checkpoint.
    """

    def __init__(self, most_bytes: int, most_us: int) -> None:
        self._most_bytes = most_bytes
        self._most_us = most_us
        self._segments: deque[_Segment] = deque()
        self._packed_bytes = 0  # of all segments
        self._gathered = bytearray()
        self._rests_until: Instant | None = None
        self.short_of_bytes: int | None = None
        """What a checkpoint alone would take, where that is more than half of all."""

    @property
    def held_bytes(self) -> int:
        """What is in memory now."""
        return self._packed_bytes + len(self._gathered)

    def wants_checkpoint(self, now: Instant) -> bool:
        """Whether the next line is to follow a checkpoint of its own."""
        if not self._most_bytes or (self._rests_until is not None and now < self._rests_until):
            return False
        if not self._segments:
            return True
        newest = self._segments[-1]
        # A checkpoint of thousands of cgroups is paid for by as much that follows it.
        enough = max(self._most_bytes // _SEGMENTS, newest.head)
        full = newest.size - newest.head + len(self._gathered) >= enough
        return full or now - newest.began_at >= self._most_us // _SEGMENTS

    def begin(self, checkpoint: bytes, now: Instant) -> None:
        """Begin a segment; one that is too large for this memory keeps nothing for a while."""
        self._pack()
        block = packed(checkpoint)
        if len(block) > self._most_bytes // 2:
            self.clear()
            self.short_of_bytes = len(block)
            self._rests_until = Instant(now + self._most_us // _SEGMENTS)
            return
        self.short_of_bytes = self._rests_until = None
        self._segments.append(_Segment(now, block))
        self._packed_bytes += len(block)
        self._let_go(now)

    def add(self, line: bytes, now: Instant) -> None:
        """Take in a whole line, which follows the newest checkpoint."""
        if not self._segments:
            return
        if len(line) >= _BLOCK_BYTES:
            self._pack()
            self._add(packed(line))
        else:
            self._gathered += line
            if len(self._gathered) >= _BLOCK_BYTES or self.held_bytes > self._most_bytes:
                self._pack()
        self._let_go(now)

    def blocks(self) -> Iterator[bytes]:
        """All that is held, oldest first: each a member of a gzip file, of whole lines."""
        self._pack()
        self._fit()
        return iter([block for segment in self._segments for block in segment.blocks])

    def clear(self) -> None:
        """Let go of everything."""
        self._segments.clear()
        self._packed_bytes = 0
        self._gathered = bytearray()

    def _pack(self) -> None:
        if self._gathered and self._segments:
            self._add(packed(bytes(self._gathered)))
        self._gathered = bytearray()

    def _add(self, block: bytes) -> None:
        self._segments[-1].add(block)
        self._packed_bytes += len(block)

    def _let_oldest_go(self) -> None:
        self._packed_bytes -= self._segments.popleft().size

    def _let_go(self, now: Instant) -> None:
        """Let the oldest go that are too old or too many."""
        segments = self._segments
        while len(segments) > 1 and segments[1].began_at <= now - self._most_us:
            self._let_oldest_go()
        self._fit()

    def _fit(self) -> None:
        """Let the oldest go that are too many; without a checkpoint nothing stays."""
        while len(self._segments) > 1 and self.held_bytes > self._most_bytes:
            self._let_oldest_go()
        if self.held_bytes > self._most_bytes:
            self.clear()


def packed(lines: bytes) -> bytes:
    """Make a member of a gzip file of lines."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS + _GZIP, _MEMORY)
    return packer.compress(lines) + packer.flush()


def unpacked(block: bytes) -> bytes:
    """The lines again."""
    return zlib.decompress(block, _WINDOW_BITS + _GZIP)
