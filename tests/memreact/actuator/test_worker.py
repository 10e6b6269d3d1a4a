"""The one thread that writes, on a guest made of files and on a lru_gen that blocks."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Iterator, Mapping

import pytest
from msgspec.structs import replace

from kernelio.interruptible import KICK_SIGNAL, install_kick_handler
from kernelio.mglru import LruGen
from memreact.actions import (
    Age,
    AgeTarget,
    Compact,
    Evict,
    Inspect,
    ReadFragmentation,
    Reclaim,
    Survey,
)
from memreact.actuator.worker import Ground, Work, Worker
from memreact.events import (
    AgeResult,
    AgingEnded,
    BatchEnded,
    CompactionEnded,
    Event,
    Fragmentation,
    Inspected,
    Surveyed,
)
from memreact.gate import Gate
from memreact.sources.inspection import Folios
from tests.fake_guest import FakeGuest
from tests.goldens import golden_text
from tests.memreact.kernel_files import shows_memcg
from tests.stuck import fill, full_fifo

FOLIOS = Folios(4096, 4096, 2 << 20)
LRU_GEN = "/sys/kernel/debug/lru_gen"
PATIENCE_S = 20  # bounds a failure; nothing waits for it when all is well


@pytest.fixture(autouse=True)
def _kickable() -> Iterator[None]:
    before = signal.getsignal(KICK_SIGNAL)
    install_kick_handler()
    yield
    signal.signal(KICK_SIGNAL, before)


class TellingGate(Gate):
    """A gate that tells when a write begins."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Semaphore(0)

    def open_for(self, token: int) -> bool:
        """Whether nothing was stopped: what a write asks last."""
        is_open = super().open_for(token)
        if is_open and self._writing:
            self.begun.release()
        return is_open


class Bench:
    """A worker on a guest, its gate, and what it posted."""

    def __init__(self, guest: FakeGuest, names: Mapping[str, str] | None = None) -> None:
        self.guest = guest
        self.gate = TellingGate()
        self.posted: queue.SimpleQueue[Event] = queue.SimpleQueue()
        guest.shows("/proc/meminfo", golden_text("6.12/proc/meminfo"))
        guest.shows(LRU_GEN, "")
        self.inode = os.stat(shows_memcg(guest, "/a")).st_ino
        self.worker = Worker(self.ground(), self.gate, self.posted.put, names or {})

    def ground(self, lru_gen: LruGen | None = None) -> Ground:
        """The guest's ground, with its own lru_gen or another."""
        path = self.guest.layout.lru_gen
        return Ground(self.guest.layout, "/", FOLIOS, lru_gen or LruGen.open(path))

    def does(self, work: Work, token: int | None = None) -> Event:
        """Have it done and wait for its end."""
        self.worker.submit(work, self.gate.token(0) if token is None else token)
        return self.ended()

    def ended(self) -> Event:
        """What was posted next."""
        return self.posted.get(timeout=PATIENCE_S)

    def evict(self, **other: int) -> Evict:
        """An eviction from /a."""
        values = {"inode": self.inode, "memcg_id": 7, "node": 0, "seq": 3, "pages": 64} | other
        return Evict("/a", **({"swappiness": 0} | values))

    def batch(self, work: Evict | Reclaim, token: int | None = None) -> BatchEnded:
        """Have a batch done."""
        ended = self.does(work, token)
        assert isinstance(ended, BatchEnded)
        return ended

    def received(self) -> bytes:
        """What lru_gen was told."""
        return self.guest.received(LRU_GEN)


@pytest.fixture
def bench(guest: FakeGuest) -> Iterator[Bench]:
    made = Bench(guest)
    made.worker.start()
    yield made
    made.worker.close()


def test_an_eviction_is_one_command_and_is_told_with_a_fresh_reading(bench: Bench) -> None:
    ended = bench.batch(bench.evict())
    assert bench.received() == b"- 7 0 3 0 64"
    assert (ended.path, ended.node, ended.asked_pages) == ("/a", 0, 64)
    assert (ended.outcome, ended.detail) == ("done", "")
    assert ended.after is not None
    assert ended.after.guards[0].current_bytes == 100 << 20
    assert ended.took_us >= 0
    assert ended.after.pressure.at >= ended.ended_at


def test_anonymous_pages_alone_are_asked_for_by_the_kernels_word(bench: Bench) -> None:
    assert bench.batch(bench.evict(swappiness=201)).outcome == "done"
    assert bench.received() == b"- 7 0 3 max 64"


