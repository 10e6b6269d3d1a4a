"""The tree of cgroups: which exist, which are empty, which are frozen; told by inotify alone."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import suppress

from kernelio import cgroup
from kernelio.errors import KernelioError, Unsupported, Vanished
from kernelio.inotify import (
    IN_CREATE,
    IN_DELETE,
    IN_ISDIR,
    IN_MODIFY,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Inotify,
    Watched,
)
from kernelio.layout import Layout
from memreact.events import MemcgAppeared, MemcgChanged, MemcgGone

__all__ = ["CgroupTree"]

TreeEvent = MemcgAppeared | MemcgChanged | MemcgGone


class CgroupTree:
    """Watches each directory for children, and each cgroup.events for what changes in it.

    Removal shows only at the parent's directory, so a child's watches are forgotten by hand.

    Args:
        layout: Where the kernel shows its files.
        inotify: The queue; plainly readable, so it goes straight into the loop.
    """

    def __init__(self, layout: Layout, inotify: Inotify) -> None:
        self._layout = layout
        self._inotify = inotify
        self._known: dict[str, tuple[int, bool, bool]] = {}
        self._paths: dict[int, str] = {}
        self._watches: dict[str, list[int]] = {}
        self._below: dict[str, set[str]] = {}
        self.unwatched = 0

    def fileno(self) -> int:
        """Readable when something happened."""
        return self._inotify.fileno()

    def close(self) -> None:
        """Give the queue back."""
        self._inotify.close()

    def scan(self) -> list[TreeEvent]:
        """Compare the whole tree with what is known: at start, and after an overflow."""
        missing = set(self._known)
        events = list(self._meet_all("/", missing))
        return [*(event for path in sorted(missing) for event in self._forget(path)), *events]

    def read(self) -> list[TreeEvent]:
        """What happened since the last call; a bounded number, the rest wakes the loop again."""
        events: list[TreeEvent] = []
        for watched in self._inotify.read():
            if watched.mask & IN_Q_OVERFLOW:
                return [*events, *self.scan()]
            events.extend(self._meaning(watched))
        return events

    def _meaning(self, watched: Watched) -> Iterator[TreeEvent]:
        path = self._paths.get(watched.wd)
        if path is None:
            return
        if watched.mask & IN_ISDIR and watched.mask & IN_CREATE:
            yield from self._meet_all(posixpath.join(path, watched.name))
        elif watched.mask & IN_ISDIR and watched.mask & IN_DELETE:
            yield from self._forget(posixpath.join(path, watched.name))
        elif watched.mask & IN_MODIFY:
            yield from self._reread(path)

    def _meet_all(self, top: str, missing: set[str] | None = None) -> Iterator[TreeEvent]:
        """Meet a cgroup and all below it; each is watched before its children are listed."""
        waiting = [top]
        while waiting:
            path = waiting.pop()
            try:
                inode = cgroup.inode(self._layout.memcg_dir(path))
            except KernelioError:
                continue
            if missing is not None:
                missing.discard(path)
            yield from self._meet(path, inode)
            with suppress(KernelioError):
                below = cgroup.children(self._layout.memcg_dir(path))
                waiting.extend(posixpath.join(path, name) for name, _ in below)

    def _meet(self, path: str, inode: int) -> Iterator[TreeEvent]:
        known = self._known.get(path)
        if known is not None and known[0] == inode:
            yield from self._reread(path)
            return
        if known is not None:
            yield from self._forget(path)
        self._watch(path)
        populated, frozen = self._state(path)
        self._known[path] = (inode, populated, frozen)
        self._below.setdefault(posixpath.dirname(path), set()).add(path)
        yield MemcgAppeared(path, inode, populated, frozen)

    def _watch(self, path: str) -> None:
        directory = self._layout.memcg_dir(path)
        watches = self._watches.setdefault(path, [])
        wanted = [(directory, IN_CREATE | IN_DELETE | IN_ONLYDIR)]
        if path != "/":
            wanted.append((f"{directory}/cgroup.events", IN_MODIFY))
        for name, mask in wanted:
            try:
                watch = self._inotify.add(name, mask)
            except (Unsupported, Vanished):
                continue
            except KernelioError:
                self.unwatched += 1
                continue
            self._paths[watch] = path
            watches.append(watch)

    def _state(self, path: str) -> tuple[bool, bool]:
        try:
            state = cgroup.read_cgroup_events(self._layout.memcg_dir(path))
        except KernelioError:
            return True, False
        return state.populated, state.frozen

    def _reread(self, path: str) -> Iterator[TreeEvent]:
        known = self._known.get(path)
        if known is None:
            return
        state = self._state(path)
        if state != known[1:]:
            self._known[path] = (known[0], *state)
            yield MemcgChanged(path, *state)

    def _forget(self, path: str) -> Iterator[TreeEvent]:
        """It is gone, and whatever we still believe to be below it."""
        for below in sorted(self._below.pop(path, ())):
            yield from self._forget(below)
        if self._known.pop(path, None) is None:
            return
        self._below.get(posixpath.dirname(path), set()).discard(path)
        for watch in self._watches.pop(path, ()):
            self._paths.pop(watch, None)
            self._inotify.remove(watch)
        yield MemcgGone(path)
