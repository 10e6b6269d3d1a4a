"""Cgroups as a tree, sorted, folded and filtered; what is seen of it alone becomes rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from memreact_schemas.status import CgroupStatus, NodeStatus
from memreact_tools.top.cells import safe
from memreact_tools.top.model import GuestModel

__all__ = ["AGES", "SORTS", "Node", "Place", "View", "forest_of", "places_of", "use_of"]

AGES = 4
"""Classes of age: the youngest generation, then untouched for up to half of what makes memory cold
by the settings, for less than all of it, and for that long."""

_FOLD_ABOVE = 60  # cgroups: with more of them only the upper two levels are open at first
_OPEN_DEPTH = 1


@dataclass(slots=True)
class Node:
    """One cgroup with all below it.

    Args:
        path: As the guest says it.
        name: The last part, fit for a terminal.
        own: What is known of it; None where the guest does not follow it.
        ages: Bytes of anonymous memory by class of age, then of page cache.
        cold_bytes: Cold by the settings.
        evicted_bytes: Evicted so far.
        members: How many cgroups there are, with itself.
    """

    path: str
    name: str
    own: CgroupStatus | None = None
    children: list[Node] = field(default_factory=list)
    ages: list[int] = field(default_factory=lambda: [0] * (2 * AGES))
    cold_bytes: int = 0
    evicted_bytes: int = 0
    members: int = 1

    @property
    def known_bytes(self) -> int:
        """In its generations and those below it."""
        return sum(self.ages)


def forest_of(cgroups: Mapping[str, CgroupStatus]) -> Node | None:
    """Build the tree; a parent that is not told is put in without figures."""
    if not cgroups:
        return None
    root = Node("/", "/")
    nodes = {"/": root}
    for path in sorted(cgroups):
        node = _node(path, nodes)
        node.own = cgroups[path]
    _sum_up(root)
    return root


def _node(path: str, nodes: dict[str, Node]) -> Node:
    """The node of a path, with those above it."""
    missing = []
    while path not in nodes:
        missing.append(path)
        path = path.rpartition("/")[0] or "/"
    node = nodes[path]
    for each in reversed(missing):
        child = nodes[each] = Node(each, safe(each.rpartition("/")[2]))
        node.children.append(child)
        node = child
    return node


def _sum_up(root: Node) -> None:
    """Add what is below, without recursion: a tree may be deep."""
    order = [root]
    for node in order:
        order += node.children
    for node in reversed(order):
        if node.own is not None:
            _add_own(node, node.own)
        for child in node.children:
            node.ages = [mine + its for mine, its in zip(node.ages, child.ages, strict=True)]
            node.cold_bytes += child.cold_bytes
            node.evicted_bytes += child.evicted_bytes
            node.members += child.members


def _add_own(node: Node, own: CgroupStatus) -> None:
    node.cold_bytes = own.cold_bytes
    node.evicted_bytes = own.counters.evicted_bytes
    for on_node in own.nodes:
        for age, anon, file in _classes(on_node):
            node.ages[age] += anon
            node.ages[AGES + age] += file


def _classes(on_node: NodeStatus) -> Iterator[tuple[int, int, int]]:
    """Class, anon and file of each generation: untouched since the one after it was made."""
    cold_us = max(on_node.period_us * on_node.aging_count_min, 1)
    generations = on_node.generations
    for at, each in enumerate(generations):
        younger = generations[at + 1] if at + 1 < len(generations) else None
        age = _age_class(younger.age_us if younger else None, cold_us)
        yield age, each.anon_bytes, each.file_bytes


def _age_class(untouched_us: int | None, cold_us: int) -> int:
    if untouched_us is None:
        return 0
    if untouched_us >= cold_us:
        return 3
    return 2 if 2 * untouched_us >= cold_us else 1


@dataclass(slots=True)
class View:
    """How the tree is looked at.

    Args:
        sort: A key of SORTS.
        reverse: The other way round.
        filter: Only paths with this in it, and those above them; case does not matter.
        hide_empty: Leave out what uses next to nothing.
        every_decision: Show in the log what was left alone, too.
        turned: What is not folded as it would be by itself, as (guest, path).
    """

    sort: str = "use"
    reverse: bool = False
    filter: str = ""
    hide_empty: bool = False
    every_decision: bool = False
    turned: set[tuple[str, str]] = field(default_factory=set)


class Place(NamedTuple):
    """A line of the tree.

    Args:
        guest: Of which guest.
        node: The cgroup; None for the guest itself, where there are several.
        depth: How far it is indented.
        folds: "open", "closed", or "" where nothing is below it.
    """

    guest: str
    node: Node | None
    depth: int
    folds: str

    @property
    def key(self) -> tuple[str, str]:
        """What stays the same when it moves."""
        return self.guest, "" if self.node is None else self.node.path


def use_of(model: GuestModel, node: Node) -> int:
    """Bytes in use, as the kernel says, or else those in its generations."""
    use = model.uses.get(node.path)
    current = use.limits.current_bytes if use is not None else None
    return node.known_bytes if current is None else current


SORTS: dict[str, Callable[[GuestModel, Node], int]] = {
    "use": use_of,
    "cold": lambda _, node: node.cold_bytes,
    "cold%": lambda _, node: 1000 * node.cold_bytes // max(node.known_bytes, 1),
    "evicted": lambda _, node: node.evicted_bytes,
    "stall": lambda model, node: model.stalls_ppm.get(node.path, 0),
    "swap": lambda model, node: (
        model.uses[node.path].limits.swap_bytes if node.path in model.uses else 0
    ),
    "name": lambda _model, _node: 0,
}
"""What the tree may be sorted by: the largest first, and the names in their order."""


def places_of(
    models: Mapping[str, GuestModel], forests: Mapping[str, Node | None], view: View
) -> list[Place]:
    """Every line that is not folded away or filtered out, in order."""
    many = len(models) > 1
    places: list[Place] = []
    for name, model in models.items():
        root = forests.get(name)
        if many:
            closed = not _is_turned(view, name, "") and not view.filter
            folds = "" if root is None else "closed" if closed else "open"
            places.append(Place(name, None, 0, folds))
            if closed:
                continue
        if root is not None:
            places += _Walk(model, view, root).places(root, int(many))
    return places


def _is_turned(view: View, guest: str, path: str) -> bool:
    return (guest, path) in view.turned


class _Walk:
    """Goes through one guest's tree."""

    def __init__(self, model: GuestModel, view: View, root: Node) -> None:
        self._model = model
        self._view = view
        self._kept = _matching(root, view.filter.casefold()) if view.filter else None
        self._open_depth = _OPEN_DEPTH if root.members > _FOLD_ABOVE else 1 << 30
        self._value = SORTS[view.sort]

    def places(self, root: Node, depth: int) -> Iterator[Place]:
        stack = [(root, 0)]
        while stack:
            node, below = stack.pop()
            children = self._children(node)
            closed = bool(children) and self._closed(node, below)
            folds = "" if not children else "closed" if closed else "open"
            yield Place(self._model.name, node, depth + below, folds)
            if not closed:
                stack += [(child, below + 1) for child in reversed(children)]

    def _closed(self, node: Node, depth: int) -> bool:
        if self._kept is not None:
            return False
        turned = _is_turned(self._view, self._model.name, node.path)
        return turned != (depth > self._open_depth)

    def _children(self, node: Node) -> list[Node]:
        kept, view = self._kept, self._view
        children = [
            child
            for child in node.children
            if (kept is None or child.path in kept)
            and not (view.hide_empty and use_of(self._model, child) == 0)
        ]
        children.sort(key=lambda each: each.name, reverse=view.reverse and view.sort == "name")
        if view.sort != "name":
            value, model = self._value, self._model
            children.sort(key=lambda each: value(model, each), reverse=not view.reverse)
        return children


def _matching(root: Node, text: str) -> set[str]:
    """Paths of what matches, and of all above it."""
    kept: set[str] = set()
    order = [root]
    for node in order:
        order += node.children
        if text in node.path.casefold() or text in safe(node.path).casefold():
            path = node.path
            while path not in kept:
                kept.add(path)
                path = path.rpartition("/")[0] or "/"
    return kept
