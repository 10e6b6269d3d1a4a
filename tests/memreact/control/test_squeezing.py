"""A squeeze over io.memreact: its row of answers, who is busy with it, and who goes away."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from memreact.account import Account, ZoneAccount
from memreact.control.audit import Audit
from memreact.control.guest import Guest, Squeezer
from memreact.control.peer import Peer
from memreact.control.service import MemreactService
from memreact.control.store import SettingsStore
from memreact.control.varlink import VarlinkProtocol
from memreact.events import Event, Instant, SqueezeAsked, SqueezeCancelled
from memreact.policy.squeeze import why_not_squeeze
from memreact.policy.state import Step
from memreact.run_dir import PushedFile
from memreact.settings.layers import DEFAULT_ORIGIN, Layer
from memreact.telemetry.hub import Hub
from memreact.telemetry.journal import Journal
from memreact.telemetry.ledger import Ledger, accounted, failed, observed, told_by_host
from memreact.telemetry.squeezes import SqueezeFeed
from memreact.value import replace
from memreact_schemas.config import DEFAULTS
from tests.memreact.control.wire import Client, call, serve, settled
from tests.memreact.policy.simulated_guest import MB, PAGE, SECOND, SimulatedGuest
from tests.memreact.policy.test_squeeze import guest_with, left_mb, with_files

HOST = Peer("host", may_read=True, may_write=True)
OTHER = Peer("uid 0", may_read=True, may_write=True)
IO = "io.memreact"
TOTAL = 2048 * MB


class Squeezed:
    """A service over the real policy, a guest of numbers, and the ledger of what that did.

    Args:
        folder: For what is pushed.
        guest: With something to squeeze.
        told_share: Of what can be reported, so much is told the host by the time of a reading.
    """

    def __init__(self, folder: str, guest: SimulatedGuest, told_share: float = 1.0) -> None:
        self.sim, self.told_share = guest, told_share
        self.ledger, self.problem = Ledger(), ""
        self.lines: list[str] = []
        self.readings = 0
        self.feed = SqueezeFeed()
        guest.observe = self._observe
        store = SettingsStore(
            lambda: [Layer(DEFAULT_ORIGIN, DEFAULTS)],
            lambda _: None,
            PushedFile(f"{folder}/pushed"),
        )
        self.audit = Audit(Journal(write=self.lines.append), self._clock)
        self.service = MemreactService(store, self._guest(), Hub(), self.audit)

    def _guest(self) -> Guest:
        nothing: Any = None
        squeezer = Squeezer(
            why_not=lambda path: why_not_squeeze(self.sim.watched.state, path),
            handle=self.sim.tell,
            feed=self.feed,
            ledger=lambda: self.ledger,
            take_stock=self._take_stock,
            swap=lambda: False,
            clock=self._clock,
            page_bytes=PAGE,
            held_until=self._held_until,
        )
        return Guest(
            nothing,
            nothing,
            nothing,
            nothing,
            handle=self.sim.tell,
            why_not_run=nothing,
            clock=self._clock,
            squeezer=squeezer,
        )

    def _held_until(self) -> Instant | None:
        keep = self.sim.watched.state.keep
        return None if keep is None else keep.until

    def _clock(self) -> Instant:
        return Instant(self.sim.now)

    def _observe(self, event: Event, made: Step, now: Instant) -> None:
        self.ledger = observed(self.ledger, event, made.state, now)
        self.feed.observe(made)

    async def _take_stock(self) -> None:
        await asyncio.sleep(0)
        self.readings += 1
        zone = self.sim.zones[0]
        large = zone.blocks * 512 * PAGE
        free = (zone.small * PAGE, *([0] * 8), large)
        told = int(large * self.told_share)
        account = Account(
            self._clock(),
            TOTAL,
            True,  # noqa: FBT003  # positional
            9,
            9,
            (ZoneAccount(free, told, enough_free=True),),
        )
        done = failed(self.ledger, self.problem) if self.problem else None
        self.ledger = done or accounted(self.ledger, account)

    @asynccontextmanager
    async def serve(self, peer: Peer = HOST) -> AsyncIterator[Client]:
        """Serve a client."""
        protocol = VarlinkProtocol({IO: self.service}, peer, self.audit.refused)
        async with serve(protocol) as client:
            yield client

    async def begins(self, client: Client, **what: object) -> None:
        """Have a client ask for a squeeze, and let it begin."""
        what = {"deadline_seconds": 60, **what}
        await client.send(call(f"{IO}.Squeeze", what, more=True))
        await settled()

    async def goes_on(self) -> None:
        """Let the guest work until the squeeze is over."""
        self.sim.run_while(lambda: self.sim.watched.state.squeeze is not None)
        await settled()


async def end_of(client: Client) -> dict[str, Any]:
    """Read to the last answer."""
    while (answer := await client.message()) is not None:
        if not answer.get("continues"):
            found: dict[str, Any] = answer["parameters"]["end"]
            return found
        assert answer["parameters"]["progress"]["left_us"] >= 0
    raise AssertionError("no end")


@pytest.fixture
def squeezed(tmp_path: os.PathLike[str]) -> Squeezed:
    """A guest with 500 MiB of files that nobody touches."""
    guest = guest_with()
    with_files(guest, "/shop", 500, ages=3)
    return Squeezed(os.fspath(tmp_path), guest)


@pytest.mark.asyncio
async def test_its_end_says_what_was_evicted_and_what_the_host_was_told(squeezed: Squeezed) -> None:
    async with squeezed.serve() as client:
        await squeezed.begins(client, target_bytes=100 * MB)
        await squeezed.goes_on()
        end = await end_of(client)
        assert (end["because"], end["wanted_bytes"], end["settled"]) == ("target", 100 * MB, True)
        assert 100 * MB <= end["tally"]["evicted_file_bytes"] <= 102 * MB
        assert 100 * MB <= end["reportable_grew_bytes"] == end["reported_grew_bytes"] <= 102 * MB
        assert end["overrun_us"] == 0
        assert end["took_us"] > 0
        assert await client.fail(f"{IO}.Squeeze", cold=True, deadline_seconds=1) == (
            "org.varlink.service.ExpectedMore",
            {},
        )
    assert squeezed.lines[0] == (
        "asked peer=host verb=Squeeze target_bytes=104857600 deadline_seconds=60\n"
    )


@pytest.mark.asyncio
async def test_progress_is_told_on_the_way(squeezed: Squeezed) -> None:
    async with squeezed.serve() as client:
        await squeezed.begins(client, target_bytes=300 * MB)
        squeezed.sim.run_until_write("/shop")
        squeezed.sim.run_for(100_000)  # into its second batch
        await settled()
        seen: list[dict[str, Any]] = []
        while not seen or not seen[-1]["progress"]["evicted_bytes"]:
            answer = await client.message()
            assert answer is not None
            assert answer["continues"]
            seen.append(answer["parameters"])
        assert seen[-1]["progress"]["stage"] == "evict"
        assert seen[-1]["progress"]["reportable_grew_bytes"] == 0
        await squeezed.goes_on()
        assert (await end_of(client))["because"] == "target"


@pytest.mark.asyncio
async def test_a_share_of_the_guest_is_what_the_host_may_hold(squeezed: Squeezed) -> None:
    free = squeezed.sim.zones[0].blocks * 512 * PAGE
    wanted = TOTAL - TOTAL * 85 // 100 - free
    assert wanted > 0
    async with squeezed.serve() as client:
        await squeezed.begins(client, held_percent=85)
        await squeezed.goes_on()
        end = await end_of(client)
    assert (end["because"], end["wanted_bytes"]) == ("target", wanted)
    assert TOTAL - end["reported_bytes"] <= TOTAL * 85 // 100


@pytest.mark.asyncio
async def test_a_share_that_holds_already_needs_nothing(squeezed: Squeezed) -> None:
    async with squeezed.serve() as client:
        await squeezed.begins(client, held_percent=100)
        await squeezed.goes_on()
        end = await end_of(client)
    assert (end["because"], end["wanted_bytes"]) == ("target", 0)
    assert left_mb(squeezed.sim.memcgs["/shop"]) == 500


@pytest.mark.asyncio
async def test_a_share_of_what_cannot_be_read_is_not_begun(squeezed: Squeezed) -> None:
    squeezed.problem = "zoneinfo is gone"
    async with squeezed.serve() as client:
        await squeezed.begins(client, held_percent=50)
        end = await end_of(client)
    assert (end["because"], end["detail"]) == ("reading_failed", "zoneinfo is gone")
    assert end["problem"] == "zoneinfo is gone"
    assert not any(isinstance(event, SqueezeAsked) for _, event in squeezed.sim.events)


@pytest.mark.asyncio
async def test_a_number_of_bytes_needs_no_reading(squeezed: Squeezed) -> None:
    squeezed.problem = "zoneinfo is gone"
    async with squeezed.serve() as client:
        await squeezed.begins(client, target_bytes=100 * MB)
        await squeezed.goes_on()
        end = await end_of(client)
    assert end["because"] == "target"
    assert end["reported_grew_bytes"] is None
    assert end["tally"]["evicted_file_bytes"] >= 100 * MB


@pytest.mark.asyncio
async def test_why_it_brought_no_more_is_told(squeezed: Squeezed) -> None:
    guest = squeezed.sim
    guest.memcgs["/shop"].low_bytes = 400 * MB
    squeezed.ledger = told_by_host(squeezed.ledger, 900 * MB, Instant(guest.now))
    squeezed.ledger = told_by_host(squeezed.ledger, 800 * MB, Instant(guest.now))
    async with squeezed.serve() as client:
        await squeezed.begins(client, target_bytes=300 * MB)
        await squeezed.goes_on()
        end = await end_of(client)
    assert end["because"] == "nothing_left"
    assert end["left_alone"] == {"protected": 1}
    assert end["returned_bytes"] == 100 * MB
    assert end["used_estimates_bytes"]


@pytest.mark.asyncio
async def test_a_second_one_is_told_whose_the_first_is_and_changes_nothing(
    squeezed: Squeezed,
) -> None:
    async with squeezed.serve() as first, squeezed.serve(OTHER) as second:
        await squeezed.begins(first, target_bytes=100 * MB)
        await second.send(call(f"{IO}.Squeeze", {"cold": True, "deadline_seconds": 5}, more=True))
        answer = await second.message()
        assert answer is not None
        assert answer["error"] == f"{IO}.Busy"
        assert answer["parameters"] == {"by": "host", "left_us": 60 * SECOND}
        await squeezed.goes_on()
        assert (await end_of(first))["because"] == "target"
        await squeezed.begins(second, target_bytes=50 * MB)
        await squeezed.goes_on()
        assert (await end_of(second))["because"] == "target"
    assert any(line.endswith("verb=Squeeze because=io.memreact.Busy\n") for line in squeezed.lines)


@pytest.mark.asyncio
async def test_what_is_held_outlives_its_client_and_keeps_others_busy_until_it_is_released(
    squeezed: Squeezed,
) -> None:
    async with squeezed.serve() as client:
        await squeezed.begins(client, target_bytes=100 * MB, then="hold", hold_seconds=600)
        at = squeezed.sim.now
        await squeezed.goes_on()
        end = await end_of(client)
        assert (end["because"], end["held_until_us"]) == ("target", at + 600 * SECOND)
    async with squeezed.serve(OTHER) as client:
        await squeezed.begins(client, target_bytes=1)
        answer = await client.message()
        assert answer is not None
        assert (answer["error"], answer["parameters"]["by"]) == (f"{IO}.Busy", "host")
        assert 0 < answer["parameters"]["left_us"] < 600 * SECOND
        assert await client.ask(f"{IO}.ReleaseSqueeze") == {}
        assert squeezed.sim.watched.state.keep is None
        await squeezed.begins(client, target_bytes=1)
        await squeezed.goes_on()
        assert (await end_of(client))["held_until_us"] is None


@pytest.mark.asyncio
async def test_a_client_that_goes_away_ends_its_squeeze(squeezed: Squeezed) -> None:
    async with squeezed.serve() as client:
        await squeezed.begins(client, target_bytes=400 * MB)
        squeezed.sim.run_until_write("/shop")
    await squeezed.goes_on()
    assert [event for _, event in squeezed.sim.events if isinstance(event, SqueezeCancelled)] == [
        SqueezeCancelled("host")
    ]
    assert left_mb(squeezed.sim.memcgs["/shop"]) > 400
    async with squeezed.serve() as client:
        await squeezed.begins(client, target_bytes=50 * MB)
        await squeezed.goes_on()
        assert (await end_of(client))["because"] == "target"


@pytest.mark.asyncio
async def test_one_who_goes_before_it_began_or_after_its_end_cancels_nothing(
    squeezed: Squeezed,
) -> None:
    async with squeezed.serve() as client:
        sent = call(f"{IO}.Squeeze", {"cold": True, "deadline_seconds": 5}, more=True)
        await client.send(sent)
    async with squeezed.serve() as client:
        await squeezed.begins(client, target_bytes=50 * MB)
        await squeezed.goes_on()
        assert (await end_of(client))["because"] == "target"
    assert not any(isinstance(event, SqueezeCancelled) for _, event in squeezed.sim.events)


@pytest.mark.asyncio
async def test_a_daemon_that_ends_is_asked_for_nothing(squeezed: Squeezed) -> None:
    async with squeezed.serve() as client:
        await squeezed.begins(client, target_bytes=400 * MB)
        squeezed.feed.close()
    assert not any(isinstance(event, SqueezeCancelled) for _, event in squeezed.sim.events)


@pytest.mark.asyncio
async def test_the_kernel_is_given_no_time_after_the_deadline(squeezed: Squeezed) -> None:
    squeezed.told_share = 0.5
    squeezed.sim.slower = 100
    async with squeezed.serve() as client:
        await squeezed.begins(client, target_bytes=400 * MB, deadline_seconds=1)
        await squeezed.goes_on()
        end = await end_of(client)
    assert (end["because"], end["settled"]) == ("deadline", False)
    assert end["overrun_us"] > 0
    assert end["free_held_bytes"]["not_told_yet"] > 0


@pytest.mark.asyncio
async def test_until_the_deadline_the_host_is_waited_for(squeezed: Squeezed) -> None:
    squeezed.told_share = 0.5
    async with squeezed.serve() as client:
        await squeezed.begins(client, target_bytes=100 * MB)
        await squeezed.goes_on()
        squeezed.sim.now += 60 * SECOND - 1_000 - (squeezed.sim.now - began(squeezed))
        before = squeezed.readings
        told = [await client.message()]
        while told[-1] and told[-1]["parameters"]["progress"]["stage"] != "report":
            told.append(await client.message())
        squeezed.sim.now += 1_000
        squeezed.told_share = 1.0
        end = await end_of(client)
    assert (end["because"], end["settled"]) == ("target", True)
    assert squeezed.readings > before
    assert end["reported_bytes"] == end["reportable_bytes"]


def began(squeezed: Squeezed) -> int:
    """When its squeeze was asked for."""
    return next(at for at, event in squeezed.sim.events if isinstance(event, SqueezeAsked))


@pytest.mark.parametrize(
    ("what", "error", "named"),
    [
        ({}, "org.varlink.service.InvalidParameter", {"parameter": "target_bytes"}),
        (
            {"cold": True, "held_percent": 5},
            "org.varlink.service.InvalidParameter",
            {"parameter": "target_bytes"},
        ),
        (
            {"cold": True, "then": "hold", "hold_seconds": 5},
            "org.varlink.service.InvalidParameter",
            {"parameter": "hold_seconds"},
        ),
        (
            {"target_bytes": 5, "then": "hold"},
            "org.varlink.service.InvalidParameter",
            {"parameter": "hold_seconds"},
        ),
        (
            {"target_bytes": 5, "hold_seconds": 5},
            "org.varlink.service.InvalidParameter",
            {"parameter": "hold_seconds"},
        ),
        (
            {"target_bytes": 5, "then": "hold", "hold_seconds": 86_401},
            "org.varlink.service.InvalidParameter",
            None,
        ),
        ({"cold": False}, "org.varlink.service.InvalidParameter", {"parameter": "target_bytes"}),
        ({"target_bytes": 0}, "org.varlink.service.InvalidParameter", None),
        ({"held_percent": 101}, "org.varlink.service.InvalidParameter", None),
        ({"cold": True, "deadline_seconds": 0}, "org.varlink.service.InvalidParameter", None),
        ({"cold": True, "deadline_seconds": 3601}, "org.varlink.service.InvalidParameter", None),
        (
            {"cold": True, "scope": "/../x"},
            "org.varlink.service.InvalidParameter",
            {"parameter": "scope"},
        ),
        (
            {"cold": True, "scope": "/gone"},
            f"{IO}.NotPossible",
            {"why": "no_such_cgroup: /gone"},
        ),
    ],
)
@pytest.mark.asyncio
async def test_what_is_no_squeeze_is_refused(
    squeezed: Squeezed, what: dict[str, object], error: str, named: dict[str, str] | None
) -> None:
    async with squeezed.serve() as client:
        what = {"deadline_seconds": 60, **what}
        await client.send(call(f"{IO}.Squeeze", what, more=True))
        answer = await client.message()
    assert answer is not None
    assert answer["error"] == error
    assert named in (None, answer["parameters"])
    assert not any(isinstance(event, SqueezeAsked) for _, event in squeezed.sim.events)


@pytest.mark.asyncio
async def test_where_nobody_squeezes_it_is_not_possible(squeezed: Squeezed) -> None:
    guest = squeezed.service._guest
    squeezed.service._guest = guest._replace(squeezer=None)
    async with squeezed.serve() as client:
        await squeezed.begins(client, cold=True)
        answer = await client.message()
    assert answer is not None
    assert answer["error"] == f"{IO}.NotPossible"


@pytest.mark.asyncio
async def test_what_became_impossible_while_memory_was_read_is_told_at_its_end(
    squeezed: Squeezed,
) -> None:
    async with squeezed.serve() as client:
        sent = call(f"{IO}.Squeeze", {"cold": True, "deadline_seconds": 5}, more=True)
        await client.send(sent)
        for _ in range(20):
            await asyncio.sleep(0)
            if squeezed.service._squeezing is not None:
                break
        squeezed.sim.watched.state = replace(squeezed.sim.watched.state, due={})
        end = await end_of(client)
    assert end["because"] == "disabled"
    assert end["tally"]["evicted_file_bytes"] == 0
