"""A recording plays: at a speed, step by step, from any time on."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw

from memreact_schemas.recording import NewerVersion, NotARecording
from memreact_schemas.trace import (
    FORMAT,
    VERSION,
    Decided,
    End,
    Failed,
    Gap,
    Header,
    StatusLine,
    Stepped,
    Why,
)
from memreact_tools.top import source
from memreact_tools.top.model import GuestModel
from memreact_tools.top.replay import Recording
from memreact_tools.top.source import Player, Told
from tests.tools.top.guests import BEGAN, MIB, SECOND, cgroup, status
from tests.tools.top.screens import press, screen, settle, shown

WALL = 1_700_000_000 * SECOND


def header(at_s: int, wall_s: int = 0, version: int = VERSION) -> Header:
    return Header(
        at=BEGAN + at_s * SECOND,
        format=FORMAT,
        version=version,
        memreact="0.1.0",
        source="record",
        wall_us=WALL + wall_s * SECOND,
    )


def step(at_s: int, code: str = "frozen", *, guest_us: int | None = None) -> Stepped:
    event = b'{"type":"TimerFired"}'
    if guest_us is not None:
        event = b'{"type":"StallSeen","pressure":{"at":%d,"guest":{"guest_us":%d}}}' % (
            BEGAN + at_s * SECOND,
            guest_us,
        )
    made = Decided("end", Why(code, {"evicted_pages": 7, "guard": "/b"}), "/a", 0)
    return Stepped(at=BEGAN + at_s * SECOND, event=Raw(event), decisions=(made,))


def seen(at_s: int, *cgroups: str, **differs: object) -> StatusLine:
    now_us = BEGAN + at_s * SECOND
    told = status([cgroup(path, [(0, 3)]) for path in cgroups], now_us=now_us, **differs)
    return StatusLine(at=now_us, status=told)


def end(at_s: int) -> End:
    return End(at=BEGAN + at_s * SECOND, because="asked")


def written(folder: Path, lines: Sequence[object], *, more: bytes = b"") -> str:
    path = folder / "r.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines) + more)
    return str(path)


MINUTE = (
    header(0),
    seen(0, "/a", "/b"),
    *(step(at, f"reason_{at}", guest_us=at * 10_000) for at in range(5, 60, 5)),
    seen(58, "/a"),
    end(60),
)


class Clock:
    """Time that the test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The moment."""
        return self.now


def opened(path: str) -> tuple[Recording, Clock]:
    clock = Clock()
    recording = Recording(path, clock)
    recording.start()
    return recording, clock


def reasons(told: Sequence[Told]) -> list[str]:
    found = [each.update for each in told]
    return [each.row.because for each in found if isinstance(each, source.Decided)]


def model_of(told: Sequence[Told]) -> GuestModel:
    guest = GuestModel("r", recorded=True)
    for each in told:
        guest.take(each)
    return guest


def test_what_was_recorded_comes_when_its_time_has_come(tmp_path: Path) -> None:
    recording, clock = opened(written(tmp_path, MINUTE))
    assert isinstance(recording, Player)
    guest = model_of(recording.take())
    assert (list(guest.cgroups), len(guest.log)) == (["/a", "/b"], 0)
    clock.now = 12.0
    told = recording.take()
    assert reasons(told) == ["reason_5", "reason_10"]
    assert [each.at_us for each in told][-1] == 10 * SECOND
    assert recording.take() == []
    assert recording.position() == (12.0, 60.0)
    recording.close()


def test_the_flight_recorder_whose_header_is_made_at_its_end_plays_from_its_begin(
    tmp_path: Path,
) -> None:
    steps = (step(at, f"reason_{at}") for at in range(5, 60, 5))
    recording, clock = opened(written(tmp_path, [header(60), *steps, end(60)]))
    assert recording.position() == (0.0, 55.0)
    assert reasons(recording.take()) == ["reason_5"]
    clock.now = 12.0
    assert reasons(recording.take()) == ["reason_10", "reason_15"]
    recording.jump(0.0)
    assert reasons(recording.take()) == ["reason_5"]


def test_it_plays_faster_and_stands_still(tmp_path: Path) -> None:
    recording, clock = opened(written(tmp_path, MINUTE))
    recording.faster(8.0)
    clock.now = 2.0
    assert len(reasons(recording.take())) == 3
    recording.play(on=False)
    clock.now = 99.0
    assert recording.take() == []
    assert recording.position()[0] == 16.0
    recording.play(on=True)
    clock.now = 100.0
    assert reasons(recording.take()) == ["reason_20"]
    recording.close()


def test_a_step_goes_to_the_next_decision_and_stands(tmp_path: Path) -> None:
    recording, clock = opened(written(tmp_path, MINUTE))
    recording.step()
    assert reasons(recording.take()) == ["reason_5"]
    clock.now = 50.0
    assert recording.position()[0] == 5.0
    recording.step()
    assert reasons(recording.take()) == ["reason_10"]
    recording.close()


def test_it_goes_to_any_time_and_back_from_its_begin(tmp_path: Path) -> None:
    recording, _ = opened(written(tmp_path, MINUTE))
    recording.jump(31.0)
    assert len(reasons(recording.take())) == 6
    assert recording.generation == 0
    recording.jump(11.0)
    assert recording.generation == 1
    assert reasons(recording.take()) == ["reason_5", "reason_10"]
    recording.jump(9999.0)
    guest = model_of(recording.take())
    assert recording.position() == (60.0, 60.0)
    assert guest.log[-1].text == "the recording ends: asked"
    recording.close()


def test_a_recording_that_is_packed_plays_as_well(tmp_path: Path) -> None:
    path = tmp_path / "r.gz"
    path.write_bytes(gzip.compress(Path(written(tmp_path, MINUTE)).read_bytes()))
    recording, clock = opened(str(path))
    clock.now = 1000.0
    assert len(reasons(recording.take())) == 11
    assert recording.position() == (60.0, 60.0)
    recording.close()


def test_figures_and_words_behind_a_decision_are_told_apart(tmp_path: Path) -> None:
    recording, clock = opened(written(tmp_path, MINUTE))
    clock.now = 5.0
    (entry,) = model_of(recording.take()).log
    assert entry.row is not None
    assert (entry.row.figures, entry.row.words) == ({"evicted_pages": 7}, {"guard": "/b"})
    recording.close()


def test_stalls_that_events_tell_of_become_points(tmp_path: Path) -> None:
    recording, clock = opened(written(tmp_path, MINUTE))
    clock.now = 15.0
    guest = model_of(recording.take())
    assert [point.ppm for point in guest.points] == [10_000, 10_000]
    recording.close()


def test_a_guest_that_booted_again_goes_on_after_what_was_before(tmp_path: Path) -> None:
    lines = (
        header(100),
        seen(100, "/a"),
        step(110),
        header(3, wall_s=30),
        seen(3, "/b", started_at_us=2),
        step(5, "later"),
        end(6),
    )
    recording, clock = opened(written(tmp_path, lines))
    clock.now = 40.0
    guest = model_of(recording.take())
    assert recording.position() == (33.0, 33.0)
    assert guest.restarts == 1
    assert [entry.row.because for entry in guest.log if entry.row] == ["frozen", "later"]
    recording.close()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    lines = (header(0), Gap(at=BEGAN, lines=7), Failed(at=BEGAN, error="KeyError: 'x'"), end(0))
    recording, _ = opened(written(tmp_path, lines))
    texts = [entry.text for entry in model_of(recording.take()).log]
    assert texts == [
        "7 lines are missing here",
        "memreact ended by a bug: KeyError: 'x'",
        "the recording ends: asked",
    ]
    recording.close()


@pytest.mark.parametrize(
    ("more", "why"),
    [(b"", "cut off"), (b'{"line":"st', "cut off"), (b"something else\n", "line 4")],
)
def test_a_recording_that_is_cut_off_or_foreign_plays_up_to_there(
    tmp_path: Path, more: bytes, why: str
) -> None:
    recording, clock = opened(written(tmp_path, (header(0), seen(0, "/a"), step(2)), more=more))
    clock.now = 99.0
    guest = model_of(recording.take())
    assert reasons_of(guest) == ["frozen"]
    assert why in guest.log[-1].text
    assert recording.take() == []
    recording.close()


def reasons_of(guest: GuestModel) -> list[str]:
    return [entry.row.because for entry in guest.log if entry.row is not None]


def test_what_is_no_recording_or_a_newer_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NewerVersion):
        Recording(written(tmp_path, [header(0, version=VERSION + 1)]))
    with pytest.raises(NotARecording):
        Recording(written(tmp_path, [], more=b"hello\n"))


def test_lines_are_read_for_a_moment_only(tmp_path: Path) -> None:
    class Slow(Clock):
        def __call__(self) -> float:
            """Some passes whenever it is looked at."""
            self.now += 0.01
            return self.now

    clock = Slow()
    recording = Recording(written(tmp_path, MINUTE), clock)
    recording.jump(60.0)
    told = recording.take()
    assert 0 < len(reasons(told)) < 11
    assert recording.behind
    recording.close()


@pytest.mark.asyncio
async def test_the_screen_plays_it_by_keys(tmp_path: Path) -> None:
    recording, clock = opened(written(tmp_path, MINUTE))
    async with screen(recording) as (top, pilot):
        assert "0:00:00 of 0:01:00, x1" in shown(top)[0]
        await press(top, pilot, ".")
        assert any("reason 5" in line for line in shown(top))
        assert "0:00:05 of 0:01:00, stands still" in shown(top)[0]
        await press(top, pilot, "]")
        assert "0:00:15" in shown(top)[0]
        await press(top, pilot, "[")
        assert "0:00:05" in shown(top)[0]
        assert not any("reason 10" in line for line in shown(top))
        await press(top, pilot, "j", *"30s", "enter")
        assert "0:00:30" in shown(top)[0]
        await press(top, pilot, "j", *"zz", "enter")
        assert "0:00:30" in shown(top)[0]
        await press(top, pilot, "+", "p")
        clock.now += 5.0
        await settle(top, pilot)
        assert "0:00:40 of 0:01:00, x2" in shown(top)[0]
        await press(top, pilot, "-", "p", "j", "0", "enter")
        assert "0:00:00" in shown(top)[0]
    recording.close()


def test_a_cgroup_of_a_recording_is_as_large_as_its_generations(tmp_path: Path) -> None:
    recording, _ = opened(written(tmp_path, MINUTE))
    guest = model_of(recording.take())
    assert guest.cgroups["/a"].file_bytes == 3 * MIB
    recording.close()
