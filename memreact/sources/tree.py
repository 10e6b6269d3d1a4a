"""The tree of memcgs: which exist, which are empty, which are frozen; told by inotify.

A queue that ran over, watches that ran out, a directory that could not be read for a moment and a
controller that is enabled later leave holes in what inotify tells: each survey fills them.
"""

from __future__ import annotations

import posixpath
from collections import deque
from collections.abc import Iterable, Iterator

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
        self._blind: set[str] = set()
        # The one copy of each path: whoever reads the tree takes these, from any thread.
        self.names: dict[str, str] = {}
        self.left_out = 0

    @property
    def unwatched(self) -> int:
        """How many of the memcgs are not watched, for want of watches: surveys look at them."""
        return len(self._blind)

    def fileno(self) -> int:
        """Readable when something happened."""
        return self._inotify.fileno()

    def close(self) -> None:
        """Give the queue back."""
        self._inotify.close()

    def scan(self) -> list[TreeEvent]:
        """Compare the whole tree with what is known: at start, and after an overflow."""
        self.left_out = 0
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

    def check(self, survey: Iterable[tuple[str, int]]) -> list[TreeEvent]:
        """Compare with the paths and inodes that a survey found; what differs is looked at.

        The survey may be older than what inotify told since, so the directories decide.
        """
        there = dict(survey)
        events = [e for path in self._known.keys() - there.keys() for e in self._look_again(path)]
        for path, inode in there.items():
            known = self._known.get(path)
            if known is None or known[0] != inode:
                events.extend(self._meet_all(path))
        return [*events, *(event for path in self._blind for event in self._reread(path))]

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
        """Meet a memcg and all below it; each is watched before its children are listed.

        What could not be read, but is not gone, stays as it is known, with what is below it.
        """
        missing = set() if missing is None else missing
        waiting = deque([top])
        while waiting:
            path = waiting.popleft()
            if not self._has_room(path):
                self.left_out += 1
                continue
            try:
                inode = self._inode(path)
                missing.discard(path)
                yield from self._meet(path, inode)
                below = cgroup.children(self._layout.memcg_dir(path))
            except Vanished:
                continue
            except KernelioError:
                missing.difference_update(self._with_all_below(path))
                continue
            waiting.extend(posixpath.join(path, name) for name, _ in below)

    def _has_room(self, path: str) -> bool:
        if path in self._known:
            return True
        return len(self._known) < cgroup.MEMCGS_MAX and cgroup.within_bounds(path)

    def _inode(self, path: str) -> int:
        """Tell its inode; a cgroup that the memory controller left is gone as a memcg."""
        directory = self._layout.memcg_dir(path)
        inode = cgroup.inode(directory)
        if path != "/" and not cgroup.has_memory(directory):
            raise Vanished(directory)
        return inode

    def _meet(self, path: str, inode: int) -> Iterator[TreeEvent]:
        known = self._known.get(path)
        if known is not None and known[0] == inode:
            yield from self._reread(path)
            return
        if known is not None:
            yield from self._forget(path)
        self._watch(path)
        populated, frozen = self._state(path) or (True, False)
        self.names[path] = path
        self._known[path] = (inode, populated, frozen)
        if path != "/":
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
                self._blind.add(path)
                continue
            self._paths[watch] = path
            watches.append(watch)

    def _state(self, path: str) -> tuple[bool, bool] | None:
        try:
            state = cgroup.read_cgroup_events(self._layout.memcg_dir(path))
        except KernelioError:
            return None
        return state.populated, state.frozen

    def _reread(self, path: str) -> Iterator[TreeEvent]:
        known = self._known.get(path)
        if known is None:
            return
        state = self._state(path)
        if state is not None and state != known[1:]:
            self._known[path] = (known[0], *state)
            yield MemcgChanged(path, *state)

    def _look_again(self, path: str) -> Iterator[TreeEvent]:
        try:
            self._inode(path)
        except Vanished:
            yield from self._forget(path)
        except KernelioError:
            return

    def _with_all_below(self, path: str) -> list[str]:
        """It and whatever we believe to be below it, parents first."""
        found = [path]
        for each in found:  # grows on the way: a chain may be deeper than calls can nest
            found.extend(sorted(self._below.get(each, ())))
        return found

    def _forget(self, path: str) -> Iterator[TreeEvent]:
        """It is gone, and whatever we still believe to be below it."""
        for gone in reversed(self._with_all_below(path)):
            self._below.pop(gone, None)
            self.names.pop(gone, None)
            self._blind.discard(gone)
            for watch in self._watches.pop(gone, ()):
                self._paths.pop(watch, None)
                self._inotify.remove(watch)
            if self._known.pop(gone, None) is not None:
                yield MemcgGone(gone)
        self._below.get(posixpath.dirname(path), set()).discard(path)
