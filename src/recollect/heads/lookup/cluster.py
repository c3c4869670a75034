"""How the tree of clusters grows: k medians under the table's own distance, all nodes at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recollect.errors import InvalidParameter
from recollect.heads.lookup.costs import Costs
from recollect.heads.lookup.table import Table
from recollect.heads.lookup.tree import Tree
from recollect.heads.lookup.words import Coder, Words, coder_of
from recollect.types import Codes, Mask


@dataclass(frozen=True, slots=True)
class Growth:
    """How a tree is grown; published: K = leaf = 4, 10 starts, 100 iterations, means of clusters.

    Attributes:
        centers: ``"rows"``: the center of a cluster is the row nearest to its median, so that a
            comparison with it is one with a row, and is not made again below. ``"medians"``.
        branches: Clusters of a node, ``K``.
        leaf: A cluster of at most this many rows is not split.
        starts: Random starts of each clustering, of which the best is kept.
        iterations: At most this many rounds of assignment; stops earlier when nothing moves.
        seed: Of the random starts.
    """

    branches: int = 6
    leaf: int = 6
    starts: int = 2
    iterations: int = 20
    seed: int = 0
    centers: Literal["rows", "medians"] = "rows"

    def __post_init__(self) -> None:
        if self.centers not in {"rows", "medians"}:
            raise InvalidParameter(
                "centers is not known", expected="'rows' or 'medians'", got=f"{self.centers!r:.80}"
            )
        for name, least in (("branches", 2), ("leaf", 1), ("starts", 1), ("iterations", 1)):
            if getattr(self, name) < least:
                raise InvalidParameter(
                    f"{name} is out of range",
                    expected=f"{name} >= {least}",
                    got=getattr(self, name),
                )


def grow_trees(table: Table, costs: Costs, growth: Growth | None = None) -> list[Tree]:
    """Grow one tree per part of the table, over keys only.

    Args:
        table: Its rows.
        costs: The distance; only proportions of the columns matter.
        growth: How.
    """
    options = growth or Growth()
    return [
        grow(table.keys[table.part(part)], costs, options) for part in range(len(table.parts) - 1)
    ]


def grow(keys: NDArray[Any], costs: Costs, growth: Growth) -> Tree:
    """Grow the tree of some keys, level by level, all nodes of a level at the same time."""
    random = np.random.default_rng(growth.seed)
    coder = coder_of(costs, keys)
    words = coder.write(keys)
    rows = np.arange(len(keys))
    node = np.zeros(len(keys), np.int64)  # the node of each row that is still to be split
    above: Codes | None = None  # the row that is the center of each node
    centers, pivots, starts, children, leaves = [], [], [0], [], []
    made, nodes = 0, 1
    while len(rows):
        split = _split(_Level(words[rows], node, coder, above), growth, random)
        # Empty clusters are dropped: centers are numbered as they occur, node by node.
        used, label = np.unique(node * growth.branches + split.labels, return_inverse=True)
        sizes = np.bincount(label)
        owner, branch = used // growth.branches, used % growth.branches
        centers.append(split.centers[owner, branch])
        starts.extend((made + np.cumsum(np.bincount(owner))).tolist())
        open_ = sizes > growth.leaf
        below = np.where(open_, nodes + np.cumsum(open_) - 1, -1)
        children.append(below)
        closed = ~open_[label]
        leaves.append((made + label[closed], rows[closed]))
        made, nodes = made + len(used), nodes + int(open_.sum())
        going = open_[label]
        first = nodes - int(open_.sum())
        if split.pivots is not None:
            pivots.append(rows[split.pivots[owner, branch]])
            above = np.searchsorted(rows[going], pivots[-1][open_])
        rows, node = rows[going], below[label[going]] - first
    owner = np.concatenate([center for center, _ in leaves])
    held = np.concatenate([row for _, row in leaves])
    order = np.lexsort((held, owner))
    return Tree(
        _codes(coder, np.concatenate(centers), keys),
        np.array(starts, np.int64),
        np.concatenate(children),
        np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=made))]),
        held[order],
        np.concatenate(pivots) if pivots else None,
    )


@dataclass(frozen=True, slots=True)
class _Level:
    """Rows that are still to be split, with the node of each.

    Attributes:
        keys: ``(rows, width)``, as they are compared.
        node: int64 ``(rows,)``.
        coder: Compares them.
        above: int64 ``(nodes,)``: the place, among these rows, of the row that is the center of
            each node; None at the root, and where centers are medians.
    """

    keys: NDArray[Any]
    node: Codes
    coder: Coder
    above: Codes | None

    @property
    def nodes(self) -> int:
        """Count the nodes that hold these rows."""
        return int(self.node.max(initial=-1)) + 1


@dataclass(slots=True)
class _Split:
    """Clusters of every node.

    Attributes:
        labels: int64 ``(rows,)``: cluster of each row within its node.
        centers: ``(nodes, branches, width)``.
        pivots: int64 ``(nodes, branches)``: place of the row that is the center, or None.
    """

    labels: Codes
    centers: NDArray[Any]
    pivots: Codes | None

    def take(self, nodes: Mask, node: Codes, other: _Split) -> None:
        """Take over some nodes from another split."""
        rows = nodes[node]
        self.labels[rows] = other.labels[rows]
        self.centers[nodes] = other.centers[nodes]
        if self.pivots is not None and other.pivots is not None:
            self.pivots[nodes] = other.pivots[nodes]


def _split(level: _Level, growth: Growth, random: np.random.Generator) -> _Split:
    """Cluster the rows of every node, several times, and keep the best of each node."""
    best, least = _clusters(level, growth, random)
    for _ in range(growth.starts - 1):
        other, error = _clusters(level, growth, random)
        best.take(error < least, level.node, other)
        least = np.minimum(error, least)
    return _split_the_unsplit(level, growth, best)


def _clusters(level: _Level, growth: Growth, random: np.random.Generator) -> tuple[_Split, Codes]:
    """Cluster the rows of every node once; return the sum of distances of each node too."""
    rows = growth.centers == "rows"
    pivots = _spread(level, growth.branches, random)
    split = _Split(np.full(len(level.keys), -1), level.keys[pivots], pivots if rows else None)
    apart: NDArray[Any] = np.zeros(0)
    for _ in range(growth.iterations):
        nearest, apart = _assign(level, split.centers)
        if np.array_equal(nearest, split.labels):
            break
        split.labels = nearest
        _move(level, split)
    error = np.bincount(level.node, weights=apart, minlength=level.nodes).astype(np.int64)
    return split, error


def _move(level: _Level, split: _Split) -> None:
    """Move every center to the middle of its cluster; an empty cluster keeps its center."""
    cluster = level.node * split.centers.shape[1] + split.labels
    split.centers = _middle(level.keys, cluster, split.centers)
    if split.pivots is None:
        return
    flat = split.centers.reshape(-1, level.keys.shape[1])
    apart = level.coder.between(level.keys, flat[cluster])
    order = np.lexsort((apart, cluster))
    first = order[np.flatnonzero(np.diff(cluster[order], prepend=-1))]
    split.pivots.reshape(-1)[cluster[first]] = first
    if level.above is not None:
        # The center above stays one: whoever comes down knows how far it is.
        split.pivots.reshape(-1)[cluster[level.above]] = level.above
    split.centers = level.keys[split.pivots]


def _spread(level: _Level, branches: int, random: np.random.Generator) -> Codes:
    """Choose starting centers among the rows of each node, likelier the farther from others."""
    chosen = np.zeros((level.nodes, branches), np.int64)
    apart: NDArray[Any] = np.ones(len(level.keys))
    for branch in range(branches):
        if branch or level.above is None:
            # The largest of log(u) / w is a draw in proportion to w, in every node at once.
            drawn = np.log(random.random(len(level.keys))) / np.maximum(apart, 1e-9)
            order = np.lexsort((drawn, level.node))
            last = np.flatnonzero(np.diff(level.node[order], append=level.nodes))
            chosen[:, branch] = order[last]
        else:
            chosen[:, branch] = level.above
        new = level.coder.between(level.keys, level.keys[chosen[level.node, branch]])
        apart = new if branch == 0 else np.minimum(apart, new)
    return chosen


def _assign(level: _Level, centers: NDArray[Any]) -> tuple[Codes, Codes]:
    columns = [
        level.coder.between(level.keys, centers[level.node, branch])
        for branch in range(centers.shape[1])
    ]
    apart = np.stack(columns, axis=1)
    labels = apart.argmin(axis=1)
    return labels, np.take_along_axis(apart, labels[:, None], axis=1)[:, 0]


def _middle(keys: NDArray[Any], cluster: Codes, centers: NDArray[Any]) -> NDArray[Any]:
    """Lower median of each cluster in every number; an empty one keeps its center."""
    order = np.argsort(cluster, kind="stable")
    begin = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    size = np.diff(begin, append=len(order))
    middle = _lower_median if keys.dtype.kind == "f" else _majority
    out = centers.copy()
    out.reshape(-1, keys.shape[1])[cluster[order[begin]]] = middle(keys[order], begin, size)
    return out


def _majority(keys: NDArray[np.uint64], begin: Codes, size: Codes) -> NDArray[np.uint64]:
    """Return the words whose bits most keys of a span have: in unary, that is the lower median."""
    often = np.empty((len(begin), 64 * keys.shape[1]), np.int32)
    for word in range(keys.shape[1]):
        raw = np.ascontiguousarray(keys[:, word]).astype("<u8").view(np.uint8).reshape(-1, 8)
        bits = np.unpackbits(raw, axis=1, bitorder="little")
        often[:, 64 * word : 64 * word + 64] = np.add.reduceat(bits, begin, axis=0, dtype=np.int32)
    packed = np.packbits(2 * often > size[:, None], axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64)


def _lower_median(keys: NDArray[np.float64], begin: Codes, size: Codes) -> NDArray[np.float64]:
    owner = np.repeat(np.arange(len(begin)), size)
    places = begin + (size - 1) // 2
    columns = [keys[np.lexsort((column, owner)), number] for number, column in enumerate(keys.T)]
    medians: NDArray[np.float64] = np.stack(columns, axis=1)[places]
    return medians


def _codes(coder: Coder, centers: NDArray[Any], keys: NDArray[Any]) -> NDArray[Any]:
    """Return centers as keys are written."""
    if not isinstance(coder, Words):
        return centers.astype(keys.dtype)
    raw = np.ascontiguousarray(centers).astype("<u8").view(np.uint8)
    bits = np.unpackbits(raw, axis=1, bitorder="little").astype(np.bool_)
    return coder.read(bits, keys.shape[1]).astype(keys.dtype)


def _split_the_unsplit(level: _Level, growth: Growth, split: _Split) -> _Split:
    """Deal out the rows of a node whose clusters all fell together, so that every split helps."""
    seen = np.zeros((level.nodes, growth.branches), np.bool_)
    seen[level.node, split.labels] = True
    stuck = seen.sum(axis=1) == 1
    if not stuck.any():
        return split
    order = np.flatnonzero(stuck[level.node])
    order = order[np.argsort(level.node[order], kind="stable")]
    begin = np.flatnonzero(np.diff(level.node[order], prepend=-1))
    size = np.diff(begin, append=len(order))
    rank = np.arange(len(order)) - np.repeat(begin, size)
    split.labels = split.labels.copy()
    split.labels[order] = rank * growth.branches // np.repeat(size, size)
    _move(level, split)
    return split
