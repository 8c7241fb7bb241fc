"""Pipeline -> Graph: order, ancestors, descendants, what lies between. Edges are data, `needs` and gates."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Mapping
from graphlib import TopologicalSorter
from typing import Protocol


class HasBefore(Protocol):
    """A step, as far as the graph goes."""

    @property
    def before(self) -> frozenset[str]: ...


def graph_of(steps: Mapping[str, HasBefore], assumed: Container[str] = ()) -> Graph:
    """Return the graph of some steps. A condition whose outcome is assumed depends on nothing: it is not evaluated."""
    return Graph({name: () if name in assumed else step.before for name, step in steps.items()})


class Graph:
    """A directed acyclic graph of step names; `order` is topological, ties as in the file."""

    def __init__(self, before: Mapping[str, Iterable[str]]) -> None:
        self.before: dict[str, tuple[str, ...]] = {}
        self.after: dict[str, list[str]] = {name: [] for name in before}
        place = {name: index for index, name in enumerate(before)}
        for name, priors in before.items():
            self.before[name] = tuple(sorted(priors, key=place.__getitem__))
            for prior in self.before[name]:
                self.after[prior].append(name)
        # What is written in order is its own order: of what is ready the first in the file is always the next.
        written = all(place[prior] < index for index, priors in enumerate(self.before.values()) for prior in priors)
        self.order = list(self.before) if written else self._sort(place)
        self.place = {name: index for index, name in enumerate(self.order)}

    def _sort(self, place: Mapping[str, int]) -> list[str]:
        sorter = TopologicalSorter(self.before)
        sorter.prepare()
        ready = [(place[name], name) for name in sorter.get_ready()]
        heapq.heapify(ready)
        order = []
        while ready:
            _, name = heapq.heappop(ready)
            order.append(name)
            sorter.done(name)
            for found in sorter.get_ready():
                heapq.heappush(ready, (place[found], found))
        return order

    def sorted(self, names: Iterable[str]) -> list[str]:
        """Return `names` in topological order."""
        return sorted(names, key=self.place.__getitem__)

    def _reach(self, names: Iterable[str], edges: Mapping[str, Iterable[str]], depth: int | None) -> set[str]:
        found: set[str] = set()
        layer = list(names)
        while layer and depth != 0:
            layer = [n for n in dict.fromkeys(e for name in layer for e in edges[name]) if n not in found]
            found.update(layer)
            depth = None if depth is None else depth - 1
        return found

    def ancestors(self, names: Iterable[str], depth: int | None = None) -> set[str]:
        """Return the strict ancestors of `names`, to `depth` edges away."""
        return self._reach(names, self.before, depth)

    def descendants(self, names: Iterable[str], depth: int | None = None) -> set[str]:
        """Return the strict descendants of `names`, to `depth` edges away."""
        return self._reach(names, self.after, depth)

    def between(self, names: Iterable[str]) -> set[str]:
        """Return the steps outside `names` that lie on a path from one of them to another."""
        chosen = set(names)
        if len(chosen) == len(self.before):
            return set()
        return (self.descendants(chosen) & self.ancestors(chosen)) - chosen

    def witness(self, names: Iterable[str]) -> list[str]:
        """Return a shortest path that leaves `names` and comes back, or [] if there is none."""
        chosen = set(names)
        came: dict[str, str] = {}
        layer = self.sorted(chosen)
        while layer:
            following = []
            for name in layer:
                for target in self.after[name]:
                    if target in chosen and name not in chosen:
                        path = [target, name]
                        while path[-1] not in chosen:
                            path.append(came[path[-1]])
                        return path[::-1]
                    if target not in chosen and target not in came:
                        came[target] = name
                        following.append(target)
            layer = following
        return []

    def pieces(self, names: Iterable[str]) -> list[list[str]]:
        """Return the weakly connected pieces of `names`, each and all in topological order."""
        left = set(names)
        found = []
        for start in self.sorted(left):
            if start not in left:
                continue
            piece, todo = {start}, [start]
            left.discard(start)
            while todo:
                name = todo.pop()
                for near in (*self.before[name], *self.after[name]):
                    if near in left:
                        left.discard(near)
                        piece.add(near)
                        todo.append(near)
            found.append(self.sorted(piece))
        return found
