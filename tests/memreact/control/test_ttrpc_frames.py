"""ttRPC's framing, fed in every way that bytes can arrive."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from memreact.control.ttrpc_frames import (
    DATA,
    HEADER_BYTES,
    KEPT_MAX,
    LENGTH_MAX,
    REQUEST,
    Frame,
    Framer,
    framed,
)

U32 = st.integers(0, 2**32 - 1)
BYTE = st.integers(0, 255)


def header(length: int, stream: int = 1, kind: int = REQUEST, flags: int = 0) -> bytes:
    """A header as the protocol's text has it."""
    return struct.pack(">IIBB", length, stream, kind, flags)


def frame_and_bytes(stream: int, kind: int, flags: int, body: bytes) -> tuple[Frame, bytes]:
    frame = Frame(stream, kind, flags, len(body), body)
    return frame, header(len(body), stream, kind, flags) + body


FRAMES = st.lists(st.builds(frame_and_bytes, U32, BYTE, BYTE, st.binary(max_size=30)), max_size=6)
CUTS = st.lists(st.integers(0, 240), max_size=12)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut bytes at these places."""
    places = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


@given(FRAMES, CUTS)
def test_finds_the_same_frames_however_the_bytes_are_cut(
    sent: list[tuple[Frame, bytes]], cuts: list[int]
) -> None:
    framer = Framer()
    data = b"".join(each for _, each in sent)
    found = [frame for piece in pieces(data, cuts) for frame in framer.feed(piece)]
    assert found == [frame for frame, _ in sent]


@given(st.lists(st.binary(max_size=60)))
def test_any_bytes_are_frames_or_the_beginning_of_one(arrived: list[bytes]) -> None:
    framer = Framer()
    found = [frame for piece in arrived for frame in framer.feed(piece)]
    taken = sum(HEADER_BYTES + frame.length for frame in found)
    data = b"".join(arrived)
    assert taken <= len(data)
    assert len(data) - taken < HEADER_BYTES + int.from_bytes(
        data[taken : taken + 4].ljust(4, b"\xff")
    )


def test_one_byte_at_a_time_makes_a_frame() -> None:
    framer = Framer()
    found = [frame for byte in framed(7, DATA, b"hello") for frame in framer.feed(bytes([byte]))]
    assert found == [Frame(7, DATA, 0, 5, b"hello")]


def test_two_frames_in_one_piece_are_two() -> None:
    assert [frame.stream for frame in Framer().feed(framed(1, 1, b"a") + framed(3, 1, b""))] == [
        1,
        3,
    ]


def test_a_frame_without_a_body_waits_for_no_further_byte() -> None:
    assert list(Framer().feed(header(0))) == [Frame(1, REQUEST, 0, 0, b"")]


def test_frames_are_cut_only_as_they_are_asked_for() -> None:
    framer = Framer()
    frames = framer.feed(framed(1, 1, b"a") * 3 + b"\0\0")
    assert next(frames).stream == 1
    assert [frame.stream for frame in frames] == [1, 1]
    assert [frame.body for frame in framer.feed(framed(5, 1, b"b")[2:])] == [b"b"]


def test_an_announced_length_costs_nothing_before_its_bytes_come() -> None:
    framer = Framer()
    assert not list(framer.feed(header(LENGTH_MAX) + b"few"))
    assert len(framer._body) == 3


def test_the_beginning_of_a_large_body_is_kept_and_the_next_frame_found() -> None:
    body = bytes(range(256)) * 1024
    first, second = Framer().feed(header(len(body)) + body + framed(3, 1, b"next"))
    assert first == Frame(1, REQUEST, 0, len(body), body[:KEPT_MAX])
    assert second.body == b"next"


def test_nothing_is_kept_of_a_body_over_the_limit_and_the_next_frame_is_found() -> None:
    framer = Framer()
    piece = bytes(LENGTH_MAX // 4)
    assert not list(framer.feed(header(LENGTH_MAX + 1)))
    for _ in range(4):
        assert not list(framer.feed(piece))
        assert not framer._body
    first, second = framer.feed(b"x" + framed(3, 1, b"next"))
    assert first == Frame(1, REQUEST, 0, LENGTH_MAX + 1, b"")
    assert second.body == b"next"


def test_a_body_of_the_very_limit_is_no_error() -> None:
    framer = Framer()
    (frame,) = framer.feed(header(LENGTH_MAX) + bytes(LENGTH_MAX))
    assert (frame.length, len(frame.body)) == (LENGTH_MAX, KEPT_MAX)
