"""The one thread that writes to the kernel: survey, evict, age, compact, one thing at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple

from kernelio import cgroup, memcg
from kernelio.alarm import Alarm
from kernelio.errors import Interrupted, KernelioError, Refused, Unsupported, Vanished
from kernelio.layout import Layout
from kernelio.mglru import LruGen
from kernelio.process import name_this_thread
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
from memreact.actuator.compaction import Compactor
from memreact.actuator.percpu import Switches
from memreact.events import (
    AgeResult,
    AgingEnded,
    BatchEnded,
    Event,
    Inspected,
    Inspection,
    Outcome,
)
from memreact.gate import Gate, HeldBack
from memreact.sources.inspection import Folios, inspect
from memreact.sources.pressure import now_us, read_sample
from memreact.sources.survey import survey
from memreact.value import Struct

__all__ = ["Ground", "Work", "Worker"]

# The daemon ends within a second of being told to.
PATIENCE_S = 0.8

Work = Survey | Inspect | Evict | Reclaim | Age | ReadFragmentation | Compact

# Of the swappiness numbers that the kernel takes; what is above is its word `max`.
_HIGHEST = 200


class Ground(Struct, frozen=True):
    """What the worker stands on: read again when the guest's hardware changes."""

    layout: Layout
    own_path: str
    folios: Folios
    lru_gen: LruGen | None

    def close(self) -> None:
        """Close what was opened for it."""
        if self.lru_gen is not None:
            self.lru_gen.close()


class _Ended(NamedTuple):
    """How a write ended; `exhausted` is the kernel's word that there was not enough."""

    outcome: Outcome
    detail: str = ""
    exhausted: bool = False