def test_a_stop_before_it_began_holds_it_back(bench: Bench) -> None:
    token = bench.gate.token(0)
    bench.gate.stop_from_loop()
    ended = bench.batch(bench.evict(), token)
    assert ended.outcome == "held_back"
    assert ended.after is not None
    assert bench.received() == b""


def test_a_memcg_that_is_gone_is_not_written_to(bench: Bench) -> None:
    bench.guest.loses("/sys/fs/cgroup/a")
    ended = bench.batch(bench.evict())
    assert (ended.outcome, ended.after) == ("vanished", None)
    assert bench.received() == b""


def test_one_made_again_under_its_name_is_not_written_to(bench: Bench) -> None:
    """Its id would be a stranger's by now."""
    ended = bench.batch(bench.evict(inode=bench.inode + 1))
    assert (ended.outcome, ended.after) == ("vanished", None)
    assert bench.received() == b""


def test_a_write_that_the_kernel_refuses_says_which(bench: Bench) -> None:
    with open("/proc/self/oom_score_adj", "wb", buffering=0) as picky:
        bench.worker.stand_on(bench.ground(LruGen(os.dup(picky.fileno()), "lru_gen")))
        ended = bench.batch(bench.evict())
    assert ended.outcome == "refused"
    assert "- 7 0 3 0 64" in ended.detail
    assert ended.after is not None


def test_without_lru_gen_an_eviction_is_unsupported(bench: Bench) -> None:
    bench.worker.stand_on(Ground(bench.guest.layout, "/", FOLIOS, None))
    ended = bench.batch(bench.evict())
    assert ended.outcome == "unsupported"


def test_one_that_vanished_after_its_write_is_told_without_a_reading(bench: Bench) -> None:
    bench.guest.loses("/sys/fs/cgroup/a/memory.stat")
    ended = bench.batch(bench.evict())
    assert (ended.outcome, ended.after) == ("done", None)
    assert "memory.stat" in ended.detail


class Blocked:
    """A lru_gen into which nothing fits: a write takes until it is broken off."""

    def __init__(self, bench: Bench) -> None:
        self.reader, writer = os.pipe()
        os.set_blocking(writer, False)
        fill(writer)
        os.set_blocking(writer, True)
        bench.worker.stand_on(bench.ground(LruGen(writer, "lru_gen")))
        self.bench = bench

    def begins(self, work: Evict) -> None:
        """Have a write begin, which takes until it is broken off."""
        self.bench.worker.submit(work, self.bench.gate.token(0))
        assert self.bench.gate.begun.acquire(timeout=PATIENCE_S)

    def broken_off(self) -> BatchEnded:
        """Stop, and kick again as the waiting thread does, until the write is over."""
        self.bench.gate.stop_from_loop()
        while True:
            try:
                ended = self.bench.posted.get(timeout=0.002)
            except queue.Empty:  # not yet over, or over and not yet told
                self.bench.gate.kick_if_writing()
            else:
                assert isinstance(ended, BatchEnded)
                return ended

    def close(self) -> None:
        """The worker closes the other end."""
        os.close(self.reader)


@pytest.fixture
def blocked(bench: Bench) -> Iterator[Blocked]:
    made = Blocked(bench)
    yield made
    made.close()


def test_a_write_in_the_kernel_is_broken_off_by_a_kick(bench: Bench, blocked: Blocked) -> None:
    blocked.begins(bench.evict())
    ended = blocked.broken_off()
    assert ended.outcome == "broken_off"
    assert ended.after is not None
    assert not bench.gate.must_kick


def test_it_works_on_after_a_write_was_broken_off(bench: Bench, blocked: Blocked) -> None:
    blocked.begins(bench.evict())
    blocked.broken_off()
    bench.worker.stand_on(bench.ground())
    assert bench.batch(bench.evict()).outcome == "done"
    assert bench.received() == b"- 7 0 3 0 64"


def test_one_thing_at_a_time_in_the_order_asked_for(bench: Bench, blocked: Blocked) -> None:
    blocked.begins(bench.evict(pages=1))
    bench.worker.submit(Inspect("/a"), 0)
    bench.worker.submit(bench.evict(pages=2), bench.gate.token(0))
    first = blocked.broken_off()
    assert (first.asked_pages, first.outcome) == (1, "broken_off")
    assert isinstance(bench.ended(), Inspected)
    second = bench.ended()
    assert isinstance(second, BatchEnded)
    assert (second.asked_pages, second.outcome) == (2, "held_back")


