"""The folder of all swap files of a host, one folder in it for each guest.

    guest_swap_path/        0711, ours
        NAME.PID/           0711, ours, so that nobody plants a link there
            owner           0600, which process that is
            swap0           0600, the process's own: it opens the file

Whoever is killed here at any point leaves a state that the next pass finds and clears: the owner
is written before any file, and removed after all of them.

Several tools may be at work, each for another guest. Whoever talks with a guest has claimed its
folder, by a lock on that, and for no longer than a step that asks nobody the folder of all guests:
a guest that is silent keeps nobody from the others. Under the lock on all, that on one guest is not
waited for, so no two wait for each other.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from memreact_tools.host.swap.filesystem import IN_MEMORY, available_bytes, kind_of
from memreact_tools.host.swap.owner import Owner
from memreact_tools.host.swap.sizing import PREFIX, Room, is_swap_name
from memreact_tools.host.swap.trouble import NoRoom, NoSwapFile, SwapTrouble

__all__ = ["FileThere", "Folder", "Home", "open_home", "owner_key"]

_OWNER, _OWNER_NEW = "owner", "owner.new"
_OWNER_BYTES_MAX = 4096
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+", re.ASCII)
_NAME_MAX = 64
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK_BYTES = 512  # of st_blocks, whatever the file system's are
_WAIT_S = 10.0  # for others at a step that asks nobody: they delete files at the most
_AGAIN_S = 0.01
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class FileThere(NamedTuple):
    """A swap file.

    Args:
        name: In its folder.
        size_bytes: What it may grow to.
        allocated_bytes: What it takes now.
    """

    name: str
    size_bytes: int
    allocated_bytes: int


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of one guest, open.

    Args:
        path: Where it is.
        fd: The same, open.
    """

    path: str
    fd: int

    def claim(self) -> bool:
        """Keep others like us from this guest until it is closed; False where one is at work."""
        return _locked(self.fd)

    def owner(self) -> Owner | None:
        """Return whose it is; None where that was not written, or not by us."""
        try:
            fd = os.open(_OWNER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError:
            return None
        with open(fd, "rb") as file, contextlib.suppress(msgspec.MsgspecError):
            return msgspec.json.decode(file.read(_OWNER_BYTES_MAX), type=Owner)
        return None

    def files(self) -> list[FileThere]:
        """Return the swap files, in the order of their numbers; what else is there is not ours."""
        found = []
        for name in filter(is_swap_name, os.listdir(self.fd)):
            with contextlib.suppress(FileNotFoundError):  # whoever has claimed it deletes there
                status = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    allocated_bytes = status.st_blocks * _BLOCK_BYTES
                    found.append(FileThere(name, status.st_size, allocated_bytes))
        return sorted(found, key=lambda file: int(file.name.removeprefix(PREFIX)))

    def make(self, name: str, size_bytes: int, *, uid: int, gid: int) -> str:
        """Make a file of holes, which nobody but its user opens; returns its path.

        Raises:
            NoSwapFile: No swap file may be called so.
            SwapTrouble: The file system has no room, or no files of that size; nothing is left.
            OSError: It refuses for another reason; nothing is left.
        """
        self._refuse_unless_swap(name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, 0o600, dir_fd=self.fd)
        except FileExistsError as error:
            raise SwapTrouble(f"{self.path}/{name} is there already") from error
        except OSError as error:
            raise _refused(f"{self.path}/{name}", error) from error
        try:
            with open(fd, "rb", buffering=0) as file:
                os.fchmod(file.fileno(), 0o600)
                os.ftruncate(file.fileno(), size_bytes)
                if os.geteuid() == 0:
                    os.fchown(file.fileno(), uid, gid)
        except BaseException as error:
            self.remove(name)
            if isinstance(error, OSError):
                raise _refused(f"{self.path}/{name}", error) from error
            raise
        return f"{self.path}/{name}"

    def remove(self, name: str) -> None:
        """Delete a swap file; that it is gone already is as good.

        Raises:
            NoSwapFile: No swap file may be called so.
        """
        self._refuse_unless_swap(name)
        self._unlink(name)

    def _refuse_unless_swap(self, name: str) -> None:
        if not is_swap_name(name):
            raise NoSwapFile(f"{self.path}: no swap file is called {name!r}")

    def remove_owner(self) -> None:
        """Delete what says whose the folder is; that it is gone already is as good."""
        self._unlink(_OWNER_NEW)
        self._unlink(_OWNER)

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def write_owner(self, owner: Owner) -> None:
        """Write whose it is, at one moment."""
        self._unlink(_OWNER_NEW)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with open(os.open(_OWNER_NEW, flags, 0o600, dir_fd=self.fd), "wb") as file:
                file.write(msgspec.json.encode(owner))
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self._unlink(_OWNER_NEW)
            raise
        os.rename(_OWNER_NEW, _OWNER, src_dir_fd=self.fd, dst_dir_fd=self.fd)


def _refused(path: str, error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoom(f"{path}: {error.strerror}")
    if error.errno in (errno.EFBIG, errno.EINVAL):
        return SwapTrouble(f"{path}: the file system has no files of that size")
    return error


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of all guests, open.

    Args:
        path: Where it is, without symbolic links.
        fd: The same, open.
        wait_s: How long others may keep us out of it.
    """

    path: str
    fd: int
    wait_s: float = _WAIT_S

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others like us out of it for a step that asks nobody; not to be nested.

        Raises:
            SwapTrouble: Another one is at such a step, and stays there.
        """
        until = time.monotonic() + self.wait_s
        while not _locked(self.fd):
            if time.monotonic() >= until:
                raise SwapTrouble(f"another memreact-host is at work in {self.path}")
            time.sleep(_AGAIN_S)
        try:
            yield
        finally:
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def claimed(self, owner: Owner, called: str) -> Iterator[Folder]:
        """Open a guest's folder and keep others like us from it; one without files goes at the end.

        Args:
            owner: The guest's process.
            called: As the guest is called.

        Raises:
            SwapTrouble: Another one is at work for this guest.
            NoRoom: The file system is full.
        """
        with contextlib.ExitStack() as held:
            with self.alone():
                name = self.name_for(owner, called)
                self.make_folder(name, owner)
                folder = held.enter_context(self.folder(name))
                if not folder.claim():
                    raise SwapTrouble(f"another memreact-host is at work in {folder.path}")
            yield folder
            if not folder.files():
                with self.alone():
                    self.remove_folder(name)

    def names(self) -> list[str]:
        """Return the names of the guests' folders."""
        return sorted(name for name in os.listdir(self.fd) if self._is_folder(name))

    def _is_folder(self, name: str) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return stat.S_ISDIR(os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mode)
        return False

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Folder]:
        """Open a guest's folder.

        Raises:
            SwapTrouble: It belongs to somebody else.
        """
        fd = os.open(name, _FOLDER, dir_fd=self.fd)
        try:
            if os.fstat(fd).st_uid != os.geteuid():
                raise SwapTrouble(f"{self.path}/{name} belongs to another user")
            yield Folder(f"{self.path}/{name}", fd)
        finally:
            os.close(fd)

    def guest_of(self, owner: Owner) -> str:
        """Return where a guest's memreact was said to be; empty where it was not.

        Raises:
            SwapTrouble: Another one is at work there, and stays so.
        """
        with self.alone():
            for name in self.names():
                with self.folder(name) as folder:
                    there = folder.owner()
                if there and owner_key(there) == owner_key(owner):
                    return there.guest
        return ""

    def name_for(self, owner: Owner, called: str) -> str:
        """Return the name of a guest's folder: the one that it has, or one that is free.

        Args:
            owner: The guest's process.
            called: As the guest is called; may be empty, and need not be fit for a name.
        """
        for name in self.names():
            with self.folder(name) as folder:
                there = folder.owner()
            if there and owner_key(there) == owner_key(owner):
                return name
        fit = _NOT_IN_NAMES.sub("-", called).strip("-")[:_NAME_MAX] or "guest"
        return f"{fit}.{owner.pid}"

    def make_folder(self, name: str, owner: Owner) -> None:
        """Make a guest's folder, if there is none, and write whose it is.

        A folder that says so already stays as it is: a file system that is full is no reason not to
        take away what fills it.

        Raises:
            NoRoom: The file system is full.
        """
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o711, dir_fd=self.fd)
            with self.folder(name) as folder:
                os.fchmod(folder.fd, 0o711)
                if folder.owner() != owner:
                    folder.write_owner(owner)
        except OSError as error:
            raise _refused(f"{self.path}/{name}", error) from error

    def remove_folder(self, name: str) -> bool:
        """Delete a guest's files and folder; False where something else lies in it, which stays."""
        with self.folder(name) as folder:
            for file in folder.files():
                folder.remove(file.name)
            if set(os.listdir(folder.fd)) - {_OWNER, _OWNER_NEW}:
                return False
            folder.remove_owner()
        os.rmdir(name, dir_fd=self.fd)
        return True

    def room(self) -> Room:
        """Return what there is for one more file."""
        promised = 0
        for name in self.names():
            with self.folder(name) as folder:
                holes = [file.size_bytes - file.allocated_bytes for file in folder.files()]
            promised += sum(hole for hole in holes if hole > 0)
        return Room(available_bytes(self.fd), promised)


