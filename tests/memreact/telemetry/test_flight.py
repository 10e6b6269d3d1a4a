"""The flight recorder: what it holds, what leaves, and that it never takes more than it may."""

from __future__ import annotations

import gzip

from hypothesis import given
from hypothesis import strategies as st

from memreact.events import Instant
from memreact.telemetry.flight import Flight, packed, unpacked

MINUTE = 60_000_000
KIB = 1 << 10


def noise(seed: int, size: int) -> bytes:
    """A line that does not get smaller by packing."""
    state, made = seed * 2 + 1, bytearray()
    while len(made) < size:
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        made += b"%016x" % state
    return bytes(made[:size]) + b"\n"


def feed(flight: Flight, lines: list[tuple[bytes, int]]) -> None:
    """Add lines at their moments, with a checkpoint wherever one is wanted."""
    for line, at in lines:
        flight.add(line, Instant(at))
        if flight.wants_checkpoint(Instant(at)):
            flight.begin(b"checkpoint of %d\n" % at, Instant(at))


def held(flight: Flight) -> list[bytes]:
    return b"".join(map(unpacked, flight.blocks())).splitlines(keepends=True)


def test_what_was_added_is_held_in_its_order_behind_a_checkpoint() -> None:
    flight = Flight(64 * KIB, 60 * MINUTE)
    flight.begin(b"checkpoint\n", Instant(0))
    feed(flight, [(b"one\n", 1), (b"two\n", 2)])
    assert held(flight) == [b"checkpoint\n", b"one\n", b"two\n"]


def test_it_is_asked_for_a_checkpoint_before_it_holds_anything() -> None:
    flight = Flight(64 * KIB, 60 * MINUTE)
    assert flight.wants_checkpoint(Instant(0))
    flight.add(b"lost\n", Instant(0))
    assert held(flight) == []


def test_its_blocks_are_the_members_of_a_gzip_file() -> None:
    flight = Flight(64 * KIB, 60 * MINUTE)
    flight.begin(b"checkpoint\n", Instant(0))
    flight.add(b"one\n", Instant(1))
    assert gzip.decompress(b"".join(flight.blocks())) == b"checkpoint\none\n"


def test_the_oldest_leave_when_they_are_too_many_and_the_rest_begins_with_a_checkpoint() -> None:
    flight = Flight(64 * KIB, 10_000 * MINUTE)
    flight.begin(b"checkpoint of 0\n", Instant(0))
    feed(flight, [(noise(n, 1000), n) for n in range(1, 400)])
    lines = held(flight)
    assert lines[0].startswith(b"checkpoint of ")
    assert lines[-1] == noise(399, 1000)
    assert flight.held_bytes > 32 * KIB


def test_the_oldest_leave_when_they_are_too_old() -> None:
    flight = Flight(64 * KIB, 60 * MINUTE)
    flight.begin(b"checkpoint of 0\n", Instant(0))
    feed(flight, [(b"at %d\n" % n, n * MINUTE) for n in range(1, 200)])
    oldest = int(held(flight)[0].split()[-1])
    assert 199 - 60 - 15 <= oldest // MINUTE <= 199 - 60


def test_after_a_long_silence_the_last_that_happened_is_still_there() -> None:
    flight = Flight(64 * KIB, 60 * MINUTE)
    flight.begin(b"checkpoint of 0\n", Instant(0))
    flight.add(b"long ago\n", Instant(1))
    flight.add(b"now\n", Instant(600 * MINUTE))
    assert held(flight)[-2:] == [b"long ago\n", b"now\n"]


def test_a_checkpoint_that_is_too_large_is_told_and_tried_again_later() -> None:
    flight = Flight(4 * KIB, 60 * MINUTE)
    flight.begin(noise(1, 9000), Instant(0))
    assert flight.short_of_bytes is not None
    assert flight.held_bytes == 0
    assert not flight.wants_checkpoint(Instant(MINUTE))
    assert flight.wants_checkpoint(Instant(15 * MINUTE))
    flight.begin(b"small again\n", Instant(15 * MINUTE))
    assert flight.short_of_bytes is None
    assert held(flight) == [b"small again\n"]


def test_a_large_checkpoint_is_not_made_again_before_as_much_has_followed_it() -> None:
    flight = Flight(64 * KIB, 60 * MINUTE)
    made = 0
    for at in range(200):
        if flight.wants_checkpoint(Instant(at)):
            flight.begin(noise(at, 44_000), Instant(at))  # packed it is more than a quarter
            made += 1
        flight.add(noise(at, 500), Instant(at))
    assert flight.held_bytes <= 64 * KIB
    assert made <= 4


def test_switched_off_it_wants_nothing() -> None:
    assert not Flight(0, MINUTE).wants_checkpoint(Instant(0))


@given(
    st.integers(1, 64),
    st.lists(st.tuples(st.integers(0, 90_000), st.booleans(), st.integers(0, 20)), max_size=30),
)
def test_it_never_holds_more_than_it_may_and_always_begins_with_a_checkpoint(
    kib: int, sizes: list[tuple[int, bool, int]]
) -> None:
    flight = Flight(kib * KIB, 60 * MINUTE)
    now = 0
    for n, (size, random, minutes) in enumerate(sizes):
        now += minutes * MINUTE
        feed(flight, [(noise(n, size) if random else b"x" * size + b"\n", now)])
        assert flight.held_bytes <= kib * KIB
        lines = held(flight)
        assert flight.held_bytes <= kib * KIB
        assert flight.held_bytes == sum(map(len, flight.blocks()))
        assert not lines or lines[0].startswith(b"checkpoint of ")


@given(st.binary(max_size=5000))
def test_what_is_packed_is_unpacked(data: bytes) -> None:
    assert unpacked(packed(data)) == data
