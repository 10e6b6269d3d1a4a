"""One reading of every memcg: who lives, how old its pages are, what it stalled."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kernelio import cgroup, memcg, mglru, psi
from kernelio.errors import KernelioError, Vanished
from kernelio.layout import Layout
from memreact.events import Generation, MemcgView, NodeView, Surveyed
from memreact.sources.pressure import read_sample

__all__ = ["survey"]


def survey(layout: Layout, own_path: str, *, mglru_works: bool) -> Surveyed:
    """Read all memcgs with one pass over lru_gen, or without it on the rung below.

    The directories are read before lru_gen: a memcg that still has the same inode when it is
    written to has lived through the reading, so its id is its own.
    """
    try:
        inodes = dict(cgroup.walk(layout))
        found = _by_path(mglru.read_lru_gen(layout.lru_gen), inodes) if mglru_works else {}
    except KernelioError as error:
        return Surveyed((), read_sample(layout, own_path), failed=str(error))
    views = tuple(_views(layout, inodes, found, mglru_works=mglru_works))
    return Surveyed(views, read_sample(layout, own_path))


def _by_path(
    rows: Iterable[mglru.MemcgGenerations], inodes: dict[str, int]
) -> dict[str, mglru.MemcgGenerations]:
    """The living memcg of each path: a dying one keeps its path in the list, and stands first."""
    living: dict[str, mglru.MemcgGenerations] = {}
    for row in rows:
        known = living.get(row.path)
        if row.memcg_id == 0 or row.path not in inodes:
            continue
        if known is None or known.memcg_id != inodes[row.path]:
            living[row.path] = row
    return living


def _views(
    layout: Layout,
    inodes: dict[str, int],
    found: dict[str, mglru.MemcgGenerations],
    *,
    mglru_works: bool,
) -> Iterator[MemcgView]:
    parents = {path.rpartition("/")[0] or "/" for path in inodes}
    for path, inode in inodes.items():
        directory = layout.memcg_dir(path)
        try:
            stall = _stall(directory)
            if mglru_works:
                row = found.get(path)
                nodes = () if row is None else tuple(map(_node, row.nodes))
                memcg_id = 0 if row is None else row.memcg_id
                yield MemcgView(path, inode, memcg_id, stall.memory_us, stall.io_us, nodes)
            elif path not in parents:
                current = memcg.read_current(directory)
                yield MemcgView(path, inode, 0, stall.memory_us, stall.io_us, (), current)
        except Vanished:
            continue
        except KernelioError:
            yield MemcgView(path, inode, 0, 0, 0)


def _stall(directory: str) -> psi.Stall:
    try:
        return psi.read_cgroup_stall(directory)
    except Vanished:
        raise
    except KernelioError:
        return psi.Stall(0, 0)


def _node(row: mglru.NodeGenerations) -> NodeView:
    return NodeView(
        row.node,
        tuple(
            Generation(g.seq, g.age_ms * 1000, g.anon_pages, g.file_pages) for g in row.generations
        ),
    )
