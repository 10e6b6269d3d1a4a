"""Where the kernel shows its files, under one root that a test can replace."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Absolute paths of the interfaces that memreact touches.

    Args:
        root: Prefix of every path: empty on a real guest, a temp directory in a test.
        cgroup: Mount point of the cgroup v2 tree, as found in mountinfo, without the root.
        dev: Where devices have their nodes, without the root.
    """

    root: str = ""
    cgroup: str = "/sys/fs/cgroup"
    dev: str = "/dev"

    @property
    def cgroup_root(self) -> str:
        """Directory of the root cgroup."""
        return self.root + self.cgroup

    def memcg_dir(self, path: str) -> str:
        """Directory of the cgroup that the kernel calls `path` ("/" is the root)."""
        return self.cgroup_root + path.rstrip("/")

    def proc(self, name: str) -> str:
        """A file below /proc."""
        return f"{self.root}/proc/{name}"

    def sys(self, name: str) -> str:
        """A file below /sys."""
        return f"{self.root}/sys/{name}"

    @property
    def lru_gen(self) -> str:
        """The multi-gen LRU's debugfs file."""
        return self.sys("kernel/debug/lru_gen")

    @property
    def lru_gen_enabled(self) -> str:
        """The multi-gen LRU's switches."""
        return self.sys("kernel/mm/lru_gen/enabled")
