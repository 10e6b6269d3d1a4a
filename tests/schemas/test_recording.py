"""Recordings are read line by line, and what is wrong in one is told with its line."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from memreact_schemas.recording import (
    CutOff,
    ForeignLine,
    NewerVersion,
    NotARecording,
    RecordingError,
    opened,
    read_lines,
)
from memreact_schemas.trace import (
    FORMAT,
    LINE_BYTES_MAX,
    VERSION,
    Checkpoint,
    Decided,
    End,
    Failed,
    Gap,
    Header,
    Line,
    SettingsLine,
    Stepped,
    Why,
)

HEADER = Header(at=1, format=FORMAT, version=VERSION, memreact="9", source="record", wall_us=5)
STEP = Stepped(
    at=3,
    event=Raw(b'{"type":"TimerFired"}'),
    actions=(Raw(b'{"type":"Survey"}'),),
    decisions=(Decided("leave", Why("frozen", {"us": 4, "by": "x"}), "/a", 1),),
    wake_at=9,
)
END = End(at=4, because="asked")
ALL = (
    HEADER,
    Checkpoint(at=2, revision=1, settings=Raw(b"{}"), state=Raw(b'{"turns":3}')),
    STEP,
    SettingsLine(at=3, revision=2, settings=Raw(b'{"memcg":{}}')),
    Gap(at=3, lines=7),
    Failed(at=3, error="KeyError: 'x'"),
    END,
)


def written(*lines: Line) -> bytes:
    return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)


def read(data: bytes) -> list[Line]:
    return [line for _, line in read_lines(io.BytesIO(data))]


def refusal(data: bytes, kind: type[RecordingError]) -> RecordingError:
    with pytest.raises(kind) as refused:
        read(data)
    return refused.value


def plain(lines: Sequence[Line]) -> list[object]:
    return [msgspec.json.decode(msgspec.json.encode(line)) for line in lines]


def test_every_kind_of_line_reads_back_as_it_was_written() -> None:
    assert plain(read(written(*ALL))) == plain(ALL)


def test_lines_are_numbered_from_one() -> None:
    numbers = [number for number, _ in read_lines(io.BytesIO(written(*ALL)))]
    assert numbers == list(range(1, len(ALL) + 1))


def test_a_daemon_that_began_anew_goes_on_with_a_header() -> None:
    assert plain(read(written(*ALL, *ALL))) == plain((*ALL, *ALL))


def test_bytes_that_are_no_text_are_told_wherever_they_are() -> None:
    step = written(STEP).replace(b"TimerFired", b"Timer\x97red")
    assert refusal(written(HEADER) + step + written(END), ForeignLine).line == 2


def test_nothing_but_a_header_may_follow_an_end() -> None:
    assert refusal(written(HEADER, END, STEP), ForeignLine).line == 3


@pytest.mark.parametrize("data", [b"", b"\n", b"[1]\n", b'{"line":"step","at":1}\n', b"\x00" * 99])
def test_what_does_not_begin_with_a_header_is_no_recording(data: bytes) -> None:
    assert refusal(data, NotARecording).line == 1


def test_a_header_of_something_else_is_named() -> None:
    data = written(msgspec.structs.replace(HEADER, format="other"))
    assert "'other'" in str(refusal(data, NotARecording))


def test_a_newer_version_is_told_with_who_wrote_it_whatever_else_its_header_says() -> None:
    text = b'{"line":"h2","format":"memreact-recording","version":2,"memreact":"7.1","x":[]}\n'
    error = refusal(text, NewerVersion)
    assert str(error) == "line 1: it is of version 2, by memreact 7.1; known here is 1"


def test_a_second_header_of_a_newer_version_is_refused_at_its_line() -> None:
    newer = msgspec.structs.replace(HEADER, version=VERSION + 1)
    assert refusal(written(HEADER, END, newer), NewerVersion).line == 3


@pytest.mark.parametrize("foreign", [b"hello", b'{"line":"song"}', b'{"line":"gap"}', b"\xff", b""])
def test_a_foreign_line_is_told_with_its_number(foreign: bytes) -> None:
    data = written(HEADER, STEP) + foreign + b"\n" + written(END)
    assert refusal(data, ForeignLine).line == 3


def test_what_came_before_a_cut_is_read() -> None:
    found: list[Line] = []
    lines = (line for _, line in read_lines(io.BytesIO(written(HEADER, STEP))))
    with pytest.raises(CutOff) as cut:
        found.extend(lines)
    assert plain(found) == plain((HEADER, STEP))
    assert cut.value.line == 2


@given(st.data())
def test_a_recording_that_is_cut_anywhere_says_in_which_line(data: st.DataObject) -> None:
    whole = written(*ALL)
    cut = data.draw(st.integers(1, len(whole) - 1))
    error = refusal(whole[:cut], RecordingError)
    assert error.line == max(1, whole[:cut].count(b"\n") + (not whole[:cut].endswith(b"\n")))
    assert isinstance(error, CutOff if cut > whole.find(b"\n") else NotARecording)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_their_line(tail: bytes) -> None:
    with pytest.raises(RecordingError, match=r"^line [1-9]"):
        read(written(HEADER) + tail)


def test_a_line_without_an_end_is_not_read_whole() -> None:
    class Endless:
        asked = 0

        def readline(self, limit: int, /) -> bytes:
            self.asked = limit
            return written(HEADER) if limit < 0 else b"x" * limit

    endless = Endless()
    with pytest.raises(NotARecording):
        next(read_lines(endless))
    assert endless.asked == LINE_BYTES_MAX + 1


def test_a_compressed_recording_is_opened_as_a_plain_one(tmp_path: Path) -> None:
    for name, data in (("plain", written(*ALL)), ("packed", gzip.compress(written(*ALL)))):
        (tmp_path / name).write_bytes(data)
        with opened(str(tmp_path / name)) as file:
            assert plain([line for _, line in read_lines(file)]) == plain(ALL)


def test_a_compressed_recording_that_was_cut_says_so(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(gzip.compress(written(*ALL))[:-9])
    with opened(str(tmp_path / "cut")) as file, pytest.raises(CutOff):
        list(read_lines(file))


def test_a_compressed_recording_that_is_damaged_says_so(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(written(*ALL)))
    data[-6] ^= 0xFF  # of its checksum
    (tmp_path / "bad").write_bytes(bytes(data))
    with opened(str(tmp_path / "bad")) as file, pytest.raises(ForeignLine):
        list(read_lines(file))
