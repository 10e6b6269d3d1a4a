"""memory.events of the memcg at work and of the top of the tree, watched only while work runs."""

from __future__ import annotations

import os
from contextlib import suppress

from kernelio.errors import KernelioError
from kernelio.inotify import IN_CREATE, IN_MODIFY, IN_ONLYDIR, IN_Q_OVERFLOW, Inotify, Watched
from kernelio.layout import Layout
from kernelio.memcg import MemoryEvents, read_memory_events
from memreact.events import LimitHit

__all__ = ["LimitWatch"]


class LimitWatch:
    """Tells which counters grew; counts are recursive, so the top level hears of every OOM kill.

    Args:
        layout: Where the kernel shows its files.
        inotify: A queue of its own.
    """

    def __init__(self, layout: Layout, inotify: Inotify) -> None:
        self._layout = layout
        self._inotify = inotify
        self._armed: dict[str, dict[int, str]] = {}
        # By watch, which is the file's own: one that was made again under the same name is another.
        self._seen: dict[int, MemoryEvents] = {}
        self._births: int | None = None

    def fileno(self) -> int:
        """Readable when a counter may have grown."""
        return self._inotify.fileno()

    def arm(self, path: str) -> None:
        """Watch a memcg, or the whole top level where `path` is empty, those to come included."""
        self.disarm(path)
        if not path:
            with suppress(KernelioError):
                self._births = self._inotify.add(self._layout.cgroup_root, IN_CREATE | IN_ONLYDIR)
        watches = self._armed.setdefault(path, {})
        for each in (path,) if path else self._top():
            try:
                seen = read_memory_events(self._layout.memcg_dir(each))
                watch = self._inotify.add(self._file(each), IN_MODIFY)
            except KernelioError:
                continue
            watches[watch] = each
            self._seen.setdefault(watch, seen)  # what it holds of the other key is not told yet

    def disarm(self, path: str) -> None:
        """Stop watching what `arm` of the same path began."""
        if not path and self._births is not None:
            self._inotify.remove(self._births)
            self._births = None
        still = {watch for key, watches in self._armed.items() if key != path for watch in watches}
        for watch in self._armed.pop(path, {}):
            if watch not in still:
                self._inotify.remove(watch)
                self._seen.pop(watch, None)

    def close(self) -> None:
        """Give the queue back."""
        self._inotify.close()

    def read(self) -> list[LimitHit]:
        """What grew since the last call; memory.high and max count for the memcg at work alone."""
        events = self._inotify.read()
        lost = any(event.mask & IN_Q_OVERFLOW for event in events)
        born = self._meet(self._top() if lost else self._born(events))
        changed = set(self._seen) if lost else {event.wd for event in events} | born
        hits = [self._grown(watch) for watch in sorted(changed & self._seen.keys())]
        return [hit for hit in hits if hit.oom > 0 or hit.high > 0 or hit.max > 0]

    def _born(self, events: list[Watched]) -> list[str]:
        return [f"/{event.name}" for event in events if event.wd == self._births]

    def _meet(self, paths: list[str]) -> set[int]:
        """Watch what was made on the top level since: it counts from 0, and may have counted."""
        watches = self._armed.get("")
        if watches is None:
            return set()
        met = set()
        for path in paths:
            with suppress(KernelioError):
                watch = self._inotify.add(self._file(path), IN_MODIFY)
                watches[watch] = path
                self._seen.setdefault(watch, MemoryEvents())
                met.add(watch)
        return met

    def _grown(self, watch: int) -> LimitHit:
        keys = [key for key, watches in self._armed.items() if watch in watches]
        path, at_work = self._armed[keys[0]][watch], any(keys)
        try:
            now = read_memory_events(self._layout.memcg_dir(path))
        except KernelioError:
            return LimitHit(path)
        then, self._seen[watch] = self._seen[watch], now
        oom = now.oom - then.oom + now.oom_kill - then.oom_kill
        if not at_work:
            return LimitHit(path, oom=oom)
        return LimitHit(path, now.high - then.high, now.max - then.max, oom)

    def _file(self, path: str) -> str:
        return f"{self._layout.memcg_dir(path)}/memory.events"

    def _top(self) -> list[str]:
        try:
            with os.scandir(self._layout.cgroup_root) as entries:
                return [f"/{e.name}" for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError:
            return []
