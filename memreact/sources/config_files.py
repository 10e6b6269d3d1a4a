"""The settings files: told when one may read differently, whatever happened on the way to it.

A file is reached by steps, from the root through folders and symbolic links. Each step is a name in
a folder, so the folder is watched for it: a file that is written, renamed into place or removed, a
link that is swapped, a folder that is not there yet. Those that are only passed tell of their end.
Of drop-in folders every name counts. A file has a watch of its own too, for it may be written under
another name.

Source: inotify(7)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final

from kernelio.errors import KernelioError
from kernelio.inotify import (
    IN_ATTRIB,
    IN_CLOSE_WRITE,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_IGNORED,
    IN_MASK_ADD,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    Inotify,
)

__all__ = ["WATCHES_MAX", "ConfigFiles"]

WATCHES_MAX: Final = 256
_STEPS_MAX = 64  # folders and links on the way to one file
_READS_MAX = 64  # of 16 KiB each: a storm is left for the next turn of the loop
_ENTRIES = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE | IN_ATTRIB
_FOLDER = _ENTRIES | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
# A folder on the way that is there tells of its own end; what else happens in it, as in /tmp, need
# not wake us. Added to what it may be watched for already.
_PASSED = IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_MASK_ADD
_FILE = IN_CLOSE_WRITE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF
_ANY = ""  # of a watch: every name counts

_Names = dict[int, set[str]]


class ConfigFiles:
    """Tells that a settings file may have changed; what it says now is for the reader to see.

    Args:
        files: Absolute paths of the files, there or not.
        folders: Of folders, there or not, of which every file counts.
        inotify: A queue of its own.
    """

    def __init__(self, files: Sequence[str], folders: Sequence[str], inotify: Inotify) -> None:
        self._files = files
        self._folders = folders
        self._inotify = inotify
        self._names: _Names = {}
        self.unwatched = 0
        self._arm()

    def fileno(self) -> int:
        """Readable when something happened near a file."""
        return self._inotify.fileno()

    def close(self) -> None:
        """Give the queue back."""
        self._inotify.close()

    def read(self) -> bool:
        """Say whether something changed, once for all that waits.

        Raises:
            KernelioError: The queue is of no use any more.
        """
        changed = False
        for _ in range(_READS_MAX):
            events = self._inotify.read()
            if not events:
                break
            changed |= any(self._counts(each.wd, each.mask, each.name) for each in events)
        if changed:
            self._arm()  # before the files are read: what happens after it is told again
        return changed

    def _counts(self, wd: int, mask: int, name: str) -> bool:
        if mask & IN_Q_OVERFLOW:
            return True
        names = self._names.get(wd)
        if names is None or mask & IN_IGNORED:
            return False  # of a watch that we took back; its end was told in other ways
        return not name or name in names or _ANY in names

    def _arm(self) -> None:
        """Watch all steps as they are now, and no others."""
        self.unwatched = 0
        names: _Names = {}
        for path in self._files:
            self._watch_way(names, path)
        for folder in self._folders:
            self._watch_way(names, folder)
            self._watch(names, folder, _FOLDER, _ANY)
            for link in _links_in(folder):
                self._watch_way(names, link)
        for gone in self._names.keys() - names.keys():
            self._inotify.remove(gone)
        self._names = names

    def _watch_way(self, names: _Names, path: str, *, again: bool = True) -> None:
        for folder, name, passes in _steps(path):
            # Watched first and looked at then: a name that appears in between is told.
            if passes:
                watched = self._watch(names, os.path.join(folder, name), _PASSED)
            else:
                watched = self._watch(names, folder, _FOLDER, name)
            if not watched:
                if again:  # it went meanwhile
                    self._watch_way(names, path, again=False)
                return
        if not os.path.isdir(path):
            self._watch(names, path, _FILE, _ANY)

    def _watch(self, names: _Names, path: str, mask: int, name: str | None = None) -> bool:
        if len(names) >= WATCHES_MAX:
            self.unwatched += 1
            return False
        try:
            watch = self._inotify.add(path, mask)
        except KernelioError:
            self.unwatched += os.path.exists(path)  # not there yet: its folder tells when it is
            return False
        told = names.setdefault(watch, set())
        if name is not None:
            told.add(name)
        return True


def _links_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries if entry.is_symlink())
    except OSError:
        return []


def _steps(path: str) -> Iterator[tuple[str, str, bool]]:
    """List the names that lead to a file, each with the folder in which it is looked up.

    The third says that the name is a folder that is only passed.
    """
    left, folder = _parts(path), "/"
    for _ in range(_STEPS_MAX):
        if not left:
            return
        name = left.pop()
        if name == "..":
            folder = os.path.dirname(folder)
            continue
        here = os.path.join(folder, name)
        yield folder, name, bool(left) and os.path.isdir(here) and not os.path.islink(here)
        try:
            leads_to = os.readlink(here)
        except OSError:  # no link: it is a folder, the file, or not there
            folder = here
        else:
            left += _parts(leads_to)
            folder = "/" if leads_to.startswith("/") else folder


def _parts(path: str) -> list[str]:
    """Split a path into its names, the first one last."""
    return [name for name in reversed(path.split("/")) if name not in {"", "."}]
