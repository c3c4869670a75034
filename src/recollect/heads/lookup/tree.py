"""A tree of clusters over the keys of a table: a few dozen comparisons instead of all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.heads.lookup.costs import Costs
from recollect.heads.lookup.search import Found, check_costs, check_queries
from recollect.heads.lookup.words import Words, coder_of
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
    """

    centers: NDArray[Any]
    node_start: Codes
    child: Codes
    leaf_start: Codes
    leaf_rows: Codes

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

    Args:
        keys: ``(rows, key width)``, all rows of the table.
        parts: First row of each part, and the end.
        trees: One tree per part.
        costs: What differences cost.
        beam: Ways down that are kept at every level.
        compiled: Whether the compiled search may be used; NumPy finds the same rows.
    """

    def __init__(
        self, keys: NDArray[Any], parts: Codes, trees: list[Tree], costs: Costs, *, beam: int = 1,
        compiled: bool = True,
    ) -> None:  # fmt: skip
        if beam < 1:
            raise InvalidParameter("beam is out of range", expected="beam >= 1", got=beam)
        self.width = keys.shape[1]
        check_costs(costs, self.width)
        # More ways than centers are all of them.
        self.beam = min(beam, max(len(tree.centers) for tree in trees))
        self.trees = trees
        self.costs, self.coder = costs, coder_of(costs, keys)
        self._parts = parts
        self._keys = [
            self.coder.write(keys[parts[p] : parts[p + 1]][tree.leaf_rows])
            for p, tree in enumerate(trees)
        ]
        # Medians of a tree that came from elsewhere may be halves, which are no codes.
        self._middle = coder_of(costs, trees[0].centers)
        self._centers = [self._middle.write(tree.centers) for tree in trees]
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
            keys=self._keys[part], centers=self._centers[part], beam=self.beam, **links,
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
        leaves, compared = self._descend(toward, part)
        tree = self.trees[part]
        places = np.concatenate(
            [np.arange(tree.leaf_start[leaf], tree.leaf_start[leaf + 1]) for leaf in leaves]
        )
        distances = self.coder.between(self._keys[part][places], query)
        rows = tree.leaf_rows[places]
        order = np.lexsort((rows, distances))[:k]
        short = (0, k - len(order))
        return (
            np.pad(rows[order], short, constant_values=-1),
            np.pad(distances[order], short, constant_values=-1),
            compared + len(places),
        )

    def _descend(self, query: NDArray[Any], part: int) -> tuple[list[int], int]:
        """Return the leaf centers of the ways that are kept, and how many were compared."""
        tree = self.trees[part]
        ways: list[tuple[int, int]] = [(0, -1)]  # distance and center; the root has none above it
        compared = 0
        while True:
            nodes = [0 if center < 0 else int(tree.child[center]) for _, center in ways]
            if max(nodes) < 0:
                return [center for _, center in ways], compared
            # Leaves that were reached compete with what lies below the others.
            following = [way for way, node in zip(ways, nodes, strict=True) if node < 0]
            for node in nodes:
                if node >= 0:
                    following.extend(self._below(query, part, node))
                    compared += int(tree.node_start[node + 1] - tree.node_start[node])
            ways = sorted(following, key=lambda way: way[0])[: self.beam]

    def _below(self, query: NDArray[Any], part: int, node: int) -> list[tuple[int, int]]:
        """Return distance and number of each center of a node."""
        tree = self.trees[part]
        begin, end = int(tree.node_start[node]), int(tree.node_start[node + 1])
        apart = self._middle.between(self._centers[part][begin:end], query)
        return list(zip(apart.tolist(), range(begin, end), strict=True))
