"""A guest that can do all that memreact asks for."""

from __future__ import annotations

from memreact_schemas.doctor import Capabilities

__all__ = ["ABLE"]

ABLE = Capabilities(
    kernel="6.12",
    root=True,
    page_size=4096,
    nodes=(0, 1),
    cgroup_root="/sys/fs/cgroup",
    memory_controller=True,
    memory_reclaim=True,
    mglru="on",
    psi="privileged",
    cgroup_psi=True,
    page_reporting=True,
    reporting_order=9,
    swap=True,
    rivals=(),
)
