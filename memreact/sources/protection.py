"""What one memcg uses, keeps and may use; read when somebody asks for it."""

from __future__ import annotations

from msgspec.structs import replace

from kernelio import memcg
from kernelio.errors import KernelioError, Unsupported
from kernelio.layout import Layout
from memreact_schemas.status import CgroupLimits

__all__ = ["read_protection", "read_set", "read_use_again"]


def read_protection(layout: Layout, path: str) -> CgroupLimits | None:
    """Read the seven files of one memcg; None where it is gone, or they cannot be read."""
    known = read_set(layout, path)
    return None if known is None else read_use_again(layout, path, known)


def read_set(layout: Layout, path: str) -> CgroupLimits | None:
    """Read the five files of the seven that tell what is set; what it uses is left out."""
    directory = layout.memcg_dir(path)
    try:
        kept, limits = memcg.read_protection(directory), memcg.read_limits(directory)
        return CgroupLimits(
            min_bytes=kept.min_bytes,
            low_bytes=kept.low_bytes,
            high_bytes=limits.high_bytes,
            max_bytes=limits.max_bytes,
            swap_max_bytes=memcg.read_swap_max(directory),
        )
    except KernelioError:
        return None


def read_use_again(layout: Layout, path: str, known: CgroupLimits) -> CgroupLimits | None:
    """Read the two files of the seven that tell what it uses; the rest is known from just now."""
    directory = layout.memcg_dir(path)
    try:
        return replace(
            known,
            current_bytes=_current(directory),
            swap_bytes=memcg.read_swap_current(directory),
        )
    except KernelioError:
        return None


def _current(directory: str) -> int | None:
    """The root does not say it."""
    try:
        return memcg.read_current(directory)
    except Unsupported:
        return None
