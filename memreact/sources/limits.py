"""memory.events of the memcg at work and of the top of the tree, watched only while work runs."""

from __future__ import annotations

import os

from kernelio.errors import KernelioError
from kernelio.inotify import IN_MODIFY, Inotify
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
        self._seen: dict[str, MemoryEvents] = {}

    def fileno(self) -> int:
        """Readable when a counter may have grown."""
        return self._inotify.fileno()

    def arm(self, path: str) -> None:
        """Watch a memcg, or the whole top level where `path` is empty."""
        self.disarm(path)
        watches = self._armed.setdefault(path, {})
        for each in (path,) if path else self._top():
            try:
                self._seen[each] = read_memory_events(self._layout.memcg_dir(each))
                watches[self._inotify.add(self._file(each), IN_MODIFY)] = each
            except KernelioError:
                continue

    def disarm(self, path: str) -> None:
        """Stop watching what `arm` of the same path began."""
        still = {watch for key, watches in self._armed.items() if key != path for watch in watches}
        for watch, each in self._armed.pop(path, {}).items():
            if watch not in still:
                self._inotify.remove(watch)
                self._seen.pop(each, None)

    def read(self) -> list[LimitHit]:
        """What grew since the last call; memory.high and max count for the memcg at work alone."""
        changed = {watched.wd for watched in self._inotify.read()}
        paths = {
            path: bool(key)
            for key, watches in self._armed.items()
            for watch, path in watches.items()
            if watch in changed
        }
        hits = (self._grown(path, at_work=at_work) for path, at_work in paths.items())
        return [hit for hit in hits if hit.oom or hit.high or hit.max]

    def _grown(self, path: str, *, at_work: bool) -> LimitHit:
        try:
            now = read_memory_events(self._layout.memcg_dir(path))
        except KernelioError:
            return LimitHit(path)
        then, self._seen[path] = self._seen.get(path, now), now
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
