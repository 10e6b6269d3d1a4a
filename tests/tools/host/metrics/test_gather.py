"""Many guests at once, some of which do not answer."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from pathlib import Path

from memreact_tools.address import Address, UnixAddress
from memreact_tools.host.metrics.gather import gather
from tests.official_openmetrics import families_of
from tests.tools.host.metrics.guests import answers, hangs, text_of
from tests.tools.servers import TIMEOUT_S, Serve, serving


def by_guest(text: str, name: str) -> dict[str, float]:
    return {
        sample.labels["guest"]: sample.value
        for family in families_of(text)
        for sample in family.samples
        if sample.name == name
    }


def test_one_that_fails_hides_nothing_of_the_others(tmp_path: Path) -> None:
    serves = {
        "good": answers(text_of("/a")),
        "other": answers(text_of("/b")),
        "odd": answers("# EOF\n\n"),
    }
    guests: dict[Address, str] = {UnixAddress(f"{tmp_path}/{name}"): name for name in serves}
    guests[UnixAddress(f"{tmp_path}/none")] = "none"
    with ExitStack() as stack:
        for name, serve in serves.items():
            stack.enter_context(serving(tmp_path / name, serve))
        found = gather(guests, timeout_s=TIMEOUT_S, parallel=8)
    up = {"good": 1, "other": 1, "odd": 0, "none": 0}
    assert by_guest(found.text, "memreact_up") == up
    assert by_guest(found.text, "memreact_turns_total") == {"good": 0, "other": 0}
    assert found.troubles.keys() == {"odd", "none"}
    assert by_guest(found.text, "memreact_scrape_seconds").keys() == up.keys()


def test_one_that_is_silent_is_given_up_after_its_time(tmp_path: Path) -> None:
    over = threading.Event()
    with serving(tmp_path / "s", hangs(over)):
        found = gather({UnixAddress(f"{tmp_path}/s"): "late"}, timeout_s=0.1, parallel=1)
        over.set()
    assert found.troubles == {"late": "no answer in time"}
    assert by_guest(found.text, "memreact_up") == {"late": 0}


def test_when_the_time_for_all_is_over_nobody_else_is_asked(tmp_path: Path) -> None:
    asked: list[str] = []
    moments = iter([0.0, 0.0, 1.0, 7.0, 7.5])
    guests: dict[Address, str] = {UnixAddress(f"{tmp_path}/{name}"): name for name in "ab"}
    with serving(tmp_path / "a", answers(text_of())), serving(tmp_path / "b", _notes(asked)):
        found = gather(
            guests, timeout_s=TIMEOUT_S, parallel=1, within_s=5, clock=lambda: next(moments)
        )
    assert found.troubles == {"b": "there was no time left to ask it"}
    assert not asked
    assert by_guest(found.text, "memreact_scrape_seconds") == {"a": 1, "b": 0.5}


def _notes(asked: list[str]) -> Serve:
    def serve(_: socket.socket) -> None:
        asked.append("b")

    return serve