def test_a_vanishing_in_mid_write_is_told_as_such(bench: Bench, blocked: Blocked) -> None:
    blocked.begins(bench.evict())
    bench.guest.loses("/sys/fs/cgroup/a")
    ended = blocked.broken_off()
    assert (ended.outcome, ended.after) == ("broken_off", None)


def test_reclaim_asks_memory_reclaim_in_bytes(bench: Bench) -> None:
    bench.guest.has_memcg("/a", memory_reclaim="")
    assert bench.batch(Reclaim("/a", bench.inode, 64, 4096, -1)).outcome == "done"
    assert bench.guest.received("/sys/fs/cgroup/a/memory.reclaim") == b"262144"
    assert bench.batch(Reclaim("/a", bench.inode, 64, 16384, 60)).outcome == "done"
    wanted = b"1048576 swappiness=60"
    assert bench.guest.received("/sys/fs/cgroup/a/memory.reclaim") == wanted


def test_reclaim_on_a_kernel_without_it_is_unsupported(bench: Bench) -> None:
    assert bench.batch(Reclaim("/a", bench.inode, 64, 4096, -1)).outcome == "unsupported"


def target(bench: Bench, path: str = "/a", inode: int | None = None) -> AgeTarget:
    return AgeTarget(path, bench.inode if inode is None else inode, 7, 0, 9, can_swap=True)


def test_agings_are_written_one_by_one_and_each_has_its_result(bench: Bench) -> None:
    gone = target(bench, "/gone")
    other = target(bench, inode=bench.inode + 1)
    ended = bench.does(Age((target(bench), gone, other)))
    assert isinstance(ended, AgingEnded)
    assert [(r.path, r.outcome) for r in ended.results] == [
        ("/a", "done"),
        ("/gone", "vanished"),
        ("/a", "vanished"),
    ]
    assert bench.received() == b"+ 7 0 9 1 1"


def test_agings_that_were_stopped_are_held_back(bench: Bench) -> None:
    token = bench.gate.token(0)
    bench.gate.stop_from_waiter()
    ended = bench.does(Age((target(bench), target(bench))), token)
    assert isinstance(ended, AgingEnded)
    assert ended.results == (AgeResult("/a", 0, "held_back"), AgeResult("/a", 0, "held_back"))
    assert bench.received() == b""


TRIGGER = "/sys/devices/system/node/node0/compact"


def test_free_memory_is_looked_at_as_asked_for_and_needs_no_open_gate(bench: Bench) -> None:
    for name in ("buddyinfo", "zoneinfo", "pagetypeinfo"):
        bench.guest.shows(f"/proc/{name}", golden_text(f"6.12/proc/{name}"))
    bench.gate.stop_from_waiter()
    seen = bench.does(ReadFragmentation(3, with_movable=True), 0)
    assert isinstance(seen, Fragmentation)
    assert (seen.order, len(seen.zones), seen.failed) == (3, 2, None)
    assert seen.movable_small_pages is not None
    seen = bench.does(ReadFragmentation("auto"), 0)
    assert isinstance(seen, Fragmentation)
    assert (seen.order, seen.movable_small_pages) == (9, None)


def test_a_compaction_is_told_with_a_reading_after_it(bench: Bench) -> None:
    bench.guest.shows(TRIGGER, "")
    bench.guest.shows("/proc/buddyinfo", golden_text("6.12/proc/buddyinfo"))
    bench.guest.shows("/proc/zoneinfo", golden_text("6.12/proc/zoneinfo"))
    ended = bench.does(Compact(0, 2**62, 5))
    assert isinstance(ended, CompactionEnded)
    assert (ended.node, ended.outcome) == (0, "done")
    assert ended.after is not None
    assert ended.after.order == 5
    assert bench.guest.received(TRIGGER) == b"1\n"


def test_a_compaction_decided_before_a_stop_is_held_back(bench: Bench) -> None:
    bench.guest.shows(TRIGGER, "")
    token = bench.gate.token(0)
    bench.gate.stop_from_waiter()
    ended = bench.does(Compact(0, 2**62), token)
    assert isinstance(ended, CompactionEnded)
    assert ended.outcome == "held_back"
    assert bench.guest.received(TRIGGER) == b""


