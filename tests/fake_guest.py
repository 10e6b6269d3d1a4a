"""A guest made of files: it shows what a kernel would print and keeps what it received."""

from __future__ import annotations

import os
import shutil

from kernelio.cgroup import ancestors
from kernelio.layout import Layout

__all__ = ["FakeGuest"]


class FakeGuest:
    """A temp directory laid out as a guest's root; paths are the guest's, such as /proc/swaps."""

    def __init__(self, root: str, cgroup: str = "/sys/fs/cgroup") -> None:
        self.root = root
        self.layout = Layout(root=root, cgroup=cgroup)

    def path(self, path: str) -> str:
        """Where the guest's `path` really is."""
        return f"{self.root}/{path.lstrip('/')}"

    def shows(self, path: str, text: str | bytes) -> str:
        """Let the guest's `path` read as `text` (in place, as the kernel does), and say where."""
        real = self.path(path)
        os.makedirs(os.path.dirname(real), exist_ok=True)
        with open(real, "wb") as file:
            file.write(os.fsencode(text))
        return real

    def has_memcg(self, path: str, **files: str | bytes) -> str:
        """Make the cgroup `path` with files such as memory_low="0", and say where it is.

        The memory controller is on in it and so in all above it: each has memory.current.
        """
        directory = self.layout.memcg_dir(path)
        os.makedirs(directory, exist_ok=True)
        for above in ancestors(path)[:-1]:
            current = f"{self.layout.memcg_dir(above)}/memory.current"
            if not os.path.exists(current):
                with open(current, "wb") as made:
                    made.write(b"0\n")
        for name, text in files.items():
            file = name.replace("_", ".", 1)
            if name.startswith("memory_swap_"):
                file = name.replace("_", ".", 2)
            self.shows(f"{self.layout.cgroup}{path.rstrip('/')}/{file}", text)
        return directory

    def received(self, path: str) -> bytes:
        """What the file holds now: what was written to it."""
        with open(self.path(path), "rb") as file:
            return file.read()

    def loses(self, path: str) -> None:
        """Remove a file, or a directory with all that is in it."""
        real = self.path(path)
        if os.path.isdir(real):
            shutil.rmtree(real)
        else:
            os.unlink(real)
