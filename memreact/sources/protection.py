"""What one memcg uses, keeps and may use; read when somebody asks for it."""

from __future__ import annotations

from kernelio import memcg
from kernelio.errors import KernelioError, Unsupported
from kernelio.layout import Layout
from memreact_schemas.status import CgroupLimits

__all__ = ["read_protection"]


def read_protection(layout: Layout, path: str) -> CgroupLimits | None:
    """Read the seven files of one memcg; None where it is gone, or they cannot be read."""
    directory = layout.memcg_dir(path)
    try:
        kept, limits = memcg.read_protection(directory), memcg.read_limits(directory)
        swap = memcg.read_swap(directory)
        return CgroupLimits(
            current_bytes=_current(directory),
            min_bytes=kept.min_bytes,
            low_bytes=kept.low_bytes,
            high_bytes=limits.high_bytes,
            max_bytes=limits.max_bytes,
            swap_bytes=swap.current_bytes,
            swap_max_bytes=swap.max_bytes,
        )
    except KernelioError:
        return None


def _current(directory: str) -> int | None:
    """The root does not say it."""
    try:
        return memcg.read_current(directory)
    except Unsupported:
        return None