def owner_key(owner: Owner) -> tuple[str, int, int]:
    """Return what tells one process from all others."""
    return owner.boot, owner.pid, owner.started


@contextlib.contextmanager
def open_home(
    path: str, *, in_memory_too: bool = False, make: bool = True, wait_s: float = _WAIT_S
) -> Iterator[Home]:
    """Open the folder of all guests.

    Args:
        path: Where it is, absolute.
        in_memory_too: Accept one that lies in the host's memory.
        make: Make it where it is not there.
        wait_s: How long others may keep us out of it.

    Raises:
        SwapTrouble: Others may write there or above, or it lies in memory.
        OSError: It is not there, or cannot be made.
    """
    if not os.path.isabs(path):
        raise SwapTrouble(f"guest_swap_path {path!r} is not absolute")
    if make:
        os.makedirs(path, mode=0o711, exist_ok=True)
    real = os.path.realpath(path)
    _refuse_unsafe(real)
    if not in_memory_too and (kind := kind_of(real)) in IN_MEMORY:
        raise SwapTrouble(
            f"{real} lies on {kind}: swap there takes the memory that it is to save "
            "(another guest_swap_path, or --force)"
        )
    fd = os.open(real, _FOLDER)
    try:
        yield Home(real, fd, wait_s)
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _refuse_unsafe(real: str) -> None:
    """Refuse a folder where others could exchange what lies below our feet."""
    trusted = {0, os.geteuid()}
    path = real
    while True:
        status = os.stat(path)
        shared = bool(status.st_mode & _OTHERS_WRITE)
        kept_apart = path != real and bool(status.st_mode & stat.S_ISVTX)
        if status.st_uid not in trusted or (shared and not kept_apart):
            raise SwapTrouble(f"{path} can be written by others: no place for a guest's memory")
        if path == "/":
            return
        path = os.path.dirname(path)
