"""A tree of clusters over the keys of a table: a few dozen comparisons instead of all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.heads.lookup.costs import Costs
from recollect.heads.lookup.search import Found, check_costs, check_queries
from recollect.types import Codes

# Numbers compared at once while descending.
_BLOCK = 1 << 24


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
    """

    def __init__(
        self, keys: NDArray[Any], parts: Codes, trees: list[Tree], costs: Costs, *, beam: int = 1
    ) -> None:
        if beam < 1:
            raise InvalidParameter("beam is out of range", expected="beam >= 1", got=beam)
        check_costs(costs, keys.shape[1])
        self.costs, self.beam, self.trees = costs, beam, trees
        self._parts = parts
        self._keys = [_signed(keys[parts[p] : parts[p + 1]]) for p in range(len(trees))]
        self._centers = [_signed(tree.centers) for tree in trees]

    def nearest(self, queries: NDArray[Any], step: int, k: int = 1) -> Found:
        """Return the k nearest rows that are found; see :class:`recollect...search.Search`."""
        width = self._keys[0].shape[1]
        check_queries(queries, width)
        part = step if len(self.trees) > 1 else 0
        widest = int(np.diff(self.trees[part].node_start).max(initial=1))
        size = max(1, _BLOCK // (width * self.beam * max(widest, 8)))
        blocks = [
            self._some(_signed(queries[at : at + size]), part, k)
            for at in range(0, len(queries), size)
        ]
        return Found(*(np.concatenate([b[field] for b in blocks]) for field in range(3)))

    def _some(self, queries: NDArray[Any], part: int, k: int) -> tuple[Codes, Codes, Codes]:
        tree = self.trees[part]
        leaves, compared = self._descend(queries, part)
        begins, ends = tree.leaf_start[leaves], tree.leaf_start[np.maximum(leaves, 0) + 1]
        ends = np.where(leaves >= 0, ends, begins)
        places, real = _spans(begins, ends)
        rows = tree.leaf_rows[places]
        distances = self._between(queries, self._keys[part], rows, real)
        compared += real.sum(axis=1)
        if self.beam == 1:
            order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        else:
            order = np.lexsort((rows, distances), axis=1)[:, :k]
        near = np.take_along_axis(distances, order, axis=1)
        missing = ~np.take_along_axis(real, order, axis=1)
        chosen = np.take_along_axis(rows, order, axis=1) + self._parts[part]
        short = ((0, 0), (0, k - order.shape[1]))
        return (
            np.pad(np.where(missing, -1, chosen), short, constant_values=-1),
            np.pad(np.where(missing, -1, near), short, constant_values=-1),
            compared,
        )

    def _descend(self, queries: NDArray[Any], part: int) -> tuple[Codes, Codes]:
        """Return the leaf centers to scan ``(queries, beam)``, -1 where fewer, and the count."""
        tree, centers = self.trees[part], self._centers[part]
        n = len(queries)
        held = np.full((n, 1), -1, np.int64)  # centers kept; the root has none above it
        apart = np.zeros((n, 1), np.int64)
        nodes = np.zeros((n, 1), np.int64)  # the node below each, -1 for a leaf
        compared = np.zeros(n, np.int64)
        while (nodes >= 0).any():
            opened = np.where(nodes >= 0, nodes, 0)
            begins = tree.node_start[opened]
            ends = np.where(nodes >= 0, tree.node_start[opened + 1], begins)
            below, real = _spans(begins, ends)
            distances = self._between(queries, centers, below, real)
            compared += real.sum(axis=1)
            # Leaves that were reached compete with what lies below the others.
            keep = (nodes < 0) & (held >= 0)
            below = np.concatenate([np.where(keep, held, -1), np.where(real, below, -1)], axis=1)
            far = np.iinfo(np.int64).max
            distances = np.concatenate([np.where(keep, apart, far), distances], axis=1)
            order = np.argsort(distances, axis=1, kind="stable")[:, : self.beam]
            held = np.take_along_axis(below, order, axis=1)
            apart = np.take_along_axis(distances, order, axis=1)
            nodes = np.where(held >= 0, tree.child[held], -1)
        return held, compared

    def _between(
        self, queries: NDArray[Any], keys: NDArray[Any], places: Codes, real: NDArray[np.bool_]
    ) -> Codes:
        """Distances of each query to keys of its own; the largest number where there is none."""
        apart = np.abs(keys[places] - queries[:, None])
        if apart.dtype.kind == "f":
            distances = (apart @ self.costs.columns.astype(np.float64)).astype(np.int64)
        else:
            distances = apart.astype(np.float32) @ self.costs.columns.astype(np.float32)
            distances = distances.astype(np.int64)
        return np.where(real, distances, np.iinfo(np.int64).max)


def _spans(begins: Codes, ends: Codes) -> tuple[Codes, NDArray[np.bool_]]:
    """Lay spans of each query side by side: places ``(queries, most)``, and which are real."""
    sizes = (ends - begins).reshape(len(begins), -1)
    total = sizes.sum(axis=1)
    most = int(total.max(initial=0))
    places = np.zeros((len(begins), most), np.int64)
    real = np.arange(most) < total[:, None]
    flat = np.repeat(begins.reshape(-1), sizes.reshape(-1))
    offset = np.cumsum(sizes.reshape(-1)) - sizes.reshape(-1)
    places[real] = flat + np.arange(len(flat)) - np.repeat(offset, sizes.reshape(-1))
    return places, real


def _signed(codes: NDArray[Any]) -> NDArray[Any]:
    """Codes that can be subtracted; halves, as medians may be, stay halves."""
    return codes.astype(np.int16) if codes.dtype.kind in "iu" else codes