def test_closing_kills_the_child_of_a_compaction(guest: FakeGuest) -> None:
    bench = Bench(guest)
    bench.worker.start()
    with full_fifo(guest.path(TRIGGER)):
        bench.worker.submit(Compact(0, 2**62), bench.gate.token(0))
        thread = bench.worker._thread.native_id
        while not _file(f"/proc/self/task/{thread}/children"):
            os.sched_yield()
        assert bench.worker.close(PATIENCE_S)


def _file(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def test_a_survey_and_an_inspection_need_no_open_gate(bench: Bench) -> None:
    bench.gate.stop_from_waiter()
    surveyed = bench.does(Survey(), 0)
    assert isinstance(surveyed, Surveyed)
    assert [view.path for view in surveyed.memcgs] == ["/", "/a"]
    inspected = bench.does(Inspect("/a"), 0)
    assert isinstance(inspected, Inspected)
    assert inspected.inspection is not None


def test_an_inspection_of_what_is_gone_says_so(bench: Bench) -> None:
    ended = bench.does(Inspect("/gone"))
    assert isinstance(ended, Inspected)
    assert ended.inspection is None
    assert "/gone" in ended.detail


def test_a_guest_whose_tree_went_away_ends_a_survey_not_the_worker(bench: Bench) -> None:
    bench.guest.loses("/sys/fs/cgroup")
    ended = bench.does(Survey())
    assert isinstance(ended, Surveyed)
    assert ended.failed is not None
    assert isinstance(bench.does(Inspect("/a")), Inspected)


def test_other_ground_is_stood_on_in_turn_and_the_old_is_closed(bench: Bench) -> None:
    bench.does(Survey())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        bench.worker.stand_on(bench.ground())
    bench.does(Survey())
    assert len(os.listdir("/proc/self/fd")) == before


def test_of_grounds_that_nobody_stood_on_yet_only_the_newest_is_kept_open(bench: Bench) -> None:
    bench.does(Survey())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        bench.worker.stand_on(bench.ground())
        assert len(os.listdir("/proc/self/fd")) == before + 1


def test_a_memcg_that_cannot_be_looked_at_is_refused_and_not_the_end_of_the_worker(
    bench: Bench,
) -> None:
    """Whoever nests long names until no path reaches them must not end all evictions."""
    path = "/" + "/".join(["d" * 250] * 20)
    ended = bench.batch(Evict(path, 1, 7, 0, 3, 0, 64))
    assert (ended.outcome, ended.after) == ("refused", None)
    aged = bench.does(Age((replace(target(bench), path=path),)))
    assert isinstance(aged, AgingEnded)
    assert aged.results[0].outcome == "refused"


def test_a_survey_takes_the_names_that_are_kept(guest: FakeGuest) -> None:
    kept = {"/a": os.fsdecode(b"/a")}  # no constant that all of Python shares
    bench = Bench(guest, kept)
    bench.worker.start()
    surveyed = bench.does(Survey())
    assert isinstance(surveyed, Surveyed)
    assert surveyed.memcgs[1].path is kept["/a"]
    bench.worker.close()


def test_closing_does_not_wait_for_what_cannot_be_broken_off(
    bench: Bench, blocked: Blocked
) -> None:
    blocked.begins(bench.evict())
    assert not bench.worker.close(patience_s=0.01)
    assert bench.worker._thread.is_alive()
    bench.gate.stop_from_loop()
    while bench.worker._thread.is_alive():
        bench.gate.kick_if_writing()
        bench.worker._thread.join(0.002)
    assert bench.worker.close()
    assert bench.posted.empty()  # nobody listens any more


def test_a_child_is_killed_before_its_thread_may_let_go_of_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    jobs, end = bench.worker._jobs, bench.worker._compactor.end

    class Told:
        get = jobs.get

        def put(self, job: None) -> None:
            order.append("the thread is told")
            jobs.put(job)

    def ending() -> None:
        order.append("the child is killed")
        end()

    monkeypatch.setattr(bench.worker, "_jobs", Told())
    monkeypatch.setattr(bench.worker._compactor, "end", ending)
    assert bench.worker.close()
    assert order == ["the child is killed", "the thread is told"]


def test_closing_ends_the_thread_and_leaves_nothing_open(guest: FakeGuest) -> None:
    bench = Bench(guest)
    threads = set(threading.enumerate())  # one of another test's may end meanwhile
    before = len(os.listdir("/proc/self/fd"))
    bench.worker.start()
    bench.does(bench.evict())
    bench.worker.close()
    assert threads.issuperset(threading.enumerate())
    assert len(os.listdir("/proc/self/fd")) == before - 1  # lru_gen was open before
