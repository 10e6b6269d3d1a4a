"""What outlives a restart of the daemon but not its stop: files below /run/memreact."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from contextlib import suppress
from typing import NamedTuple

from kernelio.errors import KernelioError
from kernelio.files import write_bytes
from kernelio.layout import Layout
from kernelio.percpu_lists import limit_path

__all__ = ["PUSHED_BYTES_MAX", "RUN_DIR", "PushedFile", "PutBack", "RunDir"]

RUN_DIR = "/run/memreact"
_LOCK = "lock"
_PHASE = "phase"
_SWITCHED_ON = "switched-on"
_PUSHED = "pushed"
PUSHED_BYTES_MAX = 1 << 20  # as large as a settings file may be


class PutBack(NamedTuple):
    """The files that took their old value back, and why others did not."""

    restored: list[str]
    failed: list[KernelioError]


class RunDir:
    """The directory, and the lock that says that we are the only one.

    Args:
        path: The directory; it is made if it can be.
    """

    def __init__(self, path: str = RUN_DIR) -> None:
        self.path = path
        self._lock: int | None = None
        self._switching = threading.Lock()  # the worker switches for some milliseconds too

    @property
    def locked(self) -> bool:
        """Whether we hold the lock."""
        return self._lock is not None

    def take_lock(self) -> bool:
        """Become the only memreact of this guest; False where another one is."""
        if self.locked:
            return True
        try:
            # Others may pass to the sockets in it; its files are ours alone.
            os.makedirs(self.path, mode=0o711, exist_ok=True)
            fd = os.open(self._file(_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return True  # not root: nothing could be done here anyway
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError:
            pass  # a file system without locks: nobody can be found out
        self._lock = fd
        with suppress(OSError):  # full: the lock is what counts
            os.ftruncate(fd, 0)
            os.write(fd, b"%d\n" % os.getpid())
        return True

    def release(self) -> None:
        """Let another one take the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def phase(self, *, draw_again: bool = False) -> float:
        """When in a period this guest's turns lie, 0 to 1: drawn once a boot.

        Args:
            draw_again: A restored snapshot would share it with its clones.
        """
        known = None if draw_again else self._read(_PHASE)
        if known is not None:
            with suppress(ValueError):
                before = float(known)
                if 0 <= before < 1:
                    return before
        drawn = int.from_bytes(os.urandom(4), "big") / 2**32
        self._write(_PHASE, f"{drawn:.9f}\n")
        return drawn

    def remember_switch(self, path: str, before: str) -> bool:
        """Record what a file held before we change it, unless an earlier run did.

        Returns:
            Whether it is recorded: else it could never be put back.
        """
        with self._switching:
            known = self._switched()
            return path in known or self._keep_switched({**known, path: before})

    def put_back(self, layout: Layout) -> PutBack:
        """Restore what was switched; what cannot be restored now stays recorded."""
        ours = (layout.lru_gen_enabled, limit_path(layout))
        with self._switching:
            # Never write to a file that we would not have switched.
            known = {path: was for path, was in self._switched().items() if path in ours}
            return self._restored(known, tuple(known))

    def put_back_one(self, path: str) -> PutBack:
        """Restore this file alone, if it was switched."""
        with self._switching:
            known = self._switched()
            return self._restored(known, (path,) if path in known else ())

    def _restored(self, known: dict[str, str], which: tuple[str, ...]) -> PutBack:
        restored, failed = [], []
        for path in which:
            try:
                write_bytes(path, known[path].encode())
                restored.append(path)
            except KernelioError as error:
                if os.path.exists(path):
                    failed.append(error)
                    continue
            del known[path]  # restored, or there is nothing any more to put back
        self._keep_switched(known)
        return PutBack(restored, failed)

    def _switched(self) -> dict[str, str]:
        lines = (self._read(_SWITCHED_ON) or "").splitlines()
        return {path: before for path, _, before in (line.partition("\t") for line in lines)}

    def _keep_switched(self, known: dict[str, str]) -> bool:
        if known:
            lines = (f"{path}\t{before}\n" for path, before in known.items())
            return self._write(_SWITCHED_ON, "".join(lines))
        with suppress(OSError):
            os.unlink(self._file(_SWITCHED_ON))
        return True

    @property
    def pushed(self) -> PushedFile:
        """The file of the settings that were pushed; another memreact's is not ours to write."""
        return PushedFile(self._file(_PUSHED), ours=self.locked)

    def _file(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _read(self, name: str) -> str | None:
        try:
            with open(self._file(name), encoding="utf-8") as file:
                return file.read(4096)
        except (OSError, UnicodeDecodeError):
            return None

    def _write(self, name: str, text: str) -> bool:
        # Renamed into place: a crash leaves the old text or the new, never half of one.
        fresh = self._file(name + ".new")
        try:
            with open(fresh, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(fresh, self._file(name))
        except OSError:
            return False
        return True


class PushedFile:
    """Settings that were pushed: kept for a restarted daemon, and gone with /run at a reboot.

    Args:
        path: Of the file; only its owner can read it.
        ours: Whether it may be written.
    """

    def __init__(self, path: str, *, ours: bool = True) -> None:
        self.path = path
        self._ours = ours

    def read(self) -> bytes | None:
        """Read it whole, None where nothing was pushed yet.

        Raises:
            OSError: It is there and cannot be read, or is larger than it is ever written.
        """
        try:
            with open(self.path, "rb") as file:
                data = file.read(PUSHED_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        if len(data) > PUSHED_BYTES_MAX:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), self.path)
        return data

    def write(self, data: bytes) -> None:
        """Put new content in place: a crash leaves the old one or the new, never half of one.

        Raises:
            OSError: There is no room, or no such directory, or it is another memreact's.
        """
        if not self._ours:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), self.path)
        fresh = self.path + ".new"
        try:
            fd = _made(fresh)
        except FileExistsError:
            os.unlink(fresh)  # of a crash, or with a mode that is not ours
            fd = _made(fresh)
        try:
            _fill(fd, data)
            os.replace(fresh, self.path)
        except OSError:
            with suppress(OSError):  # half of one is of no use, and takes the room of the next
                os.unlink(fresh)
            raise

    def set_aside(self) -> str:
        """Take a file that cannot be used out of the way; returns where it lies now."""
        aside = self.path + ".bad"
        if not self._ours:
            return self.path
        with suppress(OSError):
            os.replace(self.path, aside)
        return aside


def _made(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _fill(fd: int, data: bytes) -> None:
    with open(fd, "wb", buffering=0) as file:
        if file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
