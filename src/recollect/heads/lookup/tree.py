"""A tree of clusters over the keys of a table: a few dozen comparisons instead of all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.heads.lookup.costs import Costs
from recollect.heads.lookup.search import Found, check_costs, check_queries
from recollect.heads.lookup.words import Coder, Words, coder_of
from recollect.index.tables import Packed, Part, find_tables, point
from recollect.types import Codes

# Arrays of a tree beside its centers.
LINKS = ("node_start", "child", "leaf_start", "leaf_rows")


@dataclass(frozen=True, slots=True)
class Tree:
    """Centers, node by node; node 0 is the root.

    Attributes:
        centers: ``(centers, key width)``.
        node_start: int64 ``(nodes + 1,)``: node i owns centers ``node_start[i]:node_start[i + 1]``.
        child: int64 ``(centers,)``: the node below a center, or -1 for a leaf.
        leaf_start: int64 ``(centers + 1,)``: rows of leaf c are
            ``leaf_rows[leaf_start[c]:leaf_start[c + 1]]``.
        leaf_rows: int64 ``(rows,)``: rows of the table, counted from the start of its part.
        pivots: int64 ``(centers,)``: the row, counted in the same way, whose key a center is; None
            where centers are medians. A row is the center of at most one cluster of each level,
            and of one cluster below each whose center it is, down to the leaf that holds it.
    """

    centers: NDArray[Any]
    node_start: Codes
    child: Codes
    leaf_start: Codes
    leaf_rows: Codes
    pivots: Codes | None = None

    @property
    def depth(self) -> int:
        """Nodes on the longest way down."""
        level, nodes = 0, np.zeros(1, np.int64)
        while len(nodes):
            level += 1
            spans = [np.arange(self.node_start[n], self.node_start[n + 1]) for n in nodes]
            below = self.child[np.concatenate(spans)]
            nodes = below[below >= 0]
        return level


class TreeSearch:
    """Goes down to the nearest centers and scans their leaves; an exact key may be missed.

    Where centers are rows, every comparison is one with a row, and every row compared is found.
    There, ways are kept by their distance less half the mean distance of the rows below from the
    center: the rows of a wide cluster may lie nearer than its center does.

    Args:
        keys: ``(rows, key width)``, all rows of the table.
        parts: First row of each part, and the end.
        trees: One tree per part.
        costs: What differences cost.
        beam: Ways down that are kept at every level.
        slack: Ways that count as farther than so many hundredths of what the nearest way counts
            are given up; None keeps all.
        compiled: Whether the compiled search may be used; NumPy finds the same rows.

    Attributes:
        reach: int64 ``(centers,)`` for each part: by how much nearer a way counts than it is.
    """

    def __init__(
        self, keys: NDArray[Any], parts: Codes, trees: list[Tree], costs: Costs, *, beam: int = 1,
        slack: int | None = None, compiled: bool = True,
    ) -> None:  # fmt: skip
        if beam < 1:
            raise InvalidParameter("beam is out of range", expected="beam >= 1", got=beam)
        self.width = keys.shape[1]
        check_costs(costs, self.width)
        # More ways than centers are all of them.
        self.beam = min(beam, max(len(tree.centers) for tree in trees))
        self.trees, self.slack = trees, slack or 0
        self.costs, self.coder = costs, coder_of(costs, keys)
        self._parts = parts
        self._keys = [
            self.coder.write(keys[parts[p] : parts[p + 1]][tree.leaf_rows])
            for p, tree in enumerate(trees)
        ]
        # Medians of a tree that came from elsewhere may be halves, which are no codes.
        self._middle = coder_of(costs, trees[0].centers)
        self._centers = [self._middle.write(tree.centers) for tree in trees]
        self.reach = [
            reach_of(tree, self.coder, keys, self._centers[p])
            for p, (tree, keys) in enumerate(zip(trees, self._keys, strict=True))
        ]
        bits = isinstance(self.coder, Words) and isinstance(self._middle, Words)
        self._library = find_tables() if compiled and bits else None
        self.packed = [self._pack(part) for part in range(len(trees))]

    def _pack(self, part: int) -> Packed:
        if not isinstance(self.coder, Words) or self._library is None:
            return Packed(Part(), ())
        tree = self.trees[part]
        links = {name: getattr(tree, name) for name in LINKS}
        return point(
            Part, words=len(self.coder), rows=len(tree.leaf_rows), prices=self.coder.prices,
            keys=self._keys[part], centers=self._centers[part], beam=self.beam,
            slack=self.slack, pivots=tree.pivots, reach=self.reach[part], **links,
        )  # fmt: skip

    def nearest(self, queries: NDArray[Any], step: int, k: int = 1) -> Found:
        """Return the k nearest rows that are found; see :class:`recollect...search.Search`."""
        check_queries(queries, self.width)
        part = step if len(self.trees) > 1 else 0
        asked, few = self.coder.write(queries), min(k, len(self._keys[part]))
        if self._library is not None:
            rows, distances, compared = self._library.nearest(self.packed[part], asked, few)
        else:
            toward = self._middle.write(queries)
            found = [self._one(*query, part, few) for query in zip(asked, toward, strict=True)]
            rows, distances, compared = (np.array(field) for field in zip(*found, strict=True))
        short = ((0, 0), (0, k - few))
        return Found(
            np.pad(np.where(rows >= 0, rows + self._parts[part], -1), short, constant_values=-1),
            np.pad(distances, short, constant_values=-1),
            compared,
        )

    def _one(
        self, query: NDArray[Any], toward: NDArray[Any], part: int, k: int
    ) -> tuple[Codes, Codes, int]:
        """Find the rows of one query in NumPy; ``toward`` is compared with centers."""
        leaves, met = self._descend(toward, part)
        tree = self.trees[part]
        places = np.concatenate(
            [np.arange(tree.leaf_start[leaf], tree.leaf_start[leaf + 1]) for leaf in leaves]
        )
        if tree.pivots is not None:  # the center of a leaf is one of its rows, and known already
            own = np.repeat(tree.pivots[leaves], np.diff(tree.leaf_start)[leaves])
            places = places[tree.leaf_rows[places] != own]
        distances = self.coder.between(self._keys[part][places], query)
        rows, compared = tree.leaf_rows[places], len(met) + len(places)
        if tree.pivots is not None:
            rows = np.concatenate([rows, tree.pivots[[center for _, center in met]]])
            distances = np.concatenate([distances, [apart for apart, _ in met]])
        order = np.lexsort((rows, distances))[:k]
        short = (0, k - len(order))
        return (
            np.pad(rows[order], short, constant_values=-1),
            np.pad(distances[order], short, constant_values=-1),
            compared,
        )

    def _descend(self, query: NDArray[Any], part: int) -> tuple[list[int], list[tuple[int, int]]]:
        """Return the leaf centers of the ways that are kept, and what was compared on the way."""
        tree, reach = self.trees[part], self.reach[part]
        ways: list[tuple[int, int]] = [(0, -1)]  # distance and center; the root has none above it
        met: list[tuple[int, int]] = []
        while True:
            nodes = [0 if center < 0 else int(tree.child[center]) for _, center in ways]
            if max(nodes) < 0:
                return [center for _, center in ways], met
            # Leaves that were reached compete with what lies below the others.
            following = [way for way, node in zip(ways, nodes, strict=True) if node < 0]
            for way, node in zip(ways, nodes, strict=True):
                if node >= 0:
                    below, new = self._below(query, part, node, way)
                    following.extend(below)
                    met.extend(new)
            ways = sorted(following, key=lambda way: way[0] - reach[way[1]])[: self.beam]
            if self.slack:
                # Nearer than at the center of a cluster that reaches as far is nearest there is.
                counts = [max(0, apart - int(reach[center])) for apart, center in ways]
                limit = self.slack * counts[0]
                ways = [ways[0], *(w for w, c in zip(ways[1:], counts[1:], strict=True)
                                   if 100 * c <= limit)]  # fmt: skip

    def _below(
        self, query: NDArray[Any], part: int, node: int, above: tuple[int, int]
    ) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return distance and number of each center of a node, and those that were compared."""
        tree = self.trees[part]
        begin, end = int(tree.node_start[node]), int(tree.node_start[node + 1])
        apart = self._middle.between(self._centers[part][begin:end], query)
        every = list(zip(apart.tolist(), range(begin, end), strict=True))
        if tree.pivots is None or above[1] < 0:
            return every, every
        # The center above is one of these: how far it is, is known.
        same = int(tree.pivots[above[1]])
        return every, [way for way in every if tree.pivots[way[1]] != same]


def reach_of(tree: Tree, coder: Coder, keys: NDArray[Any], centers: NDArray[Any]) -> Codes:
    """Return half the mean distance of the rows below each center from it, in whole units.

    Args:
        tree: The tree.
        coder: Compares keys.
        keys: Rows in the order of the leaves, as they are compared.
        centers: Centers, as they are compared.

    Returns:
        int64 ``(centers,)``; zeros where centers are no rows.
    """
    total, count = (np.zeros(len(centers), np.int64) for _ in range(2))
    if tree.pivots is None:
        return total
    owner = np.repeat(np.arange(len(tree.node_start) - 1), np.diff(tree.node_start))
    above = np.full(len(tree.node_start) - 1, -1, np.int64)
    inner = np.flatnonzero(tree.child >= 0)
    above[tree.child[inner]] = inner
    at = np.repeat(np.arange(len(centers)), np.diff(tree.leaf_start))
    while len(at):
        np.add.at(total, at, coder.between(keys, centers[at]))
        count += np.bincount(at, minlength=len(centers))
        at = above[owner[at]]
        keys, at = keys[at >= 0], at[at >= 0]
    # The center is one of the rows below, at distance 0.
    return np.asarray(total // (2 * np.maximum(count - 1, 1)))