class Worker:
    """Carries out one action at a time and posts the event that tells how it ended.

    Args:
        ground: Where and with what to work.
        gate: Asked before each write.
        post: Called on this thread with each event.
        names: The one copy of each memcg's path, for surveys to take.
        alarm: Has the kernel kick this thread by itself; None where nobody does.
        switches: Records what is changed for a moment; None where nothing may be.
    """

    def __init__(  # noqa: PLR0913  # each is another part of the daemon
        self,
        ground: Ground,
        gate: Gate,
        post: Callable[[Event], None],
        names: Mapping[str, str] = MappingProxyType({}),
        alarm: Alarm | None = None,
        *,
        switches: Switches | None = None,
    ) -> None:
        self._ground = ground
        self._alarm = alarm
        self._next: Ground | None = None
        self._moving = threading.Lock()
        self._gate = gate
        self._compactor = Compactor(gate, switches)
        self._post = post
        self._names = names
        self._closing = False
        self._jobs: queue.SimpleQueue[tuple[Work, int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="memreact-worker", daemon=True)

    def start(self) -> None:
        """Start the thread; it lives as long as the daemon, so that a kick never goes astray."""
        self._thread.start()

    def submit(self, work: Work, token: int) -> None:
        """Queue an action; `token` is the gate's at the moment of the decision."""
        self._jobs.put((work, token))

    def stand_on(self, ground: Ground) -> None:
        """Work on other ground from the next action on; what it supersedes is closed."""
        with self._moving:
            superseded, self._next = self._next, ground
        if superseded is not None:
            superseded.close()

    def close(self, patience_s: float = PATIENCE_S) -> bool:
        """End the thread after the action that is under way, unless that takes too long.

        A write is broken off by whoever closes, the child of a compaction is killed here, a survey
        ends at the next memcg, and of a row of agings only the one that runs is waited for. What
        cannot be broken off, an aging of seconds or a read that the kernel holds up, dies with the
        process.

        Returns:
            Whether the thread has ended; if not, it touches nothing any more that is closed now.
        """
        self._closing = True
        self._compactor.end()  # while the thread still keeps its hold of the child
        self._jobs.put(None)
        self._thread.join(patience_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        name_this_thread(self._thread.name)
        self._gate.serve_this_thread()
        if self._alarm is not None:
            self._alarm.kick_this_thread()
        while (job := self._jobs.get()) is not None:
            self._move()
            ended = self._carry_out(*job)
            if not self._closing:  # nobody listens any more, and the way there may be closed
                self._post(ended)
        self._move()
        self._ground.close()
        self._compactor.close()

    def _move(self) -> None:
        with self._moving:
            ground, self._next = self._next, None
        if ground is not None:
            self._ground.close()
            self._ground = ground

    def _carry_out(self, work: Work, token: int) -> Event:
        ground = self._ground
        match work:
            case Survey():
                works = ground.lru_gen is not None
                return survey(
                    ground.layout,
                    ground.own_path,
                    mglru_works=works,
                    stopping=lambda: self._closing,
                    names=self._names,
                )
            case Inspect(path):
                return self._inspect(path)
            case Evict() | Reclaim():
                return self._batch(work, token)
            case Age(targets):
                results = tuple(self._age(target, token) for target in targets)
                return AgingEnded(results, read_sample(ground.layout, ground.own_path))
            case ReadFragmentation():
                return self._compactor.look(ground.layout, ground.own_path, work, token)
            case Compact():
                return self._compactor.compact(ground.layout, ground.own_path, work, token)

    def _inspect(self, path: str) -> Inspected:
        try:
            return Inspected(path, self._look_at(path))
        except KernelioError as error:
            return Inspected(path, None, str(error))

    def _look_at(self, path: str) -> Inspection:
        ground = self._ground
        return inspect(ground.layout, ground.own_path, path, ground.folios)

    def _batch(self, work: Evict | Reclaim, token: int) -> BatchEnded:
        node = work.node if isinstance(work, Evict) else 0
        began = now_us()
        how = self._guarded(work, token)
        ended = now_us()
        gone = how.outcome == "vanished"
        seen = Inspected(work.path, None) if gone else self._inspect(work.path)
        return BatchEnded(
            work.path,
            node,
            work.pages,
            how.outcome,
            seen.inspection,
            took_us=ended - began,
            ended_at=ended,
            detail=how.detail or seen.detail,
            exhausted=how.exhausted,
        )

    def _guarded(self, work: Evict | Reclaim | AgeTarget, token: int) -> _Ended:
        """Write unless stopped or the memcg is another one by now, and name how it ended."""
        try:
            self._same_memcg(work)
            found_all = self._write(work, token)
        except HeldBack:
            return _Ended("held_back")
        except Interrupted:
            return _Ended("broken_off")
        except Vanished as error:
            return _Ended("vanished", str(error))
        except Unsupported as error:
            return _Ended("unsupported", str(error))
        except Refused as error:
            return self._refused(work, error)
        return _Ended("done", exhausted=not found_all)

    def _refused(self, work: Evict | Reclaim | AgeTarget, error: Refused) -> _Ended:
        """An unknown memcg id is refused too, and it is unknown when the memcg died just now."""
        try:
            self._same_memcg(work)
        except Vanished as gone:
            return _Ended("vanished", str(gone))
        except KernelioError:
            pass  # it cannot be told: what was refused says more
        return _Ended("refused", str(error))

    def _same_memcg(self, work: Evict | Reclaim | AgeTarget) -> None:
        directory = self._ground.layout.memcg_dir(work.path)
        if cgroup.inode(directory) != work.inode:
            raise Vanished(directory)

    def _write(self, work: Evict | Reclaim | AgeTarget, token: int) -> bool:
        """Do it; only memory.reclaim says when it found less than was asked for."""
        match work:
            case Evict():
                with self._writing(token):
                    self._lru_gen().evict(
                        work.memcg_id,
                        work.node,
                        work.seq,
                        swappiness="max" if work.swappiness > _HIGHEST else work.swappiness,
                        pages=work.pages,
                    )
            case Reclaim():
                with self._writing(token):
                    return self._reclaim(work)
            case AgeTarget():
                # Aging cannot be broken off, so it is only held back.
                if not self._gate.open_for(token):
                    raise HeldBack
                self._lru_gen().age(work.memcg_id, work.node, work.max_seq, can_swap=work.can_swap)
        return True

    @contextmanager
    def _writing(self, token: int) -> Iterator[None]:
        with self._gate.writing(token):
            if self._alarm is not None:
                self._alarm.set_again()
            yield

    def _reclaim(self, work: Reclaim) -> bool:
        directory = self._ground.layout.memcg_dir(work.path)
        swappiness = None if work.swappiness < 0 else work.swappiness
        return memcg.reclaim(directory, bytes_=work.pages * work.page_bytes, swappiness=swappiness)

    def _lru_gen(self) -> LruGen:
        lru_gen = self._ground.lru_gen
        if lru_gen is None:
            raise Unsupported(self._ground.layout.lru_gen, "not open")
        return lru_gen

    def _age(self, target: AgeTarget, token: int) -> AgeResult:
        how = self._guarded(target, token)
        return AgeResult(target.path, target.node, how.outcome, how.detail)
