"""One reading of every memcg: who lives, how old its pages are, what it stalled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar

from kernelio import cgroup, memcg, mglru, psi, swap
from kernelio.errors import KernelioError, Unsupported, Vanished
from kernelio.layout import Layout
from memreact.events import Generation, MemcgView, NodeView, Surveyed
from memreact.sources.pressure import read_sample

__all__ = ["survey"]

_Each = TypeVar("_Each")


def survey(
    layout: Layout,
    own_path: str,
    *,
    mglru_works: bool,
    stopping: Callable[[], bool] = lambda: False,
    names: Mapping[str, str] = MappingProxyType({}),
) -> Surveyed:
    """Read all memcgs with one pass over lru_gen, or without it on the rung below.

    The directories are read before lru_gen: a memcg that still has the same inode when it is
    written to has lived through the reading, so its id is its own.

    Args:
        layout: The guest.
        own_path: memreact's own memcg.
        mglru_works: Whether to read lru_gen.
        stopping: Asked between two memcgs, of which there may be thousands: True ends it there.
        names: The one copy of each path; those that are not in it yet are their own.
    """
    try:
        inodes = dict(_until(stopping, cgroup.walk(layout, names=names)))
        rows = mglru.read_lru_gen(layout.lru_gen) if mglru_works else ()
        found, lost_pages = _by_path(_until(stopping, rows), inodes)
        views = tuple(_until(stopping, _views(layout, inodes, found, mglru_works=mglru_works)))
    except _Stopped:
        return Surveyed((), read_sample(layout, own_path), failed="memreact stops")
    except KernelioError as error:
        return Surveyed((), read_sample(layout, own_path), failed=str(error))
    return Surveyed(views, read_sample(layout, own_path), out_of_reach_pages=lost_pages)


class _Stopped(Exception):  # noqa: N818  # nothing went wrong
    """The survey was ended from outside."""


def _until(stopping: Callable[[], bool], each: Iterable[_Each]) -> Iterator[_Each]:
    for one in each:
        if stopping():
            raise _Stopped
        yield one


def _by_path(
    rows: Iterable[mglru.MemcgGenerations], inodes: dict[str, int]
) -> tuple[dict[str, mglru.MemcgGenerations], int]:
    """The living memcg of each path, and the pages of those that nobody can be asked to evict.

    A dying one keeps its path in the list, and stands first; before 7.0 it has lost its id.
    """
    living: dict[str, mglru.MemcgGenerations] = {}
    lost_pages = 0
    for row in rows:
        known = living.get(row.path)
        if row.memcg_id == 0 and row.path:
            lost_pages += _pages(row)
        elif (
            row.memcg_id
            and row.path in inodes
            and (known is None or known.memcg_id != inodes[row.path])
        ):
            living[row.path] = row
    return living, lost_pages


def _pages(row: mglru.MemcgGenerations) -> int:
    return sum(g.anon_pages + g.file_pages for node in row.nodes for g in node.generations)


def _views(
    layout: Layout,
    inodes: dict[str, int],
    found: dict[str, mglru.MemcgGenerations],
    *,
    mglru_works: bool,
) -> Iterator[MemcgView]:
    parents = {path.rpartition("/")[0] or "/" for path in inodes}
    swaps = _swaps(layout)
    for path, inode in inodes.items():
        directory = layout.memcg_dir(path)
        try:
            stall = _stall(directory)
            promoted = _promoted(directory) if swaps else None
            if mglru_works:
                row = found.get(path)
                nodes = () if row is None else tuple(map(_node, row.nodes))
                memcg_id = 0 if row is None else row.memcg_id
                yield MemcgView(
                    path, inode, memcg_id, stall.memory_us, stall.io_us, nodes, 0, promoted
                )
            elif path not in parents:
                current = memcg.read_current(directory)
                yield MemcgView(path, inode, 0, stall.memory_us, stall.io_us, (), current, promoted)
        except Vanished:
            continue
        except KernelioError:
            yield MemcgView(path, inode, 0, 0, 0)


def _stall(directory: str) -> psi.Stall:
    """Its totals; where they are not shown (cgroup.pressure=0) it counts as one without stall."""
    try:
        return psi.read_cgroup_stall(directory)
    except Unsupported:
        return psi.Stall(0, 0)


def _swaps(layout: Layout) -> bool:
    try:
        return bool(swap.read_swaps(layout))
    except KernelioError:
        return False


def _promoted(directory: str) -> int | None:
    """What came back from swap since it was made; None where the controller is not there."""
    try:
        return memcg.read_memory_stat(directory).promoted_pages
    except Unsupported:
        return None


def _node(row: mglru.NodeGenerations) -> NodeView:
    return NodeView(
        row.node,
        tuple(
            Generation(g.seq, g.age_ms * 1000, g.anon_pages, g.file_pages) for g in row.generations
        ),
    )
